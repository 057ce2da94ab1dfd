"""Crops told as cells or none: contrast, batches, training, threshold, and what is on disk."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.core import DataError, ModelError, RecipeError, Volume
from brodmann.problems.candidates import (
    CropClassifier,
    CropSet,
    choose_threshold,
    crop_intensities,
    load_classifier,
    train_classifier,
)
from brodmann.problems.candidates.batches import CropBatches, Pool, slid
from brodmann.problems.candidates.intensity import crop_contrast
from brodmann.problems.candidates.net import build_crop_net
from brodmann.problems.cells import Contrast, Intensity, measure_intensity
from brodmann.problems.cells.batches import Turns
from brodmann.problems.cells.blobness import blobness
from brodmann.problems.learner import Schedule

SPACING = (4.0, 2.0, 2.0)
SHAPE = (6, 16, 16)
LOOK = Contrast(scale="volume", unit=2.0)
SHORT = Schedule(
    steps=60, optimizer="adamw", lr=5e-3, weight_decay=0.05, decay="cosine", warmup_steps=5
)


def brain(name, gain, count=60, seed=0, channels=1):
    """Half of the crops show a spot in the middle, the others one beside it, or none."""
    rng = np.random.default_rng((seed, sum(map(ord, name))))
    crops = 500 * gain + 30 * gain * rng.standard_normal((count, channels, *SHAPE))
    labels = np.arange(count) % 2
    for crop, label in zip(crops, labels):
        place = np.array([3, 8, 8]) + rng.integers(-1, 2, 3) * (0, 1, 1)
        if not label:
            place = np.array([3, 8 + rng.choice([-6, 6]), rng.integers(2, 14)])
        d = [(np.arange(n) - p) * s for n, p, s in zip(SHAPE, place, SPACING)]
        apart = d[0][:, None, None] ** 2 + d[1][:, None] ** 2 + d[2] ** 2
        crop[0] += 250 * gain * np.exp(-apart / 18)
    return CropSet(name, crops.clip(0).astype(np.uint16), labels)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    sets = [brain("a", 1.0), brain("b", 3.0)]
    return train_classifier(
        sets, SPACING, tmp_path_factory.mktemp("fit"), features=(8, 16), schedule=SHORT, batch=16
    )


def test_a_brain_of_another_brightness_is_told_right(trained):
    other = brain("c", 8.0, seed=1)
    p = trained.probability(other.crops, other.known(SPACING))
    assert ((p > trained.threshold) == other.labels).mean() > 0.95
    # The same crops by the intensity of another brain are another matter.
    wrong = trained.probability(other.crops, brain("a", 1.0).known(SPACING))
    assert np.abs(p - wrong).max() > 0.2


def test_a_spot_beside_the_middle_is_no_cell(trained):
    one = brain("d", 1.0, seed=2)
    p = trained.probability(one.crops, one.known(SPACING))
    moved = trained.probability(np.roll(one.crops, 6, axis=3), one.known(SPACING))
    assert p[one.labels == 1].mean() > moved[one.labels == 1].mean() + 0.5


def test_answers_do_not_depend_on_the_others_asked(trained):
    one = brain("e", 2.0, count=75)
    known = one.known(SPACING)
    whole = trained.probability(one.crops, known)
    assert whole.dtype == np.float32 and len(whole) == 75
    order = np.random.default_rng(0).permutation(75)
    assert np.array_equal(trained.probability(one.crops[order], known), whole[order])
    single = [trained.probability(crop[None], known)[0] for crop in one.crops[:5]]
    assert np.array_equal(single, whole[:5])
    assert trained.probability(one.crops[:0], known).shape == (0,)


def test_saved_and_loaded_it_says_the_same(trained, tmp_path):
    folder = trained.save(tmp_path / "c")
    assert {f.name for f in folder.iterdir()} == {
        "classifier.yaml", "model.safetensors", "README.md",
    }  # fmt: skip
    again = load_classifier(folder)
    one = brain("f", 1.0)
    known = one.known(SPACING)
    assert np.array_equal(
        again.probability(one.crops, known), trained.probability(one.crops, known)
    )
    for name in ("shape", "spacing", "threshold", "contrast", "channels", "facts", "name"):
        assert getattr(again, name) == getattr(trained, name)
    card = (folder / "README.md").read_text()
    assert "6 x 16 x 16 voxels of 4 x 2 x 2 um" in card and "a, b" in card


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_folders_are_not_trusted(trained, tmp_path):
    folder = trained.save(tmp_path / "c")
    text = (folder / "classifier.yaml").read_text()
    for wrong in (
        "!!python/object/apply:os.getcwd []",
        "format: 9",
        "- a",
        text.replace("threshold:", "threshould:"),
        text.replace("features:\n  - 8", "features:\n  - many"),
        text.replace("shape:\n- 6", "shape:\n- -6"),
    ):
        (folder / "classifier.yaml").write_text(wrong)
        with pytest.raises(ModelError) as caught:
            load_classifier(folder)
        assert "\n" not in str(caught.value)
    (folder / "classifier.yaml").write_text(text)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="weights cannot be read"):
        load_classifier(folder)
    with pytest.raises(ModelError, match="no classifier of cells"):
        load_classifier(tmp_path / "none")


def test_a_killed_training_ends_with_the_same_bytes(tmp_path):
    sets = [brain("a", 1.0), brain("b", 3.0)]
    schedule = Schedule(steps=12, optimizer="adamw", lr=1e-3, checkpoint_every=4)
    options = {"features": (4, 8), "schedule": schedule, "batch": 8, "seed": 3}

    class Stop(Exception):
        pass

    def stop(done, loss):
        if done == 7:
            raise Stop

    whole = train_classifier(sets, SPACING, tmp_path / "w", **options).save(tmp_path / "whole")
    with pytest.raises(Stop):
        train_classifier(sets, SPACING, tmp_path / "k", on_step=stop, **options)
    assert (tmp_path / "k" / "checkpoint.pt").exists()
    cut = train_classifier(sets, SPACING, tmp_path / "k", **options).save(tmp_path / "cut")
    for name in ("model.safetensors", "classifier.yaml", "README.md"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, b: [], "there are no crops"),
        (lambda a, b: [CropSet("a", a.crops, a.labels * 0)], "no crop shows a cell"),
        (lambda a, b: [CropSet("a", a.crops, a.labels * 0 + 1)], "no cell"),
        (lambda a, b: [a, CropSet("b", b.crops[..., 1:], b.labels)], "differ in channels or shape"),
        (lambda a, b: [CropSet("a", a.crops[:, 0], a.labels)], "differ in channels or shape"),
        (lambda a, b: [CropSet("a", a.crops, a.labels[1:])], "labelled 1"),
        (lambda a, b: [CropSet("a", a.crops, a.labels - 1)], "labelled 1"),
        (lambda a, b: [CropSet("a", np.where(a.crops > 700, np.nan, a.crops), a.labels)], "NaN"),
    ],
)
def test_crops_that_teach_nothing_are_refused_in_one_line(tmp_path, change, words):
    sets = change(brain("a", 1.0, 8), brain("b", 1.0, 8))
    with pytest.raises(DataError, match=words) as caught:
        train_classifier(sets, SPACING, tmp_path)
    assert "\n" not in str(caught.value)


def test_crops_that_do_not_fit_are_refused_in_one_line(trained, tmp_path):
    one = brain("a", 1.0, 8)
    known = one.known(SPACING)
    for crops, said in (
        (one.crops[..., 1:], "6 x 16 x 16 voxels"),
        (np.concatenate([one.crops] * 2, 1), "1 channel"),
        (one.crops[:, 0], "6 x 16 x 16 voxels"),
    ):
        with pytest.raises(ModelError, match=said):
            trained.probability(crops, known)
    with pytest.raises(ModelError, match="each channel"):
        trained.probability(one.crops, known * 2)
    bad = one.crops.astype(float)
    bad[5, 0, 1, 2, 3] = np.inf
    with pytest.raises(DataError, match="crop 5"):
        trained.probability(bad, known)
    broken = load_classifier(trained.save(tmp_path / "c"))
    with torch.no_grad():
        broken.net.head.bias.fill_(np.nan)
    with pytest.raises(ModelError, match="no number"):
        broken.probability(one.crops, known)
    for options, said in (({"batch": 7}, "even"), ({"slide": (0, 9, 0)}, "quarter")):
        with pytest.raises(RecipeError, match=said):
            train_classifier([one], SPACING, tmp_path, **options)


def test_contrast_is_its_definition():
    crops = brain("a", 2.0, 4, channels=2).crops
    known = [Intensity(400, 20), Intensity(9, 5)]
    look = Contrast(scale="volume", unit=2.0, blobs_um=((4, 3, 3),))
    seen = crop_contrast(crops, look, SPACING, known)
    assert seen.shape == (4, 4, *SHAPE)
    for crop, mine in zip(crops.astype(float), seen):
        plain = [
            (values - np.median(values)) / (2 * one.deviation) for values, one in zip(crop, known)
        ]
        blobs = [blobness(values.astype(np.float32), (1.0, 1.5, 1.5)) for values in plain]
        assert np.allclose(mine, np.arcsinh([*plain, *blobs]), atol=1e-4)


def test_crops_say_how_bright_their_brain_is():
    rng = np.random.default_rng(0)
    image = 800 + 40 * rng.standard_normal((60, 120, 120))
    image[::20, ::15, ::15] += 4000
    whole = measure_intensity(Volume(image, "zyx", SPACING))
    crops = np.stack(
        [image[z : z + 8, y : y + 32, x : x + 32] for z, y, x in rng.integers(0, 50, (40, 3))]
    )[:, None]
    (found,) = crop_intensities(crops, SPACING)
    assert found.level == pytest.approx(whole.level, rel=0.01)
    assert found.deviation == pytest.approx(whole.deviation, rel=0.05)
    with pytest.raises(DataError, match="no crop says"):
        crop_intensities(crops[:0], SPACING)


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    labels = np.array([1] * 3 + [0] * 40 + [1] * 20 + [0] * 2 + [0] * 5)
    subjects = np.array(["a"] * 43 + ["b"] * 22 + ["c"] * 5)
    seen = rng.standard_normal((len(labels), 1, 4, 8, 8)).astype(np.float32)
    return Pool(seen, labels, subjects)


def test_batches_are_balanced_and_a_function_of_the_step(pool):
    still = Turns(mirror="", turn=False, gain=0, noise=0)
    batches = CropBatches(pool, 12, still, (0, 0, 0), 5)
    drawn = {label: [] for label in (0, 1)}
    for step in range(40):
        batch = batches[step]
        assert batch["target"].sum() == 6 and batch["image"].shape == (12, 1, 4, 8, 8)
        for crop, label in zip(batch["image"].numpy(), batch["target"].numpy()):
            at = np.flatnonzero((pool.seen == crop).all((1, 2, 3, 4)))
            assert len(at) == 1 and pool.labels[at[0]] == label
            drawn[int(label)].append(pool.subjects[at[0]])
    for label, brains in ((0, "abc"), (1, "ab")):
        counts = [drawn[label].count(name) for name in brains]
        assert max(counts) - min(counts) <= 2, counts
    again = CropBatches(pool, 12, Turns(), (0, 1, 1), 5)
    fresh = CropBatches(pool, 12, Turns(), (0, 1, 1), 5)
    assert torch.equal(again[7]["image"], fresh[7]["image"])
    assert not torch.equal(again[7]["image"], again[8]["image"])


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(-1, 1), st.integers(-3, 3), st.integers(-3, 3)))
def test_sliding_moves_and_mirrors(by):
    crop = np.arange(2.0 * 4 * 12 * 13).reshape(2, 4, 12, 13)
    mine = slid(crop, by)
    for z, y, x in np.ndindex(4, 12, 13):
        at = [
            -1 - i if i < 0 else 2 * n - 1 - i if i >= n else i
            for i, n in zip(np.subtract((z, y, x), by), (4, 12, 13))
        ]
        assert np.array_equal(mine[:, z, y, x], crop[:, at[0], at[1], at[2]])


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(1, 4))
def test_no_threshold_has_a_higher_f1(seed, missed, digits):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    labels = rng.integers(0, 2, n)
    labels[0] = 1
    p = np.round(0.5 * rng.random(n) + labels * 0.5 * rng.random(), digits).astype(np.float32)

    def f1(threshold):
        above = p > threshold
        return 2 * (above & (labels == 1)).sum() / (above.sum() + labels.sum() + missed)

    best = max(f1(t) for t in [0, *p])
    threshold = choose_threshold(p, labels, missed)
    assert 0 <= threshold < 1 and f1(threshold) >= best - 0.0021


def test_no_cell_no_threshold():
    with pytest.raises(DataError, match="no cell"):
        choose_threshold(np.array([0.5]), np.array([0]))


def test_the_net_takes_any_cube_and_starts_from_its_middle():
    torch.manual_seed(0)
    net = build_crop_net({"features": [8, 16, 24]}, 2).eval()
    cubes = torch.randn(3, 2, 7, 21, 30)
    with torch.inference_mode():
        answer = net(cubes)
        expected = cubes[:, :, 3, 10, 15] @ net.skip.weight[0] + net.head.bias[0]
    assert torch.allclose(answer, expected, atol=1e-6)
    parameters = sum(p.numel() for p in build_crop_net({"features": [16, 32, 64]}, 1).parameters())
    assert 100_000 < parameters < 300_000


def test_two_channels_learn_from_the_second(tmp_path):
    """Spots that shine in the background channel too are no cells."""

    def two(name, seed):
        one = brain(name, 1.0, 60, seed, channels=2)
        crops = one.crops.copy()
        spot = brain(name, 1.0, 2, seed).crops[1, 0].astype(int) - 500
        crops[:, 0] = crops[:, 1] + spot.clip(0)
        crops[::2, 1] = crops[::2, 1] + spot.clip(0)
        return CropSet(name, crops.astype(np.uint16), one.labels)

    made = train_classifier([two("a", 0), two("b", 1)], SPACING, tmp_path, features=(8, 16),
                            schedule=SHORT, batch=16, contrast=LOOK)  # fmt: skip
    other = two("c", 2)
    p = made.probability(other.crops, other.known(SPACING))
    assert isinstance(made, CropClassifier) and made.channels == 2
    assert ((p > made.threshold) == other.labels).mean() > 0.9
