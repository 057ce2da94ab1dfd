"""Slices of cubes: which there are, what they hold, and what is refused."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from skimage.measure import block_reduce

from brodmann.core import BrodmannError, DataError, RecipeError, Volume
from brodmann.datasets.cubes import (
    MICROSTRUCTURE,
    Box,
    Cube,
    as_parts,
    check_apart,
    cube_dataset,
    microstructure_classes,
)

SPACING = (1.17, 1.17, 1.17)


def cube(name: str, region: str, z: tuple[int, int], side: int = 8, code: int = 1) -> Cube:
    """Each voxel tells where it is from: 1000 x code + z."""
    shape = (z[1] - z[0], side, side)
    image = np.broadcast_to(np.arange(*z)[:, None, None] + 1000 * code, shape).astype(np.uint16)
    rng = np.random.default_rng(code)
    return Cube(
        name,
        region,
        Volume(image.copy(), "zyx", SPACING),
        Volume(np.full(shape, code, np.uint8), "zyx", SPACING),
        Volume(rng.integers(0, 4, shape).astype(np.uint8), "zyx", SPACING),
        (z[0], 4, 5),
    )


def pair(z: tuple[int, int] = (100, 130)) -> dict:
    return {
        "ctx-A": partial(cube, "ctx-A", "CTX", z, 8, 1),
        "str-A": partial(cube, "str-A", "STR", z, 8, 2),
    }


PARTS = {
    "train": [Box("ctx-A", (100, 119)), Box("str-A", (100, 119))],
    "test": [Box("ctx-A", (125, 130)), Box("str-A", (125, 130))],
}


def test_slices_of_half_open_boxes_with_the_region_of_their_cube():
    data = cube_dataset("demo", pair(), PARTS, answer="category")
    assert {part: len(names) for part, names in data.splits.items()} == {"train": 38, "test": 10}
    sample = data["str-A-z0127"]
    assert sample.category == "STR" and sample.subject == "str-A" and sample.labels is None
    assert sample.meta == {"cube": "str-A", "region": "STR", "z": 127}
    assert sample.image.axes == "yx" and sample.image.spacing == SPACING[1:]
    assert (sample.image.numpy() == 2127).all()
    assert "ctx-A-z0119" not in data.names


def test_only_the_slices_asked_for_are_read():
    class Watched:
        shape, dtype, asked = (30, 8, 8), np.dtype(np.uint8), []

        def __getitem__(self, key):
            self.asked.append(key[0])
            return np.zeros(self.shape, np.uint8)[key]

    opened = []

    def open_cube():
        opened.append(1)
        return Cube("a", "CTX", Volume(Watched(), "zyx", SPACING), origin=(100, 0, 0))

    data = cube_dataset(
        "demo", {"a": open_cube}, {"train": [Box("a", (110, 120))]}, answer="category"
    )
    assert not opened
    assert data["a-z0113"].image.shape == (8, 8)
    assert data["a-z0115"].image.shape == (8, 8)
    assert opened == [1] and Watched.asked == [slice(13, 14), slice(15, 16)]


def test_stacks_end_where_their_cube_ends():
    data = cube_dataset("demo", pair(), {"train": PARTS["train"]}, answer="category", depth=8)
    assert data.names == [
        f"{name}-z{a:04d}-{a + 7:04d}" for name in ("ctx-A", "str-A") for a in (100, 108)
    ]
    for sample in data:
        values = sample.image.numpy()
        first = sample.meta["z"] + (1000 if sample.category == "CTX" else 2000)
        assert sample.image.axes == "zyx" and (values[:, 0, 0] == range(first, first + 8)).all()


def test_the_published_stacks_run_across_the_end_of_a_region():
    data = cube_dataset(
        "demo",
        pair(),
        {"train": PARTS["train"]},
        answer="labels",
        label_map=MICROSTRUCTURE,
        depth=8,
        across=True,
    )
    # 19 slices a cube: the third stack of the first has 3 of its own. Nothing follows the second.
    assert data.names == [
        "ctx-A-z0100-0107",
        "ctx-A-z0108-0115",
        "ctx-A-z0116-0118+str-A-z0100-0104",
        "str-A-z0100-0107",
        "str-A-z0108-0115",
    ]
    sample = data[2]
    assert sample.image.numpy()[:, 0, 0].tolist() == [1116, 1117, 1118, *range(2100, 2105)]
    alone = cube("str-A", "STR", (100, 130), 8, 2).microstructure.numpy()
    assert (sample.labels.numpy()[3:] == alone[:5]).all()


@given(
    lengths=st.lists(st.integers(8, 40), min_size=1, max_size=4),
    depth=st.integers(1, 8),
    across=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_stacks_cover_slices_once_and_in_order(lengths, depth, across):
    boxes = [Box("ctx-A", (50 * i, 50 * i + n)) for i, n in enumerate(lengths)]
    data = cube_dataset(
        "demo", pair(), {"train": boxes}, answer="category", depth=depth, across=across
    )
    line = [z for box in boxes for z in range(*box.z)]
    wanted = []
    for i, n in enumerate(lengths):
        own = range(*boxes[i].z)
        for k in range(0, n, depth):
            start = line.index(own[k])
            stack = line[start : start + depth]
            if len(stack) == depth and (across or set(stack) <= set(own)):
                wanted.append(stack)
    found = [[z for _, a, b in data._load.pieces[n] for z in range(a, b)] for n in data.names]
    assert found == wanted
    if not across:
        flat = [z for stack in found for z in stack]
        assert flat == sorted(set(flat)) and len(flat) == sum(n // depth * depth for n in lengths)


CODES = {0: "CTX", 1: "CTX", 2: "STR", 3: "VP", 4: "VP", 5: "ZI"}


def test_a_channel_that_ends_early_caps_the_published_task_at_085():
    """z 420 to 470 with region codes up to 459: the rest comes back as cortex."""
    cubes, boxes = {}, []
    for code, region in ((1, "CTX"), (2, "STR"), (4, "VP"), (5, "ZI")):
        made = cube(region, region, (420, 470), 2, code)
        made.regions.data[40:] = 0
        cubes[region] = partial(lambda c: c, made)
        boxes.append(Box(region, (420, 470)))
    score = {}
    for truth in ("channel", "cube"):
        data = cube_dataset(
            "demo", cubes, {"test": boxes}, answer="category", truth=truth, codes=CODES
        )
        score[truth] = np.mean([sample.category == sample.meta["region"] for sample in data])
    assert score == {"channel": 0.85, "cube": 1.0}


def test_the_region_channel_says_what_most_of_a_slice_is():
    made = cube("ctx-A", "CTX", (100, 105))
    made.regions.data[2, :5] = 2  # 40 of 64
    made.regions.data[3, :3] = 2  # 24 of 64
    made.regions.data[4] = 9
    data = cube_dataset(
        "demo",
        {"ctx-A": lambda: made},
        {"test": [Box("ctx-A", (100, 105))]},
        answer="category",
        truth="channel",
        codes=CODES,
    )
    assert [data[i].category for i in range(4)] == ["CTX", "CTX", "STR", "CTX"]
    with pytest.raises(DataError, match=r"region channel.*ctx-A slice 104.*found 9"):
        data[4]
    bare = Cube("ctx-A", "CTX", made.image, origin=(100, 0, 0))
    data = cube_dataset(
        "demo",
        {"ctx-A": lambda: bare},
        {"test": [Box("ctx-A", (100, 105))]},
        answer="category",
        truth="channel",
        codes=CODES,
    )
    with pytest.raises(DataError, match="no regions"):
        data[0]


def test_three_classes_take_axons_for_background():
    stored = cube("ctx-A", "CTX", (100, 130)).microstructure.numpy()
    whole = {}
    for classes in (3, 4):
        label_map, mapping = microstructure_classes(classes)
        data = cube_dataset(
            "demo", pair(), PARTS, answer="labels", label_map=label_map, mapping=mapping
        )
        assert data.label_map == label_map and label_map.num_classes == classes
        whole[classes] = data["ctx-A-z0107"].labels.numpy()
    assert (whole[4] == stored[7]).all() and 3 in whole[4]
    assert (whole[3] == np.where(stored[7] == 3, 0, stored[7])).all()
    with pytest.raises(RecipeError, match="3 or 4 classes"):
        microstructure_classes(5)


@pytest.mark.parametrize("factor", [2, 4])
def test_downsampling_is_the_mean_of_images_and_the_most_frequent_of_labels(factor):
    rng = np.random.default_rng(7)
    image = rng.integers(0, 256, (3, 16, 24)).astype(np.uint8)
    ids = rng.integers(0, 4, (3, 16, 24)).astype(np.uint8)
    made = Cube("a", "CTX", Volume(image, "zyx", SPACING), None, Volume(ids, "zyx", SPACING))
    data = cube_dataset(
        "demo",
        {"a": lambda: made},
        {"train": [Box("a", (0, 3))]},
        answer="labels",
        label_map=MICROSTRUCTURE,
        downsample=factor,
    )
    sample = data[1]
    mean = block_reduce(image[1].astype(float), factor, np.mean)
    most = block_reduce(ids[1], factor, lambda b, axis: stats.mode(b, axis=axis).mode)
    assert sample.image.dtype == np.uint8 and sample.labels.dtype == np.uint8
    assert (sample.image.numpy() == np.rint(mean)).all()
    assert (sample.labels.numpy() == most).all()
    assert sample.image.spacing == sample.labels.spacing == (1.17 * factor, 1.17 * factor)
    stack = cube_dataset(
        "demo",
        {"a": lambda: made},
        {"train": [Box("a", (0, 3))]},
        answer="labels",
        label_map=MICROSTRUCTURE,
        downsample=factor,
        depth=3,
    )[0]
    assert stack.image.shape == (3, 16 // factor, 24 // factor)
    assert stack.image.spacing == (1.17, 1.17 * factor, 1.17 * factor)
    assert (stack.image.numpy()[1] == sample.image.numpy()).all()


def test_attributes_are_of_full_resolution_and_in_micrometres():
    ids = np.zeros((2, 16, 16), np.uint8)
    ids[:, :2, :] = 1  # vessel: 1/8
    ids[:, 6:8, 2:4] = ids[:, 6:8, 12:14] = 2  # two cells of 4 pixels, 10 pixels apart
    ids[:, 12:, :] = 3  # axons: 1/4
    image = Volume(np.zeros(ids.shape, np.uint8), "zyx", SPACING)
    made = Cube("a", "CTX", image, None, Volume(ids, "zyx", SPACING))
    for depth, factor in ((1, 4), (2, 1)):
        data = cube_dataset(
            "demo",
            {"a": lambda: made},
            {"t": [Box("a", (0, 2))]},
            answer="attributes",
            label_map=MICROSTRUCTURE,
            depth=depth,
            downsample=factor,
        )
        found = data[0].attributes
        assert data[0].labels is None and data.label_map is None
        assert found["vessel_density"] == 1 / 8 and found["axon_density"] == 1 / 4
        assert found["cell_count"] == 2
        assert found["cell_size"] == pytest.approx(4 * 1.17**2 if depth == 1 else 8 * 1.17**3)
        assert found["cell_distance"] == pytest.approx(11.7)
    published = cube_dataset(
        "demo",
        {"a": lambda: made},
        {"t": [Box("a", (0, 2))]},
        answer="attributes",
        label_map=MICROSTRUCTURE,
        attributes_version="v1",
    )
    # In pixels, and averaged with the zero distance to itself.
    assert published[0].attributes["cell_distance"] == pytest.approx(5)


def test_size_is_the_middle_of_a_slice():
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (2, 10, 8)).astype(np.uint8)
    made = Cube("a", "CTX", Volume(image, "zyx", SPACING))
    parts = {"train": [Box("a", (0, 2))]}
    data = cube_dataset("demo", {"a": lambda: made}, parts, answer="category", size=4)
    assert (data[1].image.numpy() == image[1, 3:7, 2:6]).all()
    data = cube_dataset("demo", {"a": lambda: made}, parts, answer="category", size=9)
    with pytest.raises(DataError, match="larger than the cube"):
        data[0]
    data = cube_dataset("demo", {"a": lambda: made}, parts, answer="category", downsample=3)
    with pytest.raises(DataError, match="do not divide by 3"):
        data[0]


def test_workers_open_cubes_themselves():
    data = cube_dataset("demo", pair(), PARTS, answer="category")
    assert data[0].category == "CTX" and data._load.opened
    again = pickle.loads(pickle.dumps(data))
    assert not again._load.opened and again["str-A-z0100"].category == "STR"


def test_faults_are_named():
    with pytest.raises(DataError, match=r"ctx-A.*found \[130, 131\); it holds \[100, 130\)"):
        cube_dataset("d", pair(), {"t": [Box("ctx-A", (120, 140))]}, answer="category")[10]
    with pytest.raises(RecipeError, match=r"no such cube.*vp-A"):
        cube_dataset("d", pair(), {"t": [Box("vp-A", (0, 4))]}, answer="category")
    with pytest.raises(RecipeError, match="no stack of 8"):
        cube_dataset("d", pair(), {"t": [Box("ctx-A", (100, 107))]}, answer="category", depth=8)
    with pytest.raises(RecipeError, match="twice in one part"):
        cube_dataset("d", pair(), {"t": [Box("ctx-A", (100, 107))] * 2}, answer="category")
    for wrong in (
        {"answer": "words"},
        {"answer": "labels"},
        {"answer": "category", "truth": "channel"},
        {"answer": "category", "truth": "guess"},
        {"answer": "category", "depth": 0},
        {"answer": "category", "downsample": 1.5},
        {"answer": "category", "attributes_version": "v3"},
    ):
        with pytest.raises(RecipeError):
            cube_dataset("d", pair(), PARTS, **wrong)
    for z in ((5, 5), (5, 3), (-1, 4), (1.5, 3), (3,)):
        with pytest.raises(RecipeError, match="a box is"):
            Box("a", z)


def test_labels_outside_the_vocabulary_and_missing_ones_are_refused():
    made = cube("ctx-A", "CTX", (100, 103))
    made.microstructure.data[1, 0, 0] = 7
    options = {"answer": "labels", "label_map": MICROSTRUCTURE}
    data = cube_dataset("d", {"a": lambda: made}, {"t": [Box("a", (100, 103))]}, **options)
    assert data[0].labels is not None
    with pytest.raises(DataError, match=r"outside the vocabulary \(a slice 101\): found \[7\]"):
        data[1]
    bare = Cube("a", "", made.image, origin=(100, 0, 0))
    data = cube_dataset("d", {"a": lambda: bare}, {"t": [Box("a", (100, 103))]}, **options)
    with pytest.raises(DataError, match="names no region"):
        data[0]
    bare = Cube("a", "CTX", made.image, origin=(100, 0, 0))
    data = cube_dataset("d", {"a": lambda: bare}, {"t": [Box("a", (100, 103))]}, **options)
    with pytest.raises(DataError, match="no microstructure"):
        data[0]


def test_a_cube_is_on_one_grid():
    image = Volume(np.zeros((2, 4, 4), np.uint8), "zyx", SPACING)
    with pytest.raises(DataError, match="differ in shape"):
        Cube("a", "CTX", image, Volume(np.zeros((2, 4, 5), np.uint8), "zyx", SPACING))
    with pytest.raises(DataError, match="axes zyx"):
        Cube("a", "CTX", Volume(np.zeros((4, 4), np.uint8), "yx", SPACING[1:]))
    with pytest.raises(DataError, match="origin"):
        Cube("a", "CTX", image, origin=(-1, 0, 0))


def test_parts_of_a_recipe():
    assert as_parts({"t": [{"cube": "a", "z": [1, 3]}]}) == {"t": (Box("a", (1, 3)),)}
    for wrong in (
        {},
        {"t": []},
        {"t": {"cube": "a", "z": [1, 3]}},
        {"t": [{"cube": "a"}]},
        {"t": [{"cube": "a", "z": "13"}]},
        {"t": ["a"]},
    ):
        with pytest.raises(BrodmannError):
            as_parts(wrong)


@given(a=st.integers(0, 40), n=st.integers(1, 30), b=st.integers(0, 40), m=st.integers(1, 30),
       guard=st.integers(0, 12))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_guards_are_proved(a, n, b, m, guard):
    parts = {"one": [Box("x", (a, a + n))], "two": [Box("x", (b, b + m)), Box("y", (0, 90))]}
    apart = min(abs(i - j) for i in range(a, a + n) for j in range(b, b + m)) - 1
    if apart >= guard:
        check_apart(parts, guard)
    else:
        with pytest.raises(RecipeError, match="slices apart"):
            check_apart(parts, guard)
