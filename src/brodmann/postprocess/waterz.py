"""The waterz library on our fragments: in memory only, whole float32 affinities."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from brodmann.core import Affinities, DataError
from brodmann.core.affinities import IN_PLANE, NEAREST
from brodmann.postprocess.agglomerate import check_thresholds, parse_score
from brodmann.postprocess.fragments import checked
from brodmann.postprocess.relabel import numbered

_stdout = threading.Lock()


def scoring_function(score: str) -> str:
    """The C++ type of a score, as waterz wants it.

    >>> scoring_function("quantile50")
    'OneMinus<HistogramQuantileAffinity<RegionGraphType,50,ScoreValue,256,false>>'
    """
    quantile, from_largest = parse_score(score)
    if quantile < 0:
        return "OneMinus<MeanAffinity<RegionGraphType,ScoreValue>>"
    start = "true" if from_largest else "false"
    return f"OneMinus<HistogramQuantileAffinity<RegionGraphType,{quantile},ScoreValue,256,{start}>>"


def is_compiled(score: str) -> bool:
    """Whether the installed waterz holds this score, so that nothing is compiled when it runs."""
    from waterz import _agglomerate

    return _agglomerate._load_prebuilt(scoring_function(score), 0) is not None


def waterz_segments(
    affinities: Affinities, fragments: np.ndarray, thresholds: Sequence[float], score: str = "mean"
) -> Iterator[tuple[float, np.ndarray]]:
    """Segments by waterz at many thresholds, in one pass.

    It differs from `agglomerate` in that it sums in float32 and breaks ties by the order in
    which edges come off its queue.

    Parameters
    ----------
    affinities : Affinities
        12 bytes a voxel are made of the nearest neighbours'.
    fragments : (z, y, x) uint32
    thresholds : sequence of float
        In 0..1.
    score : str
        "mean", "quantile50", "quantile50-max", ...

    Yields
    ------
    (threshold, labels (z, y, x) uint32)
        In ascending order of thresholds; ids 1, 2, ... in order of appearance.

    Raises
    ------
    DataError
        If this waterz would have to compile the score, or shapes differ.
    """
    import waterz

    limits = np.sort(check_thresholds(thresholds))
    function = scoring_function(score)
    if not is_compiled(score):
        raise DataError(
            "this score is not compiled into waterz",
            found=repr(score),
            fix="choose a quantile that is a multiple of 5, or merge without waterz",
        )
    affinities = checked(affinities)
    if fragments.shape != affinities.shape:
        raise DataError(
            "affinities and fragments differ in shape",
            found=f"{affinities.shape}, {fragments.shape}",
        )
    convention, values = affinities.convention, affinities.volume.data
    found = convention.channels_of(NEAREST)
    whole = np.zeros((3, *fragments.shape), np.float32)
    offsets = NEAREST if len(found) == 3 else IN_PLANE
    for offset in offsets:
        channel = values[convention.channels_of([offset])[0]]
        np.divide(channel, np.float32(255), out=whole[NEAREST.index(offset)])
    # Without affinities along z every slice is alone: a zero would still be an edge.
    parts = [slice(None)] if len(found) == 3 else [slice(z, z + 1) for z in range(len(fragments))]
    runs = []
    for part in parts:
        piece = fragments[part]
        base = int(piece.min()) - 1 if len(found) < 3 else 0
        runs.append(
            waterz.agglomerate(
                np.ascontiguousarray(whole[:, part]),
                [float(limit) for limit in limits],
                fragments=np.ascontiguousarray(piece - np.uint32(base)).astype(np.uint64),
                scoring_function=function,
            )
        )
    for limit in limits:
        segments = np.zeros(fragments.shape, np.uint32)
        count = 0
        for part, run in zip(parts, runs):
            with silenced():
                segmented = next(run)
            segments[part] = numbered(segmented) + np.uint32(count)
            count = int(segments[part].max())
        yield float(limit), segments


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Standard output to nowhere, that of C++ too: waterz reports its progress there."""
    with _stdout, contextlib.redirect_stdout(io.StringIO()):
        if sys.__stdout__:
            sys.__stdout__.flush()
        kept = os.dup(1)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)
            os.close(nowhere)
