"""What is written comes back: values, axes, spacing, channels, for each format."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.core import DataError, OutputError, Volume
from brodmann.io import read_volume, stem_of, suffix_of, write_volume

ANY = [".tif", ".nii", ".nii.gz", ".h5", ".zarr", ".ome.zarr"]
GRIDS = [
    ("yx", (37, 530), (25.0, 20.0)),
    ("cyx", (3, 37, 41), (25.0, 20.0)),
    ("zyx", (4, 30, 21), (50.0, 1.17, 1.62)),
    ("zyx", (1, 30, 21), (50.0, 2.0, 3.0)),
    ("czyx", (2, 4, 30, 21), (0.05, 0.004, 0.0046)),
]


def volume(axes, shape, spacing, dtype="uint16", channels=()):
    values = np.random.default_rng(len(shape)).integers(0, 250, shape)
    return Volume(values.astype(dtype), axes, spacing, channels)


def same(a, b):
    assert (a.axes, a.shape, a.dtype, a.channels) == (b.axes, b.shape, b.dtype, b.channels)
    assert np.allclose(a.spacing, b.spacing, rtol=1e-5)
    assert np.array_equal(a.numpy(), b.numpy())
    window = tuple(slice(size // 3, size // 2 + 1) for size in a.spatial_shape)
    assert np.array_equal(a.read(window), b.read(window))


@pytest.mark.parametrize("suffix", ANY)
@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid[0]}-{grid[1][0]}")
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "float32"])
def test_values_axes_and_spacing_survive(tmp_path, suffix, grid, dtype):
    written = volume(*grid, dtype)
    path = write_volume(tmp_path / f"a{suffix}", written)
    same(read_volume(path), written)
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("compression", [True, False])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".ome.tif", ".h5", ".zarr"])
def test_colour_pictures_are_channels_named_red_green_blue(tmp_path, suffix, compression):
    written = volume("cyx", (3, 40, 50), (5.0, 4.0), "uint16", ("red", "green", "blue"))
    path = write_volume(tmp_path / f"a{suffix}", written, compression=compression)
    same(read_volume(path), written)


def test_ome_tiff_keeps_channel_names_and_depth(tmp_path):
    written = volume("czyx", (2, 4, 30, 21), (50.0, 2.0, 3.0), channels=("DAPI", "cFos"))
    path = write_volume(tmp_path / "a.ome.tif", written)
    same(read_volume(path), written)


def test_another_reader_sees_the_same_tiff(tmp_path):
    import skimage.io

    written = volume("zyx", (5, 700, 530), (50.0, 2.0, 3.0))
    path = write_volume(tmp_path / "a.tif", written)
    assert np.array_equal(skimage.io.imread(path), written.data)
    flat = volume("yx", (70, 53), (2.0, 3.0), "uint8")
    from PIL import Image

    assert np.array_equal(Image.open(write_volume(tmp_path / "b.png", flat)), flat.data)


def test_another_reader_sees_the_same_nifti(tmp_path):
    import nibabel

    written = volume("zyx", (4, 30, 21), (50.0, 2.0, 3.0))
    image = nibabel.load(write_volume(tmp_path / "a.nii.gz", written))
    assert np.array_equal(np.asarray(image.dataobj).T, written.data)
    assert np.allclose(image.header.get_zooms(), (0.003, 0.002, 0.05))
    assert np.allclose(np.diag(image.affine), (0.003, 0.002, 0.05, 1))


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".zarr", ".png"])
def test_booleans_become_bytes(tmp_path, suffix):
    mask = Volume(np.eye(20, 30, dtype=bool), "yx", (1, 1))
    again = read_volume(write_volume(tmp_path / f"a{suffix}", mask))
    assert again.dtype == np.uint8
    assert np.array_equal(again.numpy(), mask.data)


def test_a_large_compressed_tiff_is_written_and_read_by_window(tmp_path):
    import tracemalloc

    class Strips:
        """An array that exists only window by window."""

        shape, dtype = (8192, 4096), np.dtype(np.uint16)

        def __getitem__(self, key):
            rows = np.arange(*key[0].indices(self.shape[0])) if isinstance(key, tuple) else None
            return np.broadcast_to((rows % 1000).astype(np.uint16)[:, None], (len(rows), 4096))

    path = tmp_path / "large.tif"
    tracemalloc.start()
    write_volume(path, Volume(Strips(), "yx", (2, 2)))
    part = read_volume(path).read((slice(5000, 5100), slice(600, 700)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(part[0, :, 0], np.arange(5000, 5100) % 1000)
    assert peak < 0.5 * 8192 * 4096 * 2


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_lazy_array_is_indexed_as_numpy_is(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "lazy.tif"
    array = np.arange(3 * 20 * 17, dtype=np.uint16).reshape(3, 20, 17)
    if not path.exists():
        write_volume(path, Volume(array, "zyx", (1, 1, 1)))
    lazy = read_volume(path).data
    key = []
    for size in array.shape:
        if data.draw(st.booleans()):
            key.append(data.draw(st.integers(-size, size - 1)))
        else:
            key.append(data.draw(st.slices(size)))
    key = tuple(key[: data.draw(st.integers(0, 3))])
    if data.draw(st.booleans()):
        key = (*key[:1], ..., *key[1:])
    try:
        expected = array[key]
    except IndexError:  # an ellipsis may move an index to a shorter axis
        with pytest.raises(IndexError):
            lazy[key]
        return
    assert np.array_equal(lazy[key], expected)


def test_lazy_arrays_travel_to_other_processes(tmp_path):
    import pickle

    for suffix in (".tif", ".h5", ".nii", ".zarr"):
        written = volume("zyx", (4, 30, 21), (50.0, 2.0, 3.0))
        opened = read_volume(write_volume(tmp_path / f"a{suffix}", written))
        opened.read((slice(0, 1),) * 3)
        same(pickle.loads(pickle.dumps(opened)), written)


def test_a_named_dataset_in_hdf5(tmp_path):
    written = volume("yx", (20, 30), (2.0, 3.0))
    write_volume(f"{tmp_path}/a.h5::volumes/raw", written)
    same(read_volume(f"{tmp_path}/a.h5::volumes/raw"), written)
    with pytest.raises(DataError, match=r"volumes/raw"):
        read_volume(f"{tmp_path}/a.h5::volumes/row")


def test_formats_that_cannot_hold_it_refuse_and_leave_nothing(tmp_path):
    with pytest.raises(OutputError, match=r"a\.png.*write \.tif"):
        write_volume(tmp_path / "a.png", volume("zyx", (4, 30, 21), (1, 1, 1)))
    with pytest.raises(OutputError, match="OME-TIFF has no such pixels"):
        write_volume(tmp_path / "a.ome.tif", volume("yx", (30, 21), (1, 1), "int64"))
    with pytest.raises(OutputError, match="not a format that can be written"):
        write_volume(tmp_path / "a.jpg", volume("yx", (30, 21), (1, 1)))
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_only_by_something_whole(tmp_path):
    class Breaks:
        shape, dtype = (2000, 2000), np.dtype(np.uint8)

        def __getitem__(self, key):
            raise DataError("the source broke")

    for suffix in (".tif", ".zarr"):
        path = write_volume(tmp_path / f"a{suffix}", volume("yx", (30, 21), (1, 1)))
        with pytest.raises(DataError, match="broke"):
            write_volume(path, Volume(Breaks(), "yx", (1, 1)))
        same(read_volume(path), volume("yx", (30, 21), (1, 1)))
    assert len(list(tmp_path.iterdir())) == 2


def test_names_are_split_from_the_right_suffix():
    assert [stem_of(n) for n in ("a.b.tif", "c.OME.TIF", "d.nii.gz", "e.ome.zarr", "f.csv")] == [
        "a.b",
        "c",
        "d",
        "e",
        "f",
    ]
    assert suffix_of("x/.tif") == ""
