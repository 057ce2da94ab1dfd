"""What lies in a dataset folder, told without opening an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from brodmann.core import DataError, LabelMap, nearest
from brodmann.core.volume import AXES
from brodmann.io import stem_of, suffix_of

KEYS = (
    "name",
    "description",
    "licence",
    "citation",
    "spacing_um",
    "axes",
    "channels",
    "subjects",
    "splits",
)
MAX_YAML_BYTES = 64 * 2**20
PARTS = ("labels", "labels2", "points", "meta")
"""Folders beside images/, each with at most one file for a sample."""


@dataclass(frozen=True)
class Finding:
    """One fault: "error" keeps the dataset from being used, "warning" wants a look."""

    severity: str
    file: str
    what: str
    found: str = ""
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def as_error(self) -> DataError:
        return DataError(self.what, self.file, self.found or None, self.fix or None)


@dataclass
class Config:
    """What dataset.yaml says; everything in it is optional."""

    name: str = ""
    description: str = ""
    licence: str = ""
    citation: str = ""
    spacing_um: tuple[float, ...] | None = None
    axes: str | None = None
    channels: tuple[str, ...] = ()
    subjects: dict[str, str] = field(default_factory=dict)
    splits: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Files:
    """The files of one sample: one image, or one for each channel in the order of the channels."""

    images: list[Path] = field(default_factory=list)
    labels: Path | None = None
    labels2: Path | None = None
    points: Path | None = None
    meta: Path | None = None

    def all(self) -> list[Path]:
        """Every file of the sample that is there."""
        others = (self.labels, self.labels2, self.points, self.meta)
        return [*self.images, *(file for file in others if file is not None)]


@dataclass
class Layout:
    """A scanned folder and every fault met on the way."""

    path: Path
    config: Config = field(default_factory=Config)
    label_map: LabelMap | None = None
    samples: dict[str, Files] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def error(self, file: Path | str, what: str, found: Any = "", fix: str = "") -> None:
        self._add("error", file, what, found, fix)

    def warn(self, file: Path | str, what: str, found: Any = "", fix: str = "") -> None:
        self._add("warning", file, what, found, fix)

    def _add(self, severity: str, file: Path | str, what: str, found: Any, fix: str) -> None:
        file = Path(file)
        shown = file.relative_to(self.path) if file.is_relative_to(self.path) else file
        self.findings.append(Finding(severity, str(shown), what, str(found), fix))

    def attempt(self, file: Path | str, do: Callable[[], Any]) -> Any:
        """The result of `do`, or None with its DataError among the findings."""
        try:
            return do()
        except DataError as fault:
            found = "" if fault.found is None else fault.found
            where = "" if fault.where is None or str(fault.where) == str(file) else fault.where
            place = f" ({Path(str(where)).name})" if where else ""
            self.error(file, f"{fault.what}{place}", found, fault.fix or "")
            return None


def scan(path: str | Path) -> Layout:
    """Read dataset.yaml and labels.csv and pair the files; nothing else is opened.

    Raises
    ------
    DataError
        Only if there is no such folder; every other fault is in `findings`.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError("no such dataset folder", path, fix="check the path")
    layout = Layout(path)
    if (path / "dataset.yaml").exists():
        layout.config = _config(layout, path / "dataset.yaml")
    layout.config.name = layout.config.name or path.resolve().name
    if (path / "labels.csv").exists():
        table = path / "labels.csv"
        layout.label_map = layout.attempt(table, lambda: LabelMap.from_csv(table))
    _images(layout)
    for part in PARTS:
        _attach(layout, part)
    _members(layout)
    return layout


def _config(layout: Layout, file: Path) -> Config:
    import yaml

    try:
        if file.stat().st_size > MAX_YAML_BYTES:
            raise ValueError("the file is longer than 64 MiB")
        # Every scalar stays text, so that a sample called 001 does not become the number 1.
        given = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader) or {}
        if not isinstance(given, dict):
            raise ValueError("keys and values are expected")
    except (yaml.YAMLError, ValueError, OSError) as error:
        layout.error(file, "cannot read dataset.yaml", " ".join(str(error).split())[:200])
        return Config()
    config = Config()
    for key, value in given.items():
        if key not in KEYS:
            layout.error(file, "unknown key", repr(key), nearest(str(key), KEYS))
            continue
        try:
            setattr(config, key, _value(key, value))
        except (ValueError, TypeError) as error:
            layout.error(file, f"key {key!r} {error}", str(value)[:100])
    return config


