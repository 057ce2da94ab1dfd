"""Fetched cubes on disk: the record that vouches for them, and reading them with care."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, OutputError
from brodmann.datasets.bossdb_volume import BossVolume
from brodmann.io.integrity import missing_chunks, read_checked
from brodmann.io.raw import blocks, reading

RECORD = "fetched.json"
AGAIN = f"remove the cube's folder and its entries in {RECORD}, and fetch it again"


def place(root: Path, name: str, kind: str) -> Path:
    """Where one kind of a cube lies."""
    return root / name / f"{kind}.zarr"


def read_record(root: Path, volume: BossVolume) -> dict[str, Any]:
    """What was fetched into a folder: {"name", "arrays": {"CUBE/KIND": ...}}; empty if nothing.

    Raises
    ------
    DataError
        If the record cannot be read.
    OutputError
        If it is of another volume.
    """
    file = root / RECORD
    if not file.exists():
        return {"name": volume.name, "arrays": {}}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        name, arrays = record["name"], record["arrays"]
        whole = isinstance(arrays, dict) and all("sha256" in kept for kept in arrays.values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("this record of a fetch cannot be read", file, error) from error
    if not whole:
        raise DataError("this record of a fetch is not as it was written", file)
    if name != volume.name:
        raise OutputError(
            "another volume was fetched into this folder", root, name, "choose another folder"
        )
    return record


def identity(volume: BossVolume, name: str, kind: str) -> dict[str, Any]:
    """What a cut-out is of: channel, resolution and box."""
    return {
        "channel": volume.channel(kind),
        "resolution": volume.resolution,
        **{axis: list(span) for axis, span in zip("zyx", volume.cubes[name].box)},
    }


def is_there(volume: BossVolume, root: Path, record: dict[str, Any], name: str, kind: str) -> bool:
    """Whether this very cut-out was fetched.

    Raises
    ------
    DataError
        If it was and is gone.
    OutputError
        If something else lies in its place.
    """
    kept, path = record["arrays"].get(f"{name}/{kind}"), place(root, name, kind)
    if kept is None:
        if path.exists():
            raise OutputError(
                "something is in the way that no record tells of", path, fix="move it"
            )
        return False
    for key, value in identity(volume, name, kind).items():
        if kept.get(key) != value:
            raise OutputError(
                "another cut-out was fetched under this name",
                path,
                f"{key} {kept.get(key)} instead of {value}",
                "choose another folder",
            )
    if not path.exists():
        raise DataError("a cube that was fetched is gone", path, fix=AGAIN)
    return True


def check_there(volume: BossVolume, root: Path, names: Sequence[str]) -> None:
    """Refuse cubes that were not fetched, or of which a chunk is gone; voxels are not read.

    Raises
    ------
    DataError
        Names the cube.
    """
    record = read_record(root, volume)
    for name in names:
        for kind in volume.kinds(name):
            if not is_there(volume, root, record, name, kind):
                raise DataError(
                    "this cube was not fetched",
                    place(root, name, kind),
                    fix=f"brodmann data get {volume.name} ROOT",
                )
            open_array(place(root, name, kind))


def open_array(path: Path) -> Any:
    """A fetched zarr.Array, all of whose chunks are on disk."""
    import zarr

    with reading(path):
        array = zarr.open_array(str(path), path="0", mode="r")
    lost = missing_chunks(array)
    if lost:
        raise DataError("a chunk of a fetched cube is missing", str(lost[0]), fix=AGAIN)
    return array


def facts_of(array: Any) -> dict[str, Any]:
    """SHA-256 of type, shape and voxels, and the lowest and highest value.

    The voxels go in as they are cut into files, each block in C order, so that the digits do not
    hang on how they are compressed.
    """
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    low, high = [], []
    for _, block in _blocks(array):
        digest.update(np.ascontiguousarray(block).data)
        low.append(int(block.min()))
        high.append(int(block.max()))
    return {"sha256": digest.hexdigest(), "lowest": min(low), "highest": max(high)}


def verify(root: Path, record: dict[str, Any], name: str, kind: str) -> None:
    """Read every voxel of a cube and compare with the record.

    Raises
    ------
    DataError
        If a chunk is missing or damaged, or the voxels are others.
    """
    path, expected = place(root, name, kind), record["arrays"][f"{name}/{kind}"]["sha256"]
    found = facts_of(open_array(path))["sha256"]
    if found != expected:
        raise DataError(
            "a cube is not as it was fetched", path, f"SHA-256 {found}", f"not {expected}; {AGAIN}"
        )


def counts_of(volume: BossVolume, root: Path, name: str, kind: str) -> np.ndarray:
    """How many voxels of each id every slice of a cube's annotation has, (slices, ids) int64.

    Raises
    ------
    DataError
        If a chunk is missing or damaged, or an id is above those of the vocabulary.
    """
    annotation = volume.annotation(kind)
    assert annotation is not None
    array, top = open_array(place(root, name, kind)), max(annotation.ids) + 1
    counts = np.zeros((array.shape[0], top), np.int64)
    for window, block in _blocks(array):
        for z, plane in enumerate(block, window[0].start):
            found = np.bincount(plane.ravel(), minlength=top)
            if len(found) > top:
                raise DataError(
                    "labels outside the vocabulary", place(root, name, kind), len(found) - 1
                )
            counts[z] += found
    return counts


def _blocks(array: Any) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    for window in blocks(array.shape, array.shards or array.chunks):
        yield window, read_checked(array, window)
