"""Counts of cells against a loop over cells and voxels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_atlas import points_of, random_annotation, random_tree, voxel_of

from brodmann.atlas import Annotation, count_cells, count_markers
from brodmann.atlas.grid import PAIRS
from brodmann.core import DataError, Label, LabelMap, Points, RecipeError, Volume

ORIENTATIONS = ["asr", "psl", "ria", "lsp", "sla"]


def middle_side(orientation, shape, voxel):
    """left or right by the middle of the left-right axis, for one voxel."""
    axis = [PAIRS[letter] for letter in orientation].index("lr")
    first = 2 * voxel[axis] + 1 < shape[axis]
    begins_left = orientation[axis] == "l"
    return "left" if first == begins_left else "right"


def brute(annotation, voxels, sides_of):
    """Acronym -> cells and voxels, {side: n}, with all below, by a loop."""
    tree, ids = annotation.structures, annotation.ids.numpy()
    found = {label.acronym: {"cells": {}, "voxels": {}} for label in tree}

    def add(kind, voxel):
        id_ = int(ids[voxel])
        if id_ == 0:
            return
        for one in (id_, *tree.ancestors(id_)):
            bag = found[tree[one].acronym][kind]
            bag[sides_of(voxel)] = bag.get(sides_of(voxel), 0) + 1

    for voxel in np.ndindex(*ids.shape):
        add("voxels", voxel)
    for voxel in voxels:
        if all(0 <= v < n for v, n in zip(voxel, ids.shape)):
            add("cells", voxel)
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    orientation=st.sampled_from(ORIENTATIONS),
    volume_of_sides=st.booleans(),
    storage=st.permutations((0, 1, 2)),
)
def test_counts_are_those_of_a_loop(seed, orientation, volume_of_sides, storage):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(2, 8, 3))
    more = {"storage": tuple(storage)}
    sides = rng.integers(0, 3, shape).astype(np.uint8)
    if volume_of_sides:
        more["hemispheres"] = Volume(sides, "zyx", (20, 10, 10))
    annotation = random_annotation(rng, shape, orientation, **more)
    # Half voxels make many points lie exactly on borders.
    points = rng.integers(-2, 2 * max(shape) + 2, (60, 3)) / 2
    counts = count_cells(
        points_of(points), (20, 10, 10), annotation, half="both", allow_outside=True
    )

    def side_of(voxel):
        if volume_of_sides:
            return ("", "left", "right")[sides[voxel]]
        return middle_side(orientation, shape, voxel)

    wanted = brute(annotation, [voxel_of(p) for p in points], side_of)
    wanted = {name: one for name, one in wanted.items() if one["voxels"]}
    assert set(counts.table["acronym"]) == set(wanted)
    for row in counts.table.to_dict("records"):
        cells, voxels = wanted[row["acronym"]]["cells"], wanted[row["acronym"]]["voxels"]
        assert row["cells"] == sum(cells.values())
        assert row["volume_mm3"] == pytest.approx(sum(voxels.values()) * 2e-6, rel=1e-12)
        assert row["density_per_mm3"] == pytest.approx(row["cells"] / row["volume_mm3"])
        for side in ("left", "right"):
            assert row[f"cells_{side}"] == cells.get(side, 0)
            assert row[f"volume_{side}_mm3"] == pytest.approx(voxels.get(side, 0) * 2e-6)
            if voxels.get(side, 0) == 0:
                assert np.isnan(row[f"density_{side}_per_mm3"])
    summary = counts.summary
    assert sum(v for k, v in summary.items() if k != "all") == summary["all"] == 60


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_roll_up_conserves_totals(seed):
    rng = np.random.default_rng(seed)
    annotation = random_annotation(rng)
    counts = count_cells(
        points_of(rng.random((50, 3)) * annotation.shape - 0.5), annotation.spacing, annotation,
        half="both",
    )  # fmt: skip
    table = counts.table
    roots = table[table["parent"] == ""]
    for column in ("cells", "cells_left", "volume_mm3", "volume_right_mm3"):
        head, _, tail = column.partition("_") if column.endswith("_mm3") else (column, "", "")
        direct = f"{head}_direct_{tail}" if tail else column.replace("cells", "cells_direct")
        assert roots[column].sum() == pytest.approx(table[direct].sum())
    assert roots["cells"].sum() == counts.summary["region"]
    assert (table["cells_left"] + table["cells_right"] == table["cells"]).all()
    for row in table.to_dict("records"):
        below = table[table["parent"] == row["acronym"]]
        assert row["cells"] == row["cells_direct"] + below["cells"].sum()


def test_order_is_that_of_the_tree():
    tree = LabelMap(
        [Label(5, "b2", "b2", 3), Label(9, "all", "all"), Label(3, "b", "b", 9), Label(4, "a", "a", 9)]
    )  # fmt: skip
    ids = np.array([[[5, 9, 3, 4]]], np.uint32)
    counts = count_cells(
        points_of([[0, 0, 0]]), (1, 1, 1), Annotation(Volume(ids, "zyx", (1, 1, 1)), tree, "asr")
    )
    assert counts.table["acronym"].tolist() == ["all", "b", "b2", "a"]
    assert counts.table["depth"].tolist() == [0, 1, 2, 1]


def test_a_border_belongs_to_one_structure():
    tree = LabelMap([Label(1, "a", "a"), Label(2, "b", "b")])
    ids = np.array([[[1, 1, 2, 2]]], np.uint32)
    annotation = Annotation(Volume(ids, "zyx", (1, 1, 1)), tree, "asr")
    below = np.nextafter(1.5, 0)
    counts = count_cells(points_of([[0, 0, below], [0, 0, 1.5]]), (1, 1, 1), annotation)
    assert counts.cells["region"].tolist() == ["a", "b"]
    counts = count_cells(points_of([[0, 0, -0.5], [0, 0, 3.4], [0, 0, 3.5]]), (1, 1, 1), annotation)
    assert counts.cells["place"].tolist() == ["region", "region", "outside"]


def made_brain(half_empty=False):
    """20 x 10 x 10 voxels of 0.1 mm, left in the lower x, two structures side by side."""
    ids = np.zeros((20, 10, 10), np.uint32)
    ids[:10, 1:, :] = 1
    ids[10:, 1:, :] = 2
    if half_empty:
        ids[:, :, 5:] = 0
    tree = LabelMap([Label(1, "front", "F", 3), Label(2, "back", "B", 3), Label(3, "all", "all")])
    return Annotation(Volume(ids, "zyx", (100, 100, 100)), tree, "asl")


def left_cells(count=100, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, 3)) * (20, 9, 5) + (-0.5, 0.5, -0.5)


def test_a_half_brain_is_seen_by_its_cells():
    counts = count_cells(points_of(left_cells()), (100, 100, 100), made_brain())
    assert counts.half == "left" and "half brain" in counts.notes[0]
    row = counts.region("all")
    assert row["cells"] == row["cells_left"] == 100 and np.isnan(row["cells_right"])
    assert row["volume_mm3"] == pytest.approx(20 * 9 * 5 * 1e-3)
    assert row["density_per_mm3"] == pytest.approx(100 / 0.9)
    whole = count_cells(points_of(left_cells()), (100, 100, 100), made_brain(), half="both")
    assert whole.region("all")["density_per_mm3"] == pytest.approx(100 / 1.8)
    assert whole.region("all")["cells_right"] == 0


def test_few_cells_on_one_side_are_no_half_brain():
    counts = count_cells(points_of(left_cells(49)), (100, 100, 100), made_brain())
    assert counts.half == "both"


def test_a_stray_cell_of_the_other_half_is_shown_and_not_counted():
    points = np.vstack([left_cells(99), [[3, 3, 8]]])
    counts = count_cells(points_of(points), (100, 100, 100), made_brain())
    assert counts.half == "left"
    assert counts.summary == {
        "all": 100, "region": 99, "background": 0, "other half": 1, "outside": 0,
    }  # fmt: skip
    assert counts.region("all")["cells"] == 99
    assert counts.cells.iloc[-1]["hemisphere"] == "right"


def test_a_half_annotation_needs_no_cells():
    counts = count_cells(points_of([[3, 3, 3]]), (100, 100, 100), made_brain(half_empty=True))
    assert counts.half == "left" and "annotated" in counts.notes[0]
    asked = count_cells(points_of(left_cells()), (100, 100, 100), made_brain(), half="right")
    assert asked.region("all")["cells"] == 0 and asked.summary["other half"] == 100


def test_the_middle_plane_of_an_odd_number_is_of_the_second_half():
    ids = np.ones((1, 1, 5), np.uint32)
    tree = LabelMap([Label(1, "a", "a")])
    annotation = Annotation(Volume(ids, "zyx", (100, 100, 100)), tree, "asl")
    assert annotation.sizes.left.tolist() == [2] and annotation.sizes.right.tolist() == [3]
    assert annotation.side_of_planes().tolist() == [1, 1, 2, 2, 2]


def test_without_orientation_there_are_no_sides():
    brain = made_brain()
    blind = Annotation(brain.ids, brain.structures)
    counts = count_cells(points_of(left_cells()), (100, 100, 100), blind)
    row = counts.region("all")
    assert counts.half == "both" and row["cells"] == 100 and np.isnan(row["cells_left"])
    assert row["volume_mm3"] == pytest.approx(1.8) and "orientation" in counts.notes[0]
    with pytest.raises(RecipeError, match="told apart"):
        count_cells(points_of(left_cells()), (100, 100, 100), blind, half="left")


def test_background_and_outside_are_counted():
    points = [[0, 0, 0], [3, 5, 5], [-9, 0, 0], [3, 99, 3], [19, 9, 9]]
    counts = count_cells(points_of(points), (100, 100, 100), made_brain())
    assert counts.cells["place"].tolist() == [
        "background", "region", "outside", "outside", "region",
    ]  # fmt: skip
    assert counts.cells["region"].tolist() == ["", "F", "", "", "B"]
    assert counts.cells["id"].tolist() == [0, 1, 0, 0, 2]


def test_a_wrong_unit_is_refused():
    um = points_of((left_cells() + 0.5) * 100 - 0.5)  # voxels of 1 um
    with pytest.raises(DataError, match=r"most points lie outside.*unit"):
        count_cells(um, (100, 100, 100), made_brain())
    assert count_cells(um, (1, 1, 1), made_brain()).summary["outside"] == 0
    allowed = count_cells(um, (100, 100, 100), made_brain(), allow_outside=True)
    assert allowed.summary["outside"] > 50


def test_ids_that_the_table_lacks_are_named():
    brain = made_brain()
    ids = brain.ids.numpy().copy()
    ids[3, 3, 3], ids[4, 4, 4] = 614454277, 77
    broken = Annotation(Volume(ids, "zyx", (100, 100, 100)), brain.structures, "asl")
    with pytest.raises(DataError, match=r"missing from the table.*77, 614454277"):
        count_cells(points_of(left_cells()), (100, 100, 100), broken)


def test_the_ignore_id_is_background():
    brain = made_brain()
    ids = brain.ids.numpy().copy()
    ids[3, 3, 3] = 255
    tree = LabelMap(list(brain.structures), ignore=255)
    annotation = Annotation(Volume(ids, "zyx", (100, 100, 100)), tree, "asl")
    counts = count_cells(points_of([[3, 3, 3], [4, 4, 4]]), (100, 100, 100), annotation)
    assert counts.cells["place"].tolist() == ["background", "region"]
    assert counts.region("all")["volume_mm3"] == pytest.approx(1.8 - 1e-3)


def test_no_points_are_no_error():
    counts = count_cells(points_of(np.empty((0, 3))), (100, 100, 100), made_brain())
    assert counts.region("all")["cells"] == 0 and counts.region("all")["density_per_mm3"] == 0


def test_markers_are_counted_apart_and_columns_kept():
    table = pd.DataFrame(left_cells(6), columns=["z", "y", "x"])
    table["marker"] = ["cFos", "NeuN"] * 3
    table["score"] = 0.5
    found = count_markers(Points(table), (100, 100, 100), made_brain())
    assert list(found) == ["cFos", "NeuN"]
    assert [one.region("all")["cells"] for one in found.values()] == [3, 3]
    assert {"score", "marker"} <= set(found["cFos"].cells.columns)
    table.loc[2, "marker"] = None
    with pytest.raises(DataError, match=r"without a marker.*1 of 6"):
        count_markers(Points(table), (100, 100, 100), made_brain())
    assert list(count_markers(points_of(left_cells(6)), (100, 100, 100), made_brain())) == ["cells"]


def test_what_is_no_annotation_is_refused():
    tree = random_tree(np.random.default_rng(0))
    with pytest.raises(DataError, match="whole numbers"):
        Annotation(Volume(np.zeros((2, 2, 2)), "zyx", (1, 1, 1)), tree)
    ids = Volume(np.zeros((2, 2, 2), np.uint8), "zyx", (1, 1, 1))
    with pytest.raises(DataError, match="differ in shape"):
        Annotation(ids, tree, hemispheres=Volume(np.zeros((2, 2, 3), np.uint8), "zyx", (1, 1, 1)))
    with pytest.raises(DataError, match="orientation is three letters"):
        Annotation(ids, tree, "asx")
    flat = Points(pd.DataFrame({"y": [0], "x": [0]}))
    with pytest.raises(DataError, match="z, y and x"):
        count_cells(flat, (1, 1, 1), Annotation(ids, tree))
    with pytest.raises(RecipeError, match="a half is one of"):
        count_cells(points_of([[0, 0, 0]]), (1, 1, 1), Annotation(ids, tree), half="top")


def test_slabs_do_not_change_counts(monkeypatch):
    from brodmann.atlas import annotation as module

    rng = np.random.default_rng(4)
    brain = random_annotation(rng, (9, 8, 7), storage=(2, 1, 0))
    points = points_of(rng.random((200, 3)) * brain.shape - 0.5)
    whole = count_cells(points, brain.spacing, brain)
    monkeypatch.setattr(module, "SLAB_VOXELS", 1)
    again = Annotation(brain.ids, brain.structures, "asr", storage=(2, 1, 0))
    pd.testing.assert_frame_equal(whole.table, count_cells(points, brain.spacing, again).table)
