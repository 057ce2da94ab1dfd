"""Precomputed folders against decoders written apart from the format's description."""

import contextlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brodmann.core import DataError, OutputError, Volume
from brodmann.io.precomputed import (
    read_precomputed,
    write_mesh_fragment,
    write_precomputed,
    write_skeleton,
)
from brodmann.io.precomputed_codec import decode_segmentation, encode_segmentation

SPACING = (0.03, 0.008, 0.008)


def brute_decode(data, shape, bits64, block=(8, 8, 8)):
    """Voxel by voxel, as the description words it: x, y, z, all offsets in 32-bit words."""
    (start,) = struct.unpack_from("<I", data)
    body = data[4 * start :]
    grid = [-(-n // b) for n, b in zip(shape, block)]
    out = np.zeros(shape, np.uint64)
    for z, y, x in np.ndindex(*shape):
        number = x // block[2] + grid[2] * (y // block[1] + grid[1] * (z // block[0]))
        first, values = struct.unpack_from("<II", body, 8 * number)
        table, bits = first & 0xFFFFFF, first >> 24
        inside = x % block[2] + block[2] * (y % block[1] + block[1] * (z % block[0]))
        code = 0
        if bits:
            (word,) = struct.unpack_from("<I", body, 4 * (values + inside * bits // 32))
            code = (word >> (inside * bits % 32)) & ((1 << bits) - 1)
        kind = "<Q" if bits64 else "<I"
        (out[z, y, x],) = struct.unpack_from(kind, body, 4 * table + code * (8 if bits64 else 4))
    return out


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([np.uint32, np.uint64]), st.sampled_from([1, 2, 5, 17, 300]))
def test_codec_is_the_brute_one(data, dtype, count):
    shape = data.draw(st.tuples(*(st.integers(1, 12),) * 3))
    seed = data.draw(st.integers(0, 1 << 30))
    rng = np.random.default_rng(seed)
    names = rng.integers(0, np.iinfo(dtype).max, count, dtype)
    ids = names[rng.integers(0, count, shape)]
    encoded = encode_segmentation(ids)
    assert np.array_equal(brute_decode(encoded, shape, dtype == np.uint64), ids)
    found = decode_segmentation(encoded, shape, dtype)
    assert found.dtype == dtype and np.array_equal(found, ids)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused_or_read_within_bounds(data):
    with contextlib.suppress(DataError):
        assert decode_segmentation(data, (9, 9, 9), np.uint64).shape == (9, 9, 9)


@given(hnp.arrays(np.uint32, (3, 9, 10), elements=st.integers(0, 40)), st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_cut_short_is_an_error(ids, cut):
    data = encode_segmentation(ids)
    with pytest.raises(DataError):
        decode_segmentation(data[: min(len(data) - 4 * cut, 8)], ids.shape, np.uint32)


@pytest.mark.parametrize(
    "dtype, channels, options",
    [
        ("uint8", 1, {}),
        ("uint16", 3, {}),
        ("float32", 1, {}),
        ("uint16", 1, {"segmentation": True}),
        ("uint64", 1, {"segmentation": True}),
        ("uint32", 1, {"segmentation": True, "encoding": "raw"}),
    ],
)
def test_what_is_written_is_read(tmp_path, dtype, channels, options):
    rng = np.random.default_rng(0)
    shape = (5, 70, 300)
    data = rng.integers(0, 200, (channels, *shape)).astype(dtype)
    axes = "czyx" if channels > 1 else "zyx"
    volume = Volume(data if channels > 1 else data[0], axes, SPACING)
    path = write_precomputed(tmp_path / "v", volume, **options)
    found = read_precomputed(path)
    assert found.axes == axes and found.spacing == pytest.approx(SPACING)
    assert np.array_equal(found.numpy(), volume.numpy())
    window = (slice(1, 4), slice(60, 68), slice(50, 200))
    assert np.array_equal(found.read(window), volume.read(window))
    info = json.loads((path / "info").read_text())
    assert info["type"] == ("segmentation" if options else "image")
    assert info["scales"][0]["resolution"] == [8, 8, 30]
    assert info["scales"][0]["size"] == [300, 70, 5]
    assert info["scales"][1]["resolution"] == [16, 16, 30]
    coarse = read_precomputed(path, 1)
    assert coarse.spatial_shape == (5, 35, 150)
    fine = volume.read()[:, :, :2, :2].reshape(channels, 5, 4)
    if options:
        assert all(coarse.read()[0, z, 0, 0] in fine[0, z] for z in range(5))
    else:
        np.testing.assert_allclose(coarse.read()[:, :, 0, 0], fine.mean(-1), atol=0.51)


def test_raw_chunks_are_x_fastest(tmp_path):
    data = np.arange(2 * 70 * 3, dtype=np.uint16).reshape(3, 70, 2)
    path = write_precomputed(tmp_path / "v", Volume(data, "zyx", SPACING))
    assert sorted(p.name for p in (path / "8_8_30").iterdir()) == ["0-2_0-64_0-3", "0-2_64-70_0-3"]
    raw = (path / "8_8_30" / "0-2_64-70_0-3").read_bytes()
    chunk = np.frombuffer(raw, "<u2").reshape((2, 6, 3), order="F")
    assert np.array_equal(chunk, data[:, 64:, :].transpose(2, 1, 0))


def test_shapes_lie_where_the_voxels_are(tmp_path):
    path = write_precomputed(
        tmp_path / "s", Volume(np.ones((4, 4, 4), np.uint8), "zyx", SPACING), segmentation=True
    )
    points, faces = np.array([[0, 0, 0], [0.03, 0, 0], [0, 0.008, 0]]), np.array([[0, 1, 2]])
    write_mesh_fragment(path, 1, points, faces)
    write_skeleton(path, 1, points, [[0, 1], [1, 2]], [0.5, 0.25, 0.125])
    info = json.loads((path / "info").read_text())
    assert (info["mesh"], info["skeletons"]) == ("mesh", "skeletons")
    (name,) = json.loads((path / "mesh" / "1:0").read_text())["fragments"]
    data = (path / "mesh" / name).read_bytes()
    expected = [[4, 4, 15], [4, 4, 45], [4, 12, 15]]
    assert struct.unpack_from("<I", data) == (3,)
    np.testing.assert_allclose(np.frombuffer(data, "<f4", 9, 4).reshape(3, 3), expected)
    assert np.frombuffer(data, "<u4", 3, 40).tolist() == [0, 1, 2]
    data = (path / "skeletons" / "1").read_bytes()
    assert struct.unpack_from("<II", data) == (3, 2)
    np.testing.assert_allclose(np.frombuffer(data, "<f4", 9, 8).reshape(3, 3), expected)
    assert np.frombuffer(data, "<u4", 4, 44).tolist() == [0, 1, 1, 2]
    assert np.frombuffer(data, "<f4", 3, 60).tolist() == [500, 250, 125]


def test_bad_folders_and_volumes_are_refused(tmp_path):
    with pytest.raises(DataError, match="no file info"):
        read_precomputed(tmp_path)
    flat = Volume(np.zeros((4, 4), np.uint8), "yx", (1, 1))
    with pytest.raises(OutputError, match="three axes"):
        write_precomputed(tmp_path / "a", flat)
    ids = Volume(np.zeros((4, 4, 4), np.int16), "zyx", SPACING)
    with pytest.raises(OutputError, match="images are one of"):
        write_precomputed(tmp_path / "a", ids)
    with pytest.raises(OutputError, match="for ids"):
        write_precomputed(tmp_path / "a", ids, encoding="compressed_segmentation")
    with pytest.raises(DataError, match="0 or more"):
        write_precomputed(tmp_path / "a", ids.like(ids.data - 1), segmentation=True)
    assert not list(tmp_path.iterdir())
    path = write_precomputed(tmp_path / "a", ids, segmentation=True)
    (chunk,) = (path / "8_8_30").iterdir()
    chunk.write_bytes(chunk.read_bytes()[:12])
    with pytest.raises(DataError, match="cut short"):
        read_precomputed(path).numpy()
    chunk.unlink()
    with pytest.raises(DataError, match="missing"):
        read_precomputed(path).numpy()
