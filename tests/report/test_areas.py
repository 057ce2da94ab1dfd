"""The table of areas against counting by hand."""

import csv

import numpy as np
import pytest
from report_views import section, tree

from brodmann.core import DataError, Label, LabelMap, Volume
from brodmann.report import areas, measure_areas, write_areas
from brodmann.report.areas import total_areas
from brodmann.report.counts import label_of, sums_by_id


def rows_of(one, **changes):
    options = {"truth": one.truth, "confidence": one.confidence, "section": one.name}
    return measure_areas(one.prediction, tree(), **(options | changes))


@pytest.mark.parametrize("strip", [1, 100, 1 << 24])
def test_counts_areas_and_confidence_whatever_the_strips(strip, monkeypatch):
    monkeypatch.setattr(areas, "STRIP_VOXELS", strip)
    monkeypatch.setattr("brodmann.report.counts.CHUNK_VOXELS", strip + 6)
    one = section(0)
    found, true, sure = (v.numpy() for v in (one.prediction, one.truth, one.confidence))
    rows = rows_of(one)
    assert [row["id"] for row in rows] == [1, 2, 3]
    for row in rows:
        mask = found == row["id"]
        assert row["pixels"] == mask.sum()
        assert row["area_mm2"] == pytest.approx(mask.sum() * 50 * 50 / 1e6)
        assert row["mean_confidence"] == pytest.approx(sure[mask].mean() / 255, abs=1e-4)
        assert row["truth_pixels"] == (true == row["id"]).sum()
        assert row["truth_area_mm2"] == pytest.approx((true == row["id"]).sum() * 0.0025)
        assert row["annotated_pixels"] == (mask & (true != 9)).sum()
        assert row["primary"] == {1: "CH", 2: "CH", 3: "BS"}[row["id"]]


def test_predictions_on_pixels_nobody_annotated_are_not_compared():
    found = Volume(np.full((2, 4), 1), "yx", (1000.0, 1000.0))
    true = Volume(np.array([[1, 1, 9, 9], [0, 2, 9, 9]]), "yx", (1000.0, 1000.0))
    rows = measure_areas(found, tree(), truth=true)
    assert [(r["id"], r["pixels"], r["annotated_pixels"], r["truth_pixels"]) for r in rows] == [
        (1, 8, 4, 2),
        (2, 0, 0, 1),
    ]
    totals = total_areas(rows)
    assert totals[1] == {"predicted": 8.0, "compared": 4.0, "true": 2.0, "unit": "mm2"}
    assert totals[2] == {"predicted": 0.0, "compared": 0.0, "true": 1.0, "unit": "mm2"}


def test_a_region_only_in_the_truth_has_no_confidence():
    found = Volume(np.zeros((1, 2), np.uint8), "yx", (1.0, 1.0))
    true, sure = found.like(np.array([[3, 0]])), found.like(np.array([[7, 7]], np.uint8))
    (row,) = measure_areas(found, tree(), truth=true, confidence=sure)
    assert (row["pixels"], row["truth_pixels"], row["mean_confidence"]) == (0, 1, None)


def test_volumes_are_measured_in_mm3():
    volume = Volume(np.ones((2, 3, 4), np.uint8), "zyx", (100.0, 50.0, 20.0))
    (row,) = measure_areas(volume, tree())
    assert row["volume_mm3"] == pytest.approx(24 * 100 * 50 * 20 / 1e9)
    assert "area_mm2" not in row


def test_csv_reads_back(tmp_path):
    rows = rows_of(section(0)) + rows_of(section(1), truth=None, confidence=None)
    with write_areas(tmp_path / "areas.csv", rows).open(encoding="utf-8", newline="") as file:
        back = list(csv.DictReader(file))
    assert len(back) == 6
    assert [float(row["area_mm2"]) for row in back] == [row["area_mm2"] for row in rows]
    assert back[5]["truth_pixels"] == "" and back[0]["truth_pixels"] != ""
    header = write_areas(tmp_path / "none.csv", []).read_text("utf-8")
    assert header == "section,subject,split,id,acronym,name,primary,pixels,area_mm2\n"


def test_other_grids_and_fractions_are_refused():
    one = section(0)
    with pytest.raises(DataError, match="differ in shape"):
        rows_of(one, truth=section(0, (8, 9)).truth)
    with pytest.raises(DataError, match="whole numbers"):
        measure_areas(Volume(np.zeros((2, 2)), "yx", (1.0, 1.0)), tree())


def test_sums_of_sparse_large_ids():
    labels = np.array([[614454277, 0], [614454277, 5]], np.uint32)
    found = sums_by_id(labels, np.array([[1, 2], [3, 4]], np.uint8))
    assert found == {0: (1, 2.0), 5: (1, 4.0), 614454277: (2, 4.0)}


def test_a_tree_without_colours_gets_different_ones():
    plain = LabelMap([Label(i, f"r{i}", f"r{i}") for i in range(1, 119)])
    colors = {label_of(plain, i).rgb for i in range(1, 119)}
    assert len(colors) == 118
    assert label_of(tree(), 3).color == "FF90A0"
