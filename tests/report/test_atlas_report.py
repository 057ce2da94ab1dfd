"""The page and the heat map of cells per structure."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps
from PIL import Image

from brodmann.atlas import Annotation, coexpression, count_cells, count_markers, proximity
from brodmann.core import DataError, Label, LabelMap, Points, Volume
from brodmann.report.atlas_cells import write_atlas_report
from brodmann.report.atlas_sections import (
    ABSENT,
    COLORMAP,
    NONE,
    Scale,
    density_scale,
    density_sections,
    edges,
)

TREE = LabelMap(
    [
        Label(1, "first", "A", 3, "AA0000"),
        Label(2, "second", "B", 3),
        Label(3, "all <of it>", "all"),
    ]
)


def brain(orientation="asl", shape=(30, 20, 24)):
    """A above and B below, with a margin; axes in the order of the letters a, s, l."""
    ids = np.zeros(shape, np.uint32)
    ids[3:27, 2:10, 2:22] = 1
    ids[3:27, 10:18, 2:22] = 2
    pairs = ["ap", "si", "lr"]
    order = [next(i for i, p in enumerate(pairs) if letter in p) for letter in orientation]
    turned = np.flip(ids.transpose(order), [i for i, k in enumerate(orientation) if k not in "asl"])
    return Annotation(
        Volume(np.ascontiguousarray(turned), "zyx", (100, 100, 100)), TREE, orientation
    )


def cells(seed=0, side=None):
    """Many cells in A, few in B, and on the left twice those of the right."""
    rng = np.random.default_rng(seed)
    rows = []
    for count, low, high, x in (
        (400, 2, 9, (2, 11)), (200, 2, 9, (12, 21)), (40, 10, 17, (2, 11)), (20, 10, 17, (12, 21))
    ):  # fmt: skip
        if side != "left" or x[0] == 2:
            z, y = rng.integers(3, 27, count), rng.integers(low, high + 1, count)
            rows.append(np.column_stack([z, y, rng.integers(x[0], x[1] + 1, count)]))
    return Points(pd.DataFrame(np.vstack(rows), columns=["z", "y", "x"]))


def rgb(value, scale):
    return np.array(colormaps[COLORMAP](scale.norm()(value))[:3]) * 255


def section_colors(path):
    """The first section's colours: upper left, upper right, lower left, lower right."""
    sheet = np.asarray(Image.open(path).convert("RGB")).astype(float)
    top, left, width = 112, 28, 316
    height = round(width * 16 / 20)
    return [
        sheet[round(top + height * y), round(left + width * x)]
        for y in (0.25, 0.75) for x in (0.25, 0.75)
    ]  # fmt: skip


@pytest.mark.parametrize("orientation", ["asl", "asr", "pil", "lsa", "sla"])
def test_colours_are_densities_of_each_side(tmp_path, orientation):
    upright = brain()
    annotation = brain(orientation)
    counts = count_cells(
        cells(), (100, 100, 100), annotation, orientation="asl", shape=upright.shape
    )
    scale = Scale(1.0, 1000.0)
    path = density_sections(counts, annotation, tmp_path / "a.png", title="t", scale=scale)
    volume = 24 * 8 * 10 * 1e-3
    for seen, number in zip(section_colors(path), (400, 200, 40, 20)):
        np.testing.assert_allclose(seen, rgb(number / volume, scale), atol=2)


def test_the_half_that_was_not_counted_is_pale(tmp_path):
    annotation = brain()
    counts = count_cells(cells(side="left"), (100, 100, 100), annotation)
    assert counts.half == "left"
    path = density_sections(counts, annotation, tmp_path / "a.png", title="t", scale=Scale(1, 1000))
    pale = [int(ABSENT[i : i + 2], 16) for i in (1, 3, 5)]
    colors = section_colors(path)
    np.testing.assert_allclose([colors[1], colors[3]], [pale, pale], atol=2)
    assert np.abs(colors[0] - pale).max() > 20


def test_structures_without_cells_are_grey(tmp_path):
    annotation = brain()
    few = Points(pd.DataFrame({"z": [9], "y": [4], "x": [4]}))
    counts = count_cells(few, (100, 100, 100), annotation)
    path = density_sections(counts, annotation, tmp_path / "a.png", title="t")
    grey = [int(NONE[i : i + 2], 16) for i in (1, 3, 5)]
    np.testing.assert_allclose(section_colors(path)[1:], [grey] * 3, atol=2)


