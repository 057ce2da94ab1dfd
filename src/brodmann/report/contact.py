"""The contact sheet of an expansion: made images beside their targets, and what was pasted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from brodmann.augment.regions import Regions
from brodmann.core import LabelMap, keyed_rng
from brodmann.report.expansion import Expansion, words_of
from brodmann.report.sheet import (
    BARE,
    LINE,
    MARGIN,
    SOFT,
    SOURCES,
    Cell,
    Sheet,
    aspect,
    composites,
    viewed,
)

ROWS, COPIES = 4, 3
WIDTH, GAP = 1760, 16
HEAD, FOOT, LINE_HEIGHT = 88, 44, 17
SPECK = 12
"""Pixels of a sheet; smaller marks of change are not outlined."""


@dataclass(frozen=True)
class Shown:
    """One image of the sheet at display size: `raw` (c, h, w), and (h, w) ids or None."""

    name: str
    raw: np.ndarray
    labels: np.ndarray | None


def save_contact(
    expansion: Expansion,
    path: Path,
    *,
    rows: int = ROWS,
    copies: int = COPIES,
    report: Callable[[str, int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Draw a few targets, each with some of its copies, outlined in the label map's colours.

    Targets are spread evenly over the split, from a start that the expansion's seed draws;
    so are the copies. All pictures of a row are stretched alike. What a copy has from other
    samples is outlined strongly, in one colour for each source, and the sources are named;
    methods that change the whole frame have no such outline. Volumes show their middle plane.

    Images are read one at a time, by strips, and shrunk as they are read.

    Parameters
    ----------
    expansion : Expansion
    path : Path
        .png, .pdf or .svg.
    rows, copies : int
        Most targets, and most copies of each.
    report : callable, optional
        Called as (what, done, total, note).

    Returns
    -------
    dict
        `path`, `width` and `height` in pixels, `samples`: target -> copies shown, and
        `cells`: name -> (x, y, width, height) of its picture, in pixels from the top left.
    """
    chosen = choose(expansion, rows, copies)
    first = expansion.image(next(iter(chosen)))
    columns = 1 + max(map(len, chosen.values()))
    width = WIDTH if columns > 2 else WIDTH * 2 // 3
    across = (width - 2 * MARGIN - GAP * (columns - 1)) // columns
    down = round(min(across / aspect(first), 1.15 * across))
    lines = max(
        len(words_of(expansion.records[name], None)) for names in chosen.values() for name in names
    )
    pitch = down + 26 + LINE_HEIGHT * lines + 18
    sheet = Sheet(width, HEAD + pitch * len(chosen) + FOOT)
    request = expansion.request
    title = f"{request['dataset']}, {request['method']} × {request['factor']}"
    skipped = len(expansion.records) - len(expansion.made)
    sheet.head(
        title,
        f"{len(expansion.made)} images made of {len(request['targets'])} in split "
        f"{request['split']}, {skipped} skipped; seed {request['seed']}. "
        f"Left the target, then copies of it.",
    )
    done, cells = 0, {}
    total = len(chosen) + sum(map(len, chosen.values()))
    for row, (target, names) in enumerate(chosen.items()):
        shown = []
        for name in (target, *names):
            shown.append(_shown(expansion, name, 2 * across))
            done += 1
            if report is not None:
                report("contact sheet", done, total, name)
        pictures = composites([one.raw for one in shown], first.channels)
        shape = aspect(expansion.image(target))
        for column, (one, rgb) in enumerate(zip(shown, pictures)):
            left, top = MARGIN + column * (across + GAP), HEAD + row * pitch
            cell = Cell(left, top, across, down).fitted(shape)
            cells[one.name] = (cell.x, cell.y, cell.width, cell.height)
            sheet.picture(rgb, cell)
            if one.labels is not None and expansion.label_map is not None:
                sheet.outlines(one.labels, expansion.label_map, cell, 1.0)
            below = top + down + 18
            if column == 0:
                sheet.text(left, below, one.name, 13, bold=True, width=across)
                sheet.text(left, below + LINE_HEIGHT, "target", 12, SOFT)
                continue
            record = expansion.made[one.name]
            for mask, source in pasted(record, shown[0], one, expansion.label_map):
                sheet.strong(mask, cell, SOURCES[source % len(SOURCES)])
            short = one.name.removeprefix(f"{target}-")
            sheet.text(left, below, short, 13, bold=True, width=across)
            _credits(sheet, left, below + LINE_HEIGHT, across, record, expansion.label_map)
    sheet.legend(_legend(expansion), sheet.height - 18)
    sheet.save(path)
    return {
        "path": str(path),
        "width": sheet.width,
        "height": sheet.height,
        "samples": {target: list(names) for target, names in chosen.items()},
        "cells": cells,
    }


