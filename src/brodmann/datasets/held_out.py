"""Which parts of a small set train and which test, as a recipe names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from brodmann.core import RecipeError

Part = TypeVar("Part", int, str)


def held_out(
    parts: Sequence[Part], test: Sequence[Part], train: Sequence[Part] | None = None
) -> dict[str, list[Part]]:
    """The parts to train on (all that do not test, by default) and to test on.

    Parameters
    ----------
    parts : sequence
        All there are: names or numbers.
    test, train : sequence
        Some of them, each at least one, none in both.

    Raises
    ------
    RecipeError
        If they are no list of known parts, or one stands on both sides.

    Example
    -------
    >>> held_out([0, 1, 2, 3], [3])
    {'train': [0, 1, 2], 'test': [3]}
    """
    sides = {"test": test} if train is None else {"train": train, "test": test}
    for side, members in sides.items():
        listed = isinstance(members, (list, tuple)) and len(members) > 0
        known = listed and all(
            m in parts and isinstance(m, type(parts[0])) and not isinstance(m, bool)
            for m in members
        )
        if not known or len(set(members)) != len(members):
            raise RecipeError(
                "a split is a list of different parts of the set",
                f"data.{side}",
                members,
                f"known: {', '.join(map(str, parts))}",
            )
    if train is None:
        train = [part for part in parts if part not in test]
    both = [part for part in train if part in test]
    if both or not train:
        raise RecipeError(
            "nothing may be trained on that is tested, and something must be",
            "data.train, data.test",
            both or "no part left to train on",
        )
    return {"train": list(train), "test": list(test)}
