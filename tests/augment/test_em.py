"""EM: what each effect changes and what it leaves; patches and draws."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brodmann.augment import Unchanged
from brodmann.augment.em import EM
from brodmann.core import keyed_rng

SWITCHES = [name for name in EM.__dataclass_fields__ if name.endswith("_p")]
OFF = dict.fromkeys(SWITCHES, 0.0)
ALL = EM(**dict.fromkeys(SWITCHES, 1.0), isotropic_sections=1.0, missing_ignore=True)
SECTIONS, CUBES = (0.04, 0.004, 0.004), (0.008, 0.008, 0.008)
SHAPE = (8, 40, 40)


def only(*names, **options):
    return EM(**OFF | {f"{name}_p": 1.0 for name in names} | options)


def window_of(method, params, shape, dtype=np.int32, seed=0):
    """Noise and unrelated ids, a tenth of them 0."""
    window = method.source_shape(params, shape)
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(1, *window)).astype(np.float32)
    ids = rng.integers(1, 60000, window).astype(dtype)
    ids[rng.random(window) < 0.1] = 0
    return image, ids


def twin(method, spacing=SECTIONS, shape=SHAPE, seed=0, item=0):
    """An image that holds its labels' own ids, and both after one draw."""
    params = method.draw_patch(keyed_rng(seed, item), shape, 1, spacing)
    window = method.source_shape(params, shape)
    ids = np.random.default_rng(seed).integers(1, 1000, window).astype(np.int32)
    image, labels = method.apply_patch(params, ids[None].astype(np.float32), ids, shape)
    return params, ids, image[0], labels


