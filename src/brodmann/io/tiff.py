"""TIFF: pages, tiles, BigTIFF, ImageJ, OME, pyramids; read by window."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, OutputError, Volume
from brodmann.io.raw import RGB, LazyArray, Raw, blocks, check_file, in_um, reading

TILE = 512
BIG = 2**32 - 2**25
PRINT_DPI = {1, 72, 96, 100, 150, 200, 300, 400, 600, 1200}
"""Resolutions per inch that programs write when they know nothing."""
MAX_XML_BYTES = 64 * 2**20


def read_tiff(path: Path, level: int = 0) -> Raw:
    """The first series of a TIFF, lazily: uncompressed ones by memory map, others by tile.

    Axes come from OME, ImageJ or tifffile's own description. A leading axis that none of
    them names is "?". Spacing comes from OME PhysicalSize, ImageJ's unit, or the
    resolution tags; print resolutions (72, 300, ... dpi) are not taken for tissue.

    Raises
    ------
    DataError
        If the file is missing, damaged or cut short, or has no such level.
    """
    import tifffile

    path = check_file(path)
    with reading(path), _complaints(path), tifffile.TiffFile(path) as file:
        series = file.series[0]
        if not 0 <= level < len(series.levels):
            raise DataError("no such pyramid level", path, level, f"levels: {len(series.levels)}")
        shown = series.levels[level]
        _check_length(path, shown)
        spacing, channels = _metadata(file, series)
        for axis in spacing:
            at = series.axes.lower().find(axis)
            if at >= 0 and level:
                spacing[axis] *= series.shape[at] / shown.shape[at]
        dtype, shape = np.dtype(shown.dtype), tuple(shown.shape)
        offset = shown.dataoffset
        if offset is not None and shown.keyframe.is_memmappable:
            stored = dtype.newbyteorder(file.byteorder)
            open_: Any = partial(_memory_map, str(path), stored, offset, shape)
            keep = False
        else:
            open_, keep = partial(_open_zarr, str(path), level), True
        axes = "".join(_axis(letter) for letter in shown.axes)
        if "S" in shown.axes:
            samples = shape[shown.axes.index("S")]
            channels = {3: RGB, 4: (*RGB, "alpha")}.get(samples, ())
    data = LazyArray(open_, path, shape, dtype, keep_open=keep)
    return Raw(data, axes, spacing, channels)


def _axis(letter: str) -> str:
    return {"Z": "z", "Y": "y", "X": "x", "C": "c", "S": "s"}.get(letter, "?")


def _memory_map(path: str, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.memmap(path, dtype, "r", offset, shape)


def _open_zarr(path: str, level: int) -> Any:
    import tifffile
    import zarr

    store = tifffile.imread(path, aszarr=True, level=level)
    array = zarr.open_array(store, mode="r")
    # Nobody else closes the file when the array goes.
    weakref.finalize(array, store.close)
    return array


class _Collect(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def _complaints(path: Path) -> Iterator[None]:
    """tifffile only logs a broken chain of pages and goes on with those before; we do not."""
    logger, collect = logging.getLogger("tifffile"), _Collect()
    logger.addHandler(collect)
    try:
        yield
    finally:
        logger.removeHandler(collect)
    if collect.lines:
        raise DataError(
            "the file is damaged or cut short", path, collect.lines[0], "copy or export it again"
        )


def _check_length(path: Path, series: Any) -> None:
    size = path.stat().st_size
    if series.dataoffset is not None:
        ends = series.dataoffset + series.nbytes
    else:
        ends = max(
            (
                offset + count
                for page in series.pages
                if page is not None
                for offset, count in zip(page.dataoffsets, page.databytecounts)
            ),
            default=0,
        )
    if ends > size:
        raise DataError(
            "the file is cut short", path, f"{size} of {ends} bytes", "copy or export it again"
        )


def _metadata(file: Any, series: Any) -> tuple[dict[str, float], tuple[str, ...]]:
    page = series.keyframe
    if file.is_ome and file.ome_metadata:
        return _ome(file.ome_metadata)
    shaped = (file.shaped_metadata or ({},))[0] if file.is_shaped else {}
    if "spacing_um" in shaped:
        steps = [float(step) for step in shaped["spacing_um"]]
        return dict(zip("zyx"[-len(steps) :], steps)), tuple(map(str, shaped.get("channels", ())))
    found: dict[str, float | None] = {}
    unit: str | None = None
    imagej = file.imagej_metadata or {}
    if imagej:
        unit = str(imagej.get("unit", ""))
        found["z"] = in_um(float(imagej.get("spacing", 0)), unit)
    elif "ResolutionUnit" in page.tags:
        unit = {2: "inch", 3: "cm"}.get(int(page.tags["ResolutionUnit"].value))
    for axis, tag in (("y", "YResolution"), ("x", "XResolution")):
        if tag in page.tags:
            above, below = page.tags[tag].value
            per_unit = above / below if below else 0.0
            found[axis] = _step_um(per_unit, unit)
    return {axis: step for axis, step in found.items() if step}, ()


def _step_um(per_unit: float, unit: str | None) -> float | None:
    if per_unit <= 0:
        return None
    if unit == "inch":
        return None if round(per_unit, 2) in PRINT_DPI else float(f"{25400 / per_unit:.6g}")
    return in_um(1 / per_unit, unit)


def _ome(xml: str) -> tuple[dict[str, float], tuple[str, ...]]:
    from xml.etree import ElementTree

    if len(xml) > MAX_XML_BYTES:
        raise ValueError("the OME description is longer than 64 MiB")
    tree = ElementTree.fromstring(xml)
    pixels = next((node for node in tree.iter() if node.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return {}, ()
    spacing = {}
    for axis in "zyx":
        name = f"PhysicalSize{axis.upper()}"
        step = in_um(float(pixels.get(name, 0)), pixels.get(f"{name}Unit", "um"))
        if step:
            spacing[axis] = step
    nodes = [node for node in pixels if node.tag.rpartition("}")[2] == "Channel"]
    names = tuple(node.get("Name", "") for node in nodes)
    return spacing, names if names and all(names) else ()


def write_tiff(path: Path, volume: Volume, compression: bool = True) -> None:
    """Write a volume as tiled TIFF, plane by plane; OME-TIFF if the name ends in .ome.tif.

    Spacing stands in the resolution tags (per centimetre) and, with the axes and channel
    names, in the description. Three channels named red, green, blue become an RGB picture. OME readers, this one too,
    take axes of length one for absent.
    Files above 4 GB are BigTIFF.
    """
    import tifffile

    dtype = np.dtype(np.uint8) if volume.dtype == bool else volume.dtype
    rgb = volume.channels == RGB and volume.ndim == 2 and dtype in ("u1", "u2")
    ome = str(path).lower().endswith((".ome.tif", ".ome.tiff"))
    height, width = volume.spatial_shape[-2:]
    tile = tuple(min(TILE, -(-size // 16) * 16) for size in (height, width))
    step_y, step_x = volume.spacing[-2:]
    if ome and (dtype.itemsize > 4 or dtype == "f2") and dtype != "f8":
        raise OutputError("OME-TIFF has no such pixels", path, dtype, "write .tif or .ome.zarr")
    if ome:
        metadata: dict[str, Any] = {"axes": "YXS" if rgb else volume.axes.upper()}
        for axis, step in zip(volume.spatial_axes.upper(), volume.spacing):
            metadata |= {f"PhysicalSize{axis}": step, f"PhysicalSize{axis}Unit": "µm"}
        if volume.axes.startswith("c") and not rgb:
            metadata["Channel"] = {"Name": list(volume.channels)}
    else:
        metadata = {
            "axes": "YXS" if rgb else volume.axes.upper(),
            "spacing_um": list(volume.spacing),
        }
        if volume.axes.startswith("c"):
            metadata["channels"] = list(volume.channels)
    shape = (*volume.spatial_shape, 3) if rgb else volume.shape
    tifffile.imwrite(
        path,
        _tiles(volume, tile, dtype, rgb),
        shape=shape,
        dtype=dtype,
        tile=tile,
        photometric="rgb" if rgb else "minisblack",
        compression="zlib" if compression else None,
        predictor=compression and dtype.kind in "iu" and dtype.itemsize <= 4,
        resolution=(1e4 / step_x, 1e4 / step_y),
        resolutionunit="CENTIMETER",
        metadata=metadata,
        ome=ome,
        bigtiff=int(np.prod(volume.shape, dtype=np.int64)) * dtype.itemsize > BIG,
    )


def _tiles(
    volume: Volume, tile: tuple[int, int], dtype: np.dtype, rgb: bool
) -> Iterator[np.ndarray]:
    """Tiles in the order of the file; one row of tiles is in memory at a time."""
    height, width = volume.spatial_shape[-2:]
    planes = [()] if rgb else list(np.ndindex(*volume.shape[:-2]))
    for plane in planes:
        for rows, _ in blocks((height, width), (tile[0], width)):
            key = (slice(None), rows) if rgb else (*plane, rows)
            strip = np.asarray(volume.data[key]).astype(dtype, copy=False)
            strip = np.moveaxis(strip, 0, -1) if rgb else strip
            for left in range(0, width, tile[1]):
                part = strip[:, left : left + tile[1]]
                pad = [(0, tile[0] - part.shape[0]), (0, tile[1] - part.shape[1])]
                yield np.ascontiguousarray(np.pad(part, pad + [(0, 0)] * rgb))
