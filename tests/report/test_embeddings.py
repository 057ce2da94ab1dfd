"""Representations in a plane: against scikit-learn, the same for a seed, and what is drawn."""

import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from brodmann.core import BrodmannError, DataError, OutputError, RecipeError, keyed_rng
from brodmann.report.embeddings import GAP, SIDE, SIDES, TOP, embedding_figure, project
from brodmann.report.plots import CATEGORY_COLORS, category_colors
from brodmann.report.sheet import MARGIN


@pytest.mark.parametrize("shape", [(40, 6), (6, 40), (12, 12), (3, 2)])
def test_pca_is_that_of_scikit_learn(shape):
    features = keyed_rng(0, "features").standard_normal(shape) + 100
    found, model = project(features), PCA(2).fit(features)
    expected = model.transform(features)
    assert found.shape == (shape[0], 2) and found.dtype == np.float32
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-4)
    loadings = model.components_ * signs[:, None]
    assert (loadings[[0, 1], np.abs(loadings).argmax(1)] > 0).all()


@given(seed=st.integers(0, 999), count=st.integers(2, 12), width=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_pca_keeps_no_distance_longer_than_it_is(seed, count, width):
    features = keyed_rng(seed, "f").standard_normal((count, width))
    xy = project(features)
    flat, full = (np.linalg.norm(a[:, None] - a[None], axis=-1) for a in (xy, features))
    assert (flat <= full + 1e-4).all()
    np.testing.assert_allclose(xy.mean(0), 0, atol=1e-5)
    if min(count - 1, width) <= 2:
        np.testing.assert_allclose(flat, full, atol=1e-4)


def test_what_does_not_vary_lies_at_zero():
    assert not project(np.full((5, 3), 7.0)).any()
    line = np.outer(np.arange(5), [1.0, 2.0, 2.0])
    assert not project(line)[:, 1].any()
    np.testing.assert_allclose(np.diff(project(line)[:, 0]), 3, rtol=1e-5)
    np.testing.assert_allclose(project(np.arange(4.0)[:, None])[:, 0], [-1.5, -0.5, 0.5, 1.5])


def test_umap_keeps_groups_together_is_the_same_for_a_seed_and_quiet():
    rng = keyed_rng(0, "groups")
    group = np.arange(60) % 3
    features = 6 * np.eye(8)[group] + rng.standard_normal((60, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = project(features, "umap", seed=4)
    np.testing.assert_array_equal(project(features, "umap", seed=4), first)
    assert not np.allclose(project(features, "umap", seed=5), first)
    assert first.shape == (60, 2) and silhouette_score(first, group) > 0.6
    assert np.isfinite(project(features[:5], "umap")).all()


def test_umap_is_asked_for_where_it_is_missing_and_nothing_takes_its_place(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(BrodmannError, match=r"pip install 'brodmann\[umap\]'"):
        project(np.eye(6), "umap")


def test_features_that_cannot_be_projected_are_refused():
    with pytest.raises(RecipeError, match="did you mean 'umap'"):
        project(np.eye(3), "umapp")
    for bad in (np.ones(3), np.ones((1, 4)), np.ones((4, 0)), np.array([[1.0, np.nan], [0, 0]])):
        with pytest.raises(DataError):
            project(bad)
    with pytest.raises(DataError):
        project(np.eye(3), "umap")


def made(count):
    rng = keyed_rng(0, "made", count)
    kinds = [("CTX", "STR", "VP", "ZI")[i % 4] for i in range(count)]
    values = {f"vessel_density_{i}": rng.random(count) for i in range(5)}
    parts = ["test" if i % 7 == 0 else "train" for i in range(count)]
    return rng.standard_normal((count, 2)), kinds, values, parts


def panel(path, number, side=SIDE):
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    left = MARGIN + number * (side + GAP)
    return pixels[TOP:, left : left + side]


def shines(pixels, rgb, alpha=0.6):
    """Pixels of one colour that white paper shines through."""
    return np.abs(pixels - (np.array(rgb) * alpha + 255 * (1 - alpha))).max(-1) < 8


def rgb_of(color):
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


@pytest.mark.parametrize("attributes", [0, 3, 5])
@pytest.mark.parametrize("count", [50, 5000])
def test_a_row_of_panels(tmp_path, count, attributes):
    xy, kinds, values, parts = made(count)
    chosen = dict(list(values.items())[:attributes])
    path = embedding_figure(
        xy, tmp_path / "a.png", categories=kinds, attributes=chosen, parts=parts
    )
    width, height = Image.open(path).size
    assert width == 2 * MARGIN + (attributes + 1) * (SIDES.get(attributes + 1, SIDE) + GAP) - GAP
    assert height < 900
    assert list(tmp_path.iterdir()) == [path]


def test_colours_say_region_and_value(tmp_path):
    xy = np.array([[0, 0], [1, 0], [0, 1.0], [1, 1.0]])
    path = embedding_figure(
        xy, tmp_path / "a.png", categories=["A", "A", "B", "B"],
        attributes={k: [0.0, 1.0, 0.0, np.nan] for k in ("vessel_density", "x", "y")},
    )  # fmt: skip
    region, density = (panel(path, i, SIDES[4])[: SIDES[4]] for i in (0, 1))
    first, second = category_colors("AB").values()
    assert (first, second) == CATEGORY_COLORS[:2]
    for color, (here, there) in (
        (first, (region[150:], region[:150])),
        (second, (region[:150], region[150:])),
    ):
        assert shines(here, rgb_of(color)).sum() > 50
        assert not shines(there, rgb_of(color)).any()
    high, low = (np.array(colormaps["cividis"](end)[:3]) * 255 for end in (1.0, 0.0))
    rows, columns = np.nonzero(shines(density, high))
    assert len(rows) > 50 and rows.min() > 150 and columns.min() > 150
    rows, columns = np.nonzero(shines(density, low))
    assert len(rows) > 50 and columns.max() < 150
    rows, columns = np.nonzero(shines(density, rgb_of("#b9b6ad"), 1))
    assert len(rows) > 10 and rows.max() < 150 and columns.min() > 150


def test_points_of_the_test_part_have_a_rim(tmp_path):
    xy = np.array([[0.0, 0], [1, 1]])
    path = embedding_figure(xy, tmp_path / "a.png", categories=["A", "A"], parts=["train", "test"])
    pixels = panel(path, 0, 560)[:560]
    dark = pixels.max(-1) < 90
    assert dark[:280].sum() > 12 and not dark[280:, :].any()
    alike = embedding_figure(xy, tmp_path / "b.png", categories=["A", "A"])
    assert not (panel(alike, 0, 560)[:560].max(-1) < 90).any()


@pytest.mark.parametrize("values", [[np.nan] * 3, [2.0] * 3, [1.0, 2.0, np.nan], [0, 5e9, 1]])
def test_odd_values_are_drawn(tmp_path, values):
    path = embedding_figure(np.eye(3)[:, :2], tmp_path / "a.png", attributes={"cell_count": values})
    assert Image.open(path).size[0] > 500


def test_what_cannot_be_drawn_is_refused(tmp_path):
    xy = np.zeros((3, 2))
    for bad, options in (
        (xy, {}),
        (xy, {"categories": ["A"]}),
        (xy, {"categories": ["A"] * 3, "parts": ["train"]}),
        (xy, {"attributes": {"cell_count": [1, 2]}}),
        (xy[:, :1], {"categories": ["A"] * 3}),
        (xy * np.nan, {"categories": ["A"] * 3}),
    ):
        with pytest.raises(DataError):
            embedding_figure(bad, tmp_path / "a.png", **options)
    with pytest.raises(OutputError):
        embedding_figure(xy, tmp_path / "a.gif", categories=["A"] * 3)
    assert not list(tmp_path.iterdir())


def test_many_categories_differ_and_known_colours_stay():
    colors = category_colors([f"r{i}" for i in range(30)], {"r3": "#123456"})
    assert len(set(colors.values())) == 30 and colors["r3"] == "#123456"
    assert all(len(color) == 7 for color in colors.values())
