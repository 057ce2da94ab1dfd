"""A method on a task: what it is shown, what is written, what is kept, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from toy_bench import Grey, toy

from brodmann.bench.baselines import Constant, Oracle, Random
from brodmann.bench.data import open_parts
from brodmann.bench.evaluate import check_result
from brodmann.bench.methods import METHODS
from brodmann.bench.results import read_result
from brodmann.bench.run import run_task
from brodmann.core import DataError, RecipeError
from brodmann.datasets.registry import DATASETS

pytest_plugins = ("toy_bench",)

QUIET = {"report": lambda what, done, total, note: None}


def test_a_run_writes_what_it_says(folder, bench, tmp_path):
    told = []
    result = run_task(
        "toy/sides@v1", "grey", {"noise": 0}, 7, tmp_path / "out", lambda *a: told.append(a), extra=folder
    )  # fmt: skip
    file = tmp_path / "out" / "toy__sides__v1__grey__seed7.json"
    assert read_result(file) == result and result.scores["balanced_accuracy"] == 1.0
    assert set(result.per_split) == {"named", "named-back"}
    assert result.configuration == {"method": "grey", "options": {"noise": 0}}
    assert result.raw["named"].clusters["ctx-right-z0001"] == "ctx-right"
    assert result.environment["python"] and result.peak_memory_mb > 0
    check_result(bench.task("sides", "v1"), result)
    kept = list((tmp_path / "out" / "work").rglob("kept.txt"))
    assert len(kept) == 2 and {"look through", "predict"} <= {what for what, *_ in told}


def test_a_method_is_shown_no_truth(folder, tmp_path, monkeypatch):
    made = []

    class Spy(Grey):
        def __init__(self):
            super().__init__()
            made.append(self)

        def fit(self, train, validation, *, seed, folder, report):
            assert seed == 5 and len(validation) == 8 and len(train) == 40
            assert {s.category for s in train} == {"CTX", "STR", "VP", "ZI"}
            super().fit(train, validation, seed=seed, folder=folder, report=report)

    monkeypatch.setitem(METHODS._loaded, "spy", Spy)
    run_task("toy/roi@v2", "spy", seed=5, folder=tmp_path, extra=folder)
    seen = made[-1].seen
    assert [s.name for s in seen] == [f"{i:06d}" for i in range(24)]
    for sample in seen:
        assert sample.category is sample.labels is sample.points is None
        assert not sample.attributes and not sample.meta and sample.subject == sample.name


def test_an_encoder_is_handed_its_own_data(folder, tmp_path, monkeypatch):
    class Mean:
        def fit(self, train, validation, *, seed, folder, report, encoder_data):
            assert len(encoder_data) == 40 and encoder_data[0].category == "CTX"
            self.answer = {"density": 0.5, "distance": 3.0}

        def predict(self, sample):
            return self.answer

    monkeypatch.setitem(METHODS._loaded, "mean", Mean)
    result = run_task("toy/measures@v1", "mean", folder=tmp_path, extra=folder)
    assert result.scores["r2"] < 0
    assert result.raw["slices"].values["ctx-A-z0020"] == ((2.0, None), (0.5, 3.0))


def test_what_is_done_is_kept(folder, tmp_path, monkeypatch):
    first = run_task("toy/roi@v2", "grey", folder=tmp_path, extra=folder)
    file = tmp_path / first.file_name
    written = file.stat().st_mtime_ns
    assert run_task("toy/roi@v2", "grey", folder=tmp_path, extra=folder) == first
    assert file.stat().st_mtime_ns == written
    again = run_task("toy/roi@v2", "grey", folder=tmp_path, extra=folder, again=True)
    assert file.stat().st_mtime_ns > written and again.scores == first.scores
    with pytest.raises(RecipeError, match=r"another configuration.*--name"):
        run_task("toy/roi@v2", "grey", {"noise": 9}, folder=tmp_path, extra=folder)
    run_task("toy/roi@v2", "grey", {"noise": 9}, folder=tmp_path, extra=folder, row="grey-9")
    assert (tmp_path / "toy__roi__v2__grey-9__seed0.json").is_file()
    # Other data, other hash: the kept result is not theirs.
    changed = run_task(
        "toy/roi@v2", "grey", folder=tmp_path, extra=folder, data_options={"shade": 3}
    )
    assert changed.data_hash != first.data_hash


def test_bad_input_is_refused_before_anything_is_made(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for method, options, told in (
        ("gray", {}, "did you mean 'grey'"),
        ("grey", {"nois": 1}, "did you mean 'noise'"),
        ("constant", {"a": 1}, "takes none"),
    ):
        with pytest.raises(RecipeError, match=told):
            run_task("toy/roi@v2", method, options, folder=out, extra=folder)
    monkeypatch.setitem(METHODS._loaded, "half", lambda: object())
    with pytest.raises(RecipeError, match=r"needs fit\(\)"):
        run_task("toy/roi@v2", "half", folder=out, extra=folder)
    with pytest.raises(RecipeError, match=r"takes no such option.*did you mean 'shade'"):
        run_task("toy/roi@v2", "grey", folder=out, extra=folder, data_options={"shad": 1})
    (folder / "toy" / "counts.yaml").write_text(
        "toy/roi@v2: {slices: {test: {CTX: 6, STR: 6, VP: 6, ZI: 7}}}", "utf-8"
    )
    with pytest.raises(DataError, match=r"committed counts.*slices.test"):
        run_task("toy/roi@v2", "grey", folder=out, extra=folder)
    with pytest.raises(RecipeError, match=r"needs more.*root"):
        run_task("slice309/regions-32px@v1", "constant", folder=out)
    assert not out.exists()


def test_a_folder_called_as_the_kind_comes_first(bench, tmp_path, monkeypatch):
    seen = []

    def rooted(root, parts=None, task="roi"):
        seen.append(root)
        return toy(parts, task)

    monkeypatch.setitem(DATASETS._loaded, "toy", rooted)
    task = bench.task("roi", "v2")
    open_parts(task, task.splits[0], {"root": tmp_path})
    (tmp_path / "toy").mkdir()
    open_parts(task, task.splits[0], {"root": tmp_path})
    assert seen == [tmp_path, tmp_path / "toy"]


def fitted(bench, name, method, seed=0):
    task = bench.task(name, "v1") if name != "roi" else bench.task(name, "v2")
    parts = open_parts(task, task.splits[0])
    method.fit(parts["train"], None, seed=seed, folder=None, **QUIET)
    return parts, method


def test_constant_answers(bench):
    parts, one = fitted(bench, "roi", Constant())
    assert one.predict(parts["test"][0]) == "CTX"
    parts, one = fitted(bench, "micro", Constant())
    answer = one.predict(parts["test"][0])
    assert answer.shape == (6, 8) and not answer.any()
    parts, one = fitted(bench, "measures", Constant())
    known = [z * 2.0 for z in range(10) if z % 5]
    assert one.answer == {"density": pytest.approx(0.45), "distance": pytest.approx(np.mean(known))}


def test_random_answers_as_often_as_training_has_them(bench):
    parts, one = fitted(bench, "micro", Random())
    samples = [parts["test"][0].with_(name=f"{i:06d}") for i in range(200)]
    found = np.bincount(np.concatenate([one.predict(s).ravel() for s in samples]), minlength=3)
    truth = np.array([0, 0, 0])
    for s in parts["train"]:
        truth += np.bincount(s.labels.numpy().ravel(), minlength=256)[:3]
    assert found / found.sum() == pytest.approx(truth / truth.sum(), abs=0.02)
    _, same = fitted(bench, "micro", Random())
    _, other = fitted(bench, "micro", Random(), seed=1)
    assert (same.predict(samples[0]) == one.predict(samples[0])).all()
    assert (other.predict(samples[0]) != one.predict(samples[0])).any()
    assert (one.predict(samples[1]) != one.predict(samples[0])).any()
    parts, one = fitted(bench, "measures", Random())
    drawn = one.predict(parts["test"][0].with_(name="000000"))
    assert drawn["density"] in [z / 10 for z in range(10)] and np.isfinite(drawn["distance"])


def test_an_oracle_that_sees_nothing_says_so(bench):
    parts, one = fitted(bench, "roi", Oracle())
    with pytest.raises(DataError, match="was not shown"):
        one.predict(parts["test"][0])
