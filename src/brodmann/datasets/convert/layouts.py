"""Which layout a folder has, and from one to another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from brodmann.core import DataError, Dataset, RecipeError, Sample, nearest
from brodmann.datasets.convert.coco import coco_files, read_coco, write_coco
from brodmann.datasets.convert.nifti_tree import read_nifti_tree, write_nifti_tree
from brodmann.datasets.convert.nnunet import read_nnunet, write_nnunet
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.io import stem_of, suffix_of

WRITERS: dict[str, Callable[..., Path]] = {
    "folder": write_folder,
    "nnunet": write_nnunet,
    "coco": write_coco,
    "nifti": write_nifti_tree,
}
READERS: dict[str, Callable[..., Dataset]] = {
    "nnunet": read_nnunet,
    "coco": read_coco,
    "nifti": read_nifti_tree,
}
"""Readers that take a spacing; "folder" has it in dataset.yaml."""


def detect(path: str | Path) -> str:
    """The layout of a dataset: "folder", "nnunet", "coco" or "nifti".

    Raises
    ------
    DataError
        If it is none of these.
    """
    path = Path(path)
    if not path.exists():
        raise DataError("no such dataset", path, fix="check the path")
    if path.is_file():
        if path.suffix == ".json":
            return "coco"
        raise DataError("this is a file, not a dataset folder", path)
    if (path / "dataset.yaml").exists():
        return "folder"
    if (path / "imagesTr").is_dir():
        stems = [stem_of(file) for file in (path / "imagesTr").iterdir() if suffix_of(file)]
        numbered = any(stem.endswith("_0000") for stem in stems)
        return "nnunet" if numbered and (path / "dataset.json").exists() else "nifti"
    if (path / "annotations").is_dir() and coco_files(path):
        return "coco"
    images = [file for file in path.glob("images/*") if suffix_of(file)]
    if (path / "labels.csv").exists() and images:
        return "folder"
    if images and all(suffix_of(file).startswith(".nii") for file in images):
        return "nifti"
    if images:
        return "coco" if coco_files(path) else "folder"
    if coco_files(path):
        return "coco"
    raise DataError(
        "this is no dataset layout known here",
        path,
        fix="expected dataset.yaml, imagesTr/, annotations/ or images/",
    )


def open_dataset(
    path: str | Path, layout: str | None = None, spacing: tuple[float, ...] | None = None
) -> Dataset:
    """A dataset of any of the layouts; which one is seen from its files unless it is named.

    Parameters
    ----------
    path : str or Path
    layout : "folder", "nnunet", "coco" or "nifti", optional
    spacing : tuple of float, optional
        Micrometres, for files that do not say; a dataset folder states it in dataset.yaml.
    """
    layout = layout or detect(path)
    if layout == "folder":
        if spacing is not None:
            raise RecipeError(
                "a dataset folder states its own spacing",
                path,
                fix="write spacing_um in dataset.yaml",
            )
        return read_folder(path)
    if layout not in READERS:
        known = ["folder", *READERS]
        raise RecipeError("unknown dataset layout", found=repr(layout), fix=nearest(layout, known))
    return READERS[layout](path, spacing=spacing)


def convert(
    source: str | Path,
    target: str | Path,
    to: str,
    layout: str | None = None,
    spacing: tuple[float, ...] | None = None,
    report: Callable[[str, int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Read a dataset of one layout and write it in another.

    Parameters
    ----------
    source, target : str or Path
    to : "folder", "nnunet", "coco" or "nifti"
    layout : str, optional
        Of the source; seen from its files unless given.
    spacing : tuple of float, optional
        Micrometres, for files that do not say.
    report : callable, optional
        Called as (what, done, total, note) for each sample.

    Returns
    -------
    dict
        `path` of the folder written, `from`, `to`, and the number of `samples`.
    """
    if to not in WRITERS:
        raise RecipeError("unknown dataset layout", "--to", repr(to), nearest(to, WRITERS))
    if Path(source).resolve() == Path(target).resolve():
        raise RecipeError("source and target are the same folder", found=target)
    layout = layout or detect(source)
    dataset = open_dataset(source, layout, spacing)
    if not len(dataset):
        raise DataError("the dataset is empty", source)
    written = WRITERS[to](_reporting(dataset, report) if report else dataset, target)
    return {"path": str(written), "from": layout, "to": to, "samples": len(dataset)}


def _reporting(dataset: Dataset, report: Callable[[str, int, int, str], None]) -> Dataset:
    """The same dataset, telling of each sample that is read from it."""
    count = iter(range(1, len(dataset) + 1))

    def load(name: str) -> Sample:
        report("convert", next(count), len(dataset), name)
        return dataset[name]

    return Dataset(
        dataset.name,
        dataset.names,
        load,
        dataset.label_map,
        dataset.subjects,
        dataset.splits,
        dataset.licence,
        dataset.citation,
        dataset.description,
    )


def numbers(text: str | None) -> tuple[float, ...] | None:
    """Spacing as it is typed.

    >>> numbers("50,25,25"), numbers(None)
    ((50.0, 25.0, 25.0), None)
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError(
            "spacing is numbers with commas between", "--spacing", repr(text)
        ) from None
