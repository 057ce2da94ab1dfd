"""Phantom tomography: exact truth, shares of the paper, the same bytes for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from brodmann.core import RecipeError, keyed_rng
from brodmann.datasets.phantoms.tomography import (
    REGIONS,
    TISSUES,
    tomography_cube,
    tomography_slab,
)
from brodmann.datasets.phantoms.tomography.borders import curved_borders, one_region, tissue_at
from brodmann.datasets.phantoms.tomography.growing import GAP_UM
from brodmann.datasets.phantoms.tomography.render import draw_style
from brodmann.datasets.phantoms.tomography.tissue import shifted
from brodmann.datasets.phantoms.tomography.world import make_world

SHAPE = (24, 72, 72)
STEP = 1.17
VESSEL, CELL, AXON = 1, 2, 3


@pytest.fixture(scope="module")
def cubes():
    return {region: tomography_cube(region, seed=5, shape=SHAPE) for region in TISSUES}


@pytest.fixture(scope="module")
def slab():
    return tomography_slab(2, (16, 64, 256))


def world_of(region, shape=SHAPE, seed=5):
    name = f"{region.lower()}-A"
    extent = tuple(round(n * STEP, 6) for n in shape)
    return make_world(extent, (shifted(TISSUES[region], seed, name),), one_region(), seed, name)


def in_tubes(points, tubes):
    """Which points lie in a piece of a tube, all against all."""
    a, b = tubes[None, :, :3], tubes[None, :, 4:7]
    way = b - a
    t = ((points[:, None] - a) * way).sum(-1) / (way**2).sum(-1)
    t = t.clip(0, 1)[..., None]
    far = np.linalg.norm(points[:, None] - a - t * way, axis=-1)
    return (far < tubes[None, :, 3] + t[..., 0] * (tubes[None, :, 7] - tubes[None, :, 3])).any(1)


def in_cells(points, cells):
    axes = cells[:, 6:15].reshape(-1, 3, 3)
    along = np.einsum("nab,pnb->pna", axes, points[:, None] - cells[None, :, :3])
    return (((along / cells[None, :, 3:6]) ** 2).sum(-1) < 1).any(1)


def expected(world, points):
    truth = np.zeros(len(points), int)
    for start in range(0, len(points), 200):
        some = slice(start, start + 200)
        here = points[some]
        if len(world.axons):
            truth[some][in_tubes(here, world.axons)] = AXON
        truth[some][in_cells(here, world.cells)] = CELL
        truth[some][in_tubes(here, world.vessels)] = VESSEL
    return truth


@pytest.mark.parametrize("region", ["CTX", "STR", "ZI"])
def test_every_voxel_has_the_id_of_what_its_centre_lies_in(cubes, region):
    world, truth = world_of(region), cubes[region].microstructure.data
    rng = keyed_rng(0, region)
    # Voxels at the borders of things, and any others.
    edge = ndimage.grey_dilation(truth, size=3) != ndimage.grey_erosion(truth, size=3)
    at = np.argwhere(edge)
    at = np.concatenate([rng.permutation(at)[:250], rng.integers(0, SHAPE, (100, 3))])
    assert np.array_equal(truth[tuple(at.T)], expected(world, (at + 0.5) * STEP))


def test_regions_of_a_slab_are_those_of_the_borders(slab):
    rng = keyed_rng(0, "slab")
    at = rng.integers(0, slab.regions.shape, (3000, 3))
    ids = np.array([REGIONS.find(r).id for r in TISSUES])
    borders = curved_borders(tuple(round(n * STEP, 6) for n in slab.regions.shape), 4, 2)
    z, y, x = ((at + 0.5) * STEP).T
    v, w = y.copy(), x.copy()
    for wz, wy, wx, phase, sy, sx in borders.waves:
        s = np.sin(wz * z + wy * y + wx * x + phase)
        v, w = v + sy * s, w + sx * s
    far = [(v - sy - dy * z) ** 2 + (w - sx - dx * z) ** 2 for sy, sx, dy, dx in borders.sites]
    assert np.array_equal(slab.regions.data[tuple(at.T)], ids[np.argmin(far, 0)])


def test_a_slab_holds_all_regions_and_their_microstructure(slab):
    ids, truth = slab.regions.data, slab.microstructure.data
    assert np.unique(ids).tolist() == [1, 2, 4, 5] == sorted(REGIONS.classes)
    shares = {r: np.mean(truth[ids == REGIONS.find(r).id] == AXON) for r in TISSUES}
    # Only the ends of bundles of a neighbour come over into the cortex.
    assert shares["CTX"] < 0.03 < shares["STR"] < shares["ZI"] < shares["VP"]
    # Borders bend: the first column of a region is not the same in all rows, nor all slices.
    first = (ids == 2).argmax(2)
    assert np.ptp(first[0]) > 5 and np.ptp(first[:, 20]) >= 1
    # Points of the slab's own world have the slab's truth.
    at = keyed_rng(1, "slab").integers(0, ids.shape, (150, 3))
    assert np.array_equal(truth[tuple(at.T)], expected(slab.world, (at + 0.5) * STEP))


@pytest.mark.parametrize("region", list(TISSUES))
def test_shares_are_those_of_the_paper(cubes, region):
    tissue, truth = TISSUES[region], cubes[region].microstructure.data
    mine = shifted(tissue, 5, f"{region.lower()}-A")
    for code, name in ((VESSEL, "vessel"), (CELL, "cell"), (AXON, "axon")):
        share = np.mean(truth == code)
        # As drawn for this cube, up to the last cell and what the lattice cannot tell.
        assert share == pytest.approx(getattr(mine, name), rel=0.05, abs=0.007)
        assert getattr(mine, name) == pytest.approx(getattr(tissue, name), rel=0.15)
    assert cubes[region].region == region
    assert np.unique(cubes[region].regions.data).tolist() == [REGIONS.find(region).id]


@pytest.mark.parametrize("region", list(TISSUES))
def test_components_are_the_cells_that_were_placed(cubes, region):
    import cc3d

    truth, world = cubes[region].microstructure.data, world_of(region)
    ids, count = cc3d.connected_components(truth == CELL, connectivity=26, return_N=True)
    # Cells with the centre of a voxel in them, told one by one.
    seen = 0
    for cell in world.cells:
        low = np.maximum(np.floor((cell[:3] - cell[3]) / STEP), 0).astype(int)
        high = np.minimum(np.ceil((cell[:3] + cell[3]) / STEP), SHAPE).astype(int)
        near = np.indices(np.maximum(high - low, 0)).reshape(3, -1).T + low
        found = near[in_cells((near + 0.5) * STEP, cell[None])]
        if len(found):
            seen += 1
            assert len(np.unique(ids[tuple(found.T)])) == 1
    assert seen == count > 15


@pytest.mark.parametrize("region", list(TISSUES))
def test_cells_keep_apart_and_clear_of_vessels(region):
    world = world_of(region)
    centres, radii = world.cells[:, :3], world.cells[:, 3:6]
    axes = world.cells[:, 6:15].reshape(-1, 3, 3)
    assert np.allclose(axes @ axes.transpose(0, 2, 1), np.eye(3))
    assert (radii[:, 0] >= radii[:, 1]).all() and (radii[:, 1] >= radii[:, 2]).all()
    # Points all over the surfaces.
    rng = keyed_rng(0, "surface")
    sphere = rng.standard_normal((300, 3))
    sphere /= np.linalg.norm(sphere, axis=1)[:, None]
    shells = np.einsum("pa,na,nab->npb", sphere, radii, axes) + centres[:, None]
    trees = [cKDTree(shell) for shell in shells]
    close = cKDTree(centres).query_pairs(2 * radii.max() + GAP_UM)
    assert len(close) > 20
    for a, b in close:
        assert trees[a].query(shells[b])[0].min() >= GAP_UM
    size = np.array(SHAPE) * STEP
    middles = cKDTree(world.vessels[:, :3])
    for n in range(len(centres)):
        # A piece is at most 5 um long, and no vessel here is wider than that.
        near = middles.query_ball_point(centres[n], radii[n, 0] + 12)
        inside = shells[n][((shells[n] > 0) & (shells[n] < size)).all(1)]
        if near and len(inside):
            assert not in_tubes(inside, world.vessels[near]).any()


def test_vessels_branch_and_differ_in_calibre():
    world = world_of("VP", (64, 128, 128), seed=1)
    tubes = world.vessels
    assert tubes[:, 3].min() >= 1.6 and tubes[:, 3].max() > 5
    starts = {}
    for row in tubes[tubes[:, 11] == 0]:
        starts.setdefault(row[12], row[:3])
    others = {tuple(row[:3]): row[12] for row in tubes if row[11] != 0}
    joined = [n for n, p in starts.items() if others.get(tuple(p), n) != n]
    assert len(joined) >= 3


def test_axons_run_along_their_direction():
    for region in ("STR", "VP"):
        tubes, tissue = world_of(region).axons, shifted(TISSUES[region], 5, f"{region.lower()}-A")
        way = tubes[:, 4:7] - tubes[:, :3]
        length = np.linalg.norm(way, axis=1)
        along = np.abs(way @ np.array(tissue.direction)) / length
        assert np.average(along, weights=length * tubes[:, 3] ** 2) > 0.8
        # The vector that is carried along stays across.
        assert np.abs((way * tubes[:, 8:11]).sum(1) / length).max() < 1e-9


def test_spacing_only_samples_the_tissue():
    fine = tomography_cube("VP", seed=4, shape=(18, 60, 60), spacing_um=(0.4, 0.4, 0.4))
    coarse = tomography_cube("VP", seed=4, shape=(6, 20, 20), spacing_um=(1.2, 1.2, 1.2))
    middle = fine.microstructure.data[1::3, 1::3, 1::3]
    assert np.array_equal(middle, coarse.microstructure.data)
    assert coarse.image.spacing == (1.2, 1.2, 1.2)


def test_the_same_bytes_whatever_the_order(cubes, monkeypatch):
    again = tomography_cube("STR", seed=5, shape=SHAPE)
    assert np.array_equal(again.image.data, cubes["STR"].image.data)
    assert np.array_equal(again.microstructure.data, cubes["STR"].microstructure.data)
    from numba import config

    tall = tomography_cube("STR", seed=5, shape=(100, 16, 16))
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 1 if config.NUMBA_NUM_THREADS > 1 else 2)
    other = tomography_cube("STR", seed=5, shape=(100, 16, 16))
    assert np.array_equal(tall.image.data, other.image.data)


def test_other_sets_and_seeds_are_other_places(cubes):
    small = {"shape": (8, 32, 32)}
    one = tomography_cube("VP", "A", seed=5, **small)
    for other in (
        tomography_cube("VP", "B", seed=5, **small),
        tomography_cube("VP", "A", seed=6, **small),
    ):
        assert np.mean(one.microstructure.data != other.microstructure.data) > 0.2
    styles = {draw_style(5, f"vp-{s}") for s in "ABCD"}
    tissues = {shifted(TISSUES["VP"], 5, f"vp-{s}").axon for s in "ABCD"}
    assert len(styles) == len(tissues) == 4
    assert shifted(TISSUES["VP"], 5, "vp-A", 0.0).axon == TISSUES["VP"].axon


def test_what_is_dark_and_what_is_light(cubes):
    for region, cube in cubes.items():
        image, truth = cube.image.data, cube.microstructure.data
        mean = [image[truth == code].mean() for code in np.unique(truth)]
        assert mean[VESSEL] + 40 < mean[0] and mean[CELL] + 30 < mean[0]
        if region != "CTX":
            assert mean[0] + 10 < mean[AXON]
        assert image.mean() == pytest.approx(127, abs=15)
        assert 17 < image.std() < 45


def test_grey_values_alone_do_not_give_the_microstructure(cubes):
    """The best that any table from grey level to class can do, found with the answers known."""
    counts = np.zeros((4, 256))
    for cube in cubes.values():
        np.add.at(counts, (cube.microstructure.data, cube.image.data), 1)
    shares = counts / counts.sum(1, keepdims=True)
    rng, best = keyed_rng(0, "table"), 0.0
    for _ in range(600):
        table = (shares * np.exp(rng.normal(0, 2, 4))[:, None]).argmax(0)
        f1 = []
        for code in range(4):
            hit = counts[code, table == code].sum()
            f1.append(2 * hit / (counts[code].sum() + counts[:, table == code].sum()))
        best = max(best, float(np.mean(f1)))
    assert 0.45 < best < 0.75


def test_noise_is_correlated_and_edges_are_soft(cubes):
    image = cubes["CTX"].image.data.astype(float)
    image -= image.mean()
    for axis in range(3):
        a, b = np.moveaxis(image, axis, 0)[:-1], np.moveaxis(image, axis, 0)[1:]
        # 0.87 to 0.95 in the real volume.
        assert 0.8 < (a * b).mean() / image.var() < 0.96


@settings(max_examples=12, deadline=None)
@given(
    region=st.sampled_from(list(TISSUES)),
    seed=st.integers(0, 10**6),
    shape=st.tuples(*[st.integers(4, 14)] * 3),
)
def test_small_cubes_of_any_shape(region, seed, shape):
    cube = tomography_cube(region, seed=seed, shape=shape)
    assert cube.image.shape == cube.microstructure.shape == cube.regions.shape == shape
    assert cube.microstructure.data.max() <= 3
    if region == "CTX":
        assert not (cube.microstructure.data == AXON).any()


def test_one_region_is_everywhere():
    assert tissue_at(3.0, 9.0, -4.0, one_region()) == 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"region": "STRI"}, "did you mean 'STR'"),
        ({"set": "E"}, "set"),
        ({"shape": (8, 8)}, "shape"),
        ({"shape": (8, 8, 2)}, "shape"),
        ({"shape": (8, 8, 8.5)}, "shape"),
        ({"spacing_um": (2.0, 1.0, 1.0)}, "downsample"),
        ({"spacing_um": 1.17}, "spacing"),
        ({"seed": 1.5}, "seed"),
        ({"shift": 3}, "shift"),
    ],
)
def test_bad_options_are_named(change, word):
    with pytest.raises(RecipeError, match=word):
        tomography_cube(**({"region": "CTX", "shape": (8, 8, 8)} | change))


@pytest.mark.parametrize("regions", ["CTX", (), ("CTX", "CTX"), ("CTX", "XX")])
def test_bad_regions_of_a_slab(regions):
    with pytest.raises(RecipeError, match="region"):
        tomography_slab(0, (4, 16, 32), regions=regions)
