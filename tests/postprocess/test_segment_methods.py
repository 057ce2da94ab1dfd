"""Every method by name: perfect affinities, many values at once, slices alone, errors."""

import numpy as np
import pytest
from made_neurites import SPACING_UM, neurites, noisy, perfect, same_partition

from brodmann.core import Affinities, Convention, DataError, RecipeError, Volume
from brodmann.core.affinities import IN_PLANE, LONG_RANGE, NEAREST
from brodmann.postprocess import (
    METHODS,
    FragmentOptions,
    apply_lookup,
    find_method,
    make_fragments,
    partitions,
    region_graph,
    remove_small,
    segment,
)
from brodmann.postprocess.relabel import numbered

TRUTH = neurites((5, 44, 48), 7, seed=3)
ON_GRAPH = [name for name, method in METHODS.items() if not method.in_core_only]


@pytest.mark.parametrize("name", METHODS)
def test_perfect_affinities_give_a_perfect_segmentation(name):
    affinities = perfect(TRUTH, LONG_RANGE if name == "mutex" else NEAREST)
    ((value, labels),) = segment(affinities, name, [METHODS[name].default])
    assert value == METHODS[name].default
    assert labels.dtype == np.uint32 and same_partition(labels, TRUTH)


@pytest.mark.parametrize("name", METHODS)
def test_without_affinities_along_z_every_slice_is_alone(name):
    """Perfect in each slice; no segment in two."""
    ((_, labels),) = segment(perfect(TRUTH, IN_PLANE), name, [METHODS[name].default])
    slices = np.arange(len(TRUTH), dtype=np.uint32)[:, None, None]
    assert same_partition(labels, TRUTH + 100 * slices)


@pytest.mark.parametrize("name", METHODS)
def test_many_values_at_once_are_those_one_by_one(name):
    affinities = noisy(neurites((3, 32, 32), 6))
    grid = METHODS[name].values
    # At a threshold of 0 nothing merges, whatever the noise.
    least = 0.0 if METHODS[name].parameter == "threshold" else grid[0]
    values = [least, grid[len(grid) // 2], grid[-1]]
    found = list(segment(affinities, name, values))
    assert [value for value, _ in found] == values
    for value, labels in found:
        ((_, alone),) = segment(affinities, name, [value])
        assert (labels == alone).all()
    assert len({int(labels.max()) for _, labels in found}) > 1


def test_the_grid_of_a_method_is_its_default():
    affinities = noisy(neurites((2, 20, 20), 4))
    assert [value for value, _ in segment(affinities)] == list(METHODS["mean"].values)
    for method in METHODS.values():
        assert min(method.values) <= method.default <= max(method.values)
        assert list(method.values) == sorted(method.values)


@pytest.mark.parametrize("name", ON_GRAPH)
def test_a_graph_alone_is_enough(name):
    affinities = noisy(neurites((3, 32, 32), 6))
    fragments = make_fragments(affinities)
    graph = region_graph(
        fragments, affinities.volume.data, NEAREST, histogram=METHODS[name].histogram
    )
    lookup = partitions(graph, int(fragments.max()), name, [0.3, 0.6])
    assert lookup.shape == (2, fragments.max() + 1) and (lookup[:, 0] == 0).all()
    for row, (_, labels) in zip(lookup, segment(affinities, name, [0.3, 0.6])):
        assert (apply_lookup(fragments, row) == labels).all()
        # Numbered by the smallest fragment.
        assert np.unique(row[1:], return_index=True)[1].tolist() == sorted(
            np.unique(row[1:], return_index=True)[1]
        )


def test_options_and_threads_reach_the_fragments():
    affinities = noisy(neurites((6, 40, 40), 5))
    solid = FragmentOptions(per_slice=False)
    ((_, flat),) = segment(affinities, "components", [0.0])
    ((_, deep),) = segment(affinities, "components", [0.0], solid)
    assert deep.max() < flat.max() and (deep == make_fragments(affinities, solid)).all()
    for name in ("mean", "quantile50"):
        ((_, one),) = segment(affinities, name, [0.4])
        ((_, two),) = segment(affinities, name, [0.4], workers=2)
        assert (one == two).all()


def test_long_range_channels_do_not_change_what_needs_the_nearest():
    truth = neurites((4, 36, 36), 5)
    near, far = noisy(truth), noisy(truth, LONG_RANGE)
    values = far.volume.data.copy()
    values[: len(NEAREST)] = near.volume.data
    far = Affinities(far.volume.like(values), far.convention)
    order = [5, 2, 0, 7, 1]
    mixed = Affinities(
        Volume(values[order], "czyx", SPACING_UM), Convention(tuple(LONG_RANGE[i] for i in order))
    )
    for name in ("mean", "waterz-mean", "multicut", "voxels"):
        ((_, expected),) = segment(near, name, [0.4])
        for other in (far, mixed):
            assert same_partition(next(segment(other, name, [0.4]))[1], expected)


def test_unknown_names_and_values_are_refused():
    with pytest.raises(RecipeError, match="did you mean 'multicut'"):
        find_method("multicutt")
    affinities = noisy(neurites((2, 20, 20), 4))
    with pytest.raises(RecipeError, match="unknown method"):
        segment(affinities, "watersh")
    for name in METHODS:
        with pytest.raises(RecipeError):
            list(segment(affinities, name, [1.5]))
    fragments = make_fragments(affinities)
    graph = region_graph(fragments, affinities.volume.data, NEAREST)
    with pytest.raises(RecipeError, match="whole affinities"):
        partitions(graph, int(fragments.max()), "mutex", [0.0])
    with pytest.raises(DataError, match="histograms"):
        partitions(graph, int(fragments.max()), "quantile75", [0.3])
    nan = np.full((3, 2, 9, 9), np.nan, np.float32)
    with pytest.raises(DataError, match=r"0\.\.1"):
        segment(Affinities(Volume(nan, "czyx", SPACING_UM)), "mean")


def test_a_lookup_is_applied_and_checked():
    rng = np.random.default_rng(0)
    fragments = rng.integers(0, 50, (4, 9, 11)).astype(np.uint32)
    lookup = rng.integers(0, 2**32, 50, dtype=np.uint64)
    assert (apply_lookup(fragments, lookup) == lookup[fragments]).all()
    small = lookup.astype(np.uint32)
    out = np.zeros((4, 9, 22), np.uint32)[:, :, ::2]
    assert apply_lookup(fragments, small, out, workers=2) is out
    assert (out == small[fragments]).all()
    expected = small[fragments]
    assert (apply_lookup(fragments, small, fragments) == expected).all()
    for bad in (np.array([[[60]]], np.uint64), np.array([[[2**40]]], np.uint64)):
        with pytest.raises(DataError, match="up to 49"):
            apply_lookup(bad, lookup)
    with pytest.raises(DataError, match="unsigned"):
        apply_lookup(fragments.astype(np.float32), lookup)
    with pytest.raises(DataError, match="as large"):
        apply_lookup(fragments, small, np.zeros((1, 2, 3), np.uint32))


def test_numbers_and_small_segments():
    labels = np.array([[9, 9, 0], [4, 9, 7]])
    assert numbered(labels).tolist() == [[1, 1, 0], [2, 1, 3]]
    assert remove_small(labels, 2).tolist() == [[9, 9, 0], [0, 9, 0]]
    assert remove_small(labels[:0], 2).shape == (0, 3)
