"""Variation of information and adapted Rand error from a table of shared voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from brodmann.core import DataError, RecipeError, Volume
from brodmann.metrics.clusters.borders import border_mask
from brodmann.metrics.clusters.table import ClusterTable, cluster_table

Zero = Literal["cremi", "segment", "singletons"]


@dataclass(frozen=True)
class ClusterScores:
    """How far a segmentation is from the truth.

    Attributes
    ----------
    vi_split, vi_merge : float
        Bits. Split is H(segments | truth): what one must still be told of a voxel's segment
        when its neuron is known, 0 where no neuron is split. Merge is H(truth | segments).
    vi : float
        Their sum, the variation of information (Meila 2007).
    arand : float
        Adapted Rand error, 0..1: 1 less the harmonic mean of the next two (Arganda-Carreras
        et al. 2015).
    arand_precision, arand_recall : float
        Share of the pairs of voxels within one segment that lie within one neuron, and of
        those within one neuron that lie within one segment, as CREMI names them. skimage's
        `adapted_rand_error` names these two the other way round.
    voxels, neurons, segments : int
        How many were counted; means over slices may be fractions.
    """

    vi_split: float
    vi_merge: float
    vi: float
    arand: float
    arand_precision: float
    arand_recall: float
    voxels: float
    neurons: float
    segments: float

    def as_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


def cluster_scores(
    truth: Any,
    segments: Any,
    *,
    ignore: int | None = 0,
    border_voxels: float | None = None,
    border_um: float | None = None,
    in_plane: bool = True,
    spacing_um: Sequence[float] | None = None,
    per_slice: bool = False,
    zero: Zero = "cremi",
    keep: np.ndarray | None = None,
    workers: int = 1,
    where: str = "",
) -> ClusterScores:
    """Score a segmentation, in memory that does not grow with the number of slices.

    Parameters
    ----------
    truth, segments : array or Volume of whole numbers from 0, 2D or 3D
    ignore : int, optional
        Voxels with this truth are not counted, as in CREMI and SNEMI3D.
    border_voxels, border_um : float, optional
        Voxels no farther than this from a border of the truth are not counted; see
        `border_mask`. Micrometres need a spacing.
    in_plane : bool
        Measure that distance slice by slice.
    spacing_um : sequence of float, optional
        Taken from a truth that is a Volume.
    per_slice : bool
        Score each slice by itself and give the mean over slices, as ISBI 2012 does.
    zero : "cremi", "segment" or "singletons"
        What segment 0 is: one segment, voxels each by itself, or, as in CREMI's own programs,
        one segment to VI and voxels by themselves to the Rand error. Without a segment 0 all
        are the same.
    keep : bool array, optional
        Count these voxels only.
    workers : int
        Threads.
    where : str
        Name of the volume, for errors.

    Raises
    ------
    DataError
        If nothing is left to count, or the truth holds one neuron only.

    Example
    -------
    >>> truth = np.array([[1, 1, 2, 2]])
    >>> found = cluster_scores(truth, np.array([[1, 1, 1, 1]]))
    >>> found.vi_split, found.vi_merge, round(found.arand, 3), found.arand_recall
    (0.0, 1.0, 0.5, 1.0)
    """
    masks = counted_voxels(
        truth, border_voxels, border_um, in_plane=in_plane, spacing_um=spacing_um, keep=keep
    )
    shape = truth.spatial_shape if isinstance(truth, Volume) else np.shape(truth)
    if not per_slice or len(shape) < 3:
        table = cluster_table(
            truth, segments, ignore=ignore, keep=masks, workers=workers, where=where
        )
        return scores_of_table(table, zero=zero, where=where)
    scores, ids_seen = [], np.zeros(0, np.uint64)
    for z in range(shape[0]):
        slab = slice(z, z + 1)
        mask = masks(slab) if masks else None
        pair = [_slice(volume, slab) for volume in (truth, segments)]
        table = cluster_table(*pair, ignore=ignore, keep=mask, where=where)
        ids_seen = np.union1d(ids_seen, table.truth_ids)
        if table.voxels:
            scores.append(scores_of_table(table, zero=zero, where=where, single=True))
    _refuse_single(ids_seen, where)
    return ClusterScores(
        **{k: float(np.mean([getattr(s, k) for s in scores])) for k in scores[0].as_dict()}
    )


def counted_voxels(
    truth: Any,
    border_voxels: float | None = None,
    border_um: float | None = None,
    *,
    in_plane: bool = True,
    spacing_um: Sequence[float] | None = None,
    keep: np.ndarray | None = None,
) -> Callable[[slice], np.ndarray] | None:
    """Slab of slices -> which voxels count, for `cluster_table`; None where all do.

    Parameters as for `cluster_scores`.
    """
    if border_voxels is not None and border_um is not None:
        raise RecipeError("give the border in voxels or in um, not both")
    if spacing_um is None and isinstance(truth, Volume):
        spacing_um = truth.spacing
    if border_um is not None and spacing_um is None:
        raise RecipeError("a border in um needs a spacing", "border_um", border_um)
    distance = border_um if border_um is not None else border_voxels
    spacing = spacing_um if border_um is not None else None
    shape = truth.spatial_shape if isinstance(truth, Volume) else np.shape(truth)
    ids = truth
    if isinstance(truth, Volume):
        ids = truth.data if truth.axes == truth.spatial_axes else truth.data[0]

    def counted(slab: slice) -> np.ndarray:
        mask = np.ones((len(range(*slab.indices(shape[0]))), *shape[1:]), bool)
        if keep is not None:
            mask &= np.asarray(keep[slab], bool)
        if distance is not None:
            mask &= ~border_mask(ids, distance, spacing, in_plane=in_plane, slab=slab)
        return mask

    return counted if keep is not None or distance is not None else None


def scores_of_table(
    table: ClusterTable, *, zero: Zero = "cremi", where: str = "", single: bool = False
) -> ClusterScores:
    """Scores of a table from which ignored voxels are gone; `single` allows one neuron.

    Raises
    ------
    DataError
        If the table is empty, or holds one neuron only: one in all would then be right.
    """
    if zero not in get_args(Zero):
        raise RecipeError("segment 0 is one of " + ", ".join(get_args(Zero)), "zero", repr(zero))
    if not single or not table.voxels:
        _refuse_single(np.unique(table.truth_ids), where)
    n = float(table.voxels)
    shared = table.counts.astype(np.float64)
    _, row, of_truth = marginal(table.truth_ids, table.counts)
    ids, column, of_segment = marginal(table.segment_ids, table.counts)
    split = float((shared * np.log2(of_truth[row] / shared)).sum()) / n
    merge = float((shared * np.log2(of_segment[column] / shared)).sum()) / n
    loose = (table.segment_ids == 0) if zero != "segment" else np.zeros(len(shared), bool)
    lone = float(shared[loose].sum())
    if zero == "singletons":
        # A voxel by itself: split by log of its neuron's size, never merged.
        gone = shared[loose]
        split += float((gone * np.log2(gone)).sum()) / n
        merge -= float((gone * np.log2(of_segment[column[loose]] / gone)).sum()) / n
    # Nor is it in any pair.
    both = float((shared[~loose] ** 2).sum()) - (n - lone)
    bodies = of_segment[ids != 0] if lone else of_segment
    in_truth = float((of_truth**2).sum()) - n
    in_segments = float((bodies**2).sum()) - (n - lone)
    pairs = in_truth + in_segments
    return ClusterScores(
        vi_split=split,
        vi_merge=merge,
        vi=split + merge,
        arand=1 - 2 * both / pairs if pairs else 0.0,
        arand_precision=both / in_segments if in_segments else 1.0,
        arand_recall=both / in_truth if in_truth else 1.0,
        voxels=int(n),
        neurons=len(of_truth),
        segments=len(bodies) + (int(lone) if zero == "singletons" else int(lone > 0)),
    )


def marginal(ids: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, each entry's place among them, and their sizes as float64."""
    unique, place = np.unique(ids, return_inverse=True)
    return unique, place, np.bincount(place, counts, len(unique))


def _slice(volume: Any, slab: slice) -> np.ndarray:
    if isinstance(volume, Volume):
        return volume.read((slab, slice(None), slice(None)))[0]
    return np.asarray(volume[slab])


def _refuse_single(ids: np.ndarray, where: str) -> None:
    if not len(ids):
        raise DataError(
            "no voxel is left to score",
            where or "truth",
            fix="check the ignored id, the border and the mask",
        )
    if len(ids) == 1:
        raise DataError(
            "a truth of one neuron scores nothing",
            where or "truth",
            f"id {int(ids[0])} alone",
            "take a larger volume, or check that these are ids and no mask",
        )
