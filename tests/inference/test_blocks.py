"""Blocks own every voxel once; marks say what is done, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.core import DataError, RecipeError
from brodmann.inference.blocks import BlockGrid, Marks, work_key

sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(0, 4)), min_size=1, max_size=3)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(sizes)
def test_every_voxel_is_owned_once_and_halos_are_clipped(axes):
    shape, block, halo = (tuple(a[i] for a in axes) for i in range(3))
    grid = BlockGrid(shape, block, halo)
    seen = np.zeros(shape, int)
    for number, one in enumerate(grid):
        assert one.number == number
        seen[one.window] += 1
        assert one.voxels == seen[one.window].size
        padded = np.pad(np.arange(seen.size).reshape(shape), [(h, h) for h in halo], constant_values=-1)  # fmt: skip
        around = padded[tuple(slice(w.start, w.stop + 2 * h) for w, h in zip(one.window, halo))]
        outer = np.arange(seen.size).reshape(shape)[one.outer]
        # The halo that the volume has: what is left of the padded block without the padding.
        assert sorted(outer.ravel()) == sorted(around[around >= 0])
        assert np.array_equal(outer[one.inner], np.arange(seen.size).reshape(shape)[one.window])
    assert (seen == 1).all()


@settings(deadline=None, max_examples=60)
@given(sizes, st.randoms(use_true_random=False))
def test_blocks_under_a_window(axes, random):
    grid = BlockGrid(tuple(a[0] for a in axes), tuple(a[1] for a in axes))
    spans = [sorted(random.sample(range(n + 1), 2)) for n in grid.shape]
    window = tuple(slice(*span) for span in spans)
    brute = [b.number for b in grid if all(w.start < o.stop and o.start < w.stop for w, o in zip(b.window, window))]  # fmt: skip
    assert grid.touching(window) == brute


def test_bad_grids_are_refused():
    with pytest.raises(DataError, match="empty volume"):
        BlockGrid((0, 4), (1, 1))
    for block, halo in (((0, 4), ()), ((4,), ()), ((4, 4), (-1, 0)), ((4, 4), (1,))):
        with pytest.raises(RecipeError):
            BlockGrid((8, 8), block, halo)
    with pytest.raises(IndexError):
        BlockGrid((4,), (2,))[2]


def test_marks_of_other_work_are_cleared(tmp_path):
    marks = Marks(tmp_path / "m", "a")
    for number in (0, 3, 999, 1000, 2500):
        marks.write(number, {"n": number})
    again = Marks(tmp_path / "m", "a")
    assert again.read(2500) == {n: {"n": n} for n in (0, 3, 999, 1000)}
    assert again.get(2500) == {"n": 2500} and again.get(1) is None
    assert Marks(tmp_path / "m", "b").read(3000) == {}
    assert Marks(tmp_path / "m", "a").read(3000) == {}, "b has cleared them"


@pytest.mark.parametrize("left", ["", "{", '{"key": "a"}', '{"key": "b", "facts": {}}', "[]"])
def test_a_damaged_mark_marks_nothing(tmp_path, left):
    marks = Marks(tmp_path / "m", "a")
    marks.write(1, {})
    (path,) = (tmp_path / "m").rglob("1.json")
    path.write_text(left)
    assert marks.get(1) is None and marks.read(5) == {}


def test_a_clear_that_was_cut_short_leaves_no_valid_marks(tmp_path):
    marks = Marks(tmp_path / "m", "a")
    marks.write(1, {})
    (tmp_path / "m" / "key").unlink()
    assert Marks(tmp_path / "m", "a").read(5) == {}


def test_keys():
    assert work_key({"a": 1}, [2]) != work_key({"a": 1}, [3])
    assert work_key(json.loads('{"a": 1, "b": 2}')) == work_key({"b": 2, "a": 1})
