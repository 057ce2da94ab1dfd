"""What the layouts share."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Dataset, LabelMap, OutputError, Volume
from brodmann.core.files import written_beside
from brodmann.datasets.folder import IN_MEMORY, whole_numbers
from brodmann.io import read_volume, with_spacing

MAX_JSON_BYTES = 2**30


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("the file is longer than 1 GiB")
        given = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(given, dict):
            raise ValueError("an object is expected")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("cannot read this JSON file", file, str(error)[:200]) from error
    return given


def inside(root: Path, name: str) -> Path:
    """A file below `root` by the name that some table gives it; a way out is refused."""
    file = (root / name).resolve()
    if not file.is_relative_to(root.resolve()):
        raise DataError("a file name leads out of the dataset", root, repr(name))
    return file


def labels_on(file: Path, image: Volume) -> Volume:
    """A label map of whole numbers on the image's grid."""
    labels = read_volume(file, spacing="unit", axes=image.spatial_axes)
    labels = with_spacing(labels, image.spacing)
    if labels.data.size <= IN_MEMORY:
        return labels.like(whole_numbers(labels.numpy(), file))
    return labels


def write_table(label_map: LabelMap | None, folder: Path) -> None:
    """labels.csv beside a layout that cannot say all of it: ids, tree and colours."""
    if label_map is not None:
        with written_beside(folder / "labels.csv") as beside:
            label_map.to_csv(beside)


def read_table(folder: Path) -> LabelMap | None:
    """The labels.csv that `write_table` left, if there is one."""
    file = folder / "labels.csv"
    return LabelMap.from_csv(file) if file.exists() else None


def fresh(path: Path, marks: Sequence[str]) -> Path:
    """A folder to write into; refused if another dataset is there."""
    from brodmann.core.files import make_folder

    path = make_folder(Path(path))
    for mark in marks:
        if (path / mark).exists():
            raise OutputError(
                "another dataset is in the way",
                path / mark,
                fix="remove it or choose another place",
            )
    return path


def need_labels(dataset: Dataset, layout: str) -> LabelMap:
    """The label map of a dataset, for layouts that have none without it."""
    if dataset.label_map is None:
        raise DataError(
            f"the {layout} layout needs a table of labels", dataset.name, fix="write labels.csv"
        )
    return dataset.label_map


def color_of(position: int) -> str:
    """A colour for the nth label of a layout that has none, unlike those before it.

    >>> color_of(0), color_of(1)
    ('D95757', '57D97D')
    """
    # Turning by the golden angle keeps neighbours in the list far apart in hue.
    hue = position * 0.381966 % 1
    rgb = colorsys.hsv_to_rgb(hue, 0.6, 0.85)
    return "".join(f"{round(part * 255):02X}" for part in rgb)


def lookup(array: np.ndarray, table: dict[int, int], where: str) -> np.ndarray:
    """Values replaced by a table; one that is not in it is named in a DataError."""
    present, inverse = np.unique(array, return_inverse=True)
    unknown = [int(value) for value in present if int(value) not in table]
    if unknown:
        raise DataError(
            "label id missing from the label table", where, unknown[:8], "add it to the table"
        )
    lut = np.array([table[int(value)] for value in present], np.int64)
    return lut[inverse].reshape(array.shape)
