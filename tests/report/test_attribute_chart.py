"""The chart of attributes shows what the table holds."""

from __future__ import annotations

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from brodmann.core import Volume, keyed_rng
from brodmann.metrics.attribute_table import attribute_table
from brodmann.report import attributes as room
from brodmann.report.attributes import save_attributes

IDS = {"vessel": 1, "cell": 2, "axon": 3}
SPACING = (2.0, 0.5, 0.5)


def rows(per="slice", ids=IDS, shape=(8, 24, 30), **options):
    labels = keyed_rng(0, "chart").integers(0, 4, shape).astype(np.uint8)
    volume = Volume(labels, "zyx"[-len(shape) :], SPACING[-len(shape) :])
    return attribute_table(volume, ids, per, **options)


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is made."""
    made = []

    class Figure(matplotlib.figure.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(matplotlib.figure, "Figure", Figure)
    return made


def test_slices_are_lines_along_z_in_um(tmp_path, figures):
    table = rows()
    path = save_attributes(table, tmp_path / "z.png", axes="zyx", spacing_um=SPACING)
    panels = figures[0].axes
    assert len(panels) == 5 and Image.open(path).size[0] > 800
    z, count = panels[2].lines[0].get_data()
    np.testing.assert_array_equal(z, 2.0 * np.arange(8))
    np.testing.assert_array_equal(count, [row["cell_count"] for row in table])
    share = panels[0].lines[0].get_ydata()
    np.testing.assert_allclose(share, [100 * row["vessel_density"] for row in table])
    assert "µm²" in panels[3].get_title(loc="left")


def test_blocks_of_a_volume_are_means_at_their_centres(tmp_path, figures):
    table = rows("block", block=(4, 12, 15))
    save_attributes(table, tmp_path / "b.png", axes="zyx", spacing_um=SPACING, per="block")
    line = figures[0].axes[2].lines[-1]
    np.testing.assert_array_equal(line.get_xdata(), [3.0, 11.0])
    low = np.mean([row["cell_count"] for row in table if row["z"] == 0])
    assert line.get_ydata()[0] == pytest.approx(low)
    assert "µm³" in figures[0].axes[3].get_title(loc="left")


def test_tiles_of_an_image_are_maps(tmp_path, figures):
    table = rows("block", shape=(24, 31), block=(10, 8), ids={"cell": 2, "vessel": 1})
    save_attributes(table, tmp_path / "m.png", axes="yx", spacing_um=SPACING[1:], per="block")
    maps = [axis.collections[0] for axis in figures[0].axes if axis.collections]
    (shown,) = [m for m in maps if m.axes.get_title(loc="left").startswith("cells")]
    assert shown.get_array().shape == (3, 4)
    np.testing.assert_array_equal(
        shown.get_array().reshape(-1), [row["cell_count"] for row in table]
    )


def test_sections_are_points_with_their_names(tmp_path, figures):
    table = [{"sample": f"s{i}"} | rows(shape=(20, 20 + i))[0] for i in range(4)]
    save_attributes(table, tmp_path / "s.svg", axes="yx", spacing_um=SPACING[1:])
    panel = figures[0].axes[-1]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["s0", "s1", "s2", "s3"]
    assert panel.lines[0].get_ydata()[3] == pytest.approx(table[3]["cell_distance"])


def test_what_is_unknown_has_no_panel_and_one_row_no_chart(tmp_path, figures):
    save_attributes(rows(ids={"cell": 2}), tmp_path / "c.png", axes="zyx", spacing_um=SPACING)
    assert len(figures[0].axes) == 3
    one = tmp_path / "one.png"
    assert save_attributes(rows("volume"), one, axes="zyx", spacing_um=SPACING) is None
    none = rows(ids={"cell": None})
    assert save_attributes(none, one, axes="zyx", spacing_um=SPACING) is None
    assert not one.exists()


def test_every_attribute_has_a_title():
    assert set(room.TITLES) == set(room.ATTRIBUTES)
