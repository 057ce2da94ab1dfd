"""One pass over all labels against scipy's opening, label by label."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brodmann.augment.opening import ball, opened, seams


def reference(labels, changed, radius):
    """Every label opened by itself; what falls away takes the nearest that stays."""
    footprint = np.zeros([2 * int(r) + 1 for r in radius], bool)
    footprint[tuple((ball(radius) + [int(r) for r in radius]).T)] = True
    stays = np.zeros(labels.shape, bool)
    for label in np.unique(labels):
        eroded = ndimage.binary_erosion(labels == label, footprint, border_value=1)
        opening = ndimage.binary_dilation(eroded, footprint)
        stays |= opening & (labels == label)
    for label in np.unique(labels):
        if not ((labels == label) & (stays | ~changed)).any():
            stays |= labels == label
    fixed = stays | ~changed
    return ndimage.distance_transform_edt(~fixed), fixed


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 1), (2, 2), (1, 2), (1, 1, 1), (0.5, 2, 2)]))
def test_equals_an_opening_of_every_label(seed, radius):
    rng = np.random.default_rng(seed)
    shape = rng.integers(6, 24, len(radius)) if len(radius) == 2 else rng.integers(4, 9, 3)
    coarse = rng.integers(0, 4, [-(-n // 4) for n in shape])
    labels = np.kron(coarse, np.ones([4] * len(shape), int))[tuple(slice(n) for n in shape)]
    labels = np.where(rng.random(labels.shape) < 0.08, 7, labels).astype(np.uint16)
    changed = rng.random(labels.shape) < rng.uniform(0.3, 1)
    found = opened(labels, changed, radius)
    np.testing.assert_array_equal(found[~changed], labels[~changed])
    distance, fixed = reference(labels, changed, radius)
    np.testing.assert_array_equal(found[fixed], labels[fixed])
    # Among several nearest pixels any one's label will do.
    for point in np.argwhere(~fixed):
        if len(set(radius)) == 1 and distance[tuple(point)] <= 6 * radius[0]:
            away = np.sqrt(((np.argwhere(fixed) - point) ** 2).sum(1))
            near = labels[tuple(np.argwhere(fixed)[away <= away.min() + 1e-9].T)]
            assert found[tuple(point)] in near
    assert set(np.unique(found)) <= set(np.unique(labels))


def test_slivers_go_and_thin_layers_stay():
    labels = np.ones((20, 30), np.uint8)
    labels[5] = 2  # One pixel thick, all there is of it.
    labels[12:, 10:] = 3
    labels[10:12, 20] = 3  # A spur.
    found = opened(labels, np.ones(labels.shape, bool), (2, 2))
    assert (found[5] == 2).all() and found[10, 20] == 1
    assert (opened(labels, np.zeros(labels.shape, bool), (2, 2)) == labels).all()
    assert (opened(labels, np.ones(labels.shape, bool), (0.9, 0.9)) == labels).all()


def test_seams_lie_within_two_radii_of_a_border_between_parts():
    rng = np.random.default_rng(0)
    origin = np.kron(rng.integers(0, 3, (4, 5)), np.ones((7, 9), int)).astype(np.uint8)
    found = seams(origin, (2, 1))
    for y, x in np.ndindex(origin.shape):
        # A border lies between a pixel and the next: one side of it is a pixel nearer.
        box = origin[max(y - 5, 0) : y + 6, max(x - 3, 0) : x + 4]
        inner = origin[max(y - 4, 0) : y + 5, max(x - 2, 0) : x + 3]
        if found[y, x]:
            assert origin[y, x] > 0 and len(np.unique(box)) > 1
        elif origin[y, x] > 0:
            cross = np.concatenate(
                [origin[max(y - 4, 0) : y + 5, x], origin[y, max(x - 2, 0) : x + 3]]
            )
            assert len(np.unique(cross)) == 1, inner
    assert not seams(np.ones((6, 6), np.uint8), (2, 2)).any()
