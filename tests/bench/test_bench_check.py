"""A task checks itself: splits, counts, floor and ceiling, without training."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from brodmann.bench.check import check_task, write_counts
from brodmann.bench.data import open_parts, parts_by_rule, smallest_gap, survey
from brodmann.bench.records import Split
from brodmann.bench.tasks import benchmarks, find_task, read_benchmark
from brodmann.core import DataError

pytest_plugins = ("toy_bench",)

MTNEURO = benchmarks()["mtneuro"]
ROI = [task for task in MTNEURO.tasks if task.answer == "category"]


@pytest.mark.parametrize("name", ["roi-c1", "roi-c1-1x", "roi-c1-4x"])
def test_the_oracle_is_capped_at_085_and_the_reason_is_told(name):
    check = check_task(MTNEURO, MTNEURO.task(name, "v1"))
    assert check.oracle == 0.85 and check.state == "capped" and check.source == "rule"
    assert any("z 109 to 459 only" in reason for reason in check.reasons)
    # 50 slices a region, of which z 460 to 469 read as CTX.
    assert check.counts["c1-v1"]["test"] == {"CTX": 80, "STR": 40, "VP": 40, "ZI": 40}
    assert check.counts_agree and not check.problems
    assert check.main["constant"] == 0.4


def test_c2_and_c3_lose_ten_slices_of_each_cube():
    for name in ("roi-c2", "roi-c3"):
        check = check_task(MTNEURO, MTNEURO.task(name, "v1"))
        assert check.oracle == pytest.approx(2820 / 2880) and check.state == "capped"
    assert check.counts["c3-v1"]["train"]["ZI"] == 269 + 350


@pytest.mark.parametrize("task", [t for t in ROI if t.version == "v2"], ids=lambda t: t.id)
def test_version_2_is_whole_and_its_constant_knows_nothing(task):
    check = check_task(MTNEURO, task)
    assert check.state == "ok" and check.oracle == 1.0 and check.counts_agree
    assert check.main["constant"] == 1 / 4
    assert 0.1 < check.main["random"] < 0.4


def test_without_faults_a_ceiling_is_an_error():
    task = MTNEURO.task("roi-c1", "v1").model_copy(update={"faults": ()})
    check = check_task(MTNEURO, task)
    assert check.state == "broken"
    assert any("the oracle reaches 0.85 of 1" in problem for problem in check.problems)


def test_counts_that_differ_are_an_error():
    task = MTNEURO.task("roi-c1", "v2")
    counts = {"c1-v2": {"test": task.counts["c1-v2"]["test"] | {"ZI": 49}}}
    check = check_task(MTNEURO, task.model_copy(update={"counts": counts}))
    assert check.counts_agree is False and check.state == "broken"


def test_a_split_that_cannot_be_proved_is_an_error():
    task = MTNEURO.task("roi-c2", "v1")
    near = task.splits[0].model_copy(update={"guard_px": 10})
    check = check_task(MTNEURO, task.model_copy(update={"splits": (near,)}))
    assert check.state == "broken" and "nearer than the guard" in check.problems[0]


def test_what_needs_data_stays_open(tmp_path):
    check = check_task(MTNEURO, MTNEURO.task("micro-3class-3d", "v2"), {"root": tmp_path})
    assert check.state == "open" and check.source == "none" and check.missing
    check = check_task(MTNEURO, MTNEURO.task("attributes-c1", "v2"), {"root": tmp_path})
    assert check.state == "open" and check.counts_agree


def test_an_encoder_may_not_learn_beside_the_test():
    task = MTNEURO.task("attributes-c1", "v2").model_copy(update={"encoder": "mtneuro/roi-c3@v1"})
    check = check_task(MTNEURO, task)
    assert any("encoder" in problem for problem in check.problems)


def test_all_three_answers_from_data(bench):
    states = {task.id: check_task(bench, task) for task in bench.tasks}
    assert {one.source for one in states.values()} == {"data"}
    capped = states["toy/roi@v1"]
    assert capped.state == "capped" and capped.reasons == ("Slices from 20 on are called CTX.",)
    # Two of six slices of three regions: recall of CTX 1, but 6 of its 12 truths are others'.
    assert capped.scores["oracle"]["accuracy"] == pytest.approx(1 - 6 / 24)
    for id_ in ("toy/roi@v2", "toy/micro@v1", "toy/measures@v1", "toy/sides@v1"):
        assert states[id_].state == "ok" and states[id_].oracle == 1.0, id_
    assert states["toy/roi@v2"].main["constant"] == 0.25
    # Ignored pixels are not counted; 24 slices of 40 known pixels.
    test = states["toy/micro@v1"].counts["slices"]["test"]
    assert sum(test.values()) == 24 * 40 and test["vessel"] == 24 * 8
    background = test["background"]
    expected = background / (24 * 40) / 3
    assert states["toy/micro@v1"].main["constant"] == pytest.approx(expected)


def test_counts_are_written_and_then_compared(bench, folder):
    checks = [check_task(bench, task) for task in bench.tasks]
    file = write_counts(bench, checks)
    assert file == folder / "toy" / "counts.yaml"
    again = read_benchmark(folder / "toy")
    assert {task.id: task.counts for task in again.tasks} == {c.task: c.counts for c in checks}
    assert all(check_task(again, task).counts_agree for task in again.tasks)
    tree = yaml.safe_load(file.read_text("utf-8"))
    tree["toy/roi@v2"]["slices"]["train"]["VP"] += 1
    file.write_text(yaml.safe_dump(tree), "utf-8")
    wrong = read_benchmark(folder / "toy")
    check = check_task(wrong, wrong.task("roi", "v2"))
    assert check.counts_agree is False and "committed" in check.problems[0]


def test_the_rule_names_samples_as_the_data_do(bench):
    task = bench.task("roi", "v2")
    opened = open_parts(task, task.splits[0])
    cubes = {
        f"{r}-A": {"region": r.upper(), "y": (0, 1), "x": (0, 1)}
        for r in ("ctx", "str", "vp", "zi")
    }
    data = type(bench.data).model_validate(bench.data.model_dump() | {"cubes": cubes})
    ruled = parts_by_rule(task, task.splits[0], data, truth="cube")
    for part, one in opened.items():
        assert one.names == ruled[part].names and one.subjects == ruled[part].subjects
        assert [s.category for s in one] == [s.category for s in ruled[part]]


def test_the_hash_is_of_what_was_read(bench):
    task, options = bench.task("micro", "v1"), [{}, {}, {"shade": 1}]
    split = task.splits[0]
    looked = [survey(task, split, bench.data, open_parts(task, split, o)) for o in options]
    assert looked[0] == looked[1] or looked[0].digest == looked[1].digest
    assert looked[0].digest != looked[2].digest
    assert looked[0].counts == looked[2].counts


def test_patches_are_held_apart_by_their_places(bench):
    rng = np.random.default_rng(1)
    a, b = (
        np.concatenate(
            [p := rng.integers(0, 90, (n, 2)), p + rng.integers(3, 9, (n, 2))], 1
        ).astype(float)
        for n in (17, 23)
    )
    slow = min(
        max(max(p[0], q[0]) - min(p[2], q[2]), max(p[1], q[1]) - min(p[3], q[3]))
        for p in a
        for q in b
    )
    assert smallest_gap(a, b) == slow
    # Samples without a place cannot promise a gap in pixels.
    task = bench.task("sides", "v1")
    split = task.splits[0].model_copy(update={"guard_px": 4})
    with pytest.raises(DataError, match="needs the place"):
        survey(task, split, bench.data, open_parts(task, split))
    both = Split(name="s", parts={"train": ("left",), "test": ("left", "right")})
    with pytest.raises(DataError, match="share"):
        survey(task, both, bench.data, open_parts(task, both))


@pytest.mark.real
def test_slice_309_agrees_with_its_counts(real_data):
    if not (real_data / "xray" / "slice309_image.tif").is_file():
        pytest.skip("no slice 309")
    bench, task = find_task("slice309/regions-128px@v1")
    check = check_task(bench, task, {"root": real_data})
    assert check.state == "ok" and check.oracle == 1.0 and check.counts_agree
    assert check.main["constant"] == 0.25
    # Patches of two regions may touch; those of one region keep their promise, and no more.
    for change, told in (({"guard_px": 145}, "144 pixels"), ({"guard_within": "all"}, "0 pixels")):
        splits = tuple(s.model_copy(update=change) for s in task.splits)
        check = check_task(bench, task.model_copy(update={"splits": splits}), {"root": real_data})
        assert check.state == "broken" and told in check.problems[0]


def test_phantom_regions_agree_with_their_counts():
    bench, task = find_task("phantom/roi@v1")
    small = task.model_copy(update={"data": task.data | {"shape": [64, 16, 16]}})
    check = check_task(bench, small)
    assert check.state == "ok" and check.counts_agree and check.oracle == 1.0


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """MTNeuro's cubes from a made-up volume of its extent, 8 x 8 voxels wide."""
    pytest.importorskip("intern")
    sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
    try:
        import test_mtneuro as made
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("boss")
    volume = made.narrow(made.REAL)
    with made.serving(made.FakeBoss(made.channels(), made.REAL.extent)) as boss:
        made.fetch_cubes(volume, folder, host=boss.host, cubes=["ctx-A", "zi-A"])
    return folder, volume


