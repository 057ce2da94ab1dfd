"""Every fault of a dataset folder, with the file and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from brodmann.core import BACKGROUND, DataError, Dataset, Volume
from brodmann.core.labels import unique_inverse
from brodmann.datasets.folder import open_image, open_labels, read_meta, whole_numbers
from brodmann.datasets.layout import Finding, Layout, scan
from brodmann.datasets.leaks import image_thumbnail, label_thumbnail, shared_subjects, twins
from brodmann.io import read_volume
from brodmann.io.points import outside, read_points
from brodmann.io.raw import blocks

SLAB = 2**25
"""Values looked at in one go."""
SIZE_RATIO = 3.0
"""An image this many times longer or shorter than the median along an axis is remarked on."""
SPACING_TOLERANCE = 0.01


@dataclass
class _Seen:
    """What is remembered of a sample, to compare it with the others."""

    image: Volume
    ids: Counter
    label_thumbnail: np.ndarray | None = None
    image_thumbnail: np.ndarray | None = None


def check(
    path: str | Path, report: Callable[[str, int, int, str], None] | None = None
) -> list[Finding]:
    """Look at every file of a dataset folder and list all that is wrong with it.

    Errors: damaged files, NaN, image and labels of different shape, label ids missing from
    labels.csv, labels with fractions or colours, labels or points without an image, names
    used twice, unknown keys, samples in two splits or in splits but not there, differing
    channel counts, no spacing. Warnings: images without labels, empty labels, constant
    images, odd sizes, differing spacing, classes that never occur or that only the test
    has, points outside the image, animals and (mirrored) twins on both sides of a split.

    Parameters
    ----------
    path : str or Path
    report : callable, optional
        Called as (what, done, total, note) after each sample.

    Returns
    -------
    list of Finding
        Errors first; empty if all is well.

    Raises
    ------
    DataError
        Only if there is no such folder.
    """
    layout = scan(path)
    seen: dict[str, _Seen] = {}
    any_labels = any(files.labels for files in layout.samples.values())
    if any_labels and layout.label_map is None and not (layout.path / "labels.csv").exists():
        layout.warn(
            "labels.csv",
            "there are labels but no table of them, so that ids stand for instances",
            fix="write labels.csv with the columns id,name if they are regions",
        )
    for done, (name, files) in enumerate(layout.samples.items(), start=1):
        meant = name in layout.config.splits.get("unlabelled", ())
        if any_labels and files.labels is None and not meant:
            layout.warn(files.images[0], "image without labels", fix=f"add labels/{name}.*")
        one = _sample(layout, name)
        if one is not None:
            seen[name] = one
        if report is not None:
            report("check", done, len(layout.samples), name)
    _compare(layout, seen)
    _splits(layout, seen)
    return sorted(layout.findings, key=lambda finding: finding.severity != "error")


def _sample(layout: Layout, name: str) -> _Seen | None:
    files = layout.samples[name]
    image = layout.attempt(files.images[0], lambda: open_image(layout, files))
    if image is None:
        return None
    seen = _Seen(image, Counter())
    read = layout.attempt(files.images[0], lambda: _pixels(layout, image, files.images[0]) or True)
    if read:
        seen.image_thumbnail = image_thumbnail(image)
    _spacing_said_twice(layout, files.images[0])
    for file in (files.labels, files.labels2):
        if file is None:
            continue
        counts = layout.attempt(file, partial(_labels, layout, file, image))
        if counts is not None and file == files.labels:
            seen.ids = counts
            labels = layout.attempt(file, partial(open_labels, file, image))
            if labels is not None and labels.spatial_shape == image.spatial_shape:
                seen.label_thumbnail = label_thumbnail(labels)
    if files.points is not None:
        layout.attempt(files.points, lambda: _points(layout, files.points, image))
    if files.meta is not None:
        layout.attempt(files.meta, lambda: read_meta(files.meta))
    return seen


def _slabs(volume: Volume):
    """The volume by whole rows or planes, bounded in memory."""
    shape = volume.spatial_shape
    size = list(shape)
    for axis in range(len(shape)):
        size[axis] = max(1, SLAB // max(1, int(np.prod(size[axis + 1 :])) * volume.num_channels))
        if size[axis] > 1 or axis == len(shape) - 2:
            size[axis] = min(size[axis], shape[axis])
            break
    for window in blocks(shape, tuple(size)):
        yield volume.read(window)


def _pixels(layout: Layout, image: Volume, file: Path) -> None:
    low = np.full(image.num_channels, np.inf)
    high = np.full(image.num_channels, -np.inf)
    bad = 0
    for slab in _slabs(image):
        flat = slab.reshape(image.num_channels, -1)
        if flat.dtype.kind == "f":
            finite = np.isfinite(flat)
            bad += int(flat.size - np.count_nonzero(finite))
            flat_low, flat_high = np.where(finite, flat, np.inf), np.where(finite, flat, -np.inf)
        else:
            flat_low = flat_high = flat
        low = np.minimum(low, flat_low.min(axis=1))
        high = np.maximum(high, flat_high.max(axis=1))
    if bad:
        layout.error(
            file,
            "the image holds values that are not finite (NaN or infinite)",
            f"{bad} pixels",
            "replace them, or leave these pixels out with the ignore id",
        )
    for channel, a, b in zip(image.channels, low, high):
        if a == b:
            layout.warn(
                file,
                f"{channel!r} has one value throughout"
                if image.num_channels > 1
                else "the image has one value throughout",
                f"{a:g}",
                "see whether the export or the stain failed",
            )


def _labels(layout: Layout, file: Path, image: Volume) -> Counter:
    labels = open_labels(file, image)
    if labels.spatial_shape != image.spatial_shape:
        layout.error(
            file,
            "image and labels differ in shape",
            f"image {image.spatial_shape}, labels {labels.spatial_shape}",
            "export the labels at the image's own size, without interpolation",
        )
    counts: Counter = Counter()
    for slab in _slabs(labels):
        ids = whole_numbers(slab, file)
        present, inverse = unique_inverse(ids)
        numbers = np.bincount(inverse.reshape(-1), minlength=len(present))
        counts.update({int(id_): int(n) for id_, n in zip(present, numbers)})
    if labels.dtype.kind == "f":
        layout.warn(file, "labels are stored as floats", labels.dtype, "store them as integers")
    known = layout.label_map
    if known is not None:
        unknown = sorted(id_ for id_ in counts if id_ not in known.ids_allowed)
        for id_ in unknown[:20]:
            in_tree = " (it is in the table, but no class)" if id_ in known else ""
            layout.error(
                file,
                f"label id missing from labels.csv{in_tree}",
                f"id {id_} on {counts[id_]} pixels",
                "add it to labels.csv, or set it to the ignore id",
            )
        if len(unknown) > 20:
            layout.error(file, "more label ids missing from labels.csv", len(unknown) - 20)
    elif min(counts, default=0) < 0:
        layout.error(file, "label ids are negative", min(counts), "use whole numbers from 0")
    ignored = known.ignore if known is not None else None
    if not any(id_ not in (BACKGROUND, ignored) for id_ in counts):
        layout.warn(file, "the labels are empty", "background only", "label it or leave it out")
    return counts


def _points(layout: Layout, file: Path, image: Volume) -> None:
    points = read_points(file)
    if points.axes != image.spatial_axes:
        layout.error(
            file,
            "points and image differ in dimensions",
            f"columns {', '.join(points.axes)}",
            f"give {', '.join(image.spatial_axes)}",
        )
        return
    beyond = int(outside(points, image.spatial_shape).sum())
    if beyond:
        layout.warn(
            file,
            "points outside the image",
            f"{beyond} of {len(points)}",
            "coordinates are in voxels, from 0, in the order z, y, x",
        )


def _spacing_said_twice(layout: Layout, file: Path) -> None:
    said = layout.config.spacing_um
    if said is None:
        return
    try:
        own = read_volume(file, axes=layout.config.axes).spacing
    except DataError:  # The file says nothing, or its fault is among the findings already.
        return
    if len(own) == len(said) and not np.allclose(own, said, rtol=SPACING_TOLERANCE):
        layout.warn(
            file,
            "the file's spacing is not that of dataset.yaml, which is used",
            f"{own} and {said} um",
            "correct the one that is wrong",
        )


def _compare(layout: Layout, seen: dict[str, _Seen]) -> None:
    """Faults that show only when samples are held beside each other."""
    if not seen:
        return
    for what, severity, of in (
        ("number of channels", "error", lambda image: image.num_channels),
        ("axes", "error", lambda image: image.spatial_axes),
        ("channel names", "warning", lambda image: image.channels),
        ("pixel type", "warning", lambda image: str(image.dtype)),
        ("spacing in um", "warning", lambda image: tuple(float(f"{s:.4g}") for s in image.spacing)),
    ):
        kinds = Counter(of(one.image) for one in seen.values())
        usual = kinds.most_common(1)[0][0]
        if what == "channel names" and len({len(kind) for kind in kinds}) > 1:
            continue
        for name, one in seen.items():
            if of(one.image) != usual:
                tell = layout.error if severity == "error" else layout.warn
                file = layout.samples[name].images[0]
                fix = "export it like the others, or make it a dataset of its own"
                tell(
                    file,
                    f"{what} unlike the other samples",
                    f"{of(one.image)}, usually {usual}",
                    fix,
                )
    for ndim in (2, 3):
        shapes = {n: one.image.spatial_shape for n, one in seen.items() if one.image.ndim == ndim}
        if not shapes:
            continue
        middle = np.median(list(shapes.values()), axis=0)
        for name, shape in shapes.items():
            ratio = np.maximum(np.array(shape) / middle, middle / np.maximum(shape, 1)).max()
            if ratio > SIZE_RATIO:
                layout.warn(
                    layout.samples[name].images[0],
                    "its size is far from the median",
                    f"{shape}, median {tuple(int(m) for m in middle)}",
                    "see whether it was cropped or scaled by mistake",
                )


def _splits(layout: Layout, seen: dict[str, _Seen]) -> None:
    config, file = layout.config, "dataset.yaml"
    splits = {s: [n for n in m if n in layout.samples] for s, m in config.splits.items()}
    homes: dict[str, list[str]] = {}
    for split, members in splits.items():
        if not members:
            layout.error(file, f"split {split!r} is empty", fix="name its samples or remove it")
        for name in dict.fromkeys(members):
            homes.setdefault(name, []).append(split)
    for name, where in homes.items():
        if len(where) > 1:
            layout.error(
                file, f"sample {name!r} is in several splits", ", ".join(where), "keep one"
            )
    astray = [name for name in layout.samples if name not in homes]
    if splits and astray:
        shown = ", ".join(astray[:5]) + (" ..." if len(astray) > 5 else "")
        layout.warn(file, "samples in no split", f"{len(astray)}: {shown}", "they will not be used")
    if layout.label_map is not None and seen and any(one.ids for one in seen.values()):
        _classes(layout, seen, splits)
    known = Dataset(
        config.name, list(layout.samples), _never, subjects=config.subjects, splits=splits
    )
    layout.findings += shared_subjects(known)
    for kind, attribute in (("labels", "label_thumbnail"), ("images", "image_thumbnail")):
        thumbnails = {n: getattr(one, attribute) for n, one in seen.items()}
        present = {n: small for n, small in thumbnails.items() if small is not None}
        layout.findings += [pair.as_finding() for pair in twins(present, splits, kind)]


def _never(name: str):
    raise AssertionError(f"{name} is not read for its subject")


def _classes(layout: Layout, seen: dict[str, _Seen], splits: dict[str, list[str]]) -> None:
    tree = layout.label_map
    total: Counter = sum((one.ids for one in seen.values()), Counter())
    absent = [tree[id_].acronym for id_ in tree.classes if not total[id_]]
    if absent:
        shown = ", ".join(absent[:8]) + (" ..." if len(absent) > 8 else "")
        layout.warn("labels.csv", "classes that no label image holds", f"{len(absent)}: {shown}")
    if "train" not in splits:
        return
    taught: Counter = sum((seen[n].ids for n in splits["train"] if n in seen), Counter())
    for split, members in splits.items():
        asked: Counter = sum((seen[n].ids for n in members if n in seen), Counter())
        new = [tree[i].acronym for i in tree.classes if asked[i] and not taught[i]]
        if new and split != "train":
            shown = ", ".join(new[:8]) + (" ..." if len(new) > 8 else "")
            layout.warn(
                "dataset.yaml",
                f"classes in split {split!r} that training never sees",
                f"{len(new)}: {shown}",
                "they cannot be learnt; move a sample or merge the classes",
            )
