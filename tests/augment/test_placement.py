"""Placement by FFT against a loop over every shift."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.augment.prmix.placement import Candidate, Forbidden, best_shift, overlaps, place


def loop(forbidden, candidate, search):
    """Overlap at every shift, voxel by voxel; outside the frame all is forbidden."""
    counts = np.zeros([2 * s + 1 for s in search], int)
    points = np.argwhere(candidate.mask) + candidate.corner
    for shift in itertools.product(*(range(-s, s + 1) for s in search)):
        moved = points + shift
        inside = np.all((moved >= 0) & (moved < forbidden.shape), axis=1)
        hit = int((~inside).sum()) + int(forbidden[tuple(moved[inside].T)].sum())
        counts[tuple(np.add(shift, search))] = hit
    return counts


@st.composite
def scenes(draw):
    ndim = draw(st.sampled_from([2, 2, 2, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frame = rng.integers(3, 22 if ndim == 2 else 9, ndim)
    forbidden = rng.random(frame) < rng.uniform(0, 1)
    candidates = []
    for _ in range(draw(st.integers(1, 3))):
        size = rng.integers(1, 12 if ndim == 2 else 5, ndim)
        mask = rng.random(size) < rng.uniform(0.1, 1)
        mask.flat[0] = True
        candidates.append(Candidate(mask, tuple(int(c) for c in rng.integers(-5, frame + 3))))
    search = tuple(int(s) for s in rng.integers(0, 5, ndim))
    return forbidden, candidates, search


@pytest.mark.parametrize("engine", ["fft", "runs"])
@settings(max_examples=300, deadline=None)
@given(scene=scenes())
def test_overlaps_of_all_shifts_equal_a_loop(scene, engine):
    forbidden, candidates, search = scene
    found = overlaps(Forbidden(forbidden), candidates, search, engine)
    for candidate, counts in zip(candidates, found, strict=True):
        expected = loop(forbidden, candidate, search)
        np.testing.assert_array_equal(counts, expected)
        shift, least = best_shift(counts, 0)
        assert least == expected.min() == Forbidden(forbidden).overlap(candidate, shift)


@settings(max_examples=200, deadline=None)
@given(scenes(), st.floats(0, 0.6))
def test_the_place_is_the_best_by_its_own_rule(scene, tau):
    forbidden, candidates, search = scene
    chosen = place(Forbidden(forbidden), candidates, search, tau)
    everything = [loop(forbidden, candidate, search) for candidate in candidates]
    own = everything[chosen.index][tuple(np.add(chosen.shift, search))]
    still = [counts[search] for counts in everything]
    assert own == chosen.overlap and still[chosen.index] == chosen.overlap_unshifted
    areas = [candidate.area for candidate in candidates]
    for index, (count, area) in enumerate(zip(still, areas, strict=True)):
        if count < tau * area or count == 0:
            assert (chosen.index, chosen.shift) == (index, (0,) * forbidden.ndim)
            return
    fitting = [
        (sum((int(i) - s) ** 2 for i, s in zip(where, search)), index)
        for index, (counts, area) in enumerate(zip(everything, areas, strict=True))
        for where in np.argwhere(counts < tau * area)
    ]
    if fitting:
        assert sum(s * s for s in chosen.shift) == min(fitting)[0]
        assert own < tau * areas[chosen.index]
    else:
        least = min(c.min() / a for c, a in zip(everything, areas, strict=True))
        assert own / areas[chosen.index] == pytest.approx(least)


def printed_loop(mask, own_target, low, high, step, tau):
    """Algorithm 1 with its two faults: s_y is never reset, and the last mask is returned."""
    complement = ~own_target
    best, last = np.inf, (0, 0)
    sy = low
    for sx in range(low, high + 1, step):
        while sy <= high:
            moved = np.roll(mask, (sy, sx), (0, 1))
            last, overlap = (sy, sx), int((moved & complement).sum())
            sy += step
            if overlap < best:
                best = overlap
                if overlap < tau:
                    break
        if best < tau:
            break
    moved = np.roll(mask, last, (0, 1))
    return int((moved & complement).sum())


def test_never_more_overlap_than_the_printed_loop():
    rng = np.random.default_rng(0)
    better = 0
    for _ in range(40):
        frame = np.zeros((60, 80), bool)
        own, mask = frame.copy(), frame.copy()
        y, x, h, w = rng.integers(12, 24), rng.integers(12, 36), *rng.integers(8, 20, 2)
        own[y : y + h, x : x + w] = True
        dy, dx = rng.integers(-6, 7, 2)
        mask[y + dy : y + dy + h + 1, x + dx : x + dx + w - 2] = True
        mask &= rng.random(mask.shape) < 0.9
        theirs = printed_loop(mask, own, -8, 8, 2, 0)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        corner = (int(rows[0]), int(columns[0]))
        cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        ours = place(Forbidden(~own), [Candidate(cut, corner)], (8, 8), 0.0)
        assert ours.overlap <= theirs
        better += ours.overlap < theirs
    assert better > 20


def test_large_counts_are_exact():
    rng = np.random.default_rng(1)
    forbidden = rng.random((700, 900)) < 0.5
    mask = rng.random((600, 800)) < 0.7
    scene = Forbidden(forbidden), [Candidate(mask, (50, 50))], (5, 5)
    (counts,) = overlaps(*scene, "fft")
    assert (counts == overlaps(*scene, "runs")[0]).all()
    for shift in ((0, 0), (-5, 5), (3, -2)):
        y, x = np.add(shift, 50)
        expected = int((forbidden[y : y + 600, x : x + 800] & mask).sum())
        assert counts[tuple(np.add(shift, 5))] == expected
