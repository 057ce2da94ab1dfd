"""AC3 and AC4: mouse cortex, dense neuron ids, the paper's volumes."""

from __future__ import annotations

from pathlib import Path

from brodmann.core import Dataset, RecipeError
from brodmann.datasets.em.layouts import Found, Pair, find_pair
from brodmann.datasets.em.stacks import cut
from brodmann.datasets.em.windows import Box, as_box, centred, voxels

SPACING_UM = (0.029, 0.006, 0.006)


def _layouts(n: int, slices: str, labels: str) -> tuple[Pair, ...]:
    ends = (".h5", ".hdf5", ".tif", ".tiff")
    return (
        Pair(
            tuple(f"AC{n}_inputs{end}" for end in ends), tuple(f"AC{n}_labels{end}" for end in ends)
        ),
        Pair((slices,), (labels,), reversed_=True),
    )


LAYOUTS = {
    "AC3": _layouts(3, "ac3_EM", "ac3_dbseg_images"),
    "AC4": _layouts(4, "ac4_EM", "ac4_seg_daniel"),
}
"""Names in any folder up to four below the root. The second is VAST's package: folders of PNG,
labels in colours, whose label slices are numbered from the other end."""
BLOCKS = {4: (16, 512, 512), 20: (80, 512, 512)}
"""Percent of 100 x 1024 x 1024 -> the training block, in the middle of what training may use."""
TRAIN_SLICES, TUNE_SLICES, TUNE_SIDE, TEST_SLICES = 80, (84, 100), 512, 100
FIX = "fetch it: brodmann data get ac34 FOLDER"


def ac34(root: str | Path, ratio: float = 100, hold_out: bool = True) -> Dataset:
    """Train on AC4, tune on a held-out part of it, test on the first 100 slices of AC3.

    The paper's ratios are blocks of AC4's 100 x 1024 x 1024 voxels: 16 x 512 x 512 is 4 %,
    80 x 512 x 512 is 20 %, all of it 100 %. Thresholds must be tuned on labels that neither
    training nor test sees, so slices 84 to 99 (the 512 x 512 in their middle) are held out;
    training then has slices 0 to 79, at 100 % all of their 1024 x 1024 (80 % of the voxels).
    Without `hold_out`, 100 % is the published 100 slices and there is nothing to tune on.

    Parameters
    ----------
    root : str or Path
        Holds one of `LAYOUTS`, at most four folders below: AC3_inputs.h5, AC3_labels.h5 and
        the same of AC4 (dataset "main"; TIFF too), or VAST's package as it unpacks. Whether
        label slices count from the other end is seen from the data: neurons' borders are dark.
    ratio : float
        Percent of AC4 for training. 4 and 20 are the paper's blocks; others are blocks of like
        proportions, at most 80 with `hold_out` (and 100, see above).
    hold_out : bool

    Returns
    -------
    Dataset
        "ac4-train", "ac4-tune", "ac3-test"; 0.029 x 0.006 x 0.006 um; both volumes are of one
        mouse. "First" slices are those of the image files' own order.

    Raises
    ------
    DataError
        If no known layout is found (the error lists them), shapes differ, or labels do not fit.
    RecipeError
        If ratio is not a percentage, or more than is left.

    Source: Kasthuri et al. 2015; specs of the neurons issue for blocks and split.

    Example
    -------
    >>> ac34("data/ac34", ratio=4)["ac4-train"].image.shape  # doctest: +SKIP
    (16, 512, 512)
    """
    root = Path(root)
    openers = {
        volume: Found(image, labels, SPACING_UM, pair.reversed_)
        for volume, pairs in LAYOUTS.items()
        for image, labels, pair in [find_pair(root, pairs, volume, FIX)]
    }
    shapes = {volume: open_()[0].shape for volume, open_ in openers.items()}
    parts = {"ac4-train": ("AC4", "train", train_block(shapes["AC4"], ratio, hold_out))}
    if hold_out:
        box = as_box(TUNE_SLICES, shapes["AC4"], "ac34, tune")
        parts["ac4-tune"] = ("AC4", "tune", (box[0], *map(_middle, shapes["AC4"][1:])))
    parts["ac3-test"] = ("AC3", "test", (0, TEST_SLICES))
    orders = ", ".join(f"{volume} {open_.order}" for volume, open_ in openers.items())
    return cut(
        "ac34",
        openers,
        parts,
        subjects={"AC3": "mouse", "AC4": "mouse"},
        licence="public download, see the VAST page (Lichtman laboratory)",
        citation="Kasthuri et al. 2015, Cell 162, 648",
        description=f"mouse cortex, {ratio:g} % of AC4 to train on"
        f"{', slices 84 to 99 of it to tune' if hold_out else ''}; order of labels: {orders}",
    )


def train_block(shape: tuple[int, ...], ratio: float, hold_out: bool = True) -> Box:
    """The training window in AC4.

    >>> train_block((100, 1024, 1024), 4), train_block((100, 1024, 1024), 100)
    (((32, 48), (256, 768), (256, 768)), ((0, 80), (0, 1024), (0, 1024)))
    """
    whole = ((0, shape[0]), (0, shape[1]), (0, shape[2]))
    centred(whole, ratio)  # refuses what is no percentage
    room: Box = as_box((0, TRAIN_SLICES), shape, "ac34, train") if hold_out else whole
    if ratio == 100:
        return room
    if ratio in BLOCKS:
        sides = BLOCKS[int(ratio)]
        box = tuple(
            (a + (b - a - n) // 2, a + (b - a - n) // 2 + n) for (a, b), n in zip(room, sides)
        )
        return as_box(box, shape, f"ac34, {ratio:g} %")
    percent = ratio * voxels(whole) / voxels(room)
    if percent > 100:
        raise RecipeError(
            "so much is not left for training",
            "ratio",
            ratio,
            "at most 80 while slices are held out to tune on, or 100 for all that is left",
        )
    return centred(room, percent)


def _middle(size: int) -> tuple[int, int]:
    side = min(TUNE_SIDE, size)
    return (size - side) // 2, (size - side) // 2 + side