@pytest.mark.parametrize("shape", [SHAPE, (1, 24, 40), (24, 40), (12, 12, 12), (2, 9, 17)])
@pytest.mark.parametrize("spacing", [SECTIONS, CUBES, None])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64, np.uint16])
def test_a_saved_draw_gives_the_same_bytes(shape, spacing, dtype):
    spacing = spacing and spacing[-len(shape) :]
    params = ALL.draw_patch(keyed_rng(7, "patch", 3), shape, 1, spacing)
    assert params == ALL.draw_patch(keyed_rng(7, "patch", 3), shape, 1, spacing)
    assert params != ALL.draw_patch(keyed_rng(7, "patch", 4), shape, 1, spacing)
    again = json.loads(json.dumps(params, allow_nan=False))
    assert again == params
    image, ids = window_of(ALL, params, shape, dtype)
    before = image.copy(), ids.copy()
    first = ALL.apply_patch(params, image, ids, shape)
    second = ALL.apply_patch(again, image, ids, shape)
    for one, other in zip(first, second):
        assert one.tobytes() == other.tobytes()
    assert first[0].shape == (1, *shape) and first[0].dtype == np.float32
    assert first[1].shape == shape and first[1].dtype == dtype
    assert np.isfinite(first[0]).all()
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(ids, before[1])
    bare = np.empty((0, *image.shape[1:]), np.float32)
    np.testing.assert_array_equal(ALL.apply_patch(params, bare, ids, shape)[1], first[1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([SHAPE, (1, 20, 32), (16, 16, 16), (5, 21, 14)]),
       st.sampled_from([SECTIONS, CUBES, None]), st.booleans())  # fmt: skip
def test_no_id_is_made_up_and_the_window_is_enough(seed, shape, spacing, everything):
    method = ALL if everything else EM()
    params = method.draw_patch(keyed_rng(seed), shape, 1, spacing)
    window = method.source_shape(params, shape)
    assert all((have - want) % 2 == 0 for have, want in zip(window, shape))
    image, ids = window_of(method, params, shape)
    _, got = method.apply_patch(params, image, ids, shape, outside_label=-7)
    forgotten = {z for step in params["image"] if step.get("forget") for z in step["sections"]}
    # Nothing of what the window does not hold: -7 stands in forgotten sections alone.
    assert (got == -7).sum() == len(forgotten) * shape[1] * shape[2]
    assert set(np.unique(got)) - {-7} <= set(np.unique(ids))


def test_nothing_drawn_is_nothing_done():
    method = EM(**OFF)
    params = method.draw_patch(keyed_rng(0), SHAPE, 1, SECTIONS)
    assert method.source_shape(params, SHAPE) == SHAPE
    image, ids = window_of(method, params, SHAPE)
    got, labels = method.apply_patch(params, image, ids, SHAPE)
    assert np.shares_memory(got, image) and np.shares_memory(labels, ids)
    assert got.tobytes() == image.tobytes() and labels.tobytes() == ids.tobytes()
    wide = np.pad(image, ((0, 0), (0, 0), (2, 2), (3, 3)))
    expected = Unchanged().apply_patch({}, wide, None, SHAPE)[0]
    np.testing.assert_array_equal(method.apply_patch(params, wide, None, SHAPE)[0], expected)


@pytest.mark.parametrize(
    ("shape", "spacing", "orders"),
    [
        (SHAPE, SECTIONS, {"zyx", "zxy"}),
        ((8, 40, 36), SECTIONS, {"zyx"}),
        (SHAPE, (0.04, 0.004, 0.006), {"zyx"}),
        ((9, 9, 9), SECTIONS, {"zyx", "zxy"}),
        ((9, 9, 9), None, {"zyx", "zxy"}),
        ((9, 9, 9), CUBES, {"zyx", "zxy", "yzx", "yxz", "xzy", "xyz"}),
        ((9, 9, 12), CUBES, {"zyx", "yzx"}),
        ((9, 9), CUBES[:2], {"zyx", "zxy"}),
    ],
)
def test_turns_keep_the_grid(shape, spacing, orders):
    method, seen, flips = only("transpose", flip_p=0.5), set(), set()
    for item in range(120):
        params, ids, image, labels = twin(method, spacing, shape, item=item)
        assert method.source_shape(params, shape) == shape
        assert params["order"] in orders
        seen.add(params["order"])
        flips.add(params["flip"])
        lead = 3 - len(shape)
        axes = ["zyx".index(axis) - lead for axis in params["order"][lead:]]
        expected = ids.transpose(axes)
        expected = np.flip(
            expected, ["zyx".index(a) - lead for a in params["flip"] if a in "zyx"[lead:]]
        )
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(image, expected)
    assert seen == orders and len(flips) == 8


def test_quarter_turns_are_among_them():
    seen = set()
    for item in range(100):
        _, ids, _, labels = twin(only("transpose", "flip", flip_p=0.5), shape=(1, 6, 6), item=item)
        seen |= {k for k in range(4) if np.array_equal(labels[0], np.rot90(ids[0], k))}
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("spacing", [SECTIONS, CUBES, (0.03, 0.004, 0.006)])
@pytest.mark.parametrize("effect", ["rotation", "scale", "elastic"])
def test_image_and_labels_stay_in_register(effect, spacing):
    """Half of space is tissue: the image's border at one half is the labels' border."""
    method, shape = only(effect, elastic_knot_px=(16.0, 20.0)), (8, 48, 48)
    params = method.draw_patch(keyed_rng(4, effect), shape, 1, spacing)
    window = method.source_shape(params, shape)
    yy, xx = np.meshgrid(*(np.arange(n) - n // 2 for n in window[1:]), indexing="ij")
    ids = np.broadcast_to(np.where(yy + 2 * xx > 0, 9, 4), window).astype(np.int32)
    image, labels = method.apply_patch(params, (ids == 9).astype(np.float32)[None], ids, shape)
    assert set(np.unique(labels)) == {4, 9}
    away = np.abs(image[0] - 0.5) > 0.35
    np.testing.assert_array_equal(labels[away] == 9, image[0][away] > 0.5)
    moved = (
        labels != ids[tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(window, shape))]
    )
    assert moved.mean() > 0.002


def test_rotation_is_that_of_scipy_also_where_pixels_are_no_squares():
    method, shape, step = only("rotation"), (3, 41, 33), np.array([0.03, 0.004, 0.006])
    params = method.draw_patch(keyed_rng(1), shape, 1, tuple(step))
    window = method.source_shape(params, shape)
    assert window[0] == 3 and window[1] > 41 and window[2] > 33
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=window), (0, 2, 2))
    image, _ = method.apply_patch(params, smooth[None].astype(np.float32), None, shape)
    angle = np.radians(params["rotation_deg"])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    out = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape[1:]), indexing="ij"))
    um = np.einsum("ij,jyx->iyx", turn, out * step[1:, None, None])
    place = um / step[1:, None, None] + (np.array(window[1:])[:, None, None] - 1) / 2
    for section, got in zip(smooth, image[0]):
        expected = ndimage.map_coordinates(section, place, order=1)
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("effect", ["rotation", "scale", "elastic"])
def test_sections_never_mix(effect):
    """Every section holds its own number; only cubes bend and scale along z."""
    method, shape = only(effect, elastic_px=(3.0, 3.0)), (12, 40, 40)
    for spacing, whole in ((SECTIONS, True), (None, True), (CUBES, effect == "rotation")):
        params = method.draw_patch(keyed_rng(2, effect), shape, 1, spacing)
        window = method.source_shape(params, shape)
        z = np.broadcast_to(np.arange(window[0])[:, None, None], window)
        image, labels = method.apply_patch(params, z[None].astype(np.float32), z, shape)
        same = np.array_equal(image[0], np.broadcast_to(np.arange(12)[:, None, None], shape))
        assert same is whole
        if whole:
            np.testing.assert_array_equal(labels, image[0])


