"""Affinities: four readings of the same pairs, and the refusal of the wrong one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.core import Affinities, Convention, DataError, Volume
from brodmann.core.affinities import (
    LONG_RANGE,
    NEAREST,
    check_against,
    check_not_inverted,
    pair_windows,
)

SPACING = (0.03, 0.006, 0.006)


def truth(seed=0, shape=(6, 24, 24), seeds=7):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (seeds, 3)) * shape
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return 1 + ((grid[..., None, :] - points) ** 2).sum(-1).argmin(-1)


def stored(labels, convention):
    """By the definition, voxel by voxel: what a file of this convention holds."""
    out = np.zeros((len(convention.offsets), *labels.shape), np.uint8)
    for channel, offset in zip(out, convention.offsets):
        for v in np.ndindex(*labels.shape):
            step = offset if convention.anchor == "source" else [-n for n in offset]
            u = tuple(a + b for a, b in zip(v, step))
            if all(0 <= a < n for a, n in zip(u, labels.shape)):
                same = labels[v] == labels[u]
                channel[v] = 255 * (same if convention.kind == "affinity" else not same)
            elif convention.kind == "boundary":
                channel[v] = 255
    return out


OFFSETS = [NEAREST, ((1, 0, 0), (0, 2, 0), (0, 0, 1)), ((0, 1, -2), (-1, 2, 0)), LONG_RANGE[3:6]]


@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("kind", ["affinity", "boundary"])
@pytest.mark.parametrize("anchor", ["source", "destination"])
def test_every_reading_becomes_the_canonical_one(offsets, kind, anchor):
    labels = truth()[:4, :8, :9]
    convention = Convention(offsets, kind, anchor)
    found = Affinities(Volume(stored(labels, convention), "czyx", SPACING), convention).canonical()
    assert found.convention.is_canonical
    np.testing.assert_array_equal(found.volume.data, stored(labels, found.convention))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_window_holds_what_the_whole_holds(data):
    offsets = data.draw(st.sampled_from(OFFSETS))
    convention = Convention(
        offsets,
        data.draw(st.sampled_from(["affinity", "boundary"])),
        data.draw(st.sampled_from(["source", "destination"])),
    )
    shape = (5, 7, 6)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = rng.integers(0, 256, (len(offsets), *shape)).astype(np.uint8)
    found = Affinities(Volume(values, "czyx", SPACING), convention)
    whole = found.canonical().volume.data
    window = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        window.append(slice(start, data.draw(st.integers(start + 1, n))))
    np.testing.assert_array_equal(
        found.canonical(tuple(window)).volume.data, whole[(slice(None), *window)]
    )


@pytest.mark.parametrize("kind", ["affinity", "boundary"])
@pytest.mark.parametrize("anchor", ["source", "destination"])
def test_a_wrong_reading_is_refused_by_the_truth(kind, anchor):
    labels = truth()
    convention = Convention(NEAREST, kind, anchor)
    found = Affinities(Volume(stored(labels, convention), "czyx", SPACING), convention)
    check_against(found, labels)
    other = {"affinity": "boundary", "boundary": "affinity"}[kind]
    with pytest.raises(DataError, match=f"kind {kind}"):
        check_against(replace(found, convention=replace(convention, kind=other)), labels)
    other = {"source": "destination", "destination": "source"}[anchor]
    with pytest.raises(DataError, match=f"anchor {anchor}"):
        check_against(replace(found, convention=replace(convention, anchor=other)), labels)


def test_a_boundary_map_is_refused_without_a_truth():
    labels = truth()
    values = stored(labels, Convention())
    check_not_inverted(values)
    with pytest.raises(DataError, match="--kind boundary"):
        check_not_inverted(255 - values)
    with pytest.raises(DataError, match="boundary map"):
        check_not_inverted(1 - values / np.float32(255))


@pytest.mark.parametrize("low, high", [(-0.1, 1), (0, 1.5), (0, np.nan), (0, 255)])
def test_values_out_of_range_are_refused(low, high):
    values = np.zeros((3, 2, 3, 3), np.float32)
    values[0, 0, 0, 0], values[1, 1, 1, 1] = low, high
    with pytest.raises(DataError, match=r"0\.\.1"):
        Affinities(Volume(values, "czyx", SPACING)).canonical()


def test_forms_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="3 offsets need 3 channels"):
        Affinities(Volume(np.zeros((2, 2, 3, 3), np.uint8), "czyx", SPACING))
    with pytest.raises(DataError, match="czyx"):
        Affinities(Volume(np.zeros((2, 3, 3), np.uint8), "zyx", SPACING))
    with pytest.raises(DataError, match="uint16"):
        Affinities(Volume(np.zeros((3, 2, 3, 3), np.uint16), "czyx", SPACING))
    with pytest.raises(DataError, match="same offset"):
        Convention(((0, 0, 1), (0, 0, -1)))
    with pytest.raises(DataError, match="0, 0, 0"):
        Convention(((0, 0, 0),))
    with pytest.raises(DataError, match="kind"):
        Convention(kind="distance")


def test_a_convention_survives_json():
    convention = Convention(LONG_RANGE, "boundary", "destination")
    assert Convention.from_dict(convention.to_dict()) == convention
    with pytest.raises(DataError):
        Convention.from_dict({"offsets": [[0, 0, 1]]})


def test_pair_windows_beyond_the_volume_are_empty():
    here, there = pair_windows((3,), (-5,))
    assert np.arange(3)[here].size == np.arange(3)[there].size == 0
