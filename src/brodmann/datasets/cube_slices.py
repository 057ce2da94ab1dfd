"""How a sample of cubes is read: its slices, labels, category and measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from brodmann.core import DataError, LabelMap, Sample, Volume

if TYPE_CHECKING:
    from brodmann.datasets.cubes import Cube

Piece = tuple[str, int, int]
"""Cube, first slice, end."""


@dataclass(frozen=True)
class Slices:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    cubes: dict[str, Callable[[], Cube]]
    pieces: dict[str, tuple[Piece, ...]]
    answer: str
    label_map: LabelMap | None
    mapping: dict[int, int]
    depth: int
    truth: str
    codes: dict[int, str]
    published: bool
    size: int | None
    downsample: int
    opened: dict[str, Cube] = field(default_factory=dict, compare=False, repr=False)
    measured: dict[str, dict[str, float]] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # What is open stays here: workers open the cubes themselves.
        return self.__dict__ | {"opened": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __call__(self, name: str) -> Sample:
        pieces = self.pieces[name]
        cube = self._open(pieces[0][0])
        if not cube.region:
            raise DataError("a cube that names no region", cube.name)
        pixels, spacing = self._read("image", pieces)
        image = self._volume(_mean(pixels, self.downsample, cube.name), spacing)
        labels, attributes = None, {}
        if self.answer != "category":
            ids = self._ids(pieces)
            if self.answer == "labels":
                labels = self._volume(_most(ids, self.downsample, cube.name), spacing)
            else:
                attributes = self._attributes(name, ids, spacing)
        return Sample(
            name,
            image,
            labels,
            category=self._category(cube, pieces),
            attributes=attributes,
            subject=cube.name,
            meta={"cube": cube.name, "region": cube.region, "z": pieces[0][1]},
        )

    def _open(self, name: str) -> Cube:
        if name not in self.opened:
            self.opened[name] = self.cubes[name]()
        return self.opened[name]

    def _read(self, kind: str, pieces: Sequence[Piece]) -> tuple[np.ndarray, tuple[float, ...]]:
        """The slices of one kind, (z, y, x), and their spacing."""
        blocks, steps = [], set()
        for name, start, stop in pieces:
            cube = self._open(name)
            volume = getattr(cube, kind)
            if volume is None:
                raise DataError(f"the cube has no {kind}", name)
            blocks.append(_middle(cube.read(volume, start, stop), self.size, name))
            steps.add(volume.spacing)
        if len(steps) > 1 or len({block.shape[1:] for block in blocks}) > 1:
            raise DataError("cubes of one stack differ in grid", pieces[0][0], sorted(steps))
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks), steps.pop()

    def _volume(self, data: np.ndarray, spacing: tuple[float, ...]) -> Volume:
        steps = (spacing[0], spacing[1] * self.downsample, spacing[2] * self.downsample)
        if self.depth == 1:
            return Volume(data[0], "yx", steps[1:])
        return Volume(data, "zyx", steps)

    def _ids(self, pieces: Sequence[Piece]) -> np.ndarray:
        ids, _ = self._read("microstructure", pieces)
        if ids.dtype.kind not in "iub":
            raise DataError("labels are whole numbers", pieces[0][0], ids.dtype)
        if self.mapping:
            mapped = ids.copy()
            for old, new in self.mapping.items():
                mapped[ids == old] = new
            ids = mapped
        assert self.label_map is not None
        wrong = sorted(set(np.unique(ids).tolist()) - self.label_map.ids_allowed)
        if wrong:
            raise DataError(
                "labels outside the vocabulary",
                f"{pieces[0][0]} slice {pieces[0][1]}",
                wrong[:8],
                f"known: {sorted(self.label_map.ids_allowed)}",
            )
        return ids

    def _attributes(
        self, name: str, ids: np.ndarray, spacing: tuple[float, ...]
    ) -> dict[str, float]:
        """Measured once: components of a slice cost more than reading it."""
        if name not in self.measured:
            from brodmann.metrics.attributes import attributes_of

            assert self.label_map is not None
            known = {label.acronym: label.id for label in self.label_map}
            plane = self.depth == 1
            self.measured[name] = attributes_of(
                ids[0] if plane else ids,
                spacing[1:] if plane else spacing,
                vessel=known.get("vessel"),
                cell=known.get("cell"),
                axon=known.get("axon"),
                ignore=self.label_map.ignore,
                published_distance=self.published,
            )
        return dict(self.measured[name])

    def _category(self, cube: Cube, pieces: Sequence[Piece]) -> str:
        if self.truth == "cube":
            return cube.region
        codes, _ = self._read("regions", pieces)
        present, counts = np.unique(codes, return_counts=True)
        code = int(present[counts.argmax()])
        if code not in self.codes:
            raise DataError(
                "a code of the region channel that nothing is known of",
                f"{cube.name} slice {pieces[0][1]}",
                code,
                f"known: {sorted(self.codes)}",
            )
        return self.codes[code]


def _middle(block: np.ndarray, size: int | None, name: str) -> np.ndarray:
    if size is None:
        return block
    rows, columns = block.shape[1:]
    if size > min(rows, columns):
        raise DataError("a size larger than the cube", name, f"{size} of {rows} x {columns}")
    y, x = (rows - size) // 2, (columns - size) // 2
    return block[:, y : y + size, x : x + size]


def _windows(block: np.ndarray, factor: int, name: str) -> np.ndarray:
    """(z, y, x) as (z, y / f, x / f, f * f)."""
    z, y, x = block.shape
    if y % factor or x % factor:
        raise DataError(f"slices that do not divide by {factor}", name, f"{y} x {x}")
    split = block.reshape(z, y // factor, factor, x // factor, factor)
    return split.transpose(0, 1, 3, 2, 4).reshape(z, y // factor, x // factor, factor**2)


def _mean(block: np.ndarray, factor: int, name: str) -> np.ndarray:
    if factor == 1:
        return np.ascontiguousarray(block)
    mean = _windows(block, factor, name).mean(axis=-1, dtype=np.float64)
    return (np.rint(mean) if block.dtype.kind in "iub" else mean).astype(block.dtype)


def _most(block: np.ndarray, factor: int, name: str) -> np.ndarray:
    if factor == 1:
        return np.ascontiguousarray(block)
    windows = _windows(block, factor, name)
    present = np.unique(block)
    votes = np.stack([(windows == id_).sum(axis=-1, dtype=np.int32) for id_ in present])
    return present[votes.argmax(axis=0)]