@pytest.mark.parametrize(("version", "oracle"), [("v1", 14 / 24), ("v2", 1.0)])
def test_data_and_boxes_tell_the_same(fetched, monkeypatch, version, oracle):
    """Read from the region channel, z 460 and on is CTX; 10 of 12 slices of ZI are."""
    from brodmann.datasets import mtneuro as room

    folder, volume = fetched
    monkeypatch.setattr(room, "mtneuro_volume", lambda: volume)
    task = MTNEURO.task("roi-c1", version)
    parts = {
        part: tuple(
            box.model_copy(update={"z": (box.z[1] - 12, box.z[1])})
            for box in task.splits[0].boxes(part)
            if box.cube in ("ctx-A", "zi-A")
        )
        for part in task.splits[0].parts
    }
    split = task.splits[0].model_copy(update={"parts": parts})
    task = task.model_copy(update={"splits": (split,), "counts": {}})
    check = check_task(MTNEURO, task, {"root": folder})
    assert check.source == "data" and check.oracle == pytest.approx(oracle) and not check.problems
    assert check.state == ("capped" if version == "v1" else "ok")


@pytest.mark.parametrize(
    "task", [task for task in MTNEURO.tasks if task.version == "v2"], ids=lambda task: task.name
)
def test_the_oracle_reaches_the_maximum_on_every_corrected_task(fetched, monkeypatch, task):
    """On data read through the loader: categories, pixels in 2D and 3D, attributes."""
    from brodmann.datasets import mtneuro as room

    folder, volume = fetched
    monkeypatch.setattr(room, "mtneuro_volume", lambda: volume)
    here = ("ctx-A", "zi-A")
    split = task.splits[0]
    parts = {
        part: tuple(
            box.model_copy(update={"z": (box.z[1] - 16, box.z[1])})
            for box in split.boxes(part)
            if box.cube in here
        )
        for part in split.parts
    }
    if not all(parts.values()):
        # Other cubes test than train; what is read of a cube is the same.
        parts["test"] = tuple(box.model_copy(update={"z": (420, 436)}) for box in parts["train"])
    split = split.model_copy(update={"parts": parts})
    check = check_task(
        MTNEURO, task.model_copy(update={"splits": (split,), "counts": {}}), {"root": folder}
    )
    assert check.source == "data" and not check.problems
    assert check.oracle == pytest.approx(task.maximum)
