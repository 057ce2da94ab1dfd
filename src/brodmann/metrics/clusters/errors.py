"""Which neurons are wrong, and how much each adds to the variation of information."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core.files import written_beside
from brodmann.metrics.clusters.scores import marginal
from brodmann.metrics.clusters.table import ClusterTable

COLUMNS = (
    "neuron", "voxels", "segments", "share", "segment", "purity", "merged_with", "vi_split",
    "vi_merge",
)  # fmt: skip


@dataclass(frozen=True)
class NeuronErrors:
    """A row for each true neuron, the worst first.

    Attributes
    ----------
    rows : list of dict
        `neuron`, `voxels`; `segments` that hold at least `min_share` of it; `segment` with most
        of it and the `share` that it holds; `purity`, the share of that segment which is this
        neuron; `merged_with`, the neuron that shares most of its segments' voxels, or None;
        `vi_split` and `vi_merge`, bits, which sum to those of the whole volume.
    min_share : float
    """

    rows: list[dict[str, Any]]
    min_share: float

    def write_csv(self, path: Path) -> Path:
        """All rows; empty where there is no value."""
        with written_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        return Path(path)


def neuron_errors(table: ClusterTable, min_share: float = 0.01) -> NeuronErrors:
    """What each true neuron adds to VI.

    Parameters
    ----------
    table : ClusterTable
        Without ignored voxels.
    min_share : float
        A segment with less of a neuron than this is not counted among its `segments`.

    Example
    -------
    >>> from brodmann.metrics.clusters import cluster_table
    >>> found = neuron_errors(cluster_table(np.array([[1, 1, 2, 2]]), np.array([[5, 5, 5, 6]])))
    >>> [(row["neuron"], row["segments"], row["merged_with"]) for row in found.rows]
    [(2, 2, 1), (1, 1, 2)]
    """
    n = float(table.voxels)
    shared = table.counts.astype(np.float64)
    neurons, row, of_truth = marginal(table.truth_ids, table.counts)
    segments, column, of_segment = marginal(table.segment_ids, table.counts)
    count = len(neurons)
    split = np.bincount(row, shared * np.log2(of_truth[row] / shared), count) / n
    merge = np.bincount(row, shared * np.log2(of_segment[column] / shared), count) / n
    large = np.bincount(row, shared >= min_share * of_truth[row], count).astype(int)
    # The last of each neuron's entries, sorted by size, is its largest.
    order = np.lexsort((-column, shared, row))
    last = np.searchsorted(row[order], np.arange(count), side="right") - 1
    main = order[last]
    partner = _partners(row, column, shared, count)
    rows = [
        {
            "neuron": int(neurons[i]),
            "voxels": int(of_truth[i]),
            "segments": int(large[i]),
            "share": float(shared[main[i]] / of_truth[i]),
            "segment": int(segments[column[main[i]]]),
            "purity": float(shared[main[i]] / of_segment[column[main[i]]]),
            "merged_with": int(neurons[partner[i]]) if partner[i] >= 0 else None,
            "vi_split": float(split[i]),
            "vi_merge": float(merge[i]),
        }
        for i in np.lexsort((neurons, -(split + merge)))
    ]
    return NeuronErrors(rows, min_share)


def _partners(row: np.ndarray, column: np.ndarray, shared: np.ndarray, count: int) -> np.ndarray:
    """For each neuron the other one with most voxels, at most its own, in its segments; or -1.

    Of two neurons in a segment the smaller overlap is what they share. Only the two largest
    neurons of a segment can be another's partner, so nothing is compared all with all.
    """
    order = np.lexsort((row, -shared, column))
    c, r, s = column[order], row[order], shared[order]
    first = np.flatnonzero(np.r_[True, c[1:] != c[:-1]])
    second = np.minimum(first + 1, len(c) - 1)
    place = np.searchsorted(first, np.arange(len(c)), side="right") - 1
    top, runner = first[place], second[place]
    mate = np.where(np.arange(len(c)) == top, runner, top)
    paired = (c[mate] == c) & (r[mate] != r)
    common = np.where(paired, np.minimum(s, s[mate]), 0)
    partner = np.full(count, -1, np.int64)
    key = np.lexsort((r[mate], common, r))
    last = np.searchsorted(r[key], np.arange(count), side="right") - 1
    best = key[last]
    partner[r[best]] = np.where(common[best] > 0, r[mate[best]], -1)
    return partner
