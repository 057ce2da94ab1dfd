"""One run's report: a self-contained page, label images, polygons and the table of areas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from brodmann.core import DataError, Volume
from brodmann.core.files import make_folder, write_text
from brodmann.report.areas import measure_areas, total_areas, write_areas
from brodmann.report.charts import areas_svg, curve_svgs
from brodmann.report.figures import DIFFERENCES, confidence_colors, thumbnail_uri
from brodmann.report.html import render
from brodmann.report.panels import SectionView, chosen, section_view, size_text
from brodmann.report.polygons import write_polygons
from brodmann.report.tables import (
    compared,
    confusion_matrix,
    confusion_rows,
    headline,
    mean_confidence,
    number,
    primary_totals,
    region_rows,
)
from brodmann.report.view import MappedSection, RunView

IN_FULL = 12
"""Sections shown with all their panels; the others are thumbnails."""


def write_report(view: RunView, out: Path, *, label_images: bool = True) -> Path:
    """Write a run's report into a folder and give the page's path.

    Files, each written whole or not at all:

    - report.html: one page that needs no network and no other file;
    - areas.csv: the rows of `measure_areas`, section by section;
    - labels/NAME.tif: the predicted label ids on the image's grid;
    - polygons/NAME.geojson: the regions as QuPath annotations.

    Sections are read one at a time. The page shows twelve of them in full, spread from the
    best to the worst by `view.scores["per_image"]`, and the rest as thumbnails.

    Parameters
    ----------
    view : RunView
    out : Path
        Made where it is missing; files of the same names are replaced.
    label_images : bool
        Write labels/ too; off where the caller keeps the label images itself.

    Returns
    -------
    Path
        `out`/report.html.

    Raises
    ------
    DataError
        If there is no section, two share a name, or a label image is none.
    OutputError
        If a file cannot be written.
    """
    out = Path(out)
    for folder in (out, out / "polygons", *([out / "labels"] if label_images else [])):
        make_folder(folder)
    if not len(view.sections):
        raise DataError("a report needs at least one section", view.title, 0)
    dice = {
        str(row["name"]): value
        for row in view.scores.get("per_image", ())
        if (value := number(row.get("mean_dice"))) is not None
    }
    count = len(view.sections)
    shown = set(chosen(list(dice), dice, IN_FULL)) if dice and count > IN_FULL else None
    evenly = {round(i * (count - 1) / max(1, min(count, IN_FULL) - 1)) for i in range(IN_FULL)}
    stems: set[str] = set()
    rows: list[dict[str, Any]] = []
    gallery: list[SectionView] = []
    others: list[SectionView] = []
    for index, section in enumerate(view.sections):
        stem = _stem(section.name, stems)
        if label_images:
            _write_labels(out / "labels" / f"{stem}.tif", section.prediction)
        rows += _write_files(section, view, out, stem)
        if index in evenly if shown is None else section.name in shown:
            score = dice.get(section.name)
            gallery.append(section_view(section, view.label_map, f"s{index}", score))
        else:
            others.append(_thumbnail(section, view, dice.get(section.name)))
    write_areas(out / "areas.csv", rows)
    for group in (gallery, others):
        group.sort(key=lambda one: 1.0 if one.dice is None else -one.dice)
    return write_text(out / "report.html", _page(view, rows, gallery, others))


def _write_files(
    section: MappedSection, view: RunView, out: Path, stem: str
) -> list[dict[str, Any]]:
    write_polygons(
        out / "polygons" / f"{stem}.geojson",
        section.prediction,
        view.label_map,
        name=section.name,
        confidence=section.confidence,
    )
    return measure_areas(
        section.prediction,
        view.label_map,
        truth=section.truth,
        confidence=section.confidence,
        section=section.name,
        subject=section.subject,
        split=section.split,
    )


def _write_labels(path: Path, labels: Volume) -> None:
    from brodmann.io import write_volume

    write_volume(path, labels, labels=True)


def _stem(name: str, taken: set[str]) -> str:
    """A file name for a section that no other section has."""
    stem = re.sub(r"[^\w.-]+", "_", name).strip(".") or "section"
    if stem.lower() in taken:
        raise DataError("two sections share a name", found=repr(name), fix="rename one of them")
    taken.add(stem.lower())
    return stem


def _thumbnail(section: MappedSection, view: RunView, dice: float | None) -> SectionView:
    return SectionView(
        section.name,
        section.subject,
        section.split,
        size_text(section),
        dice,
        thumbnail=thumbnail_uri(section, view.label_map),
    )


def _page(
    view: RunView,
    rows: list[dict[str, Any]],
    gallery: list[SectionView],
    others: list[SectionView],
) -> str:
    pooled = view.scores.get("pooled") or {}
    primary = view.scores.get("primary") or {}
    totals = total_areas(rows)
    sure = mean_confidence(rows)
    units = {entry["unit"] for entry in totals.values()}
    regions = region_rows(
        pooled.get("per_class", ()), view.scores.get("surface") or (), totals, view.label_map, sure
    )
    rolled = region_rows(
        primary.get("per_class", ()), (), primary_totals(totals, view.label_map), view.label_map, {}
    )
    nested = any(label.parent is not None for label in view.label_map)
    every = [*gallery, *others]
    return render(
        view=view,
        headline=headline(pooled),
        scored=sum(row["dice"] is not None for row in regions),
        compared=compared(pooled, view.baselines) if headline(pooled) else [],
        gallery=gallery,
        others=others,
        subjects=len({section.subject for section in every}),
        differences=[
            {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*color)}
            for name, color in DIFFERENCES[1:]
            if name != "not annotated" or view.label_map.ignore is not None
        ],
        confidence_stops=_stops(confidence_colors(9)),
        regions=regions,
        primary=rolled if nested and len(rolled) < len(regions) else [],
        primary_pooled=headline(primary),
        unit=_unit(units),
        confusions=confusion_rows(view.confusions, view.label_map),
        matrix=confusion_matrix(view.confusions, view.label_map),
        curve=[(title, Markup(chart)) for title, chart in curve_svgs(view.curve)],
        areas=Markup(areas_svg(totals, view.label_map)),
        has=_present(regions, every),
    )


def _present(regions: Iterable[Mapping[str, Any]], sections: list[SectionView]) -> dict[str, bool]:
    """Which optional columns and panels have anything to show."""
    keys = ("dice", "hd95_um", "true", "confidence")
    regions = list(regions)
    found = {key: any(row[key] is not None for row in regions) for key in keys}
    planes = [plane for section in sections for plane in section.planes]
    return found | {
        "truth": any(plane.truth for plane in planes),
        "sure": any(plane.confidence for plane in planes),
    }


def _stops(colors: list[tuple[float, float, float]]) -> str:
    """A CSS gradient's colours."""
    return ", ".join("#{:02x}{:02x}{:02x}".format(*(round(255 * c) for c in rgb)) for rgb in colors)


def _unit(units: set[str]) -> str:
    return "mm³" if units == {"mm3"} else "mm²"
