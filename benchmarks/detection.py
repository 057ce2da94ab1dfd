"""Detecting cells in a stack of TIFF planes: our fast ConvMixer against cellfinder.

A made-up cleared brain's window of 164 MVox (320 planes of 716 x 716, cFos) of an animal that no
detector saw. Both read the planes from disk, use all cores, and are warm: they have been through
the whole stack before. Ours is `brodmann map`'s detection on two dask workers, done marks
and table included, with the ConvMixer fast of the recipe cells-phantom (trained once into
runs/bench-detection). cellfinder runs in an environment of its own (`make peer`, or
BRODMANN_CELLFINDER=PYTHON), with settings that its script found best on two other animals
(`python -m benchmarks.detection tune` does it again). F1 is by greedy_global at 6 voxels.
`python -m benchmarks.detection nets RUN ...` measures any detectors so, those of seed 0 and fold 0 of
runs of recipes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import harness

ROOT = Path(__file__).resolve().parents[1]
PEER = Path(__file__).with_name("cellfinder_peer.py")
SPACING_UM = (4.0, 1.8, 1.8)
ORIGIN, SHAPE = (700, 2600, 1200), (320, 716, 716)
ANIMAL, TUNING_ANIMALS = 11, (21, 22)
SETTINGS = {
    "soma_diameter": 6,
    "ball_xy_size": 6,
    "ball_z_size": 10,
    "ball_overlap_fraction": 0.6,
    "log_sigma_size": 0.2,
    "n_sds_above_mean_thresh": 3,
    "soma_spread_factor": 2,
    "tiled_thresh_tile_size": 5,
    "n_sds_above_mean_tiled_thresh": 2,
}
"""cellfinder's, found by `tune`: F1 0.795 on the animals that it was sought on."""


def window(animal: int, origin: tuple[int, ...], shape: tuple[int, ...]):
    """A part of a made-up brain: uint16 (z, y, x), and (n, 3) centres within it."""
    from brodmann.datasets.phantoms.lightsheet import LightSheet

    brain = LightSheet((1750, 7222, 6111), SPACING_UM, animal)
    place = tuple(slice(o, o + n) for o, n in zip(origin, shape))
    image = np.concatenate(
        [
            brain.block("cFos", (slice(z, min(z + 32, place[0].stop)), *place[1:]))
            for z in range(place[0].start, place[0].stop, 32)
        ]
    )
    return image, brain.points("cFos", place).coordinates - np.array(origin)


def write_planes(image: np.ndarray, folder: Path) -> Path:
    """One TIFF a plane."""
    import tifffile

    folder.mkdir(parents=True)
    for number, plane in enumerate(image):
        tifffile.imwrite(folder / f"plane_{number:04d}.tif", plane)
    return folder


def peer_python() -> str:
    """The Python that has cellfinder."""
    made = ROOT / ".venv-cellfinder" / "bin" / "python"
    python = os.environ.get("BRODMANN_CELLFINDER", str(made))
    if shutil.which(python) is None:
        raise SystemExit(
            f"no environment with cellfinder at {python}: run `make peer`, or set "
            "BRODMANN_CELLFINDER to its Python"
        )
    return python


