"""A section as the page draws it: inline pictures below, exact vector outlines above."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from brodmann.core import BACKGROUND, LabelMap
from brodmann.report.counts import label_of
from brodmann.report.figures import (
    Plane,
    confidence_uri,
    differences,
    differences_uri,
    image_uri,
    labels_uri,
    planes_of,
)
from brodmann.report.outlines import trace_regions
from brodmann.report.view import MappedSection

LETTERED = 16
"""Regions with their acronym on the picture, at most."""
CARD, GAP = 1154, 12
"""Width of a section's card and the gap between its panels, in CSS pixels."""


@dataclass(frozen=True)
class Region:
    """One region's outline as an SVG path, in displayed pixels."""

    id: int
    acronym: str
    name: str
    color: str
    path: str


@dataclass(frozen=True)
class Letter:
    """An acronym to write at (x, y), in the panel's units."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Layer:
    """One label image: its picture, its regions and its letters."""

    uri: str
    regions: list[Region]
    letters: list[Letter]


@dataclass(frozen=True)
class PlaneView:
    """All that the page needs to draw one plane.

    `width` and `height` are displayed pixels; `scale_x` and `scale_y` make them isotropic.
    `least` and `narrow` are the narrowest that a panel may become, in CSS pixels, on a wide
    and on a narrow screen.
    """

    key: str
    caption: str
    width: int
    height: int
    scale_x: float
    scale_y: float
    image: str
    prediction: Layer
    truth: Layer | None
    differences: str | None
    wrong: float | None
    confidence: str | None
    mean_confidence: float | None
    bar_length: float
    bar_text: str
    font: float
    least: int
    narrow: int


@dataclass(frozen=True)
class SectionView:
    """One section in the gallery, or (with `thumbnail`) in the grid below it."""

    name: str
    subject: str
    split: str
    size: str
    dice: float | None = None
    planes: list[PlaneView] = field(default_factory=list)
    thumbnail: str = ""


def section_view(
    section: MappedSection, label_map: LabelMap, key: str, dice: float | None
) -> SectionView:
    """Pictures, outlines and letters of a section; `key` prefixes the page's element ids."""
    planes = [
        plane_view(plane, label_map, f"{key}-{index}")
        for index, plane in enumerate(planes_of(section, ignore=label_map.ignore))
    ]
    return SectionView(
        section.name, section.subject, section.split, size_text(section), dice, planes
    )


def size_text(section: MappedSection) -> str:
    """Pixels and pixel size in words, (z,) y, x."""
    pixels = " × ".join(map(str, section.image.spatial_shape))
    spacing = " × ".join(f"{step:.4g}" for step in section.image.spacing)
    if len(set(section.image.spacing)) == 1:
        spacing = f"{section.image.spacing[0]:.4g}"
    return f"{pixels} px at {spacing} µm"


def plane_view(plane: Plane, label_map: LabelMap, key: str) -> PlaneView:
    """Everything that is drawn of one plane."""
    height, width = plane.prediction.shape
    unit = min(plane.pixel_um)
    scale_y, scale_x = plane.pixel_um[0] / unit, plane.pixel_um[1] / unit
    aspect = width * scale_x / (height * scale_y)
    font = max(width * scale_x, 1.3 * height * scale_y) / 30
    scale = (scale_y, scale_x)
    kinds = wrong = None
    if plane.truth is not None:
        kinds = differences(plane.prediction, plane.truth, label_map.ignore)
        counted = (kinds != 4) & ((plane.truth != BACKGROUND) | (plane.prediction != BACKGROUND))
        wrong = float((kinds[counted] != 0).mean()) if counted.any() else None
    sure = plane.confidence
    mapped = plane.prediction != BACKGROUND
    tissue = mapped if plane.truth is None else mapped | (plane.truth != BACKGROUND)
    bar_um, bar_text = scale_bar(width * scale_x * unit)
    return PlaneView(
        key=key,
        caption=plane.caption,
        width=width,
        height=height,
        scale_x=round(scale_x, 5),
        scale_y=round(scale_y, 5),
        image=image_uri(plane.image),
        prediction=_layer(plane.prediction, label_map, scale, font),
        truth=None if plane.truth is None else _layer(plane.truth, label_map, scale, font),
        differences=None if kinds is None else differences_uri(kinds),
        wrong=wrong,
        confidence=None if sure is None else confidence_uri(sure, tissue),
        mean_confidence=(
            None if sure is None or not mapped.any() else float(sure[mapped].mean() / 255)
        ),
        bar_length=round(bar_um / unit, 3),
        bar_text=bar_text,
        font=round(font, 2),
        least=_least(3 + 2 * (kinds is not None) + (sure is not None), aspect),
        narrow=150 if aspect < 1 else 260,
    )


