"""Any model on any images: what `brodmann predict` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from brodmann.core import BrodmannError, DataError, RecipeError, Volume
from brodmann.core.files import make_folder, write_json
from brodmann.io import read_volume, stem_of, suffix_of
from brodmann.pipeline.mapping import map_image
from brodmann.pipeline.model import Model
from brodmann.pipeline.stages import content_key, file_hash
from brodmann.report import MappedSection, RunView, write_report


def predict_images(
    model_folder: Path,
    source: Path,
    target: Path,
    *,
    spacing: Sequence[float] | None = None,
    suffix: str = ".tif",
    step: float = 0.5,
    mirror: str = "",
    tissue: bool = False,
    confidence: bool = True,
    page: bool = True,
    command: str = "",
    report: Callable[[str, int, int, str], None] = lambda what, done, total, note: None,
) -> dict[str, Any]:
    """Map one image, a folder of images or a dataset folder.

    Parameters
    ----------
    model_folder : Path
    source : Path
        An image file, a folder of them, or a folder with `images/`.
    target : Path
        A file name with an image's suffix, for one image: only the label image is written.
        Else a folder: `labels/`, `confidence/`, `labels.csv`, `areas.csv`, `polygons/` and
        `report.html` are written.
    spacing : sequence of float, optional
        Micrometres, for files that do not say.
    suffix : str
        Format of the label images.
    step, tissue, confidence
        See the problem's `assemble`.
    mirror : str
        Letters of the axes to average over, such as "x".
    page : bool
        Write pictures, areas and polygons too.

    Returns
    -------
    dict
        `images` (name, labels, confidence or the error), `labels_table`, `areas`, `report`.

    Raises
    ------
    BrodmannError
        If no image can be mapped; with several, a bad one is listed and the others go on,
        and then the first error is raised.
    """
    model = Model.load(model_folder)
    files = _files(source)
    single = bool(suffix_of(target))
    if single and len(files) > 1:
        raise RecipeError("several images need a folder to go to", target, f"{len(files)} images")
    axes = model.spatial_axes
    wrong = set(mirror) - set(axes)
    if wrong:
        raise RecipeError(
            "no such axis to mirror", "--mirror", "".join(sorted(wrong)), f"axes are {axes}"
        )
    options = {"step": step, "mirror": [axes.index(a) for a in mirror], "tissue": tissue}
    folder = make_folder(target.parent if single else target)
    labels_dir = folder if single else make_folder(folder / "labels")
    confidence_dir = None
    if confidence and not single:
        confidence_dir = make_folder(folder / "confidence")
    ledger_file = folder / ".predict.json"
    ledger = {} if single else _ledger(ledger_file)
    images: list[dict[str, Any]] = []
    errors: list[BrodmannError] = []
    for index, file in enumerate(files):
        name = stem_of(file)
        labels_path = target if single else labels_dir / f"{name}{suffix}"
        confidence_path = confidence_dir / f"{name}{suffix}" if confidence_dir else None
        try:
            image = _open(file, model, spacing)
            key = content_key(model.fingerprint, file_hash(file), image.spacing, options)
            if ledger.get(name) != key or single:
                for old in (labels_path, confidence_path):
                    if old is not None and old.is_file():
                        old.unlink()
            map_image(
                model,
                image,
                labels_path,
                confidence_path=confidence_path,
                where=str(file),
                report=lambda done, total, name=name: report(name, done, total, ""),
                **options,
            )
        except BrodmannError as error:
            # A bad file costs itself only.
            errors.append(error)
            images.append({"name": name, "error": str(error)})
            continue
        if not single:
            ledger[name] = key
            write_json(ledger_file, ledger)
        images.append(
            {
                "name": name,
                "labels": str(labels_path),
                "confidence": str(confidence_path) if confidence_path else None,
            }
        )
        report("images", index + 1, len(files), "")
    result: dict[str, Any] = {"images": images}
    if not single:
        model.label_map.to_csv(folder / "labels.csv")
        result["labels_table"] = str(folder / "labels.csv")
    good = [(file, entry) for file, entry in zip(files, images) if "error" not in entry]
    if page and good and not single:
        view = RunView(
            title=f"Mapped by {model.facts.get('title', 'a Brodmann model')}",
            description=f"{len(good)} images, {model.label_map.num_classes - 1} regions.",
            command=command,
            label_map=model.label_map,
            sections=_Views(model, good, spacing),
            facts={key.capitalize(): str(value) for key, value in model.facts.items()},
            notes=["No truth is known for these images; confidence is the net's own opinion."],
        )
        result["report"] = str(write_report(view, folder, label_images=False))
        result["areas"] = str(folder / "areas.csv")
    if errors:
        first = errors[0]
        if len(files) > 1:
            first.fix = f"{first.fix or 'mend it'}; {len(good)} of {len(files)} images were mapped"
        raise first
    return result


class _Views(Sequence[MappedSection]):
    """Mapped images, read when looked at."""

    def __init__(
        self, model: Model, entries: list[tuple[Path, dict]], spacing: Sequence[float] | None
    ) -> None:
        self.model, self.entries, self.spacing = model, entries, spacing

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        file, entry = self.entries[index]
        image = _open(file, self.model, self.spacing)
        chance = entry["confidence"]
        return MappedSection(
            entry["name"],
            entry["name"],
            image,
            read_volume(entry["labels"], axes=image.spatial_axes, spacing=image.spacing),
            None,
            read_volume(chance, axes=image.spatial_axes, spacing=image.spacing) if chance else None,
        )


def _open(file: Path, model: Model, spacing: Sequence[float] | None) -> Volume:
    axes = ("c" if len(model.channels) > 1 else "") + model.spatial_axes
    return read_volume(file, axes=axes, spacing=spacing)


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise DataError("no such image or folder", source)
    if suffix_of(source):
        return [source]
    folder = source / "images" if (source / "images").is_dir() else source
    files = sorted(p for p in folder.iterdir() if suffix_of(p) and not p.name.startswith("."))
    if not files:
        raise DataError(
            "no images in this folder", folder, fix="give .tif, .png, .nii.gz, .h5 or .zarr"
        )
    stems = [stem_of(file) for file in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise DataError("two images of one name", folder, twice[:3], "rename one of each")
    return files


def _ledger(path: Path) -> dict[str, str]:
    """Name -> key of what its label image was made from."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
