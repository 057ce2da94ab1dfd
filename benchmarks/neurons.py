"""Affinities to segments, end to end: ours against elf's path and against waterz's own.

A phantom of 100 x 1024 x 1024 voxels, uint8 affinities to the three nearest neighbours. Ours is
per-slice fragments, region graph, agglomeration by the mean, relabelling. The first peer is
elf's `simple_multicut_workflow` with its own per-slice watershed and the quicker of its solvers
(greedy additive); the second is waterz with its own watershed and the mean. Its watershed is given
0.05 and 0.95 for low and high affinities, with which it is quicker and better here than with its
defaults. A third path is waterz on our fragments. Peers take float32 affinities, which are made
within the time. All may use two threads. Each path's one parameter is tuned on another phantom,
and VI (bits) and ARAND against the truth stand beside the times.

What the limit is: of our time on one core about 82 % goes into fragments, 13 % into the graph,
3 % into merging. A voxel of a fragment takes 32 ns: 12 for the distance transform, 12 for the
flood of boundary voxels, which no branch predictor foresees, 5 to follow the ways up, and 3 for
the rest. Two threads share the memory bus.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from benchmarks import harness
from brodmann.core import Affinities, Convention, Volume, keyed_rng
from brodmann.core.affinities import NEAREST

SHAPE = (100, 1024, 1024)
SMALL = (20, 512, 512)
SPACING_UM = (0.03, 0.006, 0.006)
THREADS = 2
COARSE = 4
"""Neurites are compared on a grid coarser by this factor."""
GRIDS = {
    "ours": (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7),
    "elf": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "waterz": (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
    "waterz on our fragments": (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7),
}


def field(rng: np.random.Generator, shape: tuple[int, int], cell: int) -> np.ndarray:
    """A smooth random field (y, x), standard normal or so, that varies over `cell` pixels."""
    small = rng.normal(size=[n // cell + 4 for n in shape]).astype(np.float32)
    wide = ndimage.zoom(small, cell, order=1, grid_mode=True, mode="nearest")
    return wide[: shape[0], : shape[1]]


def phantom(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> tuple[Affinities, np.ndarray]:
    """Affinities like those of a net, and their truth (z, y, x) uint32.

    Neurites of 20 to 100 pixels wander through the slices. Membranes are blurred and weak in
    places, false ones lie within neurites, and all is noisy.
    """
    depth, height, width = shape
    plane = (height, width)
    rng = keyed_rng(seed, "neurites")
    count = max(4, height * width // 2500)
    drift = rng.normal(size=(count, 2))
    at = [rng.uniform(-0.05, 1.05, (count, 2)) * plane]
    pull = rng.uniform(0, 30, count)
    for _ in range(depth - 1):
        drift = 0.9 * drift + rng.normal(size=(count, 2)) * 0.6
        at.append(at[-1] + drift)
    truth = np.empty(shape, np.uint32)
    boundary = np.empty(shape, np.float32)
    values = np.empty((3, *shape), np.uint8)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    grid = np.meshgrid(*(np.arange(0, n + 8 * COARSE, COARSE) for n in plane), indexing="ij")
    points = np.stack([*grid, np.zeros_like(grid[0])], -1).reshape(-1, 3)

    def draw(z: int) -> None:
        nearest = cKDTree(np.column_stack([at[z], pull])).query(points)[1].reshape(grid[0].shape)
        # Waves of a few pixels hide the grid.
        down = (rows + 8 + 3 * np.sin(columns / 11 + z / 9)).astype(np.int64) // COARSE
        across = (columns + 8 + 3 * np.sin(rows / 9)).astype(np.int64) // COARSE
        truth[z] = nearest[down, across] + 1
        cut = np.zeros(plane, np.float32)
        cut[1:] += truth[z, 1:] != truth[z, :-1]
        cut[:, 1:] += truth[z, :, 1:] != truth[z, :, :-1]
        rng = keyed_rng(seed, "membranes", z)
        membrane = np.minimum(ndimage.gaussian_filter(np.minimum(cut, 1), 1.5) * 3.6, 1)
        strength = np.clip(0.85 + 0.3 * field(rng, plane, 24), 0.15, 1)
        ridge = np.exp(-((field(rng, plane, 32) / 0.06) ** 2))
        ridge *= np.clip(field(rng, plane, 40) - 0.6, 0, 1)
        boundary[z] = np.maximum(membrane * strength, ridge)

    def measure(z: int) -> None:
        rng = keyed_rng(seed, "noise", z)
        through = np.zeros(plane, np.float32)
        if z:
            through += truth[z] != truth[z - 1]
            through = ndimage.gaussian_filter(through, 1.5) * np.float32(0.8)
            through = np.maximum(through, 0.5 * np.maximum(boundary[z], boundary[z - 1]))
        for channel, apart in enumerate((through, boundary[z], boundary[z])):
            # Noise as a net has it: smooth, and on the logits, so that what is sure stays sure.
            noise = ndimage.gaussian_filter(rng.standard_normal(plane, np.float32), 1.5)
            logits = np.log((1.01 - apart) / (0.01 + apart)) + np.float32(2) * noise
            values[channel, z] = np.rint(255 / (1 + np.exp(-logits)))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(draw, range(depth)))
        list(pool.map(measure, range(depth)))
    return Affinities(Volume(values, "czyx", SPACING_UM), Convention(NEAREST)), truth


def ours(affinities: Affinities, threshold: float) -> np.ndarray:
    from brodmann.postprocess import segment

    return next(segment(affinities, "mean", [threshold], workers=THREADS))[1]


def elf(affinities: Affinities, beta: float) -> np.ndarray:
    from elf.segmentation.workflows import simple_multicut_workflow

    boundaries = 1 - affinities.volume.data * np.float32(1 / 255)
    return simple_multicut_workflow(
        boundaries,
        use_2dws=True,
        multicut_solver="greedy-additive",
        weighting_scheme="all",
        beta=beta,
        n_threads=THREADS,
    )


def waterz(affinities: Affinities, threshold: float) -> np.ndarray:
    from waterz import agglomerate

    from brodmann.postprocess.waterz import scoring_function, silenced

    values = affinities.volume.data / np.float32(255)
    with silenced():
        return next(
            agglomerate(
                values,
                [threshold],
                aff_threshold_low=0.05,
                aff_threshold_high=0.95,
                scoring_function=scoring_function("mean"),
            )
        )


def waterz_on_ours(affinities: Affinities, threshold: float) -> np.ndarray:
    from brodmann.postprocess import make_fragments, waterz_segments

    fragments = make_fragments(affinities, workers=THREADS)
    return next(waterz_segments(affinities, fragments, [threshold]))[1]


PATHS: dict[str, Callable[[Affinities, float], np.ndarray]] = {
    "ours": ours,
    "elf": elf,
    "waterz": waterz,
    "waterz on our fragments": waterz_on_ours,
}


def scores(truth: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    from brodmann.metrics.clusters import cluster_scores

    found = cluster_scores(truth, labels)
    return {"vi": round(float(found.vi), 4), "arand": round(float(found.arand), 4)}


def tuned(name: str, affinities: Affinities, truth: np.ndarray) -> float:
    """The value of a path's grid with the least VI + ARAND."""

    def error(value: float) -> float:
        return sum(scores(truth, PATHS[name](affinities, value)).values())

    return min(GRIDS[name], key=error)


