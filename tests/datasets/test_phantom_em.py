"""Phantom neuropil: its truth is exact, its picture fits the truth, spacing only samples it."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label

from brodmann.core import RecipeError
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.phantoms.em import (
    ARTEFACTS,
    artefact_rates,
    phantom_em,
    phantom_em_volume,
)
from brodmann.datasets.phantoms.em.artefacts import FURTHEST_UM, shifts
from brodmann.datasets.phantoms.em.locate import unwarped, warped
from brodmann.datasets.phantoms.em.packing import indexed
from brodmann.datasets.phantoms.em.pieces import components, keep_apart
from brodmann.datasets.phantoms.em.render import MEMBRANE_UM, membrane_table
from brodmann.datasets.phantoms.em.world import make_world, warp_tile

SPACING = (0.029, 0.012, 0.012)
SHAPE = (42, 100, 100)


@pytest.fixture(scope="module")
def block():
    return phantom_em_volume(SHAPE, SPACING, seed=1, damage=0)


@pytest.fixture(scope="module")
def world():
    return make_world(tuple(round(n * s, 6) for n, s in zip(SHAPE, SPACING)), 1, 0, 1.0)


def test_one_grid_and_kinds(block):
    volumes = (block.image, block.neurons, block.mitochondria, block.synapses)
    assert {v.shape for v in volumes} == {SHAPE} and {v.spacing for v in volumes} == {SPACING}
    assert block.image.dtype == np.uint8
    assert {v.dtype for v in volumes[1:]} == {np.dtype(np.uint32)}


def test_each_neuron_is_one_piece_and_they_fill_the_volume(block):
    ids = block.neurons.data
    count = label(ids, background=0, connectivity=1, return_num=True)[1]
    assert count == len(np.unique(ids)) - 1 > 30
    assert (ids > 0).mean() > 0.995
    # Thick and thin ones: volumes over orders of magnitude.
    sizes = np.sort(np.bincount(ids.ravel())[1:])
    assert sizes[-1] > 50 * np.median(sizes[sizes > 0]) > 0


def test_mitochondria_lie_within_one_neuron_and_touch_no_other(block):
    ids, neurons = block.mitochondria.data, block.neurons.data
    present = np.unique(ids)[1:]
    assert len(present) >= 4 and set(present.tolist()) == set(block.hosts)
    for mito in present:
        mask = ids == mito
        assert np.unique(neurons[mask]).tolist() == [block.hosts[int(mito)]]
        assert label(mask, connectivity=3, return_num=True)[1] == 1
        around = ndimage.binary_dilation(mask, np.ones((3, 3, 3)))
        assert set(np.unique(ids[around]).tolist()) <= {0, int(mito)}
        # Within the neuron on all sides, also from slice to slice.
        assert np.unique(neurons[ndimage.binary_dilation(mask)]).tolist() == [
            block.hosts[int(mito)]
        ]
    # They go on through z.
    spans = [np.ptp(np.nonzero(ids == mito)[0]) for mito in present]
    assert max(spans) >= 8


def test_synapses_lie_on_the_contact_of_their_partners(block):
    ids, neurons = block.synapses.data, block.neurons.data
    present = np.unique(ids)[1:]
    assert len(present) >= 3 and set(present.tolist()) == set(block.partners)
    whole = 0
    for synapse in present:
        pair = set(block.partners[int(synapse)])
        inside = set(np.unique(neurons[ids == synapse]).tolist())
        whole += 0 not in pair and inside == pair
        if 0 not in pair:
            assert pair & inside
    assert whole >= len(present) // 2


def test_membranes_are_dark_cytoplasm_is_light_mitochondria_between(block):
    image, neurons, mito = block.image.data, block.neurons.data, block.mitochondria.data
    edge = np.zeros(SHAPE, bool)
    for axis in (1, 2):
        here, there = [slice(None)] * 3, [slice(None)] * 3
        here[axis], there[axis] = slice(0, -1), slice(1, None)
        differ = neurons[tuple(here)] != neurons[tuple(there)]
        edge[tuple(here)] |= differ
        edge[tuple(there)] |= differ
    deep = ndimage.binary_erosion(mito > 0, iterations=2)
    cytoplasm = ~ndimage.binary_dilation(edge, iterations=3) & (mito == 0)
    means = [image[mask].mean() for mask in (edge, deep, cytoplasm)]
    assert means[0] + 25 < means[2] and means[1] + 25 < means[2]
    # Slice by slice.
    for z in range(0, SHAPE[0], 10):
        assert image[z][edge[z]].mean() + 20 < image[z][cytoplasm[z]].mean()


def test_the_same_volume_at_two_spacings():
    """Spacing only samples: a coarse grid agrees with every third voxel of a fine one."""
    fine = phantom_em_volume((30, 60, 60), (0.01, 0.012, 0.012), seed=4, damage=0)
    coarse = phantom_em_volume((10, 20, 20), (0.03, 0.036, 0.036), seed=4, damage=0)
    # Centres of the coarse voxels are those of the middle ones of 3 x 3 x 3.
    middle = np.s_[1::3, 1::3, 1::3]
    a, b = fine.neurons.data[middle], coarse.neurons.data
    known = (a > 0) & (b > 0)
    pairs, counts = np.unique(np.stack([a[known], b[known]]), axis=1, return_counts=True)
    # A thin neurite may fall apart on the coarse grid, and its pieces have ids of their own.
    agreed = sum(counts[pairs[1] == i].max() for i in np.unique(pairs[1]))
    assert agreed / known.sum() > 0.999
    assert known.mean() > 0.93
    same = (fine.mitochondria.data[middle] > 0) == (coarse.mitochondria.data > 0)
    assert same.mean() > 0.99
    assert abs(fine.image.data.mean() - coarse.image.data.mean()) < 15


def test_every_voxel_belongs_to_the_nearest_tube(block, world):
    """Brute force over all spheres, away from membranes."""
    rng = np.random.default_rng(0)
    at = np.stack([rng.integers(0, n, 300) for n in SHAPE], 1)
    point, d = np.empty(3), world.sites
    n = int(d.count[0])
    checked = 0
    for voxel in at:
        z, y, x = (voxel + 0.5) * SPACING
        warped(z, y, x, world.warp, point)
        far = np.linalg.norm(d.at[:n, :3] - point, axis=1) - d.at[:n, 3]
        best = far.argmin()
        others = far[d.owner[:n] != d.owner[best]].min()
        if others - far[best] < 1e-4 or block.neurons.data[tuple(voxel)] == 0:
            continue
        same = [v for v in at if block.neurons.data[tuple(v)] == block.neurons.data[tuple(voxel)]]
        for other in same[:3]:
            warped(*((other + 0.5) * SPACING), world.warp, point)
            f = np.linalg.norm(d.at[:n, :3] - point, axis=1) - d.at[:n, 3]
            assert d.owner[f.argmin()] == d.owner[best]
        checked += 1
    assert checked > 250


def test_spheres_of_other_neurons_leave_each_middle_line_alone(world):
    """What makes cells connected: no site lies nearer to another neuron than to its own."""
    d = world.sites
    n = int(d.count[0])
    at, owner = d.at[:n].astype(float), d.owner[:n]
    rng = np.random.default_rng(0)
    for s in rng.choice(n, 400, replace=False):
        far = np.linalg.norm(at[:, :3] - at[s, :3], axis=1) - at[:, 3]
        assert far[owner != owner[s]].min() > -at[s, 3] + 1e-4
        assert far[owner != owner[s]].min() > 0
    # Chains hang together.
    child = np.flatnonzero(d.parent[:n] >= 0)
    parent = d.parent[child]
    assert (owner[child] == owner[parent]).all()
    gap = np.linalg.norm(at[child, :3] - at[parent, :3], axis=1) - at[child, 3] - at[parent, 3]
    assert gap.max() < 1e-3


def test_lists_of_cells_hold_every_site_within_reach(world):
    index = world.neurites
    rng = np.random.default_rng(1)
    for _ in range(50):
        cell = [rng.integers(0, n) for n in index.shape]
        row = np.ravel_multi_index(cell, index.shape)
        listed = set(index.items[index.start[row] : index.start[row + 1]].tolist())
        low = index.grid[:3] + np.array(cell) * index.grid[3]
        off = np.maximum(low - index.at[:, :3], index.at[:, :3] - low - index.grid[3]).clip(0)
        near = np.linalg.norm(off, axis=1) - index.at[:, 3]
        assert set(np.flatnonzero(near < index.grid[4] - 1e-5).tolist()) <= listed
        assert (near[list(listed)] < index.grid[4] + 1e-5).all()
    again = indexed(world.sites, np.stack([index.grid[:3], [3, 3, 3]]), 0.15, 0.3)
    assert again.at.shape == index.at.shape


@given(st.data())
@settings(max_examples=60)
def test_pieces_are_those_of_skimage(data):
    shape = data.draw(st.tuples(*[st.integers(1, 7)] * 3))
    seed, full = data.draw(st.integers(0, 10**6)), data.draw(st.booleans())
    ids = np.random.default_rng(seed).integers(0, data.draw(st.integers(1, 4)), shape)
    ids = ids.astype(np.uint32)
    pieces, count = components(ids, full)
    reference, number = label(ids, background=0, connectivity=3 if full else 1, return_num=True)
    assert count == number == len(np.unique(pieces[pieces > 0]))
    pairs = np.unique(np.stack([pieces.ravel(), reference.ravel()]), axis=1)
    assert pairs.shape[1] == count + (ids == 0).any()


def test_ids_that_touch_are_kept_apart():
    ids = np.zeros((3, 5, 9), np.uint32)
    ids[:, :3, :4], ids[:, 3:, 4:] = 4, 9
    keep_apart(ids)
    for a, b in ((4, 9), (9, 4)):
        assert b not in ids[ndimage.binary_dilation(ids == a, np.ones((3, 3, 3)))]
    assert (ids[:, :3, :4] == 4).all() and (ids[:, 4:, 5:] == 9).all()


def test_the_warp_is_one_to_one():
    tile = warp_tile(7, 3)
    step = 0.05
    slopes = np.stack([np.roll(tile, -1, a) - tile for a in range(3)], -1) / step
    assert np.linalg.norm(slopes.reshape(-1, 3, 3), ord=2, axis=(1, 2)).max() < 0.9
    points = np.random.default_rng(0).uniform(-1, 5, (200, 3))
    back, at = unwarped(points, tile), np.empty(3)
    for p, q in zip(points, back):
        warped(*q, tile, at)
        assert np.allclose(at, p, atol=1e-4)


def test_skeletons_run_in_their_neurons(block):
    s = block.skeleton
    at = np.floor(s.nodes / SPACING).astype(int)
    inside = ((at >= 0) & (at < SHAPE)).all(1)
    assert inside.sum() > 500
    ids = block.neurons.data[tuple(at[inside].T)]
    named = s.neuron[inside] > 0
    assert named.mean() > 0.97 and np.array_equal(ids[named], s.neuron[inside][named])
    assert (s.neuron[~inside] == 0).all()
    # Every large neuron has one.
    sizes = np.bincount(block.neurons.data.ravel())
    large = set(np.flatnonzero(sizes > 2000).tolist()) - {0}
    assert len(large - set(s.neuron.tolist())) <= len(large) // 10
    linked = np.flatnonzero((s.parent >= 0) & (s.neuron > 0))
    linked = linked[s.neuron[s.parent[linked]] > 0]
    assert (s.neuron[linked] == s.neuron[s.parent[linked]]).mean() > 0.99


def test_the_membrane_through_a_section_is_its_integral():
    spacing = (0.04, 0.004, 0.004)
    table = membrane_table(spacing)
    width = np.hypot(MEMBRANE_UM, 0.3 * 0.004)
    z = np.linspace(-0.02, 0.02, 2001)
    for t, tilt in ((4, 0), (20, 60), (40, 128), (60, 255)):
        line = np.exp(-0.5 * (((t + 0.5) * 0.0005 - tilt / 255 * z) / width) ** 2)
        wanted = 1.12 * line.mean() * MEMBRANE_UM / width
        assert table[t, tilt] == pytest.approx(min(wanted, 1), rel=2e-3)
    # One that lies in the section is fainter and wider than one that stands on it.
    assert table[0, 255] < 0.7 * table[0, 0] and table[50, 255] > 2 * table[50, 0]


def test_boundary_voxels_are_0_when_asked_for(block):
    thin = phantom_em_volume(SHAPE, SPACING, seed=1, damage=0, boundary_um=0.012)
    assert np.array_equal(thin.image.data, block.image.data)
    assert 0.05 < (thin.neurons.data == 0).mean() < 0.5
    ids = thin.neurons.data
    assert label(ids, background=0, connectivity=1, return_num=True)[1] == len(np.unique(ids)) - 1
    both = (ids > 0) & (block.neurons.data > 0)
    pairs = np.unique(np.stack([ids[both], block.neurons.data[both]]), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1]  # pieces of the same neurons
    assert not thin.mitochondria.data[ids == 0].any()


def test_the_same_seed_gives_the_same_bytes_and_others_do_not():
    options = {"shape": (4, 40, 40), "spacing_um": (0.04, 0.012, 0.012)}
    make_world.cache_clear()
    a = phantom_em_volume(**options, seed=2)
    make_world.cache_clear()
    b = phantom_em_volume(**options, seed=2)
    assert np.array_equal(a.image.data, b.image.data)
    assert np.array_equal(a.neurons.data, b.neurons.data)
    for other in ({"seed": 3}, {"seed": 2, "subject": 1}):
        c = phantom_em_volume(**options, **other)
        assert not np.array_equal(a.neurons.data, c.neurons.data)


SMALL = {"shape": (12, 48, 48), "spacing_um": (0.04, 0.02, 0.02), "seed": 5}


class TestArtefacts:
    def test_rates(self):
        assert artefact_rates(1.0) == ARTEFACTS and set(artefact_rates(0).values()) == {0.0}
        with pytest.raises(RecipeError, match="did you mean 'folds'"):
            artefact_rates({"fold": 1})
        for wrong in (-1, float("nan"), "much", None):
            with pytest.raises(RecipeError, match="damage"):
                artefact_rates(wrong)

    @pytest.mark.parametrize("kind", ["missing", "folds", "knife", "contrast"])
    def test_one_alone_changes_the_picture_not_the_truth(self, kind):
        clean = phantom_em_volume(**SMALL, damage=0)
        hurt = phantom_em_volume(**SMALL, damage={kind: 0.5})
        assert np.array_equal(clean.neurons.data, hurt.neurons.data)
        changed = [
            z for z in range(12) if not np.array_equal(clean.image.data[z], hurt.image.data[z])
        ]
        if kind == "contrast":
            assert len(changed) == 12 and not hurt.artefacts
            return
        assert sorted(hurt.artefacts) == changed and 0 < len(changed) < 12
        assert all(had == [kind] for had in hurt.artefacts.values())
        if kind == "missing":
            assert all(hurt.image.data[z].std() < 4 for z in changed)
        if kind == "folds":
            darker = clean.image.data.astype(int) - hurt.image.data
            assert all(darker[z].max() > 60 and (darker[z] == 0).mean() > 0.2 for z in changed)

    def test_shifts_move_picture_and_truth_together(self):
        moved = phantom_em_volume(**SMALL, damage={"shift": 0.02})
        still = phantom_em_volume(**SMALL, damage=0)
        assert not np.array_equal(moved.neurons.data, still.neurons.data)
        image, ids = moved.image.data, moved.neurons.data
        edge = np.zeros(ids.shape, bool)
        edge[:, :, 1:] = ids[:, :, 1:] != ids[:, :, :-1]
        assert all(image[z][edge[z]].mean() < image[z][~edge[z]].mean() for z in range(12))
        drawn = shifts(200, 0.02, 0, 0)
        assert np.abs(drawn).max() <= FURTHEST_UM and drawn.std() > 0.01


class TestDataset:
    def make(self, **options):
        return phantom_em((4, 32, 32), (0.04, 0.016, 0.016), **options)

    def test_splits_are_animals(self):
        data = self.make(train=2, tune=1, test=1)
        assert data.splits == {
            "train": ["phantom-000", "phantom-001"],
            "tune": ["phantom-002"],
            "test": ["phantom-003"],
        }
        assert len(set(data.subjects.values())) == 4 and data.label_map is None
        samples = [data[name] for name in data.names]
        assert len({sample.image.data.tobytes() for sample in samples}) == 4
        assert samples[0].image.axes == samples[0].labels.axes == "zyx"
        again = pickle.loads(pickle.dumps(data))["phantom-001"]
        assert np.array_equal(again.image.data, samples[1].image.data)

    def test_three_truths_of_the_same_volumes(self):
        options = {"shape": (10, 96, 96), "spacing_um": (0.04, 0.012, 0.012), "train": 1}
        by_truth = {
            truth: phantom_em(**options, truth=truth)["phantom-000"]
            for truth in ("neurons", "mitochondria", "synapses")
        }
        images = [sample.image.data for sample in by_truth.values()]
        assert all(np.array_equal(image, images[0]) for image in images)
        neurons = by_truth["neurons"].labels.data
        mito = by_truth["mitochondria"]
        assert mito.meta["hosts"]
        for number, neuron in mito.meta["hosts"].items():
            assert np.unique(neurons[mito.labels.data == int(number)]).tolist() == [neuron]
        assert set(by_truth["synapses"].meta["partners"]) == {
            str(i) for i in np.unique(by_truth["synapses"].labels.data) if i
        }

    def test_a_volume_in_memory_is_that_of_its_options(self):
        kept = self.make(damage={"knife": 1.0})["phantom-000"]
        assert kept.image.data is self.make(damage={"knife": 1.0})["phantom-000"].image.data
        with pytest.raises(ValueError, match="read-only"):
            kept.image.data[0] = 0
        fresh = phantom_em_volume((4, 32, 32), (0.04, 0.016, 0.016), damage={"knife": 1.0})
        assert np.array_equal(kept.image.data, fresh.image.data)
        clean = self.make(damage=0)["phantom-000"]
        assert not np.array_equal(clean.image.data, kept.image.data)

    def test_written_and_read_again(self, tmp_path):
        data = self.make(train=1, tune=0, test=1, truth="mitochondria", damage={"knife": 1})
        again = read_folder(write_folder(data, tmp_path / "out"))
        for name in data.names:
            assert np.array_equal(again[name].labels.numpy(), data[name].labels.numpy())
            assert again[name].image.spacing == data[name].image.spacing
            assert again[name].meta == data[name].meta

    @pytest.mark.parametrize(
        "options",
        [
            {"train": -1},
            {"train": 0, "tune": 0, "test": 0},
            {"truth": "membranes"},
            {"shape": (4, 32)},
            {"shape": (4, 0, 32)},
            {"shape": (2**11, 2**11, 2**11)},
            {"spacing_um": (0.04, 0.016)},
            {"spacing_um": (40, 8, 8)},
            {"seed": -1},
            {"calibre": 5},
            {"boundary_um": 1},
            {"damage": {"holes": 1}},
        ],
    )
    def test_faults(self, options):
        with pytest.raises(RecipeError):
            phantom_em(**options)
