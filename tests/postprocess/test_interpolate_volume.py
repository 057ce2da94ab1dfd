"""Label volumes on disk: every axis and format, resumed work, provenance, held-out scores."""

import csv
import json
from itertools import pairwise

import nibabel
import numpy as np
import pytest
import zarr

from brodmann.core import DataError, OutputError, RecipeError, Volume
from brodmann.io import read_volume, write_volume
from brodmann.postprocess.interpolate import (
    find_slices,
    held_out_scores,
    interpolate_between,
    interpolate_volume,
    volume,
)

SPACING = (50.0, 2.0, 3.0)
KNOWN = (2, 7, 25, 40)


def made(length=43, dtype=np.uint16):
    """A tapering block between two others, in every slice: (z, y, x)."""
    z, y, x = np.indices((length, 20, 30))
    grid = np.where(x < 5 + z / 3, 1, np.where(y > 14 - z / 8, 500, 0))
    return grid.astype(dtype)


def sparse(axis="z", dtype=np.uint16):
    grid = made(dtype=dtype)
    keep = np.zeros(len(grid), bool)
    keep[list(KNOWN)] = True
    grid[~keep] = 0
    return np.moveaxis(grid, 0, "zyx".index(axis))


def expected(method, axis="z"):
    grid = np.moveaxis(sparse(axis), "zyx".index(axis), 0).copy()
    spacing = [step for name, step in zip("zyx", SPACING) if name != axis]
    for start, stop in pairwise(KNOWN):
        found = interpolate_between(
            grid[start].copy(), grid[stop].copy(), stop - start, spacing=spacing, method=method
        )
        grid[start + 1 : stop] = found.slices(stop - start)
    return np.moveaxis(grid, 0, "zyx".index(axis))


@pytest.mark.parametrize(
    "axis, method, source, target",
    [
        ("z", "recursive", "a.zarr", "dense.zarr"),
        ("y", "recursive", "a.tif", "dense.nii.gz"),
        ("x", "distance", "a.nii.gz", "dense.nii.gz"),
        ("x", "recursive", "a.h5", "dense.zarr"),
        ("z", "nearest", "a.nii", "dense.tif"),
    ],
)
def test_every_axis_and_format(tmp_path, axis, method, source, target):
    grid = sparse(axis)
    write_volume(tmp_path / source, Volume(grid, "zyx", SPACING), labels=True)
    out = tmp_path / target
    done = interpolate_volume(tmp_path / source, out, axis=axis, method=method)
    found = read_volume(out)
    assert found.spacing == SPACING and found.dtype == np.uint16
    assert np.array_equal(found.numpy(), expected(method, axis))
    assert done["slices"] == list(KNOWN) and done["method"] == method
    assert [(gap["from"], gap["to"]) for gap in done["gaps"]] == list(pairwise(KNOWN))
    assert volume.provenance(out) == json.loads(json.dumps(done))
    if target.endswith(".zarr"):
        assert zarr.open_group(str(out), mode="r").attrs["interpolation"]["axis"] == axis
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_borders_that_shift_linearly_are_found():
    found = expected("recursive")
    z, y, x = np.indices(found.shape)
    wrong = (found != made())[2:41]
    away = np.minimum(abs(x - (5 + z / 3)), abs(y - (14 - z / 8)))[2:41]
    # A drawn border is up to a pixel off the line, a slice between half a pixel more.
    assert away[wrong].max() <= 1.5 and wrong.mean() < 0.03
    assert not found[:2].any() and not found[41:].any()


