"""Labels between two slices: closed forms, symmetry, and brute-force references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from brodmann.core import DataError, RecipeError
from brodmann.postprocess.interpolate import METHODS, interpolate_between
from brodmann.postprocess.interpolate.distance import distance_to
from brodmann.postprocess.interpolate.times import FULL

BOTH = ["recursive", "distance"]
maps = arrays(np.uint8, (11, 13), elements=st.integers(0, 3))


def blobs(seed, shape=(40, 52), labels=5, count=9):
    """Nearest-seed regions: smooth borders, junctions, labels in several pieces."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    seeds, shift = rng.uniform(0, 1, (count, 2)) * shape, rng.normal(0, 4, (count, 2))
    ids = rng.integers(0, labels, count)
    pair = []
    for at in (seeds, seeds + shift):
        near = ((y - at[:, 0, None, None]) ** 2 + (x - at[:, 1, None, None]) ** 2).argmin(0)
        pair.append(ids[near].astype(np.uint16))
    return pair


def disc(radius, size=121, inside=3, outside=8, centre=(0.0, 0.0)):
    y, x = np.indices((size, size)) - size // 2
    return np.where(np.hypot(y - centre[0], x - centre[1]) <= radius, inside, outside)


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("axis, spacing", [(0, (1, 1)), (1, (1, 1)), (0, (4, 1)), (1, (0.5, 3))])
@pytest.mark.parametrize("first, last, steps", [(3, 40, 50), (40, 7, 16), (10, 17, 5), (5, 6, 9)])
def test_a_straight_border_shifts_linearly(method, axis, spacing, first, last, steps):
    def side(edge):
        line = np.where(np.arange(48) < edge, 2, 9).astype(np.int16)
        return np.ascontiguousarray(np.broadcast_to(line, (6, 48)).T if axis == 0 else [line] * 6)

    found = interpolate_between(side(first), side(last), steps, spacing=spacing, method=method)
    for step in range(steps + 1):
        edges = (found.at(step, steps) == 2).sum(axis)
        assert np.ptp(edges) == 0
        assert abs(edges[0] - (first + (last - first) * step / steps)) <= 0.5 + 1e-6


@pytest.mark.parametrize("slope", [0.3, 1.0, 2.5])
def test_a_slanted_border_shifts_linearly(slope):
    y, x = np.indices((90, 90))
    unit = np.hypot(slope, 1)

    def side(offset):
        return (slope * (x - 45) - (y - 45) < offset * unit).astype(np.uint8)

    found = interpolate_between(side(-15), side(15), 12)
    away = (slope * (x - 45) - (y - 45)) / unit
    # Far from the frame, where the border that the front starts from is cut off.
    inner = (np.abs(x - 45) < 20) & (np.abs(y - 45) < 20)
    for step in range(13):
        wrong = (found.at(step, 12) != (away < -15 + 30 * step / 12)) & inner
        assert np.abs(away - (-15 + 30 * step / 12))[wrong].max(initial=0) <= 0.5


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("first, last", [(10, 50), (45, 12)])
def test_a_disc_grows_and_shrinks_linearly(method, first, last):
    found = interpolate_between(disc(first), disc(last), 10, method=method)
    y, x = np.indices((121, 121)) - 60
    for step in range(11):
        radius = first + (last - first) * step / 10
        slice_ = found.at(step, 10)
        assert abs(np.sqrt((slice_ == 3).sum() / np.pi) - radius) <= 0.5
        wrong = slice_ != disc(radius)
        assert np.abs(np.hypot(y, x) - radius)[wrong].max(initial=0) <= 1.0


@pytest.mark.parametrize("method", BOTH)
def test_an_island_appears_at_its_centre_and_grows_linearly(method):
    found = interpolate_between(disc(-1), disc(40), 10, method=method)
    for step in range(1, 10):
        area = (found.at(step, 10) == 3).sum()
        assert abs(np.sqrt(area / np.pi) - 4 * step) <= 0.6
    # A bar thins evenly and is gone at its own end only.
    bar, none = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    bar[10:30, 5:55] = 4
    shrinking = interpolate_between(bar, none, 10, method=method)
    rows = [(shrinking.at(step, 10)[:, 30] == 4).sum() for step in range(11)]
    assert rows[0] == 20 and rows[10] == 0
    assert np.abs(np.array(rows[:10]) - np.linspace(20, 2, 10)).max() <= 1


