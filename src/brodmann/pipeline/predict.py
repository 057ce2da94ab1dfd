"""Any model on any images: what `brodmann predict` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from brodmann.core import BrodmannError, DataError, OutputError, RecipeError, Volume
from brodmann.core.files import make_folder, write_json
from brodmann.datasets.folder import open_image, read_folder
from brodmann.datasets.layout import Files, scan
from brodmann.io import read_volume, stem_of, suffix_of
from brodmann.io.formats import KINDS, READ_ONLY
from brodmann.pipeline.mapping import map_image
from brodmann.pipeline.model import Model
from brodmann.pipeline.neurons.predict import predict_affinities, refuse_others
from brodmann.pipeline.stages import content_key, file_hash
from brodmann.report import MappedSection, RunView, write_report

LEDGER = ".predict.json"
"""In OUT: which label and confidence files predict wrote, and from what."""
PAGE = ("labels.csv", "areas.csv", "report.html", "polygons")


@dataclass(frozen=True)
class Input:
    """An image to map; its files are opened when asked for."""

    name: str
    files: list[Path]
    open: Callable[[], Volume]


@dataclass(frozen=True)
class Place:
    """Where the maps of one image go."""

    labels: Path
    confidence: Path | None

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.labels, self.confidence) if path is not None]


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
    workers: int = 1,
    scheduler: str | None = None,
    command: str = "",
    report: Callable[[str, int, int, str], None] = lambda what, done, total, note: None,
) -> dict[str, Any]:
    """Map one image, a folder of images or a dataset folder.

    Parameters
    ----------
    model_folder : Path
    source : Path
        An image file, a folder of them, or a dataset folder, read as its dataset.yaml says.
    target : Path
        A file name with an image's suffix, for one image: only the label image is written.
        Else a folder: `labels/`, `confidence/`, `labels.csv`, `areas.csv`, `polygons/` and
        `report.html` are written.
    spacing : sequence of float, optional
        Micrometres, for files that do not say.
    suffix : str
        Format of the label images, such as ".tif" or "tif".
    step, tissue, confidence
        See the problem's `assemble`.
    mirror : str
        Letters of the axes to average over, such as "x".
    page : bool
        Write pictures, areas and polygons too.
    workers, scheduler
        Of a neuron model; see `predict_affinities`.

    Returns
    -------
    dict
        `images` (name, labels, confidence or the error), `labels_table`, `areas`, `report`; of
        a neuron model `affinities`, see `predict_affinities`.

    Raises
    ------
    OutputError
        Before any work, if a file that is not predict's own would be replaced: an input, a
        file of a dataset folder, or one in `target` that an earlier call did not write.
    BrodmannError
        If no image can be mapped; with several, a bad one is listed and the others go on,
        and then the first error is raised.
    """
    model = Model.load(model_folder)
    axes = model.spatial_axes
    wrong = set(mirror) - set(axes)
    if wrong:
        raise RecipeError(
            "no such axis to mirror", "--mirror", "".join(sorted(wrong)), f"axes are {axes}"
        )
    mirrored = [axes.index(a) for a in mirror]
    if model.problem == "neurons":
        refuse_others(tissue=tissue)
        return predict_affinities(
            model_folder,
            source,
            target,
            spacing=spacing,
            step=step,
            mirror=mirrored,
            workers=workers,
            scheduler=scheduler,
            report=report,
        )
    if workers > 1 or scheduler:
        raise RecipeError(
            "only neuron models are shared among workers", "--workers", scheduler or workers
        )
    suffix = _writable(suffix if suffix.startswith(".") else f".{suffix}", "--format")
    inputs = _inputs(source, model, spacing)
    single = bool(suffix_of(target))
    if single:
        _writable(suffix_of(target), target)
    if single and len(inputs) > 1:
        raise RecipeError("several images need a folder to go to", target, f"{len(inputs)} images")
    confidence = confidence and not single
    options = {"step": step, "mirror": mirrored, "tissue": tissue}
    folder = target.parent if single else target
    ledger = {} if single else _ledger(folder)
    places = [
        Place(
            target if single else folder / "labels" / f"{item.name}{suffix}",
            folder / "confidence" / f"{item.name}{suffix}" if confidence else None,
        )
        for item in inputs
    ]
    _refuse_overwriting(target, single, inputs, places, ledger)
    for part in (folder, *{path.parent for place in places for path in place.files}):
        _folder(part)
    if not single:
        write_json(folder / LEDGER, ledger)
    images: list[dict[str, Any]] = []
    errors: list[BrodmannError] = []
    for index, (item, place) in enumerate(zip(inputs, places)):
        entries = [path.relative_to(folder).as_posix() for path in place.files]
        try:
            image = item.open()
            hashes = [file_hash(file) for file in item.files]
            key = content_key(
                model.fingerprint, hashes, image.axes, image.spacing, options, confidence
            )
            redo = single or any(ledger.get(entry) != key for entry in entries)
            if redo and not single:
                # Known as ours before they are there, so that a stop leaves no unknown file.
                ledger.update(dict.fromkeys(entries, "begun"))
                write_json(folder / LEDGER, ledger)
            map_image(
                model,
                image,
                place.labels,
                confidence_path=place.confidence,
                where=str(item.files[0]),
                key=key,
                redo=redo,
                report=_named(report, item.name),
                **options,
            )
        except BrodmannError as error:
            # A bad file costs itself only.
            errors.append(error)
            images.append({"name": item.name, "error": str(error)})
            continue
        if not single:
            ledger.update(dict.fromkeys(entries, key))
            write_json(folder / LEDGER, ledger)
        images.append(
            {
                "name": item.name,
                "labels": str(place.labels),
                "confidence": str(place.confidence) if place.confidence else None,
            }
        )
        report("images", index + 1, len(inputs), "")
    result: dict[str, Any] = {"images": images}
    if not single:
        model.label_map.to_csv(folder / "labels.csv")
        result["labels_table"] = str(folder / "labels.csv")
    good = [(item, entry) for item, entry in zip(inputs, images) if "error" not in entry]
    if page and good and not single:
        view = RunView(
            title=f"Mapped by {model.facts.get('title', 'a Brodmann model')}",
            description=f"{len(good)} images, {model.label_map.num_classes - 1} regions.",
            command=command,
            label_map=model.label_map,
            sections=_Views(good),
            facts={key.capitalize(): str(value) for key, value in model.facts.items()},
            notes=["No truth is known for these images; confidence is the net's own opinion."],
        )
        result["report"] = str(write_report(view, folder, label_images=False))
        result["areas"] = str(folder / "areas.csv")
    if errors:
        first = errors[0]
        if len(inputs) > 1:
            first.fix = f"{first.fix or 'mend it'}; {len(good)} of {len(inputs)} images were mapped"
        raise first
    return result


class _Views(Sequence[MappedSection]):
    """Mapped images, read when looked at."""

    def __init__(self, entries: list[tuple[Input, dict]]) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        item, entry = self.entries[index]
        image = item.open()
        chance = entry["confidence"]
        return MappedSection(
            entry["name"],
            entry["name"],
            image,
            read_volume(entry["labels"], axes=image.spatial_axes, spacing=image.spacing),
            None,
            read_volume(chance, axes=image.spatial_axes, spacing=image.spacing) if chance else None,
        )


def _inputs(source: Path, model: Model, spacing: Sequence[float] | None) -> list[Input]:
    """The images that `source` stands for; none is opened."""
    axes = ("c" if len(model.channels) > 1 else "") + model.spatial_axes
    if not source.exists():
        raise DataError("no such image or folder", source)
    if source.is_dir() and not suffix_of(source) and _is_dataset(source):
        return _samples(source, axes, spacing)

    def item(file: Path) -> Input:
        return Input(stem_of(file), [file], partial(read_volume, file, axes=axes, spacing=spacing))

    if suffix_of(source):
        return [item(source)]
    if not source.is_dir():
        raise DataError(
            "not an image format that can be read",
            source,
            source.suffix or "no suffix",
            f"use {' '.join(sorted(KINDS))}",
        )
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
    return [item(file) for file in files]


def _is_dataset(folder: Path) -> bool:
    return (folder / "dataset.yaml").exists() or (
        (folder / "images").is_dir() and (folder / "labels.csv").exists()
    )


def _samples(source: Path, axes: str, spacing: Sequence[float] | None) -> list[Input]:
    """The samples of a dataset folder, read as dataset.yaml says."""
    names = read_folder(source).names
    layout = scan(source)
    layout.config.axes = layout.config.axes or axes

    def read(files: Files) -> Volume:
        try:
            return open_image(layout, files)
        except DataError:
            if spacing is None or layout.config.spacing_um:
                raise
        # Neither the file nor dataset.yaml may know the spacing.
        given = replace(layout, config=replace(layout.config, spacing_um=tuple(spacing)))
        return open_image(given, files)

    found = layout.samples
    return [Input(name, found[name].images, partial(read, found[name])) for name in names]


def _writable(suffix: str, where: str | Path) -> str:
    """The suffix in lower case, or why nothing can be written by it."""
    suffix = suffix.lower()
    if suffix not in KINDS or suffix in READ_ONLY:
        known = " ".join(sorted(set(KINDS) - set(READ_ONLY)))
        raise OutputError("not a format that can be written", where, suffix, f"use {known}")
    return suffix


def _refuse_overwriting(
    target: Path, single: bool, inputs: list[Input], places: list[Place], ledger: dict[str, str]
) -> None:
    """Refuse, before any work, a target whose files are somebody's."""
    another = "choose another OUT"
    read = {file.resolve() for item in inputs for file in item.files}
    for path in (path for place in places for path in place.files):
        full = path.resolve()
        if any(full == file or file in full.parents or full in file.parents for file in read):
            raise OutputError("the map would overwrite its image", path, fix=another)
    if single:
        zarr = any((target / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs"))
        if target.is_dir() and not zarr:
            raise OutputError("a folder is in the way", target, fix=another)
        return
    if (target / "dataset.yaml").exists() or (target / "images").is_dir():
        raise OutputError("this folder is a dataset", target, fix=another)
    theirs = [
        path
        for place in places
        for path in place.files
        if path.exists() and path.relative_to(target).as_posix() not in ledger
    ]
    if not (target / LEDGER).is_file():
        theirs += [target / name for name in PAGE if (target / name).exists()]
    if theirs:
        raise OutputError(
            "a file that predict did not write is in the way",
            theirs[0],
            f"{len(theirs)} such" if len(theirs) > 1 else None,
            f"move it or {another}",
        )


def _named(report: Callable[[str, int, int, str], None], name: str) -> Callable[[int, int], None]:
    return lambda done, total: report(name, done, total, "")


def _folder(path: Path) -> Path:
    try:
        return make_folder(path)
    except OutputError as error:
        error.fix = "choose another OUT"
        raise


def _ledger(folder: Path) -> dict[str, str]:
    """File that predict wrote -> key of what it was made from."""
    try:
        kept = json.loads((folder / LEDGER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
