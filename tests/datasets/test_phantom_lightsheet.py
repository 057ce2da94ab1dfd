"""Phantom light-sheet brains: blocks are the whole, truth is exact, shapes are what they say.

One file, because most tests look at the same brain.
"""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import cKDTree

from brodmann.core import DataError, Label, LabelMap, OutputError, Points, RecipeError, Volume
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.phantoms.lightsheet import (
    MARKERS,
    REGIONS,
    TISSUES,
    LightSheet,
    phantom_lightsheet,
    read_lightsheet,
    write,
    write_lightsheet,
)
from brodmann.datasets.phantoms.lightsheet.cells import PHASES, phases, thin
from brodmann.datasets.phantoms.lightsheet.dataset import animal
from brodmann.datasets.phantoms.lightsheet.hashing import TABLE, normals, photons
from brodmann.datasets.phantoms.lightsheet.render import OFFSET, READ_NOISE
from brodmann.datasets.phantoms.lightsheet.stamps import _add_beads, bank
from brodmann.datasets.registry import DATASETS
from brodmann.inference.engines import Engine
from brodmann.io import read_volume

SPACING = (8.0, 4.0, 4.0)
SHAPE = (44, 96, 90)


@pytest.fixture(scope="module")
def sheet():
    return LightSheet(SHAPE, SPACING, seed=5)


@pytest.fixture(scope="module")
def whole(sheet):
    return {name: sheet.block(name) for name in MARKERS}


@pytest.fixture(scope="module")
def truth(sheet):
    return {name: sheet.points(name) for name in MARKERS}


def flat(tissue, edge_um=900.0, step=50.0, spacing=(6.0, 3.0, 3.0), **options):
    """A block of one tissue only."""
    n = round(edge_um / step)
    names = LabelMap([Label(7, tissue, tissue)])
    ids = Volume(np.full((n, n, n), 7, np.uint16), "zyx", (step,) * 3)
    shape = tuple(round(edge_um / s) for s in spacing)
    return LightSheet(shape, spacing, annotation=ids, regions=names, **options)


@st.composite
def windows(draw):
    spans = []
    for n in SHAPE:
        first = draw(st.integers(0, n - 1))
        spans.append(slice(first, draw(st.integers(first + 1, n))))
    return tuple(spans)


@given(windows(), st.sampled_from(sorted(MARKERS)))
@settings(max_examples=25, deadline=None)
def test_any_window_is_a_slice_of_the_whole(sheet, whole, truth, window, name):
    other = pickle.loads(pickle.dumps(sheet))  # nothing kept from earlier blocks
    assert np.array_equal(other.block(name, window), whole[name][window])
    at = truth[name].coordinates
    low = np.array([part.start for part in window]) - 0.5
    high = np.array([part.stop for part in window]) - 0.5
    held = ((at >= low) & (at < high)).all(1)
    expected = truth[name].table[held].reset_index(drop=True)
    assert other.points(name, window).table.equals(expected)


def test_blocks_meet_at_the_scale_of_a_real_brain():
    brain = LightSheet((1750, 7222, 6111), seed=2)
    box = (slice(600, 620), slice(1500, 1560), slice(900, 960))
    right = (box[0], box[1], slice(930, 960))
    assert np.array_equal(brain.block("GFAP", box)[:, :, 30:], brain.block("GFAP", right))


def test_another_seed_is_another_brain(sheet, whole):
    other = LightSheet(SHAPE, SPACING, seed=6)
    assert not np.array_equal(other.block("Iba1"), whole["Iba1"])
    assert len(other.points("Iba1")) > 0


def test_centres_keep_apart(truth):
    for name, marker in MARKERS.items():
        um = truth[name].coordinates * SPACING
        assert len(um) > 2, name
        assert cKDTree(um).query(um, k=2)[0][:, 1].min() >= marker.apart_um, name


def test_thinning_against_all_pairs():
    rng = np.random.default_rng(0)
    um = rng.uniform(0, 100, (400, 3))
    rank = rng.permutation(400).astype(np.uint64)
    near = np.linalg.norm(um[:, None] - um[None], axis=2) < 14
    expected = ~(near & (rank[None] > rank[:, None])).any(1)
    assert np.array_equal(thin(um, rank, 14.0), expected)
    assert 0 < expected.sum() < 400


