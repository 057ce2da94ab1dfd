# Each target sets up all that it needs on a machine with Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test test-slow check bench peer lock clean

help:
	@echo "make demo       install, run the demo, print the path of its report"
	@echo "make test       the whole suite but what is marked slow"
	@echo "make test-slow  what is marked slow"
	@echo "make check      ruff, mypy on core, import floors, tests"
	@echo "make bench      speed and memory beside named peers"
	@echo "make peer       an environment with cellfinder, for the benchmark 'detection'"
	@echo "make lock       write requirements.lock anew from this environment"

install: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/brodmann run demo --out runs/demo >&2
	@echo runs/demo/report/report.html

test: $(STAMP)
	$(BIN)/python -m pytest

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench: $(STAMP)
	$(BIN)/python -m benchmarks

peer:
	$(PYTHON) -m venv .venv-cellfinder
	.venv-cellfinder/bin/python -m pip install --quiet --disable-pip-version-check cellfinder==1.10.1

lock:
	(echo '# Every version that make installs; written by "make lock" on Python 3.11.'; $(BIN)/python -m pip freeze --exclude-editable --exclude pip) > requirements.lock

clean:
	rm -rf $(VENV) .venv-cellfinder runs build dist .pytest_cache .mypy_cache .ruff_cache
