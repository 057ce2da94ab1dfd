"""A dataset as a folder that a person can make by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, OutputError, Sample, Volume
from brodmann.core.files import make_folder, write_json, write_text, written_beside
from brodmann.datasets.layout import Files, Layout, scan
from brodmann.io import read_volume, with_spacing, write_volume
from brodmann.io.formats import KINDS, READ_ONLY
from brodmann.io.points import read_points, write_points

IN_MEMORY = 2**27
"""Images and label maps of at most so many values are read whole, and looked over, when
their sample is; larger ones are read by window."""


def read_folder(path: str | Path) -> Dataset:
    """A dataset folder, lazily: a sample's files are read each time it is asked for.

    ::

        dataset.yaml      all keys optional: name, description, licence, citation,
                          spacing_um: [y, x] or [z, y, x], axes: cyx, channels: [names],
                          subjects: {sample: animal}, splits: {train: [samples], test: ...}
        labels.csv        id,name,acronym,parent,color; a row named "ignore" sets that id
        images/NAME.ext   all channels in one file, or one file for each channel as
                          images/NAME.CHANNEL.ext, CHANNEL from the list in dataset.yaml
        labels/NAME.ext   one id per pixel, on the image's grid
        points/NAME.csv   z,y,x in voxels
        labels2/, meta/   what augmentation adds: a second label map; weight, category,
                          attributes and provenance as JSON

    `spacing_um` overrules what image files say of theirs. Without labels.csv ids stand for
    themselves (instances).

    Raises
    ------
    DataError
        The first fault of the folder as a whole; a sample's own faults (a damaged file, NaN,
        an id missing from labels.csv, another shape) when it is read. `check` lists all.

    Example
    -------
    >>> import tempfile
    >>> make = lambda name: Sample(name, Volume(np.ones((8, 8), np.uint8), "yx", (25, 25)))
    >>> folder = write_folder(Dataset("tiny", ["a"], make), Path(tempfile.mkdtemp()) / "tiny")
    >>> read_folder(folder)["a"].image.spacing
    (25.0, 25.0)
    """
    layout = scan(path)
    for finding in layout.findings:
        if finding.severity == "error":
            where = Path(layout.path) / finding.file
            raise DataError(
                finding.what,
                where,
                finding.found or None,
                finding.fix or "`brodmann data check` lists every fault",
            )
    config = layout.config
    return Dataset(
        config.name,
        list(layout.samples),
        Loader(layout),
        layout.label_map,
        config.subjects,
        config.splits,
        config.licence,
        config.citation,
        config.description,
    )


@dataclass(frozen=True)
class Loader:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    layout: Layout

    def __call__(self, name: str) -> Sample:
        files = self.layout.samples[name]
        image = open_image(self.layout, files)
        if image.data.size <= IN_MEMORY:
            image = image.like(image.numpy())
            if image.dtype.kind == "f" and not np.isfinite(image.data).all():
                bad = int(np.count_nonzero(~np.isfinite(image.data)))
                raise DataError(
                    "the image holds values that are not finite (NaN or infinite)",
                    files.images[0],
                    f"{bad} pixels",
                    "replace them, or leave these pixels out with the ignore id",
                )
        labels = self._labels(files.labels, image)
        labels2 = self._labels(files.labels2, image)
        points = read_points(files.points) if files.points else None
        more = read_meta(files.meta) if files.meta else {}
        return Sample(name, image, labels, labels2, points=points, **more)

    def _labels(self, file: Path | None, image: Volume) -> Volume | None:
        if file is None:
            return None
        labels = open_labels(file, image)
        if labels.data.size > IN_MEMORY:
            if labels.dtype.kind == "f":
                raise DataError("label images hold whole numbers", file, labels.dtype)
            return labels
        array = whole_numbers(labels.numpy(), file)
        if self.layout.label_map is not None:
            self.layout.label_map.to_classes(array, str(file))
        return labels.like(array)


def open_image(layout: Layout, files: Files) -> Volume:
    """The image of a sample, lazily, with the spacing and channel names of dataset.yaml."""
    config = layout.config
    given = config.spacing_um
    axes = config.axes
    if axes is not None and len(files.images) > 1:
        axes = axes.removeprefix("c")
    spacing = "unit" if given else None
    parts = [read_volume(file, axes=axes, spacing=spacing) for file in files.images]
    image = parts[0]
    if len(parts) > 1:
        shapes = {part.shape for part in parts}
        if len(shapes) > 1 or image.axes.startswith("c"):
            raise DataError(
                "the channels of a sample need one shape, without a channel axis",
                files.images[0],
                [part.shape for part in parts],
            )
        stack = np.stack([part.numpy() for part in parts])
        image = Volume(stack, "c" + image.axes, image.spacing, config.channels)
    if given is not None:
        image = with_spacing(image, _fitting(given, image.axes, files.images[0]))
    if config.channels and image.axes.startswith("c"):
        if len(config.channels) != image.num_channels:
            raise DataError(
                f"dataset.yaml names {len(config.channels)} channels",
                files.images[0],
                f"{image.num_channels} in the file",
                "name each channel once",
            )
        image = Volume(image.data, image.axes, image.spacing, config.channels)
    elif len(config.channels) > 1:
        raise DataError(
            f"dataset.yaml names {len(config.channels)} channels",
            files.images[0],
            f"axes {image.axes!r}, shape {image.shape}",
            f"add the others, or `axes: c{image.axes[-2:]}` if the first axis is channels",
        )
    return image


def _fitting(given: tuple[float, ...], axes: str, file: Path) -> tuple[float, ...]:
    if len(given) != len(axes.removeprefix("c")):
        raise DataError(
            f"spacing_um in dataset.yaml has {len(given)} numbers",
            file,
            f"axes {axes!r}",
            "give one for each of " + ", ".join(axes.removeprefix("c")),
        )
    return given


def open_labels(file: Path, image: Volume) -> Volume:
    """A label map, lazily, with the image's spacing."""
    labels = read_volume(file, spacing="unit")
    if labels.axes == image.axes.removeprefix("c"):
        return with_spacing(labels, image.spacing)
    if labels.axes.startswith("c"):
        raise DataError(
            "label images hold one id per pixel, not colours",
            file,
            f"{labels.num_channels} channels",
            "export the labels as a grey image of ids",
        )
    raise DataError(
        "image and labels differ in shape",
        file,
        f"image {image.spatial_shape}, labels {labels.spatial_shape}",
        "export the labels at the image's own size, without interpolation",
    )