def test_elastic_lengths_are_in_pixels_of_the_plane():
    method = only("elastic", elastic_knot_px=(30.0, 30.0), elastic_px=(6.0, 6.0))
    params = method.draw_patch(keyed_rng(0), (16, 32, 32), 1, (0.006, 0.004, 0.004))
    assert params["elastic"]["knot_px"] == pytest.approx([20, 30, 30])
    assert params["elastic"]["magnitude_px"] == pytest.approx([4, 6, 6])
    params = method.draw_patch(keyed_rng(0), (16, 32, 32), 1, SECTIONS)
    assert params["elastic"]["knot_px"][0] is None and params["elastic"]["magnitude_px"][0] == 0


def test_a_slip_moves_one_section_and_a_translation_all_from_one_on():
    for op, method in (("slip", only("slip")), ("translation", only("translation"))):
        seen = set()
        for item in range(40):
            params, ids, image, labels = twin(method, item=item)
            (step,) = params["misalignment"]
            assert step["op"] == op
            dy, dx = step["shift_px"]
            assert 1 <= round(np.hypot(dy, dx)) <= 17 and (dy or dx)
            seen.add(step["section"])
            ey, ex = (ids.shape[1] - 40) // 2, (ids.shape[2] - 40) // 2
            assert (ey, ex) == (abs(dy), abs(dx))
            for z in range(8):
                here = z == step["section"] if op == "slip" else z >= step["section"]
                y, x = (ey - dy, ex - dx) if here else (ey, ex)
                expected = ids[z, y : y + 40, x : x + 40]
                np.testing.assert_array_equal(labels[z], expected)
                np.testing.assert_array_equal(image[z], expected)
        assert seen == set(range(8)) - ({0} if op == "translation" else set())


def test_misaligned_and_turned_at_once_stay_in_register():
    method = only("slip", "translation", "rotation", "flip", "transpose")
    shape = (6, 64, 64)
    params = method.draw_patch(keyed_rng(5), shape, 1, SECTIONS)
    window = method.source_shape(params, shape)
    blobs = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=window), (0, 6, 6))
    ids = (blobs > 0).astype(np.int32) + 1
    image, labels = method.apply_patch(params, ids[None].astype(np.float32), ids, shape)
    away = np.abs(image[0] - 1.5) > 0.35
    assert away.mean() > 0.8
    np.testing.assert_array_equal(labels[away], np.rint(image[0][away]))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
