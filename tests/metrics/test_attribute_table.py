"""Tables read by window against the same labels in memory."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial.distance import cdist

from brodmann.core import DataError, Volume, keyed_rng
from brodmann.io import read_volume, write_volume
from brodmann.metrics.attribute_table import (
    READ_VOXELS,
    attribute_table,
    columns,
    vocabulary_of,
    write_table,
)
from brodmann.metrics.attributes import ATTRIBUTES, attributes_of

IDS = {"vessel": 1, "cell": 2, "axon": 3, "ignore": 9}
SPACING = (2.0, 0.5, 0.7)


def tissue(shape=(22, 40, 37), *key):
    """Cells that cross every seam, vessels, axons and an unknown corner."""
    rng = keyed_rng(0, "tissue", *key)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    labels = np.zeros(shape, np.uint8)
    labels[rng.random(shape) < 0.1] = 3
    labels[smooth > np.quantile(smooth, 0.8)] = 2
    labels[..., 11:13] = 1
    labels[:8, :9, :7] = 9
    return labels


def bare(row):
    return {name: row[name] for name in ATTRIBUTES}


def same(found, wanted):
    """To the last bit, NaN where NaN."""
    np.testing.assert_array_equal(list(found.values()), list(wanted.values()))


class Watched:
    """An array that counts how much of it is read at a time."""

    def __init__(self, data, chunks=None):
        self.data, self.shape, self.dtype = data, data.shape, data.dtype
        self.largest, self.total = 0, 0
        if chunks:
            self.chunks = chunks

    def __getitem__(self, key):
        part = self.data[key]
        self.largest, self.total = max(self.largest, part.size), self.total + part.size
        return part


@pytest.mark.parametrize("chunks", [None, (8, 16, 16)])
@pytest.mark.parametrize("read_voxels", [1, 37, 700, 5000, READ_VOXELS])
@pytest.mark.parametrize("connectivity", [None, 26])
def test_the_whole_is_that_in_memory_for_all_windows(read_voxels, connectivity, chunks):
    labels = tissue((12, 20, 17))
    watched = Watched(labels, chunks)
    (row,) = attribute_table(
        Volume(watched, "zyx", SPACING), IDS, "volume", connectivity=connectivity,
        min_voxels=2, read_voxels=read_voxels,
    )  # fmt: skip
    wanted = attributes_of(labels, SPACING, **IDS, connectivity=connectivity, min_voxels=2)
    same(bare(row), wanted)
    assert row["known"] == (labels != 9).mean() and wanted["cell_count"] > 5
    assert watched.total == labels.size
    least = 17 if chunks is None else 8 * 16 * 16
    assert watched.largest <= max(read_voxels, least)


@pytest.mark.parametrize("read_voxels", [300, 4000, READ_VOXELS])
def test_slices_are_pictures_of_their_own(read_voxels):
    labels = tissue()
    watched = Watched(labels)
    rows = attribute_table(Volume(watched, "zyx", SPACING), IDS, "slice", connectivity=8,
                           read_voxels=read_voxels)  # fmt: skip
    assert [row["z"] for row in rows] == list(range(len(labels)))
    for row, plane in zip(rows, labels):
        same(bare(row), attributes_of(plane, SPACING[1:], **IDS, connectivity=8))
    assert watched.total == labels.size and watched.largest <= max(read_voxels, 37)


@pytest.mark.parametrize("read_voxels", [100, 3000, READ_VOXELS])
def test_blocks_of_their_own(read_voxels):
    labels = tissue()
    rows = attribute_table(Volume(labels, "zyx", SPACING), IDS, "block", block=(9, 16, 20),
                           whole_cells=False, read_voxels=read_voxels)  # fmt: skip
    assert len(rows) == 3 * 3 * 2
    covered = np.zeros(labels.shape, int)
    for row in rows:
        at = tuple(
            slice(row[axis], row[axis] + row[size])
            for axis, size in zip("zyx", ("depth", "height", "width"))
        )
        covered[at] += 1
        same(bare(row), attributes_of(labels[at], SPACING, **IDS))
    assert (covered == 1).all()
    assert rows == sorted(rows, key=lambda row: (row["z"], row["y"], row["x"]))


@pytest.mark.parametrize("read_voxels", [100, 3000, READ_VOXELS])
def test_whole_cells_are_counted_once_where_their_centre_lies(read_voxels):
    labels = tissue()
    rows = attribute_table(Volume(labels, "zyx", SPACING), IDS, "block", block=(9, 16, 20),
                           read_voxels=read_voxels)  # fmt: skip
    marked, count = ndimage.label(labels == 2)
    centres = np.array([np.argwhere(marked == i).mean(0) for i in range(1, count + 1)])
    sizes = np.bincount(marked.reshape(-1))[1:] * math.prod(SPACING)
    far = cdist(centres * SPACING, centres * SPACING)
    nearest = np.where(np.eye(count, dtype=bool), np.inf, far).min(1)
    for row in rows:
        low = np.array([row[axis] for axis in "zyx"]) - 0.5
        high = low + np.array([row["depth"], row["height"], row["width"]])
        mine = ((centres >= low) & (centres < high)).all(1)
        assert row["cell_count"] == mine.sum()
        if mine.any():
            assert row["cell_size"] == pytest.approx(sizes[mine].mean(), rel=1e-12)
            assert row["cell_distance"] == pytest.approx(nearest[mine].mean(), rel=1e-12)
        else:
            assert math.isnan(row["cell_size"]) and math.isnan(row["cell_distance"])
    assert sum(row["cell_count"] for row in rows) == count


@settings(max_examples=50, deadline=None)
@given(
    arrays(
        np.uint8, st.tuples(*(st.integers(1, 7),) * 3), elements=st.sampled_from([0, 1, 2, 2, 9])
    ),
    st.tuples(*(st.integers(2, 8),) * 3),
    st.integers(5, 100),
    st.sampled_from([6, 18, 26]),
)
def test_any_labels_blocks_and_windows(labels, block, read_voxels, connectivity):
    volume = Volume(labels, "zyx", SPACING)
    options = {"connectivity": connectivity, "read_voxels": read_voxels}
    (row,) = attribute_table(volume, IDS, "volume", **options)
    whole = attributes_of(labels, SPACING, **IDS, connectivity=connectivity)
    same(bare(row), whole)
    rows = attribute_table(volume, IDS, "block", block=block, **options)
    counts = [row["cell_count"] for row in rows if not math.isnan(row["cell_count"])]
    assert sum(counts) == (0 if math.isnan(whole["cell_count"]) else whole["cell_count"])
    for row in attribute_table(volume, IDS, "block", block=block, whole_cells=False, **options):
        at = tuple(
            slice(row[axis], row[axis] + row[size])
            for axis, size in zip("zyx", ("depth", "height", "width"))
        )
        same(bare(row), attributes_of(labels[at], SPACING, **IDS, connectivity=connectivity))


def test_a_section_is_a_slice_and_may_be_cut_in_tiles():
    labels = tissue()[14]
    section = Volume(labels, "yx", (0.5, 0.7))
    wanted = attributes_of(labels, (0.5, 0.7), **IDS)
    for per in ("slice", "volume"):
        (row,) = attribute_table(section, IDS, per, read_voxels=50)
        same(bare(row), wanted)
        assert list(row) == ["known", *ATTRIBUTES]
    tiles = attribute_table(section, IDS, "block", block_um=(8.2, 14))
    assert (tiles[0]["height"], tiles[0]["width"]) == (16, 20) and "z" not in tiles[0]
    assert sum(row["cell_count"] for row in tiles) == wanted["cell_count"]


@pytest.mark.parametrize("name", ["labels.zarr", "labels.tif", "labels.h5", "labels.nii.gz"])
def test_files_are_read_by_window(tmp_path, name):
    labels = tissue()
    path = write_volume(tmp_path / name, Volume(labels, "zyx", SPACING), labels=True)
    seen = []
    (row,) = attribute_table(read_volume(path), IDS, "volume", read_voxels=4000,
                             report=lambda done, total: seen.append((done, total)))  # fmt: skip
    same(bare(row), attributes_of(labels, SPACING, **IDS))
    # One chunk of a zarr holds all of it.
    assert len(seen) > (not name.endswith(".zarr")) and seen[-1] == (labels.size, labels.size)


def test_published_distances_are_of_each_picture():
    labels = tissue()
    rows = attribute_table(Volume(labels, "zyx", SPACING), IDS, published_distance=True)
    for row, plane in zip(rows, labels):
        same(bare(row), attributes_of(plane, SPACING[1:], **IDS, published_distance=True))


def test_the_table_is_written_with_units(tmp_path):
    rows = attribute_table(Volume(tissue(), "zyx", SPACING), {"cell": 2, "vessel": 1})
    path = write_table(tmp_path / "table.csv", rows, "slice", 3)
    back = list(csv.DictReader(path.open(encoding="utf-8")))
    assert list(back[0]) == [head for _, head in columns("slice", 3)]
    assert "cell_size_um2" in back[0] and back[3]["axon_density"] == ""
    assert float(back[3]["cell_size_um2"]) == pytest.approx(rows[3]["cell_size"], rel=1e-9)
    assert ("cell_size", "cell_size_um3") in columns("volume", 3)
    assert ("cell_size", "cell_size_um2") in columns("block", 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocabulary": {0, 1, 2}}, "outside the vocabulary.*found 3, 9"),
        ({"per": "row"}, "slice, volume or block"),
        ({"per": "block"}, "size of blocks"),
        ({"block": (2, 2, 2)}, "size of blocks"),
        ({"per": "block", "block": (2, 2)}, "each of the axes"),
        ({"per": "block", "block": (2, 2, 0)}, "each of the axes"),
        ({"per": "block", "block": (2, 2, 2.5)}, "each of the axes"),
        ({"per": "block", "block": (2, 2, 2), "block_um": (1, 1, 1)}, "each of the axes"),
        ({"connectivity": 26}, "4 or 8"),
        ({"per": "volume", "connectivity": 4}, "6 or 18 or 26"),
    ],
)
def test_faults_are_named(change, words):
    with pytest.raises(DataError, match=words):
        attribute_table(Volume(tissue(), "zyx", SPACING), IDS, **change)


def test_labels_are_whole_numbers_of_one_channel():
    with pytest.raises(DataError, match=r"labels\.tif.*float64"):
        attribute_table(Volume(np.zeros((4, 4)), "yx", (1, 1)), IDS, where="labels.tif")
    with pytest.raises(DataError, match="one channel"):
        attribute_table(Volume(np.zeros((2, 4, 4), int), "cyx", (1, 1)), IDS)
    assert vocabulary_of(IDS) == {0, 1, 2, 3, 9}
