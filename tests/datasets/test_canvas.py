"""CANVAS on a small tree of the published layout."""

import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile

from brodmann.core import DataError, RecipeError
from brodmann.datasets.canvas import canvas
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.registry import DATASETS

SHAPE = (30, 120, 110)
BOXES = {
    1: ((0, 12), (0, 40), (10, 60)),
    2: ((8, 30), (50, 120), (0, 50)),
    3: ((4, 20), (30, 90), (60, 110)),
}
SPACING = np.array([4.0, 1.8, 1.8])


def cells_in(box, seed):
    rng = np.random.default_rng(seed)
    low, high = np.array(box).T
    return low + rng.random((15, 3)) * (high - low - 1)


@pytest.fixture
def tree(tmp_path):
    """Two brains: values tell the place, tables are written in three orders of columns."""
    root = tmp_path / "CANVAS"
    for name, step in (("IBA1_brain_11", 10), ("cFos_brain_4", 1)):
        image, train = root / name / "image", root / name / "label" / "TRAIN"
        image.mkdir(parents=True)
        train.mkdir(parents=True)
        (root / name / "LICENSE.md").write_text("x")
        for z in range(SHAPE[0]):
            plane = z * 1000 + np.arange(SHAPE[1])[:, None] * 3 + np.arange(SHAPE[2]) % 3
            file = image / f"344170_392340_{z * step:06d}_ch2.tiff"
            tifffile.imwrite(file, plane.astype(np.uint16), compression="zlib")
        for number, box in BOXES.items():
            table = pd.DataFrame(cells_in(box, number), columns=["z", "y", "x"])
            order = [["z", "y", "x"], ["x", "y", "z"], ["y", "z", "x"]][number - 1]
            table["score"] = 1.0
            table[[*order, "score"]].to_csv(train / f"{name}_region{number}_gt.csv", index=False)
    (root / "notes").mkdir()
    return root


def boxes_csv(root, boxes=BOXES):
    rows = ["brain,region,z0,z1,y0,y1,x0,x1"]
    for brain in ("IBA1_brain_11", "cFos_brain_4"):
        for number, box in boxes.items():
            rows.append(f"{brain},{number}," + ",".join(str(n) for span in box for n in span))
    (root / "regions.csv").write_text("\n".join(rows) + "\n")


def values_at(box):
    z, y, x = np.meshgrid(*[np.arange(a, b) for a, b in box], indexing="ij")
    return z * 1000 + y * 3 + x % 3


def test_regions_with_boxes(tree):
    boxes_csv(tree)
    data = DATASETS["canvas"](tree)
    assert len(data) == 6
    assert data.splits == {
        "train": [f"{b}_region{n}" for b in ("IBA1_brain_11", "cFos_brain_4") for n in (1, 2)],
        "test": ["IBA1_brain_11_region3", "cFos_brain_4_region3"],
    }
    data = pickle.loads(pickle.dumps(data))
    for name in data.names:
        sample = data[name]
        brain, _, number = name.partition("_region")
        box = BOXES[int(number)]
        assert sample.subject == brain and sample.image.spacing == tuple(SPACING)
        assert np.array_equal(sample.image.numpy(), values_at(box))
        wanted = cells_in(box, int(number)) - [low for low, _ in box]
        assert np.allclose(sample.points.coordinates, wanted, atol=1e-9)
        assert sample.meta["marker"] == {"IBA1": "Iba1", "cFos": "cFos"}[brain.split("_")[0]]
        assert sample.meta["box_from"] == "table" and sample.meta["region"] == int(number)
        assert sample.meta["box"] == {a: list(span) for a, span in zip("zyx", box)}


def test_regions_without_boxes_are_about_their_cells(tree):
    data = canvas(tree, ["iba1"])
    assert data.names == [f"IBA1_brain_11_region{n}" for n in (1, 2, 3)]
    for name, (number, box) in zip(data.names, BOXES.items()):
        sample = data[name]
        assert sample.meta["box_from"] == "cells"
        low = np.array([span[0] for span in sample.meta["box"].values()])
        high = np.array([span[1] for span in sample.meta["box"].values()])
        cells = cells_in(box, number)
        assert np.allclose(sample.points.coordinates + low, cells)
        assert (((cells - low) * SPACING >= 32 - 8) | (low == 0)).all()
        assert (((high - 1 - cells) * SPACING >= 32 - 8) | (high == SHAPE)).all()
        assert np.array_equal(sample.image.numpy(), values_at(list(zip(low, high))))


def test_tables_in_micrometres_and_from_the_box(tree):
    boxes_csv(tree)
    wanted = canvas(tree)["cFos_brain_4_region2"].points.coordinates
    files = sorted(tree.glob("*/label/TRAIN/*.csv"))
    for file in files:
        table = pd.read_csv(file)
        low = [a for a, _ in BOXES[int(file.stem[-4])]]
        table[["z", "y", "x"]] = (table[["z", "y", "x"]] - low) * SPACING
        table.to_csv(file, index=False)
    data = canvas(tree, unit="um", origin="box")
    assert np.allclose(data["cFos_brain_4_region2"].points.coordinates, wanted, atol=1e-9)
    with pytest.raises(DataError, match="outside"):
        canvas(tree, origin="box")


