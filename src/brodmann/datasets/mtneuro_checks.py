"""Whether MTNeuro's channels mean what the paper says: class fractions, regions, gaps."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from brodmann.core import DataError, RecipeError
from brodmann.datasets.bossdb_volume import BossVolume
from brodmann.datasets.cubes import Box

CLASSES = ("background", "vessel", "cell", "axon")
FRACTIONS = {
    "CTX": (93.0, 2.33, 4.64, 0.0),
    "STR": (72.63, 2.5, 5.66, 19.22),
    "VP": (22.75, 4.73, 5.73, 66.8),
    "ZI": (32.15, 5.4, 9.41, 53.04),
}
"""Percent of each class in the densely annotated cubes: Appendix 4.2.3 of the paper."""
TOLERANCE = 1.5
"""Percentage points that a class may be off: the paper does not say which slices it counted."""
LABELLED = (109, 460)
"""Slices with region codes, half-open (Appendix 1.3: 109 to 459, inclusive)."""
CATEGORIES = {"CTX": (1,), "STR": (2, 8), "VP": (3, 4), "ZI": (5, 6, 7)}
"""Category -> codes of the region channel that the release counts as it."""
RELEASED = {0: "CTX"} | {code: name for name, codes in CATEGORIES.items() for code in codes}
"""The release's reading of a code. That 0, no code at all, is cortex is its fault."""


def check_classes(counts: Mapping[str, Sequence[int]]) -> None:
    """Refuse microstructure ids that do not have the published fractions.

    Two releases number vessels and cells the other way round, which no image would betray.

    Parameters
    ----------
    counts : mapping
        Region -> voxels of ids 0 to 3 in its cube A.

    Raises
    ------
    DataError
        Names the permutation of ids that would fit, if one does.

    Example
    -------
    >>> check_classes({"CTX": [9300, 233, 464, 0]})
    >>> check_classes({"CTX": [9300, 464, 233, 0]})
    Traceback (most recent call last):
    ...
    brodmann.core.errors.DataError: the microstructure ids do not mean what the paper says \
(CTX): found id 1 is cell, id 2 is vessel, by the fractions; number them as described: 1 \
vessel, 2 cell, 3 axon
    """
    percent = {
        region: 100 * np.asarray(found, float) / max(1, int(np.sum(found)))
        for region, found in counts.items()
    }

    def off(order: Sequence[int]) -> tuple[float, float]:
        """Total and worst distance, if id k stands for class order[k]."""
        gaps = [
            abs(found[i] - FRACTIONS[region][class_])
            for region, found in percent.items()
            for i, class_ in enumerate(order)
        ]
        return sum(gaps), max(gaps)

    orders = [(0, *rest) for rest in itertools.permutations((1, 2, 3))]
    best = min(orders, key=lambda order: off(order)[0])
    fits = off(best)[1] <= TOLERANCE
    if fits and best == (0, 1, 2, 3):
        return
    where = ", ".join(percent)
    if fits:
        found = ", ".join(
            f"id {i} is {CLASSES[class_]}" for i, class_ in enumerate(best) if i != class_
        )
        raise DataError(
            "the microstructure ids do not mean what the paper says",
            where,
            f"{found}, by the fractions",
            "number them as described: 1 vessel, 2 cell, 3 axon",
        )
    worst = max(
        percent, key=lambda region: float(np.abs(percent[region] - FRACTIONS[region]).max())
    )
    raise DataError(
        "the fractions of the microstructure's classes are not those published",
        worst,
        _listed(percent[worst]),
        f"published: {_listed(FRACTIONS[worst])}; no other numbering fits either",
    )


def _listed(percent: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{name} {value:.2f} %" for name, value in zip(CLASSES, percent))


def check_regions(cube: str, region: str, first: int, counts: np.ndarray) -> None:
    """Refuse a cube whose slices are not of its region, by most of their codes.

    Parameters
    ----------
    cube, region : str
    first : int
        Its first slice.
    counts : (slices, codes) int
        Pixels of each code; slices outside `LABELLED` are not looked at.

    Raises
    ------
    DataError
        Names the first such slice, and what it is by its codes.

    Example
    -------
    >>> check_regions("vp-A", "VP", 458, np.array([[0, 0, 0, 1, 9], [0, 0, 0, 8, 2], [9, 0, 0, 0, 0]]))
    """
    for z, found in enumerate(counts, first):
        if not LABELLED[0] <= z < LABELLED[1]:
            continue
        code = int(np.argmax(found))
        if code not in CATEGORIES[region]:
            raise DataError(
                "a slice is not of the region that its cube is of",
                f"{cube} slice {z}",
                f"code {code} in {found[code] / max(1, found.sum()):.0%} of it",
                f"{region} is {' or '.join(map(str, CATEGORIES[region]))}; check the coordinates "
                "and the codes",
            )


def check_guards(volume: BossVolume, parts: Mapping[str, Sequence[Box]], guard: int) -> None:
    """Prove that voxels of different parts lie at least `guard` apart along some axis.

    Cubes of one region touch: D of striatum and of zona incerta touch A; C of cortex and of
    zona incerta, and D of VP, touch B.

    Raises
    ------
    RecipeError
        Names the two boxes.
    """
    for one, other in itertools.combinations(parts, 2):
        for a, b in itertools.product(parts[one], parts[other]):
            sides = [
                ((a.z, volume.cubes[a.cube].y, volume.cubes[a.cube].x)),
                ((b.z, volume.cubes[b.cube].y, volume.cubes[b.cube].x)),
            ]
            gap = max(max(p[0], q[0]) - min(p[1], q[1]) for p, q in zip(*sides))
            if gap < guard:
                raise RecipeError(
                    f"parts {one!r} and {other!r} are fewer than {guard} voxels apart",
                    f"{a.cube} {list(a.z)} and {b.cube} {list(b.z)}",
                    f"{gap} voxels" if gap > 0 else "they touch" if gap == 0 else "they overlap",
                    "leave a gap in z, or other cubes; slices nearer than that look alike",
                )
