"""`brodmann augment`: what it writes, resumes, makes again and refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from brodmann.augment.base import AUGMENTATIONS
from brodmann.cli import main
from brodmann.cli.augment import parsed
from brodmann.core import RecipeError
from brodmann.datasets.convert import convert
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.phantoms.sections import phantom_sections
from brodmann.datasets.phantoms.tree import phantom_tree

FACTOR = ("--factor", 2)


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    data = phantom_sections(4, 1, (64, 128), 2, subregions=8, primary=3)
    return write_folder(data, tmp_path_factory.mktemp("data") / "sections")


@pytest.fixture(scope="module")
def expanded(sections, tmp_path_factory):
    from brodmann.augment.base import make_augmentation
    from brodmann.augment.expand import expand

    out = tmp_path_factory.mktemp("expanded") / "x"
    return expand(read_folder(sections), make_augmentation("prmix"), out, factor=2, seed=0)


@pytest.fixture
def run(capsys, monkeypatch):
    def call(*args):
        monkeypatch.setattr("sys.argv", ["brodmann", "augment", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return stop.value.code or 0, said.out, said.err

    return call


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_expands_and_says_so(run, sections, tmp_path):
    code, out, err = run("cutmix", sections, tmp_path / "x", *FACTOR, "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["targets"], told["made"], told["skipped"], told["samples"]) == (3, 6, 0, 10)
    assert (told["method"], told["options"]["alpha"], told["split"]) == ("cutmix", 1.0, "train")
    assert "write" in err and "contact sheet" in err
    made = read_folder(tmp_path / "x")
    assert len(made) == 10 and len(made.splits["train-made"]) == 6
    picture = Image.open(told["contact"]["path"])
    assert picture.size == (told["contact"]["width"], told["contact"]["height"])
    assert set(told["contact"]["samples"]) <= set(made.splits["train-real"])
    code, out, _ = run("cutmix", sections, tmp_path / "x", *FACTOR, "--no-contact")
    assert (code, "made 6 images of 3" in out, "contact" in out) == (0, True, False)


def test_options_reach_the_method(run, sections, tmp_path):
    args = ("--set", "sources=2", "--set", "tau=5e-2", "--set", "regions=[1, 2]", "--no-contact")
    code, out, _ = run("prmix", sections, tmp_path / "x", "--factor", 1, *args, "--json")
    options = json.loads(out)["options"]
    assert (code, options["sources"], options["tau"], options["regions"]) == (0, 2, 0.05, [1, 2])
    for file in (tmp_path / "x" / "provenance").iterdir():
        assert len(json.loads(file.read_text())["params"]["regions"]) <= 2
    with pytest.raises(RecipeError, match="key=value"):
        parsed(["sources"])


def test_a_stopped_expansion_goes_on_to_the_same_bytes(run, sections, tmp_path, monkeypatch):
    assert run("prmix", sections, tmp_path / "whole", *FACTOR, "--workers", 2)[0] == 0
    import brodmann.datasets.folder as folder

    real, left = folder.write_volume, iter(range(7))

    def failing(*args, **kwargs):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(folder, "write_volume", failing)
    code, out, err = run("prmix", sections, tmp_path / "broken", *FACTOR)
    assert (code, out) == (130, "")
    assert "goes on from here" in err
    assert 0 < len(list((tmp_path / "broken" / "images").iterdir())) < 10
    monkeypatch.undo()
    assert run("prmix", sections, tmp_path / "broken", *FACTOR)[0] == 0
    assert contents(tmp_path / "whole") == contents(tmp_path / "broken")


def test_another_folder_is_refused(run, sections, expanded, tmp_path):
    for args, words in (
        (("prmix", sections, expanded, "--factor", 3), "another factor"),
        (("prmix", sections, expanded, "--factor", 2, "--seed", 1), "another seed"),
        (("prmix", sections, sections), "something else is in the folder"),
    ):
        code, out, err = run(*args)
        assert (code, out) == (2, "")
        assert words in err.strip().splitlines()[-1]


def test_skipped_copies_are_counted_by_reason(run, tmp_path):
    data = phantom_sections(4, 1, (64, 128), 2, subregions=8, primary=3)
    bare = data.names[0]

    def load(name):
        sample = data[name]
        return sample.with_(labels=None) if name == bare else sample

    folder = write_folder(data.with_load(load), tmp_path / "part")
    code, out, _ = run("mixup", folder, tmp_path / "x", "--factor", 6, "--json")
    told = json.loads(out)
    assert code == 0
    assert list(told["reasons"]) == ["a sample without labels cannot be mixed"]
    assert told["reasons"].popitem()[1] == told["skipped"] >= 6
    assert told["made"] + told["skipped"] == 18
    code, out, _ = run("mixup", folder, tmp_path / "x", "--factor", 6)
    assert f"{told['skipped']}  a sample without labels cannot be mixed" in out


@pytest.mark.parametrize("layout", ["nnunet"])
def test_other_layouts(run, sections, tmp_path, layout):
    convert(sections, tmp_path / "there", layout)
    code, out, _ = run("mixup", tmp_path / "there", tmp_path / "x", "--factor", 1, "--json")
    assert (code, json.loads(out)["made"]) == (0, 3)


class TestReplay:
    def test_gives_the_same_bytes(self, run, sections, expanded, tmp_path):
        names = read_folder(expanded).splits["train-made"]
        for name in names[:3]:
            record = expanded / "provenance" / f"{name}.json"
            code, out, _ = run("replay", record, sections, tmp_path / "again", "--json")
            told = json.loads(out)
            assert (code, told["name"]) == (0, name)
            assert {f"images/{name}.tif", f"labels/{name}.tif"} <= set(told["files"])
            for file, compared in told["files"].items():
                assert compared["same"] and compared["sha256"] == compared["expansion"]
                again = (tmp_path / "again" / file).read_bytes()
                assert again == (expanded / file).read_bytes()
        assert not list((tmp_path / "again").glob(".*"))

    def test_of_a_soft_sample_has_both_maps_and_the_weight(self, run, sections, tmp_path):
        run("mixup", sections, tmp_path / "x", "--factor", 1, "--no-contact")
        record = next((tmp_path / "x" / "provenance").iterdir())
        code, out, _ = run("replay", record, sections, tmp_path / "again", "--json")
        files = json.loads(out)["files"]
        assert code == 0 and all(file["same"] for file in files.values())
        assert {name.split("/")[0] for name in files} == {"images", "labels", "labels2", "meta"}

    def test_a_difference_exits_1(self, run, sections, expanded, tmp_path):
        name = read_folder(expanded).splits["train-made"][0]
        fake = tmp_path / "fake"
        for part in ("provenance", "images", "labels"):
            (fake / part).mkdir(parents=True)
        record = fake / "provenance" / f"{name}.json"
        record.write_bytes((expanded / "provenance" / f"{name}.json").read_bytes())
        whole = (expanded / "images" / f"{name}.tif").read_bytes()
        (fake / "images" / f"{name}.tif").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        code, out, _ = run("replay", record, sections, tmp_path / "again")
        assert code == 1
        assert f"images/{name}.tif: DIFFERS" in out
        assert f"labels/{name}.tif: made; the expansion no longer holds it" in out

    def test_the_expansion_itself_is_spared(self, run, sections, expanded):
        record = next((expanded / "provenance").iterdir())
        code, _, err = run("replay", record, sections, expanded)
        assert (code, "this is the expansion itself" in err) == (2, True)

    def test_a_changed_source_is_named(self, run, expanded, tmp_path):
        other = phantom_sections(4, 1, (64, 128), 2, subregions=8, primary=3, seed=9)
        folder = write_folder(other, tmp_path / "other")
        record = next((expanded / "provenance").iterdir())
        code, _, err = run("replay", record, folder, tmp_path / "again")
        assert (code, "a source has changed" in err) == (2, True)


def test_pictures(run, sections, expanded, tmp_path):
    figure = tmp_path / "pair.png"
    code, out, _ = run("compare", sections, figure, "--set", "prmix.oaa=false", "--json")
    told = json.loads(out)
    assert (code, list(told["params"])) == (0, ["cutmix", "carvemix", "prmix", "mixup"])
    assert Image.open(figure).size == (told["width"], told["height"])
    records = sorted((expanded / "provenance").iterdir())
    figure = tmp_path / "place.svg"
    code, out, _ = run("placement", records[0], sections, figure, "--json")
    told = json.loads(out)
    assert (code, figure.read_text()[:5]) == (0, "<?xml")
    assert told["overlap_before"] >= told["overlap_after"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("prmxi", "{data}", "{out}"), "did you mean 'prmix'?"),
        (("prmix", "{data}", "{out}", "--set", "source=3"), "did you mean 'sources'?"),
        (("prmix", "{data}", "{out}", "--set", "sources=9"), "sources are 2, 3 or 4"),
        (("prmix", "{data}", "{out}", "--split", "trian"), "did you mean 'train'?"),
        (("prmix", "nowhere", "{out}"), "no such dataset"),
        (("--json",), "which method?"),
        (("replay", "nowhere.json", "{data}", "{out}"), "cannot read the provenance"),
        (("compare", "{data}", "{out}.doc"), "unknown kind of picture"),
        (("compare", "{data}", "{out}.png", "--target", "brain"), "no such sample"),
        (("compare", "{data}", "{out}.png", "--set", "tau=1"), "write prmix.tau"),
        (("compare", "{data}", "{out}.png", "--set", "none.tau=1"), "not drawn"),
        (("placement", "{data}/dataset.yaml", "{data}", "{out}.png"), "cannot read"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(run, sections, tmp_path, args, words):
    args = [arg.format(data=sections, out=tmp_path / "out") for arg in args]
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert words in err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert not list(tmp_path.glob("out*"))


def test_help_lists_methods_and_their_options(run):
    code, out, _ = run("--list", "--json")
    told = {method["name"]: method for method in json.loads(out)["methods"]}
    assert (code, set(told)) == (0, set(AUGMENTATIONS))
    options = {option["name"]: option for option in told["prmix"]["options"]}
    assert options["sources"]["default"] == 3
    assert "2 to 4" in options["sources"]["meaning"]
    assert all(option["meaning"] for option in options.values())
    code, out, _ = run("--help")
    assert code == 0
    for name in (*AUGMENTATIONS, "replay", "compare", "placement"):
        assert name in out
    code, out, _ = run("prmix", "--help")
    assert code == 0
    for word in ("Example: brodmann augment prmix", "--workers", "hard_fraction", "[0.9, 1.1]"):
        assert word in out


def test_volumes(run, tmp_path):
    from brodmann.core import Dataset, Sample, Volume

    tree = phantom_tree(4, 2)

    def make(name):
        rng = np.random.default_rng(ord(name))
        ids = np.zeros((8, 32, 48), np.uint8)
        for i, id_ in enumerate(tree.classes):
            ids[1:7, 4:28, 4 + 10 * i : 14 + 10 * i] = id_
        image = ids * 20 + rng.integers(0, 15, ids.shape).astype(np.uint8)
        step = (50.0, 25.0, 25.0)
        return Sample(name, Volume(image, "zyx", step), Volume(ids, "zyx", step))

    folder = write_folder(Dataset("cubes", list("abc"), make, tree), tmp_path / "cubes")
    for method in ("prmix", "cutmix"):
        code, out, _ = run(method, folder, tmp_path / method, *FACTOR, "--json")
        told = json.loads(out)
        assert code == 0 and told["made"] > 0
        assert Image.open(told["contact"]["path"]).size[0] == told["contact"]["width"]


def test_importing_the_verb_loads_no_method():
    code = "import sys, brodmann.cli.augment; print([m for m in ('numba', 'torch') if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
