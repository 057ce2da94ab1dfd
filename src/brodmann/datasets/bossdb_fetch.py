"""Cubes of a BossDB volume: fetched once, chunk by chunk, vouched for afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, OutputError, RecipeError
from brodmann.core.files import make_folder, write_json
from brodmann.datasets.bossdb_client import HOST, Boss, Ranges
from brodmann.datasets.bossdb_store import (
    RECORD,
    facts_of,
    identity,
    is_there,
    place,
    read_record,
    verify,
)
from brodmann.datasets.bossdb_volume import BossVolume, in_words
from brodmann.datasets.download import need_space
from brodmann.io.integrity import flush, missing_chunks, read_checked
from brodmann.io.ngff import open_output
from brodmann.io.raw import blocks

WORK = ".fetch"
"""Where cut-outs lie until they are whole."""
CHUNK_VOXELS = 1 << 22
"""At most so many voxels are asked for at a time: 32 MiB of 64-bit ids."""
SMALL_VOXELS = 1 << 16
"""Slices of fewer are read several at a time."""
SIDE = 1024
Report = Callable[[str, int, int, str], None]
Pair = tuple[str, str]
"""Cube and kind."""


def fetch_cubes(
    volume: BossVolume,
    root: str | Path,
    *,
    cubes: Sequence[str] | None = None,
    host: str = HOST,
    token: str | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Fetch cubes into a folder; stopped work goes on where it was, whole work is only checked.

    Each cube becomes CUBE/image.zarr, CUBE/regions.zarr and CUBE/microstructure.zarr (OME-Zarr,
    crc32c on every chunk), ids in the smallest type that holds the vocabulary. `fetched.json`
    keeps what each is a cut-out of and the SHA-256 of its voxels.

    Parameters
    ----------
    volume : BossVolume
    root : str or Path
        New, empty, or where cubes of the same volume were fetched to before.
    cubes : sequence of str, optional
        All of them unless named.
    host, token
        As of `Boss`.
    report : callable, optional
        Called as (what, done, total, note), in thousands of voxels.

    Returns
    -------
    dict
        name, path, host, cubes, arrays (their number), voxels, fetched (arrays fetched now),
        checked (arrays found whole), notes, licence, citation.

    Raises
    ------
    DataError
        If the server cannot be reached, refuses, or keeps answering with half a cut-out; a cube
        lies past the volume's edge (before anything is fetched); ids are outside the
        vocabulary; the image is of one value; or what was fetched before is damaged.
    OutputError
        If another cut-out lies there, or the folder is full or cannot be written.
    RecipeError
        On an unknown cube, or if `intern` is not installed.

    Example
    -------
    >>> fetch_cubes(volume, "data/mine", cubes=["ctx-A"])["fetched"]  # doctest: +SKIP
    3
    """
    names = list(volume.cubes) if cubes is None else list(dict.fromkeys(cubes))
    unknown = [name for name in names if name not in volume.cubes]
    if unknown:
        raise RecipeError(
            "no such cube", volume.name, unknown[:4], "known: " + ", ".join(volume.cubes)
        )
    new = not Path(root).exists()
    root = make_folder(Path(root))
    record = read_record(root, volume)
    _settle(root, record)
    wanted = [(name, kind) for name in names for kind in volume.kinds(name)]
    missing = [pair for pair in wanted if not is_there(volume, root, record, *pair)]
    voxels = sum(_voxels(volume, pair) for pair in wanted)
    meter = _Meter(report, voxels)
    notes: list[str] = []
    try:
        for pair in wanted:
            if pair not in missing:
                verify(root, record, *pair)
                meter.add(_voxels(volume, pair), "/".join(pair))
        if missing:
            boss = Boss(host, token)
            notes, size = _plan(boss, volume, missing)
            need_space(root, size)
            for pair in missing:
                _bring(boss, volume, pair, root, record, meter)
    finally:
        _tidy(root, new)
    return {
        "name": volume.name,
        "path": str(root),
        "host": host,
        "cubes": names,
        "arrays": len(wanted),
        "voxels": voxels,
        "fetched": len(missing),
        "checked": len(wanted) - len(missing),
        "notes": notes,
        "licence": volume.licence,
        "citation": volume.citation,
    }


def _settle(root: Path, record: dict[str, Any]) -> None:
    """Move what was whole, but not yet in its place, when work was stopped."""
    for key in record["arrays"]:
        name, kind = key.split("/")
        part, note = _work(root, name, kind)
        if part.exists() and not place(root, name, kind).exists():
            _move(part, place(root, name, kind))
            note.unlink(missing_ok=True)


def _plan(boss: Boss, volume: BossVolume, missing: Sequence[Pair]) -> tuple[list[str], int]:
    """Ask the server about every channel before the first voxel; notes, and bytes to come."""
    notes, size = [], 0
    for kind in dict.fromkeys(kind for _, kind in missing):
        uri, annotation = volume.channel(kind), volume.annotation(kind)
        served = boss.channel(uri, volume.resolution)
        for name in (name for name, other in missing if other == kind):
            box = volume.cubes[name].box
            if any(a < low or b > high for (a, b), (low, high) in zip(box, served.extent)):
                raise DataError(
                    "a cube lies past the edge of the volume",
                    f"{name}, {uri}",
                    in_words(box),
                    f"the volume is {in_words(served.extent)}",
                )
            width = annotation.dtype.itemsize if annotation else served.dtype.itemsize
            size += width * _voxels(volume, (name, kind))
        if not np.allclose(served.spacing, volume.spacing_um, rtol=0.01):
            told, kept = (
                " x ".join(f"{step:g}" for step in steps)
                for steps in (served.spacing, volume.spacing_um)
            )
            notes.append(f"{uri}: the server says {told} um a voxel; kept as described, {kept} um")
    return notes, size


