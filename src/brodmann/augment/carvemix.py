"""CarveMix: a region carved out of one section, its rim drawn by distance, into another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import ndimage

from brodmann.augment.base import CannotDraw, Params
from brodmann.augment.mixing import (
    Canvas,
    Mixing,
    OnGrid,
    as_box,
    as_lists,
    check_shape,
    grown,
    labelled,
)
from brodmann.augment.regions import Box, Regions, boxes
from brodmann.core import Dataset, Sample


@dataclass(frozen=True)
class CarveMix(Mixing):
    """One primary region of a source, with a rim or without its own, pasted where it lies.

    Let D be the signed distance to the region's border in micrometres, negative inside, and m
    its depth, the largest distance inside. What is carved is D <= level, where level is
    uniform in (-m/2, 0) or, as often, in (0, m). Image and labels of the source replace the
    target's there, whatever they are: the region's surroundings too, where level is positive.

    Source: Zhang et al. 2023, "CarveMix: a simple data augmentation method for brain lesion
    segmentation", made for one lesion; its region of interest is here a primary region drawn
    from those that both sections hold (Yuan et al. 2026, section 5.1, skip the others).

    Example
    -------
    >>> from brodmann.core import keyed_rng
    >>> from brodmann.datasets.phantoms.sections import phantom_sections
    >>> pool = phantom_sections(2, 1, (32, 64), subregions=4, primary=2)
    >>> params = CarveMix().draw(keyed_rng(0, "doc"), pool[0], pool)
    >>> sorted(params), CarveMix().apply(params, pool[0], pool).image.shape
    (['box', 'level_um', 'region', 'shape', 'sources', 'stain'], (2, 32, 64))
    """

    name: ClassVar[str] = "carvemix"

    def draw(self, rng: np.random.Generator, target: Sample, pool: Dataset | None = None) -> Params:
        """A partner, one of the regions that both hold, and how deep or wide it is carved."""
        regions = Regions.of_pool(pool)
        mine = boxes(regions.of(labelled(target).labels.numpy()))
        for partner in self.partners(rng, target, pool, len(pool)):
            source = OnGrid(labelled(pool[partner]), target)
            numbers = regions.of(source.labels)
            theirs = boxes(numbers)
            shared = [number for number in theirs if number in mine]
            if shared:
                break
        else:
            raise CannotDraw("shares no primary region with any other sample", target.name)
        number = shared[rng.integers(len(shared))]
        box = theirs[number]
        depth = float(inside_um(numbers[box] == number, target.image.spacing).max())
        inward = rng.random() < 0.5
        level = rng.uniform(-depth / 2, 0.0) if inward else rng.uniform(0.0, depth)
        return {
            "shape": list(target.image.spatial_shape),
            "sources": [partner],
            "region": regions.ids[number - 1],
            "box": as_lists(box),
            "level_um": round(float(level), 4),
            "stain": [self.stain(source.source, target)],
        }

    def apply(self, params: Params, target: Sample, pool: Dataset | None = None) -> Sample:
        """The target with the carved part of the source in it."""
        check_shape(params, target)
        regions = Regions.of_pool(pool)
        source = OnGrid(pool[params["sources"][0]], target)
        box, mask = carved(
            regions.of(source.labels),
            regions.number(params["region"]),
            as_box(params["box"]),
            params["level_um"],
            target.image.spacing,
        )
        # To the target's frame, where the source may hang over the edge.
        where = [
            slice(max(b.start + o, 0), min(b.stop + o, n))
            for b, o, n in zip(box, source.offset, target.image.spatial_shape)
        ]
        if any(side.start >= side.stop for side in where):
            return target
        own = source.own(tuple(where))
        inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(own, box))
        canvas = Canvas(target)
        canvas.paste(
            tuple(where), mask[inner], source.read(own, params["stain"][0]), source.labels[own]
        )
        return self.finished(target, canvas)


def carved(
    numbers: np.ndarray, number: int, box: Box, level_um: float, spacing: tuple[float, ...]
) -> tuple[Box, np.ndarray]:
    """Where the signed distance to a region is at most `level_um`: a box, and a mask in it.

    Only the region's box and a margin of the level are looked at, since all that lies within
    the level lies there.
    """
    margin = np.ceil(max(level_um, 0.0) / np.asarray(spacing)).astype(int) + 1
    box = grown(box, margin, numbers.shape)
    region = numbers[box] == number
    if level_um <= 0:
        return box, region & (inside_um(region, spacing) >= -level_um)
    return box, ndimage.distance_transform_edt(~region, sampling=spacing) <= level_um


def inside_um(region: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Distance of every pixel of a region to the nearest pixel that is none, in micrometres.

    Beyond the array counts as outside.
    """
    wide = ndimage.distance_transform_edt(np.pad(region, 1), sampling=spacing)
    return wide[(slice(1, -1),) * region.ndim]
