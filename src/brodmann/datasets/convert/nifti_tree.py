"""Trees of NIfTI files: images/ and labels/, or imagesTr/ and labelsTr/ (Decathlon)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from brodmann.core import BACKGROUND, DataError, Dataset, Label, LabelMap, Sample
from brodmann.datasets.convert.parts import color_of, labels_on, read_object, read_table
from brodmann.datasets.folder import write_folder
from brodmann.datasets.statistics import count_ids
from brodmann.io import read_volume, stem_of, suffix_of

FOLDERS = (
    ("images", "labels", ""),
    ("imagesTr", "labelsTr", "train"),
    ("imagesTs", "labelsTs", "test"),
)


def read_nifti_tree(path: str | Path, spacing: tuple[float, ...] | None = None) -> Dataset:
    """A folder with images/*.nii.gz and labels/*.nii.gz, paired by name, as a Dataset.

    imagesTr, labelsTr and imagesTs (Medical Segmentation Decathlon) give the splits "train"
    and "test". Labels are named by labels.csv, else by dataset.json, else ("label 3") by the
    ids found, for which every label file is read once.

    Raises
    ------
    DataError
        If there are no images, or a label has no image.
    """
    path = Path(path)
    info = read_object(path / "dataset.json") if (path / "dataset.json").exists() else {}
    pairs: dict[str, tuple[Path, Path | None]] = {}
    splits: dict[str, list[str]] = {}
    for images, labels, split in FOLDERS:
        truth = {stem_of(file): file for file in _files(path / labels)}
        for file in _files(path / images):
            name = stem_of(file)
            pairs[name] = (file, truth.pop(name, None))
            if split:
                splits.setdefault(split, []).append(name)
        if truth:
            raise DataError("labels without an image", path / labels, sorted(truth)[:3])
    if not pairs:
        raise DataError("no NIfTI images", path / "images", fix="put them into images/")
    return Dataset(
        str(info.get("name") or path.resolve().name),
        sorted(pairs),
        _Loader(pairs, spacing),
        read_table(path) or _names(info, pairs, spacing),
        None,
        splits,
        str(info.get("licence", "")),
        str(info.get("reference", "")),
        str(info.get("description", "")),
    )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = sorted(folder.iterdir())
    return [f for f in files if suffix_of(f).startswith(".nii") and not f.name.startswith(".")]


def _names(
    info: dict, pairs: dict[str, tuple[Path, Path | None]], spacing: tuple[float, ...] | None
) -> LabelMap | None:
    named = info.get("labels") or {}
    if named and all(str(key).isdecimal() for key in named):
        ids = {int(key): str(name) for key, name in named.items()}
    elif not any(labels for _, labels in pairs.values()):
        return None
    else:
        found: set[int] = set()
        for name, (_, labels) in pairs.items():
            if labels is not None:
                sample = _Loader(pairs, spacing)(name)
                found |= set(count_ids(sample.labels))  # type: ignore[arg-type]
        ids = {id_: f"label {id_}" for id_ in sorted(found)}
    return LabelMap(
        [
            Label(id_, name, name, None, color_of(at))
            for at, (id_, name) in enumerate(sorted(ids.items()))
            if id_ != BACKGROUND
        ]
    )


@dataclass(frozen=True)
class _Loader:
    pairs: dict[str, tuple[Path, Path | None]]
    spacing: tuple[float, ...] | None

    def __call__(self, name: str) -> Sample:
        file, truth = self.pairs[name]
        image = read_volume(file, spacing=self.spacing)
        return Sample(name, image, None if truth is None else labels_on(truth, image))


def write_nifti_tree(dataset: Dataset, path: str | Path) -> Path:
    """Write images/*.nii.gz and labels/*.nii.gz, with labels.csv and dataset.yaml beside them.

    Arrays are written in their own order with a diagonal affine: what orientation an
    earlier NIfTI file had in its affine is not kept.
    """
    return write_folder(dataset, path, suffix=".nii.gz")
