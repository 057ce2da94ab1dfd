"""Affinities to segments: settings chosen on the tuning part, scored on the test part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import Affinities, Dataset, Sample
from brodmann.core.affinities import check_against
from brodmann.io import read_volume
from brodmann.metrics.clusters import cluster_scores
from brodmann.pipeline.neurons.recipe import NeuronRecipe, NeuronScoreSection
from brodmann.postprocess.fragments import FragmentOptions, make_fragments
from brodmann.postprocess.methods import Parts, find_method, segment

MEASURES = ("vi", "vi_split", "vi_merge", "arand", "arand_precision", "arand_recall")
TRIVIAL = ("one segment", "fragments only", "intensity threshold")


@dataclass(frozen=True)
class Choice:
    """A method with the settings that did best on the tuning part."""

    method: str
    value: float
    """Its threshold, or beta."""
    fragments: FragmentOptions
    tuned: dict[str, float]
    """Scores on the tuning part."""

    def cost(self, measure: str) -> float:
        """What is to be low: one measure, or the sum of VI and ARAND for "both"."""
        if measure == "both":
            return self.tuned["vi"] + self.tuned["arand"]
        return self.tuned[measure]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "method": self.method,
            find_method(self.method).parameter: self.value,
            "watershed_threshold": self.fragments.threshold,
            "seed_sigma": self.fragments.sigma,
            "tuned": self.tuned,
        }


def read_affinities(path: Path, sample: Sample, convention: Any) -> Affinities:
    """What `brodmann predict` wrote for a sample, in memory and canonical."""
    volume = read_volume(path, spacing=sample.image.spacing)
    return Affinities(volume, convention).canonical(where=str(path))


def scores_of(labels: np.ndarray, sample: Sample, section: NeuronScoreSection) -> dict[str, float]:
    """VI and ARAND of a segmentation of a sample, and their parts."""
    found = cluster_scores(
        sample.labels.numpy(),
        labels,
        border_voxels=section.border_voxels,
        per_slice=section.per_slice,
    )
    return {name: float(getattr(found, name)) for name in MEASURES}


def choose(
    recipe: NeuronRecipe,
    affinities: Mapping[str, Affinities],
    tune: Dataset,
    advance: Callable[[], None] = lambda: None,
) -> tuple[list[Choice], list[dict[str, Any]]]:
    """The best settings of every method on the tuning part, and the table of all trials.

    Several tuning volumes count alike. Before any trial their affinities are held against
    their truth, so that a wrong reading of the channels cannot pass.
    """
    section = recipe.segment
    for name in tune.names:
        check_against(affinities[name], tune[name].labels.numpy(), name)
    trials: list[dict[str, Any]] = []
    best: dict[str, Choice] = {}
    for options in fragment_grid(recipe):
        # Fragments and graph of a volume are made once for all methods.
        parts = {name: Parts(affinities[name], options) for name in tune.names}
        for method in section.methods:
            values = tuple(section.values.get(method, find_method(method).values))
            found: dict[float, list[dict[str, float]]] = {}
            for name in tune.names:
                for value, labels in parts[name].segments(method, values):
                    found.setdefault(value, []).append(scores_of(labels, tune[name], recipe.score))
            for value, scores in found.items():
                choice = Choice(method, value, options, mean_scores(scores))
                trials.append(choice.to_dict())
                rival = best.get(method)
                if rival is None or choice.cost(section.choose_by) < rival.cost(section.choose_by):
                    best[method] = choice
            advance()
    return [best[method] for method in section.methods], trials


def segmented(affinities: Affinities, choice: Choice) -> np.ndarray:
    """The segments that a choice makes of some affinities, (z, y, x)."""
    ((_, labels),) = segment(affinities, choice.method, (choice.value,), choice.fragments)
    return labels


def trivial_rows(
    recipe: NeuronRecipe, affinities: Mapping[str, Affinities], tune: Dataset, test: Dataset
) -> dict[str, dict[str, float]]:
    """What needs no agglomeration: all in one, fragments alone, a tuned threshold on the image.

    Fragments are those of the first watershed settings; bright voxels are the inside of
    neurons, joined face to face.
    """
    options = next(fragment_grid(recipe))
    section = recipe.score
    cut = best_cut(tune, recipe)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in TRIVIAL}
    for name in test.names:
        sample = test[name]
        ones = np.ones(sample.image.spatial_shape, np.uint32)
        if section.per_slice:
            ones *= np.arange(1, len(ones) + 1, dtype=np.uint32)[:, None, None]
        made = (ones, make_fragments(affinities[name], options), bright_parts(sample, cut, recipe))
        for row, labels in zip(TRIVIAL, made):
            rows[row].append(scores_of(labels, sample, section))
    return {row: mean_scores(scores) for row, scores in rows.items()}


def best_cut(tune: Dataset, recipe: NeuronRecipe) -> float:
    """The percentile of the image above which connected voxels are most like neurons."""
    cuts = range(10, 75, 5)

    def cost(cut: float) -> float:
        found = [scores_of(bright_parts(s, cut, recipe), s, recipe.score) for s in tune]
        return mean_scores(found)["vi"]

    return min(cuts, key=cost)


def bright_parts(sample: Sample, percentile: float, recipe: NeuronRecipe) -> np.ndarray:
    """Connected parts of what is brighter than a percentile of the volume; the rest is 0."""
    from bioimage_cpp.segmentation import label

    image = sample.image.read()[0]
    inside = image > np.percentile(image, percentile)
    if not recipe.score.per_slice:
        return np.asarray(label(inside), np.uint32)
    parts, count = np.zeros(image.shape, np.uint32), 0
    for plane, mask in zip(parts, inside):
        found = np.asarray(label(mask), np.uint32)
        plane[...] = np.where(found > 0, found + count, 0)
        count += int(found.max(initial=0))
    return parts


def fragment_grid(recipe: NeuronRecipe) -> Iterator[FragmentOptions]:
    """Every combination of watershed settings that the recipe allows."""
    section = recipe.segment.fragments
    for threshold, sigma in product(section.thresholds, section.sigmas):
        yield FragmentOptions(threshold, sigma, section.per_slice, section.min_size)


def mean_scores(scores: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each number."""
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}
