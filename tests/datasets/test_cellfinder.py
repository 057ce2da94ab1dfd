import pickle

import numpy as np
import pandas as pd
import pytest
import tifffile

from brodmann.core import DataError, Points, RecipeError
from brodmann.datasets.cellfinder import cellfinder
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.registry import DATASETS
from brodmann.io.points import write_points

SHAPE = (8, 20, 24)


@pytest.fixture
def tree(tmp_path):
    """Signal as planes, background as one file; cells numbered from plane 4."""
    folder = tmp_path / "cells" / "stp"
    (folder / "signal").mkdir(parents=True)
    rng = np.random.default_rng(0)
    signal, background = rng.integers(0, 900, (2, *SHAPE)).astype(np.uint16)
    cells = np.array([[1, 3, 5], [7, 19, 23], [0, 0, 0], [2, 9, 9]])
    signal[tuple(cells.T)] += 5000
    for z, plane in enumerate(signal):
        tifffile.imwrite(folder / "signal" / f"z{z}.tif", plane)
    tifffile.imwrite(folder / "background.tif", background, compression="zlib")
    table = pd.DataFrame(np.add(cells, [4, 0, 0]), columns=list("zyx")).assign(type=[2, 2, 1, 2])
    write_points(Points(table), folder / "cell_classification.xml")
    return tmp_path, signal, background, cells


def test_channels_and_cells(tree):
    root, signal, background, cells = tree
    data = pickle.loads(pickle.dumps(DATASETS["cellfinder"](root, first_plane=4)))
    assert data.names == ["stp"] and data.splits == {"test": ["stp"]}
    sample = data["stp"]
    both = np.stack([signal, background])
    assert (sample.image.axes, sample.image.spacing) == ("czyx", (5.0, 2.0, 2.0))
    assert sample.image.channels == ("signal", "background")
    assert np.array_equal(sample.image.numpy(), both)
    for key in (np.s_[1], np.s_[:, 2:4], np.s_[..., 3], np.s_[0, 5, 1:7, ::2], np.s_[1:, :, 4]):
        assert np.array_equal(sample.image.data[key], both[key])
    assert sorted(sample.points.coordinates.tolist()) == sorted(cells[[0, 1, 3]].tolist())
    assert (signal[tuple(sample.points.coordinates.astype(int).T)] >= 5000).all()
    every = cellfinder(root, first_plane=4, only_cells=False)["stp"].points
    assert sorted(every.table["type"]) == [1, 2, 2, 2]
    one = cellfinder(root / "cells" / "stp", first_plane=4, background=False)["stp"].image
    assert one.axes == "zyx" and np.array_equal(one.numpy(), signal)


def test_other_cells_or_none(tree):
    root, *_ = tree
    folder = root / "cells" / "stp"
    (folder / "mine.csv").write_text("z,y,x\n1,2,3\n")
    assert len(cellfinder(root, cells="mine.csv")["stp"].points) == 1
    assert len(cellfinder(root, cells=folder / "mine.csv")["stp"].points) == 1
    (folder / "cell_classification.xml").unlink()
    assert cellfinder(root)["stp"].points is None


def test_a_folder_keeps_cells(tree, tmp_path):
    data = cellfinder(tree[0], first_plane=4)
    again = read_folder(write_folder(data, tmp_path / "folder"))["stp"]
    assert np.array_equal(again.points.coordinates, data["stp"].points.coordinates)
    assert again.points.table["type"].tolist() == [2, 2, 2]
    assert np.array_equal(again.image.numpy(), data["stp"].image.numpy())


def test_faults_are_named(tree):
    root, signal, *_ = tree
    folder = root / "cells" / "stp"
    with pytest.raises(DataError, match=r"1 of 3 cells are outside.*first_plane"):
        cellfinder(root)["stp"]
    for options, match in (
        ({"spacing_um": (1, 2)}, "three lengths"),
        ({"first_plane": 1.5}, "whole number"),
    ):
        with pytest.raises(RecipeError, match=match):
            cellfinder(root, **options)
    with pytest.raises(DataError, match=r"no such file of cells.*gone\.xml"):
        cellfinder(root, cells="gone.xml")
    (folder / "signal" / "z3.tif").unlink()
    with pytest.raises(DataError, match="planes are missing"):
        cellfinder(root)
    tifffile.imwrite(folder / "signal" / "z3.tif", signal[3])
    tifffile.imwrite(folder / "background.tif", np.zeros((8, 20, 25), np.uint16))
    with pytest.raises(DataError, match="signal and background differ"):
        cellfinder(root)
    (folder / "background.tif").unlink()
    with pytest.raises(DataError, match=r"'background' is missing.*data\.background=false"):
        cellfinder(root)
    with pytest.raises(DataError, match=r"no such file.*set data\.root"):
        cellfinder(folder / "signal")


@pytest.mark.real
def test_the_real_crop(real_data):
    sample = cellfinder(real_data, first_plane=4)["stp"]
    assert sample.image.shape == (2, 22, 510, 667) and len(sample.points) == 56
    signal, background = sample.image.numpy().astype(float)
    z, y, x = sample.points.coordinates.astype(int).T
    assert signal[z, y, x].mean() > 5 * signal[z].mean()
    assert background[z, y, x].mean() < 2 * background[z].mean()
    # The offset of four planes: cells are brighter there than with none or twice as many.
    assert signal[z, y, x].mean() > 1.2 * signal[z + 4, y, x].mean()
    later = z >= 4
    assert signal[z, y, x].mean() > 1.2 * signal[z[later] - 4, y[later], x[later]].mean()
