"""Phantom sections: seeded, exact, the same anatomy at any size."""

import itertools

import numpy as np
import pytest

from brodmann.core import DataError, Label, LabelMap, RecipeError
from brodmann.datasets.phantoms import phantom_section, phantom_sections, phantom_tree
from brodmann.datasets.phantoms.sections import UNIT_UM

SHAPE = (128, 256)
TREE = phantom_tree()


def ids_of(section) -> set[int]:
    return set(np.unique(section.labels.data).tolist()) - {0}


def same(a, b) -> bool:
    return np.array_equal(a.image.data, b.image.data) and np.array_equal(
        a.labels.data, b.labels.data
    )


def test_grid_dtype_and_spacing():
    section = phantom_section((100, 150), TREE, channels=3, spacing_um=(2.0, 3.0), subject=7)
    assert section.image.shape == (3, 100, 150) and section.image.dtype == np.uint16
    assert section.labels.shape == (100, 150) and section.labels.dtype == np.uint16
    assert section.image.axes == "cyx" and section.labels.axes == "yx"
    assert section.image.spacing == section.labels.spacing == (2.0, 3.0)
    assert section.subject == "brain-007"
    # Half the width is the unit here.
    assert phantom_section((100, 150), TREE).image.spacing == (UNIT_UM / 75,) * 2


def test_same_bytes_whatever_came_before():
    first = phantom_section(SHAPE, TREE, subject=1, plane=0.4, seed=5)
    phantom_section((64, 80), phantom_tree(9, 3), subject=2, plane=0.1, channels=1)
    assert same(first, phantom_section(SHAPE, TREE, subject=1, plane=0.4, seed=5))


def test_same_bytes_whatever_the_threads(monkeypatch):
    from numba import config

    one = phantom_section((512, 700), TREE, plane=0.2)
    for threads in (1, 3):
        monkeypatch.setattr(config, "NUMBA_NUM_THREADS", threads)
        assert same(one, phantom_section((512, 700), TREE, plane=0.2))


def test_renders_in_forked_workers_and_threads():
    """As a data loader does: after rendering here, in children and in threads at once."""
    import multiprocessing
    from concurrent.futures import ThreadPoolExecutor

    data = phantom_sections(4, 1, (128, 256))
    here = [sample.image.data for sample in data]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        there = pool.map_async(_pixels, [(data, i) for i in range(4)]).get(60)
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(lambda i: data[i].image.data, range(4)))
    for a, b, c in zip(here, there, beside):
        assert np.array_equal(a, b) and np.array_equal(a, c)


def _pixels(task):
    data, i = task
    return data[i].image.data


@pytest.mark.parametrize("change", [{"subject": 2}, {"plane": 0.6}, {"seed": 6}])
def test_subject_plane_and_seed_change_the_anatomy(change):
    usual = {"subject": 1, "plane": 0.4, "seed": 5, "damage": 0.0}
    a = phantom_section(SHAPE, TREE, **usual).labels.data
    b = phantom_section(SHAPE, TREE, **usual | change).labels.data
    tissue = (a > 0) & (b > 0)
    agree = (a == b)[tissue].mean()
    # Other brains, but brains: most tissue lies on tissue, much of it in another region.
    assert 0.05 < agree < 0.9
    assert tissue.sum() / ((a > 0) | (b > 0)).sum() > 0.65


@pytest.mark.parametrize(("plane", "damage"), [(0.15, 0.0), (0.7, 4.0)])
def test_anatomy_and_damage_do_not_depend_on_the_size(plane, damage):
    """Label images at three sizes agree but for a rim about the boundaries."""
    make = {"tree": TREE, "subject": 3, "plane": plane, "damage": damage}
    small = phantom_section((170, 340), **make).labels.data
    for times in (3, 5):
        large = phantom_section((170 * times, 340 * times), **make).labels.data
        centre = large[times // 2 :: times, times // 2 :: times]
        assert (centre == small).mean() > 0.985
        areas = [np.bincount(x.ravel(), minlength=119) / x.size for x in (large, small)]
        assert np.abs(areas[0] - areas[1]).max() < 0.002


def test_blocks_are_the_pixels_own_labels():
    """The filled blocks of large images hold what every pixel worked out alone holds."""
    from brodmann.datasets.phantoms import sections

    make = {"tree": TREE, "subject": 3, "plane": 0.3, "damage": 2.0}
    blocky = phantom_section((1300, 2600), **make).labels.data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "NODES_PER_UNIT", 1300)
        exact = phantom_section((1300, 2600), **make).labels.data
    assert (blocky == exact).mean() > 0.9995


def test_every_id_is_a_class_and_the_frame_is_half_full():
    shares = []
    for subject in range(6):
        section = phantom_section(SHAPE, TREE, subject=subject, plane=subject / 5)
        assert ids_of(section) <= set(TREE.classes)
        shares.append((section.labels.data > 0).mean())
    assert 0.40 < np.mean(shares) < 0.52  # the paper: foreground to background 0.84, so 0.457


