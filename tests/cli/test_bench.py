"""`brodmann bench` as a person and as a machine calls it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from brodmann.bench.methods import METHODS
from brodmann.cli import bench, main
from brodmann.cli.app import app
from brodmann.datasets.registry import DATASETS

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from toy_bench import Grey, toy, write_toy

sys.path.pop(0)
if not any(one.name == "bench" for one in app.registered_groups):
    app.add_typer(bench.app, name="bench")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Options that name a folder with the toy benchmark."""
    monkeypatch.setitem(DATASETS._loaded, "toy", toy)
    monkeypatch.setitem(METHODS._loaded, "grey", Grey)
    monkeypatch.setenv("COLUMNS", "160")
    return ("--benchmarks", str(write_toy(tmp_path / "mine")))


def call(capsys, *words):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as leaving:
        patch.setattr(sys, "argv", ["brodmann", "bench", *map(str, words)])
        main()
    said = capsys.readouterr()
    return leaving.value.code or 0, said.out, said.err


def test_list_names_every_task_and_tells_all_about_one(capsys, mine):
    code, out, _ = call(capsys, "list", *mine)
    assert code == 0 and "mtneuro/roi-c1@v2" in out and "toy/micro@v1" in out
    code, out, _ = call(capsys, "list", "mtneuro", "--json")
    (found,) = json.loads(out)
    assert found["licence"] == "CC-BY-4.0" and len(found["tasks"]) == 22
    code, out, _ = call(capsys, "list", "mtneuro/roi-c1@v1")
    assert "test: 200 (CTX 80, STR 40, VP 40, ZI 40)" in out and "z 109 to 459" in out
    told = json.loads(call(capsys, "list", "mtneuro/roi-c1@v1", "--json")[1])
    assert told["published"]["BYOL"] == {"accuracy": [0.88, 0.02]}
    code, _, err = call(capsys, "list", "mtneuro/roi-c1")
    assert code == 2 and "name the version" in err and err.count("\n") == 1


def test_check_prints_the_reason_and_the_figure(capsys, mine):
    code, out, _ = call(capsys, "check", "mtneuro/roi-c1")
    assert code == 0
    assert "mtneuro/roi-c1@v1: the oracle reaches 0.85 of 1." in out
    assert "Region labels exist for z 109 to 459 only." in out
    (v1, v2) = json.loads(call(capsys, "check", "mtneuro/roi-c1", "--json")[1])["checks"]
    assert (v1["state"], v1["oracle"]) == ("capped", 0.85)
    assert (v2["state"], v2["oracle"], v2["main"]["constant"]) == ("ok", 1.0, 0.25)


def test_a_broken_task_fails_the_check(capsys, mine):
    folder = Path(mine[1]) / "toy"
    code, out, _ = call(capsys, "check", "toy", "--write-counts", *mine)
    assert code == 0 and str(folder / "counts.yaml") in out.replace("\n", "")
    assert call(capsys, "check", "toy", *mine)[0] == 0
    counts = folder / "counts.yaml"
    counts.write_text(counts.read_text("utf-8").replace("VP: 10", "VP: 11"), "utf-8")
    code, out, _ = call(capsys, "check", "toy", *mine)
    assert code == 1 and "broken" in out and "differ from the task's committed counts" in out
    counts.unlink()
    task = folder / "task-roi.yaml"
    text = task.read_text("utf-8")
    task.write_text(text.replace("faults: [Slices from 20 on are called CTX.]", "faults: []"))
    code, out, _ = call(capsys, "check", "toy/roi@v1", *mine)
    assert code == 1 and "the truth of this task is broken" in out


def test_run_and_table(capsys, mine, tmp_path):
    out = tmp_path / "results"
    code, said, err = call(
        capsys, "run", "toy/roi@v1", "grey", "--out", out, "--all-seeds", "--set", "noise=1", *mine
    )
    assert code == 0 and "predict" in err
    assert said.count("toy/roi@v1  grey, seed") == 3
    assert str(out / "toy__roi__v1__grey__seed2.json") in said
    for method in ("constant", "oracle"):
        found = json.loads(
            call(capsys, "run", "toy/roi@v1", method, "--out", out, "--json", *mine)[1]
        )
        assert [one["seed"] for one in found] == [0]
    code, said, _ = call(capsys, "table", out, *mine)
    lines = said.splitlines()
    assert lines[0] == "Toy regions (toy/roi@v1)"
    assert [line.split()[0] for line in lines[2:5]] == ["grey", "oracle", "constant"]
    assert "0.250" in lines[4] and "recall" not in said
    assert "recall:ZI" in call(capsys, "table", out, "--classes", *mine)[1]
    page = tmp_path / "table.md"
    code, said, _ = call(capsys, "table", out, "--format", "csv", "--out", page, *mine)
    assert code == 0 and said.startswith("task,method,kind,seeds,")
    assert "| grey | method | 3 |" in page.read_text("utf-8")
    (board,) = json.loads(call(capsys, "table", out, "--json", *mine)[1])
    assert board["rows"][0]["seeds"] == [0, 1, 2]


def test_versions_are_tables_of_their_own(capsys, mine, tmp_path):
    for version in ("v1", "v2"):
        call(capsys, "run", f"toy/roi@{version}", "constant", "--out", tmp_path, *mine)
    found = json.loads(call(capsys, "table", tmp_path, "--json", *mine)[1])
    assert [one["task"] for one in found] == ["toy/roi@v1", "toy/roi@v2"]
    found = json.loads(call(capsys, "table", tmp_path, "--task", "toy/roi@v2", "--json", *mine)[1])
    assert [one["task"] for one in found] == ["toy/roi@v2"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "toy/rio@v1", "grey"), "did you mean 'toy/roi@v1'"),
        (("run", "toy/roi@v1", "gray"), "did you mean 'grey'"),
        (("run", "toy/roi@v1", "grey", "--set", "nois=1"), "did you mean 'noise'"),
        (("run", "toy/roi@v1", "grey", "--set", "noise"), "a.b=value"),
        (("run", "toy/roi@v1", "grey", "--seed", "1", "--all-seeds"), "not both"),
        (("run", "toy/roi@v1", "grey", "--name", "../x"), "method"),
        (("run", "toy/roi@v1", "grey", "--data", "/no/such/folder"), "no such folder"),
        (("check", "toi"), "no such task"),
        (("table", "/no/such/file.json"), "cannot read"),
        (("table", ".", "--format", "xml"), "unknown format"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(capsys, mine, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *words, *mine)
    last = err.strip().splitlines()[-1]
    assert code == 2 and not out and told in last and last.startswith("brodmann: ")
    assert not list(tmp_path.rglob("*.json"))
