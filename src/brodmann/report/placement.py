"""One region before and after overlap-aware placement (PRMix, Fig. 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from brodmann.augment.mixing import OnGrid, as_box
from brodmann.augment.prmix.placement import Candidate, Forbidden
from brodmann.augment.regions import BARE as NOBODY
from brodmann.augment.regions import Regions, outline
from brodmann.augment.warp import warp
from brodmann.core import BACKGROUND, DataError, Dataset, LabelMap, Sample
from brodmann.report.expansion import acronym, read_json
from brodmann.report.sheet import (
    MARGIN,
    SOFT,
    SOURCES,
    Cell,
    Sheet,
    aspect,
    checked,
    composites,
    viewed,
)

WIDTH, GAP, HEAD, FOOT = 560, 16, 132, 44
COVERED = (1.0, 0.16, 0.1, 0.85)
"""Pixels that must not be covered, and are."""


@dataclass(frozen=True)
class Placed:
    """One pasted region on its target, as (h, w) bool maps on the target's grid.

    `own` is the target's region; `before` and `after` the source's, as drawn and as placed;
    `wall` is what it must not cover. `told` are numbers, in pixels.
    """

    target: Sample
    label_map: LabelMap
    own: np.ndarray
    before: np.ndarray
    after: np.ndarray
    wall: np.ndarray
    params: Mapping[str, Any]
    told: dict[str, Any]


def save_placement(
    record: Path | Mapping[str, Any], dataset: Dataset, path: Path, *, region: str | None = None
) -> dict[str, Any]:
    """Draw a target, and one pasted region on it as it was drawn and as it was placed.

    Red is what the region covers and must not, by the method's own rule; the dashed box is
    around it. What earlier regions of the same copy cover or free counts too.

    Parameters
    ----------
    record : Path or mapping
        Provenance of a prmix copy of a section (2D).
    dataset : Dataset
        The one that was expanded.
    path : Path
        .png, .pdf or .svg.
    region : str, optional
        Acronym of one of the pasted regions; the one whose overlap shrank most.

    Returns
    -------
    dict
        `path`, `region`, `source`, and in pixels `area`, `overlap_before`, `overlap_after`,
        as counted in the picture.

    Raises
    ------
    DataError
        If the record is of another method, of a volume, or lacks the region.
    """
    path = checked(path)
    placed = placed_region(record, dataset, region)
    _draw(placed).save(path)
    return {"path": str(path), **placed.told}


def placed_region(
    record: Path | Mapping[str, Any], dataset: Dataset, region: str | None = None
) -> Placed:
    """What `save_placement` draws, made again from provenance and counted anew."""
    where = record if isinstance(record, Path) else None
    record = read_json(record) if isinstance(record, Path) else record
    placed = record.get("params", {}).get("regions")
    if record.get("method") != "prmix" or not placed:
        raise DataError("a picture of a placement needs a copy made by prmix", where)
    if len(record["params"]["shape"]) != 2:
        raise DataError("a placement is drawn in sections, not in volumes", where)
    pool = dataset.split(record["split"]) if dataset.splits else dataset
    index = _index(placed, pool, region, where)
    target = pool[record["target"]]
    regions = Regions.of_pool(pool)
    numbers = regions.of(target.labels.numpy()).copy()
    brain = outline(numbers) if record["options"]["avoid"] == "neighbours" else None
    for one in placed[:index]:
        mask = _mask(one, pool, target, regions)
        _exchange(numbers, one, mask, regions, record["options"]["bare"])
    one = placed[index]
    number = regions.number(one["id"])
    wall = _forbidden(numbers, number, brain)
    mask = _mask(one, pool, target, regions)
    # As drawn, it lies where the shift had not moved it yet.
    back = tuple(-step for step in one["shift_vox"])
    told = {
        "region": acronym(pool.label_map, one["id"]),
        "source": one["source"],
        "area": mask.area,
        "overlap_before": Forbidden(wall).overlap(mask, back),
        "overlap_after": Forbidden(wall).overlap(mask),
    }
    before, after = (_on_frame(mask, shift, wall.shape) for shift in (back, (0, 0)))
    return Placed(target, pool.label_map, numbers == number, before, after, wall, one, told)


def _index(placed: list, pool: Dataset, region: str | None, where: Path | None) -> int:
    names = [acronym(pool.label_map, one["id"]) for one in placed]
    if region is None:
        gains = [one["overlap_before"] - one["overlap_after"] for one in placed]
        return int(np.argmax(gains))
    if region not in names:
        raise DataError(
            "this region was not pasted", where, repr(region), "pasted: " + ", ".join(names)
        )
    return names.index(region)


def _mask(one: Mapping[str, Any], pool: Dataset, target: Sample, regions: Regions) -> Candidate:
    """A region of its source, turned and scaled, where it was placed."""
    view = OnGrid(pool[one["source"]], target)
    ids = view.labels[as_box(one["from"])]
    region = (regions.of(ids) == regions.number(one["id"])).astype(np.uint8)
    size = [stop - start for start, stop in one["to"]]
    bare = np.empty((0, *region.shape), np.float32)
    mask = warp(bare, region, np.array(one["matrix"]), size, None, 0.0, 0)[1].astype(bool)
    return Candidate(mask, tuple(start for start, _ in one["to"]))


def _exchange(
    numbers: np.ndarray, one: Mapping[str, Any], mask: Candidate, regions: Regions, bare: str
) -> None:
    """The target's map of regions as pasting one changes it."""
    number = regions.number(one["id"])
    if bare != "keep":
        cut = as_box(one["cut"])
        numbers[cut][numbers[cut] == number] = NOBODY
    numbers[_on_frame(mask, (0, 0), numbers.shape)] = number