@pytest.mark.parametrize("tissue", ["CTX2/4", "DG", "SN"])
def test_densities_are_those_of_the_table(tissue):
    block = flat(tissue, seed=1)
    mm3 = np.prod(block.extent_um) * 1e-9
    for name, marker in MARKERS.items():
        expected = TISSUES[tissue].density(name) * mm3
        found = len(block.points(name))
        # Clusters move whole groups of cells.
        slack = 4 * np.sqrt(expected) + (0.02 + 0.1 * marker.clusters) * expected
        assert abs(found - expected) <= slack, (name, found, expected)


def test_density_scales_the_number_of_cells():
    full, half = (len(flat("CTX2/4", 600, density=d).points("NeuN")) for d in (1.0, 0.5))
    assert half == pytest.approx(full / 2, rel=0.05)


def test_some_cells_carry_two_markers(truth):
    tables = {name: points.table.set_index("cell") for name, points in truth.items()}
    assert all(table.index.is_unique for table in tables.values())
    for name in ("cFos", "PV"):
        both = tables[name].index.intersection(tables["NeuN"].index)
        assert len(both) / len(tables[name]) == pytest.approx(0.95, abs=0.1)
        one, two = tables[name].loc[both], tables["NeuN"].loc[both]
        assert one[["z", "y", "x", "region"]].equals(two[["z", "y", "x", "region"]])
    for name in ("NeuN", "PV", "GFAP"):
        assert not len(tables[name].index.intersection(tables["Iba1"].index))


def test_region_and_hemisphere_are_those_of_the_annotation(sheet, truth):
    ids, halves = sheet.region_ids(), sheet.hemisphere_ids()
    assert ids.spacing == halves.spacing == (25.0,) * 3 and ids.shape == halves.shape
    assert set(np.unique(ids.data)) <= REGIONS.ids_allowed and (ids.data == 0).any()
    for name in MARKERS:
        at = np.floor((truth[name].coordinates + 0.5) * SPACING / 25).astype(int)
        table = truth[name].table
        acronyms = [REGIONS[int(i)].acronym for i in ids.data[tuple(at.T)]]
        assert table["region"].tolist() == acronyms
        sides = np.where(halves.data[tuple(at.T)] == 1, "left", "right")
        assert table["hemisphere"].tolist() == sides.tolist()
    box = (slice(3, 9), slice(2, 11), slice(4, 7))
    assert np.array_equal(sheet.region_ids(box).data, ids.data[box])


def test_a_given_annotation_rules(tmp_path):
    step = 40.0
    ids = np.zeros((8, 10, 12), np.uint16)
    ids[2:6, 2:8, 1:11] = 5
    ids[2:6, 2:5, 1:11] = 9
    halves = np.ones(ids.shape, np.uint8)
    halves[:, 5:] = 2
    # "SNc" is drawn as SN; "X1" as its parent.
    names = LabelMap(
        [Label(5, "compacta", "SNc"), Label(3, "striatum", "STR"), Label(9, "part", "X1", 3)]
    )
    volume, sides = (Volume(a, "zyx", (step,) * 3) for a in (ids, halves))
    brain = LightSheet(
        (40, 100, 120), (8, 4, 4), annotation=volume, regions=names, hemispheres=sides
    )
    table = brain.points("TH").table
    at = np.floor((table[["z", "y", "x"]].to_numpy() + 0.5) * brain.spacing / step).astype(int)
    assert set(ids[tuple(at.T)]) <= {5, 9} and len(table) > 20
    assert (table["region"] == "SNc").sum() > 10 * (table["region"] == "X1").sum()
    assert (table["hemisphere"] == np.where(at[:, 1] < 5, "left", "right")).all()
    assert set(brain.points("NeuN").table["region"]) == {"SNc", "X1"}
    inside = brain.block("NeuN", (slice(15, 25), slice(30, 60), slice(30, 60)))
    outside = brain.block("NeuN", (slice(0, 4), slice(0, 10), slice(0, 120)))
    assert inside.mean() > 3 * outside.mean()
    written = write_lightsheet(
        tmp_path / "brain", brain.shape, brain.spacing, ["TH"], pyramid=False,
        annotation=volume, regions=names, hemispheres=sides,
    )  # fmt: skip
    assert written.points("TH").table.equals(table)
    assert np.array_equal(read_volume(tmp_path / "brain" / "TH.zarr").numpy(), brain.block("TH"))


