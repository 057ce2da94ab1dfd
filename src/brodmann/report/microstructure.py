"""Microstructure beside its truth in 2D and drawn in 3D, in the colours of its labels (Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brodmann.core import BACKGROUND, DataError, Label, LabelMap, Volume
from brodmann.core.files import written_beside
from brodmann.report.counts import label_of
from brodmann.report.figures import DIFFERENCES, color_labels, differences
from brodmann.report.lettering import font
from brodmann.report.neurons3d import render_neurons
from brodmann.report.panels import scale_bar
from brodmann.report.sheet import (
    INK,
    MARGIN,
    SOFT,
    Cell,
    Sheet,
    aspect,
    checked,
    composites,
    viewed,
)
from brodmann.report.view import MappedSection

WIDTH, GAP, TOP = 320, 12, 116
"""Width of a picture, space between pictures, and height of the heading, in pixels."""
OPACITY = 0.7
BACKDROP = 0.75
"""Brightness of the image beneath colours."""


@dataclass(frozen=True)
class _Row:
    name: str
    width_um: float
    raw: np.ndarray
    truth: np.ndarray | None
    found: dict[str, np.ndarray]
    aspect: float


def microstructure_figure(
    sections: Sequence[MappedSection],
    label_map: LabelMap,
    path: Path,
    *,
    others: Mapping[str, Mapping[str, Volume]] | None = None,
    title: str = "Predictions beside the truth",
    lead: str = "",
) -> Path:
    """Draw each section in a row: the image, the truth, what was predicted, and what is wrong.

    Of a volume the middle plane is shown. All images are stretched alike.

    Parameters
    ----------
    sections : sequence of MappedSection
    label_map : LabelMap
        Its colours are drawn; pixels of the ignore id are hatched and never wrong.
    path : Path
        .png, .pdf or .svg.
    others : mapping of str to mapping of str to Volume, optional
        Method -> section's name -> its prediction. Each adds a column; the sections' own
        predictions then stand in the column "prediction", and what is wrong is theirs.
    title, lead : str

    Raises
    ------
    DataError
        If there is no section, or a method lacks one.
    """
    path, others = checked(path), others or {}
    if not sections:
        raise DataError("a figure of predictions needs at least one section", path, 0)
    rows = [_row(section, others) for section in sections]
    compared = any(row.truth is not None for row in rows)
    names = ["image", *(["truth"] if compared else []), "prediction", *others]
    names += ["what is wrong"] if compared else []
    width = max(2 * MARGIN + len(names) * (WIDTH + GAP) - GAP, 640)
    heights = [round(WIDTH / row.aspect) for row in rows]
    sheet = Sheet(width, TOP + sum(heights) + len(rows) * 34 + 34)
    sheet.head(title, lead or f"{len(rows)} section{'s' if len(rows) > 1 else ''}")
    for number, name in enumerate(names):
        sheet.text(MARGIN + number * (WIDTH + GAP), TOP - 14, name, 15, INK, bold=True, width=WIDTH)
    top = TOP
    for row, image, height in zip(rows, composites([row.raw for row in rows]), heights):
        cells = [Cell(MARGIN + n * (WIDTH + GAP), top, WIDTH, height) for n in range(len(names))]
        sheet.picture(image, cells[0])
        shown = dict(zip(names, cells))
        if row.truth is not None:
            _painted(sheet, image, row.truth, label_map, shown["truth"])
            kinds = differences(row.found["prediction"], row.truth, label_map.ignore)
            _wrong(sheet, image, kinds, shown["what is wrong"])
        for name, labels in row.found.items():
            _painted(sheet, image, labels, label_map, shown[name])
        _caption(sheet, row, cells[0])
        top += height + 34
    entries = [(f"#{label_of(label_map, id_).color}", label_map[id_].name) for id_ in
               label_map.classes]  # fmt: skip
    if compared:
        words = ("another label", "missed", "invented")
        entries += [(np.array(c[:3]) / 255, w) for w, (_, c) in zip(words, DIFFERENCES[1:4])]
    sheet.legend(entries, sheet.height - 20)
    return sheet.save(path)


def render_microstructure(
    labels: np.ndarray,
    spacing: Sequence[float],
    label_map: LabelMap,
    path: Path,
    *,
    acronyms: Sequence[str] | None = None,
    pixels: int = 1100,
) -> list[Label]:
    """Draw a label volume in 3D, each label in its colour of the label map.

    Parameters
    ----------
    labels : (z, y, x) integers
        Background and ignored voxels are left clear.
    spacing : (z, y, x)
        Micrometres.
    label_map : LabelMap
    path : Path
        A PNG file.
    acronyms : sequence of str, optional
        The labels to draw; by default all that are there. Dense axons hide what they surround:
        leave them out to see it.
    pixels : int
        Width of the picture.

    Returns
    -------
    list of Label
        What was drawn, as the legend below the picture says.

    Raises
    ------
    DataError
        If there is nothing to draw, or no such label.
    """
    wanted = label_map.classes
    if acronyms is not None:
        wanted = tuple(label_map.find(acronym).id for acronym in acronyms)
    present = set(np.unique(labels).tolist())
    drawn = [label_of(label_map, id_) for id_ in wanted if id_ in present]
    if not drawn:
        raise DataError("no label to draw", path, f"ids {sorted(present)[:5]}")
    render_neurons(
        labels, spacing, ids=[label.id for label in drawn], path=path, pixels=pixels,
        colors=[tuple(part / 255 for part in label.rgb) for label in drawn],
    )  # fmt: skip
    _legend(path, drawn)
    return drawn


def _legend(path: Path, drawn: Sequence[Label]) -> None:
    """Names beside their colours, at the lower right of a picture in 3D."""
    from PIL import Image, ImageDraw

    with Image.open(path) as file:
        image = file.convert("RGB")
    size = max(12, image.width // 55)
    letters, draw = font(size), ImageDraw.Draw(image)
    x, y = image.width - round(0.04 * image.width), image.height - round(0.03 * image.width)
    for label in reversed(drawn):
        x -= round(letters.getlength(label.name))
        draw.text((x, y), label.name, fill=INK, font=letters, anchor="lb")
        x -= round(1.5 * size)
        draw.rectangle([x, y - size, x + size, y], label.rgb)
        x -= size
    with written_beside(path) as beside:
        image.save(beside, format="PNG")


def _row(section: MappedSection, others: Mapping[str, Mapping[str, Volume]]) -> _Row:
    predictions = {"prediction": section.prediction}
    for method, of_section in others.items():
        if section.name not in of_section:
            raise DataError(f"{method} has no prediction for a section", section.name)
        predictions[method] = of_section[section.name]
    size = 2 * WIDTH
    return _Row(
        section.name,
        section.image.spatial_shape[-1] * section.image.spacing[-1],
        viewed(section.image, size, mean=True),
        None if section.truth is None else viewed(section.truth, size)[0],
        {name: viewed(labels, size)[0] for name, labels in predictions.items()},
        aspect(section.image),
    )


def _painted(
    sheet: Sheet, image: np.ndarray, labels: np.ndarray, label_map: LabelMap, cell: Cell
) -> None:
    indices, palette = color_labels(labels, label_map)
    clear = (labels == BACKGROUND) | (labels == label_map.ignore)
    share = np.where(clear, 0, OPACITY)[..., None]
    mixed = BACKDROP * image * (1 - share) + palette[indices] * share
    sheet.picture(mixed.astype(np.uint8), cell, exact=True)
    sheet.hatch(labels == label_map.ignore, cell)


def _wrong(sheet: Sheet, image: np.ndarray, kinds: np.ndarray, cell: Cell) -> None:
    colors = np.array([color for _, color in DIFFERENCES], float)
    share = colors[kinds][..., 3:] / 255
    mixed = 0.6 * image * (1 - share) + colors[kinds][..., :3] * share
    sheet.picture(mixed.astype(np.uint8), cell, exact=True)
    counted = kinds != 4
    if counted.any():
        words = f"{100 * (kinds[counted] > 0).mean():.1f} % of pixels"
        sheet.text(cell.x, cell.y + cell.height + 17, words, 12, SOFT, width=cell.width)


def _caption(sheet: Sheet, row: _Row, cell: Cell) -> None:
    from matplotlib.patches import Rectangle

    y = cell.y + cell.height
    length_um, text = scale_bar(row.width_um)
    width = cell.width * length_um / row.width_um
    right = cell.x + cell.width
    sheet.axes.add_patch(Rectangle((right - width, y + 6), width, 4, fc=INK, lw=0, zorder=5))
    end = right - width - 8
    sheet.text(end, y + 14, text, 12, INK, ha="right")
    sheet.text(cell.x, y + 17, row.name, 12, SOFT, width=end - cell.x - 60)
