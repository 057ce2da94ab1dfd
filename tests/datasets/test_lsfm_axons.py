from itertools import combinations

import numpy as np
import pytest
import tifffile

from brodmann.core import DataError, RecipeError
from brodmann.datasets import lsfm_axons as room
from brodmann.datasets.lsfm_axons import BLOCKS, CORNERS, SIDE, lsfm_axons
from brodmann.datasets.registry import DATASETS

PLANES = (13, 44, 73)


def cut(volume):
    return np.stack([volume[tuple(slice(c, c + SIDE) for c in corner)] for corner in CORNERS])


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng(0)
    image = rng.integers(1000, 4000, (95, 119, 110)).astype(np.uint16)
    ids = np.zeros(image.shape, np.uint8)
    for z in PLANES:
        ids[z] = rng.choice([1, 2, 3, 4], image.shape[1:], p=[0.6, 0.2, 0.1, 0.1])
    return image, ids


@pytest.fixture
def tree(tmp_path, volume):
    folder = tmp_path / "cells" / "lsfm_axons"
    folder.mkdir(parents=True)
    for name, values in zip(("volumes", "labels"), volume):
        tifffile.imwrite(folder / f"{name}.tif", cut(values), photometric="minisblack")
    return tmp_path


def test_blocks_are_the_volume_that_crops_were_cut_from(tree, volume):
    image, ids = volume
    data = DATASETS["lsfm-axons"](tree)
    assert data.splits == {"train": ["axons-z13", "axons-z44"], "test": ["axons-z73"]}
    for block, box in BLOCKS.items():
        window = tuple(slice(*span) for span in box)
        sample = data[f"axons-{block}"]
        assert np.array_equal(sample.image.numpy(), image[window])
        labels, known = sample.labels.numpy(), ids[window]
        assert (labels[(known == 0) | (known == 4)] == 255).all()
        assert (labels[(known == 1) | (known == 3)] == 0).all()
        assert (labels[known == 2] == 1).all()
        assert sample.meta["plane"] == int(block[1:]) - box[0][0]
        assert sample.image.axes == "zyx" and sample.image.spacing == (1.0, 1.0, 1.0)
    classes = data.label_map.to_classes(data["axons-z44"].labels.numpy())
    assert set(np.unique(classes)) == {-1, 0, 1}


@pytest.mark.parametrize(("edge", "value"), [("axon", 1), ("background", 0), ("class", 2)])
def test_what_an_edge_counts_as(tree, volume, edge, value):
    data = lsfm_axons(tree, edge=edge)
    labels = data["axons-z44"].labels.numpy()
    box = tuple(slice(*span) for span in BLOCKS["z44"])
    assert (labels[volume[1][box] == 4] == value).all()
    assert data.label_map.num_classes == (3 if edge == "class" else 2)


def test_no_voxel_is_in_two_blocks_and_every_one_was_in_a_crop():
    covered = np.zeros(np.max(CORNERS, axis=0) + SIDE, bool)
    for corner in CORNERS:
        covered[tuple(slice(c, c + SIDE) for c in corner)] = True
    for block, box in BLOCKS.items():
        assert covered[tuple(slice(*span) for span in box)].all(), block
    for (a, _, _), (b, _, _) in combinations(BLOCKS.values(), 2):
        assert max(a[0], b[0]) - min(a[1], b[1]) >= 3
    # What a split by crop would do: each two of them share voxels.
    for one, two in combinations(CORNERS, 2):
        assert all(abs(a - b) < SIDE for a, b in zip(one, two))


def test_options(tree):
    data = lsfm_axons(tree / "cells" / "lsfm_axons", ["z13"], ["z73"], spacing_um=[3, 2, 2])
    assert data.splits == {"train": ["axons-z73"], "test": ["axons-z13"]}
    assert data["axons-z13"].labels.spacing == (3.0, 2.0, 2.0)
    for options, key in (
        ({"edge": "axn"}, "did you mean 'axon'"),
        ({"test": ["z12"]}, r"data\.test"),
        ({"spacing_um": [1, 1]}, "three lengths"),
        ({"spacing_um": [0, 1, 1]}, "three lengths"),
    ):
        with pytest.raises(RecipeError, match=key):
            lsfm_axons(tree, **options)


def test_faults_are_named(tree, volume):
    folder = tree / "cells" / "lsfm_axons"
    image, ids = (cut(values) for values in volume)

    def broken(name, values):
        tifffile.imwrite(folder / name, values, photometric="minisblack")
        room.mosaic.cache_clear()
        return lsfm_axons(tree)

    other = image.copy()
    other[4, 30, 30, 30] += 1
    with pytest.raises(DataError, match="do not agree where they overlap"):
        broken("volumes.tif", other)["axons-z44"]
    tifffile.imwrite(folder / "volumes.tif", image, photometric="minisblack")
    other = ids.copy()
    other[0, 13, 0, 0] = 7
    with pytest.raises(DataError, match=r"4 edge.*found \[7\]"):
        broken("labels.tif", other)["axons-z13"]
    with pytest.raises(DataError, match="one annotated plane"):
        broken("labels.tif", np.zeros_like(ids))["axons-z13"]
    with pytest.raises(DataError, match="10 crops"):
        broken("labels.tif", ids[:9])
    (folder / "labels.tif").unlink()
    with pytest.raises(DataError, match=r"no such file.*labels\.tif"):
        lsfm_axons(tree)


@pytest.mark.real
def test_the_real_crops(real_data):
    data = lsfm_axons(real_data)
    found = {}
    for name in data.names:
        sample = data[name]
        image, labels = sample.image.numpy(), sample.labels.numpy()
        axon, rest = image[labels == 1], image[labels == 0]
        assert axon.mean() > 1.4 * rest.mean()
        found[name] = np.unique(labels, return_counts=True)[1].tolist()
        plane = sample.meta["plane"]
        assert (labels[np.arange(len(labels)) != plane] == 255).all()
    # Background, axon, unknown and edge together.
    assert found == {
        "axons-z13": [3834, 1494, 181040],
        "axons-z44": [4441, 1427, 199764],
        "axons-z73": [2855, 482, 136055],
    }
