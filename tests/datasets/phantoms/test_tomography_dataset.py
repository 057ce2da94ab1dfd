"""Phantom tomography as a dataset: parts with a gap, samples, options; and beside real data."""

import pickle

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from brodmann.core import BrodmannError, RecipeError
from brodmann.datasets.cubes import Box, check_apart
from brodmann.datasets.phantoms.tomography import phantom_tomography, tomography_cube
from brodmann.datasets.phantoms.tomography.dataset import GUARD
from brodmann.metrics.attributes import ATTRIBUTES

SHAPE = (40, 48, 48)


def boxes_of(data):
    """Cube -> slices, by part, from the names of samples."""
    found = {}
    for part, names in data.splits.items():
        for name in names:
            cube, z = name.rsplit("-z", 1)
            found.setdefault(part, []).append(Box(cube, (int(z), int(z) + 1)))
    return found


def test_parts_by_z_keep_the_gap():
    data = phantom_tomography()
    assert {part: len(names) for part, names in data.splits.items()} == {
        "train": 4 * 27,
        "validation": 4 * 5,
        "test": 4 * 12,
    }
    check_apart(boxes_of(data), GUARD)
    with pytest.raises(RecipeError, match="fewer than 11 slices apart"):
        check_apart(boxes_of(data), GUARD + 1)
    assert {data.subjects[n] for n in data.names} == {"ctx-A", "str-A", "vp-A", "zi-A"}


def test_parts_by_set_share_no_cube():
    data = phantom_tomography(shape=(12, 16, 16), parts="sets")
    cubes = {part: {data.subjects[n] for n in names} for part, names in data.splits.items()}
    assert cubes["train"] == {"ctx-A", "str-A", "vp-A", "zi-A"}
    assert cubes["validation"] == {"ctx-B", "str-B", "vp-B", "zi-B"}
    assert len(cubes["test"]) == 8 and not cubes["test"] & (cubes["train"] | cubes["validation"])
    assert len(data) == 16 * 12


def test_parts_as_a_recipe_writes_them():
    parts = {
        "train": [{"cube": "zi-C", "z": [0, 8]}, {"cube": "vp-B", "z": [2, 4]}],
        "test": [{"cube": "zi-C", "z": [18, 20]}],
    }
    data = phantom_tomography(shape=(20, 16, 16), parts=parts)
    assert data.splits["test"] == ["zi-C-z0018", "zi-C-z0019"]
    assert data["vp-B-z0003"].category == "VP"


def test_region_of_a_slice():
    data = phantom_tomography("roi", 3, SHAPE)
    sample = data["str-A-z0004"]
    assert sample.category == "STR" and sample.subject == "str-A" and sample.labels is None
    assert sample.image.axes == "yx" and sample.image.dtype == np.uint8
    assert sample.image.spacing == (1.17, 1.17)
    whole = tomography_cube("STR", "A", seed=3, shape=SHAPE)
    assert np.array_equal(sample.image.numpy(), whole.image.data[4])


@pytest.mark.parametrize("classes", [4, 3])
def test_microstructure_of_a_slice(classes):
    data = phantom_tomography("microstructure", 3, SHAPE, classes=classes)
    assert data.label_map.num_classes == classes
    truth = tomography_cube("VP", "A", seed=3, shape=SHAPE).microstructure.data[2]
    labels = data["vp-A-z0002"].labels.numpy()
    assert np.array_equal(labels, truth if classes == 4 else np.where(truth == 3, 0, truth))
    assert data["vp-A-z0002"].category == "VP"


def test_stacks_and_coarser_pixels():
    data = phantom_tomography("microstructure", 3, SHAPE, depth=4, downsample=2)
    assert {part: len(n) for part, n in data.splits.items()} == {
        "train": 4 * 3,
        "validation": 4,
        "test": 4,
    }
    sample = data["zi-A-z0004-0007"]
    assert sample.image.shape == sample.labels.shape == (4, 24, 24)
    assert sample.image.spacing == (1.17, 2.34, 2.34)
    whole = tomography_cube("ZI", "A", seed=3, shape=SHAPE).image.data[4:8].astype(float)
    mean = whole.reshape(4, 24, 2, 24, 2).mean((2, 4))
    assert np.abs(sample.image.numpy() - mean).max() <= 0.51


