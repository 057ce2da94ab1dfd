"""Splits by subject, so that no animal stands on both sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from brodmann.core import DataError, Dataset, RecipeError, keyed_rng

TEST_SHARE = 0.2
"""Share of the subjects held out of a dataset that names no splits."""


def with_split(dataset: Dataset, labelled: Collection[str], seed: int = 0) -> Dataset:
    """The dataset itself if it names splits, else with whole subjects held out for the test.

    Only samples in `labelled` are trained on and tested; the others become "unlabelled".

    Raises
    ------
    DataError
        If there are no splits and no second subject to test on.

    Example
    -------
    >>> from brodmann.core import Sample
    >>> pair = with_split(Dataset("d", ["a", "b", "c"], Sample, subjects={"a": "m1", "b": "m1"}), "abc")
    >>> len(pair.splits["train"]) + len(pair.splits["test"])
    3
    """
    if dataset.splits:
        return dataset
    subjects = sorted({dataset.subjects[name] for name in dataset.names if name in labelled})
    if len(subjects) < 2:
        raise DataError(
            "no splits, and labels of fewer than two subjects: nothing is left to test on",
            dataset.name,
            fix="label another animal, or name train and test samples under splits in dataset.yaml",
        )
    keyed_rng(seed, "test subjects").shuffle(subjects)
    held = set(subjects[: max(1, round(TEST_SHARE * len(subjects)))])
    sides: dict[str, list[str]] = {"train": [], "test": [], "unlabelled": []}
    for name in dataset.names:
        known = "test" if dataset.subjects[name] in held else "train"
        sides[known if name in labelled else "unlabelled"].append(name)
    return dataset.with_splits(sides)


def grouped_folds(dataset: Dataset, folds: int, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """Cross-validation in which all samples of a subject stay together.

    Parameters
    ----------
    dataset : Dataset
    folds : int
        At least 2, at most the number of subjects.
    seed : int

    Returns
    -------
    list of (train names, validation names)
        Validation parts are disjoint, cover everything, and differ in size as little as
        dealing out whole subjects (largest first, ties by a seeded shuffle) allows.

    Raises
    ------
    RecipeError
        If there are fewer subjects than folds.

    Example
    -------
    >>> from brodmann.core import Sample
    >>> three = Dataset("d", ["a", "b", "c"], Sample, subjects={"a": "m1", "b": "m1", "c": "m2"})
    >>> sorted(sorted(held) for _, held in grouped_folds(three, 2))
    [['a', 'b'], ['c']]
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in dataset.names:
        groups[dataset.subjects[name]].append(name)
    if not 2 <= folds <= len(groups):
        raise RecipeError(
            "cross-validation needs between 2 folds and one for each subject",
            "split.folds",
            f"{folds} folds, {len(groups)} subjects",
            "use split.folds=1 to train on everything",
        )
    subjects = sorted(groups)
    keyed_rng(seed, "folds").shuffle(subjects)
    subjects.sort(key=lambda subject: -len(groups[subject]))
    held: list[list[str]] = [[] for _ in range(folds)]
    for subject in subjects:
        min(held, key=len).extend(groups[subject])
    result = []
    for part in held:
        out = set(part)
        result.append(
            ([n for n in dataset.names if n not in out], [n for n in dataset.names if n in out])
        )
    return result
