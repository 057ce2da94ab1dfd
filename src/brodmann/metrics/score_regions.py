"""Score predicted label images against true ones: what `brodmann score regions` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, LabelMap, Volume
from brodmann.io import read_volume, stem_of, suffix_of
from brodmann.metrics.contingency import ClassTable, contingency
from brodmann.metrics.overlap import (
    coarse_classes,
    confusions,
    none_if_nan,
    overlap,
    roll_up,
)
from brodmann.metrics.surface import Surface, summary, surfaces

Report = Callable[[str, int, int, str], None]


def score_regions(
    pred: str | Path,
    truth: str | Path,
    labels: str | Path | LabelMap,
    *,
    background: bool = False,
    exclude: Sequence[str] = (),
    rollup: bool = False,
    surface: bool = False,
    tolerance_um: float | None = None,
    spacing_um: Sequence[float] | None = None,
    per_image_classes: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Score two label images, or two folders of them paired by stem.

    The pooled matrix, over all images, is the primary result; every image is scored by itself
    too. Files are read in strips, except that `surface` holds one image at a time.

    Parameters
    ----------
    pred, truth : path
        Two files, or two folders in which each file has its namesake (suffixes may differ).
    labels : path or LabelMap
        labels.csv with id, name, acronym, parent, color: see `LabelMap.from_csv`.
    background : bool
        Count background as a class.
    exclude : sequence of str
        Acronyms or ids kept out of the means; of the primary regions, if `rollup`.
    rollup : bool
        Score primary regions in place of their subregions.
    surface : bool
        Add surface distances of every class; needs `tolerance_um` and a spacing.
    tolerance_um : float, optional
        Tolerance of the normalised surface Dice.
    spacing_um : sequence of float, optional
        Micrometres per axis, where the true label files have none.
    per_image_classes : bool
        Add the table of classes to every image.
    report : callable, optional
        Called as (what, done, total, note) after each image.

    Returns
    -------
    dict, JSON-safe
        kind, classes (background among them), images, background, rollup, excluded, pooled
        (mean_dice, mean_f1, mean_iou, mean_precision, mean_recall, per_class), over_images
        (mean and standard deviation of each image's mean_dice), per_image, confusions,
        version. With `surface`, `pooled` and every image have a key `surface`.

    Raises
    ------
    DataError
        If a file has no partner, shapes differ, an id is not in the table, or the spacing is
        not known although `surface` needs it.
    """
    if surface and tolerance_um is None:
        raise DataError("surface scores need a tolerance", fix="give it with --tolerance-um")
    if not surface and (tolerance_um is not None or spacing_um is not None):
        raise DataError("a tolerance or a spacing is for surface scores only", fix="add --surface")
    label_map = labels if isinstance(labels, LabelMap) else LabelMap.from_csv(Path(labels))
    table = ClassTable(label_map)
    group, scored = np.arange(label_map.num_classes, dtype=np.int16), label_map
    if rollup:
        group, scored = coarse_classes(label_map)
    options: dict[str, Any] = {"background": background, "exclude": exclude}
    total = np.zeros((scored.num_classes,) * 2, np.int64)
    # An excluded name that is wrong is told before hours of reading, not after.
    overlap(total, scored, **options)
    pairs = pair_files(pred, truth)
    images: list[dict[str, Any]] = []
    distances: list[dict[int, Surface]] = []
    for done, (name, pred_file, truth_file) in enumerate(pairs):
        true = read_volume(truth_file, spacing=spacing_um if surface else "unit")
        guess = read_volume(pred_file, spacing="unit")
        counts = contingency(true, guess, table, where=name)
        if rollup:
            counts, _ = roll_up(counts, label_map)
        total += counts
        found = overlap(counts, scored, **options)
        image: dict[str, Any] = {"name": name, **found.mean}
        if per_image_classes:
            image["per_class"] = found.rows()
        if surface:
            chosen = np.flatnonzero(_scope(scored, options)).tolist()
            distances.append(
                _surfaces(true, guess, table, group, scored, chosen, tolerance_um, name)
            )
            image["surface"] = summary(distances[-1].values())
            if per_image_classes:
                for row, index in zip(image["per_class"], np.flatnonzero(found.scope)):
                    row["surface"] = _distances(distances[-1].get(int(index)))
        images.append(image)
        if report:
            report("score", done + 1, len(pairs), name)
    found = overlap(total, scored, **options)
    pooled: dict[str, Any] = {**found.mean, "per_class": found.rows()}
    if surface:
        pooled["surface"] = _pooled_surface(distances, tolerance_um)
        for row, index in zip(pooled["per_class"], np.flatnonzero(found.scope)):
            row["surface"] = summary(one[index] for one in distances if index in one)
    dice = [image["mean_dice"] for image in images if image["mean_dice"] is not None]
    return {
        "kind": "regions",
        "classes": scored.num_classes,
        "images": len(images),
        "background": background,
        "rollup": rollup,
        "excluded": [str(one) for one in exclude],
        "pooled": pooled,
        "over_images": {
            "mean_dice": float(np.mean(dice)) if dice else None,
            "sd_dice": float(np.std(dice, ddof=1)) if len(dice) > 1 else None,
        },
        "per_image": images,
        "confusions": confusions(total, scored),
        "version": version("brodmann"),
    }


