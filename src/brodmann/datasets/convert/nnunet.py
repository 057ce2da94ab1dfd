"""nnU-Net v2 raw folders: dataset.json, imagesTr, labelsTr, imagesTs."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brodmann.core import BACKGROUND, DataError, Dataset, Label, LabelMap, Sample, Volume
from brodmann.core.files import write_json
from brodmann.datasets.convert.parts import (
    color_of,
    fresh,
    labels_on,
    lookup,
    need_labels,
    read_object,
    read_table,
    write_table,
)
from brodmann.datasets.folder import smallest
from brodmann.io import read_volume, stem_of, suffix_of, write_volume

OURS = "brodmann"
"""A key of dataset.json that nnU-Net passes over: splits, subjects, licence, as we had them."""


def read_nnunet(path: str | Path, spacing: tuple[float, ...] | None = None) -> Dataset:
    """An nnU-Net v2 raw folder as a Dataset.

    imagesTr/NAME_0000.ext, NAME_0001.ext, ... are the channels of a sample, labelsTr/NAME.ext
    its labels. imagesTs is the split "test" (labelsTs, if there, holds its labels), the rest
    "train". A label named "ignore" is the ignore id. A labels.csv beside dataset.json with
    the same classes, as `write_nnunet` leaves it, gives ids, tree and colours back.

    Parameters
    ----------
    path : str or Path
    spacing : tuple of float, optional
        Micrometres, where the files have none. A NAME.json beside a 3D TIFF, as nnU-Net
        demands it, is read (as millimetres).

    Raises
    ------
    DataError
        If dataset.json is missing or faulty, or labels are overlapping regions (lists).
    """
    path = Path(path)
    info = read_object(path / "dataset.json")
    named = info.get("channel_names", info.get("modality", {}))
    channels = tuple(str(named[key]) for key in sorted(named, key=int))
    ending = str(info.get("file_ending", "")) or None
    label_map, table = _labels(path, info)
    files: dict[str, dict[int, Path]] = defaultdict(dict)
    splits: dict[str, list[str]] = {}
    for folder, split in (("imagesTr", "train"), ("imagesTs", "test")):
        for file in sorted((path / folder).glob("*")):
            if file.name.startswith(".") or not suffix_of(file):
                continue
            if ending is not None and not file.name.endswith(ending):
                continue
            match = re.fullmatch(r"(.+)_(\d{4})", stem_of(file))
            if match is None:
                raise DataError(
                    "an image name ends in its channel, such as NAME_0000", file, stem_of(file)
                )
            name, channel = match[1], int(match[2])
            files[name][channel] = file
            members = splits.setdefault(split, [])
            if name not in members:
                members.append(name)
    for name, parts in files.items():
        if sorted(parts) != list(range(len(parts))):
            raise DataError("a channel is missing", path, f"{name}: channels {sorted(parts)}")
    ours = info.get(OURS) or {}
    return Dataset(
        str(info.get("name") or path.name),
        sorted(files),
        _Loader(
            path, {n: [p[i] for i in sorted(p)] for n, p in files.items()}, channels, table, spacing
        ),
        label_map,
        ours.get("subjects"),
        ours.get("splits") or splits,
        str(info.get("licence", info.get("license", ""))),
        str(info.get("reference", "")),
        str(info.get("description", "")),
    )


def _labels(path: Path, info: dict) -> tuple[LabelMap, dict[int, int]]:
    """The label map, and the table from values in the files to its ids."""
    named = info.get("labels")
    if not isinstance(named, dict) or not named:
        raise DataError("dataset.json needs labels", path / "dataset.json", named)
    if all(str(key).isdecimal() for key in named):  # v1: {"1": "name"}
        named = {name: int(value) for value, name in named.items()}
    several = [name for name, value in named.items() if isinstance(value, list)]
    if several:
        raise DataError(
            "labels that are lists (overlapping regions) cannot be one label map",
            path / "dataset.json",
            several[:5],
            "give each pixel one label",
        )
    values = {name: int(value) for name, value in named.items()}
    ignore = values.pop("ignore", None)
    classes = {value: name for name, value in sorted(values.items(), key=lambda item: item[1])}
    classes.pop(BACKGROUND, None)
    table = read_table(path)
    if table is not None and table.class_names[1:] == list(classes.values()):
        mapping = {BACKGROUND: BACKGROUND, **dict(zip(classes, table.classes))}
        if ignore is not None and table.ignore is not None:
            mapping[ignore] = table.ignore
        return table, mapping
    label_map = LabelMap(
        [Label(v, n, n, None, color_of(i)) for i, (v, n) in enumerate(classes.items())],
        ignore=ignore,
    )
    return label_map, {value: value for value in label_map.ids_allowed}


@dataclass(frozen=True)
class _Loader:
    path: Path
    files: dict[str, list[Path]]
    channels: tuple[str, ...]
    table: dict[int, int]
    spacing: tuple[float, ...] | None

    def __call__(self, name: str) -> Sample:
        files = self.files[name]
        spacing = self.spacing
        beside = files[0].with_name(f"{name}.json")
        if spacing is None and beside.exists():
            steps = read_object(beside).get("spacing", ())
            spacing = tuple(float(step) * 1000 for step in steps) or None
        parts = [read_volume(file, spacing=spacing) for file in files]
        image = parts[0]
        if len(parts) > 1:
            shapes = {part.shape for part in parts}
            if len(shapes) > 1 or image.axes.startswith("c"):
                raise DataError("the channels of a sample differ in shape", files[0], shapes)
            stack = np.stack([part.numpy() for part in parts])
            names = self.channels if len(self.channels) == len(parts) else ()
            image = Volume(stack, "c" + image.axes, image.spacing, names)
        folder = files[0].parent.name.replace("images", "labels")
        file = self.path / folder / (name + suffix_of(files[0]))
        labels = None
        if file.exists():
            labels = labels_on(file, image)
            labels = labels.like(lookup(labels.numpy(), self.table, str(file)))
            labels = smallest(labels)
        return Sample(name, image, labels)


def write_nnunet(dataset: Dataset, path: str | Path, file_ending: str | None = None) -> Path:
    """Write a Dataset as an nnU-Net v2 raw folder.

    Labels become 0..n in class order and ignore n + 1, as nnU-Net demands. The split "test"
    goes to imagesTs and labelsTs, everything else to imagesTr and labelsTr; samples without
    labels cannot train and are refused there.

    Parameters
    ----------
    dataset : Dataset
        With a label map.
    path : str or Path
        Not a dataset already.
    file_ending : str, optional
        Default .nii.gz for volumes and .tif for sections.
    """
    tree = need_labels(dataset, "nnU-Net")
    path = fresh(Path(path), ["dataset.json"])
    test = set(dataset.splits.get("test", ()))
    ignore = tree.num_classes
    channels: tuple[str, ...] = ("image",)
    trained = 0
    for name in dataset.names:
        sample = dataset[name]
        image = sample.image
        end = file_ending = file_ending or (".nii.gz" if image.ndim == 3 else ".tif")
        part = "Ts" if name in test else "Tr"
        if sample.labels is None and part == "Tr":
            raise DataError(
                "a training sample has no labels", dataset.name, name, "put it into split test"
            )
        for folder in (f"images{part}", f"labels{part}"):
            (path / folder).mkdir(exist_ok=True)
        if sample.labels is not None:
            classes = tree.to_classes(sample.labels.numpy(), name)
            values = np.where(classes < 0, ignore, classes)
            written = sample.labels.like(values.astype(np.uint8 if ignore < 256 else np.uint16))
            write_volume(path / f"labels{part}" / f"{name}{end}", written)
        if image.axes.startswith("c"):
            channels = image.channels
        for i in range(image.num_channels):
            plane = image.like(image.data[i]) if image.axes.startswith("c") else image
            write_volume(path / f"images{part}" / f"{name}_{i:04d}{end}", plane)
        if image.ndim == 3 and end in (".tif", ".tiff"):
            sidecar = {"spacing": [step / 1000 for step in image.spacing]}
            write_json(path / f"images{part}" / f"{name}.json", sidecar)
            if sample.labels is not None:
                write_json(path / f"labels{part}" / f"{name}.json", sidecar)
        trained += part == "Tr"
    write_table(tree, path)
    labels = {"background": 0} | {n: i for i, n in enumerate(tree.class_names) if i}
    if len(labels) != tree.num_classes:
        raise DataError(
            "two classes have one acronym", dataset.name, fix="rename one in labels.csv"
        )
    if tree.ignore is not None:
        labels["ignore"] = ignore
    # Last, so that its presence means that all the rest is there.
    write_json(
        path / "dataset.json",
        {
            "channel_names": {str(i): channel for i, channel in enumerate(channels)},
            "labels": labels,
            "numTraining": trained,
            "file_ending": file_ending or ".nii.gz",
            "name": dataset.name,
            "description": dataset.description,
            "licence": dataset.licence,
            "reference": dataset.citation,
            OURS: {"splits": dataset.splits, "subjects": dataset.subjects},
        },
    )
    return path
