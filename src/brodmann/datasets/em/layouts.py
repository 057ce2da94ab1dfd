"""Where the files of a public volume lie in a folder, by a table of names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Volume
from brodmann.datasets.em.stacks import checked
from brodmann.io import read_volume, with_spacing

DEPTH = 4
"""Folders are looked through so far below the one named."""


@dataclass(frozen=True)
class Pair:
    """An image and its labels: file names, or folders of slices, in any case.

    `reversed_` says that the label slices count from the other end.
    """

    image: tuple[str, ...]
    labels: tuple[str, ...]
    reversed_: bool = False

    def __str__(self) -> str:
        return f"{self.image[0]} and {self.labels[0]}"


def below(root: Path, fix: str) -> dict[str, Path]:
    """Every file and folder up to four folders below `root` by its name in lower case.

    The nearest one counts where a name is met twice.

    Raises
    ------
    DataError
        If there is no such folder; `fix` says how to come by it.
    """
    if not root.is_dir():
        raise DataError("no such folder", root, fix=fix)
    found: dict[str, Path] = {}
    level = [root]
    for _ in range(DEPTH):
        inside = [
            sub
            for folder in level
            for sub in sorted(folder.iterdir())
            if not sub.name.startswith(".")
        ]
        for sub in inside:
            found.setdefault(sub.name.lower(), sub)
        level = [sub for sub in inside if sub.is_dir()]
    return found


def find_pair(root: Path, pairs: tuple[Pair, ...], what: str, fix: str) -> tuple[Path, Path, Pair]:
    """The first layout of the table whose image and labels are both there.

    Raises
    ------
    DataError
        Says what was looked for, and which half was there alone.
    """
    found = below(root, fix)
    half = ""
    for pair in pairs:
        image = next((found[n.lower()] for n in pair.image if n.lower() in found), None)
        labels = next((found[n.lower()] for n in pair.labels if n.lower() in found), None)
        if image and labels:
            return image, labels, pair
        if image or labels:
            half = half or f"{(image or labels).name} alone"  # type: ignore[union-attr]
    seen = ", ".join(sorted(path.name for path in root.iterdir())[:6])
    looked = "; ".join(map(str, pairs))
    raise DataError(
        f"no {what} here", root, half or seen or "nothing", f"looked for {looked}; {fix}"
    )


@dataclass(frozen=True)
class Found:
    """Opens a pair that `find_pair` met, with a spacing of its own."""

    image: Path
    labels: Path
    spacing: tuple[float, ...]
    reversed_: bool = False

    def __call__(self) -> tuple[Volume, Volume]:
        image, labels = (_open(path) for path in (self.image, self.labels))
        image = with_spacing(image, self.spacing)
        if self.order == "reversed":
            labels = Volume(_Backwards(labels.data), "zyx", labels.spacing)
        return checked(image, labels, str(self.labels))

    @cached_property
    def order(self) -> str:
        """How label slices run beside image slices, "same" or "reversed": seen from the data."""
        usual = "reversed" if self.reversed_ else "same"
        return _seen_order(str(self.image), str(self.labels), usual)


def _open(path: Path) -> Volume:
    if path.is_dir():
        return Volume(open_slices(str(path)), "zyx", (1, 1, 1))
    return read_volume(path, axes="zyx", spacing="unit")


@lru_cache(maxsize=8)
def _seen_order(image: str, labels: str, usual: str) -> str:
    picture, ids = _open(Path(image)), _open(Path(labels))
    if picture.shape != ids.shape:
        return usual  # `checked` says so
    return label_order(picture.data, ids.data, usual)


def label_order(image: Any, labels: Any, usual: str = "same") -> str:
    """Whether label slices fit image slices in the same or in the reversed order.

    Borders of neurons are darker than what they enclose. Three slices, well away from the
    middle, are tried both ways; the usual order stands unless the other fits clearly better.

    Example
    -------
    >>> image = np.full((9, 8, 8), 200, np.uint8)
    >>> ids = np.zeros((9, 8, 8), np.uint32)
    >>> for z in range(9):
    ...     ids[z, :, :] = 1 + (np.arange(8) > z % 7)
    ...     image[z, :, z % 7 : z % 7 + 2] = 60
    >>> label_order(image, ids), label_order(image, ids[::-1])
    ('same', 'reversed')
    """
    depth = image.shape[0]
    slices = sorted({depth // 8, depth // 4, depth - 1 - depth // 5})
    pictures = [np.asarray(image[z]) for z in slices]
    fits = {}
    for order in ("same", "reversed"):
        gaps = []
        for z, picture in zip(slices, pictures):
            ids = np.asarray(labels[z if order == "same" else depth - 1 - z])
            edge = np.zeros(ids.shape, bool)
            for axis in range(2):
                here = [slice(None)] * 2
                there = [slice(None)] * 2
                here[axis], there[axis] = slice(0, -1), slice(1, None)
                differ = ids[tuple(here)] != ids[tuple(there)]
                edge[tuple(here)] |= differ
                edge[tuple(there)] |= differ
            inside = (ids > 0) & ~edge
            if edge.any() and inside.any():
                spread = float(picture.std()) or 1.0
                gaps.append(float(picture[inside].mean() - picture[edge].mean()) / spread)
        fits[order] = float(np.mean(gaps)) if gaps else 0.0
    other = "reversed" if usual == "same" else "same"
    return other if fits[other] > max(1.5 * fits[usual], 0.1) else usual


class _Backwards:
    """An array-like with its first axis the other way round."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.shape, self.dtype = tuple(source.shape), np.dtype(source.dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = key if isinstance(key, tuple) else (key,)
        first, depth = keys[0], self.shape[0]
        if not isinstance(first, slice):
            return np.asarray(self._source[(depth - 1 - first % depth, *keys[1:])])
        start, stop, step = first.indices(depth)
        rows = range(start, stop, step)
        if not rows:
            return np.asarray(self._source[(slice(0, 0), *keys[1:])])
        low, high = depth - 1 - rows[-1], depth - 1 - rows[0]
        part = np.asarray(self._source[(slice(low, high + 1, step), *keys[1:])])
        return part[::-1]