def test_a_bead_keeps_its_light_and_is_as_wide_as_its_blur():
    out = np.zeros((31, 61, 61))
    spacing, blur, at = (
        np.array([4.0, 1.8, 1.8]),
        np.array([5.0, 1.4, 2.0]),
        np.array([0.3, 0, -0.2]),
    )
    bead = np.array([[2.0, -1.5, 0.7, 1.2, 50.0]])
    _add_beads(bead, at, spacing, blur, 1.0, np.array([15, 30, 30]), out)
    voxel = spacing.prod()
    assert out.sum() * voxel == pytest.approx(50, rel=2e-3)
    grids = np.meshgrid(*(np.arange(n) for n in out.shape), indexing="ij")
    centre = np.array([(g * out).sum() for g in grids]) / out.sum()
    assert centre == pytest.approx([15.3 + 2 / 4, 30 - 1.5 / 1.8, 29.8 + 0.7 / 1.8], abs=0.01)
    wide = [((g - c) ** 2 * out).sum() / out.sum() for g, c in zip(grids, centre)]
    expected = (1.2**2 + blur**2 + spacing**2 / 12) / spacing**2
    assert wide == pytest.approx(expected, rel=0.03)


def test_pictures_lie_at_their_sub_voxel_place():
    stamps = bank("cFos", (4.0, 1.8, 1.8), (4.5, 1.3, 1.3))
    places = phases()
    assert len(np.unique(places, axis=0)) == PHASES and (np.abs(places) <= 0.5).all()
    for n, picture in enumerate(stamps.data):
        grids = np.meshgrid(*(np.arange(m) for m in picture.shape), indexing="ij")
        centre = np.array([(g * picture).sum() for g in grids]) / picture.sum()
        assert np.abs(centre - stamps.middle - places[n % PHASES]).max() < 0.06
        z, y, x = stamps.middle
        # The blur is worse along z: in um, not in voxels.
        column, line = picture[:, y, x], picture[z, y]
        assert (column > picture.max() / 2).sum() * 4.0 > 1.3 * (
            line > picture.max() / 2
        ).sum() * 1.8


def test_shapes_are_those_of_their_markers():
    stamps = {name: bank(name, (4.0, 1.8, 1.8), (3.0, 1.0, 1.0)) for name in MARKERS}
    reach, core, inner = {}, {}, {}
    for name, (data, _, middle) in stamps.items():
        z, y, x = middle
        far = np.hypot(
            *(np.ogrid[: data.shape[2], : data.shape[3]][a] - middle[a + 1] for a in (0, 1))
        )
        flat = data.max(1)
        reach[name] = np.mean([1.8 * far[p > 0.03 * p.max()].max() for p in flat])
        core[name] = np.mean([(p > 0.5 * p.max()).sum() * 1.8**2 for p in flat])
        inner[name] = np.mean([p[y, x] / p.max() for p in data[:, z - 1 : z + 2].max(1)])
    # Nuclei are round and compact; the others reach out.
    assert reach["cFos"] < reach["NeuN"] < 22 < reach["PV"] < reach["TH"]
    assert reach["Iba1"] > 22 and reach["GFAP"] > 25
    # Somata by size.
    assert core["cFos"] < core["NeuN"] < core["PV"] < core["TH"]
    assert core["Iba1"] < core["PV"]
    # In astrocytes the soma is not the brightest.
    assert inner["GFAP"] < 0.75 < min(inner["cFos"], inner["NeuN"], inner["Iba1"])


def test_cells_shine_at_their_centres(sheet, whole, truth):
    for name in ("NeuN", "TH", "Iba1"):
        at = np.rint(truth[name].coordinates).astype(int)
        rng = np.random.default_rng(0)
        shifted = at + np.array([0, 1, 1]) * rng.choice([-7, 7], (len(at), 3))
        fits = ((shifted >= 0) & (shifted < SHAPE)).all(1)
        here, there = (whole[name][tuple(p[fits].T)].astype(float) for p in (at, shifted))
        assert np.median(here) > 1.5 * np.median(there), name
        assert (here > there).mean() > 0.85, name


@pytest.mark.parametrize("mean", [0.4, 3.0, 11.9, 12.1, 40.0, 900.0])
def test_photons_are_poisson(mean):
    table = normals()
    picked = np.arange(0, TABLE, 7)
    drawn = np.array([photons(mean, (i + 0.5) / TABLE, float(table[i])) for i in picked])
    # At the quantiles of the uniform: the distribution itself, not a sample of it.
    values = np.arange(drawn.max() + 1)
    cdf = np.searchsorted(np.sort(drawn), values, "right") / len(drawn)
    assert np.abs(cdf - stats.poisson(mean).cdf(values)).max() < 0.004
    assert drawn.mean() == pytest.approx(mean, rel=2e-3)
    assert drawn.var() == pytest.approx(mean, rel=0.01)


