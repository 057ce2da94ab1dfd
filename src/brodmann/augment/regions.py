"""Primary regions: the units that are cut out of one section and pasted into another."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy import ndimage

from brodmann.core import DataError, Dataset, LabelMap
from brodmann.core.labels import unique_inverse

Box = tuple[slice, ...]
BARE = 255
"""In a map of regions: pixels that belong to no region and may be covered (ignore)."""
MOST = 250
TABLE_BITS = 16


class Regions:
    """The primary regions of a label map, numbered from 1.

    Parameters
    ----------
    label_map : LabelMap
        Any tree: 118 subregions under 11 give 11 regions, a flat list gives one for each id.

    Raises
    ------
    DataError
        If there are none, or more than 250.

    Example
    -------
    >>> from brodmann.core import Label
    >>> tree = LabelMap([Label(1, "Thalamus", "TH"), Label(5, "VP", "VP", 1), Label(9, "CB", "CB")])
    >>> regions = Regions(tree)
    >>> regions.ids, regions.of(np.array([0, 5, 9])).tolist()
    ((1, 9), [0, 1, 2])
    """

    def __init__(self, label_map: LabelMap) -> None:
        self.label_map = label_map
        self.ids = tuple(dict.fromkeys(label_map.primary(id_) for id_ in label_map.classes))
        if not 0 < len(self.ids) <= MOST:
            raise DataError(
                f"mixing needs 1 to {MOST} primary regions",
                found=len(self.ids),
                fix="give labels.csv a column `parent` that groups the regions",
            )
        place = {id_: i for i, id_ in enumerate(self.ids, start=1)}
        self._region = {id_: place[label_map.primary(id_)] for id_ in label_map.classes}
        if label_map.ignore is not None:
            self._region[label_map.ignore] = BARE

    @classmethod
    def of_pool(cls, pool: Dataset | None) -> Regions:
        """Those of a pool, which must have a label map."""
        if pool is None or pool.label_map is None:
            raise DataError(
                "mixing needs a pool of labelled samples and their label map",
                pool.name if pool is not None else None,
                fix="add labels.csv to the dataset",
            )
        return cls(pool.label_map)

    def __len__(self) -> int:
        return len(self.ids)

    def number(self, id_: int) -> int:
        """The number of a primary region's id."""
        return self.ids.index(id_) + 1

    def acronym(self, number: int) -> str:
        return self.label_map[self.ids[number - 1]].acronym

    @cached_property
    def _table(self) -> np.ndarray:
        table = np.zeros(1 << TABLE_BITS, np.uint8)
        for id_, number in self._region.items():
            if id_ < len(table):
                table[id_] = number
        return table

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Label ids -> region numbers, uint8, any shape; background and unknown 0, ignore 255."""
        if ids.dtype.itemsize * 8 <= TABLE_BITS and ids.dtype.kind == "u":
            return self._table[ids]
        present, inverse = unique_inverse(ids)
        numbers = np.array([self._region.get(int(id_), 0) for id_ in present], np.uint8)
        return numbers[inverse].reshape(ids.shape)


def boxes(regions: np.ndarray) -> dict[int, Box]:
    """The bounding box of every region number that a map holds; 0 and 255 have none."""
    found = ndimage.find_objects(regions)
    return {i: box for i, box in enumerate(found, start=1) if box is not None and i != BARE}


def outline(regions: np.ndarray, most: int = 1024) -> np.ndarray:
    """The brain: labelled pixels with their gaps and holes filled; bool, the map's shape.

    Found at no more than `most` pixels on the longest side, since it only keeps pasted
    regions from drifting off the tissue; an unlabelled tract at the rim is then inside too.
    """
    step = -(-max(regions.shape) // most)
    small = regions[(slice(None, None, step),) * regions.ndim] > 0
    reach = max(1, max(small.shape) // 128)
    wide = np.pad(small, reach)
    cross = ndimage.generate_binary_structure(small.ndim, 1)
    wide = ndimage.binary_closing(wide, cross, iterations=reach)
    filled = ndimage.binary_fill_holes(wide)[(slice(reach, -reach),) * small.ndim]
    for axis, size in enumerate(regions.shape):
        filled = filled.repeat(step, axis)[(slice(None),) * axis + (slice(size),)]
    return filled | (regions > 0)
