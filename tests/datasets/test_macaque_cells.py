import numpy as np
import pytest
from scipy import ndimage

from brodmann.core import DataError, RecipeError, Volume
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.macaque_cells import macaque_cells
from brodmann.datasets.registry import DATASETS
from brodmann.io import write_volume
from brodmann.io.raw import RGB

NUMBERS = (1, 33, 65, 321, 353, 641)


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "cells" / "macaque_2d"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["image,x,y,channel"]
    for number in NUMBERS:
        image = rng.integers(0, 90, (3, 30, 40)).astype(np.uint8)
        for place in rng.integers(0, [30, 40], (0 if number == 353 else 4, 2)):
            channel = int(rng.integers(0, 2))
            image[channel, *place] = 255
            name = ("red", "green")[channel]
            rows.append(f"{number:04d}.png,{place[1] + 0.25},{place[0] - 0.25},{name}")
        write_volume(folder / f"{number:04d}.png", Volume(image, "cyx", (1, 1), RGB))
    (folder / "centres.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_pictures_centres_and_groups(tree):
    data = DATASETS["macaque-cells"](tree)
    assert data.names == [f"{number:04d}" for number in NUMBERS]
    assert data.splits == {"train": ["0321", "0353", "0641"], "test": ["0001", "0033", "0065"]}
    groups = {data.subjects[name] for name in data.names}
    assert groups == {"group-0", "group-1", "group-2"}
    for name in data.names:
        sample = data[name]
        assert (sample.image.axes, sample.image.channels) == ("cyx", RGB)
        at = np.rint(sample.points.coordinates).astype(int)
        assert len(at) == (0 if name == "0353" else 4) and sample.points.axes == "yx"
        channels = [("red", "green").index(word) for word in sample.points.table["marker"]]
        assert (sample.image.numpy()[channels, *at.T] == 255).all()
    for split in sorted(groups):
        sides = macaque_cells(tree, split).splits
        assert {data.subjects[name] for name in sides["test"]} == {split}
        assert split not in {data.subjects[name] for name in sides["train"]}
    assert macaque_cells(tree / "cells" / "macaque_2d", spacing_um=(2, 2))[
        "0001"
    ].image.spacing == (2, 2)


def test_a_folder_keeps_points_of_every_picture(tree, tmp_path):
    data = macaque_cells(tree)
    again = read_folder(write_folder(data, tmp_path / "folder", suffix=".tif"))
    for name in data.names:
        one, two = data[name].points, again[name].points
        assert np.array_equal(one.coordinates, two.coordinates)
        assert one.table["marker"].tolist() == two.table["marker"].tolist()


def test_faults_are_named(tree):
    folder = tree / "cells" / "macaque_2d"
    table = folder / "centres.csv"
    good = table.read_text()
    for text, match, name in (
        (good + "0001.png,40,3,red\n", r"outside its picture \(30, 40\).*0001", "0001"),
        (good + "0002.png,4,3,red\n", r"not there.*0002", None),
        (good + "0001.png,inf,3,red\n", "x is infinite", None),
        (good.replace("channel", "stain"), r"need columns \['channel'\]", None),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=match):
            data = macaque_cells(tree)
            if name:
                data[name]
    table.write_text(good)
    with pytest.raises(RecipeError, match="did you mean 'group-"):
        macaque_cells(tree, "group-9")
    with pytest.raises(RecipeError, match="two lengths"):
        macaque_cells(tree, spacing_um=(1, 1, 1))
    write_volume(folder / "0001.png", Volume(np.ones((30, 40), np.uint8), "yx", (1, 1)))
    with pytest.raises(DataError, match="pictures are in colour"):
        macaque_cells(tree)["0001"]
    (folder / "0001.png").rename(folder / "first.png")
    with pytest.raises(DataError, match=r"numbered, as 0001\.png.*first"):
        macaque_cells(tree)
    table.unlink()
    with pytest.raises(DataError, match=r"no such file.*centres\.csv"):
        macaque_cells(tree)


@pytest.mark.real
def test_the_real_pictures(real_data):
    data = macaque_cells(real_data)
    assert len(data) == 35
    counts = [sum(subject == f"group-{n}" for subject in data.subjects.values()) for n in range(5)]
    assert counts == [7] * 5
    total, bright = 0, []
    for sample in data:
        assert sample.image.shape == (3, 256, 256)
        total += len(sample.points)
        image = ndimage.gaussian_filter(sample.image.numpy().astype(float), (0, 1.5, 1.5))
        for (y, x), marker in zip(
            np.rint(sample.points.coordinates).astype(int), sample.points.table["marker"]
        ):
            plane = image[("red", "green").index(marker)]
            about = plane[max(0, y - 15) : y + 16, max(0, x - 15) : x + 16]
            bright.append(plane[y, x] > np.median(about))
    assert total == 729
    # Most neurons are brighter in their own channel than what is about them.
    assert np.mean(bright) > 0.9