def test_noise_of_the_camera_in_empty_air():
    ids = Volume(np.zeros((6, 6, 6), np.uint16), "zyx", (50.0,) * 3)
    empty = LightSheet(
        (50, 75, 75), (6, 4, 4), annotation=ids, regions=LabelMap([Label(1, "a", "a")]), halo=0
    )
    block = empty.block("PV").astype(float)
    assert block.mean() == pytest.approx(OFFSET, abs=0.2)
    assert block.std() == pytest.approx(READ_NOISE, rel=0.05)
    # One voxel tells nothing of the next, along any axis.
    for axis in range(3):
        a, b = (np.moveaxis(block, axis, 0)[part].ravel() for part in (slice(1), slice(1, 2)))
        whole_a, whole_b = (
            np.moveaxis(block, axis, 0)[part].ravel() for part in (slice(None, -1), slice(1, None))
        )
        assert abs(np.corrcoef(whole_a, whole_b)[0, 1]) < 0.01 and len(a) == len(b)
    assert len(empty.points("PV")) == 0


def test_stripes_run_along_the_light():
    window = (slice(40, 70), slice(60, 160), slice(60, 160))
    found = []
    for strength in (0.0, 4.0):
        block = flat("CTX1", 900, stripes=strength).block("cFos", window).astype(float)
        # Medians do not see cells.
        found.append((np.median(block, 2).std(), np.median(block, 1).std()))
    (rows, columns), (rows_striped, columns_striped) = found
    assert rows_striped > 3 * rows
    assert rows_striped / columns_striped > 1.5 * rows / columns


def test_light_fades_with_depth_and_borders_glow():
    block = flat("CTX1", 900)
    top, bottom = (
        np.median(block.block("cFos", (part, slice(None), slice(None))))
        for part in (slice(0, 10), slice(140, 150))
    )
    assert 0.5 * (top - OFFSET) < bottom - OFFSET < 0.85 * (top - OFFSET)
    ids = np.zeros((20, 20, 20), np.uint8)
    ids[:, 10:] = 1
    names = LabelMap([Label(1, "a", "CTX1")])
    means = []
    for halo in (0.0, 2.0):
        edge = LightSheet(
            (80, 160, 40), (10, 5, 20), halo=halo, regions=names,
            annotation=Volume(ids, "zyx", (40.0,) * 3),
        )  # fmt: skip
        rows = np.median(edge.block("cFos"), axis=(0, 2)) - OFFSET
        means.append((rows[70:78].mean(), rows[81:84].mean(), rows[110:150].mean()))
    (air, rim, deep), (lit_air, lit_rim, lit_deep) = means
    assert lit_deep == pytest.approx(deep, rel=0.02)
    assert lit_rim > 1.25 * rim and lit_air > air + 0.06 * deep


def test_vessels_are_dark_tubes():
    from brodmann.datasets.phantoms.lightsheet.vessels import vessels

    block = flat("CTX1", 600, stripes=0)
    window = (slice(20, 80), slice(20, 180), slice(20, 180))
    origin = np.array([part.start for part in window])
    tube = vessels(block, origin, tuple(part.stop - part.start for part in window))
    image = block.block("cFos", window).astype(float)
    assert 0.0005 < (tube > 0.8).mean() < 0.08
    inside, clear = np.median(image[tube > 0.8]) - OFFSET, np.median(image[tube < 0.02]) - OFFSET
    assert 0.1 * clear < inside < 0.45 * clear