def pair_files(pred: str | Path, truth: str | Path) -> list[tuple[str, Path, Path]]:
    """(stem, prediction, truth) of two files, or of every file of two folders, sorted.

    Files that are not images are passed over.

    Raises
    ------
    DataError
        If one is a folder and the other a file, or a file has no partner or two.
    """
    pred, truth = Path(pred), Path(truth)
    for path in (pred, truth):
        if not path.exists() and "::" not in path.name:
            raise DataError("no such file or folder", path)
    folders = [_is_folder(path) for path in (pred, truth)]
    if folders[0] != folders[1]:
        raise DataError(
            "a folder is scored against a folder, a file against a file",
            f"{pred} and {truth}",
        )
    if not folders[0]:
        return [(stem_of(truth), pred, truth)]
    ours, theirs = _by_stem(pred), _by_stem(truth)
    for found, wanted, folder, what in (
        (ours, theirs, pred, "true label images without a prediction"),
        (theirs, ours, truth, "predictions without a true label image"),
    ):
        missing = sorted(set(wanted) - set(found))
        if missing:
            shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" * (len(missing) > 5))
            raise DataError(what, folder, shown, "pair files by their names without suffix")
    if not theirs:
        raise DataError("the folder holds no image", truth)
    return [(stem, ours[stem], theirs[stem]) for stem in sorted(theirs)]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not suffix_of(path) and not (path / "zarr.json").exists()


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or not suffix_of(file):
            continue
        stem = stem_of(file)
        if stem in files:
            raise DataError(
                "two files of one name in a folder", folder, f"{files[stem].name}, {file.name}"
            )
        files[stem] = file
    return files


def _scope(scored: LabelMap, options: dict[str, Any]) -> np.ndarray:
    """Classes whose surface is measured: those that could enter the means."""
    everything = np.ones((scored.num_classes,) * 2, np.int64)
    return overlap(everything, scored, **options).counted


def _surfaces(
    true: Volume,
    guess: Volume,
    table: ClassTable,
    group: np.ndarray,
    scored: LabelMap,
    chosen: list[int],
    tolerance_um: float | None,
    name: str,
) -> dict[int, Surface]:
    rows = table.to_classes(true.read()[0], f"{name}: truth")
    columns = np.maximum(table.to_classes(guess.read()[0], f"{name}: prediction"), 0)
    # Index -1 takes the last entry: ignore stays ignore.
    lookup = np.append(group, np.int16(-1))
    rows, columns = lookup[rows], np.maximum(lookup[columns], 0)
    return surfaces(
        rows,
        columns,
        scored.num_classes,
        true.spacing,
        tolerance_um=float(tolerance_um or 0),
        classes=chosen,
    )


def _distances(one: Surface | None) -> dict[str, float | None] | None:
    """One class in one image; None for what is infinite or undefined."""
    if one is None or not one.present:
        return None
    return {key: none_if_nan(value) for key, value in vars(one).items()}


def _pooled_surface(
    distances: list[dict[int, Surface]], tolerance_um: float | None
) -> dict[str, Any]:
    """Mean over classes of each class's mean over images, so that rare classes weigh the same."""
    classes = {index for image in distances for index in image}
    each = [summary(image[index] for image in distances if index in image) for index in classes]
    means: dict[str, Any] = {"tolerance_um": tolerance_um}
    for key in summary([]):
        values = [one[key] for one in each if one[key] is not None]
        if key.startswith("mean_"):
            means[key] = float(np.mean(values)) if values else None
        else:
            means[key] = int(sum(values))
    return means


def parse_spacing(text: str | None) -> tuple[float, ...] | None:
    """Numbers between commas, as typed on a command line.

    >>> parse_spacing("25,10.5")
    (25.0, 10.5)
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise DataError("spacing is numbers between commas", "--spacing-um", repr(text)) from None


Table = tuple[str, list[str], list[list[str]]]


def tables(result: dict[str, Any], per_image: bool = False) -> list[Table]:
    """A result of `score_regions` as tables for people: (title, columns, rows of text)."""
    shares = ["dice", "iou", "precision", "recall"]
    distances = ["hausdorff_um", "hd95_um", "assd_um", "contour_um", "nsd"]
    pooled = result["pooled"]
    has_surface = "surface" in pooled
    extra = [f"mean_{key}" for key in distances] if has_surface else []

    def means(name: str, scores: dict[str, Any]) -> list[str]:
        found = [_shown(scores[f"mean_{key}"]) for key in shares]
        return [name, *found, *(_shown(scores["surface"][key], key) for key in extra)]

    head = [*shares, *(distances if has_surface else [])]
    classes = []
    for row in pooled["per_class"]:
        cells = [_shown(row[key]) for key in shares]
        cells += [_shown(row["surface"][key], key) for key in extra]
        name = row["acronym"] if row["counted"] else f"{row['acronym']} (not counted)"
        classes.append([name, *cells, f"{row['truth_pixels']:,}", f"{row['pred_pixels']:,}"])
    counted = sum(row["counted"] for row in pooled["per_class"])
    classes.append([*means(f"mean of {counted}", pooled), "", ""])
    what = "Primary regions" if result["rollup"] else "Regions"
    title = f"{what}, {result['images']} images pooled"
    found: list[Table] = [(title, ["region", *head, "true px", "predicted px"], classes)]
    if per_image:
        rows = [means(image["name"], image) for image in result["per_image"]]
        found.append(("Each image: means over its regions", ["image", *head], rows))
    if result["confusions"]:
        rows = []
        for one in result["confusions"]:
            pair = f"{one['truth']} taken for {one['predicted']}"
            rows.append([pair, f"{one['pixels']:,}", f"{one['share']:.1%}"])
        found.append(("Confused most", ["regions", "px", "of the true region"], rows))
    return found


def _shown(value: float | None, key: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if key.endswith("_um") else f"{value:.3f}"
