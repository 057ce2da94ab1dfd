"""One pair of samples under every method, side by side (PRMix, Fig. 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy import ndimage

from brodmann.augment.base import make_augmentation
from brodmann.augment.mixing import Mixing
from brodmann.core import (
    DataError,
    Dataset,
    LabelMap,
    RecipeError,
    Sample,
    Volume,
    keyed_rng,
    nearest,
)
from brodmann.report.contact import Shown, pasted
from brodmann.report.expansion import words_of
from brodmann.report.figures import color_labels
from brodmann.report.sheet import (
    BARE,
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

PAIR = {"prmix": {"sources": 2, "hard_fraction": None}}
"""What a method must be told when its pool is one pair."""
WIDTH, GAP, HEAD = 360, 10, 128
EVERYWHERE = ("none", "classical", "mixup", "translate")
CLOSE = (0.2, 0.5)
"""Least and largest part of the section's side that is enlarged."""

Zoom = tuple[float, float, float, float]
"""Top, bottom, left, right as shares of the section."""
WHOLE, MIDDLE = (0.0, 1.0, 0.0, 1.0), (0.25, 0.75, 0.25, 0.75)


@dataclass(frozen=True)
class Part:
    """A section, or a part of it, at display size; `colors` is its label map as a picture."""

    shown: Shown
    colors: np.ndarray | None


@dataclass
class Column:
    """One image of the comparison: the whole of it, and a part enlarged."""

    title: str
    words: str
    tree: LabelMap | None
    shape: float
    whole: Part
    marks: list[tuple[np.ndarray, int]] = field(default_factory=list)
    zoom: Zoom = MIDDLE
    close: Part | None = None


