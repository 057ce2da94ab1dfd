"""OME-Zarr: multiscale images, 0.4 and 0.5 read, 0.5 written; plain zarr arrays read too."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, OutputError, Volume
from brodmann.io.raw import LazyArray, Raw, blocks, in_um, reading

CHUNK = {2: (512, 512), 3: (64, 64, 64)}
SHARD_FACTOR = 4
"""A shard is this many chunks along each spatial axis."""
SMALLEST_LEVEL = 256
"""A pyramid ends with a level no longer than this."""


def read_ngff(path: Path, name: str = "", level: int = 0) -> Raw:
    """A level of an OME-Zarr image, or a plain zarr array, lazily.

    `name` is a group or array within it, such as "labels/regions". Spacing is the product of
    the scales of level and image, in the unit of each axis. Of axes other than c, z, y, x
    (time) the first position is read.

    Raises
    ------
    DataError
        If this is no zarr, or has no such level.
    """
    import zarr

    path = Path(path)
    if not path.exists():
        raise DataError("no such file", path, fix="check the path")
    with reading(path):
        node = zarr.open(str(path), mode="r", path=name.strip("/") or None)
        attributes = dict(node.attrs)
        if isinstance(node, zarr.Array):
            if level:
                raise DataError("no such pyramid level", path, level, "this is a plain array")
            return _plain(path, node, attributes)
        ome = attributes.get("ome", attributes)
        images = ome.get("multiscales")
        if not images:
            arrays = [key for key, _ in node.arrays()]
            if len(arrays) != 1:
                raise DataError(
                    "this zarr group is no OME-Zarr image",
                    path,
                    f"arrays {arrays[:8]}",
                    f"name one: {path}::NAME",
                )
            return read_ngff(path, f"{name.strip('/')}/{arrays[0]}", level)
        image = images[0]
        levels = image["datasets"]
        if not 0 <= level < len(levels):
            raise DataError("no such pyramid level", path, level, f"levels: {len(levels)}")
        array = node[levels[level]["path"]]
        entries = image.get("axes") or [{"name": letter} for letter in "tczyx"[-array.ndim :]]
        entries = [{"name": entry} if isinstance(entry, str) else entry for entry in entries]
        scale = np.ones(array.ndim)
        for part in (levels[level], image):
            for transform in part.get("coordinateTransformations", ()):
                if transform.get("type") == "scale":
                    scale *= np.asarray(transform["scale"], float)
        names = [str(entry["name"]).lower() for entry in entries]
        axes = "".join(letter if letter in ("c", "z", "y", "x") else "?" for letter in names)
        spacing = {}
        for letter, entry, step in zip(axes, entries, scale):
            step_um = in_um(float(step), entry.get("unit"))
            if letter in "zyx" and step_um:
                spacing[letter] = step_um
        omero = ome.get("omero", {}).get("channels", ())
        channels = tuple(str(channel.get("label", "")) for channel in omero)
        data = _lazy(path, array)
    return Raw(data, axes, spacing, channels if all(channels) else ())


def _plain(path: Path, array: Any, attributes: dict) -> Raw:
    names = attributes.get("axes") or getattr(array.metadata, "dimension_names", None)
    axes = "?" * (array.ndim - 2) + "yx"
    if names and len(names) == array.ndim:
        letters = [str(letter).lower() for letter in names]
        axes = "".join(letter if letter in ("c", "z", "y", "x") else "?" for letter in letters)
    steps = attributes.get("spacing_um", ())
    spacing = dict(zip("zyx"[-len(steps) :], map(float, steps))) if steps else {}
    return Raw(_lazy(path, array), axes, spacing, tuple(attributes.get("channels", ())))


def _lazy(path: Path, array: Any) -> LazyArray:
    if array.dtype.kind not in "biuf":
        raise DataError("pixels of this kind cannot be read", path, array.dtype)
    inner = array.path
    return LazyArray(partial(_array, str(path), inner), path, array.shape, array.dtype)


def _array(path: str, inner: str) -> Any:
    import zarr

    return zarr.open_array(path, path=inner or None, mode="r")


def open_output(
    path: Path,
    shape: tuple[int, ...],
    dtype: Any,
    axes: str,
    spacing: tuple[float, ...],
    chunks: tuple[int, ...] | None = None,
    channels: tuple[str, ...] = (),
    shards: tuple[int, ...] | None = None,
) -> Any:
    """An OME-Zarr image on disk to be filled by window, for results that memory cannot hold.

    A folder that is there already with this shape and type is opened as it is, so that
    stopped work can go on; anything else there is refused. Values not yet written are 0.
    When everything is written, `add_pyramid` adds the coarser levels.

    Parameters
    ----------
    path : Path
        Ends in .zarr; written in place, not renamed.
    shape, dtype, axes, spacing, channels
        As of a Volume.
    chunks : tuple of int, optional
        Default: one channel of 512 x 512 or 64 x 64 x 64. Several writers at a time must
        each keep to whole chunks (whole shards where `shards` is given).
    shards : tuple of int, optional
        Chunks are gathered into files of this shape, a multiple of `chunks`.

    Returns
    -------
    zarr.Array
        Writable; crc32c on every chunk, empty chunks are written too, so that a missing
        chunk is never mistaken for background.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> labels = open_output(folder / "a.zarr", (40, 60), "uint16", "yx", (25, 25))
    >>> labels[8:16] = 3
    >>> int(open_output(folder / "a.zarr", (40, 60), "uint16", "yx", (25, 25))[10, 0])
    3
    """
    import zarr

    path = Path(path)
    form = Volume(np.broadcast_to(np.zeros((), dtype), shape), axes, spacing, channels)
    if path.exists():
        with reading(path):
            there = zarr.open_group(str(path), mode="r+")
            array = there["0"].with_config({"write_empty_chunks": True})
        if array.shape != form.shape or array.dtype != form.dtype:
            raise OutputError(
                "another image is in the way",
                path,
                f"{array.shape} {array.dtype} instead of {form.shape} {form.dtype}",
                "remove it or choose another place",
            )
        return array
    lead = (1,) * (len(form.shape) - form.ndim)
    usual = (*lead, *CHUNK[form.ndim])
    chunks = tuple(max(1, min(n, c)) for n, c in zip(form.shape, chunks or usual))
    # The group comes into being whole: a folder without its array could never be opened again.
    with folder_beside(path) as beside:
        group = zarr.open_group(str(beside), mode="w", zarr_format=3)
        _create(group, "0", form, chunks, shards)
        group.attrs["ome"] = _metadata(path.name.split(".")[0], form, [(1,) * form.ndim])
    return zarr.open_group(str(path), mode="r+")["0"].with_config({"write_empty_chunks": True})


def _create(
    group: Any,
    name: str,
    form: Volume,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    compression: bool = True,
) -> Any:
    from zarr.codecs import Crc32cCodec, ZstdCodec

    return group.create_array(
        name,
        shape=form.shape,
        dtype=form.dtype,
        chunks=chunks,
        shards=shards,
        compressors=[*([ZstdCodec(level=1)] if compression else []), Crc32cCodec()],
        fill_value=0,
        dimension_names=list(form.axes),
        config={"write_empty_chunks": True},
    )


def _metadata(name: str, form: Volume, factors: list[tuple[int, ...]]) -> dict:
    """The "ome" attribute of OME-NGFF 0.5; `factors` are each level's, per spatial axis."""
    axes = [
        {"name": letter, "type": "channel"}
        if letter == "c"
        else {"name": letter, "type": "space", "unit": "micrometer"}
        for letter in form.axes
    ]
    lead = [1.0] * (len(form.axes) - form.ndim)
    datasets = []
    for level, factor in enumerate(factors):
        scale = [step * f for step, f in zip(form.spacing, factor)]
        # The centre of a coarse voxel lies amid the fine ones that it stands for.
        shift = [step * (f - 1) / 2 for step, f in zip(form.spacing, factor)]
        transforms: list[dict] = [{"type": "scale", "scale": [*lead, *scale]}]
        if any(shift):
            zero = [0.0] * len(lead)
            transforms.append({"type": "translation", "translation": [*zero, *shift]})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
    }
    if form.axes.startswith("c"):
        ome["omero"] = {"channels": [{"label": channel} for channel in form.channels]}
    return ome


