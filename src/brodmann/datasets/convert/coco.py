"""COCO: polygons and run-length masks in JSON, read and written as label images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import BACKGROUND, DataError, Dataset, Label, LabelMap, Sample, Volume
from brodmann.core.files import write_json
from brodmann.core.labels import unique_inverse
from brodmann.datasets.convert.parts import (
    color_of,
    fresh,
    inside,
    need_labels,
    read_object,
    read_table,
    write_table,
)
from brodmann.datasets.folder import smallest
from brodmann.io import read_volume, stem_of, write_volume


def read_coco(path: str | Path, spacing: tuple[float, ...] | None = None) -> Dataset:
    """COCO annotations as a Dataset of label images: the category of each pixel.

    Reads NAME.json or annotations/*.json, with images in images/ or beside. Several JSON
    files are splits, named by what follows the last "_" or "-" ("instances_train.json").
    Where annotations overlap the smaller one wins. A category named "ignore" sets the
    ignore id. Should a category have id 0, all ids are moved up by one.

    Parameters
    ----------
    path : str or Path
        The folder, or one JSON file.
    spacing : tuple of float, optional
        Micrometres (y, x) where neither image nor annotation says ("spacing_um" in the
        image's entry, as `write_coco` writes it).

    Raises
    ------
    DataError
        If a file is missing or damaged, or a mask is a compressed string.
    """
    path = Path(path)
    root = path if path.is_dir() else path.parent
    files = coco_files(path)
    if not files:
        raise DataError("no COCO annotations", path, fix="expected annotations/*.json")
    entries: dict[str, tuple[dict, list[dict]]] = {}
    splits: dict[str, list[str]] = {}
    categories: dict[int, str] = {}
    info: dict[str, str] = {}
    for file in files:
        given = read_object(file)
        if isinstance(given.get("info"), dict):
            info = {str(key): str(value) for key, value in given["info"].items()}
        try:
            marks: dict[Any, list[dict]] = {image["id"]: [] for image in given["images"]}
            for mark in given.get("annotations", ()):
                marks[mark["image_id"]].append(mark)
            for image in given["images"]:
                name = stem_of(Path(str(image["file_name"])).name)
                if name in entries:
                    raise DataError("two images of one name", file, name)
                entries[name] = (image, marks[image["id"]])
                splits.setdefault(_split(file), []).append(name)
            categories |= {int(c["id"]): str(c["name"]) for c in given["categories"]}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "this is no COCO file", file, f"{type(error).__name__} {error}"
            ) from error
    shift = int(min(categories, default=1) < 1)
    ignore = next((i + shift for i, name in categories.items() if name.lower() == "ignore"), None)
    found = LabelMap(
        [
            Label(i + shift, n, n, None, color_of(at))
            for at, (i, n) in enumerate(sorted(categories.items()))
            if i + shift != ignore
        ],
        ignore=ignore,
    )
    table = read_table(root)
    label_map = table if table is not None and set(found.classes) <= set(table.classes) else found
    return Dataset(
        info.get("name") or root.resolve().name,
        sorted(entries),
        _Loader(root, entries, shift, spacing),
        label_map,
        {name: str(image["subject"]) for name, (image, _) in entries.items() if "subject" in image},
        {k: v for k, v in splits.items() if k != "all"},
        info.get("licence", ""),
        info.get("citation", ""),
        info.get("description", ""),
    )


def coco_files(path: Path) -> list[Path]:
    """The JSON files of a COCO dataset: the one given, annotations/*.json, or *.json."""
    if path.is_file():
        return [path]
    return sorted((path / "annotations").glob("*.json")) or sorted(path.glob("*.json"))


def _split(file: Path) -> str:
    word = file.stem.replace("-", "_").rpartition("_")
    return word[2] if word[0] else "all"


@dataclass(frozen=True)
class _Loader:
    root: Path
    entries: dict[str, tuple[dict, list[dict]]]
    shift: int
    spacing: tuple[float, ...] | None

    def __call__(self, name: str) -> Sample:
        entry, marks = self.entries[name]
        file_name = str(entry["file_name"])
        places = [inside(self.root / folder, file_name) for folder in ("images", ".")]
        file = next((place for place in places if place.exists()), places[0])
        spacing = entry.get("spacing_um") or self.spacing
        image = read_volume(file, spacing=spacing)
        if image.ndim != 2:
            raise DataError("COCO annotates sections, not volumes", file, image.axes)
        shape = image.spatial_shape
        labels = np.zeros(shape, np.int64)
        masks = [(mask_of(mark, shape, file_name), mark) for mark in marks]
        # Stable: of equals the later one is on top.
        for mask, mark in sorted(masks, key=lambda pair: -int(np.count_nonzero(pair[0]))):
            labels[mask] = int(mark["category_id"]) + self.shift
        return Sample(name, image, smallest(Volume(labels, "yx", image.spacing)))


def mask_of(mark: dict, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The boolean mask (height, width) of one annotation: polygons or uncompressed RLE.

    COCO coordinates put the centre of the first pixel at (0.5, 0.5).

    >>> mask_of({"segmentation": {"counts": [1, 2, 3], "size": [2, 3]}}, (2, 3), "").tolist()
    [[False, True, False], [True, False, False]]
    """
    from skimage.draw import polygon

    segments = mark.get("segmentation")
    mask = np.zeros(shape, bool)
    if isinstance(segments, dict):
        counts, size = segments.get("counts"), tuple(segments.get("size", ()))
        if not isinstance(counts, list):
            raise DataError(
                "compressed run-length masks cannot be read",
                where,
                fix="write them uncompressed (counts as a list) or as polygons",
            )
        if size != tuple(shape) or sum(counts) != mask.size or min(counts, default=0) < 0:
            raise DataError("a run-length mask does not fit its image", where, f"{size}, {shape}")
        values = np.arange(len(counts)) % 2 == 1
        return np.repeat(values, counts).reshape(shape, order="F")
    for segment in segments or ():
        if len(segment) < 6 or len(segment) % 2:
            raise DataError(
                "a polygon needs three points or more", where, f"{len(segment)} numbers"
            )
        at = np.asarray(segment, float).reshape(-1, 2) - 0.5
        rows, columns = polygon(at[:, 1], at[:, 0], shape)
        mask[rows, columns] = True
    return mask


def run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of runs of False, True, False, ... down the columns, as COCO counts them.

    >>> run_lengths(np.array([[False, True, False], [True, False, False]]))
    [1, 2, 3]
    """
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff([0, *changes, flat.size])
    return ([0] if flat.size and flat[0] else []) + [int(length) for length in lengths]


def write_coco(dataset: Dataset, path: str | Path) -> Path:
    """Write annotations/instances_SPLIT.json, images/ and labels.csv.

    One annotation for each class of an image, as an uncompressed run-length mask, so that
    no pixel moves. Images become PNG where it can hold them, else TIFF. Samples in no
    split go to instances_all.json. Spacing and subject stand in each image's entry.

    Raises
    ------
    DataError
        If the dataset has no label map, or holds volumes.
    """
    tree = need_labels(dataset, "COCO")
    path = fresh(Path(path), ["annotations"])
    (path / "images").mkdir(exist_ok=True)
    names = {id_: tree[id_].name for id_ in tree.classes}
    if tree.ignore is not None:
        names[tree.ignore] = "ignore"
    categories = [{"id": id_, "name": name, "supercategory": ""} for id_, name in names.items()]
    homes = {name: split for split, members in dataset.splits.items() for name in members}
    parts: dict[str, dict[str, list]] = {}
    for number, name in enumerate(dataset.names, start=1):
        sample = dataset[name]
        image = sample.image
        if image.ndim != 2:
            raise DataError("COCO annotates sections, not volumes", name, image.axes)
        plain = image.dtype in ("u1", "u2") and image.num_channels in (1, 3)
        file_name = f"{name}{'.png' if plain else '.tif'}"
        write_volume(path / "images" / file_name, image)
        part = parts.setdefault(homes.get(name, "all"), {"images": [], "annotations": []})
        height, width = image.spatial_shape
        entry = {"id": number, "file_name": file_name, "height": height, "width": width}
        entry |= {"spacing_um": list(image.spacing), "subject": sample.subject}
        part["images"].append(entry)
        if sample.labels is None:
            continue
        ids = sample.labels.numpy()
        tree.to_classes(ids, name)
        for id_ in map(int, unique_inverse(ids)[0]):
            if id_ == BACKGROUND:
                continue
            mask = ids == id_
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            left, top = int(columns[0]), int(rows[0])
            box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
            part["annotations"].append(
                {
                    "id": sum(len(p["annotations"]) for p in parts.values()) + 1,
                    "image_id": number,
                    "category_id": id_,
                    "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
                    "area": int(np.count_nonzero(mask)),
                    "bbox": box,
                    "iscrowd": 0,
                }
            )
    write_table(tree, path)
    (path / "annotations").mkdir(exist_ok=True)
    info = {
        "name": dataset.name,
        "description": dataset.description,
        "licence": dataset.licence,
        "citation": dataset.citation,
    }
    for split, part in parts.items():
        table = {"info": info, **part, "categories": categories}
        write_json(path / "annotations" / f"instances_{split}.json", table)
    return path