def save_comparison(
    dataset: Dataset,
    path: Path,
    *,
    target: str | None = None,
    source: str | None = None,
    methods: Sequence[str] = ("mixup", "cutmix", "carvemix", "prmix"),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    split: str = "train",
    report: Callable[[str, int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Draw target, source and what each method makes of them.

    Columns are images. Rows are, from the top: the changed part enlarged, the image, its
    labels in their colours, the labels of the changed part. A method that changes the whole
    frame shows the part that the last other one changed. Pictures are stretched alike.

    Parameters
    ----------
    dataset : Dataset
    path : Path
        .png, .pdf or .svg.
    target, source : str, optional
        Samples of the split; the first, and the first other one.
    methods : sequence of str
        In the order of columns. One that learns is trained on the split.
    options : mapping of str to mapping, optional
        Method -> its options.
    seed : int
    split : str
    report : callable, optional
        Called as (what, done, total, note).

    Returns
    -------
    dict
        `path`, `target`, `source`, `width`, `height`, and `params` by method.

    Raises
    ------
    DataError
        If the pair lacks labels, or allows a method nothing.
    """
    path = checked(path)
    pool = dataset.split(split) if dataset.splits else dataset
    names = _pair(pool, target, source)
    pair = pool.subset(names)
    options = options or {}
    unknown = sorted(set(options) - set(methods))
    if unknown:
        raise RecipeError("an option of a method that is not drawn", "--set", unknown[0])
    made = [
        (name, make_augmentation(name, {**PAIR.get(name, {}), **options.get(name, {})}))
        for name in methods
    ]
    for name, method in made:
        if isinstance(method, Mixing) and pool.label_map is None:
            raise DataError(f"{name} needs a table of labels", dataset.name, fix="add labels.csv")
    columns: dict[str, Column] = {}
    params: dict[str, Any] = {}
    first, second = pair[names[0]], pair[names[1]]
    tree = pool.label_map
    whole = _part(first, tree)
    zoom = MIDDLE
    # Those that change a part come first, since it is what the others enlarge.
    order = sorted(made, key=lambda item: item[0] in EVERYWHERE)
    for done, (name, method) in enumerate(order, start=1):
        if method.learns:
            with TemporaryDirectory() as folder:
                method = method.fitted(pool, Path(folder), seed=seed, progress=report)
        params[name] = method.draw(keyed_rng(seed, "compare", name), first, pair)
        sample = method.apply(params[name], first, pair)
        column = _column(name, params[name], sample, whole.shown, method.tree(tree))
        zoom = zoom_of(column.marks) if column.marks else zoom
        column.zoom, column.close = zoom, _part(sample, column.tree, zoom)
        columns[name] = column
        if report is not None:
            report("compare", done, len(made), name)
    shown = [
        Column("target", names[0], tree, aspect(first.image), whole),
        Column("source", names[1], tree, aspect(second.image), _part(second, tree)),
    ]
    for column, sample in zip(shown, (first, second)):
        column.zoom, column.close = zoom, _part(sample, tree, zoom)
    shown += [columns[name] for name in methods]
    sheet = _drawn(shown, first.image.channels, seed)
    sheet.save(path)
    return {
        "path": str(path),
        "target": names[0],
        "source": names[1],
        "width": sheet.width,
        "height": sheet.height,
        "params": params,
    }


def zoom_of(marks: Sequence[tuple[np.ndarray, int]]) -> Zoom:
    """The part to enlarge: around the largest piece of the masks, in the section's proportions."""
    biggest, best = None, 0
    for mask, _ in marks:
        pieces, count = ndimage.label(mask)
        sizes = np.bincount(pieces.reshape(-1))[1:]
        if count and sizes.max() > best:
            best = int(sizes.max())
            biggest = ndimage.find_objects(pieces)[int(sizes.argmax())]
            height, width = mask.shape
    assert biggest is not None
    rows, cols = biggest
    middle = ((rows.start + rows.stop) / 2 / height, (cols.start + cols.stop) / 2 / width)
    side = 1.3 * max((rows.stop - rows.start) / height, (cols.stop - cols.start) / width)
    half = min(max(side, CLOSE[0]), CLOSE[1]) / 2
    y, x = (min(max(place, half), 1 - half) for place in middle)
    return y - half, y + half, x - half, x + half


def _pair(pool: Dataset, target: str | None, source: str | None) -> list[str]:
    for name, option in ((target, "--target"), (source, "--source")):
        if name is not None and name not in pool.names:
            raise DataError("no such sample", option, repr(name), nearest(name, pool.names[:50]))
    if len(pool) < 2:
        raise DataError("a comparison needs two samples", pool.name, len(pool))
    target = target or next(name for name in pool.names if name != source)
    source = source or next(name for name in pool.names if name != target)
    if source == target:
        raise DataError("target and source are the same sample", found=target)
    return [target, source]


def _column(
    name: str, params: Mapping[str, Any], sample: Sample, target: Shown, tree: LabelMap | None
) -> Column:
    record = {"params": params}
    whole = _part(sample, tree)
    words = "; ".join(words for _, words in words_of(record, tree) if words)
    marks = pasted(record, target, whole.shown, tree)
    return Column(name, words, tree, aspect(sample.image), whole, marks)


def _part(sample: Sample, tree: LabelMap | None, zoom: Zoom = WHOLE) -> Part:
    """A part of a sample; where it has two label maps, their colours are mixed by weight."""

    def read(volume: Volume, mean: bool = False) -> np.ndarray:
        if zoom == WHOLE:
            return viewed(volume, 2 * WIDTH, mean)
        ends = np.array(zoom).reshape(2, 2) * np.array(volume.spatial_shape[-2:])[:, None]
        window = tuple(slice(int(a), max(int(b), int(a) + 1)) for a, b in ends)
        if volume.ndim == 3:
            middle = volume.spatial_shape[0] // 2
            window = (slice(middle, middle + 1), *window)
        return viewed(volume.like(volume.read(window)), 2 * WIDTH, mean)

    def painted(labels: np.ndarray) -> np.ndarray:
        indices, palette = color_labels(labels, tree)
        return palette[indices]

    labels = None if sample.labels is None else read(sample.labels)[0]
    colors = None if labels is None or tree is None else painted(labels)
    if colors is not None and sample.labels2 is not None:
        other = painted(read(sample.labels2)[0])
        mixed = sample.weight * colors + (1 - sample.weight) * other
        colors = np.rint(mixed).astype(np.uint8)
    return Part(Shown(sample.name, read(sample.image, mean=True), labels), colors)


def _drawn(columns: list[Column], channels: Sequence[str], seed: int) -> Sheet:
    down = round(WIDTH / columns[0].shape)
    coloured = columns[0].tree is not None
    width = 2 * MARGIN + len(columns) * (WIDTH + GAP) - GAP
    sheet = Sheet(width, HEAD + (4 if coloured else 2) * (down + GAP) + 42)
    sheet.head(
        "One pair under every method",
        f"Target {columns[0].words}, source {columns[1].words}; seed {seed}. "
        "Top and bottom: the framed part, enlarged.",
    )
    views = [part.shown.raw for column in columns for part in (column.close, column.whole)]
    pictures = iter(composites(views, channels))
    for number, column in enumerate(columns):
        left = MARGIN + number * (WIDTH + GAP)
        sheet.text(left, HEAD - 30, column.title, 15, bold=True, width=WIDTH)
        sheet.text(left, HEAD - 12, column.words, 11.5, SOFT, width=WIDTH)
        cells = [
            Cell(left, HEAD + row * (down + GAP), WIDTH, down).fitted(column.shape)
            for row in range(4 if coloured else 2)
        ]
        sheet.picture(next(pictures), cells[0])
        sheet.picture(next(pictures), cells[1])
        for mask, source in column.marks:
            sheet.strong(mask, cells[1], SOURCES[source % len(SOURCES)], 1.8)
        for cell, part in zip(cells[2:], (column.whole, column.close)):
            if part.colors is not None:
                sheet.picture(part.colors, cell, exact=True)
                sheet.hatch(part.shown.labels == column.tree.ignore, cell)
        for cell in cells[1:3]:
            sheet.box(cell.part(column.zoom), "#ffffff", 1.2, dashed=True)
    entries: list[tuple[Any, str]] = [(SOURCES[0], "taken from the source")]
    if any(column.tree is not None and column.tree.ignore is not None for column in columns):
        entries.append((BARE, "cut out and bare (ignored)"))
    sheet.legend(entries, sheet.height - 18)
    return sheet
