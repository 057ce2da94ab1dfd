"""The whole path, and what kills it."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from brodmann.core import DataError, RecipeError
from brodmann.datasets.folder import write_folder
from brodmann.datasets.phantoms.sections import phantom_sections
from brodmann.pipeline.recipe import load_recipe
from brodmann.pipeline.run import run_recipe

TINY = [
    "data.subjects=5", "data.test_subjects=2", "data.subregions=8", "data.primary=3",
    "net.patch=[64, 64]", "net.batch=2", "net.base_features=4", "net.max_features=8",
    "train.steps=14", "train.checkpoint_every=2", "train.ema=0.9", "net.dropout=0.1",
]  # fmt: skip


def settings(*more):
    return [part for s in [*TINY, *more] for part in ("--set", s)]


def cli(*args, **options):
    return subprocess.run(
        [sys.executable, "-m", "brodmann", *map(str, args)],
        capture_output=True,
        text=True,
        **options,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    answer = cli("run", "demo", *settings(), "--out", folder, "--json")
    assert answer.returncode == 0, answer.stderr
    return folder, json.loads(answer.stdout)


def essence(folder):
    """All bytes that a run is judged by."""
    files = [folder / "model" / "model.safetensors", *sorted((folder / "predict").glob("*.tif"))]
    assert len(files) == 5
    return [f.read_bytes() for f in files] + [(folder / "score" / "scores.json").read_bytes()]


def test_a_run_leaves_all_that_it_promises(finished):
    folder, result = finished
    assert result == json.loads((folder / "result.json").read_text("utf-8"))
    assert 0 <= result["mean_dice"] <= 1 and "mean_dice" in result["baselines"]["copy"]
    assert len(result["per_class"]) == 8 and len(result["per_image"]) == 2
    page = (folder / "report" / "report.html").read_text("utf-8")
    assert "brodmann run demo" in page.replace("__main__.py", "") or "run demo" in page
    for name in ("areas.csv", "polygons", "labels"):
        assert (folder / "report" / name).exists()
    for name in ("model.yaml", "model.safetensors", "labels.csv", "README.md"):
        assert (folder / "model" / name).exists()


def test_scores_of_a_run_are_those_of_the_score_verb(finished, tmp_path):
    folder, result = finished
    data = folder / "data" / "dataset"
    truth = tmp_path / "truth"
    truth.mkdir()
    for name in [row["name"] for row in result["per_image"]]:
        (truth / f"{name}.tif").write_bytes((data / "labels" / f"{name}.tif").read_bytes())
        (tmp_path / f"{name}.tif").write_bytes((folder / "predict" / f"{name}.tif").read_bytes())
    answer = cli("score", "regions", tmp_path, truth, "--labels", data / "labels.csv", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["pooled"]["mean_dice"] == pytest.approx(result["mean_dice"])


def test_the_same_command_again_does_nothing_and_a_change_only_what_it_touches(finished):
    folder, result = finished
    before = essence(folder)
    stamp = (folder / "train" / "stage.json").stat().st_mtime_ns
    again = cli("run", "demo", *settings("score.neighbours=3"), "--out", folder, "--json")
    assert again.returncode == 0, again.stderr
    assert essence(folder)[:-1] == before[:-1]
    assert (folder / "train" / "stage.json").stat().st_mtime_ns == stamp
    back = cli("run", "demo", *settings(), "--out", folder, "--json")
    assert json.loads(back.stdout)["mean_dice"] == result["mean_dice"]


@pytest.mark.parametrize("moment", ["training", "mapping"])
def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_bytes(finished, tmp_path, moment):
    """SIGKILL; the marks of progress are files, so the kill comes in the middle of the work."""
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "brodmann", "run", "demo", *settings(), "--out", str(folder)]

    def in_the_middle():
        if moment == "training":
            return (folder / "train" / "fold0" / "checkpoint.pt").exists()
        return any((folder / "predict").glob(".*.partial/state.json"))

    if moment == "mapping":
        # A slow net, so that there is a middle to hit: the state file stands after one row.
        (tmp_path / "slow.py").write_text(
            "import sys, time, brodmann.problems.semantic.problem as p\n"
            "from brodmann.cli import main\n"
            "real = p.forward\n"
            "def slow(net, mirror=()):\n"
            "    run = real(net, mirror)\n"
            "    def wait(batch):\n"
            "        time.sleep(0.15)\n"
            "        return run(batch)\n"
            "    return wait\n"
            "p.forward = slow\n"
            "sys.argv = ['brodmann', *sys.argv[1:]]\n"
            "main()\n",
            "utf-8",
        )
        command = [sys.executable, str(tmp_path / "slow.py"), *command[3:]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not in_the_middle() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None, "the kill must come before the end"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "result.json").exists()
    answer = cli("run", "demo", *settings(), "--out", folder)
    assert answer.returncode == 0, answer.stderr
    assert essence(folder) == essence(finished[0])


def test_predict_maps_a_folder_a_file_and_leaves_a_bad_file_out(finished, tmp_path):
    folder, result = finished
    names = [row["name"] for row in result["per_image"]]
    source = tmp_path / "sections"
    source.mkdir()
    for name in names:
        (source / f"{name}.tif").write_bytes(
            (folder / "data" / "dataset" / "images" / f"{name}.tif").read_bytes()
        )
    answer = cli("predict", folder / "model", source, tmp_path / "maps", "--json")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert [image["name"] for image in found["images"]] == sorted(names)
    for image in found["images"]:
        expected = tifffile.imread(folder / "predict" / f"{image['name']}.tif")
        assert (tifffile.imread(image["labels"]) == expected).all()
    for name in ("report.html", "areas.csv", "labels.csv", "polygons"):
        assert (tmp_path / "maps" / name).exists()

    one = cli(
        "predict", folder / "model", source / f"{names[0]}.tif", tmp_path / "one.tif", "--json"
    )
    assert one.returncode == 0 and (tmp_path / "one.tif").exists()

    (source / "broken.tif").write_bytes((source / f"{names[0]}.tif").read_bytes()[:3000])
    bad = cli("predict", folder / "model", source, tmp_path / "maps")
    assert bad.returncode == 2
    last = [line for line in bad.stderr.splitlines() if line.startswith("brodmann:")]
    assert len(last) == 1 and "broken.tif" in last[0] and "2 of 3" in last[0]


def test_cross_validation_scores_each_fold_and_the_ensemble(tmp_path):
    recipe = load_recipe(
        "demo",
        [
            *TINY,
            "split.folds=3",
            "split.run=[0, 2]",
            "predict.per_fold=true",
            "train.steps=4",
            "train.validate_every=2",
            "train.validate_batches=1",
        ],
    )
    result = run_recipe(recipe, tmp_path / "out")
    assert sorted(result["folds"]["each"]) == ["fold0", "fold1"]
    values = [scores["mean_dice"] for scores in result["folds"]["each"].values()]
    assert result["folds"]["mean"]["mean_dice"] == pytest.approx(np.mean(values))
    assert result["folds"]["std"]["mean_dice"] == pytest.approx(np.std(values, ddof=1))
    with pytest.raises(RecipeError, match="no such fold"):
        run_recipe(load_recipe("demo", [*TINY, "split.folds=3", "split.run=[7]"]), tmp_path / "out")


def test_offline_expansion_is_trained_on(tmp_path):
    recipe = load_recipe(
        "demo", [*TINY, "augment.method=classical", "augment.factor=2", "train.steps=2"]
    )
    result = run_recipe(recipe, tmp_path / "out")
    assert result["training_images"] == 3 and result["training_samples"] == 3 * 3


def test_a_folder_with_faults_is_refused_before_training(tmp_path):
    data = write_folder(
        phantom_sections(subjects=3, shape=(256, 512), subregions=8, primary=3), tmp_path / "data"
    )
    image = next((data / "images").iterdir())
    image.write_bytes(image.read_bytes()[:2000])
    recipe = load_recipe("sections", [f"data.path={data}", *TINY[4:]])
    with pytest.raises(DataError, match="brodmann data check"):
        run_recipe(recipe, tmp_path / "out")
    assert not (tmp_path / "out" / "train").exists()


def test_volumes_walk_the_same_path(tmp_path):
    """3D: blobs in noise, learned and mapped by the same recipe, planner and strips."""
    from brodmann.core import Dataset, Label, LabelMap, Sample, Volume, keyed_rng

    def blob(name):
        rng = keyed_rng(0, name)
        z, y, x = np.indices((16, 24, 28))
        centre = rng.uniform(7, 10, 3)
        labels = ((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 25).astype(
            np.uint8
        )
        image = (labels * 60 + rng.normal(100, 10, labels.shape)).astype(np.float32)
        return Sample(name, Volume(image, "zyx", (2, 1, 1)), Volume(labels, "zyx", (2, 1, 1)))

    data = Dataset(
        "blobs",
        ["a", "b", "c"],
        blob,
        LabelMap([Label(1, "blob", "B")]),
        splits={"train": ["a", "b"], "test": ["c"]},
    )
    path = write_folder(data, tmp_path / "data")
    recipe = load_recipe(
        "sections",
        [f"data.path={path}", "net.patch=[16, 16, 16]", "net.batch=2", "net.base_features=4",
         "train.steps=40", "train.optimizer=adamw", "train.lr=0.01"],
    )  # fmt: skip
    result = run_recipe(recipe, tmp_path / "out")
    assert result["plan"]["strides"][1] == [1, 2, 2] and result["mean_dice"] > 0.5


def test_sections_of_which_some_are_annotated_are_enough(tmp_path):
    """No splits, and only some of the label images: whole animals are held out of these."""
    data = write_folder(
        phantom_sections(subjects=4, shape=(256, 512), subregions=8, primary=3), tmp_path / "data"
    )
    config = (data / "dataset.yaml").read_text("utf-8")
    (data / "dataset.yaml").write_text(config.split("splits:")[0], "utf-8")
    sorted((data / "labels").iterdir())[0].unlink()
    recipe = load_recipe("sections", [f"data.path={data}", *TINY[4:], "train.steps=2"])
    result = run_recipe(recipe, tmp_path / "out")
    assert (result["training_images"], result["test_images"]) == (2, 1)


def test_a_test_sample_without_labels_is_refused_before_training(tmp_path):
    data = write_folder(
        phantom_sections(subjects=4, shape=(256, 512), subregions=8, primary=3), tmp_path / "data"
    )
    sorted((data / "labels").iterdir())[-1].unlink()
    recipe = load_recipe("sections", [f"data.path={data}", *TINY[4:]])
    with pytest.raises(DataError, match="split 'test' without labels"):
        run_recipe(recipe, tmp_path / "out")
    with pytest.raises(DataError, match="no such dataset folder"):
        run_recipe(load_recipe("sections", ["data.path=nowhere"]), tmp_path / "other")


def test_images_of_another_spacing_are_brought_to_the_median(tmp_path):
    from brodmann.core import Dataset
    from brodmann.datasets.phantoms.sections import phantom_section, phantom_tree

    sizes = {"a": (128, 256), "b": (256, 512), "c": (256, 512), "d": (256, 512)}
    tree = phantom_tree(8, 3)

    def load(name):
        return phantom_section(sizes[name], tree, subject=ord(name), name=name)

    split = {"train": ["a", "b", "c"], "test": ["d"]}
    data = write_folder(Dataset("mixed", list(sizes), load, tree, splits=split), tmp_path / "data")
    recipe = load_recipe("sections", [f"data.path={data}", *TINY[4:], "train.steps=2"])
    run_recipe(recipe, tmp_path / "out")
    cases = [np.load(p, mmap_mode="r") for p in sorted((tmp_path / "out").rglob("labels.npy"))]
    assert [case.shape for case in cases] == [(256, 512)] * 3
    assert set(np.unique(cases[0])) <= set(range(-1, 9))


def test_ctrl_c_in_training_is_130_and_the_same_command_goes_on(tmp_path):
    folder = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "brodmann",
        "run",
        "demo",
        *settings("train.steps=150"),
        "--out",
        str(folder),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a background job ignores it
    )
    deadline = time.monotonic() + 240
    while (
        not (folder / "train" / "fold0" / "checkpoint.pt").exists() and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "goes on from here" in said
    assert cli(*command[3:]).returncode == 0
    assert (folder / "result.json").exists()
