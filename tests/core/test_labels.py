import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.core import DataError, Label, LabelMap
from brodmann.core.labels import unique_inverse

TREE = [
    Label(10, "Thalamus", "TH", None, "FF7080"),
    Label(11, "Ventral posterior", "VP", 10, "FF8090"),
    Label(12, "Lateral geniculate", "LG", 10, "FF90A0"),
    Label(20, "Hindbrain", "HB", None, "FFC0FF"),
]


def test_leaves_are_the_classes_and_ignore_is_none():
    tree = LabelMap(TREE, ignore=255)
    assert tree.classes == (11, 12, 20)
    assert tree.num_classes == 4
    assert tree.class_names == ["background", "VP", "LG", "HB"]
    ids = np.array([[0, 11, 255], [20, 12, 0]], np.uint8)
    assert tree.to_classes(ids).tolist() == [[0, 1, -1], [3, 2, 0]]
    assert (tree.to_ids(tree.to_classes(ids)) == ids).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
def test_every_integer_type_is_taken(dtype):
    ids = np.array([0, 11, 20], dtype)
    assert LabelMap(TREE).to_classes(ids).tolist() == [0, 1, 3]


@given(st.lists(st.integers(-5, 2**33), min_size=1, max_size=60))
@settings(deadline=None, max_examples=60)
def test_unique_inverse_agrees_with_numpy(values):
    ids = np.array(values, np.int64)
    present, inverse = unique_inverse(ids)
    expected, positions = np.unique(ids, return_inverse=True)
    assert (present == expected).all() and (inverse == positions).all()


def test_unknown_ids_are_all_named():
    with pytest.raises(DataError, match="3, 77"):
        LabelMap(TREE).to_classes(np.array([3, 0, 77, 11]), "a.tif")


def test_float_labels_are_refused():
    with pytest.raises(DataError, match="whole numbers"):
        LabelMap(TREE).to_classes(np.array([11.0]))


@pytest.mark.parametrize(
    ("labels", "ignore", "word"),
    [
        ([Label(0, "a", "a")], None, "start at 1"),
        ([Label(1, "a", "a"), Label(1, "b", "b")], None, "twice"),
        ([Label(1, "a", "a", 9)], None, "unknown parent"),
        ([Label(1, "a", "a", 2), Label(2, "b", "b", 1)], None, "cycle"),
        ([Label(7, "a", "a")], 7, "ignore id is also"),
    ],
)
def test_broken_trees_are_refused(labels, ignore, word):
    with pytest.raises(DataError, match=word):
        LabelMap(labels, ignore=ignore)


def test_primary_regions_with_one_root_and_with_many():
    assert LabelMap(TREE).primary(11) == 10
    assert LabelMap(TREE).primary(20) == 20
    rooted = [
        Label(1, "root", "root"),
        *(Label(t.id, t.name, t.acronym, t.parent or 1) for t in TREE),
    ]
    assert LabelMap(rooted).primary(12) == 10


def test_roll_up_keeps_what_lies_below():
    coarse, table = LabelMap(TREE).roll_up([10])
    assert coarse.classes == (10,)
    assert table == {10: 10, 11: 10, 12: 10}


def test_csv_round_trip_keeps_tree_classes_and_ignore(tmp_path):
    tree = LabelMap(TREE, classes=(20, 10, 12), ignore=99)
    tree.to_csv(tmp_path / "labels.csv")
    again = LabelMap.from_csv(tmp_path / "labels.csv")
    assert again == tree
    assert again.classes == (20, 10, 12)


def test_a_csv_made_by_hand_is_enough(tmp_path):
    (tmp_path / "labels.csv").write_text("id,name\n0,background\n3,Cortex\n255,ignore\n", "utf-8")
    tree = LabelMap.from_csv(tmp_path / "labels.csv")
    assert tree.classes == (3,) and tree.ignore == 255 and tree[3].acronym == "Cortex"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name\nCortex\n", "columns"),
        ("id,name\nx,Cortex\n", "line 2"),
        ("id,name,color\n1,Cortex,red\n", "hexadecimal"),
    ],
)
def test_a_bad_csv_names_the_line(tmp_path, text, word):
    (tmp_path / "labels.csv").write_text(text, "utf-8")
    with pytest.raises(DataError, match=word):
        LabelMap.from_csv(tmp_path / "labels.csv")
