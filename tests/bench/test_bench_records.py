"""Records: frozen, picky, and splits that prove themselves."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from brodmann.bench.building import build
from brodmann.bench.records import Box, CubeRecord, DataRecord, Metric, Split, Task
from brodmann.bench.tasks import benchmarks
from brodmann.core import DataError, RecipeError

PLACES = {
    "a": CubeRecord(region="A", y=(0, 6), x=(0, 6)),
    "b": CubeRecord(region="B", y=(0, 6), x=(6, 12)),  # touches a
    "c": CubeRecord(region="C", y=(3, 9), x=(15, 21)),  # 3 pixels from b, 9 from a
}
TASK = {
    "benchmark": "toy",
    "name": "roi",
    "version": "v2",
    "title": "t",
    "answer": "category",
    "categories": ["CTX", "ZI"],
    "data": {"kind": "toy"},
    "splits": [
        {
            "name": "s",
            "parts": {"train": [{"cube": "a", "z": [0, 5]}], "test": [{"cube": "a", "z": [5, 9]}]},
        }
    ],
    "metrics": [{"name": "accuracy", "aggregation": "samples"}],
    "main": "accuracy",
}


def task(**changes):
    return build(Task, TASK | changes, "task.yaml")


def split(train, test, **more):
    return Split(name="s", parts={"train": tuple(train), "test": tuple(test)}, **more)


def voxels(box):
    """Every voxel of a box, the slow way."""
    place = PLACES[box.cube]
    return set(itertools.product(range(*box.z), range(*place.y), range(*place.x)))


def nearest(a, b):
    """Free voxels between two boxes along the axis that parts them most, counted one by one."""
    apart = []
    for axis in range(3):
        ranges = [sorted({v[axis] for v in voxels(box)}) for box in (a, b)]
        low, high = sorted(ranges, key=lambda r: (r[0], r[-1]))
        apart.append(high[0] - max(low[-1], -1) - 1)
    return apart


boxes = st.builds(
    lambda cube, first, size: Box(cube=cube, z=(first, first + size)),
    st.sampled_from(sorted(PLACES)),
    st.integers(0, 12),
    st.integers(1, 6),
)


@settings(max_examples=100, deadline=None)
@given(boxes, boxes, st.integers(0, 6), st.integers(0, 6))
def test_a_proof_holds_only_where_every_voxel_lies_far_enough(a, b, slices, pixels):
    one = split([a], [b], guard_slices=slices, guard_px=pixels)
    dz, dy, dx = nearest(a, b)
    # y and x part nothing within one cube.
    apart = dz >= slices or (a.cube != b.cube and max(dy, dx) >= pixels)
    if voxels(a) & voxels(b):
        apart = False
    if apart:
        one.prove(PLACES)
    else:
        with pytest.raises(DataError, match="parts"):
            one.prove(PLACES)


def test_touching_cubes_are_refused_by_a_guard_and_only_by_it():
    a, b = Box(cube="a", z=(0, 9)), Box(cube="b", z=(0, 9))
    split([a], [b]).prove(PLACES)
    with pytest.raises(DataError, match=r"nearer than the guard.*y -6, x 0 pixels"):
        split([a], [b], guard_px=1).prove(PLACES)
    # Slices beyond the guard part them too; without coordinates every cube stands alone.
    split([a], [Box(cube="b", z=(19, 22))], guard_px=5, guard_slices=10).prove(PLACES)
    split([a], [b], guard_px=9, guard_slices=9).prove()


def test_shared_voxels_and_boxes_within_a_part():
    a = Box(cube="a", z=(0, 9))
    with pytest.raises(DataError, match=r"share voxels.*train and test"):
        split([a], [Box(cube="a", z=(8, 12))]).prove()
    with pytest.raises(DataError, match="two boxes of a part overlap"):
        split([a, Box(cube="a", z=(8, 12))], [Box(cube="a", z=(20, 22))]).prove()
    with pytest.raises(DataError, match=r"no such cube.*did you mean 'a'"):
        split([a], [Box(cube="aa", z=(8, 12))]).prove({"a": PLACES["a"]})


def test_in_sample_is_said_and_needs_a_fault():
    a = Box(cube="a", z=(0, 9))
    split([a], [a], in_sample=True).prove()
    with pytest.raises(DataError, match="share voxels"):
        split([a], [a]).prove()
    with pytest.raises(DataError, match="in_sample"):
        split([a], [Box(cube="a", z=(0, 8))], in_sample=True).prove()
    same = {
        "name": "s",
        "in_sample": True,
        "parts": {key: [{"cube": "a", "z": [0, 5]}] for key in ("train", "test")},
    }
    with pytest.raises(RecipeError, match="a test on what trained is a fault"):
        task(splits=[same])
    assert task(splits=[same], faults=["told"]).splits[0].in_sample


def test_names_are_disjoint():
    Split(name="s", parts={"train": ("left",), "test": ("right",)}).prove()
    with pytest.raises(DataError, match="share what they name"):
        Split(name="s", parts={"train": ("left", "x"), "test": ("x",)}).prove()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"categorys": []}, r"unknown key \(task.yaml: categorys\).*did you mean 'categories'"),
        ({"main": "f1"}, "main is one of the metrics"),
        ({"metrics": [{"name": "r2", "aggregation": "samples", "absent": "skip"}]}, "r2 scores no category"),
        ({"metrics": [{"name": "accuracy", "aggregation": "pooled"}]}, "aggregated over 'samples'"),
        ({"metrics": [{"name": "accuracy", "aggregation": "samples", "absent": "one"}]}, "absent"),
        ({"metrics": [{"name": "accuracy", "agregation": "samples"}]}, "did you mean 'aggregation'"),
        ({"labels": ["x"]}, "goes with categories"),
        ({"categories": []}, "goes with categories"),
        ({"categories": ["a", "a"]}, "differ from one another"),
        ({"version": "2"}, "version"),
        ({"data": {}}, "data.kind"),
        ({"name": "Roi C1"}, "name"),
        ({"splits": []}, "splits"),
        ({"splits": [{"name": "s", "parts": {"train": [{"cube": "a", "z": [5, 5]}]}}]}, "at least one slice"),
        ({"splits": [{"name": "s", "parts": {"train": ["a"]}}]}, "needs the part 'test'"),
        ({"splits": [{"name": "s", "guard": 3, "parts": {"train": ["a"], "test": ["b"]}}]}, "did you mean 'guard_px'|did you mean 'guard_slices'|guard_within"),
        ({"truth": "cube", "splits": [{"name": "s", "parts": {"train": ["a"], "test": ["b"]}}]}, "from boxes only"),
        ({"encoder": "roi"}, "id of a task"),
    ],
)  # fmt: skip
def test_a_wrong_task_is_refused_in_one_line(change, told):
    with pytest.raises(RecipeError, match=told) as caught:
        task(**change)
    assert "\n" not in str(caught.value) and "task.yaml" in str(caught.value)


def test_records_are_frozen():
    one = task()
    with pytest.raises(ValidationError, match="frozen"):
        one.main = "f1"
    with pytest.raises(ValidationError, match="frozen"):
        one.splits[0].guard_px = 9
    assert one.id == "toy/roi@v2" and one.classes == ("CTX", "ZI")
    assert Metric(name="f1", aggregation="pooled", absent="zero").absent == "zero"


def test_data_records_fit_together():
    mtneuro = benchmarks()["mtneuro"].data.model_dump()
    with pytest.raises(RecipeError, match="reaches past the volume's edge"):
        build(DataRecord, mtneuro | {"shape": [720, 1420, 5567]}, "x")
    with pytest.raises(RecipeError, match="need 3 spacings"):
        build(DataRecord, mtneuro | {"spacing_um": [1.17, 1.17]}, "x")
