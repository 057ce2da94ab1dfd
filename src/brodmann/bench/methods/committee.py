"""Several methods that answer together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.bench.methods.images import ImageMethod
from brodmann.core import Dataset, RecipeError, Sample, key_seed
from brodmann.problems.patches.images import channels_first

PAIR = ({"method": "supervised"}, {"method": "texture"})
FLOOR = 1e-6
"""No member can rule a category out."""


@dataclass
class Committee:
    """Methods whose log probabilities of a category are averaged, kind by kind.

    Attributes
    ----------
    kinds : sequence of sequences of ImageMethod
        Each method trains by itself, with a seed of its own.
    weights : sequence of float
        What each kind counts, however many methods are of it.
    """

    kinds: Sequence[Sequence[ImageMethod]]
    weights: Sequence[float]

    @property
    def members(self) -> list[ImageMethod]:
        """The methods of all kinds."""
        return [one for kind in self.kinds for one in kind]

    def fit(
        self,
        train: Dataset,
        validation: Dataset | None = None,
        *,
        folder: Path,
        seed: int = 0,
        encoder_data: Dataset | None = None,
        **more: Any,
    ) -> None:
        """Fit all members, one after the other; `more` is handed to each."""
        if len(train) and train[0].attributes:
            raise RecipeError("a committee answers categories only", "members", train.name)
        for number, member in enumerate(self.members):
            own = {"folder": Path(folder) / f"m{number}", "seed": key_seed(seed, "member", number)}
            member.fit(train, encoder_data=encoder_data, **own, **more)
        self.names = self.members[0].names

    def predict(self, sample: Sample) -> str:
        """The category with the highest mean log probability."""
        images = channels_first(sample.image, sample.name)[None]
        total = sum(
            weight * np.mean([np.log(one.probabilities(images)[0] + FLOOR) for one in kind], axis=0)
            for kind, weight in zip(self.kinds, self.weights)
        )
        return self.names[int(np.argmax(total))]


def committee(members: Sequence[Mapping[str, Any]] = PAIR) -> Committee:
    """Methods on images, each `{method, options, times, weight}`, that answer by mean log probability.

    `times` (1) is how many of a kind there are, each from another seed; `weight` (1) is what the
    kind as a whole counts.
    """
    from brodmann.bench.run import make_method

    kinds: list[list[ImageMethod]] = []
    weights: list[float] = []
    for number, member in enumerate(members):
        where = f"members[{number}]"
        unknown = sorted(set(member) - {"method", "options", "times", "weight"})
        if unknown or "method" not in member:
            raise RecipeError(
                "a member has the keys method, options, times and weight",
                where,
                unknown or dict(member),
            )
        times = member.get("times", 1)
        if not isinstance(times, int) or times < 1:
            raise RecipeError("a whole number from 1 is needed", f"{where}.times", times)
        weight = member.get("weight", 1)
        if not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
            raise RecipeError("a number above 0 is needed", f"{where}.weight", weight)
        weights.append(float(weight))
        kinds.append([])
        for _ in range(times):
            one = make_method(member["method"], member.get("options"))
            if not isinstance(one, ImageMethod):
                raise RecipeError("this method gives no probabilities", where, member["method"])
            kinds[-1].append(one)
    made = Committee(kinds, weights)
    if len(made.members) < 2:
        raise RecipeError("a committee has two members or more", "members", len(made.members))
    return made