def _value(key: str, value: Any) -> Any:
    if value == "" and key in ("spacing_um", "axes"):
        return None
    if key == "spacing_um":
        if not isinstance(value, list) or len(value) not in (2, 3):
            raise ValueError("is 2 or 3 numbers in micrometres, such as [25, 25]")
        steps = tuple(float(step) for step in value)
        if not all(0 < step < float("inf") for step in steps):
            raise ValueError("holds positive numbers")
        return steps
    if key == "axes":
        if value not in AXES:
            raise ValueError(f"is one of {', '.join(AXES)}")
        return value
    if key == "channels":
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ValueError("is a list of names")
        return tuple(value)
    if key == "subjects":
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise ValueError("is a table of sample: animal")
        return {str(name): subject for name, subject in value.items()}
    if key == "splits":
        lists = isinstance(value, dict) and all(isinstance(v, list) for v in value.values())
        if not lists or not all(isinstance(n, str) for v in value.values() for n in v):
            raise ValueError("is a table of split: [samples]")
        return {str(name): list(members) for name, members in value.items()}
    if not isinstance(value, str):
        raise ValueError("is text")
    return value


def _listing(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if not file.name.startswith("."))


def _images(layout: Layout) -> None:
    folder = layout.path / "images"
    channels = layout.config.channels
    single: dict[str, list[Path]] = {}
    split: dict[str, dict[str, Path]] = {}
    for file in _listing(folder):
        if not suffix_of(file):
            layout.warn(file, "not an image format that can be read; the file is left aside")
            continue
        stem = stem_of(file)
        name, _, channel = stem.rpartition(".")
        if name and channel in channels:
            split.setdefault(name, {})[channel] = file
        else:
            single.setdefault(stem, []).append(file)
    for name, files in single.items():
        if len(files) > 1 or name in split:
            others = [*files, *split.pop(name, {}).values()]
            found = ", ".join(file.name for file in others)
            layout.error(files[0], "several images of one name", found, "keep one of them")
        layout.samples[name] = Files([files[0]])
    for name, by_channel in split.items():
        missing = [channel for channel in channels if channel not in by_channel]
        if missing:
            layout.error(
                next(iter(by_channel.values())),
                "channels of this sample are missing",
                ", ".join(missing),
                f"add images/{name}.{missing[0]}.tif or drop the channel from dataset.yaml",
            )
        layout.samples[name] = Files([by_channel[c] for c in channels if c in by_channel])
    layout.samples = dict(sorted(layout.samples.items()))
    if not layout.samples:
        layout.error(folder, "the dataset is empty", "no images", "put images into images/")


def _attach(layout: Layout, part: str) -> None:
    suffixes = {"points": ".csv", "meta": ".json"}
    for file in _listing(layout.path / part):
        suffix = suffixes.get(part)
        if not (file.name.lower().endswith(suffix) if suffix else suffix_of(file)):
            layout.warn(file, "not a file of a kind known here; it is left aside")
            continue
        name = file.name[: -len(suffix)] if suffix else stem_of(file)
        if name not in layout.samples:
            close = nearest(name, list(layout.samples)) if layout.samples else ""
            layout.error(file, f"{part} without an image", name, close[:200])
        elif getattr(layout.samples[name], part) is not None:
            layout.error(file, f"several {part} of one name", file.name, "keep one of them")
        else:
            setattr(layout.samples[name], part, file)


def _members(layout: Layout) -> None:
    file = layout.path / "dataset.yaml"
    known = layout.samples
    for split, members in layout.config.splits.items():
        for name in members:
            if name not in known:
                hint = nearest(name, list(known)) if known else ""
                layout.error(
                    file, f"split {split!r} names a sample that is not there", name, hint[:200]
                )
        for name in sorted({n for n in members if members.count(n) > 1}):
            layout.error(file, f"split {split!r} names a sample twice", name, "name it once")
    for name in layout.config.subjects:
        if name not in known:
            hint = nearest(name, list(known)) if known else ""
            layout.error(file, "subjects names a sample that is not there", name, hint[:200])
