"""The one-pass matrix against scikit-learn, in every form that pixels come in."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from brodmann.core import DataError, Label, LabelMap, Volume, keyed_rng
from brodmann.metrics import ClassTable, contingency
from brodmann.metrics import contingency as contingency_function

IDS = (7, 3, 200, 40_000, 614_454_277)
TREE = LabelMap([Label(id_, f"region {id_}", f"r{id_}") for id_ in IDS], ignore=255)


def blobs(shape, values, *key, block=5):
    """Random blocks, so that runs are of every length."""
    rng = keyed_rng(1, *key)
    coarse = rng.choice(values, [-(-size // block) for size in shape])
    for axis in range(len(shape)):
        coarse = coarse.repeat(block, axis)
    out = coarse[tuple(slice(0, size) for size in shape)].copy()
    some = rng.random(shape) < 0.1
    out[some] = rng.choice(values, int(some.sum()))
    return out


def reference(truth, prediction, ids, ignore=None, mask=None):
    keep = np.ones(truth.shape, bool) if mask is None else mask != 0
    if ignore is not None:
        keep &= truth != ignore
        prediction = np.where(prediction == ignore, 0, prediction)
    return confusion_matrix(
        truth[keep].astype(np.int64), prediction[keep].astype(np.int64), labels=[0, *ids]
    )


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10_000),
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64]),
    st.sampled_from([(1, 1), (1, 40), (33, 17), (4, 9, 11), (60,)]),
    st.booleans(),
)
def test_class_indices_match_sklearn(seed, dtype, shape, masked):
    truth = blobs(shape, np.arange(5), "t", seed).astype(dtype)
    prediction = blobs(shape, np.arange(5), "p", seed).astype(np.uint8)
    mask = blobs(shape, np.arange(2), "m", seed) if masked else None
    if masked and not mask.any():
        mask.flat[0] = 1
    found = contingency(truth, prediction, 5, mask=mask)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, reference(truth, prediction, range(1, 5), mask=mask))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kinds", [(np.int64, np.int64), (np.uint32, np.int64), (">u4", np.uint32)])
def test_label_ids_of_any_size_and_ignore(kinds, masked):
    values = np.array([0, 255, *IDS])
    truth = blobs((50, 70), values, "ids t").astype(kinds[0])
    prediction = blobs((50, 70), values, "ids p").astype(kinds[1])
    mask = blobs((50, 70), np.arange(2), "ids m").astype(np.float32) if masked else None
    found = contingency(truth, prediction, TREE, mask=mask)
    np.testing.assert_array_equal(found, reference(truth, prediction, IDS, 255, mask))


def test_small_ids_in_small_types():
    tree = LabelMap([Label(id_, str(id_), str(id_)) for id_ in (9, 4, 30_000)], ignore=65_535)
    values = np.array([0, 9, 4, 30_000, 65_535])
    truth = blobs((40, 41), values, "small t").astype(np.uint16)
    prediction = blobs((40, 41), values[:3], "small p").astype(np.uint8)
    found = contingency(truth, prediction, tree)
    np.testing.assert_array_equal(found, reference(truth, prediction, (9, 4, 30_000), 65_535))


@pytest.mark.parametrize("dtypes", [(np.uint16, np.uint16), (np.uint16, np.uint8)])
def test_long_runs_of_ids_that_differ_in_one_byte_only(dtypes):
    tree = LabelMap([Label(id_, str(id_), str(id_)) for id_ in (1, 257, 513)])
    truth = np.repeat([257, 1, 513, 257, 0], [100, 37, 16, 33, 15]).astype(dtypes[0])
    prediction = np.repeat([1, 0, 1], [120, 61, 20]).astype(dtypes[1])
    found = contingency(truth, prediction, tree)
    np.testing.assert_array_equal(found, reference(truth, prediction, (1, 257, 513)))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 20, 33])
def test_no_pixel_beyond_the_end_is_counted(size):
    larger = np.ones(64, np.uint8)
    assert contingency(larger[:size], larger[:size], 2).tolist() == [[0, 0], [0, size]]


def test_class_indices_with_ignore_and_the_label_map_agree():
    values = np.array([0, 255, *IDS])
    truth, prediction = (blobs((30, 30), values, side) for side in "tp")
    found = contingency(TREE.to_classes(truth), TREE.to_classes(prediction), TREE.num_classes)
    np.testing.assert_array_equal(found, contingency(truth, prediction, TREE))


def test_a_predicted_ignore_is_a_miss():
    truth = np.array([[1, 1, 1, 0]])
    found = contingency(truth, np.array([[1, -1, -1, -1]]), 2)
    assert found.tolist() == [[1, 0], [2, 1]]


def test_strips_of_a_file_give_the_same_as_the_whole(tmp_path, monkeypatch):
    import sys

    module = sys.modules[contingency_function.__module__]
    from brodmann.io import read_volume

    truth = blobs((300, 40), np.arange(4), "strip t").astype(np.uint8)
    prediction = blobs((300, 40), np.arange(4), "strip p").astype(np.uint8)
    whole = contingency(truth, prediction, 4)
    files = []
    for name, image in (("t", truth), ("p", prediction)):
        tifffile.imwrite(tmp_path / f"{name}.tif", image, tile=(64, 48), compression="zlib")
        files.append(read_volume(tmp_path / f"{name}.tif", spacing="unit"))
    monkeypatch.setattr(module, "STRIP_PIXELS", 64 * 40)
    monkeypatch.setattr(module, "ALIGN", 64)
    assert len(list(module._strips((300, 40)))) == 5
    np.testing.assert_array_equal(contingency(*files, 4), whole)
    depth = Volume(truth.reshape(30, 10, 40), "zyx", (1, 1, 1))
    np.testing.assert_array_equal(contingency(depth, prediction.reshape(30, 10, 40), 4), whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64])
def test_unknown_ids_are_named_with_side_and_image(dtype):
    tree = LabelMap([Label(1, "a", "a"), Label(2, "b", "b")])
    truth = np.array([[1, 2, 2], [2, 1, 0]], dtype)
    wrong = np.array([[1, 2, 77], [99, 1, 0]], dtype)
    with pytest.raises(DataError, match=r"slice 3: prediction.*77, 99.*labels.csv"):
        contingency(truth, wrong, tree, where="slice 3")
    with pytest.raises(DataError, match=r"slice 3: truth.*77, 99"):
        contingency(wrong, truth, tree, where="slice 3")
    mask = np.array([[1, 1, 0], [0, 1, 1]])
    assert contingency(truth, wrong, tree, mask=mask).sum() == 4
    with pytest.raises(DataError, match="77, 99"):
        ClassTable(tree).to_classes(wrong)


def test_a_negative_id_is_unknown_to_a_label_map():
    tree = LabelMap([Label(1, "a", "a")])
    for dtype in (np.int16, np.int32):
        with pytest.raises(DataError, match="-1"):
            contingency(np.array([[1, -1]], dtype), np.array([[1, 1]]), tree)


def test_bad_images_are_refused():
    with pytest.raises(DataError, match=r"differ in shape.*\(2, 3\).*\(3, 2\)"):
        contingency(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)
    with pytest.raises(DataError, match="whole numbers"):
        contingency(np.zeros((2, 3)), np.zeros((2, 3), int), 2)
    with pytest.raises(DataError, match="mask"):
        contingency(np.zeros((2, 3), int), np.zeros((2, 3), int), 2, mask=np.ones((3, 2)))
    rgb = Volume(np.zeros((3, 4, 4), np.uint8), "cyx", (1, 1))
    with pytest.raises(DataError, match="one channel"):
        contingency(np.zeros((4, 4), int), rgb, 2)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_counts_do_not_depend_on_the_order_of_pixels_or_memory(seed):
    truth = blobs((21, 13), np.arange(-1, 4), "t", seed).astype(np.int16)
    prediction = blobs((21, 13), np.arange(4), "p", seed)
    found = contingency(truth, prediction, 4)
    shuffled = keyed_rng(seed).permutation(truth.size)
    mixed = contingency(truth.ravel()[shuffled], prediction.ravel()[shuffled], 4)
    np.testing.assert_array_equal(mixed, found)
    np.testing.assert_array_equal(contingency(truth.T, prediction.T, 4), found)
    np.testing.assert_array_equal(contingency(truth[::-1], prediction[::-1], 4), found)
    assert found.sum() == (truth >= 0).sum()


def test_class_table_agrees_with_the_label_map():
    values = np.array([0, 255, *IDS])
    ids = blobs((20, 30), values, "table")
    classes = ClassTable(TREE).to_classes(ids)
    assert classes.dtype == np.int16
    np.testing.assert_array_equal(classes, TREE.to_classes(ids))
