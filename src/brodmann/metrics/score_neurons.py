"""Label volumes on disk against the truth: what `brodmann score neurons` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brodmann.core import DataError
from brodmann.core.volume import check_same_grid
from brodmann.metrics.clusters import cluster_scores, cluster_table, counted_voxels, neuron_errors
from brodmann.metrics.clusters.scores import Zero


def score_neurons(
    pred: Path,
    truth: Path,
    *,
    ignore: int | None = 0,
    border_um: float | None = None,
    border_voxels: float | None = None,
    in_plane: bool = True,
    per_slice: bool = False,
    zero: Zero = "cremi",
    spacing_um: Sequence[float] | None = None,
    errors: Path | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Score one segmentation; arguments as for `cluster_scores`.

    Parameters
    ----------
    pred, truth : Path
        Any label volume that `read_volume` reads.
    errors : Path, optional
        A CSV to write with what every true neuron adds to VI: of the same voxels, segment 0
        as one segment, and of the volume as a whole even with `per_slice`.

    Returns
    -------
    dict
        `scores`, and the files as they were named.

    Raises
    ------
    DataError
        If the volumes are no label volumes of one shape, or nothing can be scored.
    """
    from brodmann.io import read_volume

    segments = read_volume(pred, spacing="unit")
    # Only a border in um asks how large a voxel is.
    known = read_volume(truth, spacing=spacing_um or ("unit" if border_um is None else None))
    for path, volume in ((pred, segments), (truth, known)):
        if volume.num_channels != 1:
            raise DataError("segmentations have one channel", path, volume.num_channels)
    check_same_grid(known, segments, str(pred))
    scores = cluster_scores(
        known,
        segments,
        ignore=ignore,
        border_um=border_um,
        border_voxels=border_voxels,
        in_plane=in_plane,
        per_slice=per_slice,
        zero=zero,
        workers=workers,
        where=str(truth),
    )
    result: dict[str, Any] = {"pred": str(pred), "truth": str(truth), "scores": scores.as_dict()}
    if errors is not None:
        keep = counted_voxels(known, border_voxels, border_um, in_plane=in_plane)
        table = cluster_table(
            known, segments, ignore=ignore, keep=keep, workers=workers, where=str(truth)
        )
        neuron_errors(table).write_csv(errors)
        result["errors"] = str(errors)
    return result