def test_nifti_keeps_its_place_and_orientation(tmp_path):
    affine = np.array([[0, -0.003, 0, 7], [0.002, 0, 0, -3], [0, 0, 0.05, 1], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(sparse().T, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "a.nii.gz")
    interpolate_volume(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    again = nibabel.load(tmp_path / "b.nii.gz")
    assert np.allclose(again.affine, affine) and again.get_data_dtype() == np.uint16


def test_stopped_work_goes_on(tmp_path, monkeypatch):
    source, out = tmp_path / "a.zarr", tmp_path / "dense.zarr"
    write_volume(source, Volume(sparse(), "zyx", SPACING), labels=True)
    work, spans = volume.interpolate_between, []

    def stopping(before, after, steps, **options):
        spans.append(steps)
        if len(spans) == 2:
            raise KeyboardInterrupt
        return work(before, after, steps, **options)

    monkeypatch.setattr(volume, "interpolate_between", stopping)
    with pytest.raises(KeyboardInterrupt):
        interpolate_volume(source, out)
    assert not out.exists() and (tmp_path / ".dense.zarr.partial").is_dir()
    interpolate_volume(source, out)
    assert spans == [5, 18, 18, 15]
    assert np.array_equal(read_volume(out).numpy(), expected("recursive"))
    # Once more: nothing to do.
    again = interpolate_volume(source, out)
    assert len(spans) == 4 and len(again["gaps"]) == 3


def test_other_settings_or_labels_start_afresh(tmp_path, monkeypatch):
    source, out = tmp_path / "a.zarr", tmp_path / "dense.zarr"
    write_volume(source, Volume(sparse(), "zyx", SPACING), labels=True)

    def stopping(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(volume, "_finish", stopping)
        with pytest.raises(KeyboardInterrupt):
            interpolate_volume(source, out)
    changed = sparse()
    changed[7, :5] = 9
    write_volume(source, Volume(changed, "zyx", SPACING), labels=True)
    work, spans = volume.interpolate_between, []

    def counting(before, after, steps, **options):
        spans.append(steps)
        return work(before, after, steps, **options)

    monkeypatch.setattr(volume, "interpolate_between", counting)
    interpolate_volume(source, out)
    # The gaps on both sides of the slice that is new; the third is as it was.
    assert spans == [5, 18]
    assert (read_volume(out).numpy()[7, :5] == 9).all()
    for options in ({"method": "distance"}, {"slices": (2, 40)}, {"ignore": 500}):
        with pytest.raises(OutputError, match="something else is in the way"):
            interpolate_volume(source, out, **options)
    write_volume(source, Volume(sparse(), "zyx", SPACING), labels=True)
    with pytest.raises(OutputError, match="something else is in the way"):
        interpolate_volume(source, out)
    with pytest.raises(OutputError, match="something else is in the way"):
        interpolate_volume(source, source)


def test_slices_are_found_by_their_labels():
    for axis in "zyx":
        assert find_slices(Volume(sparse(axis), "zyx", SPACING), axis) == KNOWN
    grid = np.full((9, 4, 4), 255, np.uint8)
    grid[3], grid[8, 1, 1] = 0, 0
    assert find_slices(Volume(grid, "zyx", SPACING), "z", 255) == (3, 8)


@pytest.mark.parametrize(
    "change, options, error, words",
    [
        (lambda g: g.astype(np.float32), {}, DataError, "whole numbers"),
        (lambda g: np.zeros_like(g), {}, DataError, "two annotated slices"),
        (lambda g: g, {"slices": (7,)}, DataError, "two annotated slices"),
        (lambda g: g, {"slices": (7, 7)}, DataError, "found 1 along z"),
        (lambda g: g, {"slices": (7, 43)}, DataError, "0 to 42.*slice 43"),
        (lambda g: g, {"slices": (-1, 7)}, DataError, "slice -1"),
        (lambda g: g, {"axis": "c"}, RecipeError, "z, y or x"),
        (lambda g: g, {"axis": ""}, RecipeError, "z, y or x"),
        (lambda g: g, {"method": "linear"}, RecipeError, "unknown way"),
    ],
)
def test_what_is_refused(tmp_path, change, options, error, words):
    write_volume(tmp_path / "a.zarr", Volume(change(sparse()), "zyx", SPACING), labels=True)
    with pytest.raises(error, match=words):
        interpolate_volume(tmp_path / "a.zarr", tmp_path / "b.zarr", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_targets_that_are_refused(tmp_path):
    write_volume(tmp_path / "a.zarr", Volume(sparse(), "zyx", SPACING), labels=True)
    for name in ("b.png", "b.txt", "b", "b.h5::labels"):
        with pytest.raises(OutputError, match="are written to"):
            interpolate_volume(tmp_path / "a.zarr", tmp_path / name)
    write_volume(tmp_path / "b.tif", Volume(made(), "zyx", SPACING))
    with pytest.raises(OutputError, match="in the way"):
        interpolate_volume(tmp_path / "a.zarr", tmp_path / "b.tif")


def test_scores_of_slices_left_out(tmp_path):
    labels = Volume(made(), "zyx", SPACING)
    found = held_out_scores(labels, (0, 10, 20, 30, 42))
    summary = found.summary()
    assert {row["slices"] for row in summary.values()} == {3}
    for method in ("recursive", "distance"):
        assert summary[method]["mean_dice"] > 0.96 > 0.9 > summary["nearest"]["mean_dice"]
        assert summary[method]["shift_um"] < 0.5 < 1.5 < summary["nearest"]["shift_um"]
    # By hand: the copy of slice 0 held against slice 10, label 1.
    truth, guess = made()[10] == 1, made()[0] == 1
    (score,) = [s for s in found.scores if (s.slice, s.method, s.label) == (10, "nearest", 1)]
    assert score.dice == pytest.approx(2 * (truth & guess).sum() / (truth.sum() + guess.sum()))
    assert (score.truth_pixels, score.guess_pixels) == (truth.sum(), guess.sum())
    mean = found.means("nearest")[10]
    parts = [s for s in found.scores if (s.slice, s.method) == (10, "nearest") and s.label]
    assert mean.dice == pytest.approx(np.mean([s.dice for s in parts]))
    assert {s.label for s in parts} == {1, 500}
    rows = list(csv.DictReader(found.write_csv(tmp_path / "t.csv").open(encoding="utf-8")))
    assert len(rows) == len(found.scores) and sum(row["label"] == "mean" for row in rows) == 9
    with pytest.raises(DataError, match="three annotated"):
        held_out_scores(labels, (0, 10))
    with pytest.raises(DataError, match="hold no labels"):
        held_out_scores(Volume(np.zeros((5, 3, 3), np.uint8), "zyx", SPACING), (0, 2, 4))


def test_a_label_in_one_only_counts_zero_and_ignored_pixels_count_nothing():
    grid = np.zeros((3, 6, 8), np.uint8)
    grid[:, :, :4], grid[1, 0, 7], grid[1, 5, :4] = 1, 2, 9
    found = held_out_scores(Volume(grid, "zyx", (1, 1, 1)), (0, 1, 2), ignore=9)
    scores = {s.label: s for s in found.scores if s.method == "recursive"}
    assert scores[2].dice == 0 and scores[2].shift_um is None
    assert scores[1].dice == 1 and 9 not in scores
    assert scores[None].dice == 0.5


@pytest.mark.real
def test_regions_of_a_real_atlas(real_data):
    found = read_volume(
        real_data / "sections/brain_100um/labels.tif", axes="zyx", spacing=(100,) * 3
    )
    summary = held_out_scores(found, range(50, 60)).summary()
    assert summary["recursive"]["mean_dice"] > summary["nearest"]["mean_dice"]
    assert summary["distance"]["mean_dice"] > summary["nearest"]["mean_dice"]
