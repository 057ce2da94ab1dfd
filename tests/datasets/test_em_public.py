"""Public volumes on tiny made-up trees of their layout; windows and gaps of every split."""

import zipfile
from itertools import pairwise

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from brodmann.core import DataError, RecipeError
from brodmann.datasets.em.ac34 import ac34, train_block
from brodmann.datasets.em.cremi import cremi
from brodmann.datasets.em.fib25 import PARTS as FIB25_PARTS
from brodmann.datasets.em.isbi2012 import PARTS as ISBI_PARTS
from brodmann.datasets.em.isbi2012 import isbi2012
from brodmann.datasets.em.layouts import label_order, open_slices
from brodmann.datasets.em.snemi3d import PARTS as SNEMI_PARTS
from brodmann.datasets.em.snemi3d import snemi3d
from brodmann.datasets.em.vnc import vnc
from brodmann.datasets.em.windows import overlap, voxels
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.phantoms.em import phantom_em_volume


def tissue(depth, side=24, seed=0):
    """Image and ids in which borders are dark and differ from slice to slice."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((depth, side, side), np.uint32)
    image = np.full((depth, side, side), 190, np.uint8)
    for z in range(depth):
        cut = 4 + (5 * z + seed) % (side - 8)
        ids[z, :, :cut], ids[z, :, cut:] = 70_000, 2
        ids[z, : side // 3] += 3
        image[z, :, cut - 1 : cut + 1] = 40
        image[z, side // 3 - 1 : side // 3 + 1] = 40
    return (image - rng.integers(0, 30, image.shape)).astype(np.uint8), ids


class TestAC34:
    def package(self, folder, backwards=True):
        """As VAST's package unpacks: pictures a slice, ids in colours."""
        truth = {}
        for n, depth, first, em, seg in (
            (3, 103, 0, "Thousand_highmag_256slices_2kcenter_1k_inv_", "ac3_dbseg_images"),
            (4, 100, 1, "affinecropped4_inv_", "ac4_seg_daniel"),
        ):
            image, ids = truth[n] = tissue(depth, seed=n)
            for name in (f"ac{n}_EM", seg):
                (folder / name).mkdir(parents=True)
            for z in range(depth):
                Image.fromarray(image[z]).save(folder / f"ac{n}_EM" / f"{em}{first + z:04d}.png")
                colour = np.stack([ids[z] >> 16, ids[z] >> 8 & 255, ids[z] & 255], -1)
                number = depth - z if backwards else z + 1
                Image.fromarray(colour.astype(np.uint8)).save(
                    folder / seg / f"ac{n}_daniel_s{number:04d}.png"
                )
        return truth

    @pytest.mark.parametrize("backwards", [True, False])
    def test_the_package_in_either_order(self, tmp_path, backwards):
        truth = self.package(tmp_path / "a" / "b", backwards)
        data = ac34(tmp_path, ratio=50)
        assert data.splits == {"train": ["ac4-train"], "tune": ["ac4-tune"], "test": ["ac3-test"]}
        image, ids = truth[3]
        test = data["ac3-test"]
        assert np.array_equal(test.image.numpy(), image[:100])
        assert np.array_equal(test.labels.numpy(), ids[:100])
        assert test.image.spacing == (0.029, 0.006, 0.006)
        tune = data["ac4-tune"]
        assert np.array_equal(tune.labels.numpy(), truth[4][1][84:100])
        box = data["ac4-train"].meta["window"]
        window = tuple(slice(*box[axis]) for axis in "zyx")
        assert np.array_equal(data["ac4-train"].labels.numpy(), truth[4][1][window])
        assert np.array_equal(data["ac4-train"].image.numpy(), truth[4][0][window])
        assert f"AC4 {'reversed' if backwards else 'same'}" in data.description
        assert set(data.subjects.values()) == {"mouse"}

    def test_h5_files(self, tmp_path):
        truth = {}
        for n in (3, 4):
            truth[n] = tissue(100, seed=n)
            for name, array in zip(("inputs", "labels"), truth[n]):
                with h5py.File(tmp_path / f"AC{n}_{name}.h5", "w") as file:
                    file["main"] = array
        data = ac34(tmp_path, hold_out=False)
        assert data.splits == {"train": ["ac4-train"], "test": ["ac3-test"]}
        assert np.array_equal(data["ac4-train"].labels.numpy(), truth[4][1])
        assert data["ac3-test"].labels.dtype == np.uint32
        # The paper's blocks do not fit into so small a volume.
        with pytest.raises(RecipeError, match="not within the volume"):
            ac34(tmp_path, ratio=4)

    def test_blocks_are_the_papers_and_keep_clear_of_the_tune_part(self):
        shape = (100, 1024, 1024)
        sizes = {4: (16, 512, 512), 20: (80, 512, 512), 100: (80, 1024, 1024)}
        tune = ((84, 100), (256, 768), (256, 768))
        for ratio, size in sizes.items():
            box = train_block(shape, ratio)
            assert tuple(b - a for a, b in box) == size
            assert not overlap(box, tune) and box[0][1] <= 80
        assert train_block(shape, 100, hold_out=False) == ((0, 100), (0, 1024), (0, 1024))
        assert voxels(train_block(shape, 20, False)) == 80 * 512 * 512
        for ratio in (1, 10, 33, 80):
            box = train_block(shape, ratio)
            assert voxels(box) / 100 / 2**20 == pytest.approx(ratio / 100, rel=0.03)
        with pytest.raises(RecipeError, match="so much is not left"):
            train_block(shape, 81)
        with pytest.raises(RecipeError, match="ratio"):
            train_block(shape, 0)

    def test_unknown_layouts_say_what_was_looked_for(self, tmp_path):
        with pytest.raises(DataError, match="brodmann data get ac34"):
            ac34(tmp_path / "lost")
        (tmp_path / "AC3.raw").touch()
        with pytest.raises(DataError, match=r"no AC3 here.*AC3\.raw.*ac3_EM and ac3_dbseg_images"):
            ac34(tmp_path)
        (tmp_path / "AC3_inputs.h5").touch()
        with pytest.raises(DataError, match=r"AC3_inputs\.h5 alone"):
            ac34(tmp_path)

    def test_slices_that_are_not_a_run(self, tmp_path):
        plane = Image.fromarray(np.zeros((4, 4), np.uint8))
        with pytest.raises(DataError, match="no pictures"):
            open_slices(str(tmp_path))
        for name in ("a1.png", "a3.png"):
            plane.save(tmp_path / name)
        open_slices.cache_clear()
        with pytest.raises(DataError, match=r"a slice is missing.*1, then 3"):
            open_slices(str(tmp_path))
        plane.save(tmp_path / "b1.png")
        with pytest.raises(DataError, match="two slices of one number"):
            open_slices(str(tmp_path))
        for file in tmp_path.iterdir():
            file.unlink()
        plane.save(tmp_path / "s09.png")
        plane.resize((5, 4)).save(tmp_path / "s10.png")
        stack = open_slices(str(tmp_path))
        assert stack.shape == (2, 4, 4) and stack[0:1].shape == (1, 4, 4)
        with pytest.raises(DataError, match="different sizes"):
            stack[1]

    def test_the_order_is_seen_in_tissue(self):
        block = phantom_em_volume((18, 96, 96), (0.03, 0.008, 0.008), seed=2)
        image, ids = block.image.data, block.neurons.data
        for usual in ("same", "reversed"):
            assert label_order(image, ids, usual) == "same"
            assert label_order(image, ids[::-1], usual) == "reversed"
            # Where nothing can be seen the usual order stands.
            assert label_order(np.full_like(image, 100), ids, usual) == usual


