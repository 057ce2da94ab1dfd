import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brodmann.core import (
    BrodmannError,
    DataError,
    Dataset,
    OutputError,
    Points,
    RecipeError,
    Registry,
    Sample,
    Volume,
    key_seed,
    keyed_rng,
    nearest,
)
from brodmann.core.files import make_folder, write_json, written_beside


def section(shape=(4, 6)):
    return Volume(np.arange(np.prod(shape)).reshape(shape), "yx", (10, 20))


def test_volume_reads_windows_channel_first():
    volume = Volume(np.arange(48).reshape(2, 4, 6), "cyx", (10, 20), ("a", "b"))
    window = (slice(1, 3), slice(2, 5))
    assert (volume.read(window) == volume.data[:, 1:3, 2:5]).all()
    assert section().read(window).shape == (1, 2, 3)
    assert volume.spatial_shape == (4, 6) and volume.voxel_size == 200
    assert volume.like(np.zeros((4, 6))).axes == "yx"


@pytest.mark.parametrize(
    ("shape", "axes", "spacing", "channels"),
    [
        ((4, 6), "xy", (1, 1), ()),
        ((4, 6), "cyx", (1, 1), ()),
        ((4, 6), "yx", (1,), ()),
        ((4, 6), "yx", (1, 0), ()),
        ((4, 6), "yx", (1, float("nan")), ()),
        ((2, 4, 6), "cyx", (1, 1), ("one",)),
    ],
)
def test_volumes_that_do_not_fit_are_refused(shape, axes, spacing, channels):
    with pytest.raises(DataError):
        Volume(np.zeros(shape), axes, spacing, channels)


def test_labels_must_lie_on_the_image():
    with pytest.raises(DataError, match=r"image \(4, 6\), labels \(4, 5\)"):
        Sample("a", section(), section((4, 5)))


def test_points_name_the_bad_line():
    with pytest.raises(DataError, match="line 3"):
        Points(pd.DataFrame({"y": [1.0, np.nan], "x": [0, 0]}), "cells.csv")
    with pytest.raises(DataError, match="columns"):
        Points(pd.DataFrame({"y": [1.0]}))
    with pytest.raises(DataError, match="no number"):
        Points(pd.DataFrame({"y": ["a"], "x": [1]}))


def test_points_round_trip(tmp_path):
    points = Points(pd.DataFrame({"x": [1.5, 2], "z": [0, 1], "y": [3, 4], "score": [0.5, 0.25]}))
    points.to_csv(tmp_path / "p.csv")
    again = Points.from_csv(tmp_path / "p.csv")
    assert again.axes == "zyx"
    assert (again.coordinates == [[0, 3, 1.5], [1, 4, 2]]).all()


def test_dataset_splits_and_subjects():
    data = Dataset(
        "d", ["a", "b"], lambda name: Sample(name, section()), subjects={"a": "m1"},
        splits={"train": ["a"], "test": ["b"]},
    )  # fmt: skip
    assert data["a"].subject == "m1" and data["b"].subject == "b"
    assert data.split("test").names == ["b"]
    assert [s.name for s in data] == ["a", "b"]
    with pytest.raises(DataError, match="did you mean 'train'"):
        data.split("trian")
    with pytest.raises(DataError, match="not there"):
        data.with_splits({"train": ["c"]})


def test_registry_knows_plug_ins_and_near_misses(monkeypatch):
    nets = Registry("net", {"lazy": "json:dumps"})
    nets.register("own")(len)
    assert nets["lazy"] is json.dumps and nets["own"] is len
    assert nets.names() == ["lazy", "own"]
    with pytest.raises(RecipeError, match="did you mean 'lazy'"):
        nets["lasy"]
    with pytest.raises(RecipeError, match="exists already"):
        nets.register("own")

    class Point:
        name = "far"

        def load(self):
            return max

    monkeypatch.setattr(
        "brodmann.core.registry.entry_points",
        lambda group: [Point()] if group == "brodmann.net" else [],
    )
    assert nets["far"] is max and "far" in nets


@given(st.integers(0, 2**40), st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=4))
def test_keys_make_seeds_of_63_bits(seed, keys):
    assert 0 <= key_seed(seed, *keys) < 2**63


def test_keys_are_told_apart_and_do_not_change_with_the_process():
    assert (
        len(
            {
                key_seed(0, 1),
                key_seed(0, "1"),
                key_seed(1),
                key_seed(0, 1, 0),
                key_seed(0, "1\x1f0"),
            }
        )
        == 5
    )
    code = "from brodmann.core import key_seed; print(key_seed(3, 'patch', 7))"
    env = os.environ | {"PYTHONHASHSEED": "77"}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert int(answer.stdout) == key_seed(3, "patch", 7)
    assert keyed_rng(3, "a").random() != keyed_rng(3, "b").random()


def test_an_error_is_one_line_of_four_parts():
    error = BrodmannError("bad\nthing", "file.tif", [1, 2], "mend it")
    assert str(error) == "bad thing (file.tif): found [1, 2]; mend it"
    assert nearest("stepz", ["steps", "lr"]) == "did you mean 'steps'?"


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), written_beside(target) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(ValueError, match="Out of range"):
        write_json(target, {"x": float("nan")})
    assert target.read_text() == "old"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        make_folder(tmp_path / "file" / "below")
