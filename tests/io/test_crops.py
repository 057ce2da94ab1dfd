"""Cubes about candidates against numpy's padding, and cellfinder's rules for its own files."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brodmann.core import DataError, OutputError, Points, RecipeError, Volume
from brodmann.io.crops import cut_crops, read_crops, write_crops
from brodmann.io.points import write_points
from brodmann.io.sampling import sample_about

SPACING = (5.0, 2.0, 2.0)


def pair(shape=(14, 60, 50), seed=0):
    rng = np.random.default_rng(seed)
    return [
        Volume(rng.integers(0, 60000, shape).astype(np.uint16), "zyx", SPACING) for _ in range(2)
    ]


def at(rows, **columns):
    return Points(pd.DataFrame(rows, columns=list("zyx"), dtype=float).assign(**columns))


@given(
    st.tuples(st.floats(-0.5, 6.49), st.floats(-0.5, 9.49), st.floats(-0.5, 4.49)),
    st.tuples(*[st.integers(1, 24)] * 3),
)
@settings(max_examples=80, deadline=None)
def test_cubes_are_slices_of_the_padded_volume(place, shape):
    volume = Volume(np.arange(7 * 10 * 5).reshape(7, 10, 5), "zyx", SPACING)
    padded = np.pad(volume.data, 40, mode="symmetric")
    starts = [int(np.floor(p + 0.5)) - n // 2 + 40 for p, n in zip(place, shape)]
    wanted = padded[tuple(slice(a, a + n) for a, n in zip(starts, shape))]
    (cube,) = cut_crops(at([place]), [volume], shape=shape)
    assert np.array_equal(cube[0], wanted)


@given(
    st.tuples(st.floats(2, 8), st.floats(4, 14), st.floats(4, 14)),
    st.tuples(st.floats(0.3, 0.97), st.floats(0.3, 0.97), st.floats(0.3, 0.97)),
)
@settings(max_examples=40, deadline=None)
def test_finer_cubes_are_interpolated_linearly(place, ratio):
    values = np.random.default_rng(1).random((12, 20, 20)).astype(np.float32)
    cube = sample_about(Volume(values, "zyx", (1, 1, 1)), place, (4, 5, 6), ratio)
    grid = np.meshgrid(
        *[(np.arange(n) - n // 2) * r + p for n, r, p in zip((4, 5, 6), ratio, place)],
        indexing="ij",
    )
    assert np.allclose(
        cube, ndimage.map_coordinates(values, grid, order=1, mode="reflect"), atol=2e-5
    )


def test_coarser_cubes_are_averaged():
    rng = np.random.default_rng(2)
    noise = Volume(rng.normal(1000, 100, (60, 60, 60)).astype(np.float32), "zyx", (1, 1, 1))
    points = at([(30, 30, 30)])
    (fine,) = cut_crops(points, [noise], shape=(9, 9, 9))
    (coarse,) = cut_crops(points, [noise], shape=(9, 9, 9), spacing=(4, 4, 4))
    assert abs(coarse.mean() - 1000) < 20
    assert coarse.std() < fine.std() / 3
    # A blob keeps its place and its width in micrometres.
    grid = np.indices((60, 60, 60)) - 30
    blob = np.exp(-(grid**2).sum(axis=0) / (2 * 6.0**2)) * 1000
    (seen,) = cut_crops(
        points, [Volume(blob, "zyx", (1, 1, 1))], shape=(15, 15, 15), spacing=(3,) * 3
    )
    weights = seen[0] / seen[0].sum()
    centre = [(weights * axis).sum() for axis in np.indices((15, 15, 15))]
    assert np.allclose(centre, 7, atol=0.01)
    width = np.sqrt((weights * (np.indices((15, 15, 15))[0] - 7) ** 2).sum()) * 3
    assert 5.5 < width < 6.7


def test_anisotropic_volumes_give_cubes_of_one_size_in_micrometres():
    # A ball of 8 um: 16 voxels across at 1 um, whatever the planes' distance was.
    z, y, x = np.indices((24, 60, 60))
    ball = ((z - 12) * 4.0) ** 2 + ((y - 30) * 1.0) ** 2 + ((x - 30) * 1.0) ** 2 < 8.0**2
    volume = Volume(ball.astype(np.float32), "zyx", (4, 1, 1))
    (cube,) = cut_crops(at([(12, 30, 30)]), [volume], shape=(31, 31, 31), spacing=(1, 1, 1))
    across = [int((cube[0].max(axis=others) > 0.5).sum()) for others in ((1, 2), (0, 2), (0, 1))]
    assert across[1] == across[2] == 15
    assert abs(across[0] - 15) <= 4


def test_only_what_cubes_need_is_read():
    class Counting:
        shape, dtype, read = (1000, 1000, 1000), np.dtype("u2"), 0

        def __getitem__(self, key):
            size = [len(range(*k.indices(1000))) for k in key]
            Counting.read += int(np.prod(size))
            return np.zeros(size, np.uint16)

    cubes = list(cut_crops(at([(0, 500, 999), (500, 0, 0)]), [Volume(Counting(), "zyx", SPACING)]))
    assert len(cubes) == 2 and Counting.read <= 2 * 8 * 32 * 32


def as_cellfinder(section):
    """What its train_yaml, TiffDir, TiffFile and Cell make of a section: (type, z, y, x), files."""
    found = []
    channels = [section["signal_channel"]]
    if section["bg_channel"] >= 0:
        channels.append(section["bg_channel"])
    for path in Path(section["cube_dir"]).iterdir():
        name, file = path.name, str(path)
        if not name.lower().endswith(f"ch{channels[0]}.tif"):
            continue
        place = [int(re.findall(rf"{axis}\d+", name.lower())[-1][1:]) for axis in "zyx"]
        files = [file[:-5] + str(channel) + ".tif" for channel in channels]
        assert all(Path(f).is_file() for f in files)
        found.append(((section["type"], *place), files))
    return sorted(found)


def test_cellfinder_finds_what_is_written(tmp_path):
    volumes = pair()
    rng = np.random.default_rng(3)
    points = at(rng.random((30, 3)) * (13, 59, 49), label=np.arange(30) % 3 // 2, score=0.5)
    steps = []
    folder = write_crops(
        tmp_path / "crops", points, volumes, report=lambda done, total: steps.append((done, total))
    )
    assert steps[-1] == (30, 30)
    with (folder / "training.yaml").open() as file:
        sections = yaml.safe_load(file)["data"]
    for section in sections:
        assert section.keys() == {"cube_dir", "cell_def", "type", "signal_channel", "bg_channel"}
    found = [one for section in sections for one in as_cellfinder(section)]
    places = np.floor(points.coordinates + 0.5).astype(int).tolist()
    kinds = ["no_cell", "cell"]
    wanted = [(kinds[k], *place) for k, place in zip(points.table["label"], places)]
    assert sorted(key for key, _ in found) == sorted(wanted)
    rows = {key: row for row, key in enumerate(wanted)}
    cubes = list(cut_crops(points, volumes))
    for key, files in found:
        for channel, file in enumerate(files):
            values = tifffile.imread(file)
            assert values.shape == (8, 32, 32) and values.dtype == np.uint16
            assert np.array_equal(values, cubes[rows[key]][channel])

    crops = read_crops(folder)
    assert len(crops) == 30 and crops.labels.sum() == 10
    for number, (place, label) in enumerate(zip(crops.points.coordinates, crops.labels)):
        row = rows[(kinds[label], *place.astype(int).tolist())]
        assert np.array_equal(crops[number], cubes[row])
    table = pd.read_csv(folder / "crops.csv")
    assert np.allclose(table[["z", "y", "x"]], points.coordinates, rtol=0, atol=1e-12)
    assert table["label"].tolist() == points.table["label"].tolist()


def test_moved_filtered_and_unjudged(tmp_path):
    volumes = pair()
    points = at([(3, 20, 20), (5, 30, 10), (9, 40, 40)], type=[2, 1, 2])
    folder = write_crops(tmp_path / "here", points, volumes[:1], shape=(4, 6, 6))
    section = yaml.safe_load((folder / "training.yaml").read_text())["data"][0]
    assert section["bg_channel"] == -1
    there = folder.rename(tmp_path / "there")
    crops = read_crops(there)
    assert [crops[i].shape for i in range(3)] == [(1, 4, 6, 6)] * 3
    assert crops.labels.tolist() == [1, 0, 1]
    write_points(at([(9, 40, 40), (5, 30, 10)]), there / "some.xml")
    text = (there / "training.yaml").read_text().replace("cell_def: ''", "cell_def: some.xml")
    (there / "training.yaml").write_text(text)
    assert read_crops(there).points.coordinates.tolist() == [[5, 30, 10], [9, 40, 40]]
    (there / "training.yaml").unlink()
    assert read_crops(there).labels.tolist() == [1, 0, 1]
    assert read_crops(there / "cells").labels.tolist() == [-1, -1]

    again = write_crops(there, at([(3, 20, 20), (3.2, 20, 20)]), volumes)
    assert sorted(p.name for p in again.iterdir()) == ["candidates", "crops.csv"]
    assert read_crops(again).labels.tolist() == [-1]


def test_faults_are_named(tmp_path):
    volumes = pair()
    one = at([(3, 20, 20)], label=1)

    def fails(error, match, points=one, given=volumes, **options):
        with pytest.raises(error, match=match) as caught:
            write_crops(tmp_path / "crops", points, given, **options)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.glob("*crops*"))

    fails(RecipeError, "three whole numbers", shape=(8, 32))
    fails(RecipeError, "three whole numbers", shape=(8, 32.5, 3))
    fails(RecipeError, "three positive numbers", spacing=(1, 1, -1))
    fails(RecipeError, "1 to 10 channels", given=[])
    fails(DataError, r"1 of 2 points lie outside.*point 2", at([(3, 2, 2), (3, 60, 2)]))
    fails(DataError, "differ in grid or type", given=[volumes[0], pair((14, 60, 51))[1]])
    fails(DataError, "volumes 'zyx'", given=[Volume(np.zeros((4, 4)), "yx", (1, 1))])
    both = at([(3, 20, 20), (3.1, 20, 20)], label=[1, 0])
    fails(OutputError, "both a cell and none", both)
    fails(OutputError, "labels are 1", at([(3, 20, 20)], label=4))
    fails(OutputError, r"types are 2 \(cell\)", at([(3, 20, 20)], type=7))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.txt").write_text("x")
    with pytest.raises(OutputError, match="something else is in this folder"):
        write_crops(tmp_path / "other", one, volumes)
    assert (tmp_path / "other" / "precious.txt").read_text() == "x"

    folder = write_crops(tmp_path / "good", one, volumes)
    text = (folder / "training.yaml").read_text()
    for wrong, match in (
        ("cells: 1", "no training.yaml"),
        ("data: [1]", "needs a cube_dir"),
        ("data: [", "no training.yaml"),
        ("data: !!python/object/apply:os.system [ls]", "no training.yaml"),
        (text.replace("type: cell", "type: soma"), "cell or no_cell.*soma"),
        (text.replace("bg_channel: 1", "bg_channel: one"), "single digits"),
        (text.replace(str(folder), "nowhere").replace("non_cells", "gone"), "not there"),
    ):
        (folder / "training.yaml").write_text(wrong)
        with pytest.raises(DataError, match=match):
            read_crops(folder)
    (folder / "training.yaml").write_text(text)
    cube = next((folder / "cells").glob("*Ch1.tif"))
    data = cube.read_bytes()
    cube.write_bytes(data[:60])
    with pytest.raises(DataError, match=cube.name):
        read_crops(folder)[0]
    tifffile.imwrite(cube, np.zeros((3, 3), np.uint8))
    with pytest.raises(DataError, match="three axes"):
        read_crops(folder)[0]
    cube.unlink()
    with pytest.raises(DataError, match="channel 1 of a cube is missing"):
        read_crops(folder)
    with pytest.raises(DataError, match="there are no cubes"):
        read_crops(tmp_path / "other")
    with pytest.raises(DataError, match="no such file"):
        read_crops(tmp_path / "gone")


@pytest.mark.real
def test_real_cells_are_bright_in_the_middle(real_data):
    from brodmann.io import read_volume
    from brodmann.io.points import read_points

    folder = real_data / "cells" / "stp"
    signal = read_volume(folder / "signal.tif", axes="zyx", spacing=SPACING)
    points = read_points(folder / "cell_classification.xml")
    points = Points(points.table.assign(z=points.table["z"] - 4))
    cubes = np.stack([cube[0] for cube in cut_crops(points, [signal])]).astype(float)
    mean = cubes.mean(axis=0)
    assert mean.shape == (8, 32, 32)
    assert np.unravel_index(mean[4].argmax(), (32, 32)) == pytest.approx((16, 16), abs=2)
    assert mean[4, 15:18, 15:18].mean() > 1.3 * mean[4, :4].mean()
