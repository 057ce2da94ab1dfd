"""Attributes against a count by loops, and against what the release of MTNeuro does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from sklearn.neighbors import KDTree

from brodmann.core import DataError, Label, LabelMap, keyed_rng
from brodmann.metrics.attributes import ATTRIBUTES, attributes_of, nearest_distances, roles

IDS = {"vessel": 1, "cell": 2, "axon": 3, "ignore": 9}
NAN = float("nan")


def brute(labels, spacing, rank=1, min_voxels=0, ignore=9):
    """Everything by loops over pixels and pairs."""
    known = vessel = axon = 0
    for id_ in labels.flat:
        known += id_ != ignore
        vessel += id_ == 1
        axon += id_ == 3
    if not known:
        return dict.fromkeys(ATTRIBUTES, NAN)
    near = ndimage.generate_binary_structure(labels.ndim, rank)
    marked, count = ndimage.label(labels == 2, near)
    cells = [np.argwhere(marked == i) for i in range(1, count + 1)]
    cells = [at for at in cells if len(at) >= min_voxels]
    voxel = math.prod(spacing)
    centres = [[math.fsum(at[:, k]) / len(at) * spacing[k] for k in range(labels.ndim)]
               for at in cells]  # fmt: skip
    nearest = [min(math.dist(a, b) for j, b in enumerate(centres) if j != i)
               for i, a in enumerate(centres) if len(centres) > 1]  # fmt: skip
    return {
        "vessel_density": vessel / known,
        "axon_density": axon / known,
        "cell_count": len(cells),
        "cell_size": math.fsum(len(at) * voxel for at in cells) / len(cells) if cells else NAN,
        "cell_distance": math.fsum(nearest) / len(nearest) if nearest else NAN,
    }


def close(found, wanted):
    assert list(found) == list(ATTRIBUTES)
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12, nan_ok=True)


@st.composite
def pictures(draw):
    ndim = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(1, 8)) for _ in range(ndim))
    kind = draw(st.sampled_from([np.uint8, np.int16, np.uint64]))
    labels = draw(arrays(kind, shape, elements=st.sampled_from([0, 1, 2, 2, 3, 7, 9])))
    spacing = tuple(draw(st.floats(0.05, 30)) for _ in range(ndim))
    return labels, spacing, draw(st.integers(1, ndim)), draw(st.integers(0, 4))


@settings(max_examples=250, deadline=None)
@given(pictures())
def test_attributes_equal_a_count_by_loops(case):
    labels, spacing, rank, smallest = case
    connectivity = {2: (4, 8), 3: (6, 18, 26)}[labels.ndim][rank - 1]
    found = attributes_of(
        labels, spacing, **IDS, connectivity=connectivity, min_voxels=smallest
    )  # fmt: skip
    close(found, brute(labels, spacing, rank, smallest))


def disks(shape, count, *key):
    """A picture with round cells, some of which touch, and lines of vessel and axon."""
    rng = keyed_rng(0, "disks", *key)
    grid = np.indices(shape)
    labels = np.zeros(shape, np.uint8)
    labels[rng.random(shape) < 0.05] = 3
    labels[..., 5:8] = 1
    for _ in range(count):
        centre = rng.uniform(0, shape)
        far = sum((axis - c) ** 2 for axis, c in zip(grid, centre))
        labels[far < rng.uniform(2, 5) ** 2] = 2
    return labels


@pytest.mark.parametrize("shape", [(90, 110), (24, 40, 36)])
def test_round_cells_on_an_anisotropic_grid(shape):
    labels = disks(shape, 30, len(shape))
    spacing = (5.0, 0.7, 0.4)[-len(shape) :]
    found = attributes_of(labels, spacing, **IDS)
    assert found["cell_count"] > 5
    close(found, brute(labels, spacing))


def test_spacing_decides_who_is_nearest():
    """Along z the neighbour is one voxel off but 10 um; in the plane four voxels, 2 um."""
    labels = np.zeros((3, 1, 6), np.uint8)
    labels[0, 0, 0] = labels[2, 0, 0] = labels[0, 0, 4] = 2
    found = attributes_of(labels, (5.0, 0.5, 0.5), **IDS)
    assert found["cell_distance"] == pytest.approx((2 + 10 + 2) / 3)
    even = attributes_of(labels, (1.0, 1.0, 1.0), **IDS)
    assert even["cell_distance"] == pytest.approx((2 + 2 + 4) / 3)


def test_no_cell_one_cell_and_cells_around_each_other():
    empty = np.zeros((6, 6), np.uint8)
    close(attributes_of(empty, (1, 1), **IDS), dict(zip(ATTRIBUTES, (0, 0, 0, NAN, NAN))))
    empty[2:4, 2] = 2
    close(attributes_of(empty, (2, 3), **IDS), dict(zip(ATTRIBUTES, (0, 0, 1, 12, NAN))))
    ring = np.full((5, 5), 2, np.uint8)
    ring[1:4, 1:4] = 0
    ring[2, 2] = 2
    assert attributes_of(ring, (1, 1), **IDS)["cell_distance"] == 0


def test_unknown_pixels_are_no_part_of_the_grid():
    labels = np.zeros((4, 10), np.uint8)
    labels[0] = 1
    labels[:, 5:] = 9
    found = attributes_of(labels, (1, 1), **IDS)
    assert found["vessel_density"] == 5 / 20
    labels[:] = 9
    assert all(math.isnan(value) for value in attributes_of(labels, (1, 1), **IDS).values())


def test_what_has_no_id_is_not_measured():
    labels = disks((40, 40), 6)
    found = attributes_of(labels, (1, 1), vessel=1, cell=None, axon=None)
    assert found["vessel_density"] == (labels == 1).mean()
    assert all(math.isnan(found[name]) for name in ATTRIBUTES[1:])


@pytest.mark.parametrize("count", [0, 1, 2, 25])
def test_published_distance_is_that_of_the_release(count):
    """Its k = 2 query holds each cell itself at 0, and pictures of fewer than two get 64 and 0."""
    labels = np.zeros((64, 64), np.uint8)
    rng = keyed_rng(0, "apart", count)
    for place in rng.choice(64, count, replace=False):
        y, x = divmod(int(place), 8)
        labels[8 * y + 1 : 8 * y + rng.integers(3, 7), 8 * x + 1 : 8 * x + rng.integers(3, 7)] = 2
    found = attributes_of(labels, (1.17, 1.17), **IDS, published_distance=True)
    true = attributes_of(labels, (1.17, 1.17), **IDS)
    assert found["cell_count"] == true["cell_count"] == count
    if count < 2:
        assert (found["cell_distance"], found["cell_size"]) == (64, 0)
        return
    centres = np.array(ndimage.center_of_mass(labels == 2, ndimage.label(labels == 2)[0],
                                              range(1, count + 1)))  # fmt: skip
    released = KDTree(centres, leaf_size=30).query(centres, k=2)[0].mean()
    assert found["cell_distance"] == pytest.approx(released, rel=1e-12)
    assert found["cell_distance"] == pytest.approx(true["cell_distance"] / 1.17 / 2, rel=1e-12)
    assert found["cell_size"] == true["cell_size"]


def test_nearest_distances_of_one_and_none():
    assert nearest_distances(np.zeros((0, 3))).shape == (0,)
    assert np.isnan(nearest_distances(np.zeros((1, 3)))).all()


def test_roles_are_told_by_name():
    tree = LabelMap(
        [Label(4, "Blood vessel", "v"), Label(7, "stuff", "cells"), Label(2, "Axons", "ax")],
        ignore=255,
    )
    assert roles(tree) == {"vessel": 4, "cell": 7, "axon": 2, "ignore": 255}
    assert roles(LabelMap([Label(1, "glia", "g")])) == {}
    with pytest.raises(DataError, match="called cell"):
        roles(LabelMap([Label(1, "cell", "a"), Label(2, "Soma", "b")]))


@pytest.mark.parametrize(
    ("labels", "spacing", "ids", "words"),
    [
        (np.zeros((4, 4)), (1, 1), IDS, "whole numbers"),
        (np.zeros(4, int), (1,), IDS, "2 or 3 axes"),
        (np.zeros((4, 4), int), (1, 1, 1), IDS, "spacing must be 2"),
        (np.zeros((4, 4), int), (1, 0), IDS, "positive"),
        (np.zeros((4, 4), int), (1, 1), IDS | {"axon": 2}, "cell and axon are both 2"),
        (np.zeros((4, 4), int), (1, 1), IDS | {"axon": 2.5}, "whole number"),
    ],
)
def test_faults_are_named(labels, spacing, ids, words):
    with pytest.raises(DataError, match=words):
        attributes_of(labels, spacing, **ids)