def test_regions_come_and_go_with_the_plane():
    seen = [
        {TREE[i].acronym for i in ids_of(phantom_section((256, 512), TREE, plane=p, damage=0.0))}
        for p in np.linspace(0, 1, 21)
    ]
    every = set().union(*seen)
    assert len(every) == 118
    counts = {name: sum(name in here for here in seen) for name in every}
    assert 1 <= counts["AOB"] <= 3 and 1 <= counts["RSPv6b"] <= 2
    assert min(map(len, seen)) < 100
    assert sum(count == len(seen) for count in counts.values()) > 40


def test_sizes_change_smoothly_with_the_plane():
    areas = np.array([
        np.bincount(
            phantom_section(SHAPE, TREE, plane=p, damage=0.0).labels.data.ravel(), minlength=119
        )[1:]
        for p in (0.50, 0.51, 0.7)
    ])  # fmt: skip
    near, far = (np.abs(areas[k] - areas[0]).sum() / areas[0].sum() for k in (1, 2))
    assert near < 0.25 and far > 1.4 * near


def test_sections_of_a_subject_are_alike():
    """The subject's own anatomy shows: its sections agree more than those of two animals."""

    def shape_of(subject, plane):
        return phantom_section(SHAPE, TREE, subject=subject, plane=plane, damage=0.0).labels.data

    within, between = [], []
    for subject in range(5):
        a = shape_of(subject, 0.45)
        within.append((a == shape_of(subject, 0.47)).mean())
        between.append((a == shape_of(subject + 5, 0.47)).mean())
    assert np.mean(within) > np.mean(between) + 0.03


@pytest.mark.parametrize(
    ("tree", "channels"),
    [
        (phantom_tree(5, 2), 1),
        (phantom_tree(300, 11), 2),
        (phantom_tree(40, 23), 4),
        (phantom_tree(1, 1), 1),
    ],
)
def test_other_trees_and_channels(tree, channels):
    seen = set()
    for plane in np.linspace(0.05, 0.95, 7):
        section = phantom_section(
            (256, 512), tree, plane=float(plane), channels=channels, damage=0.0
        )
        assert section.image.shape[0] == channels
        seen |= ids_of(section)
    assert seen <= set(tree.classes)
    assert len(seen) >= 0.85 * len(tree.classes)


def test_a_tree_of_ones_own():
    """Known acronyms lie where theirs do, three levels work, ids may be any."""
    own = LabelMap([
        Label(997, "Brain", "root"),
        Label(1000, "Cerebellum", "CB", 997),
        Label(4, "Rest", "rest", 997),
        Label(60000, "Vermis", "v", 1000),
        Label(12, "Left over", "l", 4),
    ])  # fmt: skip
    section = phantom_section((256, 512), own, damage=0.0)
    assert ids_of(section) == {60000, 12}
    named = phantom_section((256, 512), TREE, damage=0.0).labels.data
    primary = np.array([0] + [TREE.primary(i) for i in TREE.classes])[named]
    cerebellum = primary == TREE.find("CB").id
    mine = section.labels.data == 60000
    assert (cerebellum & mine).sum() / (cerebellum | mine).sum() > 0.95


def test_neighbours_overlap_in_brightness():
    """Of regions that touch, most share half of their brightness histogram or more."""
    section = phantom_section((384, 768), TREE, plane=0.45, damage=0.0, subject=2)
    labels, image = section.labels.data.astype(int), section.image.data[0].astype(float)
    pairs = np.concatenate([
        np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()], 1),
        np.stack([labels[:-1].ravel(), labels[1:].ravel()], 1),
    ])  # fmt: skip
    pairs = np.sort(pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs.min(1) > 0)], axis=1)
    pairs, counts = np.unique(pairs, axis=0, return_counts=True)
    shared = []
    bins = np.linspace(0, image.max(), 60)
    for a, b in pairs[counts > 15]:
        one, two = (np.histogram(image[labels == k], bins)[0] for k in (a, b))
        shared.append(np.minimum(one / one.sum(), two / two.sum()).sum())
    assert len(shared) > 60
    assert np.median(shared) > 0.5
    # But they do differ: brightness tells something.
    assert np.min(shared) < 0.3


def test_channels_are_related_but_not_the_same():
    image = phantom_section((256, 512), TREE, channels=2, damage=0.0).image.data
    inside = phantom_section((256, 512), TREE, damage=0.0).labels.data > 0
    link = np.corrcoef(image[0][inside], image[1][inside])[0, 1]
    assert 0.2 < link < 0.95
    assert image[:, inside].mean() > 5 * image[:, ~inside].mean()


def test_dataset_is_lazy_grouped_and_ordered_by_nothing():
    data = phantom_sections(5, 2, (64, 128), test_subjects=2, channels=1, seed=3)
    assert len(data) == 10 and data.licence == "CC0 (synthetic)"
    assert len(data.splits["train"]) == 6 and len(data.splits["test"]) == 4
    train, test = ({data.subjects[n] for n in data.splits[s]} for s in ("train", "test"))
    assert not train & test and train | test == {f"brain-{i:03d}" for i in range(5)}
    last = data[9]
    assert same(last, phantom_sections(5, 2, (64, 128), test_subjects=2, channels=1, seed=3)[9])
    assert last.subject == "brain-004" and last.name == "brain-004-section-01"
    planes = [sample.meta["plane"] for sample in data]
    assert all(0 <= p <= 1 for p in planes) and len(set(planes)) == 10
    # Fewer test animals leave the sections themselves as they are.
    assert same(last, phantom_sections(5, 2, (64, 128), test_subjects=0, channels=1, seed=3)[9])


