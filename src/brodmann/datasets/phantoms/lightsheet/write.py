"""A light-sheet brain on disk: images, annotation and points, block by block."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brodmann.core import DataError, LabelMap, OutputError, RecipeError, Volume
from brodmann.core.files import make_folder, write_json, written_beside
from brodmann.datasets.phantoms.lightsheet.markers import MARKERS, marker_of
from brodmann.datasets.phantoms.lightsheet.volume import SPACING_UM, LightSheet

if TYPE_CHECKING:
    from brodmann.inference.blocks import Block
    from brodmann.inference.engines import Engine
    from brodmann.inference.running import Report

VERSION = 1
"""Of what is drawn: raised when the same arguments give other bytes."""
SETTINGS = "phantom.json"
PLAIN = ("shape", "spacing", "seed", "blur_um", "density", "brightness", "stripes", "halo")
CHUNK, SHARD = 64, 256
SLAB_VOXELS = 2**28
"""Points are written for so many voxels at a time."""


def write_lightsheet(
    path: str | Path,
    shape: Sequence[int],
    spacing: Sequence[float] = SPACING_UM,
    markers: Sequence[str] = tuple(MARKERS),
    seed: int = 0,
    *,
    annotation: Volume | None = None,
    regions: LabelMap | None = None,
    hemispheres: Volume | None = None,
    pyramid: bool = True,
    engine: Engine | None = None,
    report: Report | None = None,
    **options: Any,
) -> LightSheet:
    """Write a brain to a folder, in memory that does not grow with it; stopped, it goes on.

    Parameters
    ----------
    path : str or Path
        A folder; made if need be. Of an earlier call with the same arguments what is done is
        kept; more markers may be added.
    shape, spacing, seed, annotation, regions, hemispheres
        See `LightSheet`; so are further `options` (blur_um, density, brightness, stripes, halo).
    markers : sequence of str
        One image and one table of points each.
    pyramid : bool
        Add the coarser levels to the images.
    engine : Engine, optional
        Who renders the blocks; one block is one shard of 256 x 256 x 256 voxels, some 0.9 GB
        of memory a worker. Serial by default.
    report : callable, optional
        See `run_blocks`.

    Returns
    -------
    LightSheet
        Of what was written; `read_lightsheet` gives it again.

    Raises
    ------
    OutputError
        If another phantom is in the folder, or the disk is full.
    RecipeError
        If an argument is out of range.

    Notes
    -----
    ``NAME.zarr`` (OME-Zarr, uint16) and ``NAME.csv`` (z, y, x in voxels, region, hemisphere,
    marker, cell; in order of z, y, x) for each marker, ``annotation.zarr`` (uint32),
    ``hemispheres.zarr`` (uint8: 1 left, 2 right), ``labels.csv``, ``phantom.json``; ``marks``
    tells what is done. The bytes of images and points do not depend on the engine.

    Example
    -------
    >>> import tempfile
    >>> from brodmann.core import Points
    >>> from brodmann.io import read_volume
    >>> folder = Path(tempfile.mkdtemp()) / "brain"
    >>> brain = write_lightsheet(folder, (20, 60, 64), (20, 15, 15), ["TH"], pyramid=False)
    >>> image = read_volume(folder / "TH.zarr")
    >>> bool((image.numpy() == brain.block("TH")).all()), image.spacing
    (True, (20.0, 15.0, 15.0))
    >>> len(Points.from_csv(folder / "TH.csv")) == len(brain.points("TH"))
    True
    """
    from brodmann.inference.blocks import Marks, work_key
    from brodmann.inference.running import quiet

    names = [markers] if isinstance(markers, str) else list(markers)
    if not names or len({*names}) < len(names):
        raise RecipeError("markers are different names", "markers", repr(markers))
    for name in names:
        marker_of(name)
    unknown = set(options) - {"blur_um", "density", "brightness", "stripes", "halo"}
    if unknown:
        raise RecipeError("no such option", found=sorted(unknown)[0])
    sheet = LightSheet(
        tuple(shape), tuple(spacing), seed, annotation=annotation, regions=regions,
        hemispheres=hemispheres, **options,
    )  # fmt: skip
    folder = make_folder(Path(path))
    settings = _settings(sheet)
    key = work_key(settings)
    held = folder / SETTINGS
    if held.is_file() and _read_settings(held) != json.loads(json.dumps(settings)):
        raise OutputError(
            "another phantom is in the way", folder, fix="remove it or choose another place"
        )
    say = report or quiet
    _write_annotation(sheet, folder, Marks(folder / "marks" / "annotation", key))
    # Last of what blocks need, so that a folder with settings is one that can be read.
    write_json(held, settings)
    for name in names:
        _write_image(sheet, folder, name, key, engine, say)
        _write_points(sheet, folder, name, Marks(folder / "marks" / f"{name}-points", key), say)
        if pyramid:
            _add_pyramid(folder, name, Marks(folder / "marks" / f"{name}-pyramid", key), say)
    return read_lightsheet(folder)


def read_lightsheet(path: str | Path) -> LightSheet:
    """The brain that `write_lightsheet` wrote to a folder; nothing of it is read into memory.

    Raises
    ------
    DataError
        If the folder holds none.
    """
    folder = Path(path)
    settings = _read_settings(folder / SETTINGS)
    try:
        plain = {name: settings[name] for name in PLAIN}
        given = settings["annotation"] is not None
        halves = settings["hemispheres"] is not None
        sheet = LightSheet(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()})
    except (KeyError, TypeError) as error:
        raise DataError("these are no settings of a phantom", folder / SETTINGS, error) from error
    if not given:
        return sheet
    from brodmann.io import read_volume

    return replace(
        sheet,
        annotation=read_volume(folder / "annotation.zarr"),
        regions=LabelMap.from_csv(folder / "labels.csv"),
        hemispheres=read_volume(folder / "hemispheres.zarr") if halves else None,
    )


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("cannot read the settings of a phantom", path, error) from error
    if not isinstance(settings, dict) or settings.get("version") != VERSION:
        raise DataError(
            "this phantom was written by another version", path,
            settings.get("version") if isinstance(settings, dict) else settings,
            "write it anew",
        )  # fmt: skip
    return settings


def _settings(sheet: LightSheet) -> dict[str, Any]:
    """Plain data on which every byte depends."""
    assert {f.name for f in fields(sheet)} == {*PLAIN, "annotation", "regions", "hemispheres"}
    plain = {
        name: list(value) if isinstance(value := getattr(sheet, name), tuple) else value
        for name in PLAIN
    }
    return {
        "version": VERSION,
        **plain,
        "annotation": _digest(sheet.annotation),
        "hemispheres": _digest(sheet.hemispheres),
        "regions": [[r.id, r.name, r.acronym, r.parent, r.color] for r in sheet.regions or ()],
    }


def _digest(volume: Volume | None) -> str | None:
    """A hash of ids and spacing, plane by plane."""
    if volume is None:
        return None
    import hashlib

    found = hashlib.blake2b(repr((volume.shape, volume.spacing)).encode(), digest_size=12)
    for plane in range(volume.shape[0]):
        found.update(np.ascontiguousarray(volume.data[plane], np.uint32).tobytes())
    return found.hexdigest()


def _layout(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Chunk and shard of an image; shards hold no more chunks than the image needs."""
    chunk = tuple(min(CHUNK, n) for n in shape)
    return chunk, tuple(c * min(SHARD // CHUNK, -(-n // c)) for c, n in zip(chunk, shape))


def _write_annotation(sheet: LightSheet, folder: Path, marks: Any) -> None:
    from brodmann.io import open_output

    names = ("annotation.zarr", "hemispheres.zarr")
    there = all((folder / name).exists() for name in (*names, "labels.csv"))
    if there and marks.get(0) is not None:
        return
    from brodmann.inference.blocks import BlockGrid

    shape = sheet.annotation_shape
    chunk, shard = _layout(shape)
    ids, halves = (
        open_output(folder / name, shape, kind, "zyx", sheet.grid.step, chunk, shards=shard)
        for name, kind in zip(names, ("uint32", "uint8"))
    )
    for block in BlockGrid(shape, shard):
        ids[block.window] = sheet.region_ids(block.window).data
        halves[block.window] = sheet.hemisphere_ids(block.window).data
    with written_beside(folder / "labels.csv") as beside:
        sheet.label_map.to_csv(beside)
    marks.write(0, {})


def _write_image(
    sheet: LightSheet, folder: Path, name: str, key: str, engine: Any, report: Any
) -> None:
    from brodmann.inference.blocks import BlockGrid, Marks
    from brodmann.inference.rolling import sweep_partials
    from brodmann.inference.running import run_blocks
    from brodmann.io import open_output

    path = folder / f"{name}.zarr"
    marks = Marks(folder / "marks" / name, key)
    if not path.exists():
        marks.clear()
        for more in ("points", "pyramid"):
            Marks(folder / "marks" / f"{name}-{more}", key).clear()
    chunk, shard = _layout(sheet.shape)
    array = open_output(path, sheet.shape, "uint16", "zyx", sheet.spacing, chunk, shards=shard)
    sweep_partials(array)
    work = partial(_write_block, str(folder), name, key)
    run_blocks(work, BlockGrid(sheet.shape, shard), marks, engine, what=name, report=report)


def _write_block(folder: str, name: str, key: str, block: Block) -> dict[str, Any]:
    sheet, array = _opened(folder, name, key)
    data = sheet.block(name, block.window)
    array[block.window] = data
    return {"mean": round(float(data.mean()), 2)}


@lru_cache(maxsize=4)
def _opened(folder: str, name: str, key: str) -> tuple[LightSheet, Any]:
    """Once in each worker; `key` tells one content of a folder from another."""
    import zarr

    group = zarr.open_group(str(Path(folder) / f"{name}.zarr"), mode="r+")
    array = group["0"].with_config({"write_empty_chunks": True})
    return read_lightsheet(folder), array


def _write_points(sheet: LightSheet, folder: Path, name: str, marks: Any, report: Any) -> None:
    target = folder / f"{name}.csv"
    if target.is_file() and marks.get(0) is not None:
        return
    planes = max(1, SLAB_VOXELS // (sheet.shape[1] * sheet.shape[2]))
    total = -(-sheet.shape[0] // planes)
    count = 0
    with written_beside(target) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        for n in range(total):
            window = (
                slice(n * planes, min((n + 1) * planes, sheet.shape[0])), slice(None), slice(None)
            )  # fmt: skip
            points = sheet.points(name, window)
            points.table.to_csv(file, index=False, header=n == 0, lineterminator="\n")
            count += len(points)
            report(f"{name} points", n + 1, total, f"{count:,} cells")
    marks.write(0, {"cells": count})


def _add_pyramid(folder: Path, name: str, marks: Any, report: Any) -> None:
    from brodmann.io import add_pyramid

    if marks.get(0) is not None:
        return
    report(f"{name} pyramid", 0, 1, "")
    marks.write(0, {"levels": add_pyramid(folder / f"{name}.zarr")})
    report(f"{name} pyramid", 1, 1, "")
