"""Surface distances against MONAI, and against all pairs of boundary points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from brodmann.core import DataError, keyed_rng
from brodmann.metrics import Surface, summary, surface_distances, surfaces


def smooth(shape, *key, sigma=2.0, threshold=0.0):
    """A random blob mask."""
    noise = keyed_rng(2, *key).normal(size=shape)
    return ndimage.gaussian_filter(noise, sigma, mode="nearest") > threshold


def brute(a, b, spacing, tolerance):
    """All five numbers from all pairs of boundary points."""
    points = []
    for mask in (a, b):
        edge = mask & ~ndimage.binary_erosion(mask)
        points.append(np.argwhere(edge) * np.asarray(spacing))
    distances = cdist(*points)
    ab, ba = distances.min(1), distances.min(0)
    both = np.concatenate([ab, ba])
    return (
        both.max(),
        max(np.percentile(ab, 95), np.percentile(ba, 95)),
        both.mean(),
        (ab.mean() + ba.mean()) / 2,
        (both <= tolerance).mean(),
    )


def values(surface: Surface) -> tuple[float, ...]:
    return tuple(vars(surface).values())


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10_000),
    st.sampled_from([(20, 31), (7, 12, 11), (1, 9, 9), (30, 1)]),
    st.tuples(*[st.floats(0.2, 30)] * 3),
)
def test_matches_all_pairs(seed, shape, steps):
    a, b = smooth(shape, "a", seed), smooth(shape, "b", seed)
    spacing = steps[: len(shape)]
    # A tolerance that no distance equals, so that rounding decides nothing.
    tolerance = 1.37 * spacing[0]
    found = surface_distances(a, b, spacing, tolerance_um=tolerance)
    if a.any() and b.any():
        np.testing.assert_allclose(values(found), brute(a, b, spacing, tolerance), rtol=1e-9)
    else:
        assert not found.matched


@pytest.mark.parametrize(
    ("shape", "spacing"), [((40, 52), (10.0, 25.0)), ((14, 20, 18), (40.0, 10.0, 25.0))]
)
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_matches_monai(shape, spacing):
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    a, b = smooth(shape, "ma"), smooth(shape, "mb")
    b = a ^ (b & smooth(shape, "mc", threshold=0.1))
    one = [torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32)) for mask in (b, a)]
    options = {"include_background": False, "spacing": spacing}
    theirs = [
        metrics.compute_hausdorff_distance(*one, **options),
        metrics.compute_hausdorff_distance(*one, percentile=95, **options),
        metrics.compute_average_surface_distance(*one, symmetric=True, **options),
    ]
    nsd = metrics.compute_surface_dice(*one, class_thresholds=[26.0], **options)
    directed = [
        metrics.compute_average_surface_distance(*pair, **options) for pair in (one, one[::-1])
    ]
    found = surface_distances(a, b, spacing, tolerance_um=26.0)
    assert found.hausdorff_um == pytest.approx(float(theirs[0]), rel=1e-5)
    assert found.hd95_um == pytest.approx(float(theirs[1]), rel=1e-5)
    assert found.assd_um == pytest.approx(float(theirs[2]), rel=1e-5)
    assert found.contour_um == pytest.approx(float(sum(directed)) / 2, rel=1e-5)
    assert found.nsd == pytest.approx(float(nsd), rel=1e-5)


@pytest.mark.parametrize("shape", [(30, 44), (9, 16, 15)])
def test_many_classes_at_once_are_each_the_binary_case(shape):
    rng = keyed_rng(4, "classes")
    field = [ndimage.gaussian_filter(rng.normal(size=(5, *shape)), (0, *[2] * len(shape)))]
    truth = field[0].argmax(0)
    prediction = (field[0] + 0.4 * np.roll(field[0], 2, 1)).argmax(0)
    truth[smooth(shape, "ignored", threshold=0.2)] = -1
    spacing = (3.0, 10.0, 7.0)[-len(shape) :]
    found = surfaces(truth, prediction, 5, spacing, tolerance_um=8.1)
    assert list(found) == [1, 2, 3, 4]
    known = truth != -1
    for index, surface in found.items():
        a, b = (truth == index) & known, (prediction == index) & known
        np.testing.assert_allclose(values(surface), brute(a, b, spacing, 8.1), rtol=1e-9)
    mask = surface_distances(truth == 2, prediction == 2, spacing, tolerance_um=8.1, ignore=~known)
    assert mask == found[2]
    assert surfaces(truth, prediction, 5, spacing, tolerance_um=8.1, classes=[0, 3])[3] == found[3]


def test_empty_masks():
    empty, some = np.zeros((6, 7), bool), np.zeros((6, 7), bool)
    some[2:4, 2:5] = True
    neither = surface_distances(empty, empty, (1, 1), tolerance_um=1)
    assert np.isnan(values(neither)).all() and not neither.present
    for pair in ((some, empty), (empty, some)):
        one = surface_distances(*pair, (1, 1), tolerance_um=1)
        assert values(one) == (np.inf, np.inf, np.inf, np.inf, 0.0)
        assert one.present and not one.matched
    same = surface_distances(some, some, (1, 1), tolerance_um=0)
    assert values(same) == (0, 0, 0, 0, 1)
    found = summary([neither, one, same])
    assert found["matched"] == 1 and found["one_sided"] == 1
    assert found["mean_hausdorff_um"] == 0 and found["mean_nsd"] == 0.5
    assert summary([neither])["mean_nsd"] is None


def test_closed_form_shift_and_tolerance_in_decimals():
    a = np.zeros((30, 30), bool)
    a[10, 5:25] = True
    found = surface_distances(a, np.roll(a, 3, 0), (0.1, 4.0), tolerance_um=0.3)
    assert found.hausdorff_um == pytest.approx(0.3)
    assert found.contour_um == pytest.approx(0.3)
    # 3 x 0.1 is a little more than 0.3 in binary.
    assert found.nsd == 1
    assert surface_distances(a, np.roll(a, 3, 0), (0.1, 4.0), tolerance_um=0.29).nsd == 0


def test_everything_ignored_is_neither():
    a = np.ones((5, 5), int)
    assert not surfaces(-a, a, 2, (1, 1), tolerance_um=1)[1].present


def test_bad_arguments():
    a = np.zeros((4, 5), int)
    with pytest.raises(DataError, match="one shape"):
        surfaces(a, a.T, 2, (1, 1), tolerance_um=1)
    with pytest.raises(DataError, match="2 positive"):
        surfaces(a, a, 2, (1, 1, 1), tolerance_um=1)
    with pytest.raises(DataError, match="tolerance"):
        surfaces(a, a, 2, (1, 1), tolerance_um=-1)