def test_dataset_can_be_pickled_for_workers():
    import pickle

    data = phantom_sections(2, 1, (64, 128))
    assert same(pickle.loads(pickle.dumps(data))[1], data[1])


def test_planes_range_and_default_test_share():
    data = phantom_sections(10, 1, (64, 128), planes=[0.3, 0.35])
    assert len(data.splits["test"]) == 2
    assert all(0.3 <= sample.meta["plane"] <= 0.35 for sample in data.split("test"))
    assert "test" not in phantom_sections(1).splits


@pytest.mark.parametrize(
    "bad",
    [
        {"shape": (256,)},
        {"shape": (256.0, 512)},
        {"shape": (2, 512)},
        {"shape": (256, 10**6)},
        {"channels": 0},
        {"channels": 1.5},
        {"plane": 1.2},
        {"plane": float("nan")},
        {"subject": -1},
        {"seed": "a"},
        {"spacing_um": 0.0},
        {"spacing_um": (1, 2, 3)},
        {"damage": -1},
        {"damage": {"tear": 1}},
        {"damage": {"tears": "many"}},
        {"tree": "118"},
    ],
)
def test_bad_arguments_of_a_section(bad):
    with pytest.raises(RecipeError):
        phantom_section(**{"shape": (64, 128)} | bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"subjects": 0},
        {"sections_per_subject": 0},
        {"test_subjects": 4},
        {"test_subjects": -1},
        {"planes": (0.5, 0.2)},
        {"planes": 0.5},
        {"shape": (8, 8)},
        {"damage": {"dusts": 1}},
        {"subregions": 3, "primary": 4},
        {"spacing_um": -1},
    ],
)
def test_bad_arguments_of_a_dataset_are_found_before_rendering(bad):
    with pytest.raises(RecipeError):
        phantom_sections(**{"subjects": 4} | bad)


def test_trees_that_do_not_fit():
    with pytest.raises(DataError, match="70000"):
        phantom_section((64, 128), LabelMap([Label(70000, "Far", "F")]))
    with pytest.raises(DataError, match="no classes"):
        phantom_section((64, 128), LabelMap([]))


@pytest.mark.slow
def test_full_size_in_bounded_memory():
    """A full section in a process of its own stays under 1.5 GB."""
    import subprocess
    import sys

    code = (
        "import resource; from brodmann.datasets.phantoms import phantom_section;"
        "s = phantom_section((6383, 12531)); assert s.image.shape == (2, 6383, 12531);"
        "assert 0.3 < (s.labels.data[::9, ::9] > 0).mean() < 0.6;"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 1.5e9


def test_planes_of_one_subject_share_no_noise():
    a, b = (phantom_section(SHAPE, TREE, plane=p, damage=0.0).image.data for p in (0.5, 0.51))
    empty = [x[:, :6, :40].astype(float) for x in (a, b)]
    assert all(x.std() > 0 for x in empty)
    assert abs(np.corrcoef(empty[0].ravel(), empty[1].ravel())[0, 1]) < 0.2


@pytest.mark.parametrize("shape", [(228, 256), (128, 456), (129, 456)])
def test_a_larger_frame_holds_the_same_brain_in_its_middle(shape):
    make = {"tree": TREE, "subject": 2, "plane": 0.35, "damage": 3.0}
    # The unit is the same: half the width, or the height.
    scale = min(shape[0], shape[1] / 2)
    usual = phantom_section((round(scale), round(2 * scale)), **make).labels.data
    wide = phantom_section(shape, **make).labels.data
    top, left = (shape[0] - usual.shape[0]) // 2, (shape[1] - usual.shape[1]) // 2
    middle = wide[top : top + usual.shape[0], left : left + usual.shape[1]]
    assert (middle == usual).mean() > 0.999
    outside = wide.astype(bool).sum() - (middle > 0).sum()
    assert outside < 0.01 * (middle > 0).sum()


def test_every_size_of_frame():
    for shape in itertools.product((16, 97), (16, 203)):
        section = phantom_section(shape, phantom_tree(5, 2))
        assert section.image.shape == (2, *shape) and (section.labels.data > 0).any()


def test_markers_are_the_channels_of_the_whole_section():
    whole = phantom_sections(2, 1, (32, 64), 3, subregions=4, primary=2)
    some = phantom_sections(2, 1, (32, 64), 3, subregions=4, primary=2, markers=[3, 1])
    assert some[0].image.channels == ("marker 3", "marker 1")
    assert (some[0].image.data == whole[0].image.data[[2, 0]]).all()
    assert (some[0].labels.data == whole[0].labels.data).all()
    for wrong in ([0], [4], [1, 1], []):
        with pytest.raises(RecipeError, match="markers"):
            phantom_sections(2, 1, (32, 64), 3, markers=wrong)