def test_a_volume_of_hemispheres_sets_the_sides(tmp_path):
    plain = brain()
    sides = np.where(np.arange(24) < 12, 2, 1).astype(np.uint8) * np.ones(plain.shape, np.uint8)
    annotation = Annotation(plain.ids, TREE, "asl", hemispheres=Volume(sides, "zyx", plain.spacing))
    counts = count_cells(cells(), (100, 100, 100), annotation)
    path = density_sections(counts, annotation, tmp_path / "a.png", title="t", scale=Scale(1, 1000))
    volume = 24 * 8 * 10 * 1e-3
    np.testing.assert_allclose(section_colors(path)[0], rgb(400 / volume, Scale(1, 1000)), atol=2)
    assert counts.region("A")["cells_right"] == 400


def test_planes_without_orientation(tmp_path):
    blind = Annotation(brain().ids, TREE)
    counts = count_cells(cells(), (100, 100, 100), blind)
    path = density_sections(counts, blind, tmp_path / "a.png", title="t", scale=Scale(1, 1000))
    both = rgb(600 / (24 * 8 * 20 * 1e-3), Scale(1, 1000))
    np.testing.assert_allclose(section_colors(path)[:2], [both, both], atol=2)
    empty = Annotation(Volume(np.zeros((4, 4, 4), np.uint8), "zyx", (1, 1, 1)), TREE)
    with pytest.raises(DataError, match="no voxel"):
        density_sections(counts, empty, tmp_path / "b.png", title="t")


def test_edges_are_those_of_a_loop():
    labels = np.random.default_rng(0).integers(0, 3, (9, 11))
    wanted = set()
    for y, x in np.ndindex(*labels.shape):
        if y + 1 < 9 and labels[y, x] != labels[y + 1, x]:
            wanted.add(((x, y + 1), (x + 1, y + 1)))
        if x + 1 < 11 and labels[y, x] != labels[y, x + 1]:
            wanted.add(((x + 1, y), (x + 1, y + 1)))
    found = set()
    for (x0, y0), (x1, y1) in edges(labels).tolist():
        assert (x0 == x1) != (y0 == y1)
        for k in range(max(x1 - x0, y1 - y0)):
            dx, dy = int(x0 != x1), int(y0 != y1)
            found.add(((x0 + k * dx, y0 + k * dy), (x0 + (k + 1) * dx, y0 + (k + 1) * dy)))
    assert found == wanted


def test_the_scale_is_round_and_never_empty():
    counts = count_cells(cells(), (100, 100, 100), brain())
    scale = density_scale([counts])
    assert scale.low <= 60 / 3.84 <= 600 / 3.84 <= scale.high
    none = count_cells(Points(pd.DataFrame({"z": [], "y": [], "x": []})), (100, 100, 100), brain())
    assert density_scale([none]) == Scale(1.0, 10.0)


def test_the_page_says_what_was_counted(tmp_path):
    annotation = brain()
    table = cells().table.assign(marker="cFos <i>")
    other = cells(1).table.assign(marker="NeuN")
    stray = pd.DataFrame({"z": [0] * 90, "y": [0] * 90, "x": [0] * 90, "marker": "NeuN"})
    counts = count_markers(Points(pd.concat([table, other, stray])), (100, 100, 100), annotation)
    first, second = counts.values()
    both = coexpression(first, second, (100, 100, 100), annotation, 90.0, draws=5)
    near = proximity(first, second, annotation, draws=5)
    written = write_atlas_report(
        counts, annotation, tmp_path / "out", title="Cells & places", tolerance_um=90.0,
        coexpression={"cFos with NeuN": both}, proximity={"cFos to NeuN": near},
    )  # fmt: skip
    page = written["report"].read_text()
    assert (
        "Cells &amp; places" in page
        and "cFos &lt;i&gt;" in page
        and "<i>" not in page.split("</style>")[1].replace("<i class", "")
    )
    assert "all &lt;of it&gt;" in page and "nearer than 90.0 µm" in page
    assert re.search(r"90 of 750 cells \(12%\) lie in no structure", page)
    assert page.count("data:image/png;base64,") == 2 and "http" not in page.split("<main>")[1]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "regions.csv", "regions.json", "cells.csv", "coexpression.csv", "proximity.csv",
        "sections_cFos_i_.png", "sections_NeuN.png", "report.html",
    }  # fmt: skip
    row = pd.read_csv(tmp_path / "out" / "coexpression.csv").iloc[0]
    assert row["markers"] == "cFos with NeuN" and row["cells"] == 660
    with pytest.raises(DataError, match="at least one marker"):
        write_atlas_report({}, annotation, tmp_path)
