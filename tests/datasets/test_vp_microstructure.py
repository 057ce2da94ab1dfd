import numpy as np
import pytest
import tifffile

from brodmann.core import DataError, RecipeError
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.leaks import leaks
from brodmann.datasets.registry import DATASETS
from brodmann.datasets.vp_microstructure import CLASSES, vp_microstructure


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "xray").mkdir()
    labels = rng.integers(0, 4, (4, 9, 14)).astype(np.uint8)
    images = (labels * 40 + rng.integers(0, 30, labels.shape)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "xray" / "vp_images.tif", images, photometric="minisblack")
    tifffile.imwrite(tmp_path / "xray" / "vp_microstructure.tif", labels, photometric="minisblack")
    return tmp_path, images, labels


def test_planes_and_splits(tree):
    root, images, labels = tree
    data = DATASETS["vp-microstructure"](root)
    assert data.splits == {"train": ["vp-0", "vp-1", "vp-2"], "test": ["vp-3"]}
    for k in range(4):
        sample = data[f"vp-{k}"]
        assert np.array_equal(sample.image.numpy(), images[k])
        assert np.array_equal(sample.labels.numpy(), labels[k])
        assert sample.image.axes == "yx" and sample.image.spacing == (1.17, 1.17)
        assert sample.meta["plane"] == k and sample.subject == "mouse"
    assert data.label_map.class_names == ["background", "axon", "vessel", "cell"]
    few = vp_microstructure(root / "xray", test=[0, 1], train=[3])
    assert few.splits == {"train": ["vp-3"], "test": ["vp-0", "vp-1"]} and len(few) == 3


def test_it_survives_the_folder_format(tree, tmp_path):
    root, _, labels = tree
    data = vp_microstructure(root)
    write_folder(data, tmp_path / "out")
    again = read_folder(tmp_path / "out")
    assert again.label_map.classes == CLASSES.classes and again.splits == data.splits
    assert np.array_equal(again["vp-2"].labels.numpy(), labels[2])


def test_faults_are_named(tree):
    root, images, labels = tree
    with pytest.raises(RecipeError, match=r"data\.test"):
        vp_microstructure(root, test=[4])
    with pytest.raises(RecipeError, match="trained on that is tested"):
        vp_microstructure(root, test=[1], train=[0, 1])
    wrong = labels.copy()
    wrong[3, 0, 0] = 4
    tifffile.imwrite(root / "xray" / "vp_microstructure.tif", wrong, photometric="minisblack")
    data = vp_microstructure(root)
    assert data["vp-0"].labels is not None
    with pytest.raises(DataError, match=r"plane 3.*found 4"):
        data["vp-3"]
    tifffile.imwrite(
        root / "xray" / "vp_microstructure.tif", labels[:, :5], photometric="minisblack"
    )
    with pytest.raises(DataError, match="one size"):
        vp_microstructure(root)
    tifffile.imwrite(root / "xray" / "vp_microstructure.tif", labels[:3], photometric="minisblack")
    tifffile.imwrite(root / "xray" / "vp_images.tif", images[:3], photometric="minisblack")
    with pytest.raises(DataError, match="4 planes"):
        vp_microstructure(root)
    (root / "xray" / "vp_images.tif").unlink()
    with pytest.raises(DataError, match=r"no such file.*vp_images\.tif"):
        vp_microstructure(root)


@pytest.mark.real
def test_the_real_planes(real_data):
    data = vp_microstructure(real_data)
    counts, images = [], []
    for k in range(4):
        sample = data[f"vp-{k}"]
        image, labels = sample.image.numpy(), sample.labels.numpy()
        assert image.shape == (75, 128) and image.dtype == np.uint8
        counts.append(np.bincount(labels.ravel(), minlength=4).tolist())
        images.append(image.ravel().astype(float))
        # Axons are bright, vessels and cells dark: the ids are not those of the release's code.
        means = [image[labels == c].mean() for c in range(4)]
        assert means[1] > means[0] + 15 and max(means[2:]) < means[0] - 40
    assert counts == [
        [6301, 2817, 331, 151],
        [4162, 5212, 114, 112],
        [7828, 1247, 299, 226],
        [5168, 4034, 81, 317],
    ]
    alike = np.corrcoef(images) - np.eye(4)
    assert np.abs(alike).max() < 0.2
    assert not [f.what for f in leaks(data) if "nearly the same" in f.what]
