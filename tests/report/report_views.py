"""Small made-up runs to report on."""

from __future__ import annotations

import numpy as np

from brodmann.core import Label, LabelMap, Volume, keyed_rng
from brodmann.report import MappedSection, RunView

EVIL = "<script>alert('x')</script>&\"<b>"


def tree(evil: bool = False) -> LabelMap:
    """Two primary regions, three leaves; 9 is ignore."""
    labels = [
        Label(10, "Cerebrum", "CH", None, "B0FFB8"),
        Label(11, "Brain stem", "BS", None, "FF7080"),
        Label(1, EVIL if evil else "Isocortex", EVIL if evil else "CTX", 10, "70FF71"),
        Label(2, "Hippocampal formation", "HPF", 10, "7ED04B"),
        Label(3, "Thalamus", "TH", 11, "FF90A0"),
    ]
    return LabelMap(labels, ignore=9)


def section(
    index: int,
    shape: tuple[int, ...] = (40, 60),
    *,
    channels: int = 2,
    truth: bool = True,
    confidence: bool = True,
    spacing: float = 50.0,
) -> MappedSection:
    """Bands of regions; the prediction is the truth moved by one or two pixels."""
    rng = keyed_rng(0, "section", index)
    true = np.zeros(shape, np.uint16)
    height, width = shape[-2:]
    true[..., 4:-4, 6 : width // 3] = 1
    true[..., 4:-4, width // 3 : width // 2] = 2
    true[..., height // 2 : -4, width // 2 : -6] = 3
    found = np.roll(true, 1 + index % 2, axis=-1)
    true[..., :2, :5] = 9
    grid = (spacing,) * len(shape)
    axes = "yx" if len(shape) == 2 else "zyx"
    image = rng.integers(0, 4000, (channels, *shape), np.uint16) + 500 * found.astype(np.uint16)
    sure = rng.integers(100, 256, shape, np.uint8)
    return MappedSection(
        f"section {index}",
        f"mouse {index // 2}",
        Volume(image, "c" + axes, grid),
        Volume(found, axes, grid),
        Volume(true, axes, grid) if truth else None,
        Volume(sure, axes, grid) if confidence else None,
    )


def scores(names: list[str]) -> dict:
    """Numbers of the score stage's shape, one class with NaN."""
    rows = [
        {"id": 1, "acronym": "CTX", "name": "Isocortex", "dice": 0.91, "iou": 0.83},
        {"id": 2, "acronym": "HPF", "name": "Hippocampal formation", "dice": 0.72, "iou": 0.56},
        {"id": 3, "acronym": "TH", "name": "Thalamus", "dice": float("nan"), "iou": None},
    ]
    extra = {"precision": 0.8, "recall": 0.7, "truth_pixels": 90, "pred_pixels": 95}
    pooled = {
        "mean_dice": 0.815,
        "mean_iou": 0.695,
        "mean_f1": 0.815,
        "mean_precision": 0.8,
        "mean_recall": 0.7,
        "per_class": [row | extra for row in rows],
    }
    primary = {"mean_dice": 0.9, "per_class": [{"id": 10, "dice": 0.93, "iou": 0.87} | extra]}
    per_image = [{"name": n, "mean_dice": 0.9 - 0.01 * i} for i, n in enumerate(names)]
    surface = [{"id": 1, "hd95_um": 75.0, "assd_um": 20.0, "nsd": 0.9}]
    return {"pooled": pooled, "per_image": per_image, "primary": primary, "surface": surface}


def run_view(count: int = 2, **changes) -> RunView:
    """A whole run; `changes` replace fields."""
    sections = [section(i) for i in range(count)]
    values = {
        "title": "A made-up brain",
        "description": "Bands that a net found again.",
        "command": "brodmann run demo --out <folder>",
        "label_map": tree(),
        "sections": sections,
        "scores": scores([one.name for one in sections]),
        "confusions": [
            {"truth": "CTX", "prediction": "HPF", "pixels": 120, "share": 0.12},
            {"truth": "HPF", "prediction": "TH", "pixels": 12, "share": 0.002},
        ],
        "baselines": {"copy": {"mean_dice": 0.53, "mean_iou": 0.4}},
        "curve": [
            {"step": i, "loss": 2 / (i + 1), "lr": 0.01, "seconds": i}
            | ({"val_dice": 0.5 + i / 100} if i % 10 == 9 else {})
            for i in range(40)
        ],
        "facts": {"licence": "CC0", "version": "0.1.0"},
        "notes": ["One brain: this measures interpolation."],
    }
    return RunView(**(values | changes))
