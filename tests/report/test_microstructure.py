"""Microstructure beside its truth, and in 3D: which colours lie where."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from brodmann.core import DataError, Label, LabelMap, OutputError, Volume, keyed_rng
from brodmann.report import MappedSection
from brodmann.report.figures import DIFFERENCES
from brodmann.report.microstructure import (
    BACKDROP,
    GAP,
    OPACITY,
    TOP,
    WIDTH,
    microstructure_figure,
    render_microstructure,
)
from brodmann.report.neurons3d import render_neurons
from brodmann.report.sheet import MARGIN

LABELS = LabelMap(
    [
        Label(1, "Vessel", "vessel", None, "D7301F"),
        Label(2, "Cell", "cell", None, "E8C547"),
        Label(3, "Axon", "axon", None, "35B7C6"),
    ],
    ignore=9,
)
SIDE = 32


def section(name="a", truth=True, axes="yx"):
    """Upper left a vessel, upper right a cell (taken for an axon), below nothing (but a cell)."""
    true = np.zeros((SIDE, SIDE), np.uint8)
    true[:16, :16], true[:16, 16:] = 1, 2
    found = true.copy()
    found[:16, 16:] = 3
    found[16:, 16:] = 2
    true[24:, 24:] = 9
    image = np.full((SIDE, SIDE), 100, np.uint8)
    image[0], image[1] = 0, 200
    if axes == "zyx":
        true, found, image = (np.stack([0 * a, a, 0 * a]) for a in (true, found, image))
    grid = Volume(image, axes, (1.17,) * len(axes))
    return MappedSection(name, "m", grid, grid.like(found), grid.like(true) if truth else None)


def tile(path, column, row=0):
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(float)
    left, top = MARGIN + column * (WIDTH + GAP), TOP + row * (WIDTH + 34)
    return pixels[top : top + WIDTH, left : left + WIDTH]


def middle(panel, y, x):
    """Mean colour around the middle of one of 4 x 4 fields."""
    step = WIDTH // 4
    y, x = (int((place + 0.5) * step) for place in (y, x))
    return panel[y - 15 : y + 15, x - 15 : x + 15].mean((0, 1))


@pytest.mark.parametrize("axes", ["yx", "zyx"])
def test_each_column_shows_what_it_says(tmp_path, axes):
    path = microstructure_figure([section(axes=axes)], LABELS, tmp_path / "a.png")
    image, truth, found, wrong = (tile(path, i) for i in range(4))
    grey = middle(image, 2, 0)
    assert np.ptp(grey) < 1

    def painted(id_):
        return BACKDROP * grey * (1 - OPACITY) + OPACITY * np.array(LABELS[id_].rgb)

    for panel, ids in ((truth, (1, 2, 0, 0)), (found, (1, 3, 0, 2))):
        for id_, place in zip(ids, ((0, 0), (0, 2), (2, 0), (2, 2))):
            expected = painted(id_) if id_ else BACKDROP * grey
            np.testing.assert_allclose(middle(panel, *place), expected, atol=3)
    for kind, place in ((0, (0, 0)), (1, (0, 2)), (0, (2, 0)), (3, (2, 2))):
        *rgb, alpha = DIFFERENCES[kind][1]
        share = alpha / 255
        expected = np.array(rgb) * share + 0.6 * grey * (1 - share)
        np.testing.assert_allclose(middle(wrong, *place), expected, atol=3)
    # What nobody annotated is hatched in the truth and nowhere wrong.
    assert tile(path, 1)[-70:-10, -70:-10].std() > 4
    assert np.abs(middle(wrong, 3, 3) - middle(wrong, 2, 2)).max() > 40
    assert list(tmp_path.iterdir()) == [path]


def test_other_methods_have_columns_of_their_own(tmp_path):
    one, two = section("a"), section("b")
    empty = {s.name: s.image.like(np.zeros((SIDE, SIDE), np.uint8)) for s in (one, two)}
    path = microstructure_figure([one, two], LABELS, tmp_path / "a.png", others={"none": empty})
    for row in (0, 1):
        assert np.ptp(middle(tile(path, 3, row), 0, 0)) < 1
        assert np.ptp(middle(tile(path, 2, row), 0, 0)) > 40
    with pytest.raises(DataError, match="no prediction"):
        microstructure_figure([one], LABELS, tmp_path / "b.png", others={"none": {}})


def test_without_a_truth_nothing_is_wrong(tmp_path):
    path = microstructure_figure([section(truth=False)], LABELS, tmp_path / "a.png")
    assert Image.open(path).size[0] == 2 * MARGIN + 2 * WIDTH + GAP
    with pytest.raises(DataError):
        microstructure_figure([], LABELS, tmp_path / "b.png")
    with pytest.raises(OutputError):
        microstructure_figure([section()], LABELS, tmp_path / "b.gif")


def lean(path, id_):
    """Pixels whose colour leans as a label's does."""
    pixels = np.asarray(Image.open(path)).astype(float)
    color = np.array(LABELS[id_].rgb) - np.mean(LABELS[id_].rgb)
    away = pixels - pixels.mean(-1, keepdims=True)
    norm = np.linalg.norm(away, axis=-1) * np.linalg.norm(color)
    return ((away @ color) > 0.95 * np.maximum(norm, 1e-9)) & (np.ptp(pixels, axis=-1) > 25)


