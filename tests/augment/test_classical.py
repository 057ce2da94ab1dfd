"""Classical: its draws, its fast path, patches and whole images."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.augment import AUGMENTATIONS, PatchAugmentation, make_augmentation
from brodmann.augment.classical import Classical
from brodmann.core import (
    DataError,
    Dataset,
    Label,
    LabelMap,
    Points,
    RecipeError,
    Sample,
    Volume,
    keyed_rng,
)

SWITCHES = [name for name in Classical.__dataclass_fields__ if name.endswith("_p")]
ALL = Classical(**dict.fromkeys(SWITCHES, 1.0), mirror_axes="zyx")
OFF = Classical(**dict.fromkeys(SWITCHES, 0.0))


def patch(method, params, shape, channels=2, seed=0):
    window = method.source_shape(params, shape)
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(channels, *window)).astype(np.float32)
    labels = rng.choice([-1, 0, 4, 118], window).astype(np.int16)
    return image, labels


def sample(shape=(40, 56), dtype=np.uint16, channels=2):
    rng = np.random.default_rng(1)
    image = rng.integers(20, 200, (channels, *shape)).astype(dtype)
    axes = "zyx"[-len(shape) :]
    labels = Volume(rng.choice([0, 3, 9], shape).astype(np.uint16), axes, (25.0,) * len(shape))
    return Sample("a", Volume(image, "c" + axes, (25.0,) * len(shape)), labels)


@pytest.mark.parametrize("shape", [(24, 40), (12, 20, 16), (6, 30, 30)])
def test_a_saved_draw_gives_the_same_bytes(shape):
    params = ALL.draw_patch(keyed_rng(7, "patch", 3), shape, 2)
    assert params == ALL.draw_patch(keyed_rng(7, "patch", 3), shape, 2)
    assert params != ALL.draw_patch(keyed_rng(7, "patch", 4), shape, 2)
    again = json.loads(json.dumps(params, allow_nan=False))
    assert again == params
    image, labels = patch(ALL, params, shape)
    before = image.copy(), labels.copy()
    first = ALL.apply_patch(params, image, labels, shape)
    second = ALL.apply_patch(again, image, labels, shape)
    for one, other in zip(first, second):
        assert one.tobytes() == other.tobytes()
    assert first[0].shape == (2, *shape) and first[0].dtype == np.float32
    assert first[1].shape == shape and first[1].dtype == np.int16
    assert np.isfinite(first[0]).all()
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_nothing_drawn_is_nothing_done():
    params = OFF.draw_patch(keyed_rng(0), (16, 20), 2)
    assert OFF.source_shape(params, (16, 20)) == (16, 20)
    image, labels = patch(OFF, params, (16, 20))
    got, ids = OFF.apply_patch(params, image, labels, (16, 20))
    assert np.shares_memory(got, image) and np.shares_memory(ids, labels)
    assert got.tobytes() == image.tobytes() and ids.tobytes() == labels.tobytes()
    target = sample()
    assert OFF.apply(OFF.draw(keyed_rng(0), target), target) is target


def test_intensity_alone_reads_only_the_patch_and_keeps_labels():
    method = Classical(rotation_p=0, scale_p=0, noise_p=1.0)
    params = method.draw_patch(keyed_rng(0), (16, 20), 2)
    assert method.source_shape(params, (16, 20)) == (16, 20)
    image, labels = patch(method, params, (16, 20))
    before = image.copy()
    got, ids = method.apply_patch(params, image, labels, (16, 20))
    assert np.shares_memory(ids, labels)
    assert not np.allclose(got, image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("shape", [(16, 20), (1, 20)])
def test_mirror_is_a_flip_of_a_copy(shape):
    method = Classical(**{**dict.fromkeys(SWITCHES, 0.0), "noise_p": 1.0}, mirror_axes="yx")
    seen = set()
    for item in range(20):
        params = method.draw_patch(keyed_rng(1, item), shape, 1)
        seen.add(params["mirror"])
        plain = {**params, "intensity": []}
        image, labels = patch(method, params, shape, 1)
        before = image.copy()
        got, ids = method.apply_patch(plain, image, labels, shape)
        axes = ["yx".index(axis) for axis in params["mirror"]]
        np.testing.assert_array_equal(got[0], np.flip(image[0], axes))
        np.testing.assert_array_equal(ids, np.flip(labels, axes))
        method.apply_patch(params, image, labels, shape)
        np.testing.assert_array_equal(image, before)
    assert seen == {"", "y", "x", "yx"}


def test_a_larger_window_gives_the_same_patch():
    method = Classical(rotation_p=1.0, scale_p=1.0, elastic_p=1.0)
    params = method.draw_patch(keyed_rng(3), (20, 26), 1)
    image, labels = patch(method, params, (20, 26), 1)
    padded = np.pad(image, ((0, 0), (4, 4), (2, 2)), constant_values=9)
    ids = np.pad(labels, ((4, 4), (2, 2)), constant_values=77)
    small = method.apply_patch(params, image, labels, (20, 26))
    large = method.apply_patch(params, padded, ids, (20, 26))
    np.testing.assert_allclose(small[0], large[0], atol=1e-5)
    np.testing.assert_array_equal(small[1], large[1])
    with pytest.raises(DataError, match="even number"):
        OFF.apply_patch(OFF.draw_patch(keyed_rng(0), (20, 26), 1), image[:, :25], None, (20, 26))


@pytest.mark.parametrize(
    ("shape", "limit", "count"),
    [((64, 64), 180, 1), ((64, 95), 180, 1), ((64, 128), 15, 1), ((32, 40, 40), 30, 3),
     ((8, 64, 64), 180, 1)],
)  # fmt: skip
def test_angles_follow_nnunets_rule(shape, limit, count):
    angles = np.array(
        [
            Classical(rotation_p=1.0).draw_patch(keyed_rng(0, i), shape, 1)["rotation_deg"]
            for i in range(300)
        ]
    )
    assert angles.shape[1] == count
    assert np.abs(angles).max() <= limit
    assert np.abs(angles).max() > 0.9 * limit
    assert np.abs(angles.mean()) < 0.2 * limit


def test_a_shallow_patch_moves_in_its_planes_only():
    method = Classical(rotation_p=1.0, scale_p=1.0, elastic_p=1.0)
    params = method.draw_patch(keyed_rng(2), (6, 30, 30), 1)
    assert method.source_shape(params, (6, 30, 30))[0] == 6
    window = method.source_shape(params, (6, 30, 30))
    labels = np.broadcast_to(np.arange(6, dtype=np.int16)[:, None, None], window).copy()
    _, ids = method.apply_patch(params, np.zeros((1, *window), np.float32), labels, (6, 30, 30))
    assert all(np.all(plane == z) for z, plane in enumerate(ids))


def test_rotation_is_rigid_in_micrometres():
    spacing = np.array([50.0, 25.0, 25.0])
    params = Classical(rotation_p=1.0).draw_patch(keyed_rng(1), (20, 40, 40), 1, tuple(spacing))
    rigid = np.array(params["matrix"]) * spacing[:, None] / spacing / params["scale"]
    np.testing.assert_allclose(rigid @ rigid.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rigid) == pytest.approx(1.0)


def test_frequencies_and_ranges_are_those_of_the_spec():
    method, draws = Classical(), []
    for i in range(3000):
        draws.append(method.draw_patch(keyed_rng(0, i), (64, 128), 2))
    share = {}
    for params in draws:
        ops = [
            "gamma inverted" if step.get("invert") else step["op"] for step in params["intensity"]
        ]
        moved = (["rotation"] if params["rotation_deg"] else []) + (
            ["scale"] if params["scale"] != 1 else []
        )
        for op in ops + moved:
            share[op] = share.get(op, 0) + 1 / len(draws)
    expected = {"rotation": 0.2, "scale": 0.2, "noise": 0.1, "blur": 0.2, "brightness": 0.15,
                "contrast": 0.15, "low_res": 0.25, "gamma inverted": 0.1, "gamma": 0.3}  # fmt: skip
    assert share.keys() == expected.keys()
    for op, probability in expected.items():
        # Five deviations of a binomial share.
        assert abs(share[op] - probability) < 5 * np.sqrt(probability / len(draws)), op
    exponents = [
        e for p in draws for s in p["intensity"] if s["op"] == "gamma" for e in s["exponent"]
    ]
    assert 0.7 <= min(exponents) < 0.72 and 1.48 < max(exponents) <= 1.5
    assert 0.45 < np.mean(np.array(exponents) < 1) < 0.55
    assert all(p["elastic"] is None and p["mirror"] == "" for p in draws)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([(20, 30), (9, 12, 14), (4, 15, 15)]))
def test_labels_of_a_patch_were_in_the_window(seed, shape):
    params = ALL.draw_patch(keyed_rng(seed), shape, 1)
    image, labels = patch(ALL, params, shape, 1, seed)
    _, ids = ALL.apply_patch(params, image, labels, shape, outside_label=55)
    assert set(np.unique(ids)) <= set(np.unique(labels))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.bool_])
@pytest.mark.parametrize("shape", [(40, 56), (10, 24, 20)])
def test_whole_images_keep_grid_dtype_and_ids(dtype, shape):
    target = sample(shape, dtype)
    tree = LabelMap([Label(3, "three", "3"), Label(9, "nine", "9")], ignore=255)
    pool = Dataset("d", ["a"], lambda name: target, tree)
    params = json.loads(json.dumps(ALL.draw(keyed_rng(0, "a"), target, pool)))
    made = ALL.apply(params, target, pool)
    assert made.image.shape == target.image.shape and made.image.dtype == np.dtype(dtype)
    assert made.image.channels == target.image.channels
    assert made.labels.dtype == target.labels.dtype
    assert set(np.unique(made.labels.numpy())) <= {0, 3, 9, 255}
    again = ALL.apply(params, target, pool)
    assert again.image.numpy().tobytes() == made.image.numpy().tobytes()


def test_saturation_is_cut_not_wrapped():
    image = np.full((1, 20, 20), 250, np.uint8)
    image[:, ::2] = 5
    target = Sample("a", Volume(image, "cyx", (1, 1)))
    method = Classical(
        **{**dict.fromkeys(SWITCHES, 0.0), "brightness_p": 1.0}, brightness=(1.2, 1.2)
    )
    made = method.apply(method.draw(keyed_rng(0), target), target).image.numpy()
    assert np.all(made[:, 1::2] == 255) and np.all(made[:, ::2] == 0)


def test_second_labels_and_points_follow():
    target = sample((60, 60), np.float32, 1)
    spot = np.zeros((60, 60), np.uint16)
    spot[20:25, 33:38] = 3
    cells = Points(pd.DataFrame({"y": [22.0, 0.0], "x": [35.0, 0.0], "score": [0.5, 0.1]}))
    second = target.labels.like(spot)
    target = target.with_(labels2=second, labels=target.labels.like(spot), points=cells)
    method = Classical(rotation_p=1.0, rotation_deg=40, scale_p=1.0, scale=(0.8, 0.8),
                       elastic_p=1.0, mirror_axes="yx")  # fmt: skip
    kept = []
    for item in range(8):
        made = method.apply(method.draw(keyed_rng(4, item), target), target)
        np.testing.assert_array_equal(made.labels.numpy(), made.labels2.numpy())
        found = np.argwhere(made.labels2.numpy() == 3).mean(0)
        np.testing.assert_allclose(made.points.coordinates[0], found, atol=0.6)
        kept.append(len(made.points))
    # Magnified by 1.25, the corner leaves the image.
    assert set(kept) == {1}


def test_corners_get_the_rim_not_the_mean():
    image = np.full((1, 40, 40), 7, np.uint8)
    image[:, 8:32, 8:32] = 200
    target = Sample("a", Volume(image, "cyx", (1, 1)))
    method = Classical(**{**dict.fromkeys(SWITCHES, 0.0), "rotation_p": 1.0}, rotation_deg=45)
    made = method.apply(method.draw(keyed_rng(0), target), target).image.numpy()
    assert np.all(made[0, [0, 0, -1, -1], [0, -1, 0, -1]] == 7)


def test_registry_and_wall():
    assert {"carvemix", "classical", "cutmix", "mixup", "none", "prmix"} <= set(AUGMENTATIONS)
    for name in ("classical", "none"):
        method = make_augmentation(name)
        assert isinstance(method, PatchAugmentation) and method.name == name
        assert make_augmentation(name, json.loads(json.dumps(method.options()))) == method
        params = method.draw_patch(keyed_rng(0), (8, 8), 1)
        image = np.zeros((1, *method.source_shape(params, (8, 8))), np.float32)
        assert method.apply_patch(params, image, None, (8, 8))[1] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rotaton_p": 0.1}, "did you mean 'rotation_p'?"),
        ({"noise_p": 1.5}, "a probability lies in 0..1 (classical.noise_p): found 1.5"),
        ({"noise_p": True}, "classical.noise_p"),
        ({"scale": [1.4, 0.7]}, "a range is [low, high] within 0.1..10"),
        ({"scale": 1.2}, "classical.scale"),
        ({"elastic_magnitude": [0, 0.6]}, "within 0..0.4"),
        ({"gamma": [0.7, float("nan")]}, "classical.gamma"),
        ({"mirror_axes": "xw"}, "letters out of 'zyx'"),
        ({"mirror_axes": [0]}, "letters out of 'zyx'"),
        ({"rotation_deg": 200}, "0..180 degrees"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(RecipeError, match=re.escape(words)):
        make_augmentation("classical", options)


def test_params_of_another_image_are_refused():
    params = ALL.draw(keyed_rng(0), sample((40, 56)))
    with pytest.raises(DataError, match="drawn for another shape"):
        ALL.apply(params, sample((40, 58)))
