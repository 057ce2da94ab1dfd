import json

import pytest

from brodmann.core import OutputError
from brodmann.pipeline.stages import Stages, content_key, file_hash


def test_a_stage_is_done_once_for_each_key(tmp_path):
    calls = []

    def work(folder):
        calls.append(folder)
        (folder / f"{len(calls)}.txt").write_text("x")
        return {"n": len(calls)}

    stages = Stages(tmp_path)
    first = stages.run("a", {"x": 1}, work)
    assert stages.run("a", {"x": 1}, work) == first and len(calls) == 1
    other, key = stages.run("a", {"x": 2}, work)
    assert other == {"n": 2} and key != first[1]
    assert [p.name for p in (tmp_path / "a").glob("*.txt")] == ["2.txt"], "old work is cleared"


def test_stopped_work_is_gone_on_with_and_other_work_is_not(tmp_path):
    def stop(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("stopped")

    stages = Stages(tmp_path)
    with pytest.raises(RuntimeError):
        stages.run("a", {"x": 1}, stop)
    outcome, _ = stages.run("a", {"x": 1}, lambda folder: {"found": (folder / "half").exists()})
    assert outcome == {"found": True}
    with pytest.raises(RuntimeError):
        stages.run("a", {"x": 2}, stop)
    outcome, _ = stages.run("a", {"x": 3}, lambda folder: {"found": (folder / "half").exists()})
    assert outcome == {"found": False}


def test_a_damaged_mark_is_no_mark(tmp_path):
    stages = Stages(tmp_path)
    stages.run("a", {}, lambda folder: {"n": 1})
    (tmp_path / "a" / "stage.json").write_text('{"key": ')
    assert stages.run("a", {}, lambda folder: {"n": 2})[0] == {"n": 2}
    assert json.loads((tmp_path / "a" / "stage.json").read_text())["outcome"] == {"n": 2}


def test_keys_know_content_and_not_order(tmp_path):
    assert content_key({"a": 1, "b": [2]}) == content_key({"b": [2], "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})
    (tmp_path / "x").write_bytes(b"1")
    one = file_hash(tmp_path)
    (tmp_path / "x").rename(tmp_path / "y")
    assert file_hash(tmp_path) != one
    (tmp_path / "y").write_bytes(b"2")
    two = file_hash(tmp_path)
    (tmp_path / "y").write_bytes(b"1")
    assert file_hash(tmp_path) != two


def test_a_run_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(OutputError):
        Stages(tmp_path / "f")
