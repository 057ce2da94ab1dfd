"""Peak memory of mapping one whole section with 119 classes: strips against all logits.

Ours is the peak resident memory of a process that maps a phantom section of 2 x 6383 x 12531
pixels, read from a compressed TIFF, with a small plain U-Net and 119 classes into zarr, with
confidence: `Semantic.assemble`, which `brodmann predict` calls. And once more at twice the
height, stopped after STOP rows of tiles: the sums have their full size from the first row of
tiles on, and nothing is kept of rows that are done. (STOP = 18, past the middle, had its peak
of 1.45 GB within the first five rows.) Theirs is MONAI's
`sliding_window_inference` with the same net, which like nnU-Net holds the logits of the whole
section: measured on a section of a quarter the height and width, and computed at full size
(fixed part + what grows with the area). `cpu_seconds` is that of ours.
"""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import process_time

import numpy as np

from benchmarks import harness
from brodmann.inference import tile_starts

SHAPE = (6383, 12531)
PATCH = (768, 1536)
STEP = 0.5
FEATURES = (8, 16, 32, 64, 64)
STRIDES = ((1, 1), (2, 2), (2, 2), (2, 2), (2, 2))
CLASSES = 119
CHANNELS = 2
THREADS = 1
"""Two that wait for each other on a busy machine take several times as long."""
STOP = 5
"""Rows of tiles of the section of double height, of 33 that it has."""


class Enough(Exception):
    """Raised to stop a mapping."""


def small_net(classes: int = CLASSES):
    """A plain U-Net of five stages, seeded."""
    import torch

    from brodmann.nets.unet import plain_unet

    torch.manual_seed(0)
    return plain_unet(CHANNELS, classes, FEATURES, STRIDES, deep_supervision=False).eval()


def write_section(path: Path, shape: tuple[int, int]) -> None:
    """A phantom section as TIFF."""
    from brodmann.datasets.phantoms import phantom_section
    from brodmann.io import write_volume

    write_volume(path, phantom_section(shape, channels=CHANNELS).image)


def measure_ours(folder: Path, stop: int) -> None:
    from brodmann.core import Label, LabelMap
    from brodmann.io import read_volume
    from brodmann.preprocess import Normalisation
    from brodmann.problems.semantic.plan import Plan
    from brodmann.problems.semantic.problem import Semantic

    image = read_volume(folder / "image.tif")
    tree = LabelMap([Label(i, f"region {i}", f"R{i}") for i in range(1, CLASSES)])
    plan = Plan(PATCH, 2, FEATURES, STRIDES, ((3, 3),) * len(FEATURES), image.spacing)
    across = len(tile_starts(image.spatial_shape[1], PATCH[1], STEP))

    def report(done: int, total: int) -> None:
        if stop and done >= stop * across:
            raise Enough

    with contextlib.suppress(Enough):
        Semantic(tree, plan).assemble(
            [small_net()], image, Normalisation(), folder / "out", step=STEP, report=report
        )


def measure_theirs(folder: Path) -> None:
    import torch
    from monai.inferers import sliding_window_inference

    from brodmann.io import read_volume
    from brodmann.preprocess import Normalisation

    volume = read_volume(folder / "image.tif")
    image = Normalisation.apply(volume.numpy(), Normalisation().of(volume))
    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(image[None]), PATCH, 1, small_net(), 1 - STEP, "gaussian", 0.125
        )
        np.save(folder / "out.npy", logits[0].argmax(0).to(torch.uint8).numpy())


def measure(who: str, folder: Path, stop: int) -> None:
    """Map in this process and print its peak resident memory in bytes and its CPU seconds."""
    import torch

    torch.set_num_threads(THREADS)
    measure_ours(folder, stop) if who == "ours" else measure_theirs(folder)
    print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, process_time()]))


def peak(who: str, shape: tuple[int, int], stop: int = 0) -> tuple[float, float]:
    """Peak resident memory (10^9 bytes) and CPU seconds of one mapping in its own process."""
    code = "import sys, pathlib; from benchmarks import strips; who, folder, *rest = sys.argv[1:]; "
    with tempfile.TemporaryDirectory() as folder:
        for work in (
            "strips.write_section(pathlib.Path(folder) / 'image.tif', tuple(map(int, rest[:2])))",
            "strips.measure(who, pathlib.Path(folder), int(rest[2]))",
        ):
            done = subprocess.run(
                [sys.executable, "-c", code + work, who, folder, *map(str, (*shape, stop))],
                cwd=Path(__file__).parents[1],
                stdout=subprocess.PIPE,
                check=True,
            )
        memory, seconds = json.loads(done.stdout)
        return memory / 1e9, seconds


def agreement() -> float:
    """Share of pixels where strips and MONAI agree, on a section where their tiles coincide."""
    import torch
    from monai.inferers import sliding_window_inference

    from brodmann.core import Volume, keyed_rng
    from brodmann.inference import Grid, predict_strips
    from brodmann.problems.semantic.problem import forward

    patch, shape = (96, 192), (96 * 4, 192 * 3)
    image = keyed_rng(0, "strips").normal(size=(CHANNELS, *shape)).astype(np.float32)
    out, net = np.zeros(shape, np.uint8), small_net()
    section = Volume(image, "cyx", (1.0, 1.0))
    predict_strips(forward(net), section, out, patch=patch, num_classes=CLASSES, step=STEP)
    with torch.inference_mode():
        theirs = sliding_window_inference(
            torch.from_numpy(image[None]),
            patch,
            1,
            net,
            overlap=1 - STEP,
            roi_weight_map=Grid(shape, patch).weight(),
        )
    return float((theirs[0].argmax(0).numpy() == out).mean())


def run(repeats: int = 1) -> dict:
    """The whole comparison: about 9 minutes of CPU time, two thirds of it one full section."""
    quarter = (-(-SHAPE[0] // 4), -(-SHAPE[1] // 4))
    area = {shape: shape[0] * shape[1] for shape in (SHAPE, quarter, PATCH)}
    ours, taller, small, theirs, cpu = [], [], [], [], []
    for _ in range(repeats):
        for found, value in zip((ours, cpu), peak("ours", SHAPE)):
            found.append(value)
        taller.append(peak("ours", (2 * SHAPE[0], SHAPE[1]), STOP)[0])
        one_tile = peak("theirs", PATCH)[0]
        small.append(peak("theirs", quarter)[0])
        slope = (small[-1] - one_tile) / (area[quarter] - area[PATCH])
        theirs.append(small[-1] + slope * (area[SHAPE] - area[quarter]))
    return harness.result(
        "strips",
        "MONAI sliding_window_inference (all logits)",
        version("monai"),
        ours,
        theirs,
        "GB peak",
        shape=[CHANNELS, *SHAPE],
        classes=CLASSES,
        cpu_seconds=round(min(cpu)),
        ours_double_height=float(f"{max(taller):.4g}"),
        height_ratio=float(f"{max(b / a for a, b in zip(ours, taller)):.4g}"),
        theirs_measured_quarter=float(f"{max(small):.4g}"),
        logits_float32=float(f"{4e-9 * CLASSES * area[SHAPE]:.4g}"),
        agree=agreement(),
    )


if __name__ == "__main__":
    harness.main(run, __doc__, repeats=1)
