"""The floor and the ceiling of every task: a constant, a random and an all-knowing answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from brodmann.core import DataError, Dataset, Sample, keyed_rng

Report = Callable[[str, int, int, str], None]
BASELINES = ("constant", "random", "oracle")


class Method(Protocol):
    """All that a method needs: to learn from samples, and to answer for one.

    `fit` may keep files in `folder`. `predict` is handed samples without name, truth or place,
    and answers with a category, a label array (ids on the image's grid) or {attribute: number}.
    A method whose `fit` has a parameter `encoder_data` is handed the training part of the task
    that the task names as `encoder` (None where it names none).
    """

    def fit(
        self,
        train: Dataset,
        validation: Dataset | None,
        *,
        seed: int,
        folder: Path,
        report: Report,
    ) -> None: ...

    def predict(self, sample: Sample) -> Any: ...


class Constant:
    """The same answer to everything.

    The category, or the class of a pixel, that is most frequent in training (the first of
    equals, in the order of their names or ids); the mean of each attribute.
    """

    def __init__(self) -> None:
        self.answer: Any = None

    def fit(
        self,
        train: Dataset,
        validation: Dataset | None,
        *,
        seed: int,
        folder: Path,
        report: Report,
    ) -> None:
        counts, rows = frequencies(train, report)
        if counts:
            self.answer = max(sorted(counts), key=counts.__getitem__)
        else:
            self.answer = {key: _mean([row[key] for row in rows]) for key in rows[0]}

    def predict(self, sample: Sample) -> Any:
        if isinstance(self.answer, int):
            return np.full(sample.image.spatial_shape, self.answer, _dtype([self.answer]))
        return self.answer


class Random:
    """Answers drawn as often as they occur in training; attributes are those of one sample.

    What is drawn depends on the seed and the sample's place in the test part alone.
    """

    def fit(
        self,
        train: Dataset,
        validation: Dataset | None,
        *,
        seed: int,
        folder: Path,
        report: Report,
    ) -> None:
        counts, self.rows = frequencies(train, report)
        self.seed, self.keys = seed, sorted(counts)
        total = sum(counts.values())
        self.shares = [counts[key] / total for key in self.keys]
        if self.rows:
            means = {key: _mean([row[key] for row in self.rows]) for key in self.rows[0]}
            self.rows = [
                {k: v if math.isfinite(v) else means[k] for k, v in row.items()}
                for row in self.rows
            ]

    def predict(self, sample: Sample) -> Any:
        rng = keyed_rng(self.seed, "random", sample.name)
        if not self.keys:
            return self.rows[int(rng.integers(len(self.rows)))]
        if isinstance(self.keys[0], int):
            ids = np.array(self.keys, _dtype(self.keys))
            draws = rng.choice(len(ids), sample.image.spatial_shape, p=self.shares)
            return ids[draws]
        return self.keys[int(rng.choice(len(self.keys), p=self.shares))]


class Oracle:
    """Answers with what is true by the data's own design; it alone is shown the truth.

    Below the maximum of a task it shows that the task is broken.
    """

    def __init__(self) -> None:
        self.truth: Dataset | None = None

    def see(self, truth: Dataset) -> None:
        """Be handed the test part as it truly is, in the order in which it will be asked for."""
        self.truth = truth

    def fit(
        self,
        train: Dataset,
        validation: Dataset | None,
        *,
        seed: int,
        folder: Path,
        report: Report,
    ) -> None:
        """Nothing to learn."""

    def predict(self, sample: Sample) -> Any:
        if self.truth is None:
            raise DataError("the oracle was not shown the truth", fix="call see() first")
        true = self.truth[int(sample.name)]
        if true.labels is not None:
            return true.labels.numpy()
        if true.attributes:
            return {k: v if math.isfinite(v) else 0.0 for k, v in true.attributes.items()}
        return true.category


def frequencies(train: Dataset, report: Report) -> tuple[Counter[Any], list[Mapping[str, float]]]:
    """How often every category, or every id of a pixel, occurs; or the attributes of samples.

    Pixels to ignore are not counted.
    """
    counts: Counter[Any] = Counter()
    rows: list[Mapping[str, float]] = []
    ignore = train.label_map.ignore if train.label_map is not None else None
    for done, sample in enumerate(train, start=1):
        if sample.labels is not None:
            ids, numbers = np.unique(sample.labels.numpy(), return_counts=True)
            counts.update({int(i): int(n) for i, n in zip(ids, numbers) if int(i) != ignore})
        elif sample.attributes:
            rows.append(sample.attributes)
        elif sample.category is not None:
            counts[sample.category] += 1
        report("baseline", done, len(train), "")
    if not counts and not rows:
        raise DataError("no truth to learn from", train.name)
    return counts, rows


def _mean(values: list[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else 0.0


def _dtype(ids: list[int]) -> type[np.unsignedinteger]:
    return np.uint8 if max(ids) < 256 else np.uint32
