"""Fragments against scipy, scikit-image and slow loops, and what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_neurites import SPACING_UM, neurites, noisy, perfect, same_partition
from scipy import ndimage
from skimage.segmentation import watershed

from brodmann.core import Affinities, Convention, DataError, RecipeError, Volume
from brodmann.core.affinities import IN_PLANE, LONG_RANGE, NEAREST
from brodmann.postprocess import FragmentOptions, make_fragments
from brodmann.postprocess import flood as passes
from brodmann.postprocess.fragments import PADDING, WALL

STEPS = (-1, 1)


def sums_of(shape, seed):
    return np.random.default_rng(seed).integers(0, 511, shape).astype(np.int16)


@pytest.mark.parametrize("shape", [(2, 2), (17, 31), (1, 40), (40, 1), (25, 8)])
@pytest.mark.parametrize("cut", [3, 20, 100, 300])
def test_distances_are_scipys(shape, cut):
    for seed in range(5):
        sums = sums_of(shape, seed)
        sums[0, 0] = 0  # one boundary voxel at least
        found = np.empty(shape, np.float32)
        passes.distances_2d(sums, cut, found)
        np.testing.assert_allclose(found, ndimage.distance_transform_edt(sums > cut), rtol=1e-6)


def test_distances_without_a_boundary_are_far():
    found = np.empty((5, 7), np.float32)
    passes.distances_2d(np.full((5, 7), 510, np.int16), 100, found)
    assert (found == 12).all()


@pytest.mark.parametrize("sigma", [0.5, 2.0, 3.3])
def test_smoothing_is_scipys(sigma):
    image = np.random.default_rng(0).random((23, 41)).astype(np.float32)
    expected = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3)
    passes.smooth_2d(image, passes.gaussian_weights(sigma))
    np.testing.assert_allclose(image, expected, atol=1e-5)


def maxima_by_scipy(image):
    """Strict maxima over all neighbours of distinct values."""
    size = (3,) * image.ndim
    return image == ndimage.maximum_filter(image, size=size, mode="constant", cval=-1)


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(2, 14), st.integers(2, 14)), st.integers(0, 2**32 - 1))
def test_climbing_is_the_watershed_of_scikit_image(shape, seed):
    """On distinct heights, where every maximum has a seed, there are no ties."""
    rng = np.random.default_rng(seed)
    image = (rng.permutation(shape[0] * shape[1]) + 1).reshape(shape).astype(np.float32)
    labels = np.pad(np.zeros(shape, np.int32), 1, constant_values=PADDING)
    heights = np.pad(image, 1, constant_values=-1)
    count = passes.maxima_2d(image, labels, heights)
    markers = labels[1:-1, 1:-1].copy()
    assert (markers > 0).tolist() == maxima_by_scipy(image).tolist()
    assert sorted(markers[markers > 0]) == list(range(1, count + 1))
    above = np.empty(labels.shape, np.int32)
    passes.ways_up_2d(heights, above)
    passes.follow(above.reshape(-1), labels.reshape(-1))
    expected = watershed(-image, markers, connectivity=2)
    assert (labels[1:-1, 1:-1] == expected).all()


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9),
               elements=st.sampled_from([-1.0, 0.5, 1.0, 2.0]))
)  # fmt: skip
def test_vector_ways_are_the_plain_ways(image):
    heights = np.pad(image, 1, constant_values=-1)
    stride = heights.shape[1]
    fast = np.zeros(heights.shape, np.int32)
    passes.ways_up_2d(heights, fast)
    plain = np.zeros(heights.size, np.int64)
    corners = ((-stride, -1), (-stride, 1), (stride, -1), (stride, 1))
    passes.ways_up(heights.reshape(-1), (-stride, -1, 1, stride), corners, plain)
    inside = heights >= 0
    assert (fast[inside] == plain.reshape(heights.shape)[inside]).all()


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(2, 7), st.integers(2, 7)), st.integers(0, 2**32 - 1))
def test_flood_gives_a_forest_of_greatest_weight(shape, seed):
    """Kruskal on distinct pairs, where trees with two seeds are never joined."""
    rng = np.random.default_rng(seed)
    inner = rng.permutation(2 * shape[0] * shape[1]).reshape(2, *shape)
    pairs = np.pad(inner.astype(np.uint8), ((0, 0), (1, 1), (1, 1)))
    labels = np.pad(np.zeros(shape, np.int32), 1, constant_values=PADDING)
    places = rng.permutation(shape[0] * shape[1])[: rng.integers(1, 4)]
    labels[1:-1, 1:-1][np.unravel_index(places, shape)] = np.arange(1, len(places) + 1)
    expected = labels.copy()
    stride = labels.shape[1]
    root = {p: p for p in np.flatnonzero(labels.reshape(-1) >= 0)}
    name = {p: int(labels.reshape(-1)[p]) for p in root}

    def find(p):
        while root[p] != p:
            p = root[p]
        return p

    edges = [
        (-int(pairs[i].reshape(-1)[p]), p, p + step)
        for i, step in enumerate((-stride, -1))
        for p in root
        if p + step in root
    ]
    for _, p, q in sorted(edges):
        a, b = find(p), find(q)
        if a != b and not (name[a] and name[b]):
            root[a], name[b] = b, name[a] or name[b]
    for p in root:
        expected.reshape(-1)[p] = name[find(p)]
    passes.flood(pairs.reshape(2, -1), labels.reshape(-1), (-stride, -1))
    assert (labels == expected).all()


def test_ids_are_consecutive_and_cover_all():
    fragments = make_fragments(noisy(neurites((4, 48, 50), 12)))
    assert fragments.dtype == np.uint32
    assert np.unique(fragments).tolist() == list(range(1, fragments.max() + 1))


def test_a_slice_depends_on_itself_alone():
    affinities = noisy(neurites((5, 40, 44), 10))
    whole = make_fragments(affinities)
    for z in range(5):
        part = Affinities(
            affinities.volume.like(affinities.volume.data[:, z : z + 1]), affinities.convention
        )
        base = whole[z].min() - 1
        assert (make_fragments(part)[0] == whole[z] - base).all()
        if z:
            assert base == whole[z - 1].max()


def test_threads_change_nothing():
    affinities = noisy(neurites((6, 40, 44), 10))
    assert (make_fragments(affinities) == make_fragments(affinities, workers=3)).all()


@pytest.mark.parametrize("per_slice", [True, False])
def test_fragments_end_where_pairs_are_cut(per_slice):
    """No fragment of perfect affinities holds voxels of two neurites."""
    truth = neurites((6, 60, 60), 9)
    fragments = make_fragments(perfect(truth), FragmentOptions(per_slice=per_slice))
    assert fragments.min() == 1
    pairs = np.unique(np.stack([fragments.ravel(), truth.ravel()]), axis=1)
    assert pairs.shape[1] == fragments.max()


def test_fragments_in_3d_run_through_slices():
    truth = neurites((8, 40, 40), 5)
    flat = make_fragments(perfect(truth)).max()
    solid = make_fragments(perfect(truth), FragmentOptions(per_slice=False)).max()
    assert 5 <= solid < flat / 3


def test_distances_in_3d_follow_the_spacing():
    """Two rods of 9 x 9 touch in one thin place; thick slices pull the seeds apart."""
    truth = np.ones((9, 12, 24), np.uint32)
    boundary = perfect(truth).volume.data.copy()
    boundary[1:, :, :, 12] = 0
    boundary[:, 4, 5:7, 12] = 255
    found = {}
    for spacing in [(0.01, 0.01, 0.01), (0.2, 0.01, 0.01)]:
        affinities = Affinities(Volume(boundary, "czyx", spacing), Convention(NEAREST))
        found[spacing] = make_fragments(affinities, FragmentOptions(per_slice=False))
    assert not same_partition(*found.values())


def test_small_fragments_are_grown_over():
    affinities = noisy(neurites((3, 50, 50), 12))
    plain = make_fragments(affinities, FragmentOptions(sigma=0.7))
    large = make_fragments(affinities, FragmentOptions(sigma=0.7, min_size=60))
    assert np.bincount(plain.ravel())[1:].min() < 60
    for z in range(3):
        sizes = np.bincount(large[z].ravel())
        assert sizes[sizes > 0].min() >= 60
    assert np.unique(large).tolist() == list(range(1, large.max() + 1))
    # The slice's largest is left when all are too small.
    assert make_fragments(affinities, FragmentOptions(min_size=10**6)).max() == 3


@pytest.mark.parametrize("value", [0, 255])
def test_an_even_slice_is_one_fragment(value):
    values = np.full((3, 2, 9, 7), value, np.uint8)
    found = make_fragments(Affinities(Volume(values, "czyx", SPACING_UM)))
    assert found.max() == 2 and (found[0] == 1).all() and (found[1] == 2).all()


def test_other_conventions_and_channels_give_the_same():
    truth = neurites((3, 40, 40), 8)
    expected = make_fragments(perfect(truth, IN_PLANE))
    assert (make_fragments(perfect(truth, LONG_RANGE)) == expected).all()
    exact = perfect(truth)
    boundary = exact.volume.like((1 - exact.volume.data / 255).astype(np.float32))
    turned = Affinities(boundary, Convention(NEAREST, "boundary"))
    assert (make_fragments(turned) == expected).all()


def test_the_threshold_is_where_it_says():
    """Boundary 0.2 everywhere but in the middle column: 0.4."""
    values = np.full((2, 1, 20, 21), 204, np.uint8)
    values[:, :, :, 10] = 153
    affinities = Affinities(Volume(values, "czyx", SPACING_UM), Convention(IN_PLANE))
    counts = [
        make_fragments(affinities, FragmentOptions(threshold=t, sigma=1)).max()
        for t in (0.1, 0.3, 0.5)
    ]
    assert counts == [1, 2, 1]


def test_bad_input_is_refused():
    values = np.zeros((3, 2, 1, 9), np.uint8)
    with pytest.raises(DataError, match="too small"):
        make_fragments(Affinities(Volume(values, "czyx", SPACING_UM)))
    along_z = Affinities(Volume(values[:1], "czyx", SPACING_UM), Convention(((-1, 0, 0),)))
    with pytest.raises(DataError, match="too small"):
        make_fragments(along_z)
    wide = np.zeros((1, 2, 9, 9), np.uint8)
    with pytest.raises(DataError, match="along y and x"):
        make_fragments(Affinities(Volume(wide, "czyx", SPACING_UM), Convention(((-1, 0, 0),))))
    flat = Affinities(Volume(np.zeros((2, 2, 9, 9), np.uint8), "czyx", SPACING_UM),
                      Convention(IN_PLANE))  # fmt: skip
    with pytest.raises(DataError, match="along z"):
        make_fragments(flat, FragmentOptions(per_slice=False))
    nan = np.full((3, 2, 9, 9), np.nan, np.float32)
    with pytest.raises(DataError, match=r"0\.\.1"):
        make_fragments(Affinities(Volume(nan, "czyx", SPACING_UM)))
    with pytest.raises(RecipeError, match=r"0\.\.1"):
        FragmentOptions(threshold=1.5)
    with pytest.raises(RecipeError, match="sigma"):
        FragmentOptions(sigma=float("nan"))
    with pytest.raises(RecipeError, match="min_size"):
        FragmentOptions(min_size=-1)


def test_walls_keep_what_they_close_off_from_seeds():
    labels = np.full((1, 7), PADDING, np.int32)
    labels[0, 1:6] = [1, 0, WALL, 0, 0]
    heights = np.array([-1, 3, 2, -1, 1, 2, -1], np.float32)
    above = np.zeros(7, np.int32)
    passes.ways_up(heights, STEPS, ((-1, 1),), above)
    passes.follow(above, labels.reshape(-1))
    assert labels[0, 1:6].tolist() == [1, 1, WALL, 0, 0]
