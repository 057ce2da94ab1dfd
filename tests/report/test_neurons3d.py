"""The picture of neurons in 3D: sizes, what hides what, and which are drawn."""

import numpy as np
import pytest
from PIL import Image

from brodmann.core import DataError
from brodmann.report.neurons3d import PAPER, _turn, render_neurons
from brodmann.report.palette import color_of, colors_of


def ball(shape, spacing, centre_um, radius_um, id_=1, into=None):
    out = np.zeros(shape, np.uint16) if into is None else into
    grid = np.stack(
        np.meshgrid(*[(np.arange(n) + 0.5) * s for n, s in zip(shape, spacing)], indexing="ij")
    )
    out[((grid - np.array(centre_um)[:, None, None, None]) ** 2).sum(0) <= radius_um**2] = id_
    return out


def bodies(path):
    """Pixels that are neither paper nor the grey of lines and letters."""
    pixels = np.asarray(Image.open(path)).astype(int)
    return pixels, np.ptp(pixels, axis=2) > 25


def hue_is(pixels, rank):
    """Pixels whose colour leans as that of a rank does."""
    color = np.array(color_of(rank)) - np.mean(color_of(rank))
    lean = pixels - pixels.mean(axis=2, keepdims=True)
    norm = np.linalg.norm(lean, axis=2) * np.linalg.norm(color)
    return (lean @ color) > 0.9 * np.maximum(norm, 1e-9)


@pytest.mark.parametrize("spacing", [(0.01, 0.01, 0.01), (0.04, 0.01, 0.01)])
def test_a_ball_is_round_and_as_large_as_it_is(tmp_path, spacing):
    shape = tuple(round(0.6 / s) for s in spacing)
    labels = ball(shape, spacing, (0.3, 0.3, 0.3), 0.2)
    pixels, body = bodies(render_neurons(labels, spacing, path=tmp_path / "a.png", pixels=500))
    box = (
        np.array([[i, j, k] for i in (0, 0.6) for j in (0, 0.6) for k in (0, 0.6)]) - 0.3
    ) @ _turn().T
    scale = 500 * 0.92 / np.ptp(box[:, 0])
    rows, columns = np.nonzero(body)
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    # A coarse z cannot give more than its voxels allow.
    slack = 0.04 if spacing[0] == 0.01 else 0.12
    assert abs(wide / (0.4 * scale) - 1) < slack and abs(tall / (0.4 * scale) - 1) < slack
    assert abs(body.sum() / (np.pi * (0.2 * scale) ** 2) - 1) < 2 * slack
    assert (pixels[2, 2] == PAPER).all()


def test_what_stands_in_front_hides_what_stands_behind(tmp_path):
    spacing = (0.01,) * 3
    away = _turn()[2]  # towards greater depth, in (z, y, x)
    near = np.array([0.3, 0.3, 0.3]) - 0.14 * away
    far = np.array([0.3, 0.3, 0.3]) + 0.14 * away
    labels = ball((60, 60, 60), spacing, far, 0.1, 1)
    labels = ball((60, 60, 60), spacing, near, 0.1, 2, into=labels)
    path = render_neurons(labels, spacing, ids=[1, 2], path=tmp_path / "a.png", pixels=400)
    pixels, body = bodies(path)
    seen = [(hue_is(pixels, rank) & body).sum() for rank in (0, 1)]
    assert seen[1] > 0.8 * body.sum() and seen[0] < 0.1 * body.sum()


def test_chosen_ones_alone_are_drawn_in_their_order(tmp_path):
    spacing = (0.01,) * 3
    labels = ball((50, 50, 50), spacing, (0.25, 0.25, 0.12), 0.1, 7)
    labels = ball((50, 50, 50), spacing, (0.25, 0.25, 0.38), 0.1, 9, into=labels)
    one = bodies(render_neurons(labels, spacing, ids=[9], path=tmp_path / "a.png", pixels=300))
    both = bodies(render_neurons(labels, spacing, ids=[7, 9], path=tmp_path / "b.png", pixels=300))
    skip = bodies(render_neurons(labels, spacing, ids=[0, 9], path=tmp_path / "c.png", pixels=300))
    assert both[1].sum() > 1.6 * one[1].sum()
    assert (hue_is(one[0], 0) & one[1]).sum() > 0.8 * one[1].sum()
    assert (hue_is(skip[0], 1) & skip[1]).sum() > 0.8 * skip[1].sum()


def test_a_body_that_fills_the_volume_is_closed_at_its_faces(tmp_path):
    labels = np.ones((10, 20, 30), np.uint8)
    labels[:, :, 15:] = 2
    _, body = bodies(
        render_neurons(labels, (0.03, 0.01, 0.01), path=tmp_path / "a.png", pixels=300)
    )
    assert body.mean() > 0.4


def test_a_tall_volume_makes_no_endless_picture(tmp_path):
    labels = np.ones((4, 300, 6), np.uint8)
    labels[:, 150:] = 2
    path = render_neurons(labels, (0.01, 0.01, 0.01), path=tmp_path / "a.png", pixels=200)
    _, body = bodies(path)
    assert body.shape[0] < 2 * 200 and body.any()


def test_what_cannot_be_drawn_is_refused(tmp_path):
    labels = np.zeros((4, 5, 6), np.uint8)
    for bad, ids in ((labels, None), (labels + 1, [3]), (labels[0], None)):
        with pytest.raises(DataError):
            render_neurons(bad, (1, 1, 1), ids=ids, path=tmp_path / "a.png")
    with pytest.raises(DataError):
        render_neurons(labels + 1, (0, 1, 1), path=tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_colours_are_the_same_for_an_id_and_far_apart_for_a_row():
    ids = np.arange(1, 40)
    colors = colors_of(ids)
    np.testing.assert_array_equal(colors_of(ids[::-1])[::-1], colors)
    assert np.median(np.abs(np.diff(colors, axis=0)).max(1)) > 0.25
    assert len({color_of(i) for i in range(60)}) == 60
