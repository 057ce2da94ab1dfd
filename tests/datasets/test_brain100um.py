"""The sections of the real brain: which, how labelled, and that the split does not leak."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from brodmann.core import DataError, Dataset, RecipeError
from brodmann.datasets.brain100um import GROUPS, IGNORE, TEST, brain100um, train_slices
from brodmann.datasets.leaks import leaks

ROOT = Path(os.environ.get("BRODMANN_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
FOLDER = ROOT / "sections" / "brain_100um"
real = [pytest.mark.real, pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no real data at {ROOT}")]


def test_the_rule_of_the_split_on_made_up_labels():
    labels = np.zeros((20, 20, 114), int)
    labels[:10, :, 3:] = 1  # 200 pixels from slice 3 on
    labels[0, 0, 9] = 0  # 199
    test = [*range(20, 28), *range(46, 54), *range(76, 84)]
    near = {k for k in range(114) if min(abs(k - t) for t in test) <= 2}
    expected = [k for k in range(3, 114) if k != 9 and k not in near and 113 - k not in near]
    assert train_slices(labels) == expected


def test_faults(tmp_path):
    with pytest.raises(RecipeError, match="groups or fine"):
        brain100um(tmp_path, "coarse")
    with pytest.raises(RecipeError, match="context"):
        brain100um(tmp_path, context=-1)
    with pytest.raises(DataError, match=r"image\.tif"):
        brain100um(tmp_path)


@pytest.fixture(scope="module")
def raw():
    return tifffile.imread(FOLDER / "image.tif"), tifffile.imread(FOLDER / "labels.tif")


class TestReal:
    pytestmark = real

    def test_34_training_slices_of_17_positions(self, raw):
        data = brain100um(ROOT)
        train = [int(name[5:]) for name in data.splits["train"]]
        assert len(train) == 34
        assert len({min(k, 113 - k) for k in train}) == 17
        assert {113 - k for k in train} == set(train)
        assert [int(name[5:]) for name in data.splits["test"]] == list(TEST)
        barred = {b for t in TEST for d in (-2, -1, 0, 1, 2) for b in (t + d, 113 - t - d)}
        assert not barred & set(train)
        assert set(data.subjects.values()) == {"brain"}

    def test_sections_and_groups(self, raw):
        data = brain100um(ROOT)
        assert data.label_map.class_names[1:] == list(GROUPS)
        sample = data["slice050"]
        assert (sample.image.shape, sample.image.spacing) == ((80, 132), (100.0, 100.0))
        assert np.array_equal(sample.image.numpy(), raw[0][:, :, 50].T)
        ids = sample.labels.numpy()
        assert ((ids > 0) == ~np.isin(raw[1][:, :, 50].T, (0, 997))).all()

    def test_only_the_root_lies_under_no_group(self, raw):
        present = set(np.unique(raw[1]).tolist()) - {0}
        table = brain100um(ROOT)._load.table
        assert present - set(table) == {997}
        assert int((raw[1] == 997).sum()) == 3652

    def test_fine_ids_have_more_than_200_training_pixels(self, raw):
        data = brain100um(ROOT, "fine")
        train = [int(name[5:]) for name in data.splits["train"]]
        present, counts = np.unique(raw[1][:, :, train], return_counts=True)
        often = set(present[(counts > 200) & (present > 0)].tolist())
        assert set(data.label_map.classes) == often
        test = np.unique(raw[1][:, :, list(TEST)])
        assert len(often & set(test.tolist())) == 114
        ids, truth = data["slice050"].labels.numpy(), raw[1][:, :, 50].T
        kept = np.isin(truth, [*often, 0])
        assert np.array_equal(ids[kept], truth[kept])
        assert (ids[~kept] == IGNORE).all()
        assert (~kept).any()
        assert data.label_map.to_classes(ids).min() == -1

    def test_context_adds_neighbours_as_channels(self, raw):
        data = brain100um(ROOT, context=2)
        image = data["slice050"].image
        assert image.channels == ("slice -2", "slice -1", "slice", "slice +1", "slice +2")
        assert np.array_equal(image.numpy(), np.moveaxis(raw[0][:, :, 48:53], -1, 0).swapaxes(1, 2))
        wide = brain100um(ROOT, context=20)["slice006"].image.numpy()
        assert np.array_equal(wide[0], wide[14])

    @pytest.mark.parametrize("level", ["groups", "fine"])
    def test_the_split_holds_no_twins_but_mirrored_halves_would(self, level):
        data = brain100um(ROOT, level)
        assert [f.what for f in leaks(data) if "animals" not in f.what] == []
        train = data.splits["train"]
        halves = {"train": train[:17], "test": train[17:]}
        naive = Dataset("naive", data.names, data._load, data.label_map, splits=halves)
        found = {f.file for f in leaks(naive) if f.file.startswith("labels")}
        assert len(found) >= (15 if level == "groups" else 7)


@pytest.mark.real
def test_unlabelled_slices_fill_the_gaps_and_leak_nothing(real_data):
    plain, whole = brain100um(real_data), brain100um(real_data, unlabelled=True)
    rest = whole.splits["unlabelled"]
    assert (
        whole.splits["train"] == plain.splits["train"]
        and whole.splits["test"] == plain.splits["test"]
    )
    assert all(whole[name].labels is None for name in rest) and not set(rest) & set(plain.names)
    positions = sorted(whole[name].meta["position"] for name in whole.names)
    assert positions == list(range(positions[0], positions[-1] + 1))
    assert not any("unlabelled" in finding.what for finding in leaks(whole))


FEW = [8, 11, 14, 17, 40, 42, 56, 103]


@pytest.mark.real
def test_few_labelled_slices_are_the_only_ones_trained_on(real_data):
    whole, few = brain100um(real_data), brain100um(real_data, labelled=FEW[::-1])
    assert few.splits["train"] == [f"slice{k:03d}" for k in FEW]
    assert few.splits["test"] == whole.splits["test"]
    assert set(few.splits) == {"train", "test"} and len(few.names) == len(FEW) + len(TEST)
    assert not [f for f in leaks(few) if "animals" not in f.what]


@pytest.mark.real
def test_slices_left_over_are_images_without_labels(real_data):
    whole = brain100um(real_data)
    few = brain100um(real_data, labelled=FEW, unlabelled=True)
    left = set(whole.splits["train"]) - set(few.splits["train"])
    assert left <= set(few.splits["unlabelled"])
    assert all(few[name].labels is None for name in left)
    assert all(few[name].labels is not None for name in few.splits["train"])


@pytest.mark.real
def test_fine_ids_are_counted_on_the_labelled_slices(real_data):
    ids = tifffile.imread(real_data / "sections" / "brain_100um" / "labels.tif")
    present, counts = np.unique(ids[:, :, FEW], return_counts=True)
    often = set(present[(counts > 200) & (present > 0)].tolist())
    assert set(brain100um(real_data, "fine", labelled=FEW).label_map.classes) == often
    assert often < set(brain100um(real_data, "fine").label_map.classes)


@pytest.mark.real
@pytest.mark.parametrize(
    ("labelled", "named"), [([8, 20, 56, 113], "20, 113"), ([8, 8], "once each"), ([], "once each")]
)
def test_slices_that_are_not_for_training_are_refused(real_data, labelled, named):
    with pytest.raises(RecipeError, match=named) as caught:
        brain100um(real_data, labelled=labelled)
    assert "\n" not in str(caught.value)
