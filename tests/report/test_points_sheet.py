"""The sheet of images with their points: which planes, which places, which samples."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import image as pictures

from brodmann.core import DataError, Dataset, OutputError, Points, Sample, Volume
from brodmann.report.points_sheet import save_points, slab, view


def blobs(shape, places):
    values = np.zeros(shape, np.uint16)
    for z, y, x in places:
        values[z, y, x] = 1000
    return Volume(values, "zyx", (6, 2, 2))


def test_a_volume_shows_the_planes_with_most_points():
    places = [(2, 5, 5), (20, 10, 30), (21, 30, 10), (23, 3, 3), (40, 8, 8)]
    image = blobs((50, 40, 60), places)
    points = Points(pd.DataFrame(places, columns=list("zyx"), dtype=float))
    assert slab(points, image) == (20, 24)
    seen = view(Sample("a", image, points=points), 60)
    assert seen.words == "5 points, 3 of them in planes 20-23"
    # The bright pixels of the picture are where the points are said to be.
    found = np.argwhere(seen.rgb[..., 0] == 255)
    wanted = np.floor(seen.at * (40, 60)).astype(int)
    assert sorted(map(tuple, found)) == sorted(map(tuple, wanted))
    shrunk = view(Sample("a", image, points=points), 20)
    assert shrunk.rgb.shape == (14, 20, 3) and np.array_equal(shrunk.at, seen.at)
    none = view(Sample("a", image, points=Points(points.table.iloc[:0])), 60)
    assert none.words.startswith("0 points") and slab(Points(points.table.iloc[:0]), image) == (
        23,
        27,
    )


def test_rings_lie_about_their_points(tmp_path):
    image = Volume(np.zeros((40, 80), np.uint8), "yx", (1, 1))
    table = pd.DataFrame({"y": [10.0, 30.0], "x": [20.0, 60.0], "marker": ["a", "b"]})
    path = save_points(
        Dataset("d", ["s"], lambda name: Sample(name, image, points=Points(table))),
        tmp_path / "a.png",
    )
    pixels = pictures.imread(path)[..., :3]
    left, top, width = 28, 88, 900 - 56
    scale = width / 80
    dark = pixels[top + 5 : top + int(40 * scale) - 5, left + 5 : left + width - 5]
    coloured = np.argwhere(dark.max(axis=-1) - dark.min(axis=-1) > 0.3) + 5
    for y, x in table[["y", "x"]].to_numpy():
        centre = (np.array([y, x]) + 0.5) * scale
        near = coloured[np.linalg.norm(coloured - centre, axis=1) < 20]
        assert len(near) > 20
        assert np.allclose(np.linalg.norm(near - centre, axis=1), 8, atol=2)
        assert np.allclose(near.mean(axis=0), centre, atol=1)
    assert len(coloured) < 400


def test_samples_are_spread_and_those_without_points_left_out(tmp_path):
    image = blobs((4, 20, 20), [])
    told = []

    def load(name):
        points = Points(pd.DataFrame({"z": [1.0], "y": [2.0], "x": [3.0]}))
        return Sample(name, image, points=points if int(name) % 2 else None)

    data = Dataset("d", [str(i) for i in range(9)], load)
    path = save_points(
        data, tmp_path / "a.svg", most=3, report=lambda what, done, total, name: told.append(name)
    )
    assert path.read_text().startswith("<?xml")
    assert len(told) == 3 and all(int(name) % 2 for name in told)


def test_faults(tmp_path):
    image = blobs((4, 20, 20), [])
    empty = Dataset("d", ["a"], lambda name: Sample(name, image))
    with pytest.raises(DataError, match="no sample has points"):
        save_points(empty, tmp_path / "a.png")
    with pytest.raises(OutputError, match="unknown kind of picture"):
        save_points(empty, tmp_path / "a.gif")
    flat = Points(pd.DataFrame({"y": [2.0], "x": [3.0]}))
    with pytest.raises(DataError, match="differ in dimensions"):
        view(Sample("a", image, points=flat), 60)
    assert not list(tmp_path.iterdir())
