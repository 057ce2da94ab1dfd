"""The contingency matrix: every overlap metric of every class from one pass over the pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import njit

from brodmann.core import BACKGROUND, IGNORE_CLASS, DataError, LabelMap, Volume

UNKNOWN = -2
"""What the lookup gives for an id that is no class."""
STRIP_PIXELS = 1 << 23
"""Pixels read at a time from a volume on disk."""
ALIGN = 512
"""Strips start at multiples of this many rows, so that few tiles of a file are read twice."""


class ClassTable:
    """Label id -> class index, in the forms that the fast passes use.

    Parameters
    ----------
    classes : int or LabelMap
        A label map takes label ids; a number n takes class indices 0..n-1, with -1 as ignore.

    Example
    -------
    >>> from brodmann.core import Label
    >>> table = ClassTable(LabelMap([Label(7, "Thalamus", "TH")], ignore=255))
    >>> table.size, table.to_classes(np.array([[0, 7, 255]], np.uint8)).tolist()
    (2, [[0, 1, -1]])
    """

    def __init__(self, classes: int | LabelMap) -> None:
        if isinstance(classes, LabelMap):
            index = {id_: i for i, id_ in enumerate(classes.classes, start=1)}
            index[BACKGROUND] = 0
            if classes.ignore is not None:
                index[classes.ignore] = IGNORE_CLASS
            self.size = classes.num_classes
        else:
            index = {i: i for i in range(int(classes))} | {IGNORE_CLASS: IGNORE_CLASS}
            self.size = int(classes)
        self._index = index
        self._ids = np.array(sorted(index), np.int64)
        self._classes = np.array([index[int(id_)] for id_ in self._ids], np.int16)

    def to_classes(self, ids: np.ndarray, where: str = "labels") -> np.ndarray:
        """Label ids of any shape -> class indices, int16 (-1 is ignore).

        Raises
        ------
        DataError
            Names the ids that are no class.
        """
        ids = np.asarray(ids)
        flat = _flat(ids, where)
        classes, known = self._look_up(flat)
        if not known:
            self.refuse(flat, where)
        return classes.reshape(ids.shape)

    def refuse(self, flat: np.ndarray, where: str) -> None:
        """Raise a DataError that names the ids among these pixels that are no class, if any."""
        unknown = [int(id_) for id_ in np.unique(flat) if int(id_) not in self._index]
        if unknown:
            raise DataError(
                "label ids that are no class in the label table",
                where,
                ", ".join(map(str, unknown[:8])) + (" ..." if len(unknown) > 8 else ""),
                "add them to labels.csv (with class 1 if it has that column), or set them to the"
                " ignore id",
            )

    def coded(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pixels as uint8 or uint16 codes, and code -> class (int16) for every code.

        No copy is made of pixels that have 8 or 16 bits already.
        """
        if flat.dtype.itemsize > 2:
            flat, _ = self._look_up(flat)
            keys = {IGNORE_CLASS: IGNORE_CLASS} | {i: i for i in range(self.size)}
        else:
            keys = self._index
        low = np.iinfo(flat.dtype).min
        codes = flat.view(f"u{flat.dtype.itemsize}")
        lookup = np.full(1 << 8 * flat.dtype.itemsize, UNKNOWN, np.int16)
        for id_, class_ in keys.items():
            if low <= id_ < low + len(lookup):
                lookup[id_] = class_  # a negative id counts from the end, as its bits do
        return codes, lookup

    def _look_up(self, flat: np.ndarray) -> tuple[np.ndarray, bool]:
        if flat.dtype.itemsize <= 2:
            codes, lookup = self.coded(flat)
            classes = lookup[codes]
            return classes, not (classes == UNKNOWN).any()
        classes = np.empty(flat.shape, np.int16)
        return classes, _bisect(flat, self._ids, self._classes, classes)


