"""Pictures and tables of how well cells were found."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from brodmann.core import DataError, OutputError
from brodmann.metrics.points import PointScore, marker_matrix
from brodmann.metrics.score_cells import score_cells
from brodmann.report.cells import (
    FALSE,
    MISSED,
    TRUE,
    cells_picture,
    matrix_picture,
    region_table,
    score_table,
)


def rgb(color):
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def pixels(path, color, region=None):
    """How many pixels have about this colour."""
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    if region is not None:
        picture = picture[region]
    return int((np.abs(picture - rgb(color)).max(-1) < 12).sum())


def scored(folder, found, truth, **options):
    axes = list("zyx"[3 - truth.shape[1] :])
    regions = options.pop("regions_of", None)
    for name, points, side in (("f", found, 0), ("t", truth, 1)):
        table = pd.DataFrame(points, columns=axes)
        if regions is not None:
            table["volume"] = regions[side]
        table.to_csv(folder / f"{name}.csv", index=False)
    return score_cells(folder / "f.csv", folder / "t.csv", tolerance=5, **options)


@pytest.fixture
def cells():
    return np.random.default_rng(0).uniform(0, (30, 90, 120), (200, 3))


def test_false_and_missed_cells_are_seen_where_there_are_any(tmp_path, cells):
    far = cells[:40] + 1000
    for name, found, truth, seen in (
        ("all", cells, cells, (TRUE,)),
        ("false", np.concatenate([cells, far]), cells, (TRUE, FALSE)),
        ("missed", cells, np.concatenate([cells, far]), (TRUE, MISSED)),
    ):
        path = cells_picture(scored(tmp_path, found, truth), tmp_path / f"{name}.png")
        # The panel of cells, without legends and curves.
        panel = np.s_[112:700, 80:580]
        for color in (TRUE, FALSE, MISSED):
            # Dots are a little transparent on white.
            mixed = tuple(round(0.75 * c + 0.25 * 255) for c in rgb(color))
            count = pixels(path, "#{:02x}{:02x}{:02x}".format(*mixed), panel)
            assert (count > 100) == (color in seen), (name, color, count)


def test_of_a_crowd_patches_are_dark_where_cells_are_missed(tmp_path, cells, monkeypatch):
    monkeypatch.setattr("brodmann.report.cells.CROWD", 100)
    path = cells_picture(scored(tmp_path, cells[cells[:, 2] > 60], cells), tmp_path / "c.png")
    panel = np.s_[112:480, 80:580]
    worst, best = (pixels(path, color, panel) for color in ("#440154", "#fde725"))
    assert worst > 2000 and best > 2000
    # The middle of the panel, x = 60, lies at pixel 330.
    assert pixels(path, "#fde725", np.s_[112:480, 80:318]) == 0
    assert pixels(path, "#440154", np.s_[112:480, 342:580]) == 0


def test_pictures_of_nothing_and_of_sections_are_drawn(tmp_path, cells):
    none = np.zeros((0, 3))
    for number, (found, truth) in enumerate(
        (
            (none, none),
            (cells, none),
            (none, cells),
            (cells[:1], cells[:1]),
            (cells[:, 1:], cells[:, 1:]),
        )
    ):
        path = cells_picture(scored(tmp_path, found, truth), tmp_path / f"{number}.png")
        width, height = Image.open(path).size
        assert width == 1180 and 700 < height < 1300


def test_regions_have_bars_as_long_as_their_f1(tmp_path, cells):
    volumes = np.array(["a", "b"]).repeat(100)
    found = np.concatenate([cells[:100], cells[100:150]])
    score = scored(tmp_path, found, cells, regions_of=(volumes[:150], volumes))
    path = cells_picture(score, tmp_path / "two.png")
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    teal = np.abs(picture - rgb(TRUE)).max(-1) < 12
    low = 112 + 386
    rows = [teal[low + place * 24 + 7, 650:1100].sum() for place in (0, 1)]
    f1 = sorted(part.score.f1 for part in score.parts)
    assert rows[0] / rows[1] == pytest.approx(f1[0] / f1[1], abs=0.08) and f1[1] == 1
    assert cells_picture(score, tmp_path / "two.pdf").stat().st_size > 5000


def test_the_matrix_is_brighter_where_models_are_better(tmp_path):
    records = [
        (marker, region, model, PointScore(good, 50 - good, 50 - good, tolerance=6.0))
        for marker in ("NeuN", "TH")
        for region in ("r1", "r2")
        for model, good in (("NeuN", 48), ("TH", 5))
    ]
    records[0] = ("NeuN", "r1", "NeuN", PointScore(0, 0, 0, tolerance=6.0))
    path = matrix_picture(marker_matrix(records), tmp_path / "m.png")
    picture = np.asarray(Image.open(path).convert("L")).astype(float)
    left = picture[134:260]
    columns = left.mean(0)
    body = np.flatnonzero(columns < 200)
    middle = (body.min() + body.max()) // 2
    assert (
        left[:, body.min() + 8 : middle - 8].mean()
        > left[:, middle + 8 : body.max() - 8].mean() + 40
    )
    with pytest.raises(DataError, match="no entry"):
        matrix_picture(marker_matrix([("TH", "r", "m", PointScore(0, 0, 0))]), tmp_path / "n.png")
    with pytest.raises(OutputError, match="kind of picture"):
        matrix_picture(marker_matrix(records), tmp_path / "n.jpg")


def test_tables_tell_both_units_and_what_is_undefined(tmp_path, cells):
    result = scored(tmp_path, cells[:150], cells, spacing=(4.0, 1.8, 1.8)).result
    head, rows = score_table(result)
    assert head[1:] == ("5 voxel", "9 um")
    told = {row[0]: row[1:] for row in rows}
    assert told["found (TP)"] == ("150", "150") and told["missed (FN)"] == ("50", "50")
    assert told["recall"] == ("0.7500", "0.7500") and told["mode"] == ("greedy_global",) * 2
    (row,) = region_table([{"region": "a", **PointScore(0, 0, 0).as_dict()}])[1]
    assert row == ("a", "-", "-", "-", "0", "0", "0")
