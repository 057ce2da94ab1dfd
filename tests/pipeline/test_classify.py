"""The classifier stage: candidates of a detector judged on whole brains, and its study.

One file, because one trained classifier and one brain serve study, stage and command alike.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from distributed import LocalCluster
from made_cells import as_array

from brodmann.core import DataError, OutputError, Points, RecipeError, Volume
from brodmann.datasets.phantoms.lightsheet import phantom_lightsheet
from brodmann.io import write_volume
from brodmann.io.crops import cut_crops, read_crops, write_crops
from brodmann.io.points import read_points
from brodmann.metrics.points import score_points
from brodmann.pipeline.candidates import (
    all_candidates,
    candidates,
    find_classified,
    label_candidates,
    uncertain,
    write_uncertain,
)
from brodmann.pipeline.candidates.brain import channels_of
from brodmann.pipeline.candidates.study import load_candidate_recipe, run_candidates
from brodmann.pipeline.candidates.study.proposals import SampleBrains, crop_set
from brodmann.pipeline.candidates.study.recipe import CandidateRecipe, DetectorSection
from brodmann.pipeline.candidates.work import probabilities
from brodmann.pipeline.cells import open_brain
from brodmann.pipeline.cells.source import Source
from brodmann.pipeline.recipe import recipe_kind, recipe_names
from brodmann.problems.candidates import CropClassifier, crop_intensities, load_classifier
from brodmann.problems.candidates.net import build_crop_net
from brodmann.problems.cells import Contrast, Intensity, load_detector, measure_intensity
from brodmann.problems.cells.detector import as_points

MADE = {"markers": ["cFos"], "shape": [32, 96, 96], "test": 0, "tune": 0, "patches": 2}
CROP = [8, 16, 16]
RECIPE = {
    "name": "made",
    "problem": "candidates",
    "data": {"kind": "phantom-lightsheet", "train": 3, **MADE},
    "tolerance": 6,
    "detector": {
        "sigmas_um": [[4, 2.5, 2.5]],
        "radii": [[2, 3, 3]],
        "contrast": {"background_um": [52, 41, 41], "scale": "volume", "unit": 2},
    },
    "crop": CROP,
    "contrast": {"scale": "volume", "unit": 2, "blobs_um": [[4, 2.5, 2.5]]},
    "train": {"steps": 60, "batch": 16, "warmup_steps": 5},
    "features": [8, 16, 24],
}


def load(folder, tree=RECIPE, *settings):
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_candidate_recipe(str(path), settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run_candidates(load(folder), folder / "out", command="brodmann run made")


@pytest.fixture(scope="module")
def unseen():
    """A patch of an animal that nothing was trained on."""
    data = phantom_lightsheet(train=5, **MADE)
    return data["a04-cFos-0"]


@pytest.fixture(scope="module")
def brain(unseen, tmp_path_factory):
    path = tmp_path_factory.mktemp("brain") / "brain.zarr"
    write_volume(path, Volume(unseen.image.numpy(), "zyx", unseen.image.spacing))
    return path


@pytest.fixture(scope="module")
def tools(run):
    out = run[0] / "out"
    return load_detector(out / "detector"), load_classifier(out / "classifier")


def test_cells_are_told_on_brains_never_seen(run):
    _, result = run
    rows = {row["name"]: row for row in result["rows"]}
    before, after = rows["all candidates"], rows["classified"]
    assert after["mean"]["f1"] > before["mean"]["f1"] + 0.3
    assert after["mean"]["told"] > 0.85 > before["mean"]["told"]
    assert after["mean"]["precision"] > before["mean"]["precision"] + 0.3
    for brain, f1 in after["seeds"][0]["f1_by_brain"].items():
        assert f1 > before["seeds"][0]["f1_by_brain"][brain] + 0.1
    assert rows["detector alone"]["mean"]["f1"] > before["mean"]["f1"]
    assert sorted(name for fold in result["folds"] for name in fold) == ["a00", "a01", "a02"]
    text = (run[0] / "out" / "table.md").read_text()
    assert "| classified |" in text and "brodmann run made" in text


def test_what_is_told_can_be_counted_again(run):
    folder, result = run
    data = phantom_lightsheet(train=3, **MADE)
    for fold, (brain,) in enumerate(result["folds"]):
        stage = folder / "out" / f"seed0-fold{fold}"
        detector = load_detector(stage / "detector")
        classifier = load_classifier(stage / "classifier")
        assert brain not in classifier.facts["brains"]
        mine = [s for s in data if s.subject == brain]
        known = measure_intensity([s.image for s in mine])
        counts = np.zeros(3, int)
        for sample in mine:
            found = candidates(sample.image, detector, sample.points, 6, intensity=known)
            crops = np.stack(list(cut_crops(found, [sample.image], shape=CROP)))
            kept = classifier.probability(crops, [known]) > classifier.threshold
            score = score_points(found.coordinates[kept], sample.points.coordinates, 6)
            counts += (score.tp, score.fp, score.fn)
        rows = {row["name"]: row for row in result["rows"]}
        assert rows["classified"]["seeds"][0]["by_brain"][brain] == counts.tolist()


def test_a_second_run_does_nothing_again(run):
    folder, result = run
    names = ("stage.json", "checkpoint.pt")
    before = {p: p.stat().st_mtime_ns for n in names for p in folder.rglob(n)}
    assert len(before) == 8
    again = run_candidates(load(folder), folder / "out", command="brodmann run made")
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert json.dumps(again["rows"], sort_keys=True) == json.dumps(result["rows"], sort_keys=True)


def test_a_killed_study_ends_with_the_same_bytes(tmp_path):
    settings = ("train.steps=8", "train.checkpoint_every=3", "data.train=2", "data.patches=1")

    class Stop(Exception):
        pass

    def stop(what, done, total, note):
        if what == "seed 0, fold 2" and done == 5:
            raise Stop

    run_candidates(load(tmp_path, RECIPE, *settings), tmp_path / "whole")
    with pytest.raises(Stop):
        run_candidates(load(tmp_path, RECIPE, *settings), tmp_path / "cut", report=stop)
    assert (tmp_path / "cut/seed0-fold1/checkpoint.pt").exists()
    run_candidates(load(tmp_path, RECIPE, *settings), tmp_path / "cut")
    for name in ("classifier.yaml", "model.safetensors", "detector.yaml", "table.md"):
        paths = list((tmp_path / "whole").rglob(name))
        assert paths
        for path in paths:
            other = tmp_path / "cut" / path.relative_to(tmp_path / "whole")
            assert other.read_bytes() == path.read_bytes(), path


def test_labels_are_those_of_the_matching():
    rng = np.random.default_rng(0)
    found = as_points(rng.integers(0, 30, (60, 3)), rng.random(60))
    truth = rng.random((40, 3)) * 30
    told = label_candidates(found, truth, 5, add_missed=True).table
    score = score_points(found, truth, 5)
    own = told[~told["missed"]]
    assert own["label"].sum() == score.tp and len(own) == 60
    assert (told["missed"].sum(), len(told)) == (score.fn, 60 + score.fn)
    near = np.linalg.norm(found.coordinates[:, None] - truth, axis=2).min(1)
    assert (near[own["label"] == 1] < 5).all()
    none = label_candidates(found, np.zeros((0, 3)), 5)
    assert not none.table["label"].any() and len(none) == 60
    um = label_candidates(found, truth, 5, spacing=(100, 100, 100)).table["label"].sum()
    assert um < score.tp


def truth_of(volume, detector, classifier):
    """Candidates of the whole volume in memory and their probabilities, one crop at a time."""
    from brodmann.problems.cells import find_cells

    known = measure_intensity(volume)
    found = find_cells(detector, volume, known)
    crops = cut_crops(found, [volume], shape=classifier.shape)
    return found, np.array([classifier.probability(c[None], [known])[0] for c in crops])


def test_the_stage_on_a_brain_is_that_of_the_whole(brain, unseen, tools, tmp_path):
    detector, classifier = tools
    volume = open_brain(brain)
    cells = find_classified(volume, detector, classifier, tmp_path / "a", block_voxels=60_000)
    found, p = truth_of(unseen.image, detector, classifier)
    every = all_candidates(tmp_path / "a")
    assert np.array_equal(as_array(every)[:, :3], found.coordinates)
    assert np.array_equal(every.table["probability"].to_numpy(np.float32), p)
    kept = p > classifier.threshold
    assert np.array_equal(cells.coordinates, found.coordinates[kept])
    # It is better than the candidates that it was given, by a margin.
    true = unseen.points.coordinates
    before = score_points(found, true, 6).f1
    assert score_points(cells, true, 6).f1 > before + 0.2
    said = json.loads((tmp_path / "a/detection.json").read_text())
    assert (said["cells"], said["non_cells"]) == (kept.sum(), (~kept).sum())
    assert said["classifier"]["threshold"] == classifier.threshold
    assert said["classifier"]["points"] == "non_cells.csv"
    assert not (tmp_path / "a/work").exists()


def test_blocks_and_workers_change_no_byte(brain, tools, tmp_path):
    begun = []

    def cluster():
        begun.append(
            LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)
        )
        return begun[-1]

    for name, options in (
        ("a", {}),
        ("b", {"block_voxels": 20_000, "block": (16, 40, 40)}),
        ("c", {"block_voxels": 40_000, "workers": 3, "engine": "threads"}),
        ("d", {"block": (16, 40, 40), "cluster": cluster}),
    ):
        find_classified(open_brain(brain), *tools, tmp_path / name, **options)
    for file in ("cells.csv", "non_cells.csv"):
        whole = (tmp_path / "a" / file).read_bytes()
        for name in "bcd":
            assert whole == (tmp_path / name / file).read_bytes()
        assert whole.splitlines()[0] == b"z,y,x,score,probability"
    assert len(begun) == 1, "one cluster for detecting and telling apart"


KILLED = """
import os, signal, sys
from brodmann.pipeline.candidates import find_classified
from brodmann.pipeline.cells import open_brain
from brodmann.problems.candidates import load_classifier
from brodmann.problems.cells import load_detector

