"""Chunks that are missing or damaged are found and named, in our arrays and in those of others."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.core import DataError, OutputError, Volume
from brodmann.io import read_volume, write_volume
from brodmann.io.integrity import (
    flush,
    folder_of,
    is_ours,
    missing_chunks,
    read_checked,
    source_of,
)
from brodmann.io.ngff import open_output

SHAPE, CHUNKS, SHARDS = (10, 21, 30), (5, 7, 8), (10, 14, 16)
VALUES = np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.uint16)
EVERY = tuple(slice(0, n) for n in SHAPE)


@pytest.fixture(params=[None, SHARDS], ids=["chunks", "shards"])
def ours(request, tmp_path):
    array = open_output(
        tmp_path / "a.zarr", SHAPE, np.uint16, "zyx", (1, 1, 1), CHUNKS, shards=request.param
    )
    array[...] = VALUES
    return array


def files(array):
    return sorted(p for p in (folder_of(array) / "c").rglob("*") if p.is_file())


def test_a_whole_array_is_read_as_it_is(ours):
    assert is_ours(ours) and missing_chunks(ours) == []
    window = (slice(3, 9), slice(0, 20), slice(11, 30))
    assert np.array_equal(read_checked(ours, window), VALUES[window])
    flush(ours, EVERY)


def test_a_lost_file_is_an_error_where_it_is_touched(ours):
    lost = folder_of(ours) / "c" / "0" / "1" / "0"
    lost.unlink()
    inside = (slice(0, 4), slice(14, 15), slice(0, 8))
    if not ours.shards:
        inside = (slice(0, 4), slice(7, 8), slice(0, 8))
    with pytest.raises(DataError, match=r"a chunk is missing .*c/0/1/0"):
        read_checked(ours, inside)
    away = (slice(0, 4), slice(0, 7), slice(0, 8))
    assert np.array_equal(read_checked(ours, away), VALUES[away])
    first = (slice(0, 4), slice(0, 14), slice(16, 17))
    assert np.array_equal(read_checked(ours, first), VALUES[first])
    with pytest.raises(OutputError):
        flush(ours, EVERY)


@pytest.mark.parametrize("where", [3, -30])
def test_a_flipped_bit_is_an_error_that_names_the_chunk(ours, where):
    path = folder_of(ours) / "c" / "0" / "0" / "0"
    data = bytearray(path.read_bytes())
    data[where] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"a chunk is damaged \(chunk \d, \d, \d in .*c/0/0/0\)"):
        read_checked(ours, EVERY)


def test_a_file_cut_short_is_an_error(ours):
    path = files(ours)[-1]
    path.write_bytes(path.read_bytes()[:11])
    with pytest.raises(DataError, match=r"a chunk is damaged .*" + path.parts[-1]):
        read_checked(ours, EVERY)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("shards", [None, SHARDS])
def test_others_leave_chunks_out_and_these_are_counted(tmp_path, version, shards):
    if version == 2 and shards:
        pytest.skip("Zarr 2 has no shards")
    array = zarr.create_array(
        tmp_path / "b.zarr", shape=SHAPE, chunks=CHUNKS, shards=shards, dtype="uint16", zarr_format=version
    )  # fmt: skip
    values = VALUES.copy()
    values[:5, 7:14, :8] = 0
    values[5:, 14:, 24:] = 0
    array[...] = values
    assert not is_ours(array)
    assert {chunk.index for chunk in missing_chunks(array)} == {(0, 1, 0), (1, 2, 3)}
    assert np.array_equal(read_checked(array, EVERY), values)
    volume = read_volume(tmp_path / "b.zarr", spacing=(1, 1, 1))
    assert source_of(volume.data).shape == SHAPE


def test_a_damaged_chunk_of_others_is_named(tmp_path):
    array = zarr.create_array(tmp_path / "b.zarr", shape=SHAPE, chunks=CHUNKS, dtype="uint16")
    array[...] = VALUES
    path = folder_of(array) / "c" / "1" / "2" / "0"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"chunk 1, 2, 0 in .*c/1/2/0"):
        read_checked(array, EVERY)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_windows_that_cover_list_each_missing_chunk_once(tmp_path_factory, data):
    shards = data.draw(st.sampled_from([None, SHARDS]))
    path = tmp_path_factory.mktemp("z") / "b.zarr"
    array = zarr.create_array(path, shape=SHAPE, chunks=CHUNKS, shards=shards, dtype="uint8")
    mask = np.zeros(SHAPE, np.uint8)
    for _ in range(data.draw(st.integers(0, 4))):
        at = [data.draw(st.integers(0, n - 1)) for n in SHAPE]
        mask[tuple(at)] = 1
    array[...] = mask
    # Chunks by brute force: those whose part of the mask is empty.
    counts = [-(-n // c) for n, c in zip(SHAPE, CHUNKS)]
    empty = {
        at for at in np.ndindex(*counts)
        if not mask[tuple(slice(i * c, (i + 1) * c) for i, c in zip(at, CHUNKS))].any()
    }  # fmt: skip
    assert {chunk.index for chunk in missing_chunks(array)} == empty
    size = [data.draw(st.integers(1, n)) for n in SHAPE]
    found = []
    for at in np.ndindex(*(-(-n // s) for n, s in zip(SHAPE, size))):
        window = tuple(slice(i * s, min((i + 1) * s, n)) for i, s, n in zip(at, size, SHAPE))
        found += [chunk.index for chunk in missing_chunks(array, window, begun_within=True)]
    assert sorted(found) == sorted(empty)


def test_sources_of_volumes(tmp_path):
    volume = Volume(VALUES, "zyx", (1, 1, 1))
    for name, there in (("a.zarr", True), ("a.h5", False), ("a.tif", False)):
        write_volume(tmp_path / name, volume)
        assert (source_of(read_volume(tmp_path / name).data) is not None) == there
    assert source_of(VALUES) is None
    assert source_of(zarr.array(VALUES)) is None, "in memory there are no files"
