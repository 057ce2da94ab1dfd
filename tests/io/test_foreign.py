"""Files that others write: spacing in their units, odd axes, palettes, old OME-Zarr."""

import struct

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from brodmann.core import DataError
from brodmann.io import read_volume

STACK = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)


def test_imagej_spacing(tmp_path):
    for unit, factor in (("um", 1), ("micron", 1), ("mm", 1000), ("nm", 1e-3)):
        meta = {"unit": unit, "spacing": 5.0, "axes": "ZYX"}
        tifffile.imwrite(
            tmp_path / "a.tif", STACK, imagej=True, resolution=(1 / 0.5, 1 / 0.25), metadata=meta
        )
        opened = read_volume(tmp_path / "a.tif")
        assert opened.axes == "zyx"
        assert np.allclose(opened.spacing, np.array([5, 0.25, 0.5]) * factor)


def test_imagej_channels_are_channels(tmp_path):
    four = np.stack([STACK, STACK + 1], axis=1)
    meta = {"unit": "um", "spacing": 5.0, "axes": "ZCYX"}
    tifffile.imwrite(tmp_path / "a.tif", four, imagej=True, resolution=(2, 2), metadata=meta)
    opened = read_volume(tmp_path / "a.tif")
    assert (opened.axes, opened.shape) == ("czyx", (2, 3, 20, 30))
    assert np.array_equal(opened.numpy(), four.swapaxes(0, 1))


def test_ome_units(tmp_path):
    meta = {"axes": "ZYX"}
    for axis, step in zip("ZYX", (0.05, 4.0, 4.6)):
        meta |= {f"PhysicalSize{axis}": step * 1000, f"PhysicalSize{axis}Unit": "nm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata=meta)
    assert np.allclose(read_volume(tmp_path / "a.ome.tif").spacing, (0.05, 4.0, 4.6))


@pytest.mark.parametrize(
    ("unit", "per_unit", "step_um"),
    [
        ("CENTIMETER", 400.0, 25.0),
        ("INCH", 1016.0, 25.0),
        ("INCH", 72.0, None),
        ("NONE", 1.0, None),
    ],
)
def test_resolution_tags_and_print_resolutions(tmp_path, unit, per_unit, step_um):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0], resolution=(per_unit, per_unit), resolutionunit=unit)
    if step_um is None:
        with pytest.raises(DataError, match="does not say its spacing along y, x"):
            read_volume(path)
        assert read_volume(path, spacing=(3, 4)).spacing == (3.0, 4.0)
        assert read_volume(path, spacing="unit").spacing == (1.0, 1.0)
    else:
        assert read_volume(path, spacing=(3, 4)).spacing == (step_um, step_um)


def test_a_missing_depth_step_is_asked_for(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, STACK, photometric="minisblack", resolution=(400, 400), resolutionunit="CENTIMETER"
    )
    with pytest.raises(DataError, match="along z"):
        read_volume(path)
    assert read_volume(path, spacing=(50, 1, 1)).spacing == (50.0, 25.0, 25.0)
    with pytest.raises(DataError, match="spacing needs 3 numbers"):
        read_volume(path, spacing=(50, 1))


def test_unnamed_axes_are_depth_unless_said_otherwise(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata=None)
    assert read_volume(path, spacing="unit").axes == "zyx"
    assert read_volume(path, axes="cyx", spacing="unit").axes == "cyx"
    with pytest.raises(DataError, match="does not have axes 'czyx'"):
        read_volume(path, axes="czyx", spacing="unit")
    tifffile.imwrite(path, STACK.reshape(3, 5, 4, 30), photometric="minisblack")
    with pytest.raises(DataError, match="more axes"):
        read_volume(path, spacing="unit").numpy()


def test_pyramid_levels_of_a_tiff(tmp_path):
    path = tmp_path / "a.tif"
    whole = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
    with tifffile.TiffWriter(path) as writer:
        resolution = {"resolution": (5000, 5000), "resolutionunit": "CENTIMETER"}
        writer.write(whole, tile=(16, 16), subifds=1, **resolution)
        writer.write(whole[::2, ::2], tile=(16, 16), subfiletype=1)
    coarse = read_volume(path, level=1)
    assert np.array_equal(coarse.numpy(), whole[::2, ::2])
    assert coarse.spacing == (4.0, 4.0)
    with pytest.raises(DataError, match="no such pyramid level"):
        read_volume(path, level=2)


def test_big_endian_and_tiles_and_strips(tmp_path):
    for options in (
        {"byteorder": ">"},
        {"byteorder": ">", "compression": "zlib"},
        {"tile": (16, 16)},
        {"rowsperstrip": 3, "compression": "lzw"},
        {"bigtiff": True},
    ):
        tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", **options)
        opened = read_volume(tmp_path / "a.tif", spacing="unit")
        assert opened.dtype == np.dtype("uint16")
        assert np.array_equal(opened.numpy(), STACK)
        assert np.array_equal(
            opened.read((slice(1, 3), slice(5, 9), slice(0, 30, 7)))[0], STACK[1:3, 5:9, ::7]
        )