def test_attributes_of_a_slice():
    data = phantom_tomography("attributes", 3, SHAPE)
    sample = data["vp-A-z0006"]
    assert set(sample.attributes) == set(ATTRIBUTES)
    truth = tomography_cube("VP", "A", seed=3, shape=SHAPE).microstructure.data[6]
    assert sample.attributes["vessel_density"] == pytest.approx(np.mean(truth == 1))
    assert sample.attributes["axon_density"] == pytest.approx(np.mean(truth == 3))
    ids, count = ndimage.label(truth == 2)
    assert sample.attributes["cell_count"] == count >= 2
    assert sample.attributes["cell_size"] == pytest.approx(np.sum(ids > 0) / count * 1.17**2)


def test_any_order_and_any_process_gives_the_same():
    one = phantom_tomography("roi", 9, (36, 24, 24))
    other = pickle.loads(pickle.dumps(phantom_tomography("microstructure", 9, (36, 24, 24))))
    for name in reversed(one.names[::9]):
        assert np.array_equal(one[name].image.numpy(), other[name].image.numpy())
    with pytest.raises(ValueError, match="read-only"):
        one[0].image.data[0, 0] = 1


def test_mean_brightness_does_not_tell_the_region():
    hits = []
    for seed in (0, 1):
        data = phantom_tomography("roi", seed, SHAPE, parts="sets")
        level = {
            part: [(data[n].image.numpy().mean(), data[n].category) for n in names[::4]]
            for part, names in data.splits.items()
        }
        train = np.array([value for value, _ in level["train"]])
        for value, region in level["test"]:
            near = np.argsort(np.abs(train - value), kind="stable")[:7]
            votes = [level["train"][i][1] for i in near]
            hits.append(max(set(votes), key=votes.count) == region)
    # Chance is 0.25.
    assert len(hits) > 100 and np.mean(hits) < 0.45


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"task": "rois"}, "did you mean 'roi'"),
        ({"parts": "cubes"}, "parts"),
        ({"parts": {"train": [{"cube": "ctx-A", "z": [30, 41]}]}}, "40 slices"),
        ({"parts": {"train": [{"cube": "ctx-E", "z": [0, 4]}]}}, "no such cube"),
        (
            {
                "parts": {
                    "train": [{"cube": "ctx-A", "z": [0, 10]}],
                    "test": [{"cube": "ctx-A", "z": [15, 20]}],
                }
            },
            "apart",
        ),
        ({"classes": 5}, "3 or 4 classes"),
        ({"depth": 0}, "depth"),
        ({"depth": 8}, "two gaps"),
        ({"downsample": 0}, "downsample"),
        ({"regions": ("CTX", "TRN")}, "region"),
        ({"regions": "CTX"}, "regions"),
        ({"shape": (3, 48, 48)}, "shape"),
        ({"seed": True}, "seed"),
        ({"shift": -1}, "shift"),
    ],
)
def test_bad_options_are_named(change, word):
    with pytest.raises(BrodmannError, match=word):
        phantom_tomography(**({"shape": SHAPE} | change))


def spread(a, b):
    """Mean distance in grey levels between two histograms that were laid over each other."""
    a, b = (np.sort(x.ravel().astype(float) - np.median(x)) for x in (a, b))
    q = np.linspace(0, 1, 501)
    return float(np.abs(np.quantile(a, q) - np.quantile(b, q)).mean())


@pytest.mark.real
def test_grey_values_are_like_those_of_the_real_volume(real_data):
    folder = real_data / "xray"
    cortex = tifffile.imread(folder / "cortex_cube.tif")[:64, :128, :128]
    planes = tifffile.imread(folder / "vp_images.tif")
    # 0 background, 1 axon, 2 vessel, 3 cell there.
    truth = np.array([0, 3, 1, 2])[tifffile.imread(folder / "vp_microstructure.tif")]
    ctx = tomography_cube("CTX", shape=(32, 128, 128)).image.data
    vp = tomography_cube("VP", shape=(32, 128, 128))
    assert spread(cortex, ctx) < 5 and spread(planes, vp.image.data) < 8
    ours, labels = vp.image.data, vp.microstructure.data
    for code in range(4):
        real = planes[truth == code].mean() - np.median(planes)
        made = ours[labels == code].mean() - np.median(ours)
        assert abs(real - made) < 30, code
    # How fast neighbouring voxels become unlike.
    for axis in (1, 2):
        for step in (1, 2):
            pair = [
                np.corrcoef(
                    np.take(x, range(step, x.shape[axis]), axis).ravel(),
                    np.take(x, range(x.shape[axis] - step), axis).ravel(),
                )[0, 1]
                for x in (cortex, ctx)
            ]
            assert abs(pair[0] - pair[1]) < 0.2
