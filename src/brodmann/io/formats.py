"""One way in and one way out: the format is told by the name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from brodmann.core import DataError, OutputError, Volume
from brodmann.core.files import written_beside
from brodmann.io.raw import LazyArray, Raw

KINDS = {
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".bmp": "picture",
    ".ome.tif": "tiff",
    ".ome.tiff": "tiff",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".ome.zarr": "ngff",
    ".zarr": "ngff",
}
"""Suffix -> reader."""
READ_ONLY = (".jpg", ".jpeg", ".bmp")
SUFFIXES = tuple(sorted(KINDS, key=len, reverse=True))


def split_name(path: str | Path) -> tuple[Path, str]:
    """The file, and what stands after "::" (a dataset within HDF5 or zarr).

    >>> split_name("brain.h5::volumes/raw")
    (PosixPath('brain.h5'), 'volumes/raw')
    """
    file, _, inner = str(path).partition("::")
    return Path(file), inner


def suffix_of(path: str | Path) -> str:
    """The suffix by which the format is known, in lower case, or "" for none of ours.

    >>> suffix_of("a/b.OME.TIF"), suffix_of("b.nii.gz"), suffix_of("notes.txt")
    ('.ome.tif', '.nii.gz', '')
    """
    name = split_name(path)[0].name.lower()
    return next((end for end in SUFFIXES if name.endswith(end) and name != end), "")


def stem_of(path: str | Path) -> str:
    """The name without folder and suffix, by which images and labels are paired.

    >>> stem_of("images/mouse1.ome.tif"), stem_of("labels/mouse1.nii.gz")
    ('mouse1', 'mouse1')
    """
    name = split_name(path)[0].name
    return name[: len(name) - len(suffix_of(path))] if suffix_of(path) else Path(name).stem


def read_volume(
    path: str | Path,
    *,
    axes: str | None = None,
    spacing: Sequence[float] | str | None = None,
    level: int = 0,
) -> Volume:
    """Open an image, lazily where the format can: pixels are read when windows are.

    PNG, JPEG and BMP are read whole; TIFF, NIfTI, HDF5 and zarr by window. RGB pictures are
    "cyx" with channels red, green, blue. NIfTI arrays are reversed to (z, y, x), not rotated.

    Parameters
    ----------
    path : str or Path
        .png .jpg .bmp .tif .ome.tif .nii .nii.gz .h5 .zarr .ome.zarr; "FILE::NAME" names a
        dataset within HDF5 or zarr.
    axes : str, optional
        Where the file does not say whether a leading axis is channels or depth (default:
        depth). Axes of length one that are not asked for are dropped.
    spacing : sequence of float, optional
        Micrometres per spatial axis, taken where the file has none. "unit" takes 1.0 there:
        for readers to whom distances do not matter.
    level : int
        Of a pyramid; 0 is full resolution.

    Raises
    ------
    DataError
        If the file is missing, damaged, of unknown kind, has other axes, or no spacing is
        known.

    Example
    -------
    >>> import numpy as np, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "section.tif"
    >>> pixels = np.arange(2400, dtype=np.uint16).reshape(40, 60)
    >>> _ = write_volume(path, Volume(pixels, "yx", (25.0, 25.0)))
    >>> again = read_volume(path)
    >>> again.spacing, bool((again.numpy() == pixels).all())
    ((25.0, 25.0), True)
    """
    file, inner = split_name(path)
    kind = KINDS.get(suffix_of(path))
    if kind is None and (file / "zarr.json").exists():
        kind = "ngff"
    if kind is None:
        known = " ".join(sorted(KINDS))
        raise DataError("not an image format that can be read", file, file.suffix, f"use {known}")
    if level and kind not in ("tiff", "ngff"):
        raise DataError("this format has no pyramid levels", file, level)
    if kind == "picture":
        from brodmann.io.png import read_picture

        raw = read_picture(file)
    elif kind == "tiff":
        from brodmann.io.tiff import read_tiff

        raw = read_tiff(file, level)
    elif kind == "nifti":
        from brodmann.io.nifti import read_nifti

        raw = read_nifti(file)
    elif kind == "hdf5":
        from brodmann.io.hdf5 import read_hdf5

        raw = read_hdf5(file, inner)
    else:
        from brodmann.io.ngff import read_ngff

        raw = read_ngff(file, inner, level)
    return _settle(raw, str(path), axes, spacing)


def _settle(
    raw: Raw, where: str, axes: str | None, spacing: Sequence[float] | str | None
) -> Volume:
    """Give every axis a name and a place, drop those of length one, find the spacing."""
    shape = tuple(int(size) for size in raw.data.shape)
    letters = _letters(raw.axes, shape, axes, where)
    order = [letters.index(axis) for axis in "czyx" if axis in letters]
    named = "".join(letters[i] for i in order)
    data: Any = raw.data
    if order != list(range(len(shape))):
        if isinstance(data, LazyArray):
            data = data.taking(tuple(order))
        else:
            keep = tuple(slice(None) if i in order else 0 for i in range(len(shape)))
            left = sorted(order)
            data = data[keep].transpose([left.index(i) for i in order])
    spatial = named.removeprefix("c")
    steps = _spacing(raw.spacing, spatial, spacing, where)
    channels = raw.channels if "c" in named and len(raw.channels) == data.shape[0] else ()
    return Volume(data, named, steps, channels)


def _letters(found: str, shape: tuple[int, ...], axes: str | None, where: str) -> list[str]:
    """The final letter of every source axis, "" for one that is dropped."""
    letters = ["c" if letter == "s" else letter for letter in found]
    if axes is not None:
        # What is asked for settles unnamed axes, or renames a leading one.
        if letters.count("?") == 0 and len(letters) == len(axes) and set(letters) != set(axes):
            letters = list(axes)
        free = [axis for axis in axes if axis not in letters]
        for i, letter in enumerate(letters):
            if letter == "?" and shape[i] > 1 and free:
                letters[i] = free.pop(0)
        for i, letter in enumerate(letters):
            if letter == "?" and free:
                letters[i] = free.pop(0)
        letters = [
            "" if letter not in axes and shape[i] == 1 else letter
            for i, letter in enumerate(letters)
        ]
        if sorted(letters, reverse=True)[: len(axes)] != sorted(axes, reverse=True) or any(
            letter and letter not in axes for letter in letters
        ):
            raise DataError(
                f"the image does not have axes {axes!r}", where, f"axes {found!r}, shape {shape}"
            )
        return letters
    if letters.count("c") > 1:
        letters = ["" if letter == "c" and n == 1 else letter for letter, n in zip(letters, shape)]
    for i, letter in enumerate(letters):
        if letter == "?" and shape[i] > 1 and "z" not in letters:
            letters[i] = "z"
        elif letter == "?" and shape[i] == 1 and len(letters) > 2:
            letters[i] = ""
    left = [letter for letter in letters if letter]
    if "?" in left or len(set(left)) != len(left) or not {"y", "x"} <= set(left):
        raise DataError(
            "the image has more axes than channels, depth, height and width",
            where,
            f"axes {found!r}, shape {shape}",
            "export one time point, or name the axes",
        )
    return letters


def _spacing(
    known: dict[str, float], spatial: str, given: Sequence[float] | str | None, where: str
) -> tuple[float, ...]:
    if isinstance(given, str) and given != "unit":
        raise DataError("spacing is numbers, or the word 'unit'", where, repr(given))
    if given == "unit":
        given = (1.0,) * len(spatial)
    if given is not None and len(given) != len(spatial):
        raise DataError(
            f"spacing needs {len(spatial)} numbers, for axes {spatial!r}", where, tuple(given)
        )
    missing = [axis for axis in spatial if axis not in known]
    if missing and given is None:
        raise DataError(
            f"the file does not say its spacing along {', '.join(missing)}",
            where,
            fix="give it in micrometres (spacing_um in dataset.yaml, or the spacing option)",
        )
    return tuple(
        known[axis] if axis in known else float(given[i])  # type: ignore[index]
        for i, axis in enumerate(spatial)
    )


def write_volume(
    path: str | Path, volume: Volume, *, compression: bool = True, labels: bool = False
) -> Path:
    """Write a volume in the format that the name tells, whole or not at all; spacing is kept.

    Parameters
    ----------
    path : str or Path
        .png .tif .ome.tif .nii .nii.gz .h5 .zarr .ome.zarr; a dataset's name may follow "::"
        in HDF5. What is there is replaced.
    volume : Volume
        TIFF, HDF5 and zarr are written by window, so the volume may be larger than memory.
        Booleans become uint8.
    compression : bool
        Lossless compression; for NIfTI
        the suffix decides.
    labels : bool
        The volume is a label map: the pyramid of an OME-Zarr takes the most frequent value
        and not the mean. Other formats have no pyramid.

    Raises
    ------
    OutputError
        If the format cannot hold the volume, or the disk the file.
    """
    file, inner = split_name(path)
    suffix = suffix_of(path)
    kind = KINDS.get(suffix)
    if kind is None or suffix in READ_ONLY:
        writable = " ".join(sorted(set(KINDS) - set(READ_ONLY)))
        raise OutputError("not a format that can be written", file, suffix, f"use {writable}")
    if kind == "ngff":
        from brodmann.io.ngff import folder_beside, write_ngff

        with folder_beside(file) as beside:
            write_ngff(beside, volume, compression, labels, stem_of(file))
        return file
    with written_beside(file) as beside:
        try:
            _write_file(kind, beside, inner, volume, compression)
        except OutputError as error:
            # Name the file that was asked for, not the one beside it.
            raise OutputError(error.what, file, error.found, error.fix) from None
    return file


def _write_file(kind: str, path: Path, inner: str, volume: Volume, compression: bool) -> None:
    if kind == "picture":
        from brodmann.io.png import write_png

        write_png(path, volume, compression)
    elif kind == "tiff":
        from brodmann.io.tiff import write_tiff

        write_tiff(path, volume, compression)
    elif kind == "nifti":
        from brodmann.io.nifti import write_nifti

        write_nifti(path, volume)
    else:
        from brodmann.io.hdf5 import write_hdf5

        write_hdf5(path, volume, inner, compression)


def with_spacing(volume: Volume, spacing: Sequence[float]) -> Volume:
    """The same volume with another spacing, as when a dataset's own statement overrules a file.

    >>> import numpy as np
    >>> with_spacing(Volume(np.zeros((2, 2)), "yx", (1, 1)), (25, 25)).spacing
    (25.0, 25.0)
    """
    return replace(volume, spacing=tuple(spacing))