@pytest.mark.parametrize("method", BOTH)
def test_a_label_that_vanishes_early_or_late_is_passed_over_not_jumped(method):
    def bar(*edges):
        return np.repeat(np.searchsorted(edges, np.arange(60), "right")[None], 5, 0)

    # 1 | strip of 2 | 3 becomes 1 | 3 further on: the strip is overrun from the left.
    before, after = bar(-1, 20, 30), bar(-1, 50, 50)
    found = interpolate_between(before, after, 15, method="recursive")
    for step in range(16):
        line = found.at(step, 15)[2]
        assert (np.diff(line) >= 0).all()
        assert abs((line == 1).sum() - (20 + 2 * step)) <= 0.5
    # 2 is squeezed between 1 and 3, which meet where the second slice says.
    before, after = bar(-1, 20, 44), bar(-1, 28, 28)
    found = interpolate_between(before, after, 8, method=method)
    for step in range(1, 8):
        line = found.at(step, 8)[2]
        assert (np.diff(line) >= 0).all()
        if method == "recursive":
            assert abs((line == 1).sum() - (20 + step)) <= 0.5
            assert abs((line == 3).sum() - (16 + 2 * step)) <= 0.5


@pytest.mark.parametrize("method", BOTH)
def test_labels_that_swap_ends_change_halfway(method):
    before = np.repeat(np.where(np.arange(20) < 10, 4, 7)[None], 6, 0)
    after = before[:, ::-1].copy()
    found = interpolate_between(before, after, 9, method=method)
    for step in range(10):
        assert np.array_equal(found.at(step, 9), before if step < 4.5 else after)
    # In the very middle of an even gap all of it is a tie: the smaller id.
    assert (interpolate_between(before, after, 8, method=method).at(4, 8) == 4).all()
    # With a third label between, the ends have nothing to follow; what is between stays.
    before, after = np.full((5, 30), 1), np.full((5, 30), 1)
    before[:, :8], before[:, 22:], after[:, :8], after[:, 22:] = 2, 3, 3, 2
    found = interpolate_between(before, after, 5)
    assert found.jumped == 80
    assert np.array_equal(found.at(2, 5), before) and np.array_equal(found.at(3, 5), after)


