"""Where the sections of a DMBM folder are and how they are parted, told without opening one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from brodmann.core import DataError
from brodmann.datasets.convert.parts import read_object
from brodmann.io import stem_of, suffix_of

CHANNELS = ("SAP102", "PSD95")
LABEL_FOLDERS = ("labels", "masks", "annotations")
SIDES = {"train": "train", "training": "train", "trainval": "train", "test": "test"}
SIDES |= {"val": "train", "validation": "train", "testing": "test"}
"""What a split may be called; validation is drawn from training anew."""
LOOKED_FOR = (
    "dataset.yaml with images/ and labels/; imagesTr/ and labelsTr/ with dataset.json (nnU-Net); "
    "images/ and labels/; train/ and test/ with these; SAP102/, PSD95/ and labels/"
)


@dataclass
class Found:
    """What lies in a folder, before anything is opened: files of each sample, and sides."""

    layout: str
    path: Path
    images: dict[str, list[Path]] = field(default_factory=dict)
    labels: dict[str, Path] = field(default_factory=dict)
    splits: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, int] | None = None
    order: tuple[int, ...] = (0, 1)
    """Which of the files or planes are SAP102 and PSD95."""


def find(root: Path) -> Found:
    """The layout nearest to `root`."""
    if not root.is_dir():
        raise DataError("no such folder", root, fix="fetch it: brodmann data get dmbm FOLDER")
    level = [root]
    for _ in range(3):
        met = [found for found in map(_look, level) if found]
        if len(met) > 1:
            found = ", ".join(str(one.path.relative_to(root)) for one in met)
            raise DataError("several datasets in this folder", root, found, "name one as data.root")
        if met:
            if not met[0].images and met[0].layout != "folder":
                raise DataError("no images in this dataset", met[0].path)
            return met[0]
        level = [sub for folder in level for sub in sorted(folder.iterdir()) if _visible(sub)]
    inside = ", ".join(sorted(file.name for file in root.iterdir())[:8])
    raise DataError("no DMBM layout", root, inside or "nothing", f"looked for {LOOKED_FOR}")


def _visible(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".")


def _look(folder: Path) -> Found | None:
    if (folder / "dataset.yaml").is_file():
        return Found("folder", folder)
    if (folder / "imagesTr").is_dir():
        return _nnunet(folder)
    sides = [sub for sub in sorted(folder.iterdir()) if _visible(sub) and sub.name.lower() in SIDES]
    found = Found("images and labels", folder)
    for part in [sub for sub in sides if _pair(sub)] or [folder]:
        pair = _pair(part)
        if pair is None:
            return None
        images = _images(pair[0])
        twice = sorted(set(images) & set(found.images))
        if twice:
            raise DataError("one image on two sides of the split", part, ", ".join(twice[:3]))
        found.images |= images
        found.labels |= {n: f for n, f in _labels(pair[1]).items() if n in images}
        if part != folder:
            found.splits.setdefault(SIDES[part.name.lower()], []).extend(sorted(images))
    return found


def _pair(folder: Path) -> tuple[Path, Path] | None:
    """Where images and where labels are."""
    labels = [folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()]
    if labels and (folder / "images").is_dir():
        return folder / "images", labels[0]
    return (folder, labels[0]) if labels and len(_channel_folders(folder)) == 2 else None


def _nnunet(folder: Path) -> Found:
    info = read_object(folder / "dataset.json")
    found = Found("nnU-Net", folder, values=_values(info, folder))
    named = info.get("channel_names", info.get("modality", {}))
    called = [str(named[key]).upper() for key in sorted(named, key=int)]
    at = [next((i for i, text in enumerate(called) if name in text), None) for name in CHANNELS]
    if None not in at:
        found.order = tuple(i for i in at if i is not None)
    for side, split in (("Tr", "train"), ("Ts", "test")):
        images = _images(folder / f"images{side}") if (folder / f"images{side}").is_dir() else {}
        if images:
            found.images |= images
            found.labels |= {
                n: f for n, f in _labels(folder / f"labels{side}").items() if n in images
            }
            found.splits[split] = sorted(images)
    if "test" not in found.splits:
        found.splits = {}
    return found


def _values(info: Mapping, folder: Path) -> dict[str, int]:
    labels = info.get("labels")
    try:
        if all(str(key).isdecimal() for key in labels):  # version 1: {"1": name}
            return {str(name): int(value) for value, name in labels.items()}
        return {str(name): int(value) for name, value in labels.items()}
    except (TypeError, ValueError, AttributeError):
        raise DataError(
            "dataset.json needs labels, one number for each name", folder / "dataset.json"
        ) from None


def _channel_of(text: str) -> tuple[str, int] | None:
    """The sample and the channel that a file name tells.

    >>> _channel_of("m07_PSD95"), _channel_of("m07_0000"), _channel_of("m07")
    (('m07', 1), ('m07', 0), None)
    """
    match = re.fullmatch(r"(.+?)[._ -](sap102\w*|psd95\w*|000[01])", text, re.IGNORECASE)
    if match is None:
        return None
    return match[1], int(match[2].lower().startswith("psd95") or match[2] == "0001")


def _channel_folders(folder: Path) -> dict[int, Path]:
    named = {i: name.lower() for i, name in enumerate(CHANNELS)}
    subs = [sub for sub in sorted(folder.iterdir()) if _visible(sub)]
    return {i: sub for i, name in named.items() for sub in subs if name in sub.name.lower()}


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [f for f in sorted(folder.iterdir()) if suffix_of(f) and not f.name.startswith(".")]


def names_in(folder: Path) -> list[str]:
    return [stem_of(file) for file in _files(folder)]


def _images(folder: Path) -> dict[str, list[Path]]:
    """Sample -> one file, or one for each channel."""
    parts: dict[str, dict[int, Path]] = {}
    whole: dict[str, list[Path]] = {}
    for channel, sub in _channel_folders(folder).items():
        for file in _files(sub):
            told = _channel_of(stem_of(file))
            parts.setdefault(told[0] if told else stem_of(file), {})[channel] = file
    for file in _files(folder):
        told = _channel_of(stem_of(file))
        name = told[0] if told else stem_of(file)
        if told:
            parts.setdefault(name, {})[told[1]] = file
        elif name in whole:
            raise DataError("several images of one name", file, fix="keep one of them")
        else:
            whole[name] = [file]
    for name, by_channel in parts.items():
        if name in whole:
            raise DataError("several images of one name", folder, name, "keep one of them")
        alone = next(iter(by_channel.values()))
        if len(by_channel) == 1 and not stem_of(alone).endswith("_0000"):
            missing = CHANNELS[1 - next(iter(by_channel))]
            raise DataError("a channel is missing", alone, fix=f"add the file of {missing}")
        whole[name] = [by_channel[channel] for channel in sorted(by_channel)]
    return whole


def _labels(folder: Path) -> dict[str, Path]:
    return {
        re.sub(r"[._-](labels?|masks?|seg|annotations?)$", "", stem_of(f), flags=re.IGNORECASE): f
        for f in _files(folder)
    }
