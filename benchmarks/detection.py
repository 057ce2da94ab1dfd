"""Detecting cells in a stack of TIFF planes: our fast ConvMixer against cellfinder.

A made-up cleared brain's window of 164 MVox (320 planes of 716 x 716, cFos) of an animal that no
detector saw. Both read the planes from disk, use all cores, and are warm: they have been through
the whole stack before. Ours is `brodmann map`'s detection on two dask workers, done marks
and table included, with the ConvMixer fast of the recipe cells-phantom (trained once into
runs/bench-detection). cellfinder runs in an environment of its own (`make peer`, or
BRODMANN_CELLFINDER=PYTHON), with settings that its script found best on two other animals
(`python -m benchmarks.detection tune` does it again). F1 is by greedy_global at 6 voxels.
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


def run(repeats: int = 3) -> dict:
    """The comparison: some minutes a repeat, and ten for the training before the first."""
    from brodmann.inference.engines import Engine
    from brodmann.metrics.points import score_points
    from brodmann.pipeline.cells import detect, open_brain
    from brodmann.problems.cells import load_detector

    peer = Peer()
    detectors = {kind: load_detector(path) for kind, path in trained().items()}
    cores = len(os.sched_getaffinity(0))
    work = Path(tempfile.mkdtemp())
    try:
        image, truth = window(ANIMAL, ORIGIN, SHAPE)
        planes = write_planes(image, work / "planes")
        with Engine("dask", cores) as engine:
            scheduler = engine.client().scheduler.address

            def ours(kind: str) -> np.ndarray:
                return detect(
                    open_brain(str(planes), spacing=SPACING_UM),
                    detectors[kind],
                    Path(tempfile.mkdtemp(dir=work)),
                    workers=cores,
                    scheduler=scheduler,
                ).coordinates

            points = {kind: ours(kind) for kind in detectors}
            peer(planes, work / "peer.npy")
            mine, log, theirs = [], [], []
            for _ in range(repeats):
                mine.append(harness.seconds(lambda: ours("convmixer-fast")))
                log.append(harness.seconds(lambda: ours("laplacian-of-gaussian")))
                theirs.append(peer(planes, work / "peer.npy"))
        points["cellfinder"] = np.load(work / "peer.npy")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    f1 = {name: round(score_points(found, truth, 6.0).f1, 3) for name, found in points.items()}
    megavoxels = np.prod(SHAPE) / 1e6
    return harness.result(
        "detection",
        "cellfinder",
        peer.version(),
        mine,
        theirs,
        "s",
        f1=f1,
        cells=len(truth),
        megavoxels=round(float(megavoxels), 1),
        megavoxels_per_s={
            "convmixer-fast": round(float(megavoxels / np.median(mine)), 2),
            "laplacian-of-gaussian": round(float(megavoxels / np.median(log)), 2),
            "cellfinder": round(float(megavoxels / np.median(theirs)), 2),
        },
        cores=cores,
    )


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
    else:
        harness.main(run, __doc__)
