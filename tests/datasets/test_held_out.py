import pytest

from brodmann.core import RecipeError
from brodmann.datasets.held_out import held_out


def test_the_rest_trains():
    assert held_out(range(4), [2]) == {"train": [0, 1, 3], "test": [2]}
    assert held_out("abc", ["c"], ["a"]) == {"train": ["a"], "test": ["c"]}


@pytest.mark.parametrize(
    ("test", "train"),
    [
        ([4], None),
        ([], None),
        ([0, 0], None),
        ([0, 1, 2, 3], None),
        ([0], [0, 1]),
        ([0], []),
        (0, None),
        ([True], None),
        ("0", None),
        ([0], ["1"]),
    ],
)
def test_what_is_no_split_is_refused(test, train):
    with pytest.raises(RecipeError):
        held_out(range(4), test, train)