def test_palette_png_gives_its_indices_and_colour_its_channels(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(ids).convert("P")
    picture.putpalette([200, 10, 10] * 256)
    picture.putdata(ids.ravel().tolist())
    picture.save(tmp_path / "ids.png")
    assert np.array_equal(read_volume(tmp_path / "ids.png", spacing="unit").numpy(), ids)
    rgba = np.random.default_rng(0).integers(0, 255, (3, 4, 4), np.uint8)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "rgba.png")
    opened = read_volume(tmp_path / "rgba.png", spacing="unit")
    assert opened.channels == ("red", "green", "blue")
    assert np.array_equal(opened.numpy(), np.moveaxis(rgba[..., :3], -1, 0))


def test_nifti_scaling_units_and_channels(tmp_path):
    image = nibabel.Nifti1Image(STACK.T.astype(np.int16), np.eye(4))
    image.header.set_zooms((0.5, 0.25, 2.0))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    header = bytearray((tmp_path / "a.nii").read_bytes())
    header[112:120] = struct.pack("<ff", 2.0, 1.0)  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(header)
    opened = read_volume(tmp_path / "a.nii")
    assert opened.spacing == (2.0, 0.25, 0.5)
    assert opened.dtype == np.float32
    assert np.array_equal(opened.numpy(), STACK * 2.0 + 1.0)
    four = np.random.default_rng(0).integers(0, 9, (5, 6, 7, 2), np.uint8)
    nibabel.save(nibabel.Nifti1Image(four, np.diag([2, 3, 4, 1])), tmp_path / "b.nii.gz")
    opened = read_volume(tmp_path / "b.nii.gz")
    assert (opened.axes, opened.spacing) == ("czyx", (4000.0, 3000.0, 2000.0))
    assert np.array_equal(opened.numpy(), four.transpose(3, 2, 1, 0))


def test_hdf5_of_others(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = STACK
        file["volumes/raw"].attrs["resolution"] = (50.0, 4.0, 4.0)
        file["other"] = np.zeros(3)
    assert read_volume(tmp_path / "a.h5").spacing == (0.05, 0.004, 0.004)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["one"], file["two"] = STACK, STACK
    with pytest.raises(DataError, match="several datasets"):
        read_volume(tmp_path / "b.h5", spacing="unit")


def ome_04(path, unit="nanometer"):
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    data = np.arange(2 * 3 * 16 * 12, dtype=np.uint16).reshape(1, 2, 3, 16, 12)
    group.create_array("s0", data=data, chunks=(1, 1, 3, 8, 8))
    group.create_array("s1", data=data[..., ::2, ::2], chunks=(1, 1, 3, 8, 8))
    kinds = ["time", "channel", "space", "space", "space"]
    axes = [{"name": n, "type": k} for n, k in zip("tczyx", kinds)]
    for entry in axes[2:]:
        entry["unit"] = unit
    scale = lambda f: [{"type": "scale", "scale": [1, 1, 25.0, 2.0 * f, 2.0 * f]}]  # noqa: E731
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": axes,
            "datasets": [
                {"path": "s0", "coordinateTransformations": scale(1)},
                {"path": "s1", "coordinateTransformations": scale(2)},
            ],
            "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 2.0, 2.0, 2.0]}],
        }
    ]
    group.attrs["omero"] = {"channels": [{"label": "DAPI"}, {"label": "cFos"}]}
    return data


def test_ome_zarr_04_with_time_units_and_two_scales(tmp_path):
    data = ome_04(tmp_path / "a.zarr")
    opened = read_volume(tmp_path / "a.zarr")
    assert (opened.axes, opened.channels) == ("czyx", ("DAPI", "cFos"))
    assert np.allclose(opened.spacing, (0.05, 0.004, 0.004))
    assert np.array_equal(opened.numpy(), data[0])
    coarse = read_volume(tmp_path / "a.zarr", level=1)
    assert np.allclose(coarse.spacing, (0.05, 0.008, 0.008))
    assert np.array_equal(
        coarse.read((slice(0, 3), slice(2, 5), slice(1, 4))),
        data[0, :, :, ::2, ::2][:, :, 2:5, 1:4],
    )
    with pytest.raises(DataError, match="no such pyramid level"):
        read_volume(tmp_path / "a.zarr", level=2)


def test_plain_zarr_needs_a_spacing(tmp_path):
    zarr.save_array(str(tmp_path / "a.zarr"), STACK)
    with pytest.raises(DataError, match="spacing"):
        read_volume(tmp_path / "a.zarr")
    assert np.array_equal(read_volume(tmp_path / "a.zarr", spacing="unit").numpy(), STACK)
