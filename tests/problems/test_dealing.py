"""Which case comes when, and copies that are made as they are dealt."""

import dataclasses
import pickle
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from brodmann.augment.base import Augmentation, CannotDraw, make_augmentation
from brodmann.augment.expand import copy_name, expand
from brodmann.core import keyed_rng
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.phantoms.sections import phantom_sections
from brodmann.preprocess import Normalisation
from brodmann.problems.semantic.cases import prepare_cases
from brodmann.problems.semantic.dealing import Deck, Maker, Online, Phases, Turns
from brodmann.problems.semantic.patches import Batches


@given(st.integers(1, 7), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_a_deck_is_dealt_in_shuffled_rounds(size, seed):
    deck = Deck(range(size), seed, "train")
    rounds = [[deck.dealt(r * size + i) for i in range(size)] for r in range(4)]
    for r, dealt in enumerate(rounds):
        order = keyed_rng(seed, "train", "deck", r).permutation(size).tolist()
        assert dealt == [(r, card) for card in order]
    assert deck[0] == rounds[0][0][1], "going back changes nothing"


def test_turns_and_phases_leave_out_nothing():
    turns = Turns([f"a{i}" for i in range(9)], [f"b{i}" for i in range(9)], 3)
    expected = [f"{dealer}{r * 3 + i}" for r in range(3) for dealer in "ab" for i in range(3)]
    assert [turns[n] for n in range(18)] == expected
    phases = Phases("abcdefgh", "ABCDEFGH", 5)
    assert "".join(phases[n] for n in range(9)) == "abcdeABCD"


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    made = phantom_sections(
        subjects=4, test_subjects=1, shape=(48, 96), subregions=8, primary=3, seed=1
    )
    folder = write_folder(made, tmp_path_factory.mktemp("pool") / "data")
    return read_folder(folder).split("train")


def dealt_online(pool, method, seed=7):
    maker = Maker(method, pool, seed)
    return Online(maker, Normalisation(), pool[0].image.spacing, 3, "made")


@pytest.mark.parametrize("name", ["mixup", "prmix"])
def test_an_online_copy_is_the_file_that_an_expansion_holds(pool, tmp_path, name):
    method = make_augmentation(name)
    out = expand(pool, method, tmp_path / "out", factor=2, seed=7)
    written = read_folder(out)
    files = prepare_cases(
        written.split("train-made"), Normalisation(), 3, tmp_path / "cases", pool[0].image.spacing
    )
    by_name = {case.name: case for case in files}
    assert len(by_name) == 6
    online = dealt_online(pool, method.fitted(pool, tmp_path / "fitted", seed=7))
    met = set()
    for number in range(6):
        case = online[number]
        copy, target = online.deck.dealt(number)
        assert copy == number // 3 and case.name == copy_name(target, method, copy)
        file, sample = by_name[case.name], written[case.name]
        assert case.image.tobytes() == sample.image.read().tobytes()
        ids = written.label_map.to_ids(case.labels).astype(sample.labels.dtype)
        assert ids.tobytes() == sample.labels.numpy().tobytes()
        for part in ("statistics", "classes", "offsets", "weight", "shape"):
            assert getattr(case, part) == getattr(file, part)
        assert (case.labels == file.labels).all()
        if name == "mixup":
            assert (case.labels2 == file.labels2).all() and case.weight < 1
        else:
            assert (case.labels == -1).any(), "bare pixels are ignored"
        assert all((case.locations_of(c) == file.locations_of(c)).all() for c in case.classes)
        met.add(case.name)
    assert met == by_name.keys()


@dataclasses.dataclass(frozen=True)
class Refusing(Augmentation):
    name: ClassVar[str] = "test-refusing"

    def draw(self, rng, target, pool=None):
        raise CannotDraw("none of this", target.name)

    def apply(self, params, target, pool=None):
        raise AssertionError


def test_a_target_that_allows_no_copy_is_taken_as_it_is(pool):
    online = dealt_online(pool, Refusing())
    cases = [online[number] for number in range(3)]
    assert sorted(case.name for case in cases) == sorted(pool.names)
    assert all((case.image == pool[case.name].image.data).all() for case in cases)


def test_batches_of_copies_are_the_same_in_another_process(pool):
    """Dataset, method and dealer travel to a spawned worker; batches are keyed by step alone."""
    online = dealt_online(pool, make_augmentation("mixup"))
    batches = Batches(online, (32, 32), 2, make_augmentation("classical"), 0)
    sampler = [5, 0, 3]
    loader = DataLoader(
        batches, batch_size=None, sampler=sampler, num_workers=1, multiprocessing_context="spawn"
    )
    again = pickle.loads(pickle.dumps(batches))
    for step, batch in zip(sampler, loader, strict=True):
        here, copied = batches[step], again[step]
        assert here.keys() == {"image", "labels", "labels2", "weight"}
        for key, value in here.items():
            assert value.equal(batch[key]) and value.equal(copied[key])
    first, later = batches[0]["image"], batches[3]["image"]
    assert not np.array_equal(first, later)