def _bring(
    boss: Boss,
    volume: BossVolume,
    pair: Pair,
    root: Path,
    record: dict[str, Any],
    meter: _Meter,
) -> None:
    """Fetch one array beside its place, check it, and move it there."""
    name, kind = pair
    cube, uri, annotation = volume.cubes[name], volume.channel(kind), volume.annotation(kind)
    dtype = annotation.dtype if annotation else boss.channel(uri, volume.resolution).dtype
    wanted = identity(volume, name, kind) | {"host": boss.host, "dtype": str(dtype)}
    part, note = _work(root, name, kind)
    part.parent.mkdir(exist_ok=True)
    if not _same(note, wanted):
        _forget(part, note)
        write_json(note, wanted)
    chunk, shard = _chunk(cube.shape)
    array = open_output(
        part,
        cube.shape,
        dtype,
        "zyx",
        volume.spacing_um,
        chunks=chunk,
        shards=shard,
    )
    brought = False
    try:
        for window in blocks(cube.shape, shard):
            if missing_chunks(array, window) or not _sound(array, window):
                box: Ranges = tuple(
                    (first + span.start, first + span.stop)
                    for (first, _), span in zip(cube.box, window)
                )  # type: ignore[assignment]
                block = boss.cutout(uri, box, volume.resolution)
                if annotation:
                    _check_ids(block, annotation.ids, f"{name}/{kind}, {in_words(box)}")
                array[window] = block.astype(dtype, copy=False)
                flush(array, window)
            brought = True
            meter.add(int(np.prod([span.stop - span.start for span in window])), f"{name}/{kind}")
    except (DataError, OutputError):
        if not brought:
            _forget(part, note)
        raise
    facts = facts_of(array)
    if kind == "image" and facts["lowest"] == facts["highest"]:
        _forget(part, note)
        raise DataError(
            "this cut-out is of one value only, as outside a volume",
            f"{name}, {uri}",
            facts["lowest"],
            f"check its box, {in_words(cube.box)}",
        )
    # Recorded first: stopped in between, it is moved when work goes on.
    record["arrays"][f"{name}/{kind}"] = wanted | facts
    write_json(root / RECORD, record)
    _move(part, place(root, name, kind))
    note.unlink(missing_ok=True)


def _check_ids(block: np.ndarray, known: Sequence[int], where: str) -> None:
    wrong = [id_ for id_ in map(int, np.unique(block)) if id_ not in known]
    if wrong:
        raise DataError(
            "labels outside the vocabulary",
            where,
            ", ".join(map(str, wrong[:8])) + (" ..." if len(wrong) > 8 else ""),
            f"known: {', '.join(map(str, known))}",
        )


def _work(root: Path, name: str, kind: str) -> tuple[Path, Path]:
    """An array that is being fetched, and the note that says what it is of."""
    return root / WORK / f"{name}-{kind}.zarr", root / WORK / f"{name}-{kind}.json"


def _same(note: Path, wanted: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(note.read_text(encoding="utf-8")) == wanted)
    except (OSError, ValueError):
        return False


def _forget(part: Path, note: Path) -> None:
    shutil.rmtree(part, ignore_errors=True)
    note.unlink(missing_ok=True)


def _move(part: Path, final: Path) -> None:
    try:
        final.parent.mkdir(exist_ok=True)
        part.replace(final)
    except OSError as error:
        raise OutputError("cannot write", final, error.strerror or error) from error


def _sound(array: Any, window: tuple[slice, ...]) -> bool:
    """Whether a chunk of stopped work can be gone on with."""
    try:
        read_checked(array, window)
    except DataError:
        return False
    return True


def _chunk(shape: tuple[int, int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What is read at a time, a slice unless slices are small; and what is asked for at a time.

    >>> _chunk((360, 256, 256)), _chunk((720, 1420, 5805))
    (((1, 256, 256), (64, 256, 256)), ((1, 1024, 1024), (4, 1024, 1024)))
    """
    y, x = min(shape[1], SIDE), min(shape[2], SIDE)
    shard = max(1, min(shape[0], CHUNK_VOXELS // (y * x)))
    chunk = max(1, min(shard, SMALL_VOXELS // (y * x)))
    return (chunk, y, x), (shard // chunk * chunk, y, x)


def _voxels(volume: BossVolume, pair: Pair) -> int:
    return int(np.prod(volume.cubes[pair[0]].shape))


def _tidy(root: Path, new: bool) -> None:
    """Leave no empty folders behind."""
    for folder in (root / WORK, *([root] if new else [])):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


class _Meter:
    """Thousands of voxels over all arrays."""

    def __init__(self, report: Report | None, total: int) -> None:
        self.report, self.total, self.done = report, total, 0

    def add(self, voxels: int, note: str) -> None:
        self.done += voxels
        if self.report is not None:
            self.report("1000 voxels", -(-self.done // 1000), -(-self.total // 1000), note)
