"""Slice 309 of the MTNeuro volume: patches that show one region each, and its regions, dense.

The slice is one plane of one brain. What trains and what tests lie apart: each region is cut
in two at the middle of its pixels along x, with a gap between the halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from brodmann.core import DataError, Dataset, Label, LabelMap, RecipeError, Sample, Volume
from brodmann.datasets.em.stacks import need_file
from brodmann.io import read_volume

SPACING_UM = 1.17
REGIONS = LabelMap(
    [
        Label(1, "somatosensory cortex", "CTX", None, "4C9F70"),
        Label(2, "striatum", "STR", None, "E0A030"),
        Label(3, "reticular nucleus of the thalamus", "TRN", None, "8A6FC0"),
        Label(4, "ventral posterior thalamus", "VP", None, "D0505A"),
        Label(5, "zona incerta", "ZI", None, "3E86C8"),
        Label(6, "internal capsule", "IC", None, "B8B070"),
        Label(7, "hypothalamus", "HY", None, "C77FB0"),
        Label(8, "corpus callosum", "CC", None, "7A7A7A"),
    ],
    ignore=255,
)
IDS = {label.acronym: label.id for label in REGIONS}
TASK = ("CTX", "STR", "VP", "ZI")
FILES = ("slice309_image.tif", "slice309_regions.tif")
CLUSTER_PX = 256
"""Patches whose centres share a square of this side count as one when intervals are drawn."""
FOLDS = 4
"""Quarters of a training half, of which one is held out to choose settings."""
Direction = Literal["left-right", "right-left"]
DIRECTIONS = ("left-right", "right-left")
LICENCE = "CC BY 4.0"
CITATION = "Prasad et al. 2020, Scientific Data 7:358; Quesada et al. 2022 (MTNeuro)"


def xray_patches(
    root: str | Path,
    direction: Direction = "left-right",
    patch_px: int = 128,
    downsample: int = 1,
    stride_px: int = 16,
    test_stride_px: int = 64,
    gap_px: int = 128,
    fold: int | None = None,
) -> Dataset:
    """Square patches of the slice, each wholly within one of four regions.

    Parameters
    ----------
    root : str or Path
        Holds xray/slice309_image.tif and xray/slice309_regions.tif, or these files.
    direction : "left-right" or "right-left"
        Which half of each region trains; the other tests.
    patch_px : int
        Side of a patch in pixels of 1.17 um.
    downsample : int
        Patches are averaged over squares of this side.
    stride_px, test_stride_px : int
        Steps of the grid on which patches to train and to test lie; they overlap where the
        step is below `patch_px`.
    gap_px : int
        Between the halves of a region. Patches of the two share no pixel whatever the gap.
    fold : 0 to 3, optional
        For the choice of settings: the test half is left out; of the training half one quarter
        of every region along x, counted from the left, is to test, and what of the rest shares
        no pixel with it to train.

    Returns
    -------
    Dataset
        Samples "CTX-x4211-y0064": image uint8 "yx", `category` the region's acronym, `subject`
        the square of 256 px that holds the centre, with its half, splits train and test.

    Raises
    ------
    DataError
        If a file is missing or wrong, or a region holds no patch.
    RecipeError
        If an option is none.

    Source: specs mtneuro; the gap keeps patches to test from those to train, as the paper's ten
    slices do in depth.

    Example
    -------
    >>> xray_patches("data")["VP-x1200-y0640"].category  # doctest: +SKIP
    'VP'
    """
    if direction not in DIRECTIONS:
        raise RecipeError("no such direction", "direction", direction, " or ".join(DIRECTIONS))
    numbers = {"patch_px": patch_px, "downsample": downsample, "stride_px": stride_px,
               "test_stride_px": test_stride_px}  # fmt: skip
    for key, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise RecipeError("a whole number from 1 is needed", key, value)
    if patch_px % downsample:
        raise RecipeError("patches must divide by the downsampling", "downsample", downsample)
    if gap_px < 0:
        raise RecipeError("a gap cannot be negative", "gap_px", gap_px)
    if fold is not None and fold not in range(FOLDS):
        raise RecipeError("no such fold", "fold", fold, f"0 to {FOLDS - 1}")
    image, regions = _open(root)
    parts: dict[str, list[tuple[str, int, int]]] = {"train": [], "test": []}
    middles = {}
    for acronym in TASK:
        mask = regions == IDS[acronym]
        middles[acronym] = float(np.median(np.nonzero(mask)[1])) if mask.any() else 0.0
        halves = _places(mask, middles[acronym], patch_px, gap_px)
        train, test = halves if direction == "left-right" else halves[::-1]
        train = _on_grid(train, stride_px)
        if fold is not None:
            train, test = _held_out(train, fold, patch_px)
        found = {"train": train, "test": _on_grid(test, test_stride_px)}
        for part, places in found.items():
            if not len(places):
                raise DataError(
                    f"region {acronym} holds no {part}ing patch",
                    FILES[1],
                    f"patch_px {patch_px}, gap_px {gap_px}"
                    + ("" if fold is None else f", fold {fold}"),
                    "make patches or the gap smaller",
                )
            parts[part] += [(acronym, *map(int, place)) for place in places]
    places = {_name(*place): place for members in parts.values() for place in members}
    return Dataset(
        f"xray-patches-{direction}",
        list(places),
        _Patches(image, places, patch_px, downsample),
        None,
        {
            _name(*place): _cluster(place, patch_px, middles) + ("" if fold is None else f"-{part}")
            for part, members in parts.items()
            for place in members
        },
        {part: [_name(*place) for place in members] for part, members in parts.items()},
        LICENCE,
        CITATION,
        "Patches of four regions in one plane of X-ray tomography",
    )


def _open(root: str | Path) -> tuple[np.ndarray, np.ndarray]:
    folder = need_file(Path(root), "xray", *FILES)
    image, regions = (read_volume(folder / f, axes="yx", spacing="unit").numpy() for f in FILES)
    if image.shape != regions.shape:
        raise DataError("image and regions differ in shape", folder, [image.shape, regions.shape])
    known = {0, *(label.id for label in REGIONS)}
    found = set(np.unique(regions).tolist())
    if not found <= known:
        raise DataError(
            "labels outside the vocabulary", folder / FILES[1], sorted(found - known)[:5],
            "regions are 1 to 8, 0 is clear",
        )  # fmt: skip
    return image, regions


def _places(mask: np.ndarray, middle: float, patch: int, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Top left corners (n, 2) of patches wholly in the mask, left and right of the middle."""
    if not mask.any():
        empty = np.empty((0, 2), int)
        return empty, empty
    sums = np.pad(mask.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    held = (
        sums[patch:, patch:]
        - sums[:-patch, patch:]
        - sums[patch:, :-patch]
        + sums[:-patch, :-patch]
    )
    y, x = np.nonzero(held == patch * patch)
    left, right = x + patch <= middle - gap / 2, x >= middle + gap / 2
    return np.stack([y[left], x[left]], 1), np.stack([y[right], x[right]], 1)


def _on_grid(places: np.ndarray, stride: int) -> np.ndarray:
    return places[(places % stride == 0).all(1)]


def _held_out(places: np.ndarray, fold: int, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Places outside a quarter along x that share no pixel with it, and those inside."""
    if not len(places):
        return places, places
    x = places[:, 1]
    ends = np.quantile(x, np.arange(1, FOLDS) / FOLDS)
    held = np.searchsorted(ends, x, side="right") == fold
    if not held.any():
        return places, places[held]
    apart = (x + patch <= x[held].min()) | (x >= x[held].max() + patch)
    return places[apart], places[held]


def _averaged(values: np.ndarray, side: int) -> np.ndarray:
    """Means of squares of an image whose sides are multiples of theirs."""
    height, width = (n // side for n in values.shape)
    means = values.reshape(height, side, width, side).mean((1, 3))
    return np.rint(means).astype(values.dtype)


def _name(acronym: str, y: int, x: int) -> str:
    return f"{acronym}-x{x:04d}-y{y:04d}"


def _cluster(place: tuple[str, int, int], patch: int, middles: dict[str, float]) -> str:
    """The square that holds a patch's centre, cut where the halves of its region meet."""
    acronym, y, x = place
    side = "left" if x < middles[acronym] else "right"
    row, column = (y + patch // 2) // CLUSTER_PX, (x + patch // 2) // CLUSTER_PX
    return f"{acronym}-{side}-{row}-{column}"


@dataclass(frozen=True, eq=False)
class _Patches:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    image: np.ndarray
    places: dict[str, tuple[str, int, int]]
    patch: int
    downsample: int

    def __call__(self, name: str) -> Sample:
        acronym, y, x = self.places[name]
        values = self.image[y : y + self.patch, x : x + self.patch]
        if self.downsample > 1:
            values = _averaged(values, self.downsample)
        spacing = SPACING_UM * self.downsample
        return Sample(
            name,
            Volume(np.ascontiguousarray(values), "yx", (spacing, spacing)),
            category=acronym,
            meta={"x": x, "y": y, "region": acronym},
        )


def xray_regions(
    root: str | Path,
    direction: Direction = "left-right",
    gap_px: int = 128,
    downsample: int = 1,
) -> Dataset:
    """The whole slice with its eight regions, one half of each labelled to train.

    A region is cut along its longer side: all along x but the corpus callosum, an upright band.

    Both samples are the same image. In "train" the labels of the other half of each region, and
    of the gap, are the ignore id 255, in "test" those of the first half; so what is scored is
    labels that training never saw, of an image that it did.

    Parameters
    ----------
    root, direction, gap_px
        As for `xray_patches`; the gap in pixels of 1.17 um.
    downsample : int
        The image is averaged over squares of this side. A square takes the label of the pixel at
        its middle: borders were drawn to 5 pixels. What is left over at the far edges is cut off.

    Returns
    -------
    Dataset
        Samples "train" and "test", image and labels uint8 "yx" at 1.17 um x `downsample`.
    """
    if direction not in DIRECTIONS:
        raise RecipeError("no such direction", "direction", direction, " or ".join(DIRECTIONS))
    if gap_px < 0:
        raise RecipeError("a gap cannot be negative", "gap_px", gap_px)
    if not isinstance(downsample, int) or downsample < 1:
        raise RecipeError("a whole number from 1 is needed", "downsample", downsample)
    image, regions = _open(root)
    halves = [np.full_like(regions, 255) for _ in range(2)]
    for label in REGIONS:
        mask = regions == label.id
        if not mask.any():
            continue
        places = np.nonzero(mask)
        long = int(np.argmax([np.ptp(found) for found in places]))
        along = np.expand_dims(np.arange(regions.shape[long]), 1 - long)
        middle = float(np.median(places[long]))
        for half, inside in zip(
            halves, (along < middle - gap_px / 2, along >= middle + gap_px / 2)
        ):
            np.copyto(half, label.id, where=mask & inside)
    ordered = halves if direction == "left-right" else halves[::-1]
    if downsample > 1:
        height, width = (n // downsample * downsample for n in image.shape)
        image = _averaged(image[:height, :width], downsample)
        middle_px = slice(downsample // 2, None, downsample)
        ordered = [
            np.ascontiguousarray(half[:height, :width][middle_px, middle_px]) for half in ordered
        ]
    labels = dict(zip(("train", "test"), ordered))
    return Dataset(
        f"xray-regions-{direction}",
        ["train", "test"],
        _Halves(image, labels, SPACING_UM * downsample),
        REGIONS,
        {"train": "slice309", "test": "slice309"},
        {"train": ["train"], "test": ["test"]},
        LICENCE,
        CITATION,
        "Eight regions in one plane of X-ray tomography, half of each labelled",
    )


@dataclass(frozen=True, eq=False)
class _Halves:
    image: np.ndarray
    labels: dict[str, np.ndarray]
    spacing_um: float

    def __call__(self, name: str) -> Sample:
        spacing = (self.spacing_um, self.spacing_um)
        return Sample(
            name, Volume(self.image, "yx", spacing), Volume(self.labels[name], "yx", spacing)
        )