def add_pyramid(path: Path, labels: bool = False) -> int:
    """Add coarser levels to an image made by `open_output`; returns how many levels there are.

    Each level halves the axes whose spacing is less than twice the finest, until none is
    longer than 256. Images are averaged; labels take the value most frequent among the
    voxels that a coarse one stands for, the first of equals. Levels there already are
    written anew.
    """
    import zarr

    path = Path(path)
    group = zarr.open_group(str(path), mode="r+")
    raw = read_ngff(path)
    spatial = raw.axes.removeprefix("c")
    spacing = tuple(raw.spacing.get(axis, 1.0) for axis in spatial)
    base = Volume(group["0"], raw.axes, spacing, raw.channels)
    for name in [key for key in group if key.isdecimal() and key != "0"]:
        del group[name]
    factors = [(1,) * base.ndim]
    form = base
    while max(form.spatial_shape) > SMALLEST_LEVEL:
        finest = min(form.spacing)
        halve = tuple(
            2 if step < 2 * finest and n > 1 else 1
            for step, n in zip(form.spacing, form.spatial_shape)
        )
        if set(halve) == {1}:
            break
        coarse_shape = tuple(-(-n // f) for n, f in zip(form.spatial_shape, halve))
        lead = form.shape[: -form.ndim]
        coarse = Volume(
            np.broadcast_to(np.zeros((), form.dtype), (*lead, *coarse_shape)),
            form.axes,
            tuple(step * f for step, f in zip(form.spacing, halve)),
            form.channels,
        )
        source = form.data
        chunks = tuple(min(n, c) for n, c in zip(coarse.shape, source.chunks))
        target = _create(group, str(len(factors)), coarse, chunks, None)
        step = (*(1,) * len(lead), *halve)
        size = tuple(c * (SHARD_FACTOR if i >= len(lead) else 1) for i, c in enumerate(chunks))
        for window in blocks(coarse.shape, size):
            fine = tuple(
                slice(part.start * f, min(part.stop * f, n))
                for part, f, n in zip(window, step, form.shape)
            )
            target[window] = _halved(np.asarray(source[fine]), step, labels)
        factors.append(tuple(a * b for a, b in zip(factors[-1], halve)))
        form = Volume(target, form.axes, coarse.spacing, form.channels)
    name = group.attrs["ome"]["multiscales"][0].get("name", "")
    group.attrs["ome"] = _metadata(name, base, factors)
    return len(factors)


def _halved(block: np.ndarray, step: tuple[int, ...], labels: bool) -> np.ndarray:
    pad = [(0, -n % f) for n, f in zip(block.shape, step)]
    block = np.pad(block, pad, mode="edge")
    corners = [
        block[tuple(slice(o, None, f) for o, f in zip(offset, step))]
        for offset in np.ndindex(*step)
    ]
    if not labels:
        mean = np.mean(
            corners, axis=0, dtype=np.float64 if block.dtype.itemsize > 2 else np.float32
        )
        if block.dtype.kind in "iub":
            mean = np.rint(mean)
        return mean.astype(block.dtype)
    stack = np.stack(corners)
    votes = np.stack([(stack == corner).sum(axis=0, dtype=np.uint8) for corner in corners])
    return np.take_along_axis(stack, votes.argmax(axis=0)[None], axis=0)[0]


def write_ngff(
    path: Path, volume: Volume, compression: bool = True, labels: bool = False, name: str = "image"
) -> None:
    """Write an OME-Zarr 0.5 image with its pyramid, shard by shard, into a new folder."""
    import zarr

    dtype = np.dtype(np.uint8) if volume.dtype == bool else volume.dtype
    form = Volume(
        np.broadcast_to(np.zeros((), dtype), volume.shape),
        volume.axes,
        volume.spacing,
        volume.channels,
    )
    lead = (1,) * (len(volume.shape) - volume.ndim)
    chunks = tuple(max(1, min(n, c)) for n, c in zip(volume.shape, (*lead, *CHUNK[volume.ndim])))
    # Shards hold whole chunks, and no more of them than the image needs.
    counts = [
        min(SHARD_FACTOR, -(-n // c)) for n, c in zip(volume.spatial_shape, chunks[-volume.ndim :])
    ]
    shards = (*lead, *(c * k for c, k in zip(chunks[-volume.ndim :], counts)))
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    array = _create(group, "0", form, chunks, shards, compression)
    for window in blocks(volume.shape, shards):
        array[window] = np.asarray(volume.data[window]).astype(dtype, copy=False)
    group.attrs["ome"] = _metadata(name, form, [(1,) * form.ndim])
    add_pyramid(path, labels)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well."""
    path = Path(path)
    tag = uuid.uuid4().hex[:12]
    beside, old = path.with_name(f".{tag}-{path.name}"), path.with_name(f".{tag}-old-{path.name}")
    try:
        yield beside
        if path.exists():
            path.replace(old)
        beside.replace(path)
    except OSError as error:
        raise OutputError(
            "cannot write", path, error.strerror or error, "free some space or choose another place"
        ) from error
    finally:
        for left in (beside, old):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            elif left.exists():
                left.unlink()
