"""Benchmark folders: those of the package, and what is refused of others."""

from __future__ import annotations

import pytest
import yaml
from toy_bench import write_toy

from brodmann.bench.records import TASK_ID
from brodmann.bench.tasks import benchmarks, find_task, read_benchmark
from brodmann.core import RecipeError

pytest_plugins = ("toy_bench",)

KNOWN = benchmarks()
TASKS = [(one, task) for one in KNOWN.values() for task in one.tasks]
MTNEURO = KNOWN["mtneuro"]


@pytest.mark.parametrize(("bench", "task"), TASKS, ids=lambda one: getattr(one, "id", ""))
def test_every_task_of_the_package_proves_its_splits(bench, task):
    assert TASK_ID.match(task.id) and len(task.seeds) >= 3
    for split in task.splits:
        split.prove(bench.data.cubes)
        if task.version == "v2":
            assert split.guard_px >= 10 and not split.in_sample
            # One plane has no slices to keep apart.
            assert split.guard_slices >= 10 or bench.name == "slice309"
    assert bool(task.faults) == (bench.name == "mtneuro" and task.version == "v1")


def test_version_1_has_the_sizes_of_the_release():
    def sizes(name, version="v1"):
        split = MTNEURO.task(name, version).splits[0]
        return {part: sum(box.slices for box in split.boxes(part)) for part in split.parts}

    c1 = {"train": 4 * 269, "validation": 4 * 29, "test": 4 * 50}
    assert sizes("roi-c1") == sizes("micro-3class-2d") == c1
    assert sizes("micro-4class-2d") == {part: n * 3 // 4 for part, n in c1.items()}
    # The paper counts 2880 images to test, and 1440 of cubes B to train besides those of A.
    assert sizes("roi-c2") == c1 | {"test": 2880}
    assert sizes("roi-c3") == {"train": 1076 + 1440, "validation": 116, "test": 2880}
    assert sizes("attributes-c1") == {"train": 1440, "test": 1440}
    c2, c3 = (MTNEURO.task(name, "v2").splits[0].parts["test"] for name in ("roi-c2", "roi-c3"))
    assert c2 == c3


def test_version_1_of_c2_and_c3_could_not_promise_a_gap():
    for name in ("roi-c2", "roi-c3"):
        split = MTNEURO.task(name, "v1").splits[0].model_copy(update={"guard_px": 1})
        with pytest.raises(Exception, match="nearer than the guard"):
            split.prove(MTNEURO.data.cubes)


def test_published_rows_are_those_of_the_paper():
    rows = {task.id: MTNEURO.published_rows(task) for task in MTNEURO.tasks}
    assert rows["mtneuro/roi-c1@v1"]["MYOW-m"] == {"accuracy": (0.94, 0.02)}
    assert rows["mtneuro/roi-c3@v1"]["PCA"] == {"accuracy": (0.07, None)}
    assert rows["mtneuro/roi-c1-1x@v1"]["BYOL"] == {"accuracy": (0.98, 0.01)}
    assert rows["mtneuro/micro-4class-2d@v1"]["2D U-Net"]["iou:axon"] == (0.60, None)
    assert rows["mtneuro/micro-3class-3d@v1"]["HighResNet"]["iou"] == (0.77, 0.026)
    assert rows["mtneuro/attributes-c3@v1"]["Sup w/ Mixup"]["r2:cell_distance"] == (0.37, 0.05)
    for id_, methods in rows.items():
        assert bool(methods) == id_.endswith("@v1"), id_
        assert len(methods) in (0, 3, 6, 7)
        for scores in methods.values():
            for metric in {key.partition(":")[0] for key in scores}:
                of_class = [m for key, (m, _) in scores.items() if key.startswith(f"{metric}:")]
                if metric in scores and of_class:
                    # Both are rounded to two figures.
                    assert abs(sum(of_class) / len(of_class) - scores[metric][0]) < 0.0101


def test_published_f1_and_iou_cannot_come_from_one_table():
    """Fault 8: of one table IoU is F1 / (2 - F1), and its mean over images is no lower."""
    scores = MTNEURO.published_rows(MTNEURO.task("micro-4class-2d", "v1"))["2D U-Net"]
    f1 = scores["f1:axon"][0]
    assert scores["iou:axon"][0] < f1 / (2 - f1) - 0.25


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_benchmark_has_a_page_and_its_changes(name):
    page = KNOWN[name].page
    for word in (KNOWN[name].data.licence, "## Splits", "## Faults" if name == "mtneuro" else "#"):
        assert word in page
    changes = (KNOWN[name].folder / "CHANGES.md").read_text(encoding="utf-8")
    assert all(f"{task.version}" in changes for task in KNOWN[name].tasks)


def test_a_folder_of_ones_own(folder):
    known = benchmarks(folder)
    assert [task.id for task in known["toy"].tasks] == [
        "toy/measures@v1", "toy/micro@v1", "toy/roi@v1", "toy/roi@v2", "toy/sides@v1",
    ]  # fmt: skip
    assert benchmarks(folder / "toy").keys() == known.keys()
    bench, task = find_task("toy/micro", folder)
    assert bench.name == "toy" and task.version == "v1"
    assert [box.cube for box in task.splits[0].boxes("train")] == ["ctx-A", "str-A", "vp-A", "zi-A"]
    v1 = find_task("toy/roi@v1", folder)[1]
    assert v1.data == {"kind": "toy", "task": "roi", "broken_from": 20}
    with pytest.raises(RecipeError, match=r"name the version.*toy/roi@v1 or toy/roi@v2"):
        find_task("toy/roi", folder)
    with pytest.raises(RecipeError, match="did you mean 'toy/micro@v1'"):
        find_task("toy/mikro@v1", folder)


def rewritten(root, file, change):
    path = write_toy(root) / "toy" / file
    tree = yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}
    change(tree)
    path.write_text(yaml.safe_dump(tree), "utf-8")
    return root / "toy"


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("task-roi.yaml", lambda t: t.update(metrix=1), r"task-roi.yaml.*unknown key|did you mean 'metrics'"),
        ("task-roi.yaml", lambda t: t.pop("versions"), "needs versions"),
        ("task-roi.yaml", lambda t: t["versions"]["v2"].update(splits=["slice"]), "did you mean 'slices'"),
        ("task-roi.yaml", lambda t: t["versions"]["v2"].update(splits="slices"), "list of names"),
        ("task-roi.yaml", lambda t: t.update(counts={}), "filled in for you"),
        ("task-roi.yaml", lambda t: t.update(data=[1]), "keys and values"),
        ("task-roi.yaml", lambda t: t.update(truth="cube"), "region of every cube"),
        ("task-roi.yaml", lambda t: t.update(name="micro"), "two files make one task|micro"),
        ("task-measures.yaml", lambda t: t["versions"]["v1"].update(encoder="toy/x@v1"), "no such encoder"),
        ("benchmark.yaml", lambda t: t.update(name="toys"), "called as it is"),
        ("benchmark.yaml", lambda t: t["data"].pop("licence"), r"key is missing.*licence"),
        ("benchmark.yaml", lambda t: t["splits"]["slices"].update(gap=1), "unknown key"),
        ("counts.yaml", lambda t: t.update({"toy/rio@v2": {}}), "counts of no task.*toy/roi@v2"),
        ("published.yaml", lambda t: t.update(T={"toy/roi@v2": {"X": {"accuracy": [1]}}}), "version 1 only"),
        ("published.yaml", lambda t: t.update(T={"toy/roi@v1": {"X": {"iou": [1]}}}), "no score of this task"),
        ("published.yaml", lambda t: t.update(T={"toy/roi@v1": {"X": {"accuracy": [1, 2, 3]}}}), "deviation"),
        ("published.yaml", lambda t: t.update(T={"toy/rio@v1": {}}), "no task"),
    ],
)  # fmt: skip
def test_a_wrong_folder_is_refused_in_one_line(tmp_path, file, change, told):
    with pytest.raises(RecipeError, match=told) as caught:
        read_benchmark(rewritten(tmp_path, file, change))
    assert "\n" not in str(caught.value)


def test_yaml_is_bounded_and_never_executed(tmp_path):
    file = write_toy(tmp_path) / "toy" / "benchmark.yaml"
    file.write_text("!!python/object/apply:os.getcwd []", "utf-8")
    with pytest.raises(RecipeError, match="cannot read"):
        read_benchmark(file.parent)
    file.write_text("a: " + "x" * (1 << 20), "utf-8")
    with pytest.raises(RecipeError, match="too large"):
        read_benchmark(file.parent)
    with pytest.raises(RecipeError, match="no benchmark here"):
        benchmarks(tmp_path / "nowhere")


def test_two_of_one_name_are_refused(tmp_path):
    folder = write_toy(tmp_path) / "toy"
    (folder / "task-measures.yaml").unlink()
    text = (folder / "benchmark.yaml").read_text("utf-8")
    (folder / "benchmark.yaml").write_text(text.replace("name: toy\ntitle", "name: phantom\ntitle"))
    with pytest.raises(RecipeError, match="two benchmarks have one name"):
        benchmarks(folder.rename(tmp_path / "phantom"))