class TestSnemi:
    @pytest.mark.parametrize("kind", ["tif", "h5", "zip"])
    def test_layouts(self, tmp_path, kind):
        image, ids = tissue(100)
        (tmp_path / "image").mkdir()
        (tmp_path / "seg").mkdir()
        pairs = (("image/train-input", image), ("seg/train-labels", ids))
        for name, array in pairs:
            if kind == "h5":
                with h5py.File(tmp_path / f"{name}.h5", "w") as file:
                    file["main"] = array
            else:
                tifffile.imwrite(tmp_path / f"{name}.tif", array)
        if kind == "zip":
            with zipfile.ZipFile(tmp_path / "snemi.zip", "w") as archive:
                for name, _ in pairs:
                    archive.write(tmp_path / f"{name}.tif", f"{name}.tif")
                    (tmp_path / f"{name}.tif").unlink()
        data = snemi3d(tmp_path)
        assert data["snemi3d-train"].image.spacing == (0.03, 0.006, 0.006)
        for split, (a, b) in {"train": (0, 67), "tune": (70, 82), "test": (85, 100)}.items():
            sample = data[f"snemi3d-{split}"]
            assert np.array_equal(sample.image.numpy(), image[a:b])
            assert np.array_equal(sample.labels.numpy(), ids[a:b])
        assert snemi3d(tmp_path, ratio=4)["snemi3d-train"].meta["voxels"] < 0.06 * 67 * 24 * 24

    def test_unknown(self, tmp_path):
        (tmp_path / "train.tif").touch()
        with pytest.raises(DataError, match=r"train-input\.tif and train-labels\.tif"):
            snemi3d(tmp_path)
        (tmp_path / "snemi.zip").write_bytes(b"no zip")
        with pytest.raises(DataError, match="damaged"):
            snemi3d(tmp_path)


