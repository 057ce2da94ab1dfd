"""MixUp: two sections at once, with both label maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from brodmann.augment.base import Params
from brodmann.augment.mixing import (
    Canvas,
    Mixing,
    OnGrid,
    check_shape,
    is_number,
    labelled,
    rounded,
)
from brodmann.core import Dataset, RecipeError, Sample


@dataclass(frozen=True)
class MixUp(Mixing):
    """A weighted mean of two images; the labels of both, with their weight.

    The share of the source is drawn from Beta(alpha, alpha). Nothing is interpolated in the
    labels: the sample keeps the target's as `labels`, the source's as `labels2` and the
    target's share as `weight`, and the loss is the weighted mean of both. Where the source's
    frame does not reach, the target stays alone in image and labels.

    Parameters
    ----------
    alpha : float
        1 draws the share uniformly from 0..1, as the PRMix paper does.

    Source: Zhang et al. 2018, "mixup: Beyond empirical risk minimization"; seeds/prmix.txt,
    eq. 1.

    Example
    -------
    >>> from brodmann.core import keyed_rng
    >>> from brodmann.datasets.phantoms.sections import phantom_sections
    >>> pool = phantom_sections(2, 1, (32, 64), subregions=4, primary=2)
    >>> method = MixUp()
    >>> params = method.draw(keyed_rng(0, "doc"), pool[0], pool)
    >>> mixed = method.apply(params, pool[0], pool)
    >>> mixed.weight == params["weight"], mixed.labels2 is not None
    (True, True)
    """

    name: ClassVar[str] = "mixup"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha, self.name)

    def draw(self, rng: np.random.Generator, target: Sample, pool: Dataset | None = None) -> Params:
        """A partner, the share, and the partner's stain."""
        labelled(target)
        partner = self.partners(rng, target, pool)[0]
        source = OnGrid(labelled(pool[partner]), target)
        return {
            "shape": list(target.image.spatial_shape),
            "sources": [partner],
            "weight": round(1.0 - float(rng.beta(self.alpha, self.alpha)), 6),
            "stain": [self.stain(source.source, target)],
        }

    def apply(self, params: Params, target: Sample, pool: Dataset | None = None) -> Sample:
        """The mean of target and source, with both label maps and the weight."""
        check_shape(params, target)
        source = OnGrid(pool[params["sources"][0]], target)
        canvas, weight = Canvas(target), params["weight"]
        second = canvas.labels.copy()
        own = source.own(source.box)
        values = source.read(own, params["stain"][0])
        for channel, other in zip(canvas.image, values):
            mixed = np.float32(weight) * channel[source.box] + np.float32(1 - weight) * other
            channel[source.box] = rounded(mixed, canvas.image.dtype)
        labels2 = source.labels[own]
        canvas.hold(int(labels2.max(initial=0)))
        second = second.astype(canvas.labels.dtype)
        second[source.box] = labels2
        # No tissue was exchanged and no edge made: there is nothing to open.
        return self.finished(target, canvas, labels2=target.labels.like(second), weight=weight)


def check_alpha(alpha: object, method: str) -> None:
    """The parameter of a symmetric Beta distribution."""
    if not (is_number(alpha) and 0 < alpha <= 100):
        raise RecipeError("alpha lies in 0..100, above 0", f"{method}.alpha", alpha)
