"""What is in a dataset: sizes, classes, and which image holds which region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brodmann.core import DataError, Dataset, OutputError, Volume
from brodmann.core.files import make_folder, written_beside
from brodmann.core.labels import unique_inverse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")


def count_ids(labels: Volume) -> Counter:
    """Pixels of each id, plane by plane in 3D.

    >>> sorted(count_ids(Volume(np.array([[0, 3], [3, 3]]), "yx", (1, 1))).items())
    [(0, 1), (3, 3)]
    """
    counts: Counter = Counter()
    planes = (
        [labels.read()]
        if labels.ndim == 2
        else (
            labels.read((slice(z, z + 1), slice(None), slice(None)))
            for z in range(labels.spatial_shape[0])
        )
    )
    for plane in planes:
        if plane.dtype.kind == "f":
            plane = plane.astype(np.int64)
        present, inverse = unique_inverse(plane)
        numbers = np.bincount(inverse.reshape(-1), minlength=len(present))
        counts.update({int(i): int(n) for i, n in zip(present, numbers)})
    return counts


def describe(
    dataset: Dataset, report: Callable[[str, int, int, str], None] | None = None
) -> dict[str, Any]:
    """Everything `brodmann data show` prints, as plain data.

    Returns
    -------
    dict
        name, description, licence, citation, splits; `samples`: name, subject, split, axes,
        shape, spacing_um, channels, dtype, labelled, points; `classes` (with a label map):
        id, name, acronym, color, `pixels` over all samples, `samples` that hold it and
        `size`, the sum of its area in mm2 (2D) or volume in mm3; `counts`: pixels as
        [sample][class], in the order of both. Instances, for want of a label map, are
        only counted for each sample.

    Raises
    ------
    DataError
        If a sample cannot be read.
    """
    tree = dataset.label_map
    home = {name: split for split, members in dataset.splits.items() for name in members}
    samples, counts, sizes = [], [], np.zeros(len(tree.classes) if tree else 0)
    ndim = 2
    for done, name in enumerate(dataset.names, start=1):
        sample = dataset[name]
        image = sample.image
        ids = count_ids(sample.labels) if sample.labels is not None else Counter()
        row = {
            "name": name,
            "subject": sample.subject,
            "split": home.get(name, ""),
            "axes": image.axes,
            "shape": list(image.shape),
            "spacing_um": list(image.spacing),
            "channels": list(image.channels),
            "dtype": str(image.dtype),
            "labelled": sample.labels is not None,
            "points": None if sample.points is None else len(sample.points),
        }
        if tree is None and ids:
            row["instances"] = len([id_ for id_ in ids if id_])
        samples.append(row)
        if tree is not None:
            pixels = [ids[id_] for id_ in tree.classes]
            counts.append(pixels)
            ndim = image.ndim
            sizes += np.array(pixels) * image.voxel_size / 10.0 ** (3 * image.ndim)
        if report is not None:
            report("read", done, len(dataset), name)
    result: dict[str, Any] = {
        "name": dataset.name,
        "description": dataset.description,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "splits": {split: len(members) for split, members in dataset.splits.items()},
        "subjects": len(set(dataset.subjects.values())),
        "samples": samples,
    }
    if tree is not None:
        table = np.array(counts, np.int64).reshape(len(samples), len(tree.classes))
        result["size_unit"] = f"mm{ndim}"
        result["classes"] = [
            {
                "id": id_,
                "name": tree[id_].name,
                "acronym": tree[id_].acronym,
                "color": tree[id_].color,
                "primary": tree[tree.primary(id_)].acronym,
                "pixels": int(table[:, i].sum()),
                "samples": int(np.count_nonzero(table[:, i])),
                "size": float(sizes[i]),
            }
            for i, id_ in enumerate(tree.classes)
        ]
        result["counts"] = table.tolist()
    return result


def availability_figure(description: dict[str, Any]) -> Figure:
    """Pixels per region, and which image holds which region (PRMix, Fig. 2).

    Left: one bar for each region in its colour, on a log scale. Right: a row for each
    region, a column for each image in order of split; darker where it covers more pixels,
    white where it is absent.

    Parameters
    ----------
    description : dict
        As `describe` returns it, with classes.
    """
    from matplotlib.colors import LogNorm, to_rgb
    from matplotlib.figure import Figure

    classes, samples = description["classes"], description["samples"]
    labelled = [i for i, sample in enumerate(samples) if sample["labelled"]]
    splits = list(description["splits"])
    rank = {split: i for i, split in enumerate(splits)}
    labelled.sort(key=lambda i: rank.get(samples[i]["split"], len(rank)))
    table = np.array(description["counts"])[labelled].T.reshape(len(classes), len(labelled))
    rows = len(classes)
    height = min(max(2.6, 0.17 * rows + 1.5), 40)
    width = min(7.4 + 0.07 * len(labelled), 20)
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.5))
    at = np.arange(rows)
    pixels = np.array([c["pixels"] for c in classes])
    colors = [to_rgb("#" + c["color"]) for c in classes]
    left.barh(at, np.maximum(pixels, 0.5), color=colors, edgecolor="#00000040", linewidth=0.4)
    left.set_xscale("log")
    # A decade below the rarest, so that its bar has a length.
    left.set_xlim(max(0.7, _decade_below(pixels) / 10), None)
    left.set_yticks(at, [c["acronym"] for c in classes], fontsize=7 if rows <= 60 else 6)
    left.set_ylim(rows - 0.4, -0.6)
    unit = "voxels" if description["size_unit"] == "mm3" else "pixels"
    left.set_xlabel(f"{unit} in all images")
    left.tick_params(axis="y", length=0)
    left.grid(axis="x", color="#00000018")
    left.set_axisbelow(True)
    if labelled:
        shown = np.ma.masked_equal(table, 0)
        top = max(int(table.max(initial=1)), 2)
        mesh = right.pcolormesh(
            np.arange(len(labelled) + 1) - 0.5,
            np.arange(rows + 1) - 0.5,
            shown,
            norm=LogNorm(_decade_below(table), top),
            cmap="YlGnBu",
            edgecolors="#00000010" if table.size < 4000 else "none",
            linewidth=0.3,
        )
        figure.colorbar(
            mesh,
            ax=right,
            label=f"{unit} in the image",
            pad=0.02,
            shrink=min(1.0, 3.5 / height),
            aspect=22,
            anchor=(0.0, 1.0),
        )
        _mark_splits(right, [samples[i]["split"] for i in labelled])
    right.set_xlabel("images")
    right.set_xlim(-0.5, max(len(labelled), 1) - 0.5)
    right.tick_params(axis="y", length=0)
    if len(labelled) <= 40:
        names = [samples[i]["name"] for i in labelled]
        right.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
    for axes in (left, right):
        axes.spines[["top", "right", "left"]].set_visible(False)
    seen = np.count_nonzero(table, axis=1) if labelled else np.zeros(rows)
    figure.suptitle(
        f"{description['name']}: {rows} regions, {len(labelled)} labelled images, "
        f"{int((seen == len(labelled)).sum())} regions in every image, "
        f"{int((seen == 0).sum())} in none",
        fontsize=10,
    )
    return figure


def _decade_below(counts: np.ndarray) -> float:
    """The power of ten at or below the smallest count that is not 0."""
    positive = counts[counts > 0]
    return 10.0 ** np.floor(np.log10(positive.min())) if positive.size else 1.0


def _mark_splits(axes: Any, splits: list[str]) -> None:
    start = 0
    for i in range(1, len(splits) + 1):
        if i < len(splits) and splits[i] == splits[start]:
            continue
        if i < len(splits):
            axes.axvline(i - 0.5, color="#222222", linewidth=1)
        if splits[start]:
            axes.text(
                (start + i - 1) / 2,
                1.005,
                splits[start],
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=8,
            )
        start = i


def save_availability(description: dict[str, Any], path: str | Path) -> Path:
    """Draw `availability_figure` into a file, in the format that its name tells.

    Raises
    ------
    DataError
        If the dataset has no table of labels, so that there are no regions to draw.
    OutputError
        If the file cannot be written or the format is unknown.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise OutputError("unknown kind of picture", path, path.suffix, f"use {', '.join(FORMATS)}")
    if not description.get("classes"):
        raise DataError("there are no regions to draw", description["name"], fix="write labels.csv")
    make_folder(path.parent)
    figure = availability_figure(description)
    with written_beside(path) as beside:
        figure.savefig(beside)
    return path