class Peer:
    """cellfinder in its process, kept warm."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [peer_python(), str(PEER), "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, planes: Path, points: Path) -> float:
        """Seconds of a detection, reading included."""
        asked = {"planes": str(planes), "points": str(points), "settings": SETTINGS}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("cellfinder ended without an answer")
        return json.loads(answer)["seconds"]

    def version(self) -> str:
        """Of cellfinder."""
        ask = "from importlib.metadata import version; print(version('cellfinder'))"
        return subprocess.check_output([peer_python(), "-c", ask], text=True).strip()


def trained() -> dict[str, Path]:
    """The folders of detectors of the recipe, trained once."""
    from brodmann.pipeline.cells.study import load_cell_recipe, run_cells

    folder = ROOT / "runs" / "bench-detection"
    run_cells(load_cell_recipe("cells-phantom"), folder)
    kinds = ("convmixer-fast", "laplacian-of-gaussian")
    return {kind: folder / kind / "seed0" / "fold0" / "detector" for kind in kinds}


class Bench:
    """The stack on disk and warm workers, while the `with` lasts."""

    def __enter__(self) -> Bench:
        from brodmann.inference.engines import Engine

        self.work = Path(tempfile.mkdtemp())
        image, self.truth = window(ANIMAL, ORIGIN, SHAPE)
        self.planes = write_planes(image, self.work / "planes")
        self.cores = len(os.sched_getaffinity(0))
        self.engine = Engine("dask", self.cores)
        self.engine.client()
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.__exit__(*error)
        shutil.rmtree(self.work, ignore_errors=True)

    def detect(self, detector) -> np.ndarray:
        """(n, 3) cells of the stack."""
        from brodmann.pipeline.cells import detect, open_brain

        brain = open_brain(str(self.planes), spacing=SPACING_UM)
        out = Path(tempfile.mkdtemp(dir=self.work))
        return detect(brain, detector, out, engine=self.engine).coordinates

    def f1(self, cells: np.ndarray) -> float:
        """By greedy_global at 6 voxels."""
        from brodmann.metrics.points import score_points

        return round(score_points(cells, self.truth, 6.0).f1, 3)


def per_second(seconds: list[float]) -> float:
    """MVox/s of the median."""
    return round(float(np.prod(SHAPE) / 1e6 / np.median(seconds)), 2)


def run(repeats: int = 3) -> dict:
    """The comparison: some minutes a repeat, and ten for the training before the first."""
    from brodmann.problems.cells import load_detector

    peer = Peer()
    fast, log = (load_detector(path) for path in trained().values())
    with Bench() as bench:
        theirs_at = bench.work / "peer.npy"
        f1 = {each.name: bench.f1(bench.detect(each)) for each in (fast, log)}
        peer(bench.planes, theirs_at)
        f1["cellfinder"] = bench.f1(np.load(theirs_at))
        mine, simple, theirs = [], [], []
        for _ in range(repeats):
            mine.append(harness.seconds(lambda: bench.detect(fast)))
            simple.append(harness.seconds(lambda: bench.detect(log)))
            theirs.append(peer(bench.planes, theirs_at))
        return harness.result(
            "detection",
            "cellfinder",
            peer.version(),
            mine,
            theirs,
            "s",
            f1=f1,
            cells=len(bench.truth),
            megavoxels=round(float(np.prod(SHAPE) / 1e6), 1),
            megavoxels_per_s={
                fast.name: per_second(mine),
                log.name: per_second(simple),
                "cellfinder": per_second(theirs),
            },
            cores=bench.cores,
        )


def nets(folders: list[str], repeats: int = 4) -> None:
    """Print F1 and MVox/s, the median and the best, of each detector of some runs."""
    from brodmann.problems.cells import load_detector

    paths = [
        path for folder in folders for path in sorted(Path(folder).glob("*/seed0/fold0/detector"))
    ]
    if not paths:
        raise SystemExit(f"no */seed0/fold0/detector in {' '.join(folders) or 'no folder'}")
    print("| detector | F1 here | MVox/s | best |\n|---|---|---|---|", flush=True)
    with Bench() as bench:
        for detector in map(load_detector, paths):
            f1 = bench.f1(bench.detect(detector))
            took = [harness.seconds(lambda d=detector: bench.detect(d)) for _ in range(repeats)]
            best = per_second([min(took)])
            print(f"| {detector.name} | {f1} | {per_second(took)} | {best} |", flush=True)


def tune() -> None:
    """Search cellfinder's settings on two animals that neither train nor are scored."""
    with tempfile.TemporaryDirectory() as work:
        files = []
        for animal in TUNING_ANIMALS:
            image, cells = window(animal, (740, 2800, 1500), (80, 360, 360))
            files.append(str(Path(work) / f"{animal}.npz"))
            np.savez(files[-1], image=image, cells=cells)
        subprocess.run([peer_python(), str(PEER), "tune", *files], check=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["tune"]:
        tune()
    elif sys.argv[1:2] == ["nets"]:
        nets(sys.argv[2:])
    else:
        harness.main(run, __doc__)
