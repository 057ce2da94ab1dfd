"""Slice 309 on a made-up slice of its layout: halves, gaps, subjects, downsampling, faults."""

import numpy as np
import pytest
import tifffile

from brodmann.core import DataError, RecipeError
from brodmann.datasets.xray import IDS, TASK, xray_patches, xray_regions

SIDE = 32
OPTIONS = {"patch_px": SIDE, "stride_px": 8, "test_stride_px": 16}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slice") / "xray"
    folder.mkdir()
    rng = np.random.default_rng(0)
    regions = np.zeros((150, 1400), np.uint8)
    for number, acronym in enumerate((*TASK, "CC")):
        regions[5:, number * 280 + 3 : number * 280 + 270] = IDS[acronym]
    image = rng.integers(0, 255, regions.shape).astype(np.uint8)
    tifffile.imwrite(folder / "slice309_image.tif", image)
    tifffile.imwrite(folder / "slice309_regions.tif", regions)
    return folder.parent


def place(name):
    acronym, x, y = name.split("-")
    return acronym, int(x[1:]), int(y[1:])


@pytest.mark.parametrize("direction", ["left-right", "right-left"])
@pytest.mark.parametrize("gap", [0, 8, 32])
def test_halves_are_apart(root, direction, gap):
    data = xray_patches(root, direction, gap_px=gap, **OPTIONS)
    train, test = data.split("train"), data.split("test")
    subjects = [{sample.subject for sample in part} for part in (train, test)]
    assert not subjects[0] & subjects[1], "a subject on both sides"
    for acronym in TASK:
        ends = {}
        for part in (train, test):
            ends[part is train] = [x for a, x, _ in map(place, part.names) if a == acronym]
        low, high = (True, False) if direction == "left-right" else (False, True)
        assert min(ends[high]) - (max(ends[low]) + SIDE) >= gap


@pytest.mark.parametrize("fold", range(4))
def test_a_fold_never_sees_the_test_half_nor_its_own_pixels(root, fold):
    options = OPTIONS | {"gap_px": 8}
    whole = xray_patches(root, "right-left", **options)
    data = xray_patches(root, "right-left", fold=fold, **options)
    known = [{*whole.split(part).names} for part in ("train", "test")]
    train, test = data.split("train"), data.split("test")
    assert {*train.names} | {*test.names} <= known[0] and not {*data.names} & known[1]
    assert not {data.subjects[n] for n in train.names} & {data.subjects[n] for n in test.names}
    for acronym in TASK:
        held = [x for a, x, _ in map(place, test.names) if a == acronym]
        rest = np.array([x for a, x, _ in map(place, train.names) if a == acronym])
        assert len(held) and ((rest + SIDE <= min(held)) | (rest >= max(held) + SIDE)).all()


def test_folds_hold_out_every_patch_once(root):
    options = OPTIONS | {"gap_px": 8, "test_stride_px": 8}
    train = xray_patches(root, **options).split("train").names
    held = [n for k in range(4) for n in xray_patches(root, fold=k, **options).split("test").names]
    assert sorted(held) == sorted(train)


def test_patches_are_the_slice_averaged(root):
    image = tifffile.imread(root / "xray" / "slice309_image.tif")
    data = xray_patches(root, gap_px=8, downsample=4, **OPTIONS)
    sample = data[7]
    acronym, x, y = place(sample.name)
    cut = image[y : y + SIDE, x : x + SIDE].reshape(8, 4, 8, 4).mean((1, 3))
    assert np.array_equal(sample.image.numpy(), np.rint(cut).astype(np.uint8))
    assert sample.category == acronym and sample.image.spacing == (4.68, 4.68)


def test_dense_labels_are_halves_too(root):
    regions = tifffile.imread(root / "xray" / "slice309_regions.tif")
    data = xray_regions(root, gap_px=20)
    train, test = (data.split(part)[0].labels.numpy() for part in ("train", "test"))
    assert ((train == 255) | (test == 255)).all(), "labelled in both"
    for labels in (train, test):
        known = labels != 255
        assert np.array_equal(labels[known], regions[known]) and len(np.unique(labels[known])) == 5


def test_dense_labels_of_squares(root):
    fine, coarse = (xray_regions(root, gap_px=20, downsample=d) for d in (1, 4))
    for part in ("train", "test"):
        one, other = fine.split(part)[0], coarse.split(part)[0]
        assert other.image.shape == other.labels.shape == (37, 350)
        assert other.image.spacing == (4.68, 4.68)
        means = one.image.numpy()[:148].reshape(37, 4, 350, 4).mean((1, 3))
        assert np.array_equal(other.image.numpy(), np.rint(means))
        assert np.array_equal(other.labels.numpy(), one.labels.numpy()[2:148:4, 2::4])
    with pytest.raises(RecipeError, match="downsample"):
        xray_regions(root, downsample=0)


@pytest.mark.parametrize(
    "options", [{"direction": "up"}, {"patch_px": 0}, {"downsample": 3}, {"gap_px": -1},
                {"fold": 4}],
)  # fmt: skip
def test_options_that_are_none(root, options):
    with pytest.raises(RecipeError, match=next(iter(options))):
        xray_patches(root, **(OPTIONS | options))


def test_faults_of_the_files(root, tmp_path):
    with pytest.raises(DataError, match="slice309"):
        xray_patches(tmp_path)
    with pytest.raises(DataError, match="holds no"):
        xray_patches(root, patch_px=128)
    folder = tmp_path / "xray"
    folder.mkdir()
    image = tifffile.imread(root / "xray" / "slice309_image.tif")
    tifffile.imwrite(folder / "slice309_image.tif", image)
    tifffile.imwrite(folder / "slice309_regions.tif", np.full_like(image, 9))
    with pytest.raises(DataError, match="outside the vocabulary"):
        xray_patches(tmp_path)
    tifffile.imwrite(folder / "slice309_regions.tif", np.ones((4, 4), np.uint8))
    with pytest.raises(DataError, match="differ in shape"):
        xray_patches(tmp_path)
