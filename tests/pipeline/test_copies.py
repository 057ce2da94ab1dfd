"""Runs that learn from augmented copies: schedules, folds, online, and what they tell."""

import json

import pytest

from brodmann.core import DataError, Dataset, LabelMap
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.phantoms.sections import phantom_sections
from brodmann.io import read_volume
from brodmann.metrics import contingency, overlap
from brodmann.pipeline import training
from brodmann.pipeline.folds import Copying, make_folds
from brodmann.pipeline.model import Model
from brodmann.pipeline.recipe import load_recipe
from brodmann.pipeline.run import run_recipe

TINY = [
    "net.patch=[32, 64]", "net.batch=2", "net.base_features=4", "net.max_features=8",
    "train.steps=6", "train.checkpoint_every=2", "score.surface=false", "predict.confidence=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two sections of each of four animals to train on, another animal to test."""
    made = phantom_sections(
        5, 2, (32, 64), test_subjects=1, subregions=6, primary=3, planes=(0.4, 0.6)
    )
    return write_folder(made, tmp_path_factory.mktemp("data") / "sections")


def recipe_of(data, *more):
    return load_recipe("sections", [f"data.path={data}", *TINY, *more])


def run(data, folder, *more, **options):
    return run_recipe(recipe_of(data, *more), folder, pages=False, **options)


def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


def dealer_of(data, tmp_path, *more):
    """What the batches of a run are dealt from, and the fold."""
    recipe = recipe_of(data, "train.steps=10", *more)
    dataset = read_folder(data)
    (fold,) = make_folds(dataset, recipe.split, recipe.seed)
    copying = Copying(recipe.augment, recipe.split, recipe.seed)
    copying.make(fold, dataset, tmp_path / "augment", lambda *_: None)
    fold = copying.added(fold, tmp_path / "augment")
    _, spacing, shapes = training._form(fold.real)
    plan = training.plan_for(recipe, fold.label_map.num_classes, shapes, spacing)
    dealer = training._dealer(
        recipe,
        fold,
        plan,
        training.normalisation_of("image", fold.real),
        0,
        tmp_path,
        lambda *_: None,
    )
    return dealer, set(fold.real.names)


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize(
    ("schedule", "real_from"), [("together", None), ("synthetic", 20), ("hybrid", 6)]
)
def test_a_schedule_says_which_steps_see_copies(data, tmp_path, schedule, real_from, online):
    """Ten steps of two items; the hybrid turns to real samples after three of them."""
    dealer, real = dealer_of(
        data, tmp_path, "augment.method=cutmix", f"augment.schedule={schedule}",
        "augment.synthetic_share=0.3", f"augment.online={online}",
    )  # fmt: skip
    is_real = [dealer[number].name in real for number in range(20)]
    if real_from is not None:
        assert is_real == [number >= real_from for number in range(20)]
    elif online:  # rounds of eight real samples and eight copies
        assert is_real == [True] * 8 + [False] * 8 + [True] * 4
    else:  # sixteen cards, each once
        assert len({dealer[number].name for number in range(16)}) == 16
        assert sum(is_real[:16]) == 8


def test_a_result_tells_what_was_learned_from(data, tmp_path):
    plain = run(data, tmp_path / "a")
    told = ("steps", "batch", "patch", "schedule", "training_images", "made_images",
            "skipped_copies", "training_samples")  # fmt: skip
    assert [plain[key] for key in told] == [6, 2, [32, 64], "real", 8, 0, 0, 8]
    assert not (tmp_path / "a" / "report").exists()
    free = [f"data.path={data}", *TINY[2:], "net.patch=[16, 32]", "train.steps=1"]
    plans = []
    for folder, more in (
        ("b", []),
        ("c", ["augment.method=cutmix", "augment.factor=3", "augment.schedule=synthetic"]),
    ):
        plans.append(
            run_recipe(load_recipe("sections", [*free, *more]), tmp_path / folder, pages=False)
        )
    assert plans[0]["plan"] == plans[1]["plan"], "patch and batch are planned from real samples"
    assert [plans[1][key] for key in told[3:]] == ["synthetic", 8, 24, 0, 24]
    assert "| augmentation | cutmix x3, synthetic |" in (
        tmp_path / "c" / "model" / "README.md"
    ).read_text("utf-8")


def test_another_schedule_trains_anew_and_keeps_the_copies(data, tmp_path):
    copies = ["augment.method=mixup", "augment.factor=2"]
    run(data, tmp_path, *copies)
    first = weights(tmp_path)
    stamp = (tmp_path / "augment" / "stage.json").stat().st_mtime_ns
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["schedule"] == "together"
    assert run(data, tmp_path, *copies, "augment.schedule=hybrid")["schedule"] == "hybrid"
    assert weights(tmp_path) != first
    assert (tmp_path / "augment" / "stage.json").stat().st_mtime_ns == stamp


def test_a_fold_has_copies_of_its_own_animals_only(data, tmp_path):
    result = run(
        data, tmp_path, "augment.method=cutmix", "augment.factor=2", "split.folds=3",
        "split.run=[0, 2]", "train.steps=2",
    )  # fmt: skip
    dataset, split = read_folder(data), recipe_of(data, "split.folds=3").split
    subjects, folds, seen = dataset.subjects, make_folds(dataset, split, 0), []
    assert not (tmp_path / "augment" / "dataset").exists()
    assert not (tmp_path / "augment" / "fold1").exists()
    for number in (0, 2):
        folder = tmp_path / "augment" / f"fold{number}" / "dataset"
        own = {subjects[name] for name in folds[number].real.names}
        held = {subjects[name] for name in folds[number].held.names}
        records = [
            json.loads(p.read_text("utf-8")) for p in sorted(folder.glob("provenance/*.json"))
        ]
        sources = {subjects[name] for record in records for name in record["sources"]}
        assert len(records) == 2 * len(folds[number].real) and sources == own
        assert held and not held & sources
        assert set(read_folder(folder).subjects.values()) == own
        cases = sorted((tmp_path / "train" / f"fold{number}").rglob("case.json"))
        names = {json.loads(p.read_text("utf-8"))["name"] for p in cases}
        assert names == set(read_folder(folder).names)
        seen.append(len(records))
        online = Copying(
            recipe_of(data, "augment.method=mixup", "augment.online=true").augment, split, 0
        )
        pool = online.added(folds[number], tmp_path / "online").made.pool
        assert pool.names == folds[number].real.names
    assert result["made_images"] == sum(seen) and result["skipped_copies"] == 0


def test_online_training_that_is_stopped_ends_with_the_same_bytes(data, tmp_path):
    """Stopped on both sides of the hybrid's change, and continued by a worker process."""
    how = ["augment.method=mixup", "augment.online=true", "augment.schedule=hybrid"]
    result = run(data, tmp_path / "whole", *how)
    assert (result["made_images"], result["skipped_copies"]) == (None, None)

    class Stop(Exception):
        pass

    def stop_at(step):
        def report(what, done, total, note):
            if what == "train" and done == step:
                raise Stop

        return report

    for step in (3, 5):
        with pytest.raises(Stop):
            run(data, tmp_path / "parts", *how, report=stop_at(step))
    run(data, tmp_path / "parts", *how, "train.workers=1")
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")
    assert not list((tmp_path / "whole").rglob("provenance"))
    other = run(data, tmp_path / "other", *how[:2])
    assert other["schedule"] == "together" and weights(tmp_path / "other") != weights(
        tmp_path / "whole"
    )


@pytest.mark.parametrize("online", [False, True])
def test_an_ignore_id_that_copies_bring_is_the_models_alone(data, tmp_path, online):
    assert read_folder(data).label_map.ignore is None
    result = run(data, tmp_path, "augment.method=prmix", f"augment.online={online}")
    model = Model.load(tmp_path / "model")
    assert model.label_map.ignore is not None
    assert model.label_map.classes == read_folder(data).label_map.classes
    test, table = read_folder(data).split("test"), 0
    for name in test.names:
        answer = read_volume(tmp_path / "predict" / f"{name}.tif", spacing="unit")
        table = table + contingency(test[name].labels, answer, test.label_map)
    assert result["mean_dice"] == overlap(table, test.label_map).mean["mean_dice"]


def test_truth_with_an_ignore_id_is_scored_without_it(tmp_path):
    """The dataset has one already: copies and model share it."""
    made = phantom_sections(subjects=3, test_subjects=1, shape=(32, 64), subregions=6, primary=3)

    def load(name):
        sample = made[name]
        ids = sample.labels.numpy().astype("uint16")
        ids[:, :20] = 900
        return sample.with_(labels=sample.labels.like(ids))

    labels = LabelMap(list(made.label_map), made.label_map.classes, ignore=900)
    marked = Dataset("marked", made.names, load, labels, made.subjects, made.splits)
    data = write_folder(marked, tmp_path / "data")
    result = run(data, tmp_path / "out", "augment.method=prmix", "augment.schedule=synthetic")
    assert Model.load(tmp_path / "out" / "model").label_map.ignore == 900
    known = marked.split("test")[0].labels.numpy()[:, 20:]
    assert sum(row["truth_pixels"] for row in result["per_class"]) == (known > 0).sum()


def test_copies_of_other_classes_are_refused(data, tmp_path):
    recipe, dataset = recipe_of(data, "augment.method=cutmix"), read_folder(data)
    (fold,) = make_folds(dataset, recipe.split, 0)
    copying = Copying(recipe.augment, recipe.split, 0)
    copying.make(fold, dataset, tmp_path, lambda *_: None)
    table = tmp_path / "dataset" / "labels.csv"
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([lines[0], *lines[2:3], lines[1], *lines[3:]]) + "\n", "utf-8")
    with pytest.raises(DataError, match="other classes"):
        copying.added(fold, tmp_path)