def summary_rows(description: dict[str, Any]) -> list[tuple[str, str]]:
    """The dataset in a few lines of text, as (key, value)."""
    samples = description["samples"]
    labelled = sum(sample["labelled"] for sample in samples)
    kinds = Counter(
        f"{sample['axes']} {sample['dtype']}, {' x '.join(f'{s:g}' for s in sample['spacing_um'])} um"
        for sample in samples
    )
    splits = ", ".join(f"{split} {count}" for split, count in description["splits"].items())
    shapes = np.array([sample["shape"][-2:] for sample in samples]).reshape(-1, 2)
    sizes = " to ".join(
        f"{rows} x {columns}"
        for rows, columns in dict.fromkeys(
            (
                tuple(map(int, shapes.min(axis=0, initial=2**62))),
                tuple(map(int, shapes.max(axis=0, initial=0))),
            )
        )
    )
    channels = dict.fromkeys(channel for sample in samples for channel in sample["channels"])
    counts = [sample["points"] for sample in samples if sample["points"] is not None]
    rows = [
        ("samples", f"{len(samples)}, {labelled} with labels"),
        ("points", f"{sum(counts):,} in {len(counts)} samples" if counts else ""),
        ("animals", str(description["subjects"])),
        ("splits", splits or "none"),
        ("images", "; ".join(f"{kind} ({count})" for kind, count in kinds.most_common(4))),
        ("height x width", sizes),
        ("channels", ", ".join(channels)),
        ("licence", description["licence"] or "not stated"),
        ("citation", description["citation"]),
    ]
    return [(key, value) for key, value in rows if value]


def region_rows(description: dict[str, Any]) -> list[tuple[str, ...]]:
    """The classes as text: colour, acronym, name, pixels, area or volume, images that hold it."""
    of = sum(sample["labelled"] for sample in description["samples"])
    return [
        (
            entry["color"],
            entry["acronym"],
            entry["name"],
            f"{entry['pixels']:,}",
            f"{_short(entry['size'])} {description['size_unit']}",
            f"{entry['samples']} / {of}",
        )
        for entry in description.get("classes", ())
    ]


def _short(size: float) -> str:
    return f"{size:,.0f}" if size >= 100 else f"{size:.3g}"