def scale_bar(width_um: float) -> tuple[float, str]:
    """A round length near a fifth of the picture's width, in micrometres, and its text.

    >>> scale_bar(13_000), scale_bar(900)
    ((2000.0, '2 mm'), (100.0, '100 µm'))
    """
    wanted = width_um / 5
    power = 10.0 ** np.floor(np.log10(wanted))
    length = float(max(step * power for step in (1, 2, 5) if step * power <= wanted * 1.0001))
    return length, f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"


def region_paths(labels: np.ndarray, label_map: LabelMap) -> list[Region]:
    """Outlines of all regions as SVG paths along pixel edges; ignore pixels have none."""
    paths: dict[int, list[str]] = {}
    for part in trace_regions(labels):
        if part.id != label_map.ignore:
            paths.setdefault(part.id, []).extend(map(_ring_path, part.rings))
    regions = []
    for id_ in sorted(paths):
        label = label_of(label_map, id_)
        text = "".join(paths[id_])
        regions.append(Region(id_, label.acronym, label.name, f"#{label.color}", text))
    return regions


def letters_of(
    labels: np.ndarray, label_map: LabelMap, scale: tuple[float, float], font: float
) -> list[Letter]:
    """Acronyms of the largest regions, each where its region is widest, none on another."""
    from scipy import ndimage

    inner = np.ones(labels.shape, bool)
    inner[1:] &= labels[1:] == labels[:-1]
    inner[:, 1:] &= labels[:, 1:] == labels[:, :-1]
    framed = np.pad(inner, 1)
    depth = ndimage.distance_transform_edt(framed, sampling=scale)[1:-1, 1:-1]
    present, counts = np.unique(labels, return_counts=True)
    skip = {BACKGROUND, label_map.ignore}
    known = [(int(n), int(id_)) for id_, n in zip(present, counts) if int(id_) not in skip]
    ids = [id_ for _, id_ in sorted(known, reverse=True)[: 2 * LETTERED]]
    # scipy reckons with ids in their own type, in which 255 + 1 of uint8 is 0.
    places = ndimage.maximum_position(depth, labels.astype(np.int64), ids) if ids else []
    boxes: list[tuple[float, float, float, float]] = []
    letters: list[Letter] = []
    for id_, (row, column) in zip(ids, places):
        text = label_of(label_map, id_).acronym
        half = font * (0.35 * len(text) + 0.2)
        y, x = (row + 0.5) * scale[0], (column + 0.5) * scale[1]
        box = (x - half, y - 0.6 * font, x + half, y + 0.6 * font)
        inside = box[0] >= 0 and box[2] <= labels.shape[1] * scale[1]
        fits = depth[row, column] >= 0.45 * font and inside
        if fits and not any(_overlap(box, other) for other in boxes):
            boxes.append(box)
            letters.append(Letter(round(x, 1), round(y, 1), text))
        if len(letters) == LETTERED:
            break
    return letters


def chosen(names: list[str], dice: Mapping[str, Any], count: int = 12) -> list[str]:
    """Names of at most `count` sections spread evenly from the best to the worst.

    Sections without a score come last; without any score the order given is kept.
    """
    order = sorted(names, key=lambda name: -dice.get(name, -1.0))
    if len(order) <= count:
        return order
    return [order[i] for i in np.linspace(0, len(order) - 1, count).round().astype(int)]


def _layer(
    labels: np.ndarray, label_map: LabelMap, scale: tuple[float, float], font: float
) -> Layer:
    return Layer(
        labels_uri(labels, label_map),
        region_paths(labels, label_map),
        letters_of(labels, label_map, scale, font),
    )


def _least(panels: int, aspect: float) -> int:
    """Panel width that puts `panels` into one full row, or into two when they are wide."""
    columns = panels if aspect < 1.25 or panels == 3 else -(-panels // 2)
    return round(0.92 * (CARD - GAP * (columns - 1)) / columns)


def _ring_path(ring: np.ndarray) -> str:
    steps = np.diff(ring, axis=0).tolist()
    moves = "".join(f"h{dx}" if dx else f"v{dy}" for dx, dy in steps)
    return f"M{ring[0, 0]} {ring[0, 1]}{moves}z"


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
