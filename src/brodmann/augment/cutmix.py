"""CutMix: a rectangle of one section in the place of another's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from brodmann.augment.base import CannotDraw, Params
from brodmann.augment.mixing import (
    Canvas,
    Mixing,
    OnGrid,
    as_box,
    as_lists,
    check_shape,
    labelled,
)
from brodmann.augment.mixup import check_alpha
from brodmann.core import Dataset, Sample


@dataclass(frozen=True)
class CutMix(Mixing):
    """A box of a source, image and labels, pasted at the same place of the target.

    The box takes a share of the frame drawn from Beta(alpha, alpha), has the frame's
    proportions, and its centre is uniform over the frame; what hangs over the edge is cut.

    Parameters
    ----------
    alpha : float
        1 draws the share uniformly from 0..1.

    Source: Yun et al. 2019, "CutMix: Regularization strategy to train strong classifiers with
    localizable features"; Yuan et al. 2026 (PRMix), eq. 2. In 3D the box has three sides.

    Example
    -------
    >>> from brodmann.core import keyed_rng
    >>> from brodmann.datasets.phantoms.sections import phantom_sections
    >>> pool = phantom_sections(2, 1, (32, 64), subregions=4, primary=2)
    >>> params = CutMix().draw(keyed_rng(0, "doc"), pool[0], pool)
    >>> sorted(params), CutMix().apply(params, pool[0], pool).image.shape
    (['box', 'shape', 'sources', 'stain'], (2, 32, 64))
    """

    name: ClassVar[str] = "cutmix"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha, self.name)

    def draw(self, rng: np.random.Generator, target: Sample, pool: Dataset | None = None) -> Params:
        """A partner and a box that holds at least one pixel of both frames."""
        labelled(target)
        partner = self.partners(rng, target, pool)[0]
        source = OnGrid(labelled(pool[partner]), target)
        frame = target.image.spatial_shape
        for _ in range(100):
            share = float(rng.beta(self.alpha, self.alpha))
            side = np.maximum(1, np.rint(np.array(frame) * share ** (1 / len(frame)))).astype(int)
            start = rng.integers(0, frame) - side // 2
            low = [max(int(a), cover.start) for a, cover in zip(start, source.box)]
            high = [min(int(a + n), c.stop) for a, n, c in zip(start, side, source.box)]
            if all(a < b for a, b in zip(low, high)):
                break
        else:
            raise CannotDraw("no box lies in both frames", target.name, partner)
        return {
            "shape": list(frame),
            "sources": [partner],
            "box": as_lists(tuple(map(slice, low, high))),
            "stain": [self.stain(source.source, target)],
        }

    def apply(self, params: Params, target: Sample, pool: Dataset | None = None) -> Sample:
        """The target with the source's box in it."""
        check_shape(params, target)
        source = OnGrid(pool[params["sources"][0]], target)
        canvas, box = Canvas(target), as_box(params["box"])
        own = source.own(box)
        whole = np.ones([side.stop - side.start for side in box], bool)
        canvas.paste(box, whole, source.read(own, params["stain"][0]), source.labels[own])
        return self.finished(target, canvas)