def test_a_folder_holds_the_brain_whatever_wrote_it(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "CHUNK", 16)
    monkeypatch.setattr(write, "SHARD", 32)
    monkeypatch.setattr(write, "SLAB_VOXELS", 60_000)
    real, seen = write._write_block, []

    def failing(folder, name, key, block):
        if len(seen) == 3:
            raise OSError("no more")
        seen.append(block.number)
        return real(folder, name, key, block)

    one, two = tmp_path / "one", tmp_path / "two"
    monkeypatch.setattr(write, "_write_block", failing)
    with pytest.raises(OutputError, match="block"):
        write_lightsheet(one, SHAPE, SPACING, ["PV"], 5)
    assert not (one / "PV.csv").exists()
    written = []

    def counting(folder, name, key, block):
        written.append(block.number)
        return real(folder, name, key, block)

    monkeypatch.setattr(write, "_write_block", counting)
    brain = write_lightsheet(one, SHAPE, SPACING, ["PV"], 5)
    # What was done is kept, and nothing is done twice.
    assert len(written) == 2 * 3 * 3 - 3 and not set(written) & set(seen)
    image = read_volume(one / "PV.zarr")
    assert np.array_equal(image.numpy(), brain.block("PV")) and image.spacing == SPACING
    points = Points.from_csv(one / "PV.csv")
    assert points.table.equals(brain.points("PV").table)
    assert np.array_equal(read_volume(one / "annotation.zarr").numpy(), brain.region_ids().data)
    assert np.array_equal(
        read_volume(one / "hemispheres.zarr").numpy(), brain.hemisphere_ids().data
    )
    assert LabelMap.from_csv(one / "labels.csv") == REGIONS
    monkeypatch.setattr(write, "_write_block", real)
    with Engine("threads", 2) as engine:
        write_lightsheet(two, SHAPE, SPACING, ["PV", "cFos"], 5, engine=engine)
    for part in ("PV.csv", "phantom.json", "labels.csv"):
        assert (one / part).read_bytes() == (two / part).read_bytes()
    assert np.array_equal(read_volume(two / "PV.zarr").numpy(), image.numpy())
    # Another brain does not mix with this one; a lost image is written anew.
    with pytest.raises(OutputError, match="another phantom"):
        write_lightsheet(one, SHAPE, SPACING, ["PV"], 6)
    import shutil

    shutil.rmtree(one / "PV.zarr")
    write_lightsheet(one, SHAPE, SPACING, ["PV"], 5, pyramid=False)
    assert np.array_equal(read_volume(one / "PV.zarr").numpy(), image.numpy())
    assert np.array_equal(read_lightsheet(one).block("PV"), image.numpy())


def test_a_folder_without_a_phantom_is_named(tmp_path):
    with pytest.raises(DataError, match=r"phantom\.json"):
        read_lightsheet(tmp_path)
    (tmp_path / "phantom.json").write_text(json.dumps({"version": 0}))
    with pytest.raises(DataError, match="another version"):
        read_lightsheet(tmp_path)


def test_patches_of_animals(tmp_path):
    data = DATASETS["phantom-lightsheet"](["TH", "GFAP"], (12, 40, 44), 2, 1, 1, patches=2, seed=3)
    assert {split: len(names) for split, names in data.splits.items()} == {
        "train": 8,
        "tune": 4,
        "test": 4,
    }
    groups = [{data.subjects[n] for n in names} for names in data.splits.values()]
    assert not set.intersection(*groups) and len(set.union(*groups)) == 4
    sample = data["a01-TH-1"]
    assert sample.image.shape == (12, 40, 44) and sample.meta["marker"] == "TH"
    brain = animal(1, seed=3)
    window = tuple(slice(a, a + n) for a, n in zip(sample.meta["origin"], sample.image.shape))
    assert np.array_equal(sample.image.numpy(), brain.block("TH", window))
    moved = brain.points("TH", window).coordinates - sample.meta["origin"]
    assert np.allclose(sample.points.coordinates, moved)
    assert (moved >= -0.5).all() and (moved < np.array(sample.image.shape) - 0.5).all()
    assert sum(len(data[name].points) for name in data.names) > 0
    small = data.subset(["a00-GFAP-0", "a03-TH-0"])
    write_folder(small, tmp_path / "set")
    again = read_folder(tmp_path / "set")
    assert np.array_equal(again["a00-GFAP-0"].image.numpy(), data["a00-GFAP-0"].image.numpy())
    assert len(again["a00-GFAP-0"].points) == len(data["a00-GFAP-0"].points)


def test_animals_differ():
    brains = [animal(n, variation=1.0) for n in range(5)]
    assert len({b.seed for b in brains}) == 5 and len({b.density for b in brains}) > 2
    assert np.std([b.look("cFos").gain for b in brains]) > 0.05
    same = [animal(n, variation=0.0) for n in range(3)]
    assert {(b.density, b.brightness) for b in same} == {(1.0, 1.0)}