@pytest.mark.parametrize("method", METHODS)
@given(before=maps, after=maps, steps=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_ends_are_exact_and_directions_agree(method, before, after, steps):
    there = interpolate_between(before, after, steps, spacing=(1, 1.7), method=method)
    back = interpolate_between(after, before, steps, spacing=(1, 1.7), method=method)
    assert np.array_equal(there.at(0, steps), before)
    assert np.array_equal(there.at(steps, steps), after)
    still = before == after
    for step in range(1, steps):
        slice_ = there.at(step, steps)
        assert (slice_ == before)[still].all()
        assert np.isin(slice_, np.union1d(before, after)).all()
        if method == "recursive":
            assert ((slice_ == before) | (slice_ == after)).all()
        if method != "nearest":
            assert np.array_equal(slice_, back.at(steps - step, steps))
    if method == "recursive":
        assert there.jumped == back.jumped
        changed = [there.at(step, steps) == after for step in range(steps + 1)]
        assert (np.diff(np.stack(changed).astype(int), axis=0) >= 0).all()


@pytest.mark.parametrize("method", BOTH)
def test_directions_agree_on_smooth_regions_and_numbers_do_not_matter(method):
    before, after = blobs(3)
    there = interpolate_between(before, after, 12, method=method).slices(12)
    back = interpolate_between(after, before, 12, method=method).slices(12)
    assert np.array_equal(there, back[::-1])
    names = np.array([70_000, 5, 2**40, 3, 9], np.uint64)
    renamed = interpolate_between(names[before], names[after], 13, method=method).slices(13)
    # An odd number of steps has no middle, where ids break ties.
    plain = interpolate_between(before, after, 13, method=method).slices(13)
    assert np.array_equal(renamed, names[plain])
    turned = interpolate_between(before.T.copy(), after.T.copy(), 12, method=method).slices(12)
    assert (turned.transpose(0, 2, 1) == there).mean() > 0.999


def area_distance(mask, spacing):
    """Distance of pixel centres from pixels as rectangles: scipy, on a grid twice as fine."""
    fine = np.zeros([2 * n + 1 for n in mask.shape], bool)
    for y in range(3):
        for x in range(3):
            fine[y : y + 2 * mask.shape[0] : 2, x : x + 2 * mask.shape[1] : 2] |= mask
    return distance_transform_edt(~fine, np.asarray(spacing) / 2)[1::2, 1::2]


def brute_force(before, after, step, steps, spacing):
    """The largest of all labels' blended signed distances; and by how much it leads."""
    labels = np.union1d(before, after)
    diagonal = np.hypot(*(np.array(before.shape) * spacing))
    blended = []
    for label in labels:
        pair = [image == label for image in (before, after)]
        signed = [area_distance(~m, spacing) - area_distance(m, spacing) for m in pair]
        plain = [m.any() and not m.all() for m in pair]
        for i in range(2):
            if not plain[i]:
                signed[i] = np.full(before.shape, diagonal if pair[i].all() else -diagonal)
                if plain[1 - i]:
                    rest = signed[1 - i]
                    signed[i] = rest - (rest.min() if pair[i].all() else rest.max())
        blended.append((1 - step / steps) * signed[0] + step / steps * signed[1])
    ranked = np.sort(blended, 0)
    lead = ranked[-1] - ranked[-2] if len(labels) > 1 else np.full(before.shape, np.inf)
    return labels[np.argmax(blended, 0)], lead


@given(before=maps, after=maps, steps=st.integers(2, 7))
@settings(max_examples=60, deadline=None)
def test_distance_is_the_largest_blended_distance(before, after, steps):
    found = interpolate_between(before, after, steps, spacing=(2.0, 0.7), method="distance")
    for step in range(1, steps):
        expected, lead = brute_force(before, after, step, steps, (2.0, 0.7))
        sure = lead > 1e-6
        assert np.array_equal(found.at(step, steps)[sure], expected[sure])


@pytest.mark.parametrize("seed", range(6))
def test_distance_with_third_labels(seed):
    before, after = blobs(seed, labels=7, count=25)
    after = np.roll(after, 6, 1)
    found = interpolate_between(before, after, 8, method="distance")
    assert len(found.others.pixel)
    for step in (1, 3, 4, 6):
        expected, lead = brute_force(before, after, step, 8, (1.0, 1.0))
        sure = lead > 1e-6
        assert np.array_equal(found.at(step, 8)[sure], expected[sure]) and sure.mean() > 0.9


@given(mask=arrays(bool, (9, 14)), y=st.floats(0.1, 9), x=st.floats(0.1, 9))
@settings(max_examples=80, deadline=None)
def test_distance_to_is_exact(mask, y, x):
    found = distance_to(mask, (y, x))
    if not mask.any():
        assert np.isinf(found).all()
    else:
        assert found == pytest.approx(area_distance(mask, (y, x)), rel=1e-9)


def test_times_follow_geodesics_around_a_wall():
    # A bent corridor: the front has to walk round the corner, not through the wall.
    before, after = np.zeros((41, 41), np.uint8), np.zeros((41, 41), np.uint8)
    before[:5], before[:, :5] = 1, 1
    after[:5], after[:40, :5], after[40, :5] = 2, 2, 1
    before[:5, 40] = 2
    found = interpolate_between(before, after, 4)
    ticks = np.zeros(before.shape)
    ticks.reshape(-1)[found.pixels] = found.ticks / FULL
    # Its end, at the bottom left, is the last to change.
    assert ticks[39, 2] > 0.95 and ticks[2, 38] < 0.05 and 0.45 < ticks[2, 2] < 0.55
    assert (np.diff(ticks[5:40, 2]) > 0).all() and (np.diff(ticks[2, 5:40]) < 0).all()


def test_an_unknown_pixel_takes_the_other_slice():
    before, after = np.full((4, 9), 1), np.full((4, 9), 2)
    before[:, :3], after[:, :3], before[:, 4], after[:, 6] = 2, 2, 99, 99
    before[0, 0] = after[0, 0] = 99
    found = interpolate_between(before, after, 4, ignore=99)
    assert np.array_equal(found.at(0, 4), before) and np.array_equal(found.at(4, 4), after)
    middle = found.at(2, 4)
    assert (middle[1:, 4] == 2).all() and (middle[1:, 6] == 1).all() and middle[0, 0] == 99
    assert (middle == 99).sum() == 1


def test_what_is_refused():
    ok = np.zeros((3, 3), np.uint8)
    with pytest.raises(RecipeError, match="did you mean 'distance'"):
        interpolate_between(ok, ok, 2, method="distanc")
    with pytest.raises(DataError, match="whole numbers"):
        interpolate_between(ok.astype(float), ok.astype(float), 2)
    with pytest.raises(DataError, match="same shape"):
        interpolate_between(ok, ok[:2], 2)
    with pytest.raises(DataError, match="apart"):
        interpolate_between(ok, ok, 0)
    with pytest.raises(DataError, match="between 0 and 4"):
        interpolate_between(ok, ok, 4).at(5, 4)
