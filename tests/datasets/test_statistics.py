"""Counts of pixels against numpy, and a figure that is drawn."""

import numpy as np
import pytest

from brodmann.core import DataError, Dataset, Label, LabelMap, OutputError, Sample, Volume
from brodmann.datasets.statistics import (
    availability_figure,
    count_ids,
    describe,
    region_rows,
    save_availability,
    summary_rows,
)

TREE = LabelMap(
    [Label(5, "Cortex", "CTX", None, "70FF71"), Label(300, "Thalamus", "TH", None, "FF7080")],
    ignore=999,
)


def make(name, shape=(40, 50)):
    rng = np.random.default_rng(ord(name))
    ids = rng.choice([0, 5, 300, 999] if name != "c" else [0, 5], shape).astype(np.uint16)
    spacing = (50, 20, 10)[-len(shape) :]
    axes = "zyx"[-len(shape) :]
    labels = None if name == "d" else Volume(ids, axes, spacing)
    return Sample(name, Volume(np.ones(shape), axes, spacing), labels)


def data():
    return Dataset("set", list("abcd"), make, TREE, splits={"train": ["a", "c"], "test": ["b"]})


def test_counts_sizes_and_availability():
    told = describe(data())
    counts = np.array(told["counts"])
    for row, name in zip(counts, "abc"):
        ids = make(name).labels.numpy()
        assert row.tolist() == [(ids == 5).sum(), (ids == 300).sum()]
    assert counts[3].tolist() == [0, 0]
    cortex, thalamus = told["classes"]
    assert (cortex["samples"], thalamus["samples"]) == (3, 2)
    assert cortex["pixels"] == counts[:, 0].sum()
    assert cortex["size"] == pytest.approx(cortex["pixels"] * 0.02 * 0.01)
    assert told["size_unit"] == "mm2"
    assert [s["split"] for s in told["samples"]] == ["train", "test", "train", ""]
    assert dict(summary_rows(told))["samples"] == "4, 3 with labels"
    assert region_rows(told)[1][1] == "TH"
    assert region_rows(told)[1][-1] == "2 / 3"


def test_volumes_are_counted_plane_by_plane_and_measured_in_mm3():
    volume = make("a", (3, 8, 9))
    labels = volume.labels.numpy()
    expected = dict(zip(*(part.tolist() for part in np.unique(labels, return_counts=True))))
    assert dict(count_ids(volume.labels)) == expected
    told = describe(Dataset("v", ["a"], lambda n: make(n, (3, 8, 9)), TREE))
    assert told["size_unit"] == "mm3"
    assert told["classes"][0]["size"] == pytest.approx(expected[5] * 50 * 20 * 10 * 1e-9)


def test_instances_without_a_table():
    told = describe(Dataset("i", ["a"], make))
    assert told["samples"][0]["instances"] == 3
    assert "classes" not in told


def test_the_figure_shows_every_region_and_image(tmp_path):
    told = describe(data())
    figure = availability_figure(told)
    bars, grid = figure.axes[:2]
    assert [t.get_text() for t in bars.get_yticklabels()] == ["CTX", "TH"]
    assert [patch.get_width() for patch in bars.patches] == [c["pixels"] for c in told["classes"]]
    assert [t.get_text() for t in grid.get_xticklabels()] == ["a", "c", "b"]
    shown = np.ma.getmaskarray(grid.collections[0].get_array())
    assert shown.reshape(2, 3).tolist() == [[False, False, False], [False, True, False]]
    path = save_availability(told, tmp_path / "new" / "regions.png")
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_figures_that_cannot_be(tmp_path):
    with pytest.raises(OutputError, match=r"\.gif"):
        save_availability(describe(data()), tmp_path / "a.gif")
    with pytest.raises(DataError, match="no regions"):
        save_availability(describe(Dataset("i", ["a"], make)), tmp_path / "a.png")
