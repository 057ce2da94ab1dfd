import numpy as np
import pytest
import tifffile

from brodmann.core import DataError, RecipeError
from brodmann.datasets.leaks import leaks
from brodmann.datasets.registry import DATASETS
from brodmann.datasets.vessels import STACKS, vessels


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "vessels").mkdir()
    truth = {}
    for n, stack in enumerate(STACKS):
        rng = np.random.default_rng(n)
        mask = (rng.random((3 + n, 12, 16)) > 0.7).astype(np.uint8) * 255
        image = (mask // 4 + rng.integers(0, 60, mask.shape)).astype(np.uint8)
        truth[stack] = image, mask
        tifffile.imwrite(
            tmp_path / "vessels" / f"{stack}_image.tif", image, photometric="minisblack"
        )
        tifffile.imwrite(
            tmp_path / "vessels" / f"{stack}_labels.tif", mask, photometric="minisblack"
        )
    return tmp_path, truth


def test_slices(tree):
    root, truth = tree
    data = DATASETS["vessels"](root)
    assert len(data) == 3 + 4 + 5 + 6 + 7
    sides = {side: {data.subjects[n] for n in names} for side, names in data.splits.items()}
    assert not sides["train"] & sides["test"] and sides["train"] | sides["test"] == set(STACKS)
    for stack, (image, mask) in truth.items():
        for z in (0, 2):
            sample = data[f"{stack}-z{z:02d}"]
            assert np.array_equal(sample.image.numpy(), image[z])
            assert np.array_equal(sample.labels.numpy(), mask[z] // 255)
            assert sample.image.spacing == STACKS[stack].spacing_um[1:]
            assert sample.meta == {"stack": stack, "slice": z, "spacing": STACKS[stack].source}


def test_stacks_and_a_chosen_split(tree):
    root, truth = tree
    data = vessels(root / "vessels", ["poon2015_plaqueVessels"], ["burgess2014_bbbDisruption"], 3)
    assert data.splits == {
        "train": ["burgess2014_bbbDisruption"],
        "test": ["poon2015_plaqueVessels"],
    }
    sample = data["poon2015_plaqueVessels"]
    assert sample.image.axes == "zyx" and sample.image.spacing == (5.0, 2.485, 2.485)
    assert np.array_equal(sample.labels.numpy(), truth["poon2015_plaqueVessels"][1] // 255)


def test_only_the_stacks_named_are_wanted(tree):
    root, _ = tree
    (root / "vessels" / "poon2015_BBB_Leakage_labels.tif").unlink()
    assert len(vessels(root, ["poon2015_plaqueVessels"], ["burgess2014_bbbDisruption"]).names) == 9
    with pytest.raises(DataError, match=r"no such file.*poon2015_BBB_Leakage_labels\.tif"):
        vessels(root)


def test_faults_are_named(tree):
    root, truth = tree
    stack = "poon2015_plaqueVessels"
    with pytest.raises(RecipeError, match=r"data\.ndim"):
        vessels(root, ndim=4)
    with pytest.raises(RecipeError, match=r"data\.test"):
        vessels(root, test=["poon2015"])
    _, mask = truth[stack]
    tifffile.imwrite(
        root / "vessels" / f"{stack}_labels.tif",
        np.where(mask > 0, 1, 0).astype("u1"),
        photometric="minisblack",
    )
    data = vessels(root)
    with pytest.raises(DataError, match="255, all else 0"):
        data[f"{stack}-z00"]
    tifffile.imwrite(root / "vessels" / f"{stack}_labels.tif", mask[:2], photometric="minisblack")
    with pytest.raises(DataError, match="differ in shape"):
        vessels(root)


@pytest.mark.real
def test_the_real_stacks(real_data):
    data = vessels(real_data, ndim=3)
    shares = {}
    for stack in STACKS:
        sample = data[stack]
        image, labels = sample.image.numpy(), sample.labels.numpy()
        assert image.shape[1:] == (512, 512) and 10 <= len(image) <= 25
        assert image[labels == 1].mean() > 2 * image[labels == 0].mean()
        shares[stack] = round(float(labels.mean()), 3)
    assert list(shares.values()) == [0.124, 0.421, 0.032, 0.34, 0.241]
    slices = vessels(real_data)
    assert len(slices.splits["train"]) == 39 and len(slices.splits["test"]) == 46
    assert not [f.what for f in leaks(data) if "nearly the same" in f.what]