def whole_numbers(array: np.ndarray, file: Path) -> np.ndarray:
    """Labels stored as floats, as integers, if that is what they are."""
    if array.dtype.kind != "f":
        return array
    if not np.isfinite(array).all() or (array != np.rint(array)).any():
        raise DataError(
            "label images hold whole numbers",
            file,
            f"{array.dtype} with fractions or NaN",
            "export the labels as integers, without interpolation",
        )
    return array.astype(np.int64)


def read_meta(file: Path) -> dict:
    """weight, category, attributes and meta of a sample, as keyword arguments for Sample."""
    kinds = {"weight": (int, float), "category": str, "attributes": dict, "meta": dict}
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(given, dict):
            raise ValueError("an object is expected")
        for key, value in given.items():
            if key not in kinds:
                raise ValueError(f"unknown key {key!r}")
            if not isinstance(value, kinds[key]):
                raise ValueError(f"key {key!r} has the wrong type")
    except (OSError, ValueError) as error:
        raise DataError("cannot read the metadata", file, error) from error
    return given


def write_folder(dataset: Dataset, path: str | Path, *, suffix: str = ".tif") -> Path:
    """Write a dataset as a folder; stopped work goes on where it was.

    Each file is whole or not there, and a sample's image is written last, so that an image
    that is there stands for a finished sample and is not written again.

    Parameters
    ----------
    dataset : Dataset
    path : str or Path
        Made if needed. A folder that holds another dataset is refused.
    suffix : str
        Format of images and labels; labels that PNG cannot hold need another.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        If it cannot be written, or something else is in the way.
    """
    if suffix not in KINDS or suffix in READ_ONLY:
        raise OutputError("not a format that can be written", found=suffix, fix="use .tif")
    path = make_folder(Path(path))
    _write_config(dataset, path)
    if dataset.label_map is not None:
        with written_beside(path / "labels.csv") as beside:
            dataset.label_map.to_csv(beside)
    for part in ("images", "labels"):
        (path / part).mkdir(exist_ok=True)
    for name in dataset.names:
        if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|\0'):
            raise OutputError("this sample name is no file name", path, repr(name), "rename it")
        image = path / "images" / f"{name}{suffix}"
        if image.exists():
            continue
        sample = dataset[name]
        for part, labels in (("labels", sample.labels), ("labels2", sample.labels2)):
            if labels is not None:
                (path / part).mkdir(exist_ok=True)
                write_volume(path / part / f"{name}{suffix}", smallest(labels), labels=True)
        if sample.points is not None:
            (path / "points").mkdir(exist_ok=True)
            write_points(sample.points, path / "points" / f"{name}.csv")
        more = {
            "weight": None if sample.weight == 1.0 else sample.weight,
            "category": sample.category,
            "attributes": dict(sample.attributes) or None,
            "meta": dict(sample.meta) or None,
        }
        more = {key: value for key, value in more.items() if value is not None}
        if more:
            (path / "meta").mkdir(exist_ok=True)
            write_json(path / "meta" / f"{name}.json", more)
        write_volume(image, sample.image)
    return path


def smallest(labels: Volume) -> Volume:
    """Labels in the smallest unsigned type that holds them; large lazy ones as they are."""
    if labels.data.size > IN_MEMORY:
        return labels
    array = labels.numpy()
    top, low = int(array.max(initial=0)), int(array.min(initial=0))
    if low < 0 or top >= 2**32:
        return labels.like(array)
    kind = np.uint8 if top < 2**8 else np.uint16 if top < 2**16 else np.uint32
    return labels.like(array.astype(kind))


def _write_config(dataset: Dataset, path: Path) -> None:
    import yaml

    config: dict = {"name": dataset.name}
    for key in ("description", "licence", "citation"):
        if getattr(dataset, key):
            config[key] = getattr(dataset, key)
    subjects = {name: subject for name, subject in dataset.subjects.items() if subject != name}
    if subjects:
        config["subjects"] = subjects
    if dataset.splits:
        config["splits"] = dataset.splits
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)
    file = path / "dataset.yaml"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise OutputError(
            "another dataset is in the way", file, fix="remove it or choose another folder"
        )
    if not file.exists():
        if any(path.glob("images/*")):
            raise OutputError("images without dataset.yaml are in the way", path)
        write_text(file, text)
