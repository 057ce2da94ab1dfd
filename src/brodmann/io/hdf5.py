"""HDF5: one dataset of a file, read by window; name it after "::"."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Volume, nearest
from brodmann.io.raw import LazyArray, Raw, blocks, check_file, reading

USUAL = ("main", "raw", "data", "image", "labels", "label", "volumes/raw")
"""Dataset names tried, in this order, when a file holds several and none is named."""
CHUNK = {2: (512, 512), 3: (64, 128, 128)}


def read_hdf5(path: Path, name: str = "") -> Raw:
    """A dataset of an HDF5 file, lazily.

    Without a name: the only dataset, else the first of main, raw, data, image, labels.
    Axes and spacing come from the attributes `axes` and `spacing_um` that `write_hdf5`
    writes, else from `element_size_um` (PlantSeg) or `resolution` (CREMI, nanometres).
    """
    import h5py

    path = check_file(path)
    with reading(path), h5py.File(path, "r") as file:
        found: dict[str, Any] = {}
        file.visititems(
            lambda key, item: found.update({key: item}) if isinstance(item, h5py.Dataset) else None
        )
        if not found:
            raise DataError("the file holds no dataset", path)
        name = name.strip("/") or _choose(path, found)
        if name not in found:
            raise DataError("no such dataset in the file", path, repr(name), nearest(name, found))
        item = found[name]
        if item.dtype.kind not in "biuf":
            raise DataError("pixels of this kind cannot be read", f"{path}::{name}", item.dtype)
        attributes = {key: item.attrs[key] for key in item.attrs}
        shape, dtype = item.shape, np.dtype("u1") if item.dtype == bool else item.dtype
    ndim = len(shape)
    axes = attributes.get("axes")
    axes = axes if isinstance(axes, str) and len(axes) == ndim else "?" * (ndim - 2) + "yx"
    spacing: dict[str, float] = {}
    for key, factor in (("spacing_um", 1.0), ("element_size_um", 1.0), ("resolution", 1e-3)):
        steps = np.asarray(attributes.get(key, ()), float).reshape(-1)
        if 2 <= len(steps) <= 3 and np.all(steps > 0):
            spacing = dict(zip("zyx"[-len(steps) :], (float(step) * factor for step in steps)))
            break
    channels = tuple(str(channel) for channel in attributes.get("channels", ()))
    data = LazyArray(partial(_dataset, str(path), name), path, shape, dtype)
    return Raw(data, axes, spacing, channels)


def _choose(path: Path, found: dict[str, Any]) -> str:
    if len(found) == 1:
        return next(iter(found))
    for name in USUAL:
        if name in found:
            return name
    raise DataError(
        "the file holds several datasets", path, sorted(found)[:8], f"name one: {path}::NAME"
    )


def _dataset(path: str, name: str) -> Any:
    import h5py

    return h5py.File(path, "r")[name]


def write_hdf5(path: Path, volume: Volume, name: str = "", compression: bool = True) -> None:
    """Write one chunked dataset ("main" unless named) with axes, spacing_um and channels."""
    import h5py

    dtype = np.dtype(np.uint8) if volume.dtype == bool else volume.dtype
    lead = (1,) * (len(volume.shape) - volume.ndim)
    usual = (*lead, *CHUNK[volume.ndim])
    chunks = tuple(max(1, min(size, part)) for size, part in zip(volume.shape, usual))
    with h5py.File(path, "w") as file:
        item = file.create_dataset(
            name.strip("/") or "main",
            volume.shape,
            dtype,
            chunks=chunks,
            compression="gzip" if compression else None,
            compression_opts=1 if compression else None,
            shuffle=compression,
        )
        item.attrs["axes"] = volume.axes
        item.attrs["spacing_um"] = volume.spacing
        if volume.axes.startswith("c"):
            item.attrs["channels"] = list(volume.channels)
        for window in blocks(volume.shape, tuple(4 * part for part in chunks)):
            item[window] = np.asarray(volume.data[window])