def report(what, done, total, note):
    if what == "classify" and done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

brain, tools, out = sys.argv[1:]
find_classified(open_brain(brain), load_detector(tools + "/detector"),
                load_classifier(tools + "/classifier"), out, block_voxels=20_000, report=report)
"""


def test_kill_9_and_the_same_call_goes_on(brain, run, tools, tmp_path):
    find_classified(open_brain(brain), *tools, tmp_path / "whole", block_voxels=20_000)
    words = [sys.executable, "-c", KILLED, str(brain), str(run[0] / "out"), str(tmp_path / "cut")]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "cut/cells.csv").exists()
    assert not (tmp_path / "cut/detection.json").exists()
    seen = []
    find_classified(
        open_brain(brain), *tools, tmp_path / "cut", block_voxels=20_000,
        report=lambda what, done, total, note: seen.append((what, done, total)),
    )  # fmt: skip
    classified = [done for what, done, _ in seen if what == "classify"]
    assert min(classified) >= 3 and max(classified) == seen[-1][2] > 3
    for file in ("cells.csv", "non_cells.csv", "detection.json"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_what_is_done_is_kept_and_what_is_changed_is_told(brain, tools, tmp_path):
    detector, classifier = tools
    volume, out = open_brain(brain), tmp_path / "a"
    first = find_classified(volume, detector, classifier, out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.csv")}
    again = find_classified(volume, detector, classifier, out)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.csv")} == before
    assert np.allclose(as_array(again), as_array(first))
    find_classified(volume, detector, classifier, out, points="cells.xml")
    assert len(read_points(out / "cells.xml")) == len(first)
    with pytest.raises(DataError, match="no probability"):
        all_candidates(out)
    find_classified(volume, detector, classifier, out)
    other = CropClassifier(**vars(classifier) | {"threshold": 0.01})
    with pytest.raises(OutputError, match="detector or classifier are in the way"):
        find_classified(volume, detector, other, out)
    with (out / "non_cells.csv").open("a") as file:
        file.write("1,2,3,4,0.1\n")
    with pytest.raises(OutputError, match="were changed"):
        find_classified(volume, detector, classifier, out)
    from brodmann.pipeline.cells import detect

    with pytest.raises(OutputError, match="in the way"):
        detect(volume, detector, out)
    detect(volume, detector, tmp_path / "b")
    with pytest.raises(OutputError, match="not classified"):
        find_classified(volume, detector, classifier, tmp_path / "b")
    with pytest.raises(DataError, match="no candidates were classified"):
        all_candidates(tmp_path / "b")


def test_a_brain_without_candidates(tools, tmp_path):
    rng = np.random.default_rng(0)
    flat = Volume(rng.integers(100, 103, (16, 40, 40)).astype(np.uint16), "zyx", (4, 1.8, 1.8))
    detector = load_detector_at(tools[0], 1e6)
    for _ in range(2):
        cells = find_classified(flat, detector, tools[1], tmp_path / "a")
        assert len(cells) == 0 and len(all_candidates(tmp_path / "a")) == 0


def load_detector_at(detector, threshold):
    from dataclasses import replace

    return replace(detector, threshold=threshold)


def plain(shape=(8, 20, 20), spacing=(4.0, 2.0, 2.0), channels=1, seed=0):
    torch.manual_seed(seed)
    net = build_crop_net({"features": [4, 8]}, channels)
    torch.nn.init.normal_(net.head.weight)
    look = Contrast(scale="volume", unit=2.0)
    return CropClassifier(net, {"features": [4, 8]}, shape, spacing, 0.5, look, channels)


@pytest.mark.parametrize("resample", [False, True])
def test_crops_of_a_block_are_those_of_the_volume(resample, tmp_path):
    """At borders and in volumes thinner than a crop too."""
    classifier = plain(spacing=(3.0, 2.6, 1.3) if resample else (4.0, 2.0, 2.0))
    rng = np.random.default_rng(0)
    for shape in ((30, 70, 60), (5, 70, 9)):
        values = rng.integers(0, 4000, shape).astype(np.uint16)
        volume = Volume(values, "zyx", (4.0, 2.0, 2.0))
        write_volume(tmp_path / f"{shape[0]}.zarr", volume)
        stored = Source(open_brain(tmp_path / f"{shape[0]}.zarr"))
        corner = np.subtract(shape, 1)
        at = np.concatenate([np.zeros((1, 3)), corner[None], rng.random((20, 3)) * corner])
        known = [Intensity(2000, 300)]
        spacing = classifier.spacing if resample else None
        points = as_points(at, np.ones(len(at)))
        crops = np.stack(list(cut_crops(points, [volume], shape=(8, 20, 20), spacing=spacing)))
        expected = classifier.probability(crops, known)
        for some in (slice(None), slice(0, 1), slice(3, 9)):
            mine = probabilities(at[some], [stored], classifier, known, resample)
            assert np.array_equal(mine, expected[some])


def test_another_spacing_is_refused_or_resampled(brain, tools, tmp_path):
    detector, classifier = tools
    volume = open_brain(brain)
    other = Volume(volume.data, volume.axes, (5.0, 1.8, 1.8))
    with pytest.raises(RecipeError, match="add --resample"):
        find_classified(other, detector, classifier, tmp_path / "a")
    cells = find_classified(other, detector, classifier, tmp_path / "a", resample=True)
    said = json.loads((tmp_path / "a/detection.json").read_text())
    assert said["classifier"]["resampled"] and said["resampled_um"] == [4.0, 1.8, 1.8]
    every = all_candidates(tmp_path / "a")
    crops = cut_crops(every, [Volume(volume.numpy(), "zyx", (5.0, 1.8, 1.8))], shape=CROP,
                      spacing=classifier.spacing)  # fmt: skip
    known = [Intensity(**said["intensity"])]
    p = classifier.probability(np.stack(list(crops)), known)
    assert np.array_equal(p, every.table["probability"].to_numpy(np.float32))
    assert len(cells) == (p > classifier.threshold).sum() > 0


def test_a_second_channel(brain, tools, tmp_path):
    detector = tools[0]
    volume = open_brain(brain)
    pair = plain(tuple(CROP), (4.0, 1.8, 1.8), 2)
    dim = Volume(volume.numpy() // 2 + 50, "zyx", volume.spacing)
    with pytest.raises(RecipeError, match="takes 2 channel"):
        find_classified(volume, detector, pair, tmp_path / "a")
    with pytest.raises(DataError, match="on the grid of the brain"):
        cut = Volume(dim.data[:-1], "zyx", dim.spacing)
        find_classified(volume, detector, pair, tmp_path / "a", background=cut)
    find_classified(volume, detector, pair, tmp_path / "a", background=dim, block_voxels=60_000)
    every = all_candidates(tmp_path / "a")
    said = json.loads((tmp_path / "a/detection.json").read_text())
    known = [Intensity(**one) for one in said["classifier"]["intensities"]]
    assert known[0].deviation == pytest.approx(2 * known[1].deviation, rel=0.05)
    channels = [Volume(volume.numpy(), "zyx", volume.spacing), dim]
    crops = np.stack(list(cut_crops(every, channels, shape=CROP)))
    p = pair.probability(crops, known)
    assert np.array_equal(p, every.table["probability"].to_numpy(np.float32)) and p.std() > 0
    both = Volume(np.stack([volume.numpy(), dim.data]), "czyx", volume.spacing)
    assert [one.spatial_shape for one in channels_of(both)] == [volume.spatial_shape] * 2


def test_the_least_certain_are_written_for_people(brain, tools, tmp_path):
    volume, (detector, classifier) = open_brain(brain), tools
    find_classified(volume, detector, classifier, tmp_path / "a")
    every = all_candidates(tmp_path / "a")
    picked = uncertain(every, classifier.threshold, 5)
    apart = np.abs(picked.table["probability"] - classifier.threshold).to_numpy()
    rest = np.abs(every.table["probability"] - classifier.threshold).to_numpy()
    assert (np.diff(apart) >= 0).all() and np.array_equal(apart, np.sort(rest)[:5])
    folder = write_uncertain(tmp_path / "a", classifier, [volume], 5)
    crops = read_crops(folder)
    assert len(crops) == 5 and crops[0].shape == (1, *CROP)
    assert (crops.labels == -1).all()
    written = read_points(folder / "crops.csv")
    assert np.allclose(written.table["probability"], picked.table["probability"])
    # Sorted by a person they teach, and are not written over.
    write_uncertain(tmp_path / "a", classifier, [volume], 4)
    with pytest.raises(DataError, match="nobody judged"):
        crop_set(folder, "b")
    for number, file in enumerate(sorted((folder / "candidates").iterdir())):
        sorted_in = folder / ("cells", "non_cells")[number % 2]
        sorted_in.mkdir(exist_ok=True)
        file.rename(sorted_in / file.name)
    sorted_set = crop_set(folder, "b")
    assert sorted_set.labels.sum() == 2 and len(sorted_set.crops) == 4
    with pytest.raises(OutputError, match="somebody sorted"):
        write_uncertain(tmp_path / "a", classifier, [volume], 5)


def test_from_folders_of_crops_and_back(run, tmp_path):
    """Written, sorted by label, trained on, read again and judged: as people's crops are."""
    data = phantom_lightsheet(train=3, **MADE)
    detector = load_detector(run[0] / "out" / "detector")
    for sample in (data[f"a0{n}-cFos-0"] for n in range(3)):
        found = candidates(sample.image, detector, sample.points, 6, add_missed=True)
        write_crops(tmp_path / sample.subject, found, [sample.image], shape=CROP)
    tree = {k: v for k, v in RECIPE.items() if k not in ("data", "detector", "crop")}
    tree |= {
        "crops": {f"a0{n}": str(tmp_path / f"a0{n}") for n in range(3)},
        "spacing_um": [4, 1.8, 1.8],
    }
    result = run_candidates(load(tmp_path, tree), tmp_path / "out")
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["all candidates", "classified"]
    assert rows["classified"]["mean"]["f1"] > rows["all candidates"]["mean"]["f1"] + 0.2
    assert not (tmp_path / "out/detector").exists()
    classifier = load_classifier(tmp_path / "out/seed0-fold0/classifier")
    (brain,) = result["folds"][0]
    crops = read_crops(tmp_path / brain)
    cubes = np.stack([crops[i] for i in range(len(crops))])
    p = classifier.probability(cubes, crop_intensities(cubes, classifier.spacing))
    hit = ((p > classifier.threshold) & (crops.labels == 1)).sum()
    assert rows["classified"]["seeds"][0]["by_brain"][brain][0] == hit

    write_crops(tmp_path / "new", Points(candidates_only(data), "new"), [data[0].image], shape=CROP)
    for folder, words in (("new", "nobody judged"), ("none", "no such file")):
        bad = tree | {"crops": tree["crops"] | {"a03": str(tmp_path / folder)}}
        with pytest.raises(DataError, match=words):
            run_candidates(load(tmp_path, bad), tmp_path / "bad")
    write_crops(tmp_path / "small", label_candidates(as_points(np.array([[5, 30, 30]]), np.ones(1)),
                np.zeros((0, 3)), 6), [data[0].image], shape=(4, 20, 20))  # fmt: skip
    bad = tree | {"crops": tree["crops"] | {"a03": str(tmp_path / "small")}}
    with pytest.raises(DataError, match="differ in channels or shape") as caught:
        run_candidates(load(tmp_path, bad), tmp_path / "bad")
    assert "\n" not in str(caught.value)