@lru_cache(maxsize=8)
def open_slices(folder: str) -> Any:
    """A folder of pictures, one a slice, in the order of the last number in their names.

    Colours become ids: red x 65536 + green x 256 + blue.

    Raises
    ------
    DataError
        If there is none, one has no number, or a number is missing or there twice.
    """
    files = [
        file
        for file in sorted(Path(folder).iterdir())
        if file.suffix.lower() in (".png", ".tif", ".tiff") and not file.name.startswith(".")
    ]
    if not files:
        raise DataError("no pictures in this folder", folder)
    numbers = []
    for file in files:
        digits = re.findall(r"\d+", file.stem)
        if not digits:
            raise DataError("a slice without a number", file)
        numbers.append(int(digits[-1]))
    order = np.argsort(numbers, kind="stable")
    run = [numbers[i] for i in order]
    for a, b in pairwise(run):
        if b != a + 1:
            what = "two slices of one number" if a == b else "a slice is missing"
            raise DataError(what, folder, f"{a}, then {b}")
    return _Slices([files[i] for i in order])


class _Slices:
    """Pictures of one size as a volume; a slice is read when it is asked for."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        first = _picture(files[0])
        self.shape, self.dtype = (len(files), *first.shape), first.dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = key if isinstance(key, tuple) else (key,)
        first, rest = keys[0], tuple(keys[1:])
        if not isinstance(first, slice):
            return self._read(first)[rest]
        planes = [self._read(z)[rest] for z in range(*first.indices(self.shape[0]))]
        if planes:
            return np.stack(planes)
        return np.zeros((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]

    def _read(self, z: int) -> np.ndarray:
        plane = _picture(self._files[z])
        if plane.shape != self.shape[1:] or plane.dtype.kind != self.dtype.kind:
            raise DataError(
                "slices of different sizes or kinds",
                self._files[z],
                f"{plane.shape} {plane.dtype}",
                f"the first is {self.shape[1:]} {self.dtype}",
            )
        return plane.astype(self.dtype, copy=False)


def _picture(file: Path) -> np.ndarray:
    picture = read_volume(file, spacing="unit")
    values = picture.numpy()
    if picture.axes == "yx":
        return values
    if picture.axes == "cyx" and picture.num_channels >= 3 and values.dtype == np.uint8:
        red, green, blue = (values[c].astype(np.uint32) for c in range(3))
        return (red << 16) | (green << 8) | blue
    raise DataError("a slice is one grey or RGB picture", file, f"{picture.axes} {values.dtype}")
