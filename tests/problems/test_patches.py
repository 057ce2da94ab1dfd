import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.augment.base import make_augmentation
from brodmann.core import DataError, Dataset, Label, LabelMap, Sample, Volume, keyed_rng
from brodmann.preprocess import Normalisation
from brodmann.problems.semantic import cases as cases_module
from brodmann.problems.semantic.cases import Case, class_locations, prepare_cases
from brodmann.problems.semantic.patches import Batches, read_patch

TREE = LabelMap([Label(i, f"region {i}", f"R{i}") for i in range(1, 6)], ignore=99)


def make_sample(name, shape=(40, 60)):
    rng = keyed_rng(0, name)
    labels = rng.integers(0, 6, shape).astype(np.uint16)
    labels[:3] = 99
    image = rng.integers(0, 4000, (2, *shape)).astype(np.uint16)
    return Sample(
        name,
        Volume(image, "cyx" if len(shape) == 2 else "czyx", (5,) * len(shape)),
        Volume(labels, "zyx"[-len(shape) :], (5,) * len(shape)),
    )


@pytest.fixture
def cases(tmp_path):
    data = Dataset("d", ["a", "b", "c"], make_sample, TREE)
    return prepare_cases(data, Normalisation(), 0, tmp_path)


@given(st.integers(0, 500), st.integers(2, 9))
@settings(deadline=None, max_examples=30)
def test_locations_are_those_of_a_loop(seed, classes):
    labels = keyed_rng(seed, "t").integers(-1, classes, (7, 8)).astype(np.int16)
    locations, present, offsets = class_locations(labels, classes, 0, "t")
    assert present == [c for c in range(1, classes) if (labels == c).any()]
    for i, class_ in enumerate(present):
        expected = np.flatnonzero(labels == class_)
        assert (locations[offsets[i] : offsets[i + 1]] == expected).all()


def test_common_classes_are_thinned_and_rare_ones_kept(monkeypatch):
    monkeypatch.setattr(cases_module, "LOCATIONS_PER_CLASS", 10)
    labels = np.ones((8, 8), np.int16)
    labels[0, :3] = 2
    locations, present, offsets = class_locations(labels, 3, 0, "t")
    assert present == [1, 2] and offsets == [0, 10, 13]
    assert len(set(locations[:10])) == 10 and (labels.flat[locations[:10]] == 1).all()


def test_cases_are_memory_mapped_and_kept(cases, tmp_path):
    assert isinstance(cases[0].image, np.memmap) and isinstance(cases[0].locations_of(1), np.memmap)
    sample = make_sample("a")
    assert (cases[0].image == sample.image.data).all()
    assert np.isclose(cases[0].statistics.mean[0], sample.image.data[0].mean())
    assert np.isclose(cases[0].statistics.std[1], sample.image.data[1].std())
    before = (tmp_path / "00000" / "case.json").stat().st_mtime_ns
    prepare_cases(Dataset("d", ["a"], make_sample, TREE), Normalisation(), 0, tmp_path)
    assert (tmp_path / "00000" / "case.json").stat().st_mtime_ns == before
    assert Case.open(tmp_path / "00001").name == "b"


def test_nothing_to_learn_is_an_error(tmp_path):
    def empty(name):
        return make_sample(name).with_(labels=Volume(np.zeros((40, 60), np.uint8), "yx", (5, 5)))

    with pytest.raises(DataError, match="holds any labelled"):
        prepare_cases(Dataset("d", ["a"], empty, TREE), Normalisation(), 0, tmp_path)
    with pytest.raises(DataError, match="no training samples"):
        prepare_cases(Dataset("d", [], empty, TREE), Normalisation(), 0, tmp_path)