def candidates_only(data):
    return data[0].points.table[["z", "y", "x"]].head(3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": None}, "data.kind"),
        ({"detector": None}, "go together"),
        ({"detector": {"sigmas_um": [[1, 1, 1]]}}, "peak windows"),
        ({"detector": {"folder": "x", "sigmas_um": [[1, 1, 1]]}}, "folder or sigmas_um"),
        ({"detector": {"folder": "x", "lowr": 1}}, "did you mean 'lower'"),
        ({"crops": {"a": "b"}}, "a dataset or from folders"),
        ({"data": None, "detector": None, "crops": {"a": "b"}}, "do not say their spacing"),
        ({"train": {"batch": 3}}, "multiple of 2"),
        ({"trian": {}}, "did you mean 'train'"),
        ({"seeds": [1, 1]}, "different"),
        ({"slide": [-1, 0, 0]}, "slides by 0"),
        ({"contrast": {"scale": "root"}}, "needs a local background"),
    ],
)
def test_bad_recipes_are_refused_in_one_line(tmp_path, change, words):
    with pytest.raises(RecipeError, match=words) as caught:
        load(tmp_path, RECIPE | change)
    assert "\n" not in str(caught.value)


def test_one_brain_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="never saw"):
        run_candidates(load(tmp_path, RECIPE, "data.train=1"), tmp_path / "out")