def _forbidden(numbers: np.ndarray, number: int, brain: np.ndarray | None) -> np.ndarray:
    if brain is None:
        return numbers != number
    others = (numbers != BACKGROUND) & (numbers != number) & (numbers != NOBODY)
    return others | ~brain


def _on_frame(mask: Candidate, shift: tuple[int, ...], frame: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(frame, bool)
    box = mask.box(shift)
    inner = tuple(slice(max(b.start, 0), min(b.stop, n)) for b, n in zip(box, frame))
    if all(side.start < side.stop for side in inner):
        part = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, box))
        found[inner] = mask.mask[part]
    return found


def _draw(placed: Placed) -> Sheet:
    target, told, one = placed.target, placed.told, placed.params
    shape = aspect(target.image)
    down = round(WIDTH / shape)
    sheet = Sheet(2 * MARGIN + 3 * WIDTH + 2 * GAP, HEAD + 2 * (down + GAP) + FOOT)
    angle = ", ".join(f"{turn:+.1f}" for turn in np.atleast_1d(one["rotation_deg"]))
    step = " × ".join(f"{n:+d}" for n in one["shift_vox"])
    sheet.head(
        f"{told['region']} of {told['source']} on {target.name}",
        f"Turned {angle}°, scaled {one['scale']:.3f}, then shifted {step} pixels (y × x) to the "
        "place of least overlap.",
    )

    def share(count: int) -> str:
        return f"covers {count} pixels of others, {100 * count / told['area']:.1f} % of its area"

    panels = [
        ("target", "its own region, which is cut out", placed.own),
        ("as drawn", share(told["overlap_before"]), placed.before),
        ("as placed", share(told["overlap_after"]), placed.after),
    ]
    zoom = _zoom([mask for *_, mask in panels], placed.own.shape)
    close = tuple(slice(*ends) for ends in zoom)
    windows = ((slice(None), slice(None)), close)
    views = [target.image.like(target.image.read(window)) for window in windows]
    pictures = composites([viewed(v, 2 * WIDTH, mean=True) for v in views], target.image.channels)
    for column, (title, words, mask) in enumerate(panels):
        left = MARGIN + column * (WIDTH + GAP)
        sheet.text(left, HEAD - 32, title, 15, bold=True, width=WIDTH)
        sheet.text(left, HEAD - 13, words, 12, SOFT, width=WIDTH)
        for row, (rgb, window) in enumerate(zip(pictures, windows)):
            cell = Cell(left, HEAD + row * (down + GAP), WIDTH, down).fitted(shape)
            sheet.picture(rgb, cell)
            labels = target.labels.numpy()[window]
            sheet.outlines(_thin(labels), placed.label_map, cell, 0.8)
            sheet.strong(_thin(mask[window]), cell, SOURCES[0 if column else 1], 2.2)
            covered = _thin((mask & placed.wall)[window])
            if column and covered.any():
                sheet.tint(covered, cell, COVERED)
                if row == 0:
                    sheet.box(cell.part(_around(covered)), "#ffffff", 1.2, dashed=True)
        if column == 0:
            frame = [edge / n for ends, n in zip(zoom, mask.shape) for edge in ends]
            top = Cell(left, HEAD, WIDTH, down).fitted(shape)
            sheet.box(top.part(frame), "#ffffff", 1.2)
    sheet.legend(
        [
            (SOURCES[1], "the target's own region"),
            (SOURCES[0], "the source's region"),
            (COVERED, "covers a neighbour, or lies outside the brain's outline"),
        ],
        sheet.height - 18,
    )
    return sheet


def _around(mask: np.ndarray) -> list[float]:
    """Top, bottom, left, right of what a mask holds, with a little air, as shares."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return [
        (edge + air) / size
        for side, size in zip(box, mask.shape)
        for edge, air in ((side.start, -2), (side.stop, 2))
    ]


def _thin(values: np.ndarray) -> np.ndarray:
    """Every n-th pixel, so that a full section's outlines stay drawable."""
    step = max(1, -(-max(values.shape) // (2 * WIDTH)))
    return values[::step, ::step]


def _zoom(masks: list[np.ndarray], frame: tuple[int, ...]) -> list[tuple[int, int]]:
    """Rows and columns around all masks, with a margin, in the frame's proportions."""
    (box,) = ndimage.find_objects(np.any(masks, axis=0).astype(np.uint8))
    side = 1.25 * max((b.stop - b.start) / n for b, n in zip(box, frame))
    side = min(max(side, 0.1), 1.0)
    found = []
    for b, n in zip(box, frame):
        size = max(1, round(side * n))
        start = min(max(0, (b.start + b.stop - size) // 2), n - size)
        found.append((start, start + size))
    return found