@pytest.mark.parametrize("shape", [(40, 60), (10, 14, 16)])
def test_a_window_is_the_image_padded(tmp_path, shape):
    case = prepare_cases(
        Dataset("d", ["a"], lambda n: make_sample(n, shape), TREE), Normalisation(), 0, tmp_path
    )[0]
    size = tuple(n // 2 for n in shape)
    pad = [(n, n) for n in shape]
    whole = np.pad(Normalisation.apply(np.asarray(case.image), case.statistics), [(0, 0), *pad])
    labels = np.pad(np.asarray(case.labels), pad, constant_values=-1)
    rng = keyed_rng(0, "windows")
    for _ in range(20):
        centre = np.array([rng.integers(-3, n + 3) for n in shape])
        image, found, *_ = read_patch(case, centre, size)
        window = tuple(
            slice(c - s // 2 + n, c - s // 2 + s + n) for c, s, n in zip(centre, size, shape)
        )
        assert np.array_equal(image, whole[(slice(None), *window)])
        assert np.array_equal(found, labels[window])


def test_a_batch_depends_on_seed_and_step_alone(cases):
    def make(seed=0):
        return Batches(
            cases, (16, 24), 3, make_augmentation("classical", {"rotation_p": 1.0}), seed
        )

    a, b = make(), make()
    forward = [a[i] for i in range(4)]
    backward = [b[i] for i in reversed(range(4))][::-1]
    for x, y in zip(forward, backward):
        assert x["image"].equal(y["image"]) and x["labels"].equal(y["labels"])
    assert not a[0]["image"].equal(a[1]["image"])
    assert not a[0]["image"].equal(make(1)[0]["image"])
    assert a[0]["image"].shape == (3, 2, 16, 24) and a[0]["labels"].shape == (3, 16, 24)


def test_every_case_is_dealt_before_any_comes_again(cases):
    batches = Batches(cases, (16, 24), 2, make_augmentation("none"), 0)
    dealt = [batches.dealer[number].name for number in range(12)]
    for i in range(0, 12, 3):
        assert sorted(dealt[i : i + 3]) == ["a", "b", "c"]


def test_forced_patches_hold_a_rare_region_far_more_often(tmp_path):
    def rare(name):
        labels = np.zeros((200, 300), np.uint8)
        labels[150:153, 40:43] = 4
        labels[:20, 200:] = 1
        return Sample(
            name, Volume(np.zeros((200, 300), np.uint8), "yx", (5, 5)), Volume(labels, "yx", (5, 5))
        )

    found = prepare_cases(Dataset("d", ["a"], rare, TREE), Normalisation(), 0, tmp_path)

    def share(foreground):
        batches = Batches(found, (32, 32), 4, make_augmentation("none"), 0, foreground=foreground)
        return np.mean(
            [(batches[i]["labels"] == 4).any(-1).any(-1).float().mean() for i in range(60)]
        )

    assert share(1.0) > 0.4 > 0.1 > share(0.0)


SWAP = np.array([3, 5, 1, 0, 2, 4, -1])
"""Class -> another class; ignore, the last, stays."""


def mixed_sample(name):
    """Second labels that are the first under other names, so that they must move alike."""
    sample = make_sample(name)
    ids = sample.labels.data
    other = np.where(ids == 99, 99, SWAP[np.minimum(ids, 5)]).astype(np.uint16)
    return sample.with_(labels2=sample.labels.like(other), weight=0.25)


MOVING = {
    "rotation_p": 1.0, "scale_p": 1.0, "elastic_p": 1.0, "mirror_axes": "yx", "noise_p": 1.0,
    "blur_p": 1.0, "low_res_p": 1.0,
}  # fmt: skip


def test_both_label_maps_of_a_mixed_case_move_alike(tmp_path):
    mixed = prepare_cases(
        Dataset("d", ["a", "b"], mixed_sample, TREE), Normalisation(), 0, tmp_path / "mixed"
    )
    plain = prepare_cases(
        Dataset("d", ["a", "b"], make_sample, TREE), Normalisation(), 0, tmp_path / "plain"
    )
    augmentation = make_augmentation("classical", MOVING)
    ours, theirs = (Batches(found, (24, 32), 2, augmentation, 0) for found in (mixed, plain))
    for step in range(6):
        batch, bare = ours[step], theirs[step]
        assert "labels2" not in bare and "weight" not in bare
        # A second map changes nothing of the rest.
        assert batch["image"].equal(bare["image"]) and batch["labels"].equal(bare["labels"])
        assert (batch["labels2"].numpy() == SWAP[batch["labels"].numpy()]).all()
        assert batch["labels2"].dtype == torch.int64 and (batch["labels"] == -1).any()
        assert batch["weight"].dtype == torch.float32 and batch["weight"].tolist() == [0.25, 0.25]


def test_of_a_batch_that_is_mixed_in_part_the_rest_counts_as_before(tmp_path):
    def load(name):
        return mixed_sample(name) if name == "a" else make_sample(name)

    found = prepare_cases(Dataset("d", ["a", "b"], load, TREE), Normalisation(), 0, tmp_path)
    assert [case.weight for case in found] == [0.25, None]
    batch = Batches(found, (16, 24), 2, make_augmentation("none"), 0)[0]
    whole = batch["weight"] == 1
    assert sorted(batch["weight"].tolist()) == [0.25, 1.0]
    assert batch["labels2"][whole].equal(batch["labels"][whole])
    assert not batch["labels2"][~whole].equal(batch["labels"][~whole])


def test_a_case_is_the_same_in_memory_and_on_disk(tmp_path):
    spacing = (10.0, 5.0)
    kept = Case.of(mixed_sample("a"), TREE, Normalisation(), 0, spacing)
    again = Case.open(kept.saved(tmp_path / "case").store)
    assert kept.shape == again.shape == (2, 20, 60) and again.store == tmp_path / "case"
    for part in ("statistics", "classes", "offsets", "weight", "image_channels", "name"):
        assert getattr(kept, part) == getattr(again, part)
    for part in ("image", "labels", "labels2"):
        assert (getattr(kept, part) == getattr(again, part)).all()
    assert (again.locations_of(2) == kept.locations_of(2)).all()


def test_many_cases_hold_no_file_open(cases):
    """A large expansion has more files than a process may open."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("open files are counted on Linux")
    batches = Batches(cases, (16, 24), 3, make_augmentation("none"), 0)
    before = len(list(folder.iterdir()))
    batch = batches[0]
    assert len(batch) == 2 and len(list(folder.iterdir())) <= before
    assert len(pickle.dumps(batches)) < 10_000
