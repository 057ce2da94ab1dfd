"""Windows and the parts of a volume: shapes, shares, laziness, faults."""

import pickle

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from brodmann.core import DataError, RecipeError
from brodmann.datasets.em.files import em_files
from brodmann.datasets.em.windows import Lazy, as_box, centred, overlap, voxels
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.registry import DATASETS

SPACING = (0.03, 0.006, 0.006)
sides = st.tuples(*[st.integers(1, 300)] * 3)


@given(sides, st.floats(0.1, 100))
def test_a_centred_block_lies_within_and_has_its_share(shape, percent):
    box = tuple((3, 3 + n) for n in shape)
    inner = centred(box, percent)
    assert all(a <= c < d <= b for (a, b), (c, d) in zip(box, inner))
    assert all(abs((c - a) - (b - d)) <= 1 for (a, b), (c, d) in zip(box, inner))
    wanted = voxels(box) * percent / 100
    # Off by no more than half a voxel of its shortest side, or by sides that cannot shrink.
    least = min(d - c for c, d in inner)
    assert voxels(inner) == pytest.approx(wanted, rel=1.2 / least) or min(shape) < 8 or least == 1


def test_the_share_is_near_on_volumes_as_they_are():
    for shape in ((104, 250, 250), (67, 1024, 1024), (75, 1250, 1250), (12, 512, 512)):
        whole = tuple((0, n) for n in shape)
        for percent in (4, 20, 50):
            assert voxels(centred(whole, percent)) / voxels(whole) == pytest.approx(
                percent / 100, rel=0.02
            )
    assert centred(whole, 100) == whole


@pytest.mark.parametrize("percent", [0, -1, 101, True, "4", float("nan")])
def test_no_percentage(percent):
    with pytest.raises(RecipeError, match="ratio"):
        centred(((0, 4), (0, 4), (0, 4)), percent)


@pytest.mark.parametrize(
    "part", [[0], [0, 4, 8], "0-4", [4, 4], [0, 11], [-1, 4], [0.0, 4.0], None, [[0, 4], [0, 4]]]
)
def test_a_part_that_is_none(part):
    with pytest.raises(RecipeError):
        as_box(part, (10, 8, 8))


@given(st.data())
def test_overlap_as_counted(data):
    boxes = []
    for _ in range(2):
        box = []
        for _ in range(3):
            a = data.draw(st.integers(0, 5))
            box.append((a, data.draw(st.integers(a + 1, 7))))
        boxes.append(tuple(box))
    masks = []
    for box in boxes:
        mask = np.zeros((7, 7, 7), bool)
        mask[tuple(slice(a, b) for a, b in box)] = True
        masks.append(mask)
    assert overlap(*boxes) == bool((masks[0] & masks[1]).any())


@given(st.data())
def test_lazy_reads_as_numpy_slices(data):
    source = np.arange(6 * 7 * 8).reshape(6, 7, 8)
    box = ((1, 5), (0, 6), (2, 8))
    lazy = Lazy(source, box, lambda values: values * 2, np.uint32)
    plain = (source[1:5, 0:6, 2:8] * 2).astype(np.uint32)
    key = []
    for size in plain.shape[: data.draw(st.integers(0, 3))]:
        if data.draw(st.booleans()):
            key.append(data.draw(st.integers(-size, size - 1)))
        else:
            bounds = st.one_of(st.none(), st.integers(-9, 9))
            key.append(slice(data.draw(bounds), data.draw(bounds), data.draw(st.integers(1, 3))))
    key = tuple(key)
    assert np.array_equal(lazy[key], plain[key])
    assert np.array_equal(lazy[(*key, ...)], plain[(*key, ...)])
    assert np.array_equal(np.asarray(lazy), plain)
    assert lazy[0].dtype == np.uint32


