"""Blocks of a volume that does not fit in memory, and marks on disk of those that are done."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, OutputError, RecipeError
from brodmann.core.files import make_folder, write_json, write_text

FOLDER_SIZE = 1000
"""Marks in one folder: file systems grow slow with millions."""
KEY = "key"


@dataclass(frozen=True)
class Block:
    """One block of a grid.

    Attributes
    ----------
    number : int
        Row-major, from 0.
    window : tuple of slice
        The voxels it owns; those of all blocks cover the volume once.
    outer : tuple of slice
        The same with the halo, clipped to the volume.
    """

    number: int
    window: tuple[slice, ...]
    outer: tuple[slice, ...]

    @property
    def inner(self) -> tuple[slice, ...]:
        """Where `window` lies within an array of `outer`."""
        return tuple(
            slice(w.start - o.start, w.stop - o.start) for w, o in zip(self.window, self.outer)
        )

    @property
    def voxels(self) -> int:
        """How many it owns."""
        return int(np.prod([w.stop - w.start for w in self.window]))

    def __str__(self) -> str:
        names = "zyx"[-len(self.window) :] if len(self.window) <= 3 else "?" * len(self.window)
        spans = ", ".join(f"{a} {w.start}:{w.stop}" for a, w in zip(names, self.window))
        return f"block {self.number} ({spans})"


@dataclass(frozen=True)
class BlockGrid:
    """Blocks over a shape: half-open, each voxel owned by one; the last of an axis is cut.

    Parameters
    ----------
    shape, block : tuple of int
        In voxels; a block larger than the volume is cut to it.
    halo : tuple of int
        Voxels around each block that are read with it, where the volume has them.

    Example
    -------
    >>> grid = BlockGrid((5, 4), (2, 4), (1, 1))
    >>> len(grid), str(grid[2]), grid[2].outer[0], grid[2].inner[0]
    (3, 'block 2 (y 4:5, x 0:4)', slice(3, 5, None), slice(1, 2, None))
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]
    halo: tuple[int, ...] = ()
    counts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if not shape or min(shape) < 1:
            raise DataError("an empty volume has no blocks", found=f"shape {shape}")
        block = tuple(min(int(n), size) for n, size in zip(self.block, shape))
        halo = tuple(int(n) for n in self.halo) or (0,) * len(shape)
        if len(self.block) != len(shape) or min(block) < 1:
            raise RecipeError(
                f"a block of a {len(shape)}D volume is {len(shape)} sizes of at least 1",
                "block",
                self.block,
            )
        if len(halo) != len(shape) or min(halo) < 0:
            raise RecipeError("a halo is a number of voxels for each axis", "halo", self.halo)
        counts = tuple(-(-n // b) for n, b in zip(shape, block))
        for name, value in (("shape", shape), ("block", block), ("halo", halo), ("counts", counts)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return int(np.prod(self.counts, dtype=np.int64))

    def __getitem__(self, number: int) -> Block:
        if not 0 <= number < len(self):
            raise IndexError(number)
        window, outer = [], []
        index = np.unravel_index(number, self.counts)
        for i, size, limit, halo in zip(index, self.block, self.shape, self.halo):
            first, last = int(i) * size, min((int(i) + 1) * size, limit)
            window.append(slice(first, last))
            outer.append(slice(max(0, first - halo), min(limit, last + halo)))
        return Block(number, tuple(window), tuple(outer))

    def __iter__(self) -> Iterator[Block]:
        return (self[number] for number in range(len(self)))

    def touching(self, window: Sequence[slice]) -> list[int]:
        """Numbers of the blocks that own a voxel of a window, ascending.

        >>> BlockGrid((6, 4), (2, 2)).touching((slice(1, 3), slice(0, 2)))
        [0, 2]
        """
        spans = [range(w.start // size, -(-w.stop // size)) for w, size in zip(window, self.block)]
        return [int(n) for n in np.ravel_multi_index(np.ix_(*spans), self.counts).reshape(-1)]


def work_key(*parts: Any) -> str:
    """A short hash of all that some work depends on: plain data, in any order of keys.

    >>> work_key({"a": 1, "b": 2}) == work_key({"b": 2, "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


class Marks:
    """What is done: one small file a block, with what the block reported.

    A mark is written when the output of its block is on disk, whole or not at all. Marks of
    another key are those of other work: they are cleared.

    Parameters
    ----------
    folder : Path
        Made if need be; nothing else may lie there.
    key : str
        Of everything that the work depends on, see `work_key`.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "marks"
    >>> Marks(folder, "a").write(3, {"count": 7})
    >>> Marks(folder, "a").read(5), Marks(folder, "b").read(5)
    ({3: {'count': 7}}, {})
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = Path(folder), key
        held = self.folder / KEY
        if not held.is_file() or held.read_text(encoding="utf-8") != key:
            self.clear()

    def clear(self) -> None:
        """Nothing is done."""
        if self.folder.exists():
            # The key goes first: marks without one count for nothing, should this be cut short.
            (self.folder / KEY).unlink(missing_ok=True)
            try:
                shutil.rmtree(self.folder)
            except OSError as error:
                raise OutputError(
                    "cannot clear the marks of earlier work", self.folder, error.strerror
                ) from error
        make_folder(self.folder)
        write_text(self.folder / KEY, self.key)

    def write(self, number: int, facts: dict[str, Any]) -> None:
        """Mark a block as done.

        Raises
        ------
        OutputError
            If the disk is full, say; the block is then not done.
        """
        path = self._path(number)
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError("cannot write", path, error.strerror or error) from error
        write_json(path, {"key": self.key, "facts": facts})

    def get(self, number: int) -> dict[str, Any] | None:
        """What a block reported, None if it is not done."""
        try:
            mark = json.loads(self._path(number).read_text(encoding="utf-8"))
            return mark["facts"] if mark["key"] == self.key else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a damaged mark marks nothing

    def read(self, count: int) -> dict[int, dict[str, Any]]:
        """What is done of blocks 0 to `count`, by number, ascending."""
        found = {}
        for base in range(0, count, FOLDER_SIZE):
            folder = self._path(base).parent
            if not folder.is_dir():
                continue
            names = {path.name for path in folder.iterdir()}
            for number in range(base, min(base + FOLDER_SIZE, count)):
                if self._path(number).name in names:
                    facts = self.get(number)
                    if facts is not None:
                        found[number] = facts
        return found

    def _path(self, number: int) -> Path:
        return self.folder / str(number // FOLDER_SIZE) / f"{number}.json"