def peak(name: str, file: str, value: float) -> None:
    """Run one path on saved affinities; print the bytes that it took beyond them as JSON."""
    values = np.load(file)
    affinities = Affinities(Volume(values, "czyx", SPACING_UM), Convention(NEAREST))
    before = most_bytes()
    PATHS[name](affinities, value)
    print(json.dumps(most_bytes() - before))


def most_bytes() -> int:
    """The most memory that this process ever held. Linux; getrusage counts the parent's, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def peak_bytes(name: str, file: Path, value: float) -> int:
    """The same in a process of its own."""
    code = f"from benchmarks import neurons; neurons.peak({name!r}, {str(file)!r}, {value!r})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=harness.FOLDER.parent, capture_output=True, text=True, check=True
    )
    return int(done.stdout.strip().splitlines()[-1])


def run(repeats: int = 3, shape: tuple[int, int, int] = SHAPE) -> dict:
    """The whole comparison, about ten minutes at three repeats on a quiet machine."""
    practice, practice_truth = phantom(SMALL, seed=1)
    values = {name: tuned(name, practice, practice_truth) for name in PATHS}  # compiles, too
    affinities, truth = phantom(shape)
    voxels = truth.size / 1e6

    def path(name: str) -> Callable[[], np.ndarray]:
        return lambda: PATHS[name](affinities, values[name])

    quality = {name: scores(truth, path(name)()) for name in PATHS}
    mine, with_elf = harness.alternate(path("ours"), path("elf"), repeats)
    mine_again, with_waterz = harness.alternate(path("ours"), path("waterz"), repeats)
    mine_then, on_ours = harness.alternate(path("ours"), path("waterz on our fragments"), repeats)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "affinities.npy")
        np.save(file, affinities.volume.data)
        peaks = {name: peak_bytes(name, file, values[name]) for name in PATHS}
    seconds = {
        "ours": mine + mine_again + mine_then,
        "elf": with_elf,
        "waterz": with_waterz,
        "waterz on our fragments": on_ours,
    }
    paths = {
        name: {
            "mvox_per_s": float(f"{voxels / np.median(seconds[name]):.4g}"),
            "value": values[name],
            "peak_bytes_per_voxel": round(peaks[name] / truth.size, 2),
            **quality[name],
        }
        for name in PATHS
    }
    kind = "waterz.agglomerate"
    return harness.result(
        "neurons",
        "elf simple_multicut_workflow",
        version("python-elf"),
        mine,
        with_elf,
        "s",
        shape=list(shape),
        threads=THREADS,
        paths=paths,
        waterz=harness.result("waterz", kind, version("waterz"), mine_again, with_waterz, "s"),
        waterz_on_our_fragments=harness.result(
            "waterz on our fragments", kind, version("waterz"), mine_then, on_ours, "s"
        ),
    )


if __name__ == "__main__":
    harness.main(run, __doc__)
