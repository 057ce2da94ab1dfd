"""A dataset cut from labelled volumes: what every reader of electron microscopy shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Dataset, RecipeError, Sample, Volume
from brodmann.datasets.em.windows import Box, Lazy, as_box, centred, overlap, voxels
from brodmann.io import read_volume, with_spacing

SPLITS = ("train", "tune", "test")
Opener = Callable[[], tuple[Volume, Volume]]
"""Opens the image and the neuron ids of one volume, lazily; picklable."""


@dataclass(frozen=True)
class Part:
    """One sample: the volume it is cut from, the split it belongs to and its window."""

    volume: str
    split: str
    box: Box


@dataclass(frozen=True)
class Files:
    """Opens an image file and a label file, of any format of `read_volume`.

    `ignore` is an id of the labels that means "unknown" and becomes 0.
    """

    image: Path | str
    labels: Path | str
    spacing: tuple[float, ...] | None = None
    ignore: int | None = None

    def __call__(self) -> tuple[Volume, Volume]:
        """The two volumes, with the spacing given, else the image file's."""
        image = read_volume(
            self.image, axes="zyx", spacing="unit" if self.spacing is not None else None
        )
        labels = read_volume(self.labels, axes="zyx", spacing="unit")
        if self.spacing is not None:
            image = with_spacing(image, self.spacing)
        return checked(image, labels, str(self.labels), self.ignore)


def checked(
    image: Volume, labels: Volume, where: str, ignore: int | None = None
) -> tuple[Volume, Volume]:
    """Image and labels on one grid; ids as uint32 or uint64, the ignore id as 0.

    Raises
    ------
    DataError
        If shapes differ, or ids are not integers.
    """
    if image.shape != labels.shape:
        raise DataError(
            "image and labels differ in shape",
            where,
            f"image {image.shape}, labels {labels.shape}",
            "export the labels at the image's own size, without interpolation",
        )
    if labels.dtype.kind not in "ui":
        raise DataError(
            "neuron ids are whole numbers", where, labels.dtype, "export the labels as integers"
        )
    kind = np.uint64 if labels.dtype.itemsize == 8 else np.uint32
    change = _Ids(ignore, where)
    whole: Box = tuple((0, n) for n in labels.shape)  # type: ignore[assignment]
    return image, Volume(Lazy(labels.data, whole, change, kind), "zyx", image.spacing)


@dataclass(frozen=True)
class _Ids:
    """Ids as unsigned numbers."""

    ignore: int | None
    where: str

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if self.ignore is not None:
            # Comparing in the array's own type: -1 is also 2**64 - 1.
            if values.dtype.kind == "i" and self.ignore > np.iinfo(values.dtype).max:
                unknown = values == self.ignore - 2 ** (8 * values.dtype.itemsize)
            else:
                unknown = values == self.ignore
            values = np.where(unknown, 0, values)
        if values.dtype.kind == "i" and values.min(initial=0) < 0:
            raise DataError("neuron ids are not negative", self.where, int(values.min()))
        return values


def cut(
    name: str,
    openers: Mapping[str, Opener],
    parts: Mapping[str, tuple[str, str, Any]],
    *,
    ratio: float | None = None,
    subjects: Mapping[str, str] | None = None,
    licence: str = "",
    citation: str = "",
    description: str = "",
) -> Dataset:
    """A dataset whose samples are windows of labelled volumes.

    Parameters
    ----------
    name : str
    openers : mapping
        Volume -> what opens it.
    parts : mapping
        Sample -> (volume, split, window as `as_box` takes it).
    ratio : float, optional
        Percent of its voxels that each training window keeps, in its middle.
    subjects : mapping, optional
        Volume -> animal; the volume's own name when not given.
    licence, citation, description : str

    Returns
    -------
    Dataset
        Volumes are opened here, to check shapes, and again for each sample; voxels are read by
        window. `meta` of a sample holds its volume and its window there.

    Raises
    ------
    DataError
        If a volume cannot be opened or its image and labels differ; and when a sample is asked
        for whose truth holds fewer than two neurons.
    RecipeError
        If a window is not within its volume, two of one volume overlap, or ratio is not a
        percentage.
    """
    shapes = {volume: open_()[0].shape for volume, open_ in openers.items()}
    kept: dict[str, Part] = {}
    for sample, (volume, split, window) in parts.items():
        box = as_box(window, shapes[volume], f"{name}, {split}")
        kept[sample] = Part(volume, split, box)
    for (a, one), (b, two) in combinations(kept.items(), 2):
        if one.volume == two.volume and overlap(one.box, two.box):
            raise RecipeError("two parts overlap", f"{a}, {b}", f"{one.box} and {two.box}")
    if ratio is not None:
        kept = {
            sample: Part(p.volume, p.split, centred(p.box, ratio) if p.split == "train" else p.box)
            for sample, p in kept.items()
        }
    splits = {
        split: [sample for sample, part in kept.items() if part.split == split]
        for split in dict.fromkeys(part.split for part in kept.values())
    }
    owner = subjects or {}
    return Dataset(
        name,
        list(kept),
        _Cut(dict(openers), kept),
        None,
        {sample: owner.get(part.volume, part.volume) for sample, part in kept.items()},
        splits,
        licence,
        citation,
        description,
    )


@dataclass(frozen=True)
class _Cut:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    openers: dict[str, Opener]
    parts: dict[str, Part]

    def __call__(self, name: str) -> Sample:
        part = self.parts[name]
        image, labels = self.openers[part.volume]()
        window = Volume(Lazy(labels.data, part.box), "zyx", image.spacing)
        check_truth(window, name)
        return Sample(
            name,
            Volume(Lazy(image.data, part.box), "zyx", image.spacing),
            window,
            meta={
                "volume": part.volume,
                "window": {axis: list(span) for axis, span in zip("zyx", part.box)},
                "volume_shape": list(image.shape),
                "voxels": voxels(part.box),
            },
        )


def check_truth(labels: Volume, where: str) -> None:
    """Refuse truth with fewer than two neurons; slices are read until two are met.

    Raises
    ------
    DataError
    """
    ids: set[int] = set()
    depth = labels.shape[0]
    # The middle first: it is the most likely to be labelled.
    for z in sorted(range(depth), key=lambda i: abs(i - depth // 2)):
        ids.update(np.unique(np.asarray(labels.data[z])).tolist())
        if len(ids - {0}) > 1:
            return
    raise DataError(
        "the truth holds fewer than two neurons, so that nothing could be told apart",
        where,
        f"ids {sorted(ids)[:5]}",
        "give labels with one id for each neuron (0 = between neurons or unknown)",
    )


def need_file(root: Path, folder: str, *names: str) -> Path:
    """`root`/`folder`, or `root` itself, whichever holds all the files.

    Raises
    ------
    DataError
        Names the first file that is missing.
    """
    for place in (root / folder, root):
        if all((place / name).is_file() for name in names):
            return place
    place = root / folder
    lost = next((name for name in names if not (place / name).is_file()), names[0])
    raise DataError(
        "no such file", place / lost, fix=f"set data.root to the folder that holds {folder}/{lost}"
    )