@pytest.mark.parametrize("forgotten", [False, True])
def test_missing_sections(forgotten, dtype):
    hows = set()
    for item in range(40):
        method = only("missing", missing_ignore=forgotten, missing_sections=(1, 3))
        params = method.draw_patch(keyed_rng(0, item), SHAPE, 1, SECTIONS)
        (step,) = params["image"]
        image, ids = window_of(method, params, SHAPE, dtype)
        got, labels = method.apply_patch(params, image, ids, SHAPE)
        gone = np.zeros(8, bool)
        gone[step["sections"]] = True
        assert 1 <= gone.sum() == len(step["sections"]) <= 3
        np.testing.assert_array_equal(got[0][~gone], image[0][~gone])
        np.testing.assert_array_equal(labels[~gone], ids[~gone])
        lost = (-1 if dtype == np.int32 else 0) if forgotten else ids[gone]
        np.testing.assert_array_equal(labels[gone], np.broadcast_to(lost, labels[gone].shape))
        for z, how in zip(step["sections"], step["fill"]):
            hows.add(how)
            if how == "noise":
                assert abs(got[0, z].std() - image.std()) < 0.1 and abs(got[0, z].mean()) < 0.15
                assert not np.array_equal(got[0, z], image[0, z])
            else:
                value = image.min() if how == "black" else image.mean()
                np.testing.assert_allclose(got[0, z], value, atol=1e-5)
    assert hows == {"black", "mean", "noise"}
    for depth in (2, 3):
        method = only("missing", missing_sections=(9, 9))
        (step,) = method.draw_patch(keyed_rng(0), (depth, 8, 8), 1, SECTIONS)["image"]
        assert len(step["sections"]) == depth - 1


@pytest.mark.parametrize("box", [0.0, 1.0])
def test_blur(box):
    for item in range(20):
        method = only("blur", blur_box_p=box)
        params = method.draw_patch(keyed_rng(0, item), SHAPE, 1, SECTIONS)
        image, ids = window_of(method, params, SHAPE)
        got, labels = method.apply_patch(params, image, ids, SHAPE)
        assert np.shares_memory(labels, ids)
        (step,) = params["image"]
        sigma = step["sigma_px"][0]
        where = tuple(slice(*side) for side in step["box"])
        expected = image[0].copy()
        soft = ndimage.gaussian_filter(image[0], (0, sigma, sigma), mode="nearest")
        expected[where] = soft[where]
        np.testing.assert_allclose(got[0], expected, atol=1e-5)
        assert not np.array_equal(got, image)
        inside = np.zeros(SHAPE, bool)
        inside[where] = True
        np.testing.assert_array_equal(got[0][~inside], image[0][~inside])
        assert 1 <= step["box"][0][1] - step["box"][0][0] <= 3
        assert (step["box"][1:] == [[0, 40], [0, 40]]) is (box == 0)


def test_boxes_cut_out():
    method = only("cutout", cutout_px=(10.0, 16.0))
    for item in range(20):
        params = method.draw_patch(keyed_rng(0, item), SHAPE, 1, SECTIONS)
        image, ids = window_of(method, params, SHAPE)
        got, labels = method.apply_patch(params, image, ids, SHAPE)
        assert np.shares_memory(labels, ids)
        (step,) = params["image"]
        inside = np.zeros(SHAPE, bool)
        for box, how in zip(step["boxes"], step["fill"]):
            (z0, z1), *plane = box
            # Ten to sixteen pixels of 4 nm are one or two sections of 40 nm.
            assert 1 <= z1 - z0 <= 2 and all(10 <= b - a <= 16 for a, b in plane)
            inside[tuple(slice(*side) for side in box)] = True
            assert how in ("mean", "noise")
        assert 1 <= len(step["boxes"]) <= 4
        np.testing.assert_array_equal(got[0][~inside], image[0][~inside])
        assert (got[0][inside] != image[0][inside]).all()


