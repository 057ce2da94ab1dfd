"""Copies for reading in blocks: the same voxels, whole files by one writer, resumable."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cells import SPACING, random_volume

from brodmann.core import DataError, OutputError, Volume
from brodmann.io import write_volume
from brodmann.io.integrity import is_ours
from brodmann.pipeline.cells import convert, open_brain, to_zarr
from brodmann.pipeline.cells.source import cautions, stamp_of


class Chunked:
    """The form of an array with chunks."""

    dtype = np.dtype(np.uint16)

    def __init__(self, shape, chunks):
        self.shape, self.chunks = shape, chunks


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_files_hold_whole_chunks_and_whole_pieces_of_the_source(data):
    shape = tuple(data.draw(st.integers(1, n)) for n in (3000, 12000, 12000))
    chunks = data.draw(st.sampled_from([
        None, (1, *shape[1:]), (1, 8, shape[2]), (64, 64, 64), (1, 512, 512),
    ]))  # fmt: skip
    chunks = chunks and tuple(min(c, n) for c, n in zip(chunks, shape))
    chunk, piece = convert.piece_of(Volume(Chunked(shape, chunks), "zyx", SPACING))
    assert all(p % c == 0 for p, c in zip(piece, chunk))
    for p, c, n in zip(piece, chunks or (1, 1, 1), shape):
        assert p >= n or p % c == 0 or c % p or p >= c
    if chunks == (1, *shape[1:]) and math.prod(chunks) > convert.VOXELS // convert.DEPTH:
        assert chunk[0] == 1 and all(p >= n for p, n in zip(piece[1:], shape[1:]))
        most = max(math.prod(piece[1:]), convert.VOXELS)
    else:
        most = max(
            convert.VOXELS, math.prod(-(-u // c) * c for u, c in zip(chunks or chunk, chunk))
        )
    assert math.prod(piece) <= most


@pytest.mark.parametrize("voxels", [2000, 1 << 24])
def test_a_copy_holds_the_same_voxels(tmp_path, monkeypatch, voxels):
    monkeypatch.setattr(convert, "VOXELS", voxels)
    monkeypatch.setattr(convert, "CHUNK", 16)
    volume = random_volume((7, 50, 70), 3, 200, np.uint16)
    (tmp_path / "p").mkdir()
    for z, plane in enumerate(volume.data):
        tifffile.imwrite(tmp_path / f"p/{z}.tif", plane, compression="zlib", rowsperstrip=50)
    planes = open_brain(tmp_path / "p", spacing=SPACING)
    copy = to_zarr(planes, tmp_path / "copy.zarr")
    assert np.array_equal(copy.numpy(), volume.data) and copy.spacing == SPACING
    assert is_ours(zarr.open_array(str(tmp_path / "copy.zarr"), path="0"))
    assert not (tmp_path / "copy.zarr.work").exists()
    # It is taken as it is, and only for the volume that it is of.
    stamp = stamp_of(copy)
    assert stamp_of(to_zarr(planes, tmp_path / "copy.zarr")) == stamp
    with pytest.raises(OutputError, match="a copy of another volume is in the way"):
        to_zarr(random_volume((7, 50, 70), 4), tmp_path / "copy.zarr")
    write_volume(tmp_path / "other.zarr", volume)
    with pytest.raises(OutputError, match="something else is in the way"):
        to_zarr(planes, tmp_path / "other.zarr")
    with pytest.raises(OutputError, match=r"end the name in \.zarr"):
        to_zarr(planes, tmp_path / "copy")
    with pytest.raises(OutputError, match="one channel"):
        to_zarr(Volume(np.zeros((2, 3, 4, 5)), "czyx", SPACING), tmp_path / "c.zarr")


def test_a_stopped_copy_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "VOXELS", 3000)
    monkeypatch.setattr(convert, "CHUNK", 16)
    volume = random_volume((7, 50, 70), 3, 200, np.uint16)
    (tmp_path / "p").mkdir()
    for z, plane in enumerate(volume.data):
        tifffile.imwrite(tmp_path / f"p/{z}.tif", plane, compression="zlib", rowsperstrip=50)
    planes = open_brain(tmp_path / "p", spacing=SPACING)
    whole = (tmp_path / "p/4.tif").read_bytes()
    (tmp_path / "p/4.tif").write_bytes(whole[:200])
    with pytest.raises(DataError, match=r"4\.tif; copy, block 4 \(z 4:5"):
        to_zarr(planes, tmp_path / "copy.zarr")
    assert not (tmp_path / "copy.zarr").exists()
    (tmp_path / "p/4.tif").write_bytes(whole)
    said = []
    copy = to_zarr(planes, tmp_path / "copy.zarr", report=lambda *what: said.append(what[1:3]))
    assert said[0] == (4, 7) and np.array_equal(copy.numpy(), volume.data)


def test_cautions_name_what_helps():
    shape = (1800, 9000, 7000)
    block = (80, 300, 300)

    def of(chunks):
        return cautions(Volume(Chunked(shape, chunks), "zyx", SPACING), block)

    assert of((64, 64, 64)) == [] and of((1, 128, 128)) == []
    striped, whole = of((1, 200, 7000)), of((16, 9000, 7000))
    assert len(striped) == 1 and "times what a block needs" in striped[0]
    assert len(whole) == 2 and "2.0 GB in each worker" in whole[0]
    assert all("--to-zarr" in line for line in striped + whole)


def test_two_datasets_of_a_file_are_told_apart(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "ab":
            file[name] = np.zeros((3, 4, 5), np.uint8)
    a, b = (open_brain(f"{tmp_path / 'a.h5'}::{name}", spacing=SPACING) for name in "ab")
    assert stamp_of(a) != stamp_of(b)
    assert stamp_of(a) == stamp_of(open_brain(f"{tmp_path / 'a.h5'}::a", spacing=SPACING))