class TestCremi:
    def sample(self, folder, letter, depth=125, pad=0, where="sample_{}_20160501.hdf"):
        image, ids = tissue(depth, seed=ord(letter))
        ids = ids.astype(np.uint64)
        ids[:, :2] = 2**64 - 1
        raw = np.pad(image, [(pad, pad)] * 3)
        with h5py.File(folder / where.format(letter), "w") as file:
            file["volumes/raw"], file["volumes/labels/neuron_ids"] = raw, ids
            file["volumes/raw"].attrs["resolution"] = (40.0, 4.0, 4.0)
            if pad:
                offset = (pad * 40.0, pad * 4.0, pad * 4.0)
                file["volumes/labels/neuron_ids"].attrs["offset"] = offset
        return image, np.where(ids == 2**64 - 1, 0, ids)

    def test_within_each_volume(self, tmp_path):
        truth = {letter: self.sample(tmp_path, letter) for letter in "ABC"}
        data = cremi(tmp_path)
        assert data.splits["tune"] == ["cremi-a-tune", "cremi-b-tune", "cremi-c-tune"]
        for letter, (image, ids) in truth.items():
            for split, (a, b) in {"train": (0, 75), "tune": (79, 95), "test": (100, 125)}.items():
                sample = data[f"cremi-{letter.lower()}-{split}"]
                assert np.array_equal(sample.image.numpy(), image[a:b])
                assert np.array_equal(sample.labels.numpy(), ids[a:b])
        assert sample.image.spacing == (0.04, 0.004, 0.004)
        assert sample.labels.dtype == np.uint64 and set(data.subjects.values()) == {"fly"}

    def test_by_sample(self, tmp_path):
        for letter in "AC":
            self.sample(tmp_path, letter)
        data = cremi(tmp_path, ["A", "C"], "samples")
        assert data.splits == {
            "train": ["cremi-a-train"],
            "tune": ["cremi-a-tune"],
            "test": ["cremi-c-test"],
        }
        windows = {name: data[name].meta["window"]["z"] for name in data.names}
        assert windows == {
            "cremi-a-train": [0, 95],
            "cremi-a-tune": [100, 125],
            "cremi-c-test": [0, 125],
        }

    def test_padded_files_lose_their_margin(self, tmp_path):
        image, ids = self.sample(tmp_path, "B", pad=5, where="sample_{}_padded_20160501.hdf")
        sample = cremi(tmp_path, "B")["cremi-b-test"]
        assert np.array_equal(sample.image.numpy(), image[100:])
        assert np.array_equal(sample.labels.numpy(), ids[100:])
        (tmp_path / "off").mkdir()
        self.sample(tmp_path / "off", "B", pad=5, where="sample_{}_padded_20160501.hdf")
        with h5py.File(tmp_path / "off" / "sample_B_padded_20160501.hdf", "a") as file:
            file["volumes/labels/neuron_ids"].attrs["offset"] = (440.0, 24.0, 24.0)
        with pytest.raises(DataError, match="differ in shape"):
            cremi(tmp_path / "off", "B")

    def test_faults(self, tmp_path):
        with pytest.raises(DataError, match="data get cremi"):
            cremi(tmp_path, ["A"])
        for samples in ([], ["A", "A"], ["D"]):
            with pytest.raises(RecipeError, match="samples"):
                cremi(tmp_path, samples)
        with pytest.raises(RecipeError, match="split"):
            cremi(tmp_path, split="fold")
        with pytest.raises(RecipeError, match="two or more"):
            cremi(tmp_path, ["A"], "samples")
        with h5py.File(tmp_path / "sample_A_20160501.hdf", "w") as file:
            file["volumes/raw"] = np.zeros((4, 4, 4), np.uint8)
        with pytest.raises(DataError, match="neuron_ids"):
            cremi(tmp_path, ["A"])


def test_parts_leave_gaps_and_do_not_overlap():
    for parts, gap in ((FIB25_PARTS, 3), (SNEMI_PARTS, 3)):
        spans = [parts[split] for split in ("train", "tune", "test")]
        assert all(b[0] - a[1] == gap for a, b in pairwise(spans))
    assert ISBI_PARTS == {"train": (0, 12), "tune": (12, 15), "test": (16, 20)}
    assert FIB25_PARTS == {"train": (0, 104), "tune": (107, 127), "test": (130, 150)}