def test_hidden_regions_and_whole_brains(tree):
    train = tree / "cFos_brain_4" / "label" / "TRAIN"
    hidden = tree / "cFos_brain_4" / "label" / "TEST"
    hidden.mkdir()
    shutil.copy(train / "cFos_brain_4_region1_gt.csv", hidden / "cFos_brain_4_region4_gt.csv")
    data = canvas(tree, ["cFos"], brains=True)
    assert data.splits == {
        "train": ["cFos_brain_4_region1", "cFos_brain_4_region2"],
        "tune": ["cFos_brain_4_region3"],
        "test": ["cFos_brain_4_region4"],
        "brains": ["cFos_brain_4"],
    }
    whole = data["cFos_brain_4"]
    assert whole.image.shape == SHAPE and whole.points is None
    assert np.array_equal(whole.image.data[7, :5], values_at([(7, 8), (0, 5), (0, 110)])[0])
    assert canvas(tree, ["cFos"], test=[]).splits["train"][-1] == "cFos_brain_4_region3"
    # A brain's own folder, and tables beside the brains, are taken too.
    assert len(canvas(tree / "IBA1_brain_11")) == 3
    (tree / "cFos_brain_4" / "label").rename(tree / "label")
    assert len(canvas(tree, ["cFos"])) == 4


def test_a_folder_keeps_regions_and_points(tree, tmp_path):
    data = canvas(tree, ["cFos"])
    again = read_folder(write_folder(data, tmp_path / "folder"))
    for name in data.names:
        one, two = data[name], again[name]
        assert np.array_equal(one.image.numpy(), two.image.numpy())
        assert np.array_equal(one.points.coordinates, two.points.coordinates)
        assert two.subject == "cFos_brain_4" and dict(two.meta) == dict(one.meta)


def test_faults_are_named(tree):
    train = tree / "cFos_brain_4" / "label" / "TRAIN"
    file = train / "cFos_brain_4_region2_gt.csv"
    good = file.read_text()
    lines = good.splitlines()

    def fails(match, error=DataError, **options):
        with pytest.raises(error, match=match) as caught:
            canvas(tree, ["cFos"], **options)
        assert "\n" not in str(caught.value)

    file.write_text("\n".join(lines[1:]))
    fails(r"no header.*region2_gt\.csv")
    broken = [*lines]
    broken[3], broken[5] = "nan,1,1,1", "1,1,1e7,1"
    file.write_text("\n".join(broken))
    fails("line 4: x is NaN; line 6: outside the volume 30 x 120 x 110")
    file.write_text(good)
    boxes_csv(tree, BOXES | {2: ((0, 10), (0, 10), (0, 10))})
    fails("cells are outside their region's box.*origin=box")
    boxes_csv(tree, {1: BOXES[1], 3: BOXES[3]})
    fails(r"a region has no box.*region2")
    boxes_csv(tree, BOXES | {3: ((0, 31), (0, 10), (0, 10))})
    fails("outside its brain")
    text = (tree / "regions.csv").read_text()
    for wrong, match in (
        (text.replace("z0", "top"), "boxes need columns z0"),
        (text.replace("0,12,", "0,a,", 1), "line 2.*|whole numbers"),
        (text.replace("0,12,", "12,12,", 1), "a box is empty"),
    ):
        (tree / "regions.csv").write_text(wrong)
        fails(match)
    (tree / "regions.csv").unlink()
    fails("need to know the boxes", RecipeError, origin="box")
    fails("count from the brain or the box", RecipeError, origin="corner")
    fails("no such public region", RecipeError, test=[7])
    fails("list of numbers", RecipeError, test=3)
    fails("three lengths", RecipeError, spacing_um=(1, 2))
    with pytest.raises(RecipeError, match="did you mean 'Iba1'"):
        canvas(tree, ["Iba2"])
    with pytest.raises(DataError, match=r"no brains of these markers.*IBA1_brain_11"):
        canvas(tree, ["GFAP"])
    with pytest.raises(DataError, match="no such folder"):
        canvas(tree / "gone")
    plane = tree / "cFos_brain_4" / "image" / "344170_392340_000012_ch2.tiff"
    data = plane.read_bytes()
    plane.unlink()
    fails(r"planes are missing.*000011.*000013")
    plane.write_bytes(data)
    tifffile.imwrite(plane, np.zeros((120, 111), np.uint16))
    fails("planes differ in shape")
    plane.write_bytes(data)
    (train / "cells.csv").write_text(good)
    fails(r"named MARKER_BRAIN_region1_gt\.csv")
    (train / "cells.csv").unlink()
    shutil.copy(file, train / "other_region2_gt.csv")
    fails("two tables")
    shutil.rmtree(train.parent)
    fails("no tables of cells")
    shutil.rmtree(tree / "cFos_brain_4" / "image")
    fails("no folder of planes")