def looks(patches):
    """Noise (counts), correlation over a voxel (z, x) and width of cells (z, x; voxels)."""
    noise, near, cells = [], [], []
    for image, centres in patches:
        image = image.astype(float)
        bend = image[:, :, 2:] - 2 * image[:, :, 1:-1] + image[:, :, :-2]
        noise.append(np.median(np.abs(bend)) / 0.6745 / np.sqrt(6))
        level = np.median(image)
        flat = np.clip(image - level, -800, 800)
        near.append([np.corrcoef(flat[:-1].ravel(), flat[1:].ravel())[0, 1],
                     np.corrcoef(flat[..., :-1].ravel(), flat[..., 1:].ravel())[0, 1]])  # fmt: skip
        reach = np.array([6, 12, 12])
        for at in np.rint(centres).astype(int):
            if (at >= reach).all() and (at < np.array(image.shape) - reach).all():
                box = tuple(slice(a - r, a + r + 1) for a, r in zip(at, reach))
                cells.append(image[box] - level)
    mean = np.mean(cells, 0)
    widths = []
    for line in (mean[:, 12, 12], mean[6, 12]):
        fine = np.interp(np.linspace(0, len(line) - 1, 2001), np.arange(len(line)), line)
        step = (len(line) - 1) / 2000
        widths.append((fine > (fine.max() + fine.min()) / 2).sum() * step)
    return np.median(noise), np.median(near, axis=0), np.array(widths)


@pytest.mark.real
@pytest.mark.parametrize("name, folder", [("cFos", "cFos"), ("Iba1", "microglia")])
def test_patches_look_like_real_ones(real_data, name, folder):
    import tifffile

    table = pd.read_csv(real_data / "cells" / "delivr" / folder / "centres.csv")
    real = []
    for volume, rows in table.groupby("volume"):
        image = tifffile.imread(real_data / "cells" / "delivr" / folder / f"{volume}.tif")
        # Patches with a border, or of brains far dimmer than the rest, say little of tissue.
        if np.percentile(image, 2) > 800:
            real.append((image, rows[["z", "y", "x"]].to_numpy()))
    assert len(real) >= 4
    data = phantom_lightsheet(name, (100,) * 3, 1, 0, 0, patches=4, spacing_um=(6, 1.62, 1.62))
    made = [(s.image.numpy(), s.points.coordinates) for s in data if len(s.points) > 10]
    (noise, near, widths), (real_noise, real_near, real_widths) = looks(made), looks(real)
    print(name, (noise, near, widths), (real_noise, real_near, real_widths))
    assert 0.6 < noise / real_noise < 1.6
    assert np.abs(near - real_near).max() < 0.25
    assert (widths / real_widths > 0.55).all() and (widths / real_widths < 1.5).all()


@pytest.mark.parametrize(
    "change, word",
    [
        ({"shape": (4, 4)}, "shape"),
        ({"shape": (0, 4, 4)}, "shape"),
        ({"shape": "abc"}, "shape"),
        ({"spacing": (0.1, 1, 1)}, "spacing"),
        ({"spacing": (1, 1)}, "spacing"),
        ({"blur_um": (np.nan, 1, 1)}, "blur_um"),
        ({"density": 3.0}, "density"),
        ({"brightness": "1"}, "brightness"),
        ({"seed": 1.5}, "seed"),
        ({"regions": REGIONS}, "annotation"),
    ],
)
def test_bad_arguments_are_named(change, word):
    with pytest.raises(RecipeError, match=word):
        LightSheet(**({"shape": (40, 40, 40), "spacing": (8.0, 8.0, 8.0)} | change))


def test_bad_windows_markers_and_annotations_are_named(sheet, tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'NeuN'"):
        sheet.block("Neun")
    for window in ((slice(0, 5),) * 2, (slice(3, 3),) * 3, (slice(0, 45), *[slice(None)] * 2)):
        with pytest.raises(RecipeError, match="window"):
            sheet.points("NeuN", window)
    short = Volume(np.ones((2, 2, 2), np.uint8), "zyx", (25.0,) * 3)
    with pytest.raises(RecipeError, match="extent"):
        LightSheet(SHAPE, SPACING, annotation=short, regions=REGIONS)
    with pytest.raises(RecipeError, match="names of its regions"):
        LightSheet(SHAPE, SPACING, annotation=short)
    with pytest.raises(RecipeError, match="patches"):
        phantom_lightsheet(patches=-1)
    with pytest.raises(RecipeError, match="shape"):
        phantom_lightsheet(shape=(64, 160))
    with pytest.raises(RecipeError, match="no such option"):
        write_lightsheet(tmp_path / "x", SHAPE, SPACING, ["PV"], sheen=1)
