"""Studies: what a table says is what its runs say, and nothing is run twice."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from types import SimpleNamespace

import pytest
import yaml
from scipy import stats
from typer.testing import CliRunner

from brodmann.augment.base import AUGMENTATIONS
from brodmann.cli.app import app
from brodmann.core import RecipeError
from brodmann.metrics.significance import bootstrap
from brodmann.pipeline.recipe import recipe_kind, recipe_names, recipe_text
from brodmann.pipeline.study import load_study, run_study
from brodmann.pipeline.study.recipe import Significance, Study
from brodmann.pipeline.study.table import Finished, make_table, units_of

TINY = {
    "name": "tiny",
    "title": "A tiny study",
    "description": "Two rows.",
    "base": "demo",
    "set": {
        "data.subjects": 6,
        "data.test_subjects": 3,
        "data.sections_per_subject": 2,
        "data.shape": [64, 128],
        "data.subregions": 6,
        "data.primary": 3,
        "net.patch": [64, 64],
        "net.batch": 2,
        "net.base_features": 4,
        "net.max_features": 8,
        "train.steps": 6,
        "predict.confidence": False,
        "score.surface": False,
    },
    "seeds": [3, 5],
    "rows": [
        {"name": "Baseline", "published": {"f1": [65.33, 0.49], "iou": 54.33}},
        {"name": "Larger step", "set": {"train.lr": 0.02}},
    ],
    "published_as": "paper, other data",
    "tests": {"comparisons": [{"references": ["Baseline"], "methods": ["Larger step"]}]},
}
COLUMNS = ("f1", "iou", "precision", "recall")


def write(folder, **changes):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}), "utf-8")
    return str(path)


def marks(folder):
    return {
        p.relative_to(folder): p.stat().st_mtime_ns
        for p in folder.glob("runs/*/seed*/*/stage.json")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that was killed in its third run and went on; its folder, result and old marks."""
    folder = tmp_path_factory.mktemp("study")
    path, out = write(folder), folder / "out"
    command = ["run", path, "--set", "seeds=[3,5]", "--out", str(out), "--json"]
    third = out / "runs" / "baseline" / "seed5"
    killed = subprocess.Popen(
        [sys.executable, "-m", "brodmann", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not third.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert killed.poll() is None, "the kill must come before the end"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    before = {k: v for k, v in marks(out).items() if "seed3" in str(k)}
    partial = json.loads((out / "result.json").read_text("utf-8"))
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.stderr
    return out, json.loads(answer.stdout), before, partial


def runs_of(folder, slug):
    return [
        json.loads((folder / "runs" / slug / f"seed{seed}" / "result.json").read_text("utf-8"))
        for seed in (3, 5)
    ]


def test_means_and_deviations_are_those_of_the_runs(finished):
    folder, result, *_ = finished
    assert result == json.loads((folder / "result.json").read_text("utf-8"))
    assert [row["name"] for row in result["rows"]] == ["Baseline", "Larger step"]
    for row, slug in zip(result["rows"], ("baseline", "larger-step")):
        runs = runs_of(folder, slug)
        assert (row["n"], row["seeds"], row["steps"], row["batch"]) == (2, [3, 5], 6, 2)
        assert (row["images_real"], row["images_made"]) == (6, 0)
        for key in COLUMNS:
            values = [run[f"mean_{key}"] for run in runs]
            assert row["mean"][key] == pytest.approx(mean(values))
            assert row["std"][key] == pytest.approx(stdev(values))
            assert [model[key] for model in row["models"]] == values
    assert any("fewer than three" in warning for warning in result["warnings"])


def subject_means(folder, slug, key):
    subjects: dict[str, list[float]] = {}
    for run in runs_of(folder, slug):
        for image in run["per_image"]:
            subjects.setdefault(image["name"].split("-section")[0], []).append(image[f"mean_{key}"])
    return [mean(values) for values in subjects.values()]


def test_p_values_are_scipys_on_the_means_of_subjects(finished):
    folder, result, *_ = finished
    assert result["tests"]["units"] == 3
    assert len(result["tests"]["comparisons"]) == len(COLUMNS)
    for test in result["tests"]["comparisons"]:
        ours, theirs = (
            subject_means(folder, slug, test["column"]) for slug in ("larger-step", "baseline")
        )
        expected = stats.ttest_rel(ours, theirs, alternative="greater")
        assert test["pairs"] == 3
        assert test["p"] == pytest.approx(expected.pvalue)
        assert test["statistic"] == pytest.approx(expected.statistic)
        assert test["difference"] == pytest.approx(mean(ours) - mean(theirs))


def test_a_killed_study_goes_on_after_its_finished_runs(finished):
    folder, result, before, partial = finished
    assert partial["partial"] and partial["runs"] == {"done": 2, "total": 4}
    assert not result["partial"]
    assert len(before) == 10, "two runs of five stages"
    after = marks(folder)
    assert len(after) == 20 and before.items() <= after.items()
    study, recipes = load_study(str(folder.parent / "tiny.yaml"), ["seeds=[3,5]"])
    assert run_study(study, recipes, folder)["rows"] == result["rows"]
    assert marks(folder) == after


def test_data_are_made_once(finished):
    folder, *_ = finished
    images = [next(p.iterdir()) for p in folder.glob("runs/*/seed*/data/dataset/images")]
    assert len(images) == 4 and len({p.stat().st_ino for p in images}) == 1


def test_tables_parse_back(finished):
    folder, result, *_ = finished
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    first, second = result["rows"]
    assert [line["row"] for line in lines] == [first["name"], second["name"]]
    assert float(lines[0]["f1_percent_mean"]) == pytest.approx(100 * first["mean"]["f1"], abs=1e-4)
    assert float(lines[1]["iou_percent_std"]) == pytest.approx(100 * second["std"]["iou"], abs=1e-4)
    assert (lines[0]["published_f1_percent_std"], lines[0]["p_f1_against_Baseline"]) == ("0.49", "")
    assert float(lines[1]["p_f1_against_Baseline"]) == result["tests"]["comparisons"][0]["p"]

    text = (folder / "table.md").read_text("utf-8")
    grids = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert len(grids) == 3
    for grid in grids:
        assert len({line.count("|") for line in grid}) == 1
    cells = [cell.strip(" *") for cell in grids[0][2].strip("|").split("|")]
    expected = f"{100 * first['mean']['f1']:.2f} ± {100 * first['std']['f1']:.2f}"
    assert cells[:2] == ["Baseline", expected]

    page = (folder / "table.html").read_text("utf-8")
    assert "paper, other data" in page and "65.33 ± 0.49" in page and expected in page
    assert "http://" not in page.replace("http://www.w3.org/", "") and "<script" not in page


def test_finished_runs_of_another_study_are_taken_over_and_copies_made_once(finished, tmp_path):
    folder, result, *_ = finished
    copies = {"method": "classical", "factor": 1}
    rows = [
        {"name": "Baseline"},
        {"name": "made", "set": {"augment": {**copies, "schedule": "synthetic"}}},
        {"name": "hybrid", "set": {"augment": {**copies, "schedule": "hybrid"}}},
    ]
    path = write(tmp_path, name="other", reuse=[str(folder)], rows=rows, tests={})
    study, recipes = load_study(path, ["seeds=[5]"])
    told = []
    found = run_study(study, recipes, tmp_path / "out", report=lambda *what: told.append(what[3]))
    assert found["rows"][0]["mean"]["f1"] == result["rows"][0]["models"][1]["f1"]
    assert not any("Baseline" in note and "train" in note for note in told)
    assert any("made" in note and "draw" in note for note in told)
    assert not any("hybrid" in note and "draw" in note for note in told)
    assert [(row["schedule"], row["images_made"]) for row in found["rows"]] == [
        ("real", 0), ("synthetic", 6), ("hybrid", 6),
    ]  # fmt: skip
    with pytest.raises(RecipeError, match="no finished runs"):
        run_study(study.model_copy(update={"reuse": ["nowhere"]}), recipes, tmp_path / "out")


def run_result(scores, folds=None):
    """A result.json with one number for every mean of each image."""
    means = {name: {f"mean_{k}": v for k in (*COLUMNS, "dice")} for name, v in scores.items()}
    pooled = {f"mean_{k}": mean(scores.values()) for k in (*COLUMNS, "dice")}
    each = {f"fold{i}": {k: f for k in pooled} for i, f in enumerate(folds or ())}
    return pooled | {
        "per_image": [{"name": name, **value} for name, value in means.items()],
        "folds": {"each": each} if each else {},
        "steps": 6, "plan": {"batch": 2}, "training_images": 3, "made_images": 0,
        "schedule": "real", "seconds": 1.0,
    }  # fmt: skip


def test_blocks_are_drawn_together_and_folds_are_models(tmp_path):
    tests = {
        "kind": "bootstrap", "unit": "block",
        "blocks": {"a": {"first": "s1", "last": "s2"}, "b": ["s3", "s4"]},
        "comparisons": TINY["tests"]["comparisons"],
    }  # fmt: skip
    study, _ = load_study(write(tmp_path, tests=tests), ["seeds=[3,5]"])

    units = units_of(study.tests, SimpleNamespace(names=["s1", "s2", "s3", "s4"]))
    assert units == {"s1": "a", "s2": "a", "s3": "b", "s4": "b"}
    theirs = [
        {"s1": 0.5, "s2": 0.6, "s3": 0.5, "s4": 0.4},
        {"s1": 0.7, "s2": 0.6, "s3": 0.5, "s4": 0.6},
    ]
    ours = [
        {"s1": 0.9, "s2": 0.6, "s3": 0.4, "s4": 0.7},
        {"s1": 0.7, "s2": 0.6, "s3": 0.7, "s4": 0.6},
    ]
    runs = [Finished("Baseline", s, run_result(v)) for s, v in zip((3, 5), theirs)]
    runs += [Finished("Larger step", s, run_result(v, [0.1, 0.3])) for s, v in zip((3, 5), ours)]
    table = make_table(study, runs, units)
    averages = [[mean(run[n] for run in side) for n in units] for side in (ours, theirs)]
    expected = bootstrap(*averages, groups=list(units.values()))
    assert table["tests"]["comparisons"][0]["p"] == expected.p
    assert table["tests"]["comparisons"][0]["low"] == expected.low
    assert table["tests"]["unit_scores"]["Baseline"]["f1"] == pytest.approx({"a": 0.6, "b": 0.5})
    assert table["rows"][1]["n"] == 4
    assert table["rows"][1]["mean"]["f1"] == pytest.approx(0.2)

    runs[0] = Finished("Baseline", 3, run_result({"s1": 0.5, "s9": 0.5}))
    with pytest.raises(RecipeError, match=r"share their test images.*s2, s3, s4, s9"):
        make_table(study, runs, units)


@pytest.mark.parametrize(
    ("blocks", "answer"),
    [
        ({"a": ["s1", "s2"]}, "test images in no block.*s3"),
        ({"a": ["s1", "s2"], "b": ["s2", "s3"]}, "in two blocks.*s2"),
        ({"a": ["s1", "s2"], "b": ["x3"]}, "no such test image.*did you mean 's3'"),
        ({"a": ["s1", "s2", "s3"]}, "two units or more"),
    ],
)  # fmt: skip
def test_blocks_cover_the_test_once(blocks, answer):
    names = SimpleNamespace(names=["s1", "s2", "s3"])
    with pytest.raises(RecipeError, match=answer):
        units_of(Significance(kind="bootstrap", unit="block", blocks=blocks), names)


@pytest.mark.parametrize(
    ("changes", "settings", "answer"),
    [
        ({"rowz": []}, [], "unknown study key .*rowz.*did you mean 'rows'"),
        ({"rows": [{"name": "a", "sett": {}}]}, [], r"rows\.0\.sett.*did you mean 'set'"),
        ({"tests": {"kind": "paired_t", "unitt": 1}}, [], "did you mean 'unit'"),
        ({"tests": {"comparisons": [{"reference": ["a"]}]}}, [], "did you mean 'references'"),
        ({"rows": [{"name": "a", "set": {"train.stepz": 3}}]}, [], "a: train.stepz.*'steps'"),
        ({"rows": [{"name": "a", "set": {"seed.deep": 3}}]}, [], "no further keys.*a: seed.deep"),
        ({"rows": [{"name": "a", "set": {"augment.method": "prmixx"}}]}, [], "prmix"),
        ({"rows": [{"name": "A b"}, {"name": "a-b"}]}, [], "share a folder"),
        ({}, ["only=[Basline]"], "no row 'Basline'; did you mean 'Baseline'"),
        ({}, ["columns=[f2]"], "columns"),
        ({}, ["train.steps=3"], r"write --set base\.train\.steps=3"),
        ({}, ["base.train.stepz=3"], "did you mean 'steps'"),
        ({"base": "sections", "set": {}}, [], r"--set base\.data\.path="),
        ({"tests": {"unit": "block"}}, [], "blocks belong"),
        ({"seeds": [1, 1, 2]}, [], "seeds are different"),
        ({}, [], "three models of each row"),
        ({"base": "prmix-table5-phantom"}, [], "cannot be the base"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_runs(tmp_path, changes, settings, answer):
    with pytest.raises(RecipeError, match=answer):
        load_study(write(tmp_path, **{"tests": {}, **changes}), settings)


def test_rows_are_matched_in_steps_and_batch(tmp_path):
    rows = [{"name": "a"}, {"name": "b", "set": {"train.steps": 7}}]
    path = write(tmp_path, rows=rows, tests={})
    with pytest.raises(RecipeError, match=r"differ in optimiser steps x batch.*a 6 x 2, b 7 x 2"):
        load_study(path, ["seeds=[0]"])
    study, recipes = load_study(path, ["seeds=[0]", "matched=false", "base.net.batch=4"])
    assert [(r.train.steps, r.net.batch) for r in recipes.values()] == [(6, 4), (7, 4)]
    assert study.dump()["set"]["net.batch"] == 4


STUDIES = [name for name in recipe_names() if recipe_kind(name) == "study"]


@pytest.mark.parametrize("name", STUDIES)
def test_every_packaged_study_is_valid(name):
    if "translate" in recipe_text(name)[0] and "translate" not in AUGMENTATIONS:
        pytest.skip("no image translation")
    rooted = name.endswith("-dmbm") or name.startswith(("prmix-brain100um", "microstructure-"))
    study, recipes = load_study(name, ["base.data.root=x"] if rooted else [])
    assert study.name == name and study.title and study.description
    assert len(recipes) == len(study.rows) and study.tests.pairs()
    titles = {recipe.title for recipe in recipes.values()}
    assert len(titles) == len(recipes)


def test_the_list_tells_studies_from_recipes():
    answer = CliRunner().invoke(app, ["recipes", "--json"])
    rows = {row["name"]: row for row in json.loads(answer.stdout)}
    assert rows["demo"]["kind"] == "recipe"
    study = rows["prmix-table1-phantom"]
    assert (study["kind"], study["data"]) == ("study", "phantom-sections")
    assert study["rows"][-1] == "PRMix 20x"
    assert {name for name in rows if rows[name]["kind"] == "study"} == set(STUDIES)


def test_every_key_is_in_the_docs():
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text("utf-8")
    keys = [*Study.model_fields, *(f"tests.{key}" for key in Significance.model_fields)]
    assert [key for key in keys if key != "tests" and f"`{key}`" not in text] == []
    assert [name for name in STUDIES if name.rsplit("-", 1)[0] not in text] == []
