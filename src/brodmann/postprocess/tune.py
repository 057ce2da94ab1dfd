"""Choose method, value and fragments on a labelled volume; never on the one to be scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brodmann.core import Affinities, DataError, RecipeError
from brodmann.core.affinities import check_against
from brodmann.postprocess.fragments import USUAL, FragmentOptions
from brodmann.postprocess.methods import Parts, find_method

Score = Callable[[np.ndarray, np.ndarray], "float | Mapping[str, float]"]


@dataclass(frozen=True)
class Tuned:
    """The best of many trials.

    Attributes
    ----------
    method : str
    value : float
        Of the method's parameter.
    fragment_options : FragmentOptions
    score : float
        What the best trial got; less is better.
    table : list of dict
        Every trial: method, parameter, value, threshold, sigma, per_slice, min_size, segments,
        the scores, and "seconds" for the method on all of its values.
    """

    method: str
    value: float
    fragment_options: FragmentOptions
    score: float
    table: list[dict[str, Any]]


def cluster_errors(truth: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """VI and its halves (bits) and ARAND, truth 0 left out; the sum of VI and ARAND decides."""
    from brodmann.metrics.clusters import cluster_scores

    found = cluster_scores(truth, labels, ignore=0)
    return {
        "score": found.vi + found.arand,
        "vi": found.vi,
        "vi_split": found.vi_split,
        "vi_merge": found.vi_merge,
        "arand": found.arand,
    }


def tune(
    affinities: Affinities,
    truth: np.ndarray,
    methods: Sequence[str] = ("mean", "quantile50", "multicut"),
    score: Score = cluster_errors,
    values: Mapping[str, Sequence[float]] | None = None,
    fragment_options: Sequence[FragmentOptions] = (USUAL,),
    *,
    workers: int = 1,
) -> Tuned:
    """Try every method on every value and way of making fragments; the least score wins.

    Parameters
    ----------
    affinities : Affinities
    truth : (z, y, x) integers
        Ids of neurons; 0 is not known.
    methods : sequence of str
        Names in METHODS.
    score : callable
        (truth, labels) -> a number, or numbers by name with one called "score"; less is
        better.
    values : mapping of str to sequence of float, optional
        By method; their own grids by default.
    fragment_options : sequence of FragmentOptions
        Methods on voxels are tried once, whatever these are.
    workers : int
        Threads.

    Raises
    ------
    DataError
        If the affinities fit the truth better when read otherwise, or the truth has one id.
    RecipeError
        On an unknown method, or nothing to try.
    """
    known = [find_method(name) for name in methods]
    unused = set(values or {}) - set(methods)
    if unused:
        raise RecipeError("values for a method that is not tried", found=", ".join(sorted(unused)))
    if not known or not fragment_options:
        raise RecipeError("nothing to tune", fix="name methods and fragment options")
    ids = np.unique(truth)
    if np.count_nonzero(ids) < 2:
        raise DataError(
            "a truth of one neuron tunes nothing",
            "truth",
            f"ids {ids.tolist()}",
            "take a larger labelled part",
        )
    check_against(affinities, truth)
    table: list[dict[str, Any]] = []
    best: tuple[float, str, float, FragmentOptions] | None = None
    for i, options in enumerate(fragment_options):
        parts = Parts(affinities, options, workers)
        for method in known:
            if i and not method.uses_fragments:
                continue
            begun = time.perf_counter()
            rows = []
            for value, labels in parts.segments(method.name, (values or {}).get(method.name)):
                scores = score(truth, labels)
                scores = dict(scores) if isinstance(scores, Mapping) else {"score": scores}
                row = {
                    "method": method.name,
                    "parameter": method.parameter,
                    "value": value,
                    **(vars(options) if method.uses_fragments else {}),
                    "segments": int(np.count_nonzero(np.bincount(labels.reshape(-1))[1:])),
                    **{name: float(number) for name, number in scores.items()},
                }
                rows.append(row)
                if best is None or row["score"] < best[0]:
                    best = (row["score"], method.name, value, options)
            seconds = time.perf_counter() - begun
            table += [row | {"seconds": round(seconds, 3)} for row in rows]
    if best is None or not np.isfinite(best[0]):
        raise DataError("no trial has a score", "truth", fix="see that truth and labels overlap")
    return Tuned(best[1], best[2], best[3], best[0], table)
