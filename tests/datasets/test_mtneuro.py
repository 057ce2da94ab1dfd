"""MTNeuro from a made-up volume of its extent: coordinates, codes, versions, guards.

The cubes lie where they lie in the paper, all 360 slices of them, but are 8 x 8 voxels wide.
One file, because every test needs the same volume.
"""

from __future__ import annotations

import itertools
import json
from importlib import resources

import numpy as np
import pytest
import yaml
from fake_bossdb import FakeBoss, gray, hashed, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.core import DataError, RecipeError
from brodmann.datasets import download
from brodmann.datasets import mtneuro as room
from brodmann.datasets.bossdb_fetch import fetch_cubes
from brodmann.datasets.bossdb_get import get_boss, is_boss
from brodmann.datasets.bossdb_volume import read_boss_volume
from brodmann.datasets.cubes import MICROSTRUCTURE, Box
from brodmann.datasets.mtneuro import fetch_mtneuro, mtneuro, mtneuro_volume
from brodmann.datasets.mtneuro_checks import (
    CATEGORIES,
    CLASSES,
    FRACTIONS,
    check_classes,
    check_guards,
    check_regions,
)
from brodmann.datasets.registry import DATASETS

pytest.importorskip("intern")

REAL = mtneuro_volume()
ENDS = {"ZI": 2056, "VP": 3320, "STR": 4300, "CTX": 5805}
"""Where each region ends along x in the made-up volume."""
SIDE = 8


def region_codes(z, y, x):
    """Regions side by side along x, with neighbours' codes mixed in, between z 109 and 459."""
    rare = hashed(z, y, x, 3) % 10 < 3
    code = np.select(
        [x < ENDS["ZI"], x < ENDS["VP"], x < ENDS["STR"]],
        [np.where(rare, 7, 5), np.where(rare, 3, 4), np.where(rare, 8, 2)],
        np.where(rare, 8, 1),
    )
    return np.where((z >= 109) & (z <= 459), code, 0)


def pixel_ids(z, y, x, order=(0, 1, 2, 3)):
    """Classes by chance, as often as published; id order[k] stands for class k."""
    chance = hashed(z, y, x, 11) / 2**32
    ids = np.zeros(np.broadcast(z, y, x).shape, np.int64)
    low = 0
    for region, high in ENDS.items():
        edges = np.cumsum(np.array(FRACTIONS[region]) / 100)[:3]
        class_ = np.searchsorted(edges, chance, side="right")
        ids = np.where((x >= low) & (x < high), np.asarray(order)[class_], ids)
        low = high
    return ids


def channels(regions=region_codes, pixels=pixel_ids):
    return {
        "prasad/prasad2020/image": ("uint8", gray),
        "prasad/prasad_analysis/roi_labels": ("uint64", regions),
        "prasad/prasad_analysis/pixel_labels": ("uint64", pixels),
    }


def narrow(volume, side=SIDE):
    cubes = {
        name: cube.model_copy(
            update={"y": (cube.y[0], cube.y[0] + side), "x": (cube.x[0], cube.x[0] + side)}
        )
        for name, cube in volume.cubes.items()
    }
    return volume.model_copy(update={"cubes": cubes})


