"""What every reader hands back, and arrays that are read by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import BrodmannError, DataError

RGB = ("red", "green", "blue")
UNITS_UM = {
    "angstrom": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "\\u00b5m": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "centimetre": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "metre": 1e6,
}
"""Micrometres in one unit, by the names that file formats use (in lower case)."""


def in_um(value: float, unit: str | None) -> float | None:
    """A length in micrometres, or None where the unit is unknown or the length not positive.

    >>> in_um(0.00117, "mm"), in_um(4, "nanometer"), in_um(1, "pixel")
    (1.17, 0.004, None)
    """
    factor = UNITS_UM.get((unit or "").strip().lower())
    if factor is None or not np.isfinite(value) or value <= 0:
        return None
    # Headers hold single precision; six digits are what they mean.
    return float(f"{value * factor:.6g}")


@dataclass(frozen=True)
class Raw:
    """An opened image before its axes and spacing are settled.

    `axes` has a letter for each axis of `data`: c, z, y, x, or "?" for one that the format
    does not name. `spacing` is in micrometres for z, y and x, None where the file is silent.
    """

    data: Any
    axes: str
    spacing: dict[str, float]
    channels: tuple[str, ...] = ()


class LazyArray:
    """An array on disk that is opened again for each read, or kept open, and read by window.

    Parameters
    ----------
    open_ : callable
        Returns an array-like; picklable, so that the lazy array is.
    path : Path
        For errors.
    shape, dtype
        Of the source.
    take : tuple of int
        The source axis for each axis of this array; axes left out are read at 0.
    keep_open : bool
        False opens it again for each read: a memory map that is kept holds every page
        that was ever touched.
    """

    def __init__(
        self,
        open_: Callable[[], Any],
        path: Path,
        shape: tuple[int, ...],
        dtype: Any,
        take: tuple[int, ...] | None = None,
        keep_open: bool = True,
    ) -> None:
        self._open, self._path, self._keep = open_, Path(path), keep_open
        self._source_shape = tuple(int(size) for size in shape)
        self._take = tuple(range(len(shape))) if take is None else tuple(take)
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.shape = tuple(self._source_shape[axis] for axis in self._take)
        self._source: Any = None

    def __repr__(self) -> str:
        return f"<LazyArray {self._path.name} shape={self.shape} dtype={self.dtype}>"

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_source": None}

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def taking(self, take: tuple[int, ...]) -> LazyArray:
        """The same file with axes reordered or left out, by their position here."""
        inner = tuple(self._take[axis] for axis in take)
        return LazyArray(self._open, self._path, self._source_shape, self.dtype, inner, self._keep)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array on disk cannot be handed out without a copy")
        return self[...].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray:
        window = _full_key(key, self.shape)
        wanted: list[slice] = [slice(0, 1)] * len(self._source_shape)
        after: list[Any] = [0] * self.ndim
        for axis, (part, size) in enumerate(zip(window, self.shape)):
            if isinstance(part, int):
                wanted[self._take[axis]], after[axis] = slice(part, part + 1), 0
                continue
            steps = range(*part.indices(size))
            if len(steps) == 0:
                wanted[self._take[axis]], after[axis] = slice(0, 0), slice(None)
                continue
            low, high = min(steps[0], steps[-1]), max(steps[0], steps[-1])
            wanted[self._take[axis]] = slice(low, high + 1)
            after[axis] = slice(None, None, steps.step)
        if any(part.start == part.stop for part in wanted):
            block = np.empty([part.stop - part.start for part in wanted], self.dtype)
        else:
            block = self._read(tuple(wanted))
        dropped = [axis for axis in range(block.ndim) if axis not in self._take]
        block = np.transpose(block, (*self._take, *dropped))
        return block[(*after, *(0 for _ in dropped))]

    def _read(self, window: tuple[slice, ...]) -> np.ndarray:
        with reading(self._path):
            source = self._source if self._source is not None else self._open()
            if self._keep:
                self._source = source
            block = np.array(source[window], self.dtype)
            if block.shape != tuple(part.stop - part.start for part in window):
                raise DataError("the file is shorter than it says", self._path, block.shape)
            return block


def chunks_of(data: Any) -> tuple[int, ...] | None:
    """Values along each axis that an array on disk decodes together.

    None where any window costs what it holds: arrays in memory, memory maps.

    >>> chunks_of(np.zeros((4, 5))) is None
    True
    """
    if isinstance(data, LazyArray):
        with reading(data._path):
            source = data._source if data._source is not None else data._open()
        chunks = getattr(source, "chunks", None)
        return None if chunks is None else tuple(int(chunks[axis]) for axis in data._take)
    chunks = getattr(data, "chunks", None)
    if not chunks or not all(isinstance(n, int) for n in chunks):
        return None
    return tuple(chunks)


def _full_key(key: Any, shape: tuple[int, ...]) -> tuple[int | slice, ...]:
    key = key if isinstance(key, tuple) else (key,)
    if any(part is Ellipsis for part in key):
        at = next(i for i, part in enumerate(key) if part is Ellipsis)
        fill = (slice(None),) * (len(shape) - len(key) + 1)
        key = (*key[:at], *fill, *key[at + 1 :])
    key = (*key, *(slice(None),) * (len(shape) - len(key)))
    if len(key) != len(shape):
        raise IndexError(f"{len(key)} indices for {len(shape)} axes")
    full: list[int | slice] = []
    for part, size in zip(key, shape):
        if isinstance(part, slice):
            full.append(part)
            continue
        index = int(part)
        if not -size <= index < size:
            raise IndexError(f"index {index} outside an axis of {size}")
        full.append(index % size)
    return tuple(full)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises over a bad file into one DataError that names the file."""
    try:
        yield
    except BrodmannError:
        raise
    except Exception as error:
        # Decoders raise all kinds: OSError, ValueError, SyntaxError, struct.error, their own.
        detail = f"{type(error).__name__}: {error}".split("\n")[0][:160]
        raise DataError(
            "the file is damaged, cut short, or not what its name says",
            path,
            detail,
            "open it in another viewer; copy or export it again",
        ) from error


def check_file(path: Path) -> Path:
    """Refuse a file that is not there, is a folder or is empty."""
    path = Path(path)
    if not path.exists():
        raise DataError("no such file", path, fix="check the path")
    if path.is_dir():
        raise DataError("this is a folder, not an image file", path)
    if path.stat().st_size == 0:
        raise DataError("the file is empty (0 bytes)", path, fix="copy or export it again")
    return path


def blocks(shape: tuple[int, ...], size: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Windows of at most `size` that cover `shape`, row-major.

    >>> len(list(blocks((5, 4), (2, 4))))
    3
    """
    counts = [-(-n // s) for n, s in zip(shape, size)]
    for index in np.ndindex(*counts):
        yield tuple(slice(i * s, min((i + 1) * s, n)) for i, s, n in zip(index, size, shape))
