"""What holds for every mixing method, in 2D and 3D, for any channels and types."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mixtures import PRIMARY, TREE, brain, pool
from scipy import ndimage

from brodmann.augment import CannotDraw, make_augmentation
from brodmann.augment.carvemix import carved
from brodmann.augment.expand import expand, make_copy, replay
from brodmann.augment.mixing import OnGrid
from brodmann.augment.regions import Regions, boxes, outline
from brodmann.core import DataError, Dataset, Label, LabelMap, RecipeError, Volume, keyed_rng
from brodmann.datasets.folder import read_folder

METHODS = ("mixup", "cutmix", "carvemix", "prmix", "morph")
SHAPES = {
    2: [(40, 60), (44, 56), (40, 60), (37, 61)],
    3: [(12, 16, 20), (13, 16, 18), (12, 17, 20), (12, 16, 20)],
}


def made(name, data, seed=0, target="s0", **options):
    method = make_augmentation(name, options)
    params = method.draw(keyed_rng(seed, "test"), data[target], data)
    assert json.loads(json.dumps(params)) == params
    return method, params, method.apply(params, data[target], data)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    ndim=st.sampled_from([2, 2, 3]),
    channels=st.integers(1, 3),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    opening=st.sampled_from([None, 0.0]),
)
def test_what_every_mixture_keeps(name, seed, ndim, channels, dtype, opening):
    data = pool(ndim, channels=channels, dtype=dtype, shapes=SHAPES[ndim])
    method, params, mixed = made(name, data, seed, opening_um=opening)
    target = data["s0"]
    assert mixed.image.shape == target.image.shape and mixed.image.dtype == dtype
    assert mixed.labels.shape == target.labels.shape and mixed.image.spacing == (25.0,) * ndim
    tree = method.tree(data.label_map)
    for labels in (mixed.labels, mixed.labels2):
        if labels is not None:
            assert set(np.unique(labels.numpy()).tolist()) <= tree.ids_allowed
    again = method.apply(params, data["s0"], data)
    assert again.image.numpy().tobytes() == mixed.image.numpy().tobytes()
    assert again.labels.numpy().tobytes() == mixed.labels.numpy().tobytes()
    assert params["sources"] and target.name not in params["sources"]
    # The pool is as it was.
    fresh = pool(ndim, channels=channels, dtype=dtype, shapes=SHAPES[ndim])
    assert all((data[n].image.numpy() == fresh[n].image.numpy()).all() for n in data.names)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    ndim=st.sampled_from([2, 2, 3]),
    bare=st.sampled_from(["ignore", "keep", "background"]),
    oaa=st.booleans(),
    fit=st.booleans(),
)
def test_prmix_touches_only_what_was_cut_or_pasted(seed, ndim, bare, oaa, fit):
    data = pool(ndim, shapes=SHAPES[ndim])
    _, params, mixed = made("prmix", data, seed, bare=bare, oaa=oaa, fit=fit, regions=[1, 3])
    target = data["s0"]
    ids = target.labels.numpy()
    primary = np.vectorize(lambda i: PRIMARY.get(i, 0))(ids)
    reach = np.zeros(ids.shape, bool)
    for region in params["regions"]:
        reach |= primary == region["id"]
        box = tuple(slice(max(a, 0), max(b, 0)) for a, b in region["to"])
        reach[box] = True
    away = ~reach
    assert (mixed.labels.numpy()[away] == ids[away]).all()
    assert (mixed.image.numpy()[:, away] == target.image.numpy()[:, away]).all()
    # Within the boxes too: labels that differ are pasted regions, or bare.
    drawn = {region["id"] for region in params["regions"]}
    now = mixed.labels.numpy()
    allowed = {i for i, p in PRIMARY.items() if p in drawn}
    changed = now != ids
    if bare == "ignore":
        allowed.add(max(label.id for label in TREE) + 1)
    if bare == "background":
        allowed.add(0)
    unopened = made("prmix", data, seed, bare=bare, oaa=oaa, fit=fit, regions=[1, 3], opening_um=0)[
        2
    ]
    raw = unopened.labels.numpy()
    assert set(np.unique(raw[raw != ids])) <= allowed
    touched = (mixed.image.numpy() != target.image.numpy()).any(0)
    assert np.isin(raw[touched], list(allowed)).all()
    assert changed.any()


def test_prmix_pastes_image_and_labels_by_one_transform():
    data = pool(2)
    _, params, mixed = made("prmix", data, 3, opening_um=0, match_stain=False, regions=[2, 3])
    grey = {11: 60, 12: 90, 21: 120, 31: 150, 32: 180}
    now, ids = mixed.labels.numpy(), data["s0"].labels.numpy()
    for region in params["regions"]:
        seed = int(region["source"][1:])
        own = np.isin(now, [i for i, p in PRIMARY.items() if p == region["id"]]) & (now != ids)
        for id_ in np.unique(now[own]):
            inside = ndimage.binary_erosion(own & (now == id_))
            if inside.sum() > 5:
                mean = mixed.image.numpy()[:, inside].mean(1)
                assert np.abs(mean - grey[int(id_)] - 10 * seed).max() < 6
    assert {r["source"] for r in params["regions"]} == set(params["sources"])


def test_prmix_measures_the_overlap_that_it_reports():
    data = pool(2)
    for seed in range(12):
        _, params, mixed = made(
            "prmix", data, seed, opening_um=0, regions=[1, 1], tau=0, search=0.1, avoid="complement"
        )
        (region,) = params["regions"]
        ids = data["s0"].labels.numpy()
        pasted = mixed.labels.numpy() != ids
        own = np.vectorize(lambda i: PRIMARY.get(i, 0))(ids) == region["id"]
        # Pasted over others, within the frame; the rest hangs over the edge.
        inside = int((pasted & ~own).sum())
        assert inside <= region["overlap_after"] <= region["overlap_before"]
        assert region["area"] >= region["overlap_after"]


def test_fitted_regions_take_the_place_and_size_of_the_targets_own():
    target = brain("s0", (80, 120), 0)
    small = brain("s1", (40, 60), 1)
    far = np.zeros((80, 120), np.uint16)
    far[5:45, 55:115] = small.labels.numpy()
    image = np.zeros((2, 80, 120), np.uint16)
    image[:, 5:45, 55:115] = small.image.numpy()
    grid = (25.0, 25.0)
    made_far = small.with_(image=Volume(image, "cyx", grid), labels=Volume(far, "yx", grid))
    pair = {"s0": target, "s1": made_far}
    data = Dataset("pair", list(pair), pair.__getitem__, TREE)
    still = {"rotation_deg": 0, "translation": 0, "scale": [1.0, 1.0], "oaa": False}
    for seed in range(6):
        _, params, mixed = made(
            "prmix", data, seed, fit=True, regions=[1, 1], opening_um=0, **still
        )
        (region,) = params["regions"]
        own = np.isin(target.labels.numpy(), [i for i, p in PRIMARY.items() if p == region["id"]])
        new = np.isin(mixed.labels.numpy(), [i for i, p in PRIMARY.items() if p == region["id"]])
        assert new.sum() == pytest.approx(own.sum(), rel=0.15)
        shift = np.argwhere(new).mean(0) - np.argwhere(own).mean(0)
        assert np.abs(shift).max() < 2


def test_mixup_is_a_weighted_mean_with_both_label_maps():
    data = pool(2, dtype=np.float32)
    _, params, mixed = made("mixup", data, 1, match_stain=False, opening_um=0)
    source = data[params["sources"][0]]
    w = params["weight"]
    expected = w * data["s0"].image.numpy() + (1 - w) * source.image.numpy()
    np.testing.assert_allclose(mixed.image.numpy(), expected, rtol=1e-5)
    assert (mixed.labels.numpy() == data["s0"].labels.numpy()).all()
    assert (mixed.labels2.numpy() == source.labels.numpy()).all() and mixed.weight == w


def test_cutmix_pastes_its_box_and_nothing_else():
    data = pool(2)
    shares = []
    for seed in range(60):
        _, params, mixed = made("cutmix", data, seed, match_stain=False, opening_um=0)
        box = tuple(slice(a, b) for a, b in params["box"])
        source = data[params["sources"][0]]
        expected = data["s0"].image.numpy().copy()
        expected[(slice(None), *box)] = source.image.numpy()[(slice(None), *box)]
        assert (mixed.image.numpy() == expected).all()
        expected = data["s0"].labels.numpy().copy()
        expected[box] = source.labels.numpy()[box]
        assert (mixed.labels.numpy() == expected).all()
        shares.append(expected[box].size / expected.size)
    assert 0.2 < np.mean(shares) < 0.5 and np.ptp(shares) > 0.5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3]))
def test_carvemix_carves_by_signed_distance(seed, ndim):
    rng = np.random.default_rng(seed)
    numbers = (ndimage.gaussian_filter(rng.random([14] * ndim), 1.5) > 0.5).astype(np.uint8)
    if not 0 < numbers.sum() < numbers.size:
        return
    spacing = tuple(rng.uniform(0.5, 3, ndim).tolist())
    region = numbers == 1
    outward = ndimage.distance_transform_edt(~region, sampling=spacing)
    wide = ndimage.distance_transform_edt(np.pad(region, 1), sampling=spacing)
    signed = outward - wide[(slice(1, -1),) * ndim]
    level = float(rng.uniform(-1, 1) * wide.max())
    box, mask = carved(numbers, 1, boxes(numbers)[1], level, spacing)
    whole = np.zeros(numbers.shape, bool)
    whole[box] = mask
    sharp = np.abs(signed - level) > 1e-9
    assert (whole == (signed <= level))[sharp].all()


def test_stains_are_matched_over_annotated_tissue():
    data = pool(2, dtype=np.float32)
    _, params, mixed = made("cutmix", data, 5)
    ((gain, offset), _) = params["stain"][0]
    source, target = data[params["sources"][0]], data["s0"]
    tissue = source.labels.numpy() > 0
    values = source.image.numpy()[0][tissue] * gain + offset
    own = target.image.numpy()[0][target.labels.numpy() > 0]
    assert values.mean() == pytest.approx(own.mean(), rel=1e-3)
    assert values.std() == pytest.approx(own.std(), rel=1e-3)
    assert mixed.image.dtype == np.float32


@pytest.mark.parametrize("name", METHODS)
def test_online_and_offline_give_the_same_bytes(name, tmp_path):
    data = pool(2)
    method = make_augmentation(name)
    out = expand(data, method, tmp_path / "x", factor=2, seed=4, workers=2)
    read = read_folder(out)
    fitted = method.fitted(data, tmp_path / "elsewhere")
    assert len(read.splits["train-made"]) == 8
    for name_made in read.splits["train-made"]:
        target, _, copy = name_made.split("-")
        online = make_copy(fitted, data, target, int(copy), 4)
        offline = read[name_made]
        again = replay(out / "provenance" / f"{name_made}.json", data)
        for one in (online, again):
            assert one.name == name_made and one.weight == offline.weight
            assert one.image.numpy().tobytes() == offline.image.numpy().tobytes()
            assert (one.labels.numpy() == offline.labels.numpy()).all()
            if offline.labels2 is not None:
                assert (one.labels2.numpy() == offline.labels2.numpy()).all()
    assert read.label_map == method.tree(data.label_map)
    if name == "prmix":
        assert list((out / "fitted").glob("overlap-*.npy"))


@pytest.mark.parametrize("name", METHODS)
def test_bad_pools_in_clear_words(name, tmp_path):
    alone = pool(2, count=1)
    with pytest.raises(CannotDraw, match=r"no other sample.*s0.*label a second one"):
        made(name, alone)
    with pytest.raises(DataError, match="no other sample"):
        expand(alone, make_augmentation(name), tmp_path / "x", factor=2, seed=0)
    odd = {"s0": brain("s0", (40, 60), 0), "s1": brain("s1", (40, 60), 1, channels=1)}
    mixed = Dataset("odd", list(odd), odd.__getitem__, TREE)
    with pytest.raises(CannotDraw, match="differ in channels"):
        made(name, mixed)
    bare = {"s0": brain("s0", (40, 60), 0), "s1": brain("s1", (40, 60), 1).with_(labels=None)}
    with pytest.raises(DataError, match="labels"):
        made(name, Dataset("bare", list(bare), bare.__getitem__, TREE))
    data = pool(2)
    method, params, _ = made(name, data)
    other = brain("s0", (20, 30), 0)
    with pytest.raises(DataError, match="another shape"):
        method.apply(params, other, data)


@pytest.mark.parametrize("name", ["carvemix", "prmix"])
def test_regions_that_nobody_else_has(name):
    lonely = {
        "s0": brain("s0", (40, 60), 0, without=(11, 12, 21)),
        "s1": brain("s1", (40, 60), 1, without=(31, 32)),
        "s2": brain("s2", (40, 60), 2, without=(31, 32)),
    }
    data = Dataset("lonely", list(lonely), lonely.__getitem__, TREE)
    with pytest.raises(CannotDraw, match="no primary region"):
        made(name, data)
    # A region absent from every source is never drawn; the shared ones are.
    some = lonely | {"s0": brain("s0", (40, 60), 0)}
    data = Dataset("some", list(some), some.__getitem__, TREE)
    for seed in range(8):
        _, params, _ = made(name, data, seed)
        drawn = [r["id"] for r in params["regions"]] if name == "prmix" else [params["region"]]
        assert drawn and 3 not in drawn
    empty = lonely | {"s0": brain("s0", (40, 60), 0, without=tuple(PRIMARY))}
    data = Dataset("empty", list(empty), empty.__getitem__, TREE)
    with pytest.raises(CannotDraw, match=r"no (labelled tissue|primary region)"):
        made(name, data)


def test_a_section_without_tissue_is_skipped_and_counted(tmp_path):
    some = {f"s{i}": brain(f"s{i}", (40, 60), i) for i in range(3)}
    some["s1"] = brain("s1", (40, 60), 1, without=tuple(PRIMARY))
    data = Dataset("some", list(some), some.__getitem__, TREE, splits={"train": list(some)})
    out = expand(data, make_augmentation("prmix"), tmp_path / "x", factor=2, seed=0)
    names = read_folder(out).splits["train-made"]
    assert not [n for n in names if n.startswith("s1")] and len(names) >= 2
    record = json.loads((out / "provenance" / "s1-prmix-000.json").read_text("utf-8"))
    assert "no labelled tissue" in record["skipped"]


def test_a_region_at_the_border_stays_in_the_frame():
    at_edge = brain("s0", (40, 60), 0)
    labels = at_edge.labels.numpy().copy()
    labels[:12, :20] = 31
    sources = {"s0": at_edge.with_(labels=Volume(labels, "yx", (25, 25)))}
    sources |= {f"s{i}": sources["s0"].with_(name=f"s{i}") for i in (1, 2)}
    data = Dataset("edge", list(sources), sources.__getitem__, TREE)
    for seed in range(10):
        _, params, mixed = made("prmix", data, seed, translation=0.3, oaa=False, regions=[3, 3])
        assert mixed.labels.shape == (40, 60) and len(params["regions"]) >= 1
    made("carvemix", data, 1)


def test_trees_in_words():
    with pytest.raises(DataError, match=r"unknown parent in the label tree.*Ventral.*99"):
        LabelMap([Label(3, "Ventral", "VP", 99)])
    flat = LabelMap([Label(i, str(i), str(i)) for i in range(1, 300)])
    with pytest.raises(DataError, match=r"1 to 250 primary regions.*299.*parent"):
        Regions(flat)
    with pytest.raises(DataError, match="label map"):
        Regions.of_pool(None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sources": 5}, "2, 3 or 4"),
        ({"regions": [4, 2]}, "fewest"),
        ({"hard_fraction": 1.5}, "0..1"),
        ({"tau": -0.1}, "share"),
        ({"avoid": "nothing"}, "one of"),
        ({"bare": "black"}, "one of"),
        ({"scale": [1.2, 0.8]}, "smallest"),
        ({"opening_um": -1}, "radius"),
        ({"source": 3}, "did you mean 'sources'"),
        ({"_scores": 3}, "unknown option"),
    ],
)
def test_bad_options_in_clear_words(options, words):
    with pytest.raises(RecipeError, match=words):
        make_augmentation("prmix", options)


def test_regions_of_wide_ids_and_ignore():
    tree = LabelMap(list(TREE), TREE.classes, ignore=2**31 - 1)
    regions = Regions(tree)
    ids = np.array([[0, 11, 32, 21, 2**31 - 1]], np.uint32)
    assert regions.of(ids).tolist() == [[0, 1, 3, 2, 255]]
    assert regions.of(np.array([0, 12], np.uint8)).tolist() == [0, 1]


def test_the_outline_fills_tracts_and_leaves_the_slide():
    numbers = np.zeros((200, 300), np.uint8)
    numbers[50:150, 60:240] = 1
    numbers[90:110, 100:200] = 0  # A ventricle.
    found = outline(numbers)
    assert found[100, 150] and not found[5, 5] and not found[180, 280]
    assert found.sum() == pytest.approx(100 * 180, rel=0.02)


def test_sources_of_another_spacing_and_size_are_laid_by_their_centres():
    target = brain("t", (40, 60), 0)
    coarse = brain("c", (20, 30), 0, spacing=(50.0, 50.0))
    view = OnGrid(coarse, target)
    assert view.shape == (40, 60) and view.offset == (0, 0)
    assert (view.labels == target.labels.numpy()).mean() > 0.8
    small = OnGrid(brain("s", (30, 40), 1), target)
    assert small.offset == (5, 10) and small.box == (slice(5, 35), slice(10, 50))
