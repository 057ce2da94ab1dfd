"""Damage: present when asked for, exact in the labels, one-to-one warps."""

import numpy as np
import pytest

from brodmann.datasets.phantoms import damage_rates, phantom_section, phantom_tree
from brodmann.datasets.phantoms.damage import FRAME_GRID, frame_fields
from brodmann.datasets.phantoms.tissue import OFFSET

TREE = phantom_tree()
SHAPE = (256, 512)


def pair(kind, number=6.0, subject=4):
    """The same section whole and with one kind of damage."""
    make = {"tree": TREE, "subject": subject, "plane": 0.5}
    harmed = phantom_section(SHAPE, damage={kind: number}, **make)
    whole = phantom_section(SHAPE, damage=0.0, **make)
    assert harmed.meta["damage"][kind] > 0 and not any(whole.meta["damage"].values())
    return whole, harmed


@pytest.mark.parametrize("kind", ["tears", "missing"])
def test_lost_tissue_is_dark_and_background(kind):
    whole, harmed = pair(kind)
    lost = (whole.labels.data > 0) & (harmed.labels.data == 0)
    kept = (whole.labels.data > 0) & (harmed.labels.data > 0)
    assert 0.003 < lost.sum() / (whole.labels.data > 0).sum() < 0.6
    # No label moves, and none appears where there was none.
    assert np.array_equal(whole.labels.data[kept], harmed.labels.data[kept])
    assert not ((whole.labels.data == 0) & (harmed.labels.data > 0)).any()
    image = harmed.image.data[0].astype(float) - OFFSET
    assert np.median(image[lost]) < 0.25 * np.median(image[kept])


def test_folds_hide_and_brighten():
    whole, harmed = pair("folds", 3.0)
    changed = whole.labels.data != harmed.labels.data
    assert 0.003 < changed.mean() < 0.3
    assert harmed.image.data.max() > whole.image.data.max()
    ids = set(np.unique(harmed.labels.data).tolist())
    assert ids <= {0, *TREE.classes}


@pytest.mark.parametrize("kind", ["bubbles", "dust"])
def test_what_lies_on_the_slide_leaves_the_labels(kind):
    whole, harmed = pair(kind, 12.0)
    assert np.array_equal(whole.labels.data, harmed.labels.data)
    changed = (whole.image.data != harmed.image.data).any(0)
    assert 0.0001 < changed.mean() < 0.5


def test_number_of_damages_follows_the_rate():
    counts = [
        phantom_section((32, 64), TREE, subject=i, damage={"tears": 2.0}).meta["damage"]
        for i in range(30)
    ]
    tears = [c["tears"] for c in counts]
    assert 1.2 < np.mean(tears) < 2.8 and np.std(tears) > 0.5
    assert all(c["folds"] == 0 for c in counts)


def test_rates():
    twice, once = damage_rates(2.0), damage_rates(1)
    assert twice == {kind: 2 * rate for kind, rate in once.items()}
    assert sum(damage_rates(False).values()) == 0


def test_warps_are_one_to_one():
    """The map from frame to drawing keeps its orientation everywhere."""
    for subject in range(12):
        field = frame_fields(0, subject, "0.500000").astype(float)
        step = FRAME_GRID[2]
        uv, uu = np.gradient(field[..., 0], step)
        vv, vu = np.gradient(field[..., 1], step)
        assert ((1 + uu) * (1 + vv) - uv * vu).min() > 0.05
        assert np.abs(field[..., :2]).max() < 0.25