class Counting:
    """Counts the voxels that are read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __getitem__(self, key):
        out = self.array[key]
        self.read += out.size
        return out


def test_only_the_window_is_read():
    source = Counting(np.zeros((50, 40, 40), np.uint8))
    lazy = Lazy(source, ((10, 20), (0, 40), (0, 40)))
    assert lazy[2:4, 5:7, :3].shape == (2, 2, 3)
    assert source.read == 12
    with pytest.raises(IndexError):
        lazy[10]


@pytest.fixture
def volume():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 24, 28), np.uint8)
    ids = np.kron(rng.integers(1, 60, (5, 4, 4)), np.ones((4, 6, 7), int)).astype(np.uint32)
    return image, ids


PARTS = {"train": [0, 10], "tune": [12, 15], "test": [[16, 20], [2, 22], [0, 28]]}


def written(folder, image, ids, kind):
    # Each time in a folder of its own: a file that is open cannot be written again.
    folder = folder / str(len(list(folder.iterdir()))) / "x"
    folder.mkdir(parents=True)
    if kind == "h5":
        with h5py.File(folder / "em.h5", "w") as file:
            file["raw"], file["ids"] = image, ids
        return f"{folder / 'em.h5'}::raw", f"{folder / 'em.h5'}::ids"
    tifffile.imwrite(folder / "em.tif", image)
    tifffile.imwrite(folder / "ids.tif", ids)
    return folder / "em.tif", folder / "ids.tif"


@pytest.mark.parametrize("kind", ["h5", "tif"])
def test_parts_of_a_users_files(tmp_path, volume, kind):
    image, ids = volume
    data = em_files(*written(tmp_path, image, ids, kind), SPACING, PARTS, name="mine", subject="m1")
    assert data.names == ["mine-train", "mine-tune", "mine-test"]
    assert data.splits == {s: [f"mine-{s}"] for s in PARTS}
    assert data.label_map is None and set(data.subjects.values()) == {"m1"}
    data = pickle.loads(pickle.dumps(data))
    for name, window in (("mine-train", np.s_[0:10]), ("mine-test", np.s_[16:20, 2:22])):
        sample = data[name]
        assert np.array_equal(sample.image.numpy(), image[window])
        assert np.array_equal(sample.labels.numpy(), ids[window])
        assert sample.labels.dtype == np.uint32
        assert sample.image.spacing == sample.labels.spacing == SPACING
    assert data["mine-test"].meta["window"] == {"z": [16, 20], "y": [2, 22], "x": [0, 28]}
    part = data["mine-train"].image.read((slice(0, 2), slice(3, 5), slice(0, 4)))
    assert np.array_equal(part[0], image[0:2, 3:5, 0:4])


def test_written_as_a_dataset_folder_and_read_again(tmp_path, volume):
    data = em_files(*written(tmp_path, *volume, "h5"), SPACING, PARTS, name="mine")
    again = read_folder(write_folder(data, tmp_path / "out"))
    assert again.splits == data.splits
    for name in data.names:
        assert np.array_equal(again[name].image.numpy(), data[name].image.numpy())
        assert np.array_equal(again[name].labels.numpy(), data[name].labels.numpy())
        assert again[name].image.spacing == SPACING and again[name].meta == data[name].meta


def test_ratio_keeps_the_middle_of_training_alone(tmp_path, volume):
    data = em_files(*written(tmp_path, *volume, "tif"), SPACING, PARTS, ratio=20, name="mine")
    shapes = {split: data[f"mine-{split}"].image.shape for split in PARTS}
    assert np.prod(shapes["train"]) / (10 * 24 * 28) == pytest.approx(0.2, rel=0.1)
    assert shapes["tune"] == (3, 24, 28) and shapes["test"] == (4, 20, 28)


def test_the_unknown_id_becomes_0(tmp_path, volume):
    image, ids = volume
    signed = ids.astype(np.int64)
    signed[0, :3] = -1
    for array, ignore in ((signed, -1), (signed.astype(np.uint64), 2**64 - 1), (signed, 2**64 - 1)):
        files = written(tmp_path, image, array, "h5")
        labels = em_files(*files, SPACING, PARTS, ignore=ignore)["em-train"].labels
        assert labels.dtype == np.uint64
        assert np.array_equal(labels.numpy(), np.where(signed == -1, 0, signed)[:10])
    with pytest.raises(DataError, match="not negative"):
        em_files(*written(tmp_path, image, signed, "h5"), SPACING, PARTS)["em-train"].labels.numpy()


def test_faults_of_files(tmp_path, volume):
    image, ids = volume
    files = written(tmp_path, image, ids, "tif")
    with pytest.raises(DataError, match="no such file"):
        em_files(tmp_path / "lost.tif", files[1], SPACING, PARTS)
    with pytest.raises(DataError, match="spacing"):
        em_files(*files, None, PARTS)
    with pytest.raises(DataError, match="differ in shape"):
        em_files(*written(tmp_path, image[:, :-1], ids, "tif"), SPACING, PARTS)
    with pytest.raises(DataError, match="whole numbers"):
        em_files(*written(tmp_path, image, ids.astype(np.float32), "tif"), SPACING, PARTS)
    one = em_files(*written(tmp_path, image, np.where(ids > 30, 7, 0), "h5"), SPACING, PARTS)
    with pytest.raises(DataError, match="fewer than two neurons"):
        one["em-train"]
    late = np.full_like(ids, 3)
    late[9, 0, 0] = 4  # the last slice looked at
    assert em_files(*written(tmp_path, image, late, "tif"), SPACING, PARTS)["em-train"]


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        (None, "parts"),
        ({}, "parts"),
        ({"train": [0, 30]}, "not within"),
        ({"train": [0, 10], "test": [9, 12]}, "overlap"),
        ({"training": [0, 10]}, "did you mean 'train'"),
    ],
)
def test_faults_of_parts(tmp_path, volume, parts, match):
    with pytest.raises(RecipeError, match=match):
        em_files(*written(tmp_path, *volume, "tif"), SPACING, parts)


@pytest.mark.parametrize("spacing", [0.03, [0.03, 0.006], [0.03, 0, 0.006], ["a", 1, 1]])
def test_faults_of_spacing(tmp_path, volume, spacing):
    with pytest.raises(RecipeError, match="spacing_um"):
        em_files(*written(tmp_path, *volume, "tif"), spacing, PARTS)


def test_registered():
    assert DATASETS["em-files"] is em_files
    for name in ("fib25", "isbi2012", "vnc", "ac34", "snemi3d", "cremi", "phantom-em"):
        assert callable(DATASETS[name])
