"""The toy benchmark, registered for a test at a time."""

import pytest
from toy_bench import Grey, toy, write_toy

from brodmann.bench.methods import METHODS
from brodmann.bench.tasks import benchmarks
from brodmann.datasets.registry import DATASETS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of benchmarks that holds `toy`, whose kind and method are known."""
    monkeypatch.setitem(DATASETS._loaded, "toy", toy)
    monkeypatch.setitem(METHODS._loaded, "grey", Grey)
    return write_toy(tmp_path / "mine")


@pytest.fixture
def bench(folder):
    """The toy benchmark."""
    return benchmarks(folder)["toy"]
