"""EM on whole samples: dtype, second labels, points, and an expansion made again."""

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import pytest

from brodmann.augment.em import EM
from brodmann.augment.expand import expand, replay
from brodmann.core import (
    DataError,
    Dataset,
    Label,
    LabelMap,
    Points,
    Sample,
    Volume,
    keyed_rng,
)
from brodmann.datasets.folder import read_folder

SWITCHES = [name for name in EM.__dataclass_fields__ if name.endswith("_p")]
ALL = EM(**dict.fromkeys(SWITCHES, 1.0), isotropic_sections=1.0)
MOVES = EM(
    **dict.fromkeys(SWITCHES, 0.0)
    | dict.fromkeys(["flip_p", "transpose_p", "rotation_p", "scale_p", "elastic_p"], 1.0)
    | {"slip_p": 1.0, "translation_p": 1.0},
    isotropic_sections=1.0,
    elastic_px=(1.0, 2.0),
    misalignment_px=(1.0, 4.0),
)
SECTIONS, CUBES = (0.04, 0.004, 0.004), (0.008, 0.008, 0.008)


def sample(shape=(6, 40, 40), spacing=SECTIONS, dtype=np.uint8, **more):
    rng = np.random.default_rng(1)
    image = rng.integers(20, 200, shape).astype(dtype)
    axes = "zyx"[-len(shape) :]
    spacing = spacing[-len(shape) :]
    ids = Volume(rng.integers(1, 9, shape).astype(np.uint32), axes, spacing)
    return Sample("a", Volume(image, axes, spacing), ids, **more)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(6, 40, 40), (40, 40), (24, 24, 24)])
def test_a_whole_sample_keeps_its_grid_and_dtype(shape, dtype):
    target = sample(shape, CUBES, dtype)
    params = json.loads(json.dumps(ALL.draw(keyed_rng(0), target)))
    made, again = ALL.apply(params, target), ALL.apply(params, target)
    assert made.image.numpy().tobytes() == again.image.numpy().tobytes()
    assert made.image.numpy().dtype == dtype and made.image.spatial_shape == shape
    assert made.image.spacing == target.image.spacing
    ids = made.labels.numpy()
    assert ids.dtype == np.uint32 and set(np.unique(ids)) <= set(range(9))
    assert not np.array_equal(made.image.numpy(), target.image.numpy())
    assert not np.array_equal(ids, target.labels.numpy())
    with pytest.raises(DataError, match="another shape"):
        ALL.apply(params, sample((8, 8)))


def test_nothing_drawn_gives_the_sample_itself():
    method = EM(**dict.fromkeys(SWITCHES, 0.0))
    target = sample()
    assert method.apply(method.draw(keyed_rng(0), target), target) is target


def test_bare_corners_are_ignored_where_the_tree_can_say_so():
    tree = LabelMap([Label(1, "neuron", "n")], ignore=7)
    target = sample()
    pool = Dataset("pool", ["a"], lambda name: target, tree)
    method = EM(**dict.fromkeys(SWITCHES, 0.0) | {"rotation_p": 1.0, "missing_p": 1.0},
                missing_ignore=True)  # fmt: skip
    ones = target.with_(labels=target.labels.like(np.ones((6, 40, 40), np.uint32)))
    for pool_, corner in ((pool, 7), (None, 0)):
        params = method.draw(keyed_rng(0), target, pool_)
        ids = method.apply(params, ones, pool_).labels.numpy()
        assert set(np.unique(ids)) == {1, corner} and ids[0, 0, 0] == corner
        assert (ids[params["image"][0]["sections"]] == corner).all()


@pytest.mark.parametrize("spacing", [SECTIONS, CUBES])
def test_points_and_second_labels_move_with_the_image(spacing):
    """A point in the middle of a spot is still there: of all its moved voxels the mean."""
    deep = spacing == CUBES
    shape, method = ((36, 36, 36), dataclasses.replace(MOVES, isotropic_sections=0.0))
    if not deep:
        shape, method = (6, 72, 72), MOVES
    steps = [range(6, n - 5, 12) if n > 6 else range(n) for n in shape]
    places = np.array(list(itertools.product(*steps)))
    ids, reach = np.zeros(shape, np.uint32), np.array([2 if deep else 0, 2, 2])
    for i, place in enumerate(places):
        ids[tuple(slice(p - r, p + r + 1) for p, r in zip(place, reach))] = i + 1
    table = pd.DataFrame(places, columns=list("zyx")).assign(number=np.arange(len(places)) + 1)
    first, second = Volume(ids, "zyx", spacing), Volume(ids * 2, "zyx", spacing)
    image = Volume(ids.astype(np.float32), "zyx", spacing)
    target = Sample("a", image, first, second, 0.5, points=Points(table))
    checked = 0
    for item in range(5):
        params = method.draw(keyed_rng(2, item), target)
        assert bool(params["misalignment"]) is not deep
        made = method.apply(params, target)
        got = made.labels.numpy()
        np.testing.assert_array_equal(made.labels2.numpy(), got * 2)
        rows = made.points.table
        for place, number in zip(rows[list("zyx")].to_numpy(), rows["number"]):
            if np.all((place >= reach * 3) & (place <= np.array(shape) - 1 - reach * 3)):
                centre = np.argwhere(got == number).mean(axis=0)
                np.testing.assert_allclose(place, centre, atol=0.75)
                checked += 1
    assert checked >= 15


def test_points_of_sections_follow_their_own_section():
    method = EM(**dict.fromkeys(SWITCHES, 0.0) | {"slip_p": 1.0})
    table = pd.DataFrame({"z": np.arange(6), "y": 20, "x": 20})
    target = sample(points=Points(table))
    params = method.draw(keyed_rng(0), target)
    (step,) = params["misalignment"]
    places = method.apply(params, target).points.coordinates
    assert places[:, 0].tolist() == list(range(6))
    expected = np.full((6, 2), 20.0)
    expected[step["section"]] += step["shift_px"]
    np.testing.assert_array_equal(places[:, 1:], expected)


def test_an_expansion_of_volumes_is_made_again(tmp_path):
    tree = LabelMap([Label(i, f"neuron {i}", f"n{i}") for i in range(1, 9)])
    pool = Dataset("stacks", ["a"], lambda name: sample(), tree)
    out = expand(pool, EM(missing_p=1.0), tmp_path / "x", factor=2, seed=0)
    made = read_folder(out)
    for name in ("a-em-000", "a-em-001"):
        again = replay(out / "provenance" / f"{name}.json", pool)
        np.testing.assert_array_equal(again.image.numpy(), made[name].image.numpy())
        np.testing.assert_array_equal(again.labels.numpy(), made[name].labels.numpy())