class TestIsbi:
    def tree(self, folder, interior):
        folder.mkdir(parents=True)
        tifffile.imwrite(folder / "image.tif", np.zeros(interior.shape, np.uint8))
        tifffile.imwrite(folder / "interior.tif", interior)

    def test_profiles(self, tmp_path):
        interior = np.full((20, 6, 6), 255, np.uint8)
        # A wall closed for 8-connected steps, which parts 4-connected insides.
        interior[:, np.arange(6), np.arange(6)] = 0
        self.tree(tmp_path / "em" / "isbi2012", interior)
        data = isbi2012(tmp_path)
        ids = np.concatenate([data[f"isbi2012-{s}"].labels.numpy() for s in data.splits])
        per_slice = [set(np.unique(section).tolist()) - {0} for section in ids]
        assert all(len(found) == 2 for found in per_slice)
        assert len(set.union(*per_slice)) == 2 * len(per_slice)
        assert np.array_equal(ids[0] == 0, interior[0] == 0)
        assert data["isbi2012-test"].image.spacing == (0.05, 0.004, 0.004)

    def test_faults(self, tmp_path):
        with pytest.raises(DataError, match=r"isbi2012.image\.tif"):
            isbi2012(tmp_path)
        self.tree(tmp_path / "em" / "isbi2012", np.ones((20, 6, 6), np.uint8))
        with pytest.raises(DataError, match="interior"):
            isbi2012(tmp_path)


class TestVnc:
    @pytest.fixture
    def tree(self, tmp_path):
        folder = tmp_path / "em" / "vnc"
        folder.mkdir(parents=True)
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (14, 16, 16), np.uint8)
        membranes = np.zeros_like(image)
        membranes[:, 8] = 255
        mitochondria = np.zeros_like(image)
        mitochondria[:, 6:9, 3:7] = 40
        for name, array in zip(
            ("image", "membranes", "mitochondria"), (image, membranes, mitochondria)
        ):
            tifffile.imwrite(folder / f"{name}.tif", array)
        return tmp_path, image

    def test_classes_and_sections(self, tree):
        data = vnc(tree[0])
        assert data.label_map.class_names[1:] == ["membrane", "mitochondrion"]
        assert data.splits["train"] == [f"vnc-{k:02d}" for k in range(9)]
        assert data.splits["test"] == [f"vnc-{k:02d}" for k in range(10, 14)]
        labels = data["vnc-03"].labels.numpy()
        assert (labels[8] == 1).all() and (labels[6:8, 3:7] == 2).all()
        assert np.unique(labels).tolist() == [0, 1, 2]
        assert np.array_equal(data["vnc-03"].image.numpy(), tree[1][3])

    def test_neighbours_as_channels(self, tree):
        data = vnc(tree[0], context=1)
        image = data["vnc-00"].image
        assert image.channels == ("section -1", "section", "section +1")
        assert np.array_equal(image.numpy(), tree[1][[0, 0, 1]])
        assert np.array_equal(data["vnc-08"].image.numpy(), tree[1][7:10])

    def test_written_and_read_again(self, tree, tmp_path):
        data = vnc(tree[0], context=1)
        again = read_folder(write_folder(data, tmp_path / "out"))
        assert again.splits == data.splits and again.label_map.class_names == (
            data.label_map.class_names
        )
        for name in ("vnc-00", "vnc-13"):
            assert np.array_equal(again[name].image.numpy(), data[name].image.numpy())
            assert np.array_equal(again[name].labels.numpy(), data[name].labels.numpy())
            assert again[name].subject == "larva" and again[name].meta == data[name].meta

    def test_faults(self, tree):
        for context in (-1, 14, True, 1.0):
            with pytest.raises(RecipeError, match="context"):
                vnc(tree[0], context)
        file = tree[0] / "em" / "vnc" / "membranes.tif"
        tifffile.imwrite(file, np.zeros((13, 16, 16), np.uint8))
        with pytest.raises(DataError, match="14 sections of one size"):
            vnc(tree[0])
        tifffile.imwrite(file, np.full((14, 16, 16), 7, np.uint8))
        with pytest.raises(DataError, match="255"):
            vnc(tree[0])["vnc-00"]
        file.unlink()
        with pytest.raises(DataError, match=r"membranes\.tif"):
            vnc(tree[0])
