"""Expansion: what is written, resumed and made again."""

import dataclasses
import json
from typing import ClassVar

import numpy as np
import pytest

from brodmann.augment.base import AUGMENTATIONS, Augmentation, CannotDraw
from brodmann.augment.classical import Classical
from brodmann.augment.expand import expand, replay
from brodmann.core import DataError, Dataset, Label, LabelMap, OutputError, Sample, Volume
from brodmann.datasets.folder import read_folder

METHOD = Classical(rotation_p=1.0, scale_p=0.5, noise_p=1.0, gamma_p=1.0)


def section(name):
    rng = np.random.default_rng(ord(name[0]))
    image = rng.integers(10, 240, (2, 24, 36)).astype(np.uint8)
    labels = np.kron(rng.choice([0, 3, 9], (6, 9)), np.ones((4, 4))).astype(np.uint16)
    grid = (25.0, 10.0)
    return Sample(name, Volume(image, "cyx", grid), Volume(labels, "yx", grid))


def dataset(load=section, names="abcd", test="d"):
    tree = LabelMap([Label(3, "Three", "T"), Label(9, "Nine", "N")], ignore=250)
    train = [name for name in names if name not in test]
    splits = {"train": train, "test": list(test)}
    return Dataset("tiny", list(names), load, tree, {"a": "m1", "b": "m1"}, splits)


@dataclasses.dataclass(frozen=True)
class Blend(Augmentation):
    """The mean with a partner; b refuses."""

    name: ClassVar[str] = "test-blend"

    def draw(self, rng, target, pool=None):
        if target.name == "b":
            raise CannotDraw("no partner fits", target.name)
        others = [name for name in pool.names if name != target.name]
        return {"sources": [others[rng.integers(len(others))]]}

    def apply(self, params, target, pool=None):
        partner = pool[params["sources"][0]].image.numpy().astype(int)
        mean = (target.image.numpy() + partner) // 2
        return target.with_(image=target.image.like(mean.astype(np.uint8)))


@pytest.fixture(scope="module", autouse=True)
def blend():
    if "test-blend" not in AUGMENTATIONS:
        AUGMENTATIONS.register("test-blend")(Blend)
    yield
    AUGMENTATIONS._loaded.pop("test-blend")


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_what_is_written_is_what_replay_makes(tmp_path):
    source = dataset()
    out = expand(source, METHOD, tmp_path / "x", factor=2, seed=5)
    made = read_folder(out)
    assert len(made) == 4 + 3 * 2
    assert made.splits["test"] == ["d"] and made.splits["train-real"] == ["a", "b", "c"]
    assert len(made.splits["train-made"]) == 6
    assert set(made.splits["train"]) == {"a", "b", "c", *made.splits["train-made"]}
    assert made.label_map == source.label_map
    assert made["b-classical-001"].subject == "m1"
    for name in "abcd":
        np.testing.assert_array_equal(made[name].image.numpy(), section(name).image.numpy())
    seen = set()
    for name in made.splits["train-made"]:
        again = replay(out / "provenance" / f"{name}.json", source)
        assert again.name == name
        assert again.image.numpy().tobytes() == made[name].image.numpy().tobytes()
        np.testing.assert_array_equal(again.labels.numpy(), made[name].labels.numpy())
        assert again.image.spacing == made[name].image.spacing
        seen.add(again.image.numpy().tobytes())
    assert len(seen) == 6


def test_stopped_and_threaded_work_ends_with_the_same_bytes(tmp_path):
    whole = expand(dataset(), METHOD, tmp_path / "whole", factor=3, seed=1)
    left = {}

    def failing(name):
        left["loads"] -= 1
        if left["loads"] < 0:
            raise KeyboardInterrupt
        return section(name)

    for loads in (2, 7):  # While drawing, then while writing.
        left["loads"] = loads
        with pytest.raises(KeyboardInterrupt):
            expand(dataset(failing), METHOD, tmp_path / "broken", factor=3, seed=1)
    begun = len(list((tmp_path / "broken" / "images").glob("*.tif")))
    assert 0 < begun < 13
    steps = []
    expand(
        dataset(), METHOD, tmp_path / "broken", factor=3, seed=1, workers=2,
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert contents(whole) == contents(tmp_path / "broken")
    assert steps[-1][:3] == ("write", 13 - begun, 13 - begun)
    before = {file: file.stat().st_mtime_ns for file in (whole / "images").iterdir()}
    expand(dataset(), METHOD, whole, factor=3, seed=1)
    assert before == {file: file.stat().st_mtime_ns for file in (whole / "images").iterdir()}


def test_a_mixing_method_names_its_sources_and_its_refusals(tmp_path):
    source = dataset()
    out = expand(source, Blend(), tmp_path / "x", factor=2, seed=0)
    assert len(read_folder(out).splits["train-made"]) == 4
    record = json.loads((out / "provenance" / "a-test-blend-000.json").read_text())
    assert len(record["sources"]) == 2 and next(iter(record["sources"])) == "a"
    refused = out / "provenance" / "b-test-blend-000.json"
    assert "no partner fits" in json.loads(refused.read_text())["skipped"]
    with pytest.raises(DataError, match="never made"):
        replay(refused, source)

    def changed(name):
        sample = section(name)
        return sample.with_(image=sample.image.like(255 - sample.image.numpy()))

    with pytest.raises(DataError, match="a source has changed"):
        replay(record, dataset(changed))


def test_clear_words(tmp_path):
    with pytest.raises(DataError, match="at least 1"):
        expand(dataset(), METHOD, tmp_path / "a", factor=0, seed=0)
    with pytest.raises(DataError, match="is empty"):
        expand(dataset(names="d"), METHOD, tmp_path / "b", factor=1, seed=0)
    with pytest.raises(DataError, match="no such split"):
        expand(dataset(), METHOD, tmp_path / "c", factor=1, seed=0, split="trian")
    with pytest.raises(DataError, match=r"allows 'test-blend'.*no partner fits"):
        expand(dataset(names="bd"), Blend(), tmp_path / "d", factor=1, seed=0)
    expand(dataset(), METHOD, tmp_path / "e", factor=1, seed=0)
    with pytest.raises(OutputError, match="another factor and seed"):
        expand(dataset(), METHOD, tmp_path / "e", factor=2, seed=1)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "thesis.doc").touch()
    with pytest.raises(OutputError, match="something else"):
        expand(dataset(), METHOD, tmp_path / "f", factor=1, seed=0)
    with pytest.raises(DataError, match="no provenance"):
        replay({"method": "classical"}, dataset())
    with pytest.raises(DataError, match="cannot read the provenance"):
        replay(tmp_path / "nowhere.json", dataset())
