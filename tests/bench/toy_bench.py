"""A made-up kind of data and a benchmark folder of it, small enough to see through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brodmann.bench.methods import METHODS
from brodmann.bench.tasks import benchmarks
from brodmann.core import Dataset, Label, LabelMap, Sample, Volume
from brodmann.datasets.cubes import as_parts
from brodmann.datasets.registry import DATASETS

NAMES = ("CTX", "STR", "VP", "ZI")
LABELS = LabelMap([Label(1, "Blood vessel", "vessel"), Label(2, "Cell", "cell")], ignore=255)

BENCHMARK = """
name: toy
title: A toy
data:
  name: toy
  version: "1"
  title: Made up
  licence: CC0-1.0
  citation: nobody
  spacing_um: [1.0, 1.0, 1.0]
  axes: zyx
  source: nowhere
splits:
  slices:
    guard_slices: 2
    parts:
      train: [{cubes: [ctx-A, str-A, vp-A, zi-A], z: [0, 10]}]
      validation: [{cubes: [ctx-A, str-A, vp-A, zi-A], z: [12, 14]}]
      test: [{cubes: [ctx-A, str-A, vp-A, zi-A], z: [16, 22]}]
  named: {parts: {train: [left], test: [right]}}
  named-back: {parts: {train: [right], test: [left]}}
"""
TASKS = {
    "roi": """
name: roi
title: Toy regions
answer: category
categories: [CTX, STR, VP, ZI]
data: {kind: toy, task: roi}
main: balanced_accuracy
metrics:
  - {name: balanced_accuracy, aggregation: classes, absent: skip}
  - {name: accuracy, aggregation: samples}
versions:
  v1: {splits: [slices], data: {broken_from: 20}, oracle_data: {broken_from: 99},
       faults: [Slices from 20 on are called CTX.]}
  v2: {splits: [slices]}
""",
    "sides": """
name: sides
title: Toy regions by side
answer: category
categories: [CTX, STR, VP, ZI]
data: {kind: toy, task: roi}
main: balanced_accuracy
metrics: [{name: balanced_accuracy, aggregation: classes, absent: skip}]
versions:
  v1: {splits: [named, named-back]}
""",
    "micro": """
name: micro
title: Toy microstructure
answer: labels
labels: [background, vessel, cell]
data: {kind: toy, task: micro}
main: iou
metrics:
  - {name: iou, aggregation: pooled, absent: skip}
  - {name: f1, aggregation: pooled, absent: skip}
versions:
  v1: {splits: [slices]}
""",
    "measures": """
name: measures
title: Toy attributes
answer: attributes
attributes: [density, distance]
data: {kind: toy, task: measures}
main: r2
metrics: [{name: r2, aggregation: samples, absent: skip}]
versions:
  v1: {splits: [slices], encoder: toy/roi@v2}
""",
}


def toy(parts=None, task="roi", broken_from=99, shade=0):
    """Slices of four cubes; their grey value tells the region. Sides are subjects."""
    boxes = as_parts(parts) if parts else None
    if boxes:
        splits = {
            part: [f"{box.cube}-z{z:04d}" for box in members for z in range(*box.z)]
            for part, members in boxes.items()
        }
        subjects = {n: n.rpartition("-z")[0] for names in splits.values() for n in names}
    else:
        splits = {
            side: [f"{name.lower()}-{side}-z{z:04d}" for name in NAMES for z in range(4)]
            for side in ("left", "right")
        }
        subjects = {n: n.rpartition("-z")[0] for names in splits.values() for n in names}

    def load(name):
        region = name.split("-")[0].upper()
        z = int(name[-4:])
        grey = 40 * NAMES.index(region) + shade + z % 3
        image = Volume(np.full((6, 8), grey, np.uint8), "yx", (1.0, 1.0))
        labels, attributes = None, {}
        if task == "micro":
            ids = np.zeros((6, 8), np.uint8)
            ids[0], ids[1, : 2 + z % 3], ids[5] = 1, 2, 255
            labels = image.like(ids)
        if task == "measures":
            attributes = {"density": z / 10, "distance": float("nan") if z % 5 == 0 else z * 2.0}
        category = "CTX" if z >= broken_from else region
        meta = {"region": region, "cube": name}
        return Sample(name, image, labels, category=category, attributes=attributes, meta=meta)

    names = list(dict.fromkeys(name for members in splits.values() for name in members))
    label_map = LABELS if task == "micro" else None
    return Dataset("toy", names, load, label_map, subjects, splits)


def write_toy(root: Path) -> Path:
    """A folder of benchmarks that holds `toy`."""
    folder = root / "toy"
    folder.mkdir(parents=True)
    (folder / "benchmark.yaml").write_text(BENCHMARK, encoding="utf-8")
    for name, text in TASKS.items():
        (folder / f"task-{name}.yaml").write_text(text, encoding="utf-8")
    return root


class Grey:
    """Learns the mean grey of every region; notes what it is shown."""

    def __init__(self, noise=0):
        self.noise, self.seen = noise, []

    def fit(self, train, validation, *, seed, folder, report):
        self.folder = folder
        grey = {}
        for sample in train:
            grey.setdefault(sample.category, []).append(float(sample.image.numpy().mean()))
        self.grey = {name: sum(v) / len(v) + self.noise for name, v in grey.items()}
        (folder / "kept.txt").write_text("kept", encoding="utf-8")

    def predict(self, sample):
        self.seen.append(sample)
        value = float(sample.image.numpy().mean())
        return min(self.grey, key=lambda name: abs(self.grey[name] - value))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of benchmarks that holds `toy`, whose kind and method are known."""
    monkeypatch.setitem(DATASETS._loaded, "toy", toy)
    monkeypatch.setitem(METHODS._loaded, "grey", Grey)
    return write_toy(tmp_path / "mine")


@pytest.fixture
def bench(folder):
    """The toy benchmark."""
    return benchmarks(folder)["toy"]
