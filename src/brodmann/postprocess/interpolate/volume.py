"""Interpolation of a label volume on disk: one gap between two slices in memory at a time."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import brodmann
from brodmann.core import DataError, OutputError, RecipeError, Volume, nearest
from brodmann.core.files import make_folder, write_json, written_beside
from brodmann.io import read_volume, write_volume
from brodmann.io.formats import KINDS, READ_ONLY, split_name, stem_of, suffix_of
from brodmann.io.ngff import add_pyramid, open_output
from brodmann.postprocess.interpolate.between import check_method, interpolate_between
from brodmann.postprocess.interpolate.times import Between

AXES = "zyx"
DEPTH = 16
"""Slices of a chunk along the axis that is interpolated."""
WIDTH = 128
"""Pixels of a chunk along the other two."""
READ_BYTES = 1 << 26
ATTRIBUTE = "interpolation"
Report = Callable[[str, int, int, str], None]


def quiet(what: str, done: int, total: int, note: str = "") -> None:
    """Says nothing."""


def read_labels(path: str | Path, spacing: Sequence[float] | None = None) -> Volume:
    """Open a label volume (z, y, x) of whole numbers, lazily where the format can.

    Raises
    ------
    DataError
        If it has other axes, holds no whole numbers, or its spacing is unknown.
    """
    volume = read_volume(path, axes="zyx", spacing=spacing)
    if volume.dtype.kind not in "iu":
        raise DataError(
            "labels are whole numbers", path, volume.dtype, "save them as integers, not as floats"
        )
    return volume


def axis_of(name: str) -> int:
    """0, 1 or 2 for "z", "y" or "x".

    >>> axis_of("y")
    1
    """
    if len(name) != 1 or name not in AXES:
        raise RecipeError(
            "slices are stacked along z, y or x", "axis", repr(name), nearest(name, AXES)
        )
    return AXES.index(name)


def take_slice(labels: Volume, axis: str, index: int) -> np.ndarray:
    """One slice (h, w) across the axis: (y, x), (z, x) or (z, y)."""
    window: list[Any] = [slice(None)] * 3
    window[axis_of(axis)] = slice(index, index + 1)
    return np.ascontiguousarray(np.asarray(labels.data[tuple(window)]).squeeze(axis_of(axis)))


def plane_spacing(labels: Volume, axis: str) -> tuple[float, float]:
    """Pixel spacing within a slice across the axis, in micrometres."""
    y, x = (step for i, step in enumerate(labels.spacing) if i != axis_of(axis))
    return y, x


def find_slices(labels: Volume, axis: str = "z", unannotated: int = 0) -> tuple[int, ...]:
    """The slices that hold any label but `unannotated`, in one pass over the volume.

    Example
    -------
    >>> grid = np.zeros((5, 2, 2), np.uint8)
    >>> grid[1], grid[4, 0, 0] = 3, 1
    >>> find_slices(Volume(grid, "zyx", (1, 1, 1)))
    (1, 4)
    """
    place = axis_of(axis)
    depth = max(1, READ_BYTES // max(1, int(np.prod(labels.shape[1:])) * labels.dtype.itemsize))
    found = np.zeros(labels.shape[place], bool)
    rest = tuple(i for i in range(3) if i != place)
    for start in range(0, labels.shape[0], depth):
        block = np.asarray(labels.data[start : start + depth]) != unannotated
        seen = block.any(axis=rest)
        if place:
            found |= seen
        else:
            found[start : start + depth] = seen
    return tuple(np.flatnonzero(found).tolist())


def check_slices(slices: Sequence[int], length: int, axis: str) -> tuple[int, ...]:
    """At least two different slices within the volume, in ascending order.

    Raises
    ------
    DataError
    """
    wrong = [index for index in slices if not 0 <= index < length]
    if wrong:
        raise DataError(f"slices along {axis} are 0 to {length - 1}", found=f"slice {wrong[0]}")
    ordered = tuple(sorted(set(slices)))
    if len(ordered) < 2:
        raise DataError(
            "two annotated slices or more are needed",
            found=f"{len(ordered)} along {axis}",
            fix="annotate more, or choose another axis",
        )
    return ordered


def interpolate_volume(
    source: str | Path,
    target: str | Path,
    *,
    axis: str = "z",
    slices: Sequence[int] | None = None,
    unannotated: int = 0,
    method: str = "recursive",
    ignore: int | None = None,
    spacing: Sequence[float] | None = None,
    report: Report = quiet,
) -> dict[str, Any]:
    """Fill a label volume between its annotated slices, and write it to a new file.

    What lies before the first annotated slice and after the last stays as it is. Two slices
    and the times between them are in memory, and 16 slices while they are written (all of
    them for NIfTI, which is written whole). Stopped work lies in `.NAME.partial` beside the
    target and goes on with the next gap; the target appears when it is complete.

    Parameters
    ----------
    source, target : path
        Any label format; the target may be of another.
    axis : {"z", "y", "x"}
    slices : sequence of int, optional
        The annotated ones; others between them are overwritten. Default: `find_slices`.
    unannotated : int
        The id by which these are found.
    method, ignore
        See `interpolate_between`.
    spacing : (z, y, x), optional
        Micrometres, where the file does not say.
    report : callable
        Called as (what, done, total, note).

    Returns
    -------
    dict
        Provenance: version, source, shape, spacing_um, axis, slices, method, ignore, and for
        each gap from, to, changed and jumped pixels and the crc32 of its two slices. It is
        kept in the attribute "interpolation" of a Zarr, or beside other files in
        STEM.interpolation.json.

    Raises
    ------
    DataError, RecipeError, OutputError
        Among others where the target is there and was made from something else.
    """
    labels = read_labels(source, spacing)
    check_method(method)
    target = Path(target)
    _check_target(target)
    place = axis_of(axis)
    if slices is None:
        report("look for slices", 0, 1, "")
        slices = find_slices(labels, axis, unannotated)
        report("look for slices", 1, 1, f"{len(slices)} annotated")
    known = check_slices(slices, labels.shape[place], axis)
    key = {
        "version": brodmann.__version__,
        "source": str(source),
        "shape": list(labels.shape),
        "dtype": str(labels.dtype),
        "spacing_um": list(labels.spacing),
        "axis": axis,
        "slices": list(known),
        "method": method,
        "ignore": ignore,
    }
    if target.exists():
        return _already(target, key, labels)
    folder = target.with_name(f".{target.name}.partial")
    progress = _progress(folder, key)
    chunks = [min(WIDTH, n) for n in labels.shape]
    chunks[place] = min(DEPTH, labels.shape[place])
    store = folder / f"{stem_of(target)}.zarr"
    out = open_output(store, labels.shape, labels.dtype, "zyx", labels.spacing, tuple(chunks))
    for start, stop in ((0, known[0]), (known[-1], labels.shape[place])):
        for low in range(start, stop, DEPTH):
            window = _window(place, low, min(low + DEPTH, stop))
            out[window] = np.asarray(labels.data[window])
    gaps = list(pairwise(known))
    before = take_slice(labels, axis, known[0])
    done: list[dict[str, Any]] = []
    for number, (start, stop) in enumerate(gaps):
        report("gaps", number, len(gaps), f"{start}-{stop}")
        after = take_slice(labels, axis, stop)
        crc = _crc(before, after)
        row = next((row for row in progress if row["to"] == stop and row["crc32"] == crc), None)
        if row is None:
            found = interpolate_between(
                before,
                after,
                stop - start,
                spacing=plane_spacing(labels, axis),
                method=method,
                ignore=ignore,
            )
            _write_gap(out, found, place, start, stop)
            row = {"from": start, "to": stop, "changed": len(found.pixels)}
            row |= {"jumped": found.jumped, "crc32": crc}
        done.append(row)
        write_json(folder / "progress.json", {"key": key, "gaps": done})
        before = after
    report("gaps", len(gaps), len(gaps), "")
    result = key | {"gaps": done}
    _finish(source, target, store, labels, result)
    shutil.rmtree(folder, ignore_errors=True)
    return result


def _check_target(target: Path) -> None:
    suffix = suffix_of(target)
    if KINDS.get(suffix, "picture") == "picture" or suffix in READ_ONLY or split_name(target)[1]:
        raise OutputError(
            "label volumes are written to one of these",
            target,
            suffix or target.suffix,
            "use .zarr .tif .nii .nii.gz .h5",
        )
    make_folder(target.parent)


def sidecar(target: Path) -> Path:
    """Where the provenance of a file that has no attributes stands.

    >>> sidecar(Path("a/dense.nii.gz")).name
    'dense.interpolation.json'
    """
    return target.with_name(f"{stem_of(target)}.interpolation.json")


def provenance(target: Path) -> dict[str, Any] | None:
    """What `interpolate_volume` noted about a file, or None where it made none."""
    try:
        if KINDS.get(suffix_of(target)) == "ngff":
            import zarr

            found = zarr.open_group(str(target), mode="r").attrs.get(ATTRIBUTE)
        else:
            found = json.loads(sidecar(target).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError):
        return None
    return found if isinstance(found, dict) else None


def _already(target: Path, key: dict[str, Any], labels: Volume) -> dict[str, Any]:
    """The provenance of a finished target, or an error if it is something else."""
    found = provenance(target) or {}
    same = {name: found.get(name) for name in key} == key
    slices, axis = key["slices"], key["axis"]
    if same:
        before = take_slice(labels, axis, slices[0])
        for row, stop in zip(found["gaps"], slices[1:]):
            after = take_slice(labels, axis, stop)
            same = same and row["crc32"] == _crc(before, after)
            before = after
    if not same:
        raise OutputError(
            "something else is in the way", target, fix="remove it or choose another name"
        )
    return found


def _progress(folder: Path, key: dict[str, Any]) -> list[dict[str, Any]]:
    """The gaps that are done already; a folder left by other work is emptied."""
    try:
        said = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        if said["key"] == key:
            return list(said["gaps"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    return []


def _write_gap(out: Any, found: Between, place: int, start: int, stop: int) -> None:
    """The first slice and all between, a layer of chunks at a time."""
    low = start
    while low < stop:
        high = min((low // DEPTH + 1) * DEPTH, stop)
        block = np.stack([found.at(index - start, stop - start) for index in range(low, high)])
        out[_window(place, low, high)] = np.moveaxis(block, 0, place)
        low = high


def _window(place: int, start: int, stop: int) -> tuple[slice, ...]:
    window = [slice(None)] * 3
    window[place] = slice(start, stop)
    return tuple(window)


def _crc(before: np.ndarray, after: np.ndarray) -> int:
    return zlib.crc32(after.tobytes(), zlib.crc32(before.tobytes()))


def _finish(
    source: str | Path, target: Path, store: Path, labels: Volume, result: dict[str, Any]
) -> None:
    import zarr

    kind = KINDS[suffix_of(target)]
    if kind == "ngff":
        add_pyramid(store, labels=True)
        zarr.open_group(str(store), mode="r+").attrs[ATTRIBUTE] = result
        try:
            store.replace(target)
        except OSError as error:
            raise OutputError("cannot write", target, error.strerror or error) from error
        return
    # The note first: a file without one could never be told from somebody else's.
    write_json(sidecar(target), result)
    whole = read_volume(store)
    origin = split_name(source)[0]
    if kind == "nifti" and KINDS.get(suffix_of(origin)) == "nifti":
        _write_nifti_like(origin, target, whole)
    else:
        write_volume(target, whole, labels=True)


def _write_nifti_like(origin: Path, target: Path, volume: Volume) -> None:
    """Keep the place and orientation of the source, so that both lie upon each other in viewers."""
    import nibabel

    like = nibabel.load(origin)
    grid = volume.numpy().T.reshape(like.shape)
    image = nibabel.Nifti1Image(grid, like.affine, like.header, dtype=grid.dtype)
    with written_beside(target) as beside:
        nibabel.save(image, beside)