def contingency(
    truth: Any,
    prediction: Any,
    classes: int | LabelMap | ClassTable,
    *,
    mask: Any = None,
    where: str = "",
) -> np.ndarray:
    """Count pixels by (true class, predicted class) in one pass.

    Volumes are read in strips of rows, so a section larger than memory can be scored; label
    ids are looked up inside the pass. Pixels whose truth is ignore, and those outside `mask`,
    are not counted. A predicted ignore counts as background: to abstain is to miss.

    Parameters
    ----------
    truth, prediction : array or Volume, any integer type, same shape
        Label ids of a LabelMap, or class indices where `classes` is a number.
    classes : int, LabelMap or ClassTable
        The number of classes (background among them), or the label map of the ids.
    mask : array or Volume, optional
        Tissue; pixels where it is 0 are skipped unseen.
    where : str
        Name of the image, for errors.

    Returns
    -------
    (n, n) int64
        Rows are the truth, columns the prediction, class 0 is background.

    Raises
    ------
    DataError
        If shapes differ, pixels are not whole numbers, or an id is no class.

    Notes
    -----
    Equal neighbours are counted as one run, so the cost is near that of reading the pixels
    (benchmarks/contingency.py).

    Example
    -------
    >>> truth = np.array([[0, 1, 1], [2, 2, -1]])
    >>> contingency(truth, np.array([[0, 1, 2], [2, 2, 2]]), 3).tolist()
    [[1, 0, 0], [0, 1, 1], [0, 0, 2]]
    """
    table = classes if isinstance(classes, ClassTable) else ClassTable(classes)
    shapes = [_spatial_shape(image) for image in (truth, prediction)]
    if shapes[0] != shapes[1]:
        raise DataError(
            "truth and prediction differ in shape",
            where or None,
            f"truth {shapes[0]}, prediction {shapes[1]}",
            "predict at the labels' own size",
        )
    if mask is not None and _spatial_shape(mask) != shapes[0]:
        raise DataError(
            "mask and truth differ in shape",
            where or None,
            f"mask {_spatial_shape(mask)}, truth {shapes[0]}",
        )
    counts = np.zeros((table.size, table.size), np.int64)
    names = [f"{where}: {side}" if where else side for side in ("truth", "prediction")]
    for window in _strips(shapes[0]):
        rows = _flat(_read(truth, window, names[0]), names[0])
        columns = _flat(_read(prediction, window, names[1]), names[1])
        keep = np.zeros(0, np.uint8)
        if mask is not None:
            keep = (np.ascontiguousarray(_read(mask, window, "mask")) != 0).reshape(-1)
            keep = keep.view(np.uint8)
        row_codes, row_of = table.coded(rows)
        column_codes, column_of = table.coded(columns)
        if not _count(row_codes, column_codes, keep, row_of, column_of, counts):
            inside = slice(None) if mask is None else keep.view(bool)
            table.refuse(rows[inside], names[0])
            table.refuse(columns[inside], names[1])
    return counts


def _spatial_shape(image: Any) -> tuple[int, ...]:
    if isinstance(image, Volume):
        return image.spatial_shape
    shape = tuple(int(size) for size in np.shape(image))
    if not shape:
        raise DataError("a label image has at least one axis", found="a single number")
    return shape


def _strips(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Windows over the first axis of about STRIP_PIXELS each."""
    rows = max(1, STRIP_PIXELS // max(1, int(np.prod(shape[1:], dtype=np.int64))))
    rows = rows // ALIGN * ALIGN or rows
    for start in range(0, shape[0], rows):
        stop = min(start + rows, shape[0])
        yield (slice(start, stop), *(slice(0, size) for size in shape[1:]))


def _read(image: Any, window: tuple[slice, ...], where: str) -> np.ndarray:
    if not isinstance(image, Volume):
        return np.asarray(image[window])
    if image.num_channels != 1:
        raise DataError(
            "label images have one channel", where, f"{image.num_channels}", "export ids, not RGB"
        )
    return image.read(window)[0]


def _flat(ids: np.ndarray, where: str) -> np.ndarray:
    """Flat, contiguous, and one of uint8, uint16, int16 and int64."""
    if ids.dtype.kind not in "iub":
        raise DataError("label images hold whole numbers", where, ids.dtype)
    flat = np.ascontiguousarray(ids).reshape(-1)
    if flat.dtype == bool:
        return flat.view(np.uint8)
    native = flat.dtype.newbyteorder("=")
    if native in (np.uint8, np.uint16, np.int16):
        return flat.astype(native, copy=False)
    return flat.astype(np.int64, copy=False)


@njit(cache=True, nogil=True)
def _bisect(flat, ids, classes, out):
    """Write the class of every pixel, bisecting once a run; False if an id has none."""
    known = True
    last, class_ = ids[0], classes[0]
    for i in range(flat.size):
        if flat[i] != last:
            last = flat[i]
            at = min(np.searchsorted(ids, last), ids.size - 1)
            class_ = classes[at] if ids[at] == last else np.int16(-2)
            known = known and class_ != -2
        out[i] = class_
    return known


@njit(cache=True, nogil=True)
def _count(truth, prediction, keep, row_of, column_of, counts):
    """Add up runs of equal pixels; False, and a count that is not whole, on an unknown id."""
    # Unsigned positions spare the test for negative ones; 16 pixels are compared at a time in
    # a loop that becomes vector instructions. Together 2.6 times as fast as a plain loop.
    one, block, n = np.uint64(1), np.uint64(16), np.uint64(truth.size)
    masked = keep.size > 0
    width = counts.shape[0]
    flat = counts.reshape(-1)
    start = np.uint64(0)
    while start < n:
        if masked and keep[start] == 0:
            start += one
            continue
        t, p = truth[start], prediction[start]
        i = start + one
        if masked:
            while i < n and keep[i] != 0 and truth[i] == t and prediction[i] == p:
                i += one
        else:
            while i + block <= n:
                differ = np.uint64(0)
                for k in range(16):
                    at = i + np.uint64(k)
                    differ |= (truth[at] ^ t) | (prediction[at] ^ p)
                if differ != 0:
                    break
                i += block
            while i < n and truth[i] == t and prediction[i] == p:
                i += one
        row, column = row_of[t], column_of[p]
        if row < -1 or column < -1:
            return False
        if row >= 0:
            flat[row * width + max(column, 0)] += np.int64(i - start)
        start = i
    return True
