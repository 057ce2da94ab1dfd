"""Cases: samples laid out so that a patch costs one small read.

A case on disk is a folder with `image.npy` (c, *spatial, as recorded), `labels.npy` (class
indices, int16), `labels2.npy` where a sample is mixed of two, `locations.npy` (flat positions
of foreground pixels, class after class) and `case.json`. All arrays are memory-mapped while
they are read; nothing is unpickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, LabelMap, Sample, keyed_rng
from brodmann.core.files import write_json
from brodmann.preprocess import Normalisation, Statistics, image_channels
from brodmann.preprocess.resample import at_spacing, nearest

LOCATIONS_PER_CLASS = 10_000
"""At most this many positions of a class are kept for one image, drawn without replacement."""


@dataclass(frozen=True, eq=False)
class Case:
    """One prepared training image, on disk or in memory."""

    name: str
    shape: tuple[int, ...]
    """(c, *spatial)"""
    statistics: Statistics
    image_channels: int
    """Channels that are intensities; the others are priors and only move."""
    classes: tuple[int, ...]
    """Foreground classes in `labels`."""
    offsets: tuple[int, ...]
    """Where each class begins in `locations`, and the end."""
    weight: float | None
    """Share of `labels` where there are second labels, else None."""
    store: Path | Mapping[str, np.ndarray]
    """The folder, or the arrays themselves."""

    @property
    def image(self) -> np.ndarray:
        return self._array("image")

    @property
    def labels(self) -> np.ndarray:
        return self._array("labels")

    @property
    def labels2(self) -> np.ndarray | None:
        return None if self.weight is None else self._array("labels2")

    def locations_of(self, class_: int) -> np.ndarray:
        """Flat positions of one class that this image holds."""
        i = self.classes.index(class_)
        return self._array("locations")[self.offsets[i] : self.offsets[i + 1]]

    def _array(self, part: str) -> np.ndarray:
        if not isinstance(self.store, Path):
            return self.store[part]
        # Mapped anew each time: a map that is kept holds a file open, and there are thousands.
        return np.load(self.store / f"{part}.npy", mmap_mode="r", allow_pickle=False)

    @classmethod
    def of(
        cls,
        sample: Sample,
        label_map: LabelMap,
        normalisation: Normalisation,
        seed: int,
        spacing: Sequence[float],
    ) -> Case:
        """A sample at a spacing in um, in memory."""
        if sample.labels is None:
            raise DataError("a training sample has no labels", sample.name)
        image = at_spacing(sample.image, spacing)
        arrays = {"image": image.read()}
        for part, labels in (("labels", sample.labels), ("labels2", sample.labels2)):
            if labels is not None:
                indices = label_map.to_classes(labels.numpy(), sample.name)
                if image is not sample.image:
                    indices = nearest(indices, image.spatial_shape)
                arrays[part] = indices
        locations, classes, offsets = class_locations(
            arrays["labels"], label_map.num_classes, seed, sample.name
        )
        return cls(
            sample.name,
            arrays["image"].shape,
            normalisation.of(sample.image, sample.name),
            image_channels(sample.image.channels),
            tuple(classes),
            tuple(offsets),
            None if sample.labels2 is None else float(sample.weight),
            {**arrays, "locations": locations},
        )

    def saved(self, folder: Path) -> Case:
        """The same case on disk; without `case.json`, which comes last, it is none."""
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for part in ("image", "labels", "labels2", "locations"):
            if part != "labels2" or self.weight is not None:
                np.save(folder / f"{part}.npy", self._array(part), allow_pickle=False)
        facts = {
            "name": self.name,
            "shape": self.shape,
            **self.statistics.to_dict(),
            "image_channels": self.image_channels,
            "classes": self.classes,
            "offsets": self.offsets,
            "weight": self.weight,
        }
        write_json(folder / "case.json", facts)
        return replace(self, store=folder)

    @classmethod
    def open(cls, folder: Path) -> Case:
        facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        return cls(
            facts["name"],
            tuple(facts["shape"]),
            Statistics.from_dict(facts),
            facts["image_channels"],
            tuple(facts["classes"]),
            tuple(facts["offsets"]),
            facts["weight"],
            folder,
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


def prepare_cases(
    dataset: Dataset,
    normalisation: Normalisation,
    seed: int,
    folder: Path,
    spacing: Sequence[float] | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[Case]:
    """Prepare every sample of a dataset on disk; those already there are kept.

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
            case = Case.of(dataset[name], dataset.label_map, normalisation, seed, spacing)
            cases.append(case.saved(target))
        advance(index + 1, len(dataset))
    if not cases:
        raise DataError("no training samples", dataset.name, fix="check the splits in dataset.yaml")
    if not any(case.classes for case in cases):
        raise DataError("no training sample holds any labelled region", dataset.name)
    return cases