@pytest.mark.parametrize("effect", ["contrast", "brightness", "gamma"])
@pytest.mark.parametrize("section", [False, True])
def test_intensity(effect, section):
    name = f"section_{effect}" if section else effect
    method = only(name)
    params = method.draw_patch(keyed_rng(3, name), SHAPE, 1, SECTIONS)
    image, ids = window_of(method, params, SHAPE)
    got, labels = method.apply_patch(params, image, ids, SHAPE)
    assert np.shares_memory(labels, ids)
    (step,) = params["image"]
    per = (1, 2) if section else None
    old, new = image[0].astype(float), got[0].astype(float)

    def column(value):
        return np.reshape(value, (8, 1, 1)) if section else value

    low, high = (f(old, axis=per, keepdims=section) for f in (np.min, np.max))
    mean, std = (f(old, axis=per, keepdims=section) for f in (np.mean, np.std))
    if effect == "contrast":
        expected = np.clip((old - mean) * column(step["factor"]) + mean, low, high)
    elif effect == "brightness":
        expected = old + column(step["shift_std"])
    else:
        unit = (high - old if step["invert"] else old - low) / (high - low)
        power = unit ** column(step["exponent"])
        power = (power - power.mean(per, keepdims=section)) / power.std(per, keepdims=section)
        expected = (-power if step["invert"] else power) * std + mean
    np.testing.assert_allclose(new, expected, atol=2e-4)
    assert np.abs(new - old).max() > 0.02
    if section:
        key = {"contrast": "factor", "brightness": "shift_std", "gamma": "exponent"}[effect]
        assert len(set(step[key])) == 8


def test_noise():
    method = only("noise", noise_std=(0.1, 0.2))
    params = method.draw_patch(keyed_rng(3), SHAPE, 2, SECTIONS)
    image, ids = window_of(method, params, SHAPE)
    got, labels = method.apply_patch(params, np.concatenate([image, image]), ids, SHAPE)
    assert np.shares_memory(labels, ids)
    rest, (step,) = got - image, params["image"]
    for channel in rest:
        assert abs(channel.std() / step["std"] - 1) < 0.03 and abs(channel.mean()) < 0.01
    assert abs(np.corrcoef(rest[0].ravel(), rest[1].ravel())[0, 1]) < 0.05


def test_channels_beyond_those_named_only_move():
    method = EM(**dict.fromkeys(SWITCHES, 1.0))
    params = method.draw_patch(keyed_rng(0), SHAPE, 1, SECTIONS)
    image, ids = window_of(method, params, SHAPE)
    both = np.concatenate([image, image])
    got, _ = method.apply_patch(params, both, ids, SHAPE)
    still, _ = method.apply_patch({**params, "image": []}, image, ids, SHAPE)
    np.testing.assert_array_equal(got[1], still[0])
    assert not np.allclose(got[0], got[1])


def test_faults_of_sections_are_rare_where_there_are_none():
    faults = ("slip", "translation", "missing", "blur", "section_gamma")
    method = only(*faults)

    def share(method, spacing):
        drawn = [method.draw_patch(keyed_rng(0, i), SHAPE, 1, spacing) for i in range(300)]
        return sum(len(p["misalignment"]) + len(p["image"]) for p in drawn) / 300 / len(faults)

    assert share(method, SECTIONS) == share(method, None) == 1.0
    assert 0.07 < share(method, CUBES) < 0.13
    assert share(only(*faults, isotropic_sections=0.0), CUBES) == 0.0
    ids = only("slip", "translation", "missing").draw_patch(keyed_rng(0), (1, 9, 9), 1, SECTIONS)
    assert ids["misalignment"] == [] and ids["image"] == []


def test_probabilities_are_kept():
    method, count = EM(), 1500
    drawn = [method.draw_patch(keyed_rng(0, i), SHAPE, 1, SECTIONS) for i in range(count)]
    seen = {
        "rotation_p": sum(p["rotation_deg"] != 0 for p in drawn),
        "scale_p": sum(p["scale"] != 1 for p in drawn),
        "elastic_p": sum(p["elastic"] is not None for p in drawn),
        "flip_p": sum("x" in p["flip"] for p in drawn),
    }
    for name in ("slip", "translation"):
        seen[f"{name}_p"] = sum(any(s["op"] == name for s in p["misalignment"]) for p in drawn)
    for name in ("missing", "blur", "cutout", "noise"):
        seen[f"{name}_p"] = sum(any(s["op"] == name for s in p["image"]) for p in drawn)
    for name, hits in seen.items():
        p = getattr(method, name)
        assert abs(hits / count - p) < 4 * np.sqrt(p * (1 - p) / count), name