@pytest.fixture(autouse=True)
def little(monkeypatch):
    monkeypatch.setattr(room, "mtneuro_volume", lambda: narrow(REAL))
    monkeypatch.setattr(download, "WAIT_S", 0.01)
    monkeypatch.delenv("INTERN_TOKEN", raising=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All 16 cubes, fetched once."""
    folder = tmp_path_factory.mktemp("mtneuro")
    with serving(FakeBoss(channels(), REAL.extent)) as boss:
        fetch_cubes(narrow(REAL), folder, host=boss.host)
    return folder


# Tables A1 and A2: y and x of each region in cubes A, B, C, D.
TABLES = {
    "ctx": [(900, 4600), (388, 5312), (644, 5056), (400, 4600)],
    "str": [(500, 3700), (912, 3828), (400, 3344), (244, 3800)],
    "vp": [(850, 3063), (850, 2551), (950, 2151), (694, 2295)],
    "zi": [(650, 1543), (906, 1287), (906, 1031), (650, 1799)],
}


def test_coordinates_channels_and_codes_are_those_of_the_paper():
    assert len(REAL.cubes) == 16 and REAL.extent == (720, 1420, 5805)
    for region, corners in TABLES.items():
        for letter, (y, x) in zip("ABCD", corners, strict=True):
            cube = REAL.cubes[f"{region}-{letter}"]
            assert cube.box == ((110, 470), (y, y + 256), (x, x + 256))
            assert cube.region == region.upper()
            dense = "microstructure" in REAL.kinds(f"{region}-{letter}")
            assert dense == (letter == "A")
    assert REAL.image == "bossdb://prasad/prasad2020/image"
    assert REAL.regions.channel == "bossdb://prasad/prasad_analysis/roi_labels"
    assert REAL.microstructure.channel == "bossdb://prasad/prasad_analysis/pixel_labels"
    assert REAL.microstructure.label_map == MICROSTRUCTURE
    assert REAL.regions.ids == tuple(range(9)) and REAL.spacing_um == (1.17,) * 3
    names = [REAL.regions.label_map[i].acronym for i in range(1, 9)]
    assert names == ["CTX", "STR", "TRN", "VP", "ZI", "IC", "HY", "CC"]
    # The means of the four rows are the paper's last row.
    total = np.mean(list(FRACTIONS.values()), axis=0)
    assert np.allclose(total, [55.13, 3.74, 6.36, 34.77], atol=0.011)


def test_the_benchmark_has_the_same_cubes():
    text = resources.files("brodmann").joinpath("bench/mtneuro/benchmark.yaml").read_text("utf-8")
    told = yaml.safe_load(text)["data"]["cubes"]
    assert {n: (c["region"], *c["y"], *c["x"]) for n, c in told.items()} == {
        n: (c.region, *c.y, *c.x) for n, c in REAL.cubes.items()
    }


def test_real_coordinates_through_intern(tmp_path):
    """A few whole slices at the edge of the region channel, where they really lie."""
    cubes = {
        name: REAL.cubes[name].model_copy(update={"z": (457, 463)}) for name in ("vp-A", "zi-D")
    }
    volume = REAL.model_copy(update={"cubes": cubes})
    with serving(FakeBoss(channels(), REAL.extent)) as boss:
        result = fetch_cubes(volume, tmp_path, host=boss.host)
        assert result["arrays"] == 5 and not result["notes"]
        for name, cube in cubes.items():
            opened = room.open_cubes(volume, tmp_path)[name]()
            box = tuple(itertools.chain(*cube.box))
            for kind, channel in (
                ("image", "prasad/prasad2020/image"),
                ("regions", "prasad/prasad_analysis/roi_labels"),
            ):
                truth = boss.cutout(channel, box)
                assert (getattr(opened, kind).numpy() == truth).all()
            assert opened.image.shape == (6, 256, 256)
            assert not opened.regions.numpy()[3:].any() and opened.regions.numpy()[:3].all()


def test_fetching_checks_what_the_channels_mean(tmp_path):
    with serving(FakeBoss(channels(), REAL.extent)) as boss:
        seen = []
        result = fetch_mtneuro(
            tmp_path, lambda *a: seen.append(a), host=boss.host, cubes=["ctx-A", "zi-C"]
        )
        assert result["arrays"] == 5 and seen
        again = fetch_mtneuro(tmp_path, host=boss.host, cubes=["ctx-A"])
        assert (again["fetched"], again["checked"]) == (0, 3)
    with serving(FakeBoss(channels(), (469, 1420, 5805))) as boss:
        with pytest.raises(DataError, match=r"past the edge.*z 110:470.*z 0:469"):
            fetch_mtneuro(tmp_path / "x", host=boss.host)
        assert not boss.asked


@pytest.mark.parametrize("order", [o for o in itertools.permutations((1, 2, 3)) if o != (1, 2, 3)])
def test_permuted_ids_fail_loudly_and_are_named(tmp_path, order):
    wrong = channels(pixels=lambda z, y, x: pixel_ids(z, y, x, (0, *order)))
    with (
        serving(FakeBoss(wrong, REAL.extent)) as boss,
        pytest.raises(DataError, match="do not mean what the paper says") as caught,
    ):
        fetch_mtneuro(tmp_path, host=boss.host, cubes=["ctx-A", "str-A", "vp-A", "zi-A"])
    for class_, id_ in enumerate(order, 1):
        assert (f"id {id_} is {CLASSES[class_]}" in str(caught.value)) == (id_ != class_)
    # They do not pass later either; regions need no microstructure.
    parts = {"train": [{"cube": "str-A", "z": [110, 120]}]}
    with pytest.raises(DataError, match="do not mean"):
        mtneuro(tmp_path, "attributes", parts=parts)
    assert len(mtneuro(tmp_path, "roi", parts=parts)) == 10


@given(
    order=st.permutations((1, 2, 3)),
    regions=st.lists(st.sampled_from(list(FRACTIONS)), min_size=1, unique=True),
    noise=st.integers(0, 2**31),
)
@settings(max_examples=150, deadline=None)
def test_only_the_published_numbering_passes(order, regions, noise):
    rng = np.random.default_rng(noise)
    counts = {}
    for region in regions:
        exact = np.array(FRACTIONS[region]) + rng.uniform(-0.3, 0.3, 4)
        by_id = np.zeros(4)
        by_id[[0, *order]] = np.clip(exact, 0, None)
        counts[region] = (by_id * 1000).astype(int)
    if tuple(order) == (1, 2, 3):
        check_classes(counts)
    else:
        with pytest.raises(DataError, match="do not mean what the paper says"):
            check_classes(counts)


def test_fractions_that_fit_no_numbering_are_refused():
    with pytest.raises(DataError, match=r"not those published \(STR\).*background 90.00 %"):
        check_classes({"CTX": [9300, 233, 464, 0], "STR": [9000, 500, 300, 200]})
    with pytest.raises(DataError, match="not those published"):
        check_classes({"CTX": [0, 0, 0, 0]})


def test_slices_of_another_region_are_refused(tmp_path):
    shifted = channels(regions=lambda z, y, x: region_codes(z, y, x - 1000))
    with (
        serving(FakeBoss(shifted, REAL.extent)) as boss,
        pytest.raises(DataError, match=r"not of the region.*ctx-A slice 110.*code 2 in"),
    ):
        fetch_mtneuro(tmp_path, host=boss.host, cubes=["ctx-A"])
    counts = np.array([[0, 6, 4], [9, 1, 0], [9, 1, 0]])
    check_regions("ctx-A", "CTX", 108, counts[[1, 0]])
    check_regions("ctx-A", "CTX", 459, counts[[0, 1]])
    with pytest.raises(DataError, match=r"ctx-A slice 459.*code 0 in 90%"):
        check_regions("ctx-A", "CTX", 458, counts)


def test_published_parts_and_corrected_ones(root):
    counts = {"v1": (269, 29, 50), "v2": (260, 30, 50)}
    for version, wanted in counts.items():
        data = mtneuro(root, "roi", version)
        assert tuple(len(data.splits[p]) for p in ("train", "validation", "test")) == tuple(
            4 * n for n in wanted
        )
        assert len(mtneuro(root, "microstructure", version, classes=4).splits["test"]) == 150
        assert len(mtneuro(root, "microstructure", version, classes=3).splits["test"]) == 200
        assert data.name == f"mtneuro-roi-{version}" and data.licence == "CC-BY-4.0"
    data = DATASETS["mtneuro"](root)
    assert data.subjects["vp-A-z0463"] == "vp-A"


def test_version_1_cannot_pass_085_and_version_2_can(root):
    for version, wanted in (("v1", 0.85), ("v2", 1.0)):
        test = mtneuro(root, "roi", version).split("test")
        hits = [sample.category == sample.meta["region"] for sample in test]
        assert np.mean(hits) == wanted
    test = mtneuro(root, "roi", "v1")
    assert test["zi-A-z0459"].category == "ZI" and test["zi-A-z0460"].category == "CTX"


def test_stacks_by_version(root):
    """Release: each cube's stacks begin anew, and the last of 5 or 2 slices runs on."""
    data = mtneuro(root, "microstructure", "v1", classes=3, depth=8)
    assert {part: len(names) for part, names in data.splits.items()} == {
        "train": 4 * 34 - 1,
        "validation": 4 * 4 - 1,
        "test": 4 * 7 - 1,
    }
    assert "ctx-A-z0374-0378+str-A-z0110-0112" in data.splits["train"]
    sample = data["ctx-A-z0468-0469+str-A-z0420-0425"]
    truth = pixel_ids(*np.ogrid[420:426, 500 : 500 + SIDE, 3700 : 3700 + SIDE])
    assert (sample.labels.numpy()[2:] == np.where(truth == 3, 0, truth)).all()
    data = mtneuro(root, "microstructure", "v2", classes=4, depth=8)
    assert {part: len(names) for part, names in data.splits.items()} == {
        "train": 3 * 32,
        "validation": 3 * 3,
        "test": 3 * 6,
    }
    assert not any("+" in name for name in data.names)
    assert data["vp-A-z0110-0117"].labels.spatial_shape == (8, SIDE, SIDE)


def test_labels_images_and_attributes_are_those_of_the_volume(root):
    box = np.ogrid[200:201, 650 : 650 + SIDE, 1543 : 1543 + SIDE]
    data = mtneuro(root, "microstructure", parts={"train": [{"cube": "zi-A", "z": [200, 201]}]})
    assert (data[0].image.numpy() == gray(*box)[0]).all()
    assert (data[0].labels.numpy() == pixel_ids(*box)[0]).all()
    assert data.label_map.class_names == ["background", "vessel", "cell", "axon"]
    assert data[0].category == "ZI" and data[0].image.spacing == (1.17, 1.17)
    parts = {"train": [{"cube": "zi-A", "z": [200, 201]}]}
    found = {
        version: mtneuro(root, "attributes", version, parts, downsample=2)[0].attributes
        for version in ("v1", "v2")
    }
    ids = pixel_ids(*box)[0]
    for version in found:
        assert found[version]["vessel_density"] == pytest.approx(np.mean(ids == 1))
        assert found[version]["axon_density"] == pytest.approx(np.mean(ids == 3))
    assert found["v1"]["cell_distance"] * 2 * 1.17 == pytest.approx(found["v2"]["cell_distance"])


TOUCHING = {("str-A", "str-D"), ("zi-A", "zi-D"), ("ctx-B", "ctx-C"), ("zi-B", "zi-C"), ("vp-B", "vp-D")}  # fmt: skip


def test_which_cubes_touch():
    """Every two cubes, all slices of both: only these are nearer than ten voxels."""
    near = set()
    for a, b in itertools.combinations(sorted(REAL.cubes), 2):
        try:
            check_guards(REAL, {"one": [Box(a, (110, 470))], "two": [Box(b, (110, 470))]}, 10)
        except RecipeError:
            near.add((a, b))
    assert near >= TOUCHING
    # The rest are never on two sides: both train, or both test.
    assert near - TOUCHING == {("zi-A", "zi-B"), ("vp-C", "vp-D")}


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_guards_in_space_are_proved(data):
    def span(size):
        a = data.draw(st.integers(0, 9))
        return (a, a + data.draw(st.integers(1, size)))

    boxes = {
        name: {"region": "CTX", "z": span(9), "y": span(9), "x": span(9)} for name in ("a", "b")
    }
    volume = read_boss_volume(
        {
            "name": "v",
            "spacing_um": [1, 1, 1],
            "image": "bossdb://a/b/c",
            "cubes": boxes,
        }
    )
    guard = data.draw(st.integers(1, 6))
    cells = [
        np.stack(np.meshgrid(*(np.arange(*cube[axis]) for axis in "zyx"), indexing="ij"), -1)
        .reshape(-1, 3)
        .astype(int)
        for cube in boxes.values()
    ]
    # Voxels between two voxels along the axis that parts them most.
    between = np.abs(cells[0][:, None] - cells[1][None]).max(-1).min() - 1
    parts = {name: [Box(name, volume.cubes[name].z)] for name in "ab"}
    if between >= guard:
        check_guards(volume, parts, guard)
    else:
        with pytest.raises(RecipeError, match="voxels apart"):
            check_guards(volume, parts, guard)


def test_version_2_refuses_parts_that_touch(root, monkeypatch):
    monkeypatch.setattr(room, "mtneuro_volume", lambda: REAL)
    touching = {
        "train": [{"cube": "str-A", "z": [110, 470]}],
        "test": [{"cube": "str-D", "z": [110, 470]}],
    }
    with pytest.raises(RecipeError, match=r"fewer than 10 voxels.*str-A.*str-D.*they touch"):
        mtneuro(root, parts=touching)
    near = {
        "train": [{"cube": "ctx-A", "z": [110, 379]}],
        "test": [{"cube": "ctx-A", "z": [380, 409]}],
    }
    with pytest.raises(RecipeError, match=r"found 1 voxels"):
        mtneuro(root, parts=near)
    monkeypatch.setattr(room, "mtneuro_volume", lambda: narrow(REAL))
    assert len(mtneuro(root, version="v1", parts=near)) == 298
    assert len(mtneuro(root, parts=near, guard=1)) == 298
    whole = {part: [{"cube": "ctx-A", "z": [110, 470]}] for part in ("train", "test")}
    with pytest.raises(RecipeError, match="overlap"):
        mtneuro(root, parts=whole, guard=0)
    assert len(mtneuro(root, parts=whole, guard=None)) == 360


def test_options_that_are_none(root, tmp_path):
    for wrong in (
        {"task": "roi-c1"},
        {"version": "v3"},
        {"classes": 5},
        {"depth": 0},
        {"parts": {"train": [{"cube": "ctx-E", "z": [110, 120]}]}},
        {"parts": {"train": "ctx-A"}},
    ):
        with pytest.raises(RecipeError):
            mtneuro(root, **wrong)
    with pytest.raises(
        RecipeError, match=r"slices past the end.*ctx-A \[460, 471\].*holds \[110, 470\]"
    ):
        mtneuro(root, parts={"t": [{"cube": "ctx-A", "z": [460, 471]}]})
    with pytest.raises(DataError, match="not fetched"):
        mtneuro(tmp_path)
    parts = {"t": [{"cube": "ctx-B", "z": [110, 111]}]}
    with pytest.raises(DataError, match="no microstructure"):
        mtneuro(root, "microstructure", parts=parts)[0]


def test_data_get_takes_the_name_or_a_description(tmp_path, monkeypatch):
    monkeypatch.setattr(
        room,
        "mtneuro_volume",
        lambda: narrow(REAL).model_copy(update={"cubes": {"ctx-A": narrow(REAL).cubes["ctx-A"]}}),
    )
    assert is_boss("mtneuro") and not is_boss("cremi")
    with serving(FakeBoss(channels(), REAL.extent)) as boss:
        got = get_boss("mtneuro", tmp_path / "a", boss.host)
        assert (got["files"], got["fetched"], got["checksums"]) == (3, 3, "recorded")
        assert got["bytes"] > 20000 and got["licence"] == "CC-BY-4.0"
        again = get_boss("mtneuro", tmp_path / "a", boss.host)
        assert (again["fetched"], again["checksums"]) == (0, "verified")
        described = tmp_path / "mine.yaml"
        tree = {
            "name": "mine",
            "spacing_um": [1.17, 1.17, 1.17],
            "image": REAL.image,
            "cubes": {"a": {"region": "CTX", "z": [0, 4], "y": [0, 8], "x": [0, 8]}},
        }
        described.write_text(json.dumps(tree))
        assert get_boss(str(described), tmp_path / "b", boss.host)["files"] == 1


def test_categories_are_those_of_the_release():
    assert sorted(code for codes in CATEGORIES.values() for code in codes) == list(range(1, 9))
