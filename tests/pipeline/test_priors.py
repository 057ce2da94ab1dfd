import numpy as np
import pytest
from scipy import ndimage

from brodmann.core import (
    DataError,
    Dataset,
    Label,
    LabelMap,
    RecipeError,
    Sample,
    Volume,
    keyed_rng,
)
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.pipeline.priors import write_priors
from brodmann.pipeline.recipe import PriorSection, SplitSection, load_recipe
from brodmann.pipeline.run import run_recipe

TREE = LabelMap([Label(5, "disc", "D"), Label(9, "rim", "R")])
LABELLED, TEST = (0, 1, 6, 7), (3, 4)


def series(labelled=LABELLED, position=True):
    """Eight sections of one block in which a disc drifts; two in the middle are the test."""
    noise = ndimage.gaussian_filter(keyed_rng(0, "tissue").normal(size=(48, 64)), 2)

    def load(name):
        i = int(name[1:])
        rows, columns = np.indices(noise.shape)
        away = np.hypot(rows - 22 - i / 2, columns - 22 - 2 * i)
        radius = 8 + 1.5 * np.sin(i)
        labels = np.where(away < radius, 5, np.where(away < 13, 9, 0)).astype(np.uint8)
        image = (900 + 500 * (away < radius) + 250 * (away < 13) + 400 * noise).astype(np.uint16)
        known = labels if i in (*labelled, *TEST) else None
        return Sample(
            name, Volume(image, "yx", (50, 50)),
            None if known is None else Volume(known, "yx", (50, 50)),
            meta={"position": i} if position else {},
        )  # fmt: skip

    names = [f"s{i}" for i in range(8)]
    rest = [f"s{i}" for i in range(8) if i not in (*labelled, *TEST)]
    splits = {
        "train": [f"s{i}" for i in labelled],
        "test": [f"s{i}" for i in TEST],
        "unlabelled": rest,
    }
    return Dataset("block", names, load, TREE, dict.fromkeys(names, "mouse"), splits)


def write(dataset, out, **options):
    section = PriorSection(
        method="propagate", copies=2, bend_um=100, bend_knots_um=[400], **options
    )
    return read_folder(
        write_priors(dataset, section, SplitSection(), 0, out, lambda done, total: None)
    )


def test_every_section_gets_priors_and_its_own_labels_never_enter_them(tmp_path):
    made = write(series(), tmp_path / "a")
    assert len(made.split("train")) == 8 and made.splits["test"] == ["s3", "s4"]
    sample = made["s3"]
    assert sample.image.channels == ("channel 0", "prior D", "prior R")
    assert (sample.image.read()[0] == series()["s3"].image.data).all()
    truth, disc = sample.labels.numpy() == 5, sample.image.read()[1] > 500
    assert 2 * (truth & disc).sum() / (truth.sum() + disc.sum()) > 0.8

    def hidden(name):  # the truth of the test sections replaced by nothing
        found = series()[name]
        if name not in ("s3", "s4"):
            return found
        return found.with_(labels=found.labels.like(np.zeros_like(found.labels.data)))

    blind = write(series().with_load(hidden), tmp_path / "b")
    assert (blind["s3"].image.read() == sample.image.read()).all()


def test_copies_differ_and_are_the_same_each_time(tmp_path):
    a, b = write(series(), tmp_path / "a"), write(series(), tmp_path / "b")
    first = a["s0-prior0"].image.read()
    assert (first == b["s0-prior0"].image.read()).all()
    assert (first[1:] != a["s0-prior1"].image.read()[1:]).any()
    assert (first[0] == a["s0-prior1"].image.read()[0]).all()


def test_series_that_cannot_be_carried_along_are_refused(tmp_path):
    with pytest.raises(DataError, match="position"):
        write(series(position=False), tmp_path / "a")
    with pytest.raises(DataError, match="second section"):
        write(series(labelled=(0,)), tmp_path / "b")


def test_a_run_with_priors_beats_copies_and_tells_what_registration_alone_does(tmp_path):
    path = write_folder(series(), tmp_path / "data")
    settings = [
        f"data.path={path}", "prior.method=propagate", "prior.copies=4", "prior.bend_um=100",
        "prior.bend_knots_um=[400]", "prior.gaps=[1, 2]", "net.kind=prior-unet", "net.patch=[48, 64]",
        "net.batch=2", "net.base_features=8", "net.max_features=16", "train.steps=40",
        "train.optimizer=adamw", "train.lr=0.004", "train.momentum=0.9",
    ]  # fmt: skip
    result = run_recipe(load_recipe("sections", settings), tmp_path / "out")
    assert result["training_images"] == 4 and result["training_samples"] == 16
    scores = {name: scores["mean_dice"] for name, scores in result["baselines"].items()}
    assert result["mean_dice"] > scores["copy"] + 0.1 and scores["propagate"] > scores["copy"] + 0.1
    with pytest.raises(RecipeError, match="both"):
        run_recipe(
            load_recipe("sections", [*settings, "augment.method=classical"]), tmp_path / "out"
        )
