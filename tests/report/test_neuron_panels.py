"""Panels of a section: where errors are marked, and whose colours segments have."""

import numpy as np
import pytest
from PIL import Image

from brodmann.core import DataError
from brodmann.metrics.clusters import cluster_table
from brodmann.report.neuron_panels import FOOT, GAP, HEAD, MERGE, SPLIT, _matched, neuron_panel
from brodmann.report.palette import colors_of

SPACING = (0.03, 0.006, 0.006)
SIDE = 56


@pytest.fixture
def made():
    """Four quarters; segments split the first, merge the lower two, and shift one border."""
    truth = np.ones((3, SIDE, SIDE), np.uint32)
    truth[:, :28, 28:] = 2
    truth[:, 28:, :28] = 3
    truth[:, 28:, 28:] = 4
    segments = truth + 10
    segments[:, :14, :28] = 21
    segments[segments == 14] = 13
    segments[:, 26:28, 28:] = 13  # two pixels beside the true border: no error
    image = np.random.default_rng(0).integers(0, 255, truth.shape).astype(np.uint8)
    return image, truth, segments


def panels(path, count):
    sheet = np.asarray(Image.open(path)).astype(int)
    width = (sheet.shape[1] - (count + 1) * GAP) // count
    return [
        sheet[HEAD:-FOOT, GAP + i * (width + GAP) : GAP + i * (width + GAP) + width]
        for i in range(count)
    ]


def is_(panel, color):
    return np.abs(panel - np.array(color)).max(axis=2) < 3


def test_splits_and_merges_lie_where_they_are(made, tmp_path):
    path = neuron_panel(*made, z=1, spacing=SPACING, path=tmp_path / "a.png")
    *_, errors = panels(path, 4)
    zoom = errors.shape[0] // SIDE
    split, merged = (is_(errors, color)[::zoom, ::zoom] for color in (SPLIT, MERGE))
    expected = np.zeros((SIDE, SIDE), bool)
    expected[13:15, :28] = True
    np.testing.assert_array_equal(split, expected)
    expected[:] = False
    expected[28:, 27:29] = True
    np.testing.assert_array_equal(merged, expected)


def test_a_merge_across_a_membrane_of_0_is_seen(made, tmp_path):
    image, truth, segments = made
    truth = truth.copy()
    truth[:, :, 26:30] = 0
    truth[:, 26:30] = 0
    path = neuron_panel(image, truth, segments, z=1, spacing=SPACING, path=tmp_path / "a.png")
    *_, errors = panels(path, 4)
    zoom = errors.shape[0] // SIDE
    merged = is_(errors, MERGE)[::zoom, ::zoom]
    assert merged[32:, 26:30].any(axis=1).all()
    assert not merged[:24].any() and not merged[:, :24].any() and not merged[:, 32:].any()


def test_segments_have_the_colours_of_their_neurons(made, tmp_path):
    _, truth, segments = made
    colors = _matched(cluster_table(truth, segments))
    for segment, neuron in ((11, 1), (12, 2)):
        np.testing.assert_allclose(colors[segment], colors_of(np.array([neuron]))[0])
    # Each half of the first neuron is as large: one has its colour, the other a shade of it.
    assert not np.allclose(colors[21], colors[11])
    path = neuron_panel(*made, z=0, spacing=SPACING, path=tmp_path / "a.png",
                        affinities=np.full((3, 3, SIDE, SIDE), 200, np.uint8))  # fmt: skip
    _, affinities, true, found, _ = panels(path, 5)
    assert (affinities == 200).all()
    zoom = true.shape[0] // SIDE
    block = (slice(4 * zoom, 9 * zoom), slice(40 * zoom, 50 * zoom))
    np.testing.assert_array_equal(true[block], found[block])


def test_wide_sections_are_thinned(tmp_path):
    ids = np.ones((1, 1500, 1300), np.uint8)
    ids[:, 700:] = 2
    path = neuron_panel(ids, ids, ids, z=0, spacing=SPACING, path=tmp_path / "a.png")
    assert max(Image.open(path).size) < 4 * 1200


@pytest.mark.parametrize("change", [{"z": 3}, {"z": -1}, {"segments": np.ones((3, 5, 5), int)}])
def test_what_cannot_be_drawn_is_refused(made, tmp_path, change):
    image, truth, segments = made
    segments = change.get("segments", segments)
    with pytest.raises(DataError):
        neuron_panel(image, truth, segments, z=change.get("z", 0), spacing=SPACING,
                     path=tmp_path / "a.png")  # fmt: skip
    assert not list(tmp_path.iterdir())