def test_a_detector_of_each_fold(run, tmp_path):
    """`{fold}` names the detector that did not see the brains of a fold."""
    place = str(run[0] / "out" / "seed0-fold{fold}" / "detector")
    brains = SampleBrains.of(load(tmp_path, RECIPE | {"detector": {"folder": place}}))
    theirs = run[1]["choices"]
    for fold, (train, _) in enumerate(brains.folds):
        found = brains.detector(train, fold)
        assert found.threshold == theirs[fold]["detector_threshold"] / 2
    assert len({one["detector_threshold"] for one in theirs}) > 1


def test_packaged_recipes_are_valid():
    names = [name for name in recipe_names() if recipe_kind(name) == "candidates"]
    assert {"candidates-phantom", "candidates-delivr-cfos"} <= set(names)
    for name in names:
        real = [] if name == "candidates-phantom" else ["data.root=DATA"]
        loaded = load_candidate_recipe(name, real)
        assert loaded.name == name and loaded.title and loaded.description


def test_every_key_of_a_recipe_is_explained():
    text = (Path(__file__).parents[2] / "docs" / "cell_classifier.md").read_text("utf-8")
    for section in (CandidateRecipe, DetectorSection):
        for key in section.model_fields:
            assert f"`{key}`" in text, key


@pytest.mark.real
def test_candidates_of_real_brains_hold_nearly_all_cells(real_data, tmp_path):
    """What the classifier is given: see docs/cell_classifier.md for what it makes of them."""
    brains = SampleBrains.of(
        load_candidate_recipe("candidates-delivr-microglia", [f"data.root={real_data}"])
    )
    train, test = brains.folds[0]
    detector = brains.detector(train, 0)
    for subject in test:
        one = brains.proposed(subject, detector)
        every, strong = one.score(np.ones(len(one.strong), bool)), one.score(one.strong)
        assert every.recall > 0.9 and every.precision < strong.precision


@pytest.mark.real
def test_the_two_photon_list_holds_cells_alone(real_data):
    """So that it cannot teach what is none."""
    points = read_points(real_data / "cells/stp/cell_classification.xml")
    assert len(points) == 56 and set(points.table["type"]) == {2}