def choose(expansion: Expansion, rows: int, copies: int) -> dict[str, list[str]]:
    """Targets and copies of the sheet, evenly spread and the same for one seed."""
    by_target: dict[str, list[str]] = {}
    for name, record in expansion.made.items():
        by_target.setdefault(record["target"], []).append(name)
    rng = keyed_rng(expansion.request["seed"], "contact")

    def spread(items: list[str], count: int) -> list[str]:
        count = min(count, len(items))
        places = (np.arange(count) + rng.random()) * len(items) / count
        return [items[int(place)] for place in places]

    return {target: spread(by_target[target], copies) for target in spread([*by_target], rows)}


def pasted(
    record: Mapping[str, Any], target: Shown, made: Shown, label_map: LabelMap | None
) -> list[tuple[np.ndarray, int]]:
    """Masks (h, w) of what was pasted into a made image, and the number of their source.

    A box is taken from the parameters. Regions are where the image differs from its target's
    and the label lies in the primary region that was exchanged.
    """
    params = record["params"]
    shape = made.raw.shape[1:]
    if "box" in params and "region" not in params:
        mask = np.zeros(shape, bool)
        factors = np.array(shape) / params["shape"][-2:]
        (top, low), (left, right) = np.array(params["box"][-2:]) * factors[:, None]
        mask[round(top) : max(round(low), round(top) + 1), round(left) : round(right) or 1] = True
        if len(params["box"]) == 3:
            start, stop = params["box"][0]
            mask &= start <= params["shape"][0] // 2 < stop
        return [(mask, 0)] if mask.any() else []
    if not {"regions", "region"} & params.keys() or made.raw.shape != target.raw.shape:
        return []
    changed = np.any(made.raw != target.raw, axis=0)
    if "regions" not in params or label_map is None or made.labels is None:
        return [(mask, 0) for mask in _tidy(changed)]
    numbers = Regions(label_map)
    own = numbers.of(made.labels)
    found = []
    for region in params["regions"]:
        mask = changed & (own == numbers.number(region["id"]))
        source = list(params["sources"]).index(region["source"])
        found += [(tidied, source) for tidied in _tidy(mask)]
    return found


def _tidy(mask: np.ndarray) -> list[np.ndarray]:
    """The mask without specks and pinholes, or nothing."""
    mask = ndimage.binary_closing(np.pad(mask, 2), iterations=2)[2:-2, 2:-2]
    mask = ndimage.binary_fill_holes(mask)
    pieces, _ = ndimage.label(mask)
    sizes = np.bincount(pieces.reshape(-1))
    sizes[0] = 0
    mask = (sizes >= SPECK)[pieces]
    return [mask] if mask.any() else []


def _shown(expansion: Expansion, name: str, pixels: int) -> Shown:
    labels = expansion.labels(name)
    return Shown(
        name,
        viewed(expansion.image(name), pixels, mean=True),
        None if labels is None else viewed(labels, pixels)[0],
    )


def _credits(
    sheet: Sheet,
    x: float,
    y: float,
    width: float,
    record: Mapping[str, Any],
    label_map: LabelMap | None,
) -> None:
    """One line for each source: its colour, its name, what was taken."""
    marked = {"regions", "region", "box"} & record["params"].keys()
    for number, (source, words) in enumerate(words_of(record, label_map)):
        at = sheet.chip(x, y, SOURCES[number % len(SOURCES)]) if marked else x
        line = f"{source}: {words}" if source and words else source or words
        sheet.text(at, y, line, 12, SOFT, width=x + width - at)
        y += LINE_HEIGHT


def _legend(expansion: Expansion) -> list[tuple[Any, str]]:
    entries: list[tuple[Any, str]] = []
    params = [record["params"] for record in expansion.made.values()]
    if any({"regions", "region", "box"} & one.keys() for one in params):
        most = max(len(one.get("sources", ())) for one in params)
        for number in range(min(most, len(SOURCES))):
            which = ("first", "second", "third")[number]
            entries.append((SOURCES[number], f"from the {which} source"))
    if any("regions" in one for one in params):
        entries.append((BARE, "cut out and bare (ignored)"))
    entries.append((LINE, "thin lines: the regions of the label map, in its colours"))
    return entries
