"""Likeness against plain loops, and made-up brains whose halves are mirror images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import block_reduce

from brodmann.core import Dataset, Sample, Volume
from brodmann.datasets.leaks import (
    image_correlation,
    image_thumbnail,
    label_agreement,
    label_thumbnail,
    leaks,
    shared_subjects,
    twins,
)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 70))
def test_likeness_against_a_loop(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 3, (n, 12)), rng.integers(0, 3, (m, 12))
    agreement, correlation = label_agreement(a, b), image_correlation(a, b)
    for i in range(0, n, 7):
        for j in range(0, m, 5):
            either = (a[i] > 0) | (b[j] > 0)
            expected = (a[i] == b[j])[either].mean() if either.any() else 0
            assert agreement[i, j] == pytest.approx(expected)
            if a[i].std() and b[j].std():
                assert correlation[i, j] == pytest.approx(np.corrcoef(a[i], b[j])[0, 1])


def test_thumbnails():
    values = np.random.default_rng(0).integers(0, 999, (2, 256, 128)).astype(np.uint16)
    small = image_thumbnail(Volume(values, "cyx", (1, 1)))
    assert np.allclose(small, block_reduce(values.mean(axis=0), (4, 2), np.mean), rtol=1e-5)
    ids = np.arange(64 * 64).reshape(64, 64).repeat(3, 0).repeat(5, 1)
    assert np.array_equal(
        label_thumbnail(Volume(ids, "yx", (1, 1))), np.arange(4096).reshape(64, 64)
    )
    deep = np.arange(24**3).reshape(24, 24, 24).repeat(2, 0)
    assert np.array_equal(label_thumbnail(Volume(deep, "zyx", (1, 1, 1))), deep[::2])
    assert image_thumbnail(Volume(np.ones((1, 5, 7)), "zyx", (1, 1, 1))).shape == (24, 24, 24)


def mirrored_brain(count=20):
    """Sections of a brain whose label k is label count-1-k with a few pixels moved."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:48, 0:80]
    samples = {}
    for k in range(count):
        side = min(k, count - 1 - k)
        ids = 1 + ((x / (6 + side) + np.sin(y / (3 + side / 2))) % 4).astype(int)
        ids[(y - 24) ** 2 / 24**2 + (x - 40) ** 2 / (10 + 3 * side) ** 2 > 1] = 0
        noisy = np.where(
            (rng.random(ids.shape) < 0.01) & (ids > 0), rng.integers(0, 5, ids.shape), ids
        )
        image = ids * 10 + rng.normal(0, 20, ids.shape)
        samples[f"s{k:02d}"] = Sample(
            f"s{k:02d}", Volume(image, "yx", (1, 1)), Volume(noisy, "yx", (1, 1))
        )
    return samples


def test_a_mirror_symmetric_brain_leaks_by_its_other_half():
    samples = mirrored_brain()
    names = list(samples)
    left, right = names[:10], names[10:]
    data = Dataset("b", names, samples.__getitem__, splits={"train": left, "test": right})
    found = [f for f in leaks(data) if "labels" in f.file]
    assert len(found) == 10
    for finding in found:
        k = int(finding.file[-2:])
        assert f"as s{19 - k:02d}" in finding.what
    # Every third section for the test, and its twin with it: the rest is no twin of it.
    test = [n for k, n in enumerate(names) if min(k, 19 - k) in (2, 6)]
    rest = [n for n in names if n not in test]
    clean = Dataset("b", names, samples.__getitem__, splits={"train": rest, "test": test})
    assert [f for f in leaks(clean) if "labels" in f.file] == []


@pytest.mark.parametrize("flip", [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_every_mirror_of_a_volume_is_found(flip):
    a = np.random.default_rng(0).integers(0, 3, (24, 24, 24))
    others = {f"n{i}": np.random.default_rng(i).integers(0, 3, (24, 24, 24)) for i in range(1, 4)}
    thumbnails = {"a": a, "b": np.flip(a, flip), **others}
    found = twins(thumbnails, {"train": ["b", *others], "test": ["a"]}, "labels")
    assert [(t.a, t.b, t.agreement) for t in found] == [("a", "b", 1.0)]
    assert found[0].flip == "".join("zyx"[axis] for axis in flip)


def test_subjects_on_both_sides():
    data = Dataset(
        "d", ["a", "b", "c"], None, subjects={"a": "m", "c": "m"},
        splits={"train": ["a", "b"], "test": ["c"]},
    )  # fmt: skip
    assert [f.found for f in shared_subjects(data)] == ["1: m"]
    assert shared_subjects(Dataset("d", ["a", "b"], None, splits={"x": ["a"], "y": ["b"]})) == []
