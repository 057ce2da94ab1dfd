"""Cases: samples laid out on disk so that a patch costs one small read.

A case is a folder with `image.npy` (c, *spatial, as recorded), `labels.npy` (class indices,
int16), `locations.npy` (flat positions of foreground pixels, class after class) and
`case.json`. All arrays are memory-mapped; nothing is unpickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, LabelMap, Sample, keyed_rng
from brodmann.core.files import write_json
from brodmann.preprocess import Normalisation, Statistics, image_channels
from brodmann.preprocess.resample import at_spacing, nearest

LOCATIONS_PER_CLASS = 10_000
"""At most this many positions of a class are kept for one image, drawn without replacement."""


@dataclass(frozen=True)
class Case:
    """One prepared training image."""

    folder: Path
    name: str
    statistics: Statistics
    image_channels: int
    """Channels that are intensities; the others are priors and only move."""
    classes: tuple[int, ...]
    offsets: tuple[int, ...]

    @cached_property
    def image(self) -> np.ndarray:
        return np.load(self.folder / "image.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def labels(self) -> np.ndarray:
        return np.load(self.folder / "labels.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def locations(self) -> np.ndarray:
        return np.load(self.folder / "locations.npy", mmap_mode="r", allow_pickle=False)

    def locations_of(self, class_: int) -> np.ndarray:
        """Flat positions of one class that this image holds."""
        i = self.classes.index(class_)
        return self.locations[self.offsets[i] : self.offsets[i + 1]]

    @classmethod
    def open(cls, folder: Path) -> Case:
        facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        return cls(
            folder,
            facts["name"],
            Statistics(tuple(facts["mean"]), tuple(facts["std"])),
            facts["image_channels"],
            tuple(facts["classes"]),
            tuple(facts["offsets"]),
        )


def class_locations(
    labels: np.ndarray, num_classes: int, seed: int, name: str
) -> tuple[np.ndarray, list[int], list[int]]:
    """Positions of foreground pixels, grouped by class, in one stable sort.

    Returns
    -------
    locations : ndarray of int64
        Flat positions, class after class.
    classes : list of int
        The foreground classes present.
    offsets : list of int
        Where each class begins in `locations`, and the end.
    """
    flat = labels.reshape(-1)
    foreground = np.flatnonzero(flat > 0)
    values = flat[foreground]
    order = np.argsort(values, kind="stable")  # radix for int16: linear
    counts = np.bincount(values, minlength=num_classes)
    starts = np.concatenate([[0], np.cumsum(counts)])
    parts, classes, offsets = [], [], [0]
    for class_ in np.flatnonzero(counts):
        of_class = order[starts[class_] : starts[class_ + 1]]
        if len(of_class) > LOCATIONS_PER_CLASS:
            rng = keyed_rng(seed, "locations", name, int(class_))
            of_class = of_class[
                np.sort(rng.choice(len(of_class), LOCATIONS_PER_CLASS, replace=False))
            ]
        parts.append(foreground[of_class])
        classes.append(int(class_))
        offsets.append(offsets[-1] + len(of_class))
    locations = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return locations.astype(np.int64), classes, offsets


def prepare_case(
    sample: Sample,
    label_map: LabelMap,
    normalisation: Normalisation,
    seed: int,
    folder: Path,
    spacing: Sequence[float],
) -> Case:
    """Write one case at a spacing in um; without `case.json`, which comes last, it is none."""
    if sample.labels is None:
        raise DataError("a training sample has no labels", sample.name)
    statistics = normalisation.of(sample.image, sample.name)
    image = at_spacing(sample.image, spacing)
    labels = label_map.to_classes(sample.labels.numpy(), sample.name)
    if image is not sample.image:
        labels = nearest(labels, image.spatial_shape)
    locations, classes, offsets = class_locations(labels, label_map.num_classes, seed, sample.name)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", image.read(), allow_pickle=False)
    np.save(folder / "labels.npy", labels, allow_pickle=False)
    np.save(folder / "locations.npy", locations, allow_pickle=False)
    write_json(
        folder / "case.json",
        {
            "name": sample.name,
            "mean": statistics.mean,
            "std": statistics.std,
            "image_channels": image_channels(sample.image.channels),
            "classes": classes,
            "offsets": offsets,
        },
    )
    return Case.open(folder)


def prepare_cases(
    dataset: Dataset,
    normalisation: Normalisation,
    seed: int,
    folder: Path,
    spacing: Sequence[float] | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[Case]:
    """Prepare every sample of a dataset; those already there are kept.

    All are brought to one spacing (um): the first sample's if none is given. `advance` is
    called with (cases done, cases).

    Raises
    ------
    DataError
        If nothing is annotated in any of them.
    """
    cases = []
    if spacing is None and len(dataset):
        spacing = dataset[0].image.spacing
    for index, name in enumerate(dataset.names):
        target = folder / f"{index:05d}"
        if (target / "case.json").exists():
            cases.append(Case.open(target))
        else:
            cases.append(
                prepare_case(dataset[name], dataset.label_map, normalisation, seed, target, spacing)
            )
        advance(index + 1, len(dataset))
    if not cases:
        raise DataError("no training samples", dataset.name, fix="check the splits in dataset.yaml")
    if not any(case.classes for case in cases):
        raise DataError("no training sample holds any labelled region", dataset.name)
    return cases
