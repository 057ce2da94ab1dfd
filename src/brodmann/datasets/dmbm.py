"""DMBM: parasagittal sections of mouse brains in two fluorescent markers, 118 subregions by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brodmann.core import DataError, Dataset, Label, LabelMap, RecipeError, Sample, keyed_rng
from brodmann.datasets.channels import Selected, open_channels
from brodmann.datasets.dmbm_layout import CHANNELS, SIDES, Found, find, names_in
from brodmann.datasets.fetch import SOURCES
from brodmann.datasets.folder import read_folder, whole_numbers
from brodmann.datasets.hierarchy import WANTED, fields, read_hierarchy, read_table
from brodmann.io import read_volume, stem_of, suffix_of, with_spacing

PRIMARY = (
    Label(1, "Isocortex", "Isocortex", None, "4DB380"),
    Label(2, "Olfactory areas", "OLF", None, "2FA4A4"),
    Label(3, "Hippocampal formation", "HPF", None, "8CC63F"),
    Label(4, "Cortical subplate", "CTXsp", None, "BFA62B"),
    Label(5, "Striatum", "STR", None, "4F9BDB"),
    Label(6, "Pallidum", "PAL", None, "5A6FC0"),
    Label(7, "Thalamus", "TH", None, "E0607E"),
    Label(8, "Hypothalamus", "HY", None, "C8402F"),
    Label(9, "Midbrain", "MB", None, "B565C9"),
    Label(10, "Hindbrain", "HB", None, "EE8A5B"),
    Label(11, "Cerebellum", "CB", None, "E3C84A"),
)
"""The 11 primary regions (section 4.3 of the paper); the ids are only places here."""
EXCLUDED = ("AOB", "RSPv6b")
"""Acronyms left out of scores: they are in two sections only (section 3.2). For score.exclude."""
IMAGES, TEST_IMAGES = 102, 22
SUBJECT = ("mouse", "mouse_id", "subject", "subject_id", "animal", "animal_id")
IMAGE = ("image", "image_id", "file", "filename", "sample", "case", "id", "name")
SPLIT = ("split", "set", "partition")


def dmbm(
    root: str | Path,
    regions: str | Path | None = None,
    channels: Sequence[str] = CHANNELS,
    spacing: Sequence[float] | None = None,
    seed: int = 0,
) -> Dataset:
    """The dual-fluorescence mouse brain microscopy set, from a folder on this machine.

    As published: 102 sections of 96 mice, median 6383 x 12531 pixels, channels SAP102 and
    PSD95, 118 subregions under 11 primary ones, 80 sections to train and validate on and 22
    for the test. Nothing is read before a sample is asked for, and then by window where the
    format can.

    The layout is seen from the files, in `root` or up to two folders below: a dataset folder
    (dataset.yaml); an nnU-Net raw folder; images/ and labels/ (or masks/, annotations/),
    also within train/ and test/, or channel folders SAP102/ and PSD95/ beside labels/. There
    an image is one file of two channels, an RGB picture (red SAP102, green PSD95), or two
    files: NAME_SAP102 and NAME_PSD95, NAME_0000 and NAME_0001, or one in each channel folder.

    Beside the images or in `root` may lie: a table with image and mouse (else each image is
    its own subject); a table with image and split, or split*.json with train and test.
    Without these and without Tr/Ts or train/test folders, 22 sections (of a part of the set:
    as large a share) of whole animals are drawn with `seed`. The description says which.

    Parameters
    ----------
    root : str or Path
    regions : str or Path, optional
        The tree, as `read_hierarchy` takes it; else the one such file beside the images.
    channels : sequence of str
        "SAP102", "PSD95" or both, in this order.
    spacing : sequence of float, optional
        Micrometres (y, x), where files do not say. This and `regions` are not for a dataset
        folder, which states them itself.
    seed : int
        Of the split, where none is published.

    Returns
    -------
    Dataset
        Splits "train", "test" and, if some images have no labels, "unlabelled".

    Raises
    ------
    DataError
        If no layout is found, a channel or the tree is missing, or tables do not fit.
    RecipeError
        On another channel, or an option that a dataset folder states itself.

    Source: Yuan et al. 2026, NeuroImage 331, 121881, sections 3, 4.3 and 5.1.

    Example
    -------
    >>> data = dmbm("data/dmbm")  # doctest: +SKIP
    >>> data.split("test")[0].image.read((slice(0, 768), slice(0, 1536))).shape  # doctest: +SKIP
    (2, 768, 1536)
    """
    root = Path(root)
    if not channels or not set(channels) <= set(CHANNELS) or len(set(channels)) < len(channels):
        raise RecipeError("channels are SAP102, PSD95 or both", "channels", list(channels))
    found = find(root)
    picked = tuple(channels)
    if found.layout == "folder":
        if regions is not None or spacing is not None:
            raise RecipeError(
                "a dataset folder states its own regions and spacing",
                found.path,
                fix="write them in labels.csv and dataset.yaml",
            )
        dataset = read_folder(found.path)
        tree = _ours(dataset, found.path)
        dataset = dataset.with_load(Selected(dataset._load, CHANNELS, picked))
        labelled = set(names_in(found.path / "labels"))
        subjects, splits = dict(dataset.subjects), dataset.splits
    else:
        tree = read_hierarchy(_tree_file(root, found, regions), PRIMARY, found.values)
        planes = tuple(found.order[CHANNELS.index(name)] for name in picked)
        load = _Sections(found.images, found.labels, picked, planes, spacing and tuple(spacing))
        dataset = Dataset("dmbm", sorted(found.images), load, tree)
        labelled = set(found.labels)
        subjects, splits = _subjects(root, found), found.splits or _table_split(root, found)
    names = dataset.names
    splits, drawn = _sides(names, labelled, subjects, splits, seed)
    mice = len({subjects.get(name, name) for name in names})
    grouped = any(subjects.get(name, name) != name for name in names)
    description = "; ".join(
        (
            f"{len(names)} parasagittal mouse brain sections, {' and '.join(picked)}",
            f"{len(tree.classes)} subregions under {len(PRIMARY)} primary regions",
            f"{mice} mice" if grouped else "no table of mice: each section its own subject",
            f"split drawn here by animal (seed {seed})"
            if drawn
            else "split as it came with the data",
            f"read as {found.layout}",
        )
    )
    source = SOURCES["dmbm"]
    return Dataset(
        "dmbm",
        names,
        dataset._load,
        tree,
        subjects,
        splits,
        dataset.licence or source.licence,
        dataset.citation or source.citation,
        description,
    )


@dataclass(frozen=True)
class _Sections:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    images: dict[str, list[Path]]
    labels: dict[str, Path]
    channels: tuple[str, ...]
    planes: tuple[int, ...]
    spacing: tuple[float, ...] | None

    def __call__(self, name: str) -> Sample:
        image = open_channels(self.images[name], self.planes, self.channels, self.spacing)
        labels = None
        if name in self.labels:
            file = self.labels[name]
            labels = with_spacing(read_volume(file, axes="yx", spacing="unit"), image.spacing)
            if labels.dtype.kind == "f":
                labels = labels.like(whole_numbers(labels.numpy(), file))
        return Sample(name, image, labels)


def _tables(root: Path, found: Found) -> list[Path]:
    """CSV files beside the images and in `root`."""
    files = {file.resolve(): file for folder in (found.path, root) for file in folder.glob("*.csv")}
    return sorted(files.values())


def _tree_file(root: Path, found: Found, regions: str | Path | None) -> Path:
    if regions is not None:
        return Path(regions)
    trees = []
    for file in _tables(root, found):
        columns = fields(list((read_table(file) or [{}])[0]))
        if "parent" in columns and {"acronym", "name"} & set(columns):
            trees.append(file)
    if not trees:
        hint = re.compile("region|hierarch|structure|tree|primary", re.IGNORECASE)
        places = dict.fromkeys((found.path, root))
        trees = [f for p in places for f in sorted(p.glob("*.json")) if hint.search(f.name)]
    if len(trees) == 1:
        return trees[0]
    raise DataError(
        "several trees of regions" if trees else "no tree of regions",
        found.path,
        ", ".join(file.name for file in trees) or None,
        "name the file as data.regions" if trees else f"add {WANTED}, or name it as data.regions",
    )


def _ours(dataset: Dataset, path: Path) -> LabelMap:
    """The tree of a dataset folder, if it stands on the primary regions."""
    tree = dataset.label_map
    if tree is None:
        raise DataError("no tree of regions", path, fix=f"add labels.csv: {WANTED}")
    known = {label.acronym for label in PRIMARY}
    for id_ in tree.classes:
        line = [tree[i].acronym for i in (id_, *tree.ancestors(id_))]
        if not known & set(line):
            raise DataError(
                "a region under no primary region",
                path / "labels.csv",
                " < ".join(line),
                "give it a parent: " + ", ".join(label.acronym for label in PRIMARY),
            )
    return tree


def _column(root: Path, found: Found, wanted: Sequence[str]) -> tuple[Path | None, dict[str, str]]:
    """Sample -> what the first table with such a column says; every sample must be there."""
    for file in _tables(root, found):
        rows = read_table(file)
        heads = {head.strip().lower().replace(" ", "_"): head for head in (rows or [{}])[0]}
        value = next((heads[name] for name in wanted if name in heads), None)
        image = next((heads[name] for name in IMAGE if name in heads), None)
        if value is None or image is None:
            continue
        told = {row[image]: row[value] for row in rows if row.get(value)}
        told |= {stem_of(name): text for name, text in told.items() if suffix_of(name)}
        lost = [name for name in sorted(found.images) if name not in told]
        if lost:
            raise DataError(f"images without {value} in the table", file, ", ".join(lost[:5]))
        return file, {name: told[name] for name in found.images}
    return None, {}


def _subjects(root: Path, found: Found) -> dict[str, str]:
    return _column(root, found, SUBJECT)[1]


def _table_split(root: Path, found: Found) -> dict[str, list[str]]:
    file, told = _column(root, found, SPLIT)
    for place in dict.fromkeys((found.path, root)):
        for candidate in sorted(place.glob("split*.json")) if not told else ():
            try:
                given = json.loads(candidate.read_text(encoding="utf-8"))
                sides = {stem_of(n): k for k, names in given.items() for n in names}
            except (OSError, ValueError, AttributeError, TypeError):
                continue  # such as nnU-Net's list of folds, which names no test
            if "test" in given:
                file, told = candidate, sides
    splits: dict[str, list[str]] = {}
    for name in sorted(found.images) if told else ():
        side = SIDES.get(told.get(name, "").lower())
        if side is None:
            raise DataError("an image on no side of the split", file, f"{name}: {told.get(name)}")
        splits.setdefault(side, []).append(name)
    return splits


def _sides(
    names: Sequence[str],
    labelled: set[str],
    subjects: Mapping[str, str],
    published: Mapping[str, Sequence[str]],
    seed: int,
) -> tuple[dict[str, list[str]], bool]:
    """Splits of labelled samples, and whether the test was drawn here."""
    splits = {side: [n for n in members if n in labelled] for side, members in published.items()}
    drawn = not splits.get("test")
    if drawn:
        usable = [name for name in names if name in labelled]
        wanted = max(1, round(len(usable) * TEST_IMAGES / IMAGES))
        animals: dict[str, list[str]] = {}
        for name in usable:
            animals.setdefault(subjects.get(name, name), []).append(name)
        if len(animals) < 2:
            raise DataError("labels of fewer than two animals: nothing is left to test on", "dmbm")
        order = sorted(animals)
        keyed_rng(seed, "dmbm test").shuffle(order)
        test: set[str] = set()
        for animal in order:
            if len(test) + len(animals[animal]) <= wanted:
                test.update(animals[animal])
        test = test or set(min(animals.values(), key=len))
        splits = {"train": [n for n in usable if n not in test], "test": sorted(test)}
    rest = [name for name in names if name not in labelled]
    return splits | ({"unlabelled": rest} if rest else {}), drawn
