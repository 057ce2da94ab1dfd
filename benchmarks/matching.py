"""Matching a million found cells with a million true ones: ours against scipy's tree and solvers.

Ours is `match` in mode greedy_global, whole: duplicates, all pairs within 6 voxels, the greedy
order. The peer is scipy's cKDTree doing the first part of the same: built on the true cells and
asked for the neighbours of every found one within 6 voxels (`sparse_distance_matrix`), with
numpy's sort and a loop in Python that takes the pairs. A tree that is only asked for the nearest
cell of each, and so matches nothing yet, is timed beside it (`tree_alone`). `optimal` runs
against scipy's sparse solver on fewer cells, since that one takes minutes. Cells are as dense as
neurons of a mouse brain at 1.8 x 1.8 x 4 um: 0.0013 a voxel. All ways must find as many pairs.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

from benchmarks import harness
from brodmann.core import keyed_rng
from brodmann.metrics.points import MODES, match

CELLS = 1_000_000
DENSITY = 1.3e-3
"""Cells a voxel."""
TOLERANCE = 6.0
FEW = 20_000
"""Cells for scipy's sparse solver."""


def brains(count: int = CELLS) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3) found and true cells: 85 % are found, 1.5 voxels off, the others invented."""
    rng = keyed_rng(0, "matching", count)
    side = (count / DENSITY / 4) ** (1 / 3)
    shape = np.array([side, 2 * side, 2 * side])
    truth = rng.uniform(0, 1, (count, 3)) * shape
    kept = truth[rng.random(count) < 0.85]
    kept = kept + rng.normal(size=kept.shape) * 1.5
    invented = rng.uniform(0, 1, (count - len(kept), 3)) * shape
    return np.concatenate([kept, invented]), truth


def by_tree(found: np.ndarray, truth: np.ndarray) -> int:
    """Pairs of a greedy matching by cKDTree, a sort, and a loop."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(found).sparse_distance_matrix(
        cKDTree(truth), np.nextafter(TOLERANCE, 0), output_type="ndarray"
    )
    pairs = pairs[np.argsort(pairs["v"], kind="stable")]
    rows, columns = set(), set()
    for row, column in zip(pairs["i"].tolist(), pairs["j"].tolist()):
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
    return len(rows)


def tree_alone(found: np.ndarray, truth: np.ndarray) -> int:
    """Found cells with a true one in reach."""
    from scipy.spatial import cKDTree

    nearest, _ = cKDTree(truth).query(found, distance_upper_bound=TOLERANCE)
    return int(np.isfinite(nearest).sum())


def by_solver(found: np.ndarray, truth: np.ndarray) -> int:
    """Pairs of the best matching by scipy's sparse solver, alone at a price above any sum."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching
    from scipy.spatial import cKDTree

    n, m = len(found), len(truth)
    pairs = cKDTree(found).sparse_distance_matrix(
        cKDTree(truth), np.nextafter(TOLERANCE, 0), output_type="ndarray"
    )
    rows = np.concatenate([pairs["i"], np.arange(n)])
    columns = np.concatenate([pairs["j"], m + np.arange(n)])
    costs = np.concatenate([pairs["v"], np.full(n, TOLERANCE * n)])
    graph = csr_matrix((costs, (rows, columns)), shape=(n, m + n))
    return int((min_weight_full_bipartite_matching(graph)[1] < m).sum())


def run(repeats: int = 3) -> dict:
    """The whole comparison, about a minute at three repeats on a quiet machine."""
    found, truth = brains()
    few = brains(FEW)
    for mode in MODES:
        match(*brains(1000), TOLERANCE, mode)  # compiles
    pairs = {mode: len(match(found, truth, TOLERANCE, mode).pairs) for mode in MODES}
    if by_tree(found, truth) != pairs["greedy_global"]:
        raise RuntimeError("the two greedy matchings do not have as many pairs")
    if by_solver(*few) != len(match(*few, TOLERANCE, "optimal").pairs):
        raise RuntimeError("the two best matchings do not have as many pairs")
    mine, other = harness.alternate(
        lambda: match(found, truth, TOLERANCE), lambda: by_tree(found, truth), repeats, 1
    )
    again, alone = harness.alternate(
        lambda: match(found, truth, TOLERANCE), lambda: tree_alone(found, truth), repeats, 1
    )
    best, solver = harness.alternate(
        lambda: match(*few, TOLERANCE, "optimal"), lambda: by_solver(*few), repeats
    )
    seconds = {
        mode: harness.seconds(lambda mode=mode: match(found, truth, TOLERANCE, mode))
        for mode in MODES
    }
    return harness.result(
        "matching",
        "scipy cKDTree pairs, numpy sort, Python loop",
        version("scipy"),
        mine,
        other,
        "s",
        cells=CELLS,
        pairs=pairs,
        seconds={mode: float(f"{value:.3g}") for mode, value in seconds.items()},
        tree_alone=harness.result(
            "tree_alone", "scipy cKDTree query, nearest only", version("scipy"), again, alone, "s"
        ),
        optimal=harness.result(
            "optimal", "scipy min_weight_full_bipartite_matching", version("scipy"), best, solver,
            "s", cells=FEW,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    harness.main(run, __doc__)
