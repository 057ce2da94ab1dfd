import numpy as np
import pytest
import tifffile
from scipy import ndimage

from brodmann.core import DataError, RecipeError
from brodmann.datasets.delivr import delivr, split_names
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.registry import DATASETS

BRAINS = {"695": 2, "753": 3, "969": 1, "88": 2}


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "cells" / "delivr" / "microglia"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["volume,z,y,x"]
    for brain, count in BRAINS.items():
        for number in range(count):
            name = f"{brain}_{number}"
            mask = np.zeros((10, 12, 14), np.uint8)
            # The last patch of the brain 753 is empty.
            for _ in range(0 if name == "753_2" else 3):
                z, y, x = rng.integers(1, [9, 11, 13])
                mask[z, y, x] = 1
            image = rng.integers(100, 900, mask.shape).astype(np.uint16)
            tifffile.imwrite(folder / f"{name}.tif", image + 3000 * mask.astype(np.uint16))
            tifffile.imwrite(folder / f"{name}_mask.tif", mask)
            rows += [f"{name},{z},{y},{x}" for z, y, x in np.argwhere(mask)]
    (folder / "centres.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_patches_masks_and_centres(tree):
    data = DATASETS["delivr"](tree, "microglia")
    assert data.names == ["88_0", "88_1", "695_0", "695_1", "753_0", "753_1", "753_2", "969_0"]
    for name in data.names:
        sample = data[name]
        mask = sample.labels.numpy()
        assert np.array_equal(sample.points.coordinates, np.argwhere(mask))
        assert (sample.image.numpy()[mask == 1] > 3000).all()
        assert sample.image.spacing == sample.labels.spacing == (6.0, 1.62, 1.62)
        assert sample.subject == name.split("_")[0]
        assert dict(sample.meta) == {"marker": "microglia"}
        assert data.label_map.to_classes(mask).max() == mask.max()
    assert len(data["753_2"].points) == 0
    inner = tree / "cells" / "delivr"
    for root in (inner, inner / "microglia"):
        assert delivr(root, "microglia").names == data.names


def test_every_split_is_by_brain(tree):
    names = split_names(tree, "microglia")
    assert names == [
        "brain-88",
        "brain-695",
        "brain-753",
        "brain-969",
        "fold-0",
        "fold-1",
        "fold-2",
    ]
    tested = []
    for split in names:
        data = delivr(tree, "microglia", split)
        sides = {k: {data.subjects[n] for n in v} for k, v in data.splits.items()}
        assert not sides["train"] & sides["test"]
        assert sides["train"] | sides["test"] == set(BRAINS)
        assert sorted(data.splits["train"] + data.splits["test"]) == sorted(data.names)
        if split.startswith("brain"):
            assert sides["test"] == {split[6:]}
        else:
            tested += data.splits["test"]
    assert sorted(tested) == sorted(data.names)
    assert delivr(tree, "microglia").splits == delivr(tree, "microglia", "fold-0").splits
    assert split_names(tree, "microglia", 2)[-1] == "fold-1"


def test_a_folder_keeps_points_of_every_sample(tree, tmp_path):
    data = delivr(tree, "microglia")
    again = read_folder(write_folder(data, tmp_path / "folder"))
    for name in data.names:
        assert np.array_equal(data[name].points.coordinates, again[name].points.coordinates)
        assert again[name].points.axes == "zyx"
        assert np.array_equal(data[name].labels.numpy(), again[name].labels.numpy())
    assert again.subjects == data.subjects and again.splits == data.splits


def test_faults_are_named(tree):
    folder = tree / "cells" / "delivr" / "microglia"
    table = folder / "centres.csv"
    good = table.read_text()

    def fails(match, error=DataError, name=None, marker="microglia", **options):
        with pytest.raises(error, match=match):
            data = delivr(tree, marker, **options)
            if name is not None:
                data[name]

    fails("did you mean 'microglia'", RecipeError, marker="microglial")
    fails(r"no such file.*cFos.*centres\.csv", marker="cFos")
    fails("did you mean 'brain-969'", RecipeError, split="brain-968")
    fails("between 2 folds", RecipeError, folds=9)
    fails("three lengths", RecipeError, spacing_um=(1, 0, 1))
    table.write_text(good + "88_0,99,1,1\n")
    fails(r"outside its patch \(10, 12, 14\).*88_0.*99", name="88_0")
    table.write_text(good + "88_0,nan,1,1\n")
    fails(f"line {len(good.splitlines()) + 1}: z is NaN")
    table.write_text(good + "77_0,1,1,1\n")
    fails(r"not there.*77_0")
    table.write_text(good.replace("volume", "patch"))
    fails("need columns volume")
    table.write_text(good)
    mask = folder / "88_0_mask.tif"
    tifffile.imwrite(mask, np.full((10, 12, 14), 255, np.uint8))
    fails(r"cells are 1.*255", name="88_0")
    tifffile.imwrite(mask, np.zeros((10, 12, 13), np.uint8))
    fails("differ in shape", name="88_0")
    mask.unlink()
    fails(r"no such file.*88_0_mask")
    (folder / "88_0.tif").rename(folder / "first.tif")
    fails("BRAIN_NUMBER")


@pytest.mark.real
@pytest.mark.parametrize(("marker", "cells", "brains"), [("cFos", 1536, 3), ("microglia", 388, 6)])
def test_real_centres_are_those_of_the_masks(real_data, marker, cells, brains):
    data = delivr(real_data, marker)
    assert len(data) == 12 and len(set(data.subjects.values())) == brains
    total = 0
    for name in data.names:
        sample = data[name]
        total += len(sample.points)
        pieces, count = ndimage.label(sample.labels.numpy(), np.ones((3, 3, 3)))
        assert count == len(sample.points)
        if count:
            at = np.argwhere(pieces)
            owner = pieces[tuple(at.T)]
            sums = [np.bincount(owner, axis)[1:] for axis in at.T]
            centres = np.stack(sums, axis=1) / np.bincount(owner)[1:, None]
            order = np.lexsort(np.round(centres, 2).T[::-1])
            found = sample.points.coordinates
            ours = found[np.lexsort(found.T[::-1])]
            assert np.allclose(centres[order], ours, atol=0.0051)
    assert total == cells
