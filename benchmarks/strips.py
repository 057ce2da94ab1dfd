"""Peak memory of predicting one whole section with 119 classes: strips against all logits.

Ours is the peak resident memory of a process that predicts a 2-channel section of
6383 x 12531 pixels, 119 classes, from a memory-mapped file into another, with confidence, and
once more at twice the height. Theirs is MONAI's `sliding_window_inference`, which like nnU-Net
holds the logits of the whole section: measured on a section of a quarter the height and width,
and computed at full size (fixed part + what grows with the area). The net is as small as can
be: memory of activations is the same for both.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks import harness

SHAPE = (6383, 12531)
PATCH = (768, 1536)
CLASSES = 119
CHANNELS = 2
THREADS = 1
"""Two that wait for each other on a busy machine take several times as long."""


def tiny_net(classes: int = CLASSES):
    """A convolution to 8 features and a pointwise one to the classes, seeded.

    The second is a matrix product: as a convolution it would stand in memory twice while
    oneDNN changes its layout.
    """
    import torch

    torch.manual_seed(0)
    stem, head = torch.nn.Conv2d(CHANNELS, 8, 3, padding=1), torch.randn(classes, 8)

    def predict(batch: torch.Tensor) -> torch.Tensor:
        features = torch.relu(stem(batch))
        return torch.matmul(head, features.flatten(2)).unflatten(2, batch.shape[2:])

    return predict


def write_section(path: Path, shape: tuple[int, int]) -> None:
    """A smooth made-up section, uint16 (c, y, x), written in bands."""
    image = np.lib.format.open_memmap(path, "w+", np.uint16, (CHANNELS, *shape))
    x = np.arange(shape[1], dtype=np.float32)
    for first in range(0, shape[0], 512):
        y = np.arange(first, min(first + 512, shape[0]), dtype=np.float32)[:, None]
        for channel in range(CHANNELS):
            wave = np.sin(y / (97 + channel)) + np.cos(x / 131) * np.sin((x + y) / 37)
            image[channel, first : first + 512] = 1000 + 400 * wave
    image.flush()


def prepare(raw: np.ndarray) -> np.ndarray:
    return (raw.astype(np.float32) - 1000) / 300


def measure_ours(folder: Path) -> None:
    from brodmann.core import Volume
    from brodmann.inference import predict_strips

    image = np.load(folder / "image.npy", mmap_mode="r")
    shape = image.shape[1:]
    out = np.lib.format.open_memmap(folder / "out.npy", "w+", np.uint8, shape)
    chance = np.lib.format.open_memmap(folder / "chance.npy", "w+", np.uint8, shape)
    predict_strips(
        tiny_net(),
        Volume(image, "cyx", (1.0, 1.0)),
        out,
        confidence=chance,
        patch=PATCH,
        num_classes=CLASSES,
        prepare=prepare,
    )


def measure_theirs(folder: Path) -> None:
    import torch
    from monai.inferers import sliding_window_inference

    image = torch.from_numpy(prepare(np.load(folder / "image.npy"))[None])
    with torch.inference_mode():
        logits = sliding_window_inference(
            image, PATCH, 1, tiny_net(), overlap=0.5, mode="gaussian", sigma_scale=0.125
        )
        np.save(folder / "out.npy", logits[0].argmax(0).to(torch.uint8).numpy())


def measure(who: str, folder: Path) -> None:
    """Predict in this process and print its peak resident memory in bytes."""
    import torch

    torch.set_num_threads(THREADS)
    {"ours": measure_ours, "theirs": measure_theirs}[who](folder)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def peak_gb(who: str, shape: tuple[int, int]) -> float:
    """Peak resident memory (10^9 bytes) of one prediction in its own process."""
    code = "import sys, pathlib; from benchmarks.strips import measure; "
    code += "measure(sys.argv[1], pathlib.Path(sys.argv[2]))"
    with tempfile.TemporaryDirectory() as folder:
        write_section(Path(folder) / "image.npy", shape)
        done = subprocess.run(
            [sys.executable, "-c", code, who, folder],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            check=True,
        )
        return json.loads(done.stdout) / 1e9


def agreement() -> float:
    """Share of pixels where strips and MONAI agree, on a section where their tiles coincide."""
    import torch
    from monai.inferers import sliding_window_inference

    from brodmann.core import Volume, keyed_rng
    from brodmann.inference import Grid, predict_strips

    patch, shape = (96, 192), (96 * 4, 192 * 3)
    image = keyed_rng(0, "strips").normal(size=(CHANNELS, *shape)).astype(np.float32)
    out = np.zeros(shape, np.uint8)
    net = tiny_net(CLASSES)
    predict_strips(net, Volume(image, "cyx", (1.0, 1.0)), out, patch=patch, num_classes=CLASSES)
    with torch.inference_mode():
        theirs = sliding_window_inference(
            torch.from_numpy(image[None]),
            patch,
            1,
            net,
            overlap=0.5,
            roi_weight_map=Grid(shape, patch).weight(),
        )
    return float((theirs[0].argmax(0).numpy() == out).mean())


def run(repeats: int = 1) -> dict:
    """The whole comparison; half of its time goes to the section of double height."""
    quarter = (-(-SHAPE[0] // 4), -(-SHAPE[1] // 4))
    area = {shape: shape[0] * shape[1] for shape in (SHAPE, quarter, PATCH)}
    ours, taller, small, theirs = [], [], [], []
    for _ in range(repeats):
        ours.append(peak_gb("ours", SHAPE))
        taller.append(peak_gb("ours", (2 * SHAPE[0], SHAPE[1])))
        one_tile = peak_gb("theirs", PATCH)
        small.append(peak_gb("theirs", quarter))
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
        ours_double_height=float(f"{max(taller):.4g}"),
        height_ratio=float(f"{max(b / a for a, b in zip(ours, taller)):.4g}"),
        theirs_measured_quarter=float(f"{max(small):.4g}"),
        logits_float32=float(f"{4e-9 * CLASSES * area[SHAPE]:.4g}"),
        agree=agreement(),
    )


if __name__ == "__main__":
    harness.main(run, __doc__, repeats=1)
