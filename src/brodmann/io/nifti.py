"""NIfTI, read by slice; arrays are (x, y, z, t, c) on disk and (c, z, y, x) here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Volume
from brodmann.io.raw import LazyArray, Raw, check_file, in_um, reading

MAX_DIM = 2**15 - 1


def read_nifti(path: Path) -> Raw:
    """A .nii or .nii.gz, lazily.

    The order of axes is reversed, nothing is resampled or flipped: the affine is left
    aside but for the step sizes, so a volume keeps the orientation it was stored in. Values
    are scaled by the header's slope and intercept to float32 where it has them. A fourth
    axis (time) or a fifth (vector) is the channel axis.
    """
    import nibabel

    path = check_file(path)
    with reading(path):
        image = nibabel.load(path)
        header = image.header
        shape = tuple(int(size) for size in header.get_data_shape())
        # Loading clears them in the header.
        scaled = (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0)
        dtype = np.dtype(np.float32) if scaled else np.dtype(header.get_data_dtype())
        if dtype.fields or dtype.kind == "c":
            raise DataError("pixels of this kind cannot be read", path, dtype)
        unit = header.get_xyzt_units()[0]
        unit = "mm" if unit == "unknown" else unit
        zooms = header.get_zooms()
        spacing = {axis: in_um(float(step), unit) for axis, step in zip("xyz", zooms)}
    axes = "xyz??"[: len(shape)]
    # (x, y, 1, 1, c) is how a section of several channels is written.
    if len(shape) == 5 and shape[2] == shape[3] == 1:
        axes = "xy??c"
    elif len(shape) == 5:
        axes = "xyz?c"
    elif len(shape) == 4:
        axes = "xyzc"
    if not 2 <= len(shape) <= 5:
        raise DataError("NIfTI of 2 to 5 dimensions can be read", path, f"shape {shape}")
    data = LazyArray(partial(_proxy, str(path)), path, shape, dtype)
    return Raw(data, axes, {axis: step for axis, step in spacing.items() if step})


def _proxy(path: str) -> Any:
    import nibabel

    return nibabel.load(path).dataobj


def write_nifti(path: Path, volume: Volume) -> None:
    """Write with a diagonal affine in millimetres; a name in .gz is compressed."""
    import nibabel

    array = volume.numpy()
    array = array.astype(
        {"b": "u1", "f": "f8" if array.dtype.itemsize > 4 else "f4"}.get(
            array.dtype.kind, array.dtype
        )
    )
    if volume.axes.startswith("c"):
        array = np.moveaxis(array, 0, -1)
        order = (*range(volume.ndim)[::-1], volume.ndim)
        array = array.transpose(order)
        if volume.ndim == 2:
            array = array[:, :, None, None, :]
    else:
        array = array.T
    steps = [step / 1000 for step in volume.spacing[::-1]]
    affine = np.diag([*steps, *[1.0] * (3 - len(steps)), 1.0])
    kind = nibabel.Nifti2Image if max(array.shape) > MAX_DIM else nibabel.Nifti1Image
    image = kind(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    zooms = [*steps, *[1.0] * (array.ndim - len(steps))]
    image.header.set_zooms(zooms)
    nibabel.save(image, path)
