"""PRMix itself: which regions, from whom, and where they go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np

from brodmann.augment.base import CannotDraw, Params, Progress
from brodmann.augment.mixing import (
    Canvas,
    Mixing,
    OnGrid,
    as_box,
    as_lists,
    check_shape,
    grown,
    is_number,
    labelled,
    others_of,
)
from brodmann.augment.prmix.mining import draw_partners, pair_scores
from brodmann.augment.prmix.placement import Forbidden, Placement, place
from brodmann.augment.prmix.transform import Aim, Piece, Range, with_rim
from brodmann.augment.regions import BARE, Box, Regions, boxes, outline
from brodmann.augment.warp import warp
from brodmann.augment.whole import rim_medians
from brodmann.core import BACKGROUND, DataError, Dataset, LabelMap, RecipeError, Sample

Bare = Literal["ignore", "keep", "background"]
Avoid = Literal["neighbours", "complement"]


@dataclass(frozen=True)
class PRMix(Mixing):
    """Primary regions of other sections in the place of the target's own.

    A few primary regions are drawn. Of each the target's is cut out and a source's, turned,
    scaled and moved a little, is pasted where it covers least of what it must not: image and
    labels by one transform, all channels together, the image linearly, the labels by the
    nearest pixel. Regions that the target or every source lacks are never drawn. Sources
    whose frames differ are laid with the images' centres together.

    Parameters
    ----------
    sources : int
        Images in one result, the target among them: 2 to 4.
    regions : (int, int)
        Fewest and most primary regions drawn; fewer where fewer are shared.
    hard_fraction : float or None
        Probability that a source is taken from the four fifths of the pool that are least like
        the target, by `mining.pair_scores`, and not from the fifth most like it. 0 takes
        alike ones only ("HSM off"), None draws from the pool uniformly.
    oaa : bool
        Look for the place of least overlap; False pastes where the drawn transform leads.
    fit : bool
        Before the drawn transform, scale the source's region to the area of the target's
        (between a half and twice its length) and lay it on the target's centroid, for pools
        whose sections differ in plane or size. False leaves it where it lies in its own frame.
    avoid : "neighbours" or "complement"
        What a pasted region must not cover: other primary regions and what lies outside the
        brain's outline, or (the paper's) everything but the target's own region.
    tau : float
        Overlap that is tolerated, as a share of the region's area.
    candidates : int
        Rotations and scales that are tried for each region, sharing the target's transform.
    search : float
        Largest shift looked at, as a share of the section's longest side; at least 2 voxels.
    rotation_deg : float
        Largest angle; in 3D about every axis.
    scale : (float, float)
    translation : float
        Largest drawn displacement, as a share of the section's longest side.
    bare : "ignore", "keep" or "background"
        What becomes of pixels that were cut out and not covered: nobody's (skipped by loss
        and metrics), what they were, or bare slide.

    Source: Yuan et al. 2026 (PRMix), sections 4.2 to 4.5. Ranges, the score of mining and
    tau are not given there: ours.

    Example
    -------
    >>> from brodmann.core import keyed_rng
    >>> from brodmann.datasets.phantoms.sections import phantom_sections
    >>> pool = phantom_sections(3, 1, (64, 128), subregions=8, primary=4)
    >>> method = PRMix(regions=(2, 3))
    >>> params = method.draw(keyed_rng(0, "doc"), pool[0], pool)
    >>> mixed = method.apply(params, pool[0], pool)
    >>> mixed.image.shape, 2 <= len(params["regions"]) <= 3
    ((2, 64, 128), True)
    """

    name: ClassVar[str] = "prmix"

    sources: int = 3
    regions: tuple[int, int] = (3, 9)
    hard_fraction: float | None = 0.8
    oaa: bool = True
    fit: bool = False
    avoid: Avoid = "neighbours"
    tau: float = 0.01
    candidates: int = 3
    search: float = 0.02
    rotation_deg: float = 10.0
    scale: Range = (0.9, 1.1)
    translation: float = 0.02
    bare: Bare = "ignore"
    _scores: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()

        def need(good: bool, key: str, words: str) -> None:
            if not good:
                raise RecipeError(words, f"prmix.{key}", repr(getattr(self, key)))

        def whole(value: object) -> bool:
            return isinstance(value, int) and not isinstance(value, bool)

        def share(value: object, most: float = 1.0) -> bool:
            return is_number(value) and 0 <= value <= most

        few = self.regions
        need(whole(self.sources) and 2 <= self.sources <= 4, "sources", "sources are 2, 3 or 4")
        need(
            isinstance(few, tuple)
            and len(few) == 2
            and all(map(whole, few))
            and 1 <= few[0] <= few[1],
            "regions",
            "regions are [fewest, most], from 1",
        )
        need(
            self.hard_fraction is None or share(self.hard_fraction),
            "hard_fraction",
            "a fraction lies in 0..1, or is null for any source",
        )
        need(isinstance(self.oaa, bool), "oaa", "true or false")
        need(isinstance(self.fit, bool), "fit", "true or false")
        need(self.avoid in get_args(Avoid), "avoid", f"one of {get_args(Avoid)}")
        need(self.bare in get_args(Bare), "bare", f"one of {get_args(Bare)}")
        need(share(self.tau), "tau", "a share lies in 0..1")
        need(whole(self.candidates) and 1 <= self.candidates <= 32, "candidates", "1 to 32")
        need(share(self.search, 0.25), "search", "a share lies in 0..0.25")
        need(share(self.translation, 0.5), "translation", "a share lies in 0..0.5")
        need(share(self.rotation_deg, 180), "rotation_deg", "an angle lies in 0..180 degrees")
        need(
            isinstance(self.scale, tuple)
            and len(self.scale) == 2
            and all(map(is_number, self.scale))
            and 0.2 <= self.scale[0] <= self.scale[1] <= 5,
            "scale",
            "a scale is [smallest, largest] within 0.2..5",
        )

    def fitted(
        self, pool: Dataset, folder: Path, *, seed: int = 0, progress: Progress | None = None
    ) -> Self:
        """Rank all pairs of the pool once; kept in `folder`."""
        if self.hard_fraction is None or len(pool) < 2:
            return self
        scores = pair_scores(pool, folder, progress)
        return replace(self, _scores={"names": tuple(pool.names), "table": scores})

    def tree(self, label_map: LabelMap | None) -> LabelMap | None:
        """The pool's label map, with an ignore id where bare pixels need one."""
        if label_map is None or label_map.ignore is not None or self.bare != "ignore":
            return label_map
        top = max(label.id for label in label_map)
        return LabelMap(list(label_map), label_map.classes, ignore=top + 1)

    def draw(self, rng: np.random.Generator, target: Sample, pool: Dataset | None = None) -> Params:
        """Sources, regions and the place of each; see the class.

        Without `fitted` the pool is ranked at every draw.
        """
        regions = Regions.of_pool(pool)
        numbers = regions.of(labelled(target).labels.numpy())
        mine = boxes(numbers)
        if not mine:
            raise CannotDraw("no labelled tissue to exchange", target.name, "only background")
        names = self._sources(rng, target, pool)
        views = {name: OnGrid(labelled(pool[name]), target) for name in names}
        maps = {name: regions.of(view.labels) for name, view in views.items()}
        theirs = {name: boxes(map_) for name, map_ in maps.items()}
        shared = [n for n in mine if any(n in found for found in theirs.values())]
        if not shared:
            raise CannotDraw(
                "no primary region of it is in its sources", target.name, ", ".join(names)
            )
        count = min(int(rng.integers(self.regions[0], self.regions[1] + 1)), len(shared))
        chosen = [shared[i] for i in rng.permutation(len(shared))[:count]]
        brain = outline(numbers) if self.oaa and self.avoid == "neighbours" else None
        exchanged = []
        for number in chosen:
            holders = [name for name in names if number in theirs[name]]
            name = holders[int(rng.integers(len(holders)))]
            found = self._placed(
                rng, numbers, number, mine[number], maps[name], theirs[name][number],
                views[name].offset, brain, target.image.spacing,
            )  # fmt: skip
            if found is not None:
                exchanged.append({"id": regions.ids[number - 1], "source": name, **found})
        if not exchanged:
            raise CannotDraw("no region of its sources could be placed", target.name)
        used = [name for name in names if any(r["source"] == name for r in exchanged)]
        return {
            "shape": list(target.image.spatial_shape),
            "sources": used,
            "stain": [self.stain(views[name].source, target) for name in used],
            "regions": exchanged,
        }

    def _sources(self, rng: np.random.Generator, target: Sample, pool: Dataset | None) -> list[str]:
        others_of(target, pool)
        if self.hard_fraction is None or target.name not in pool.names:
            return self.partners(rng, target, pool, self.sources - 1)
        kept = self._scores
        if kept is None or kept["names"] != tuple(pool.names):
            kept = {"names": tuple(pool.names), "table": pair_scores(pool)}
        index = pool.names.index(target.name)
        picks = draw_partners(rng, kept["table"], index, self.sources - 1, self.hard_fraction)
        return [pool.names[i] for i in picks]

    def _placed(
        self,
        rng: np.random.Generator,
        numbers: np.ndarray,
        number: int,
        own_box: Box,
        source: np.ndarray,
        source_box: Box,
        offset: tuple[int, ...],
        brain: np.ndarray | None,
        spacing: tuple[float, ...],
    ) -> dict[str, Any] | None:
        """Where one region goes; `numbers`, the target's map, is changed as it will be.

        None where nothing of it would lie in the frame.
        """
        frame = numbers.shape
        region = (source[source_box] == number).astype(np.uint8)
        cut = tuple(own_box)
        own = numbers[cut] == number
        if not own.any():
            return None  # Wholly covered by what was pasted before.
        piece = Piece(region, source_box, offset, frame, spacing)
        aim = Aim.at(own, cut, region) if self.fit else None
        drawn, candidates = [], []
        for _ in range(self.candidates if self.oaa else 1):
            turn, candidate = piece.drawn(rng, self.rotation_deg, self.scale, self.translation, aim)
            if candidate.area:
                drawn.append(turn)
                candidates.append(candidate)
        if not candidates:
            return None
        forbidden = Forbidden(self._forbidden(numbers, number, brain))
        if self.oaa:
            found = place(forbidden, candidates, self._search(frame), self.tau)
        else:
            overlap = forbidden.overlap(candidates[0])
            found = Placement(0, (0,) * len(frame), overlap, overlap)
        best = candidates[found.index]
        box = best.box(found.shift)
        inner = grown(box, 0, frame)
        if any(side.start >= side.stop for side in inner):
            return None
        numbers[cut][own] = BARE if self.bare != "keep" else number
        part = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, box))
        numbers[inner][best.mask[part]] = number
        return {
            **drawn[found.index],
            "cut": as_lists(cut),
            "from": as_lists(source_box),
            "to": as_lists(box),
            "shift_vox": list(found.shift),
            "area": best.area,
            "overlap_before": found.overlap_unshifted,
            "overlap_after": found.overlap,
        }

    def _forbidden(self, numbers: np.ndarray, number: int, brain: np.ndarray | None) -> np.ndarray:
        if brain is None:
            return numbers != number
        others = (numbers != BACKGROUND) & (numbers != number) & (numbers != BARE)
        return others | ~brain

    def _search(self, frame: tuple[int, ...]) -> tuple[int, ...]:
        reach = max(2, round(self.search * max(frame)))
        return tuple(min(reach, n // 2) for n in frame)

    def apply(self, params: Params, target: Sample, pool: Dataset | None = None) -> Sample:
        """The target with every region of `params` cut out and pasted, in their order."""
        check_shape(params, target)
        regions = Regions.of_pool(pool)
        views = {name: OnGrid(pool[name], target) for name in params["sources"]}
        stains = dict(zip(params["sources"], params["stain"]))
        ignore = self.tree(pool.label_map).ignore
        canvas = Canvas(target)
        slide = rim_medians(canvas.image) if self.bare == "background" else None
        for region in params["regions"]:
            number = regions.number(region["id"])
            cut = as_box(region["cut"])
            own = regions.of(canvas.labels[cut]) == number
            if self.bare == "ignore":
                canvas.hold(ignore)
                canvas.labels[cut][own] = ignore
            elif slide is not None:
                canvas.labels[cut][own] = BACKGROUND
                for channel, value in zip(canvas.image, slide):
                    channel[cut][own] = value
            if self.bare != "keep":
                canvas.touch(cut, own)
            self._paste(canvas, regions, number, region, views, stains)
        return self.finished(target, canvas)

    def _paste(
        self,
        canvas: Canvas,
        regions: Regions,
        number: int,
        region: Mapping[str, Any],
        views: Mapping[str, OnGrid],
        stains: Mapping[str, Any],
    ) -> None:
        view = views[region["source"]]
        source_box, box = as_box(region["from"]), as_box(region["to"])
        ids = view.labels[source_box]
        if regions.of(ids).max(initial=0) == 0:
            raise DataError("the source no longer holds this region", region["source"])
        size = [side.stop - side.start for side in box]
        # Of other regions nothing is pasted, whatever turns into the box.
        ids = np.pad(np.where(regions.of(ids) == number, ids, ids.dtype.type(0)), 1)
        image = with_rim(view, source_box, stains[region["source"]])
        image, labels = warp(image, ids, np.array(region["matrix"]), size, None, 0.0, 0)
        inner = grown(box, 0, canvas.labels.shape)
        part = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, box))
        labels = labels[part]
        canvas.paste(inner, labels != 0, image[(slice(None), *part)], labels)
