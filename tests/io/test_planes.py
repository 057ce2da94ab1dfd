"""A folder of planes against the array that it was made of."""

import pickle

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brodmann.core import DataError
from brodmann.io import planes
from brodmann.io.planes import plane_files, read_planes

SPACING = (4.0, 1.8, 1.8)
KINDS = (
    {},
    {"compression": "zlib", "rowsperstrip": 7},
    {"tile": (16, 16), "compression": "lzw", "predictor": True},
    {"rowsperstrip": 9},
    {"tile": (32, 16)},
    {"compression": "zstd", "bigtiff": True},
)


@pytest.fixture
def stack(tmp_path):
    values = np.random.default_rng(0).integers(0, 60000, (13, 40, 30)).astype(np.uint16)
    folder = tmp_path / "image"
    folder.mkdir()
    for z, plane in enumerate(values):
        options = KINDS[z % len(KINDS)]
        order = "<>"[z % 2]
        file = folder / f"344170_392340_{10 * z:06d}_ch2.tiff"
        tifffile.imwrite(file, plane, byteorder=order, **options)
    return folder, values


def test_windows_are_those_of_the_array(stack):
    folder, values = stack
    volume = pickle.loads(pickle.dumps(read_planes(folder, SPACING)))
    assert (volume.axes, volume.shape, volume.dtype) == ("zyx", values.shape, values.dtype)
    assert volume.spacing == SPACING
    assert np.array_equal(volume.numpy(), values)
    for key in (np.s_[3:7, 5:9, 2:30], np.s_[4], np.s_[..., 3], np.s_[::-2, 1:3], np.s_[5:5]):
        assert np.array_equal(volume.data[key], values[key])
    assert np.array_equal(
        volume.read((slice(2, 4), slice(0, 9), slice(3, 5)))[0], values[2:4, :9, 3:5]
    )


def test_only_the_planes_of_a_window_are_opened(stack):
    folder, values = stack
    volume = read_planes(folder, SPACING)
    for file in plane_files(folder)[5:]:
        file.write_bytes(b"gone")
    assert np.array_equal(volume.data[:5], values[:5])
    with pytest.raises(DataError, match=r"000050_ch2\.tiff"):
        volume.data[4:6]


@given(st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_window_of_any_layout(stack, data):
    folder, values = stack
    spans = [
        sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n)))) for n in values.shape
    ]
    window = tuple(slice(a, b) for a, b in spans)
    volume = read_planes(folder, SPACING, look=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planes, "MAPPED", data.draw(st.sampled_from([0, 1 << 20])))
        assert np.array_equal(volume.data[window], values[window])


def test_numbers_are_read_as_numbers(tmp_path):
    for z in range(8, 13):
        tifffile.imwrite(tmp_path / f"z{z}.tif", np.full((1, 6, 5), z, np.uint8))
    assert read_planes(tmp_path, SPACING).data[:, 0, 0].tolist() == [8, 9, 10, 11, 12]


def test_channels_beside_each_other(stack):
    folder, values = stack
    for file in list(folder.iterdir()):
        tifffile.imwrite(folder / file.name.replace("ch2", "ch1"), np.zeros((40, 30), np.uint16))
    with pytest.raises(DataError, match="more than one number"):
        read_planes(folder, SPACING)
    assert np.array_equal(read_planes(folder, SPACING, channel="ch2").numpy(), values)
    with pytest.raises(DataError, match="no planes of channel 'ch7'"):
        read_planes(folder, SPACING, channel="ch7")


def test_faults_are_named(stack, tmp_path):
    folder, _ = stack
    files = plane_files(folder)
    lost = files[6].read_bytes()
    files[6].unlink()
    with pytest.raises(DataError, match=r"missing: 1 of 13.*000050.*000070"):
        read_planes(folder, SPACING)
    files[6].write_bytes(lost)
    tifffile.imwrite(files[4], np.zeros((41, 30), np.uint16))
    with pytest.raises(DataError, match=r"differ in shape or type.*000040.*\(41, 30\)"):
        read_planes(folder, SPACING)
    unseen = read_planes(folder, SPACING, look=False)
    assert unseen.data[3].shape == (40, 30)
    with pytest.raises(DataError, match=r"differ in shape.*000040"):
        unseen.data[3:5]
    tifffile.imwrite(files[4], np.zeros((40, 30), np.uint8))
    with pytest.raises(DataError, match="uint8, the first plane"):
        read_planes(folder, SPACING)
    tifffile.imwrite(files[4], np.zeros((2, 40, 30), np.uint16))
    with pytest.raises(DataError, match="a plane has two axes"):
        read_planes(folder, SPACING)
    files[4].write_bytes(lost[:100])
    with pytest.raises(DataError, match="000040"):
        read_planes(folder, SPACING)
    (folder / "overview.tif").write_bytes(lost)
    with pytest.raises(DataError, match=r"alike but for a number.*overview\.tif"):
        read_planes(folder, SPACING)
    (tmp_path / "two").mkdir()
    for name in ("z1.tif", "z01.tif"):
        (tmp_path / "two" / name).write_bytes(lost)
    with pytest.raises(DataError, match=r"one number|more than one"):
        read_planes(tmp_path / "two", SPACING)
    with pytest.raises(DataError, match="there are no planes"):
        read_planes(tmp_path, SPACING)
    with pytest.raises(DataError, match="no such folder"):
        read_planes(tmp_path / "gone", SPACING)