def test_labels_in_3d_have_their_own_colours(tmp_path):
    labels = np.zeros((20, 24, 30), np.uint8)
    labels[:, 10:14, 4:8], labels[5:15, 4:10, 18:26], labels[2:4, :3] = 3, 1, 9
    path = tmp_path / "a.png"
    drawn = render_microstructure(labels, (2, 1, 1), LABELS, path, pixels=400)
    assert [label.acronym for label in drawn] == ["vessel", "axon"]
    # Each colour stands in the legend, too; what is not drawn does not.
    foot = [int(lean(path, id_)[-60:, 200:].sum()) for id_ in (1, 2, 3)]
    assert foot[0] > 100 and foot[1] == 0 and foot[2] > 100
    counts = [int(lean(path, id_).sum()) for id_ in (1, 2, 3)]
    assert counts[0] > 2000 and counts[1] == 0 and counts[2] > 1000
    only = render_microstructure(
        labels, (2, 1, 1), LABELS, path, acronyms=["cell", "axon"], pixels=400
    )
    assert [label.acronym for label in only] == ["axon"]
    assert not lean(path, 1).any() and lean(path, 3).sum() >= counts[2]


def test_what_is_not_there_is_not_drawn_in_3d(tmp_path):
    labels = np.zeros((4, 5, 6), np.uint8)
    for options in ({}, {"acronyms": ["soma"]}):
        with pytest.raises(DataError):
            render_microstructure(labels, (1, 1, 1), LABELS, tmp_path / "a.png", **options)
    with pytest.raises(DataError, match="one colour"):
        render_neurons(labels + 1, (1, 1, 1), colors=[], path=tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.real
def test_a_real_stack_of_vessels(tmp_path, real_data):
    stack = tifffile.imread(real_data / "vessels" / "poon2015_plaqueVessels_labels.tif")
    small = (stack[:, ::4, ::4] > 0).astype(np.uint8)
    render_microstructure(small, (5, 4, 4), LABELS, tmp_path / "a.png", pixels=400)
    assert lean(tmp_path / "a.png", 1).mean() > 0.03


def test_images_are_stretched_alike(tmp_path):
    rng = keyed_rng(0, "noise")
    sections = []
    for name, level in (("dark", 20), ("bright", 200)):
        noise = rng.integers(level, level + 20, (SIDE, SIDE)).astype(np.uint8)
        grid = Volume(noise, "yx", (1, 1))
        sections.append(MappedSection(name, "m", grid, grid.like(np.zeros_like(noise))))
    path = microstructure_figure(sections, LABELS, tmp_path / "a.png")
    assert tile(path, 0, 0).mean() < 60 and tile(path, 0, 1).mean() > 190
