"""What is measured or saved once for a volume, and kept with the work on it."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, ModelError, Volume
from brodmann.core.files import write_json
from brodmann.inference.blocks import work_key
from brodmann.inference.running import Report
from brodmann.inference.tissue import TissueMask
from brodmann.pipeline.cells.tissue import find_tissue
from brodmann.pipeline.cells.work import load_tissue, save_tissue
from brodmann.problems.cells import Detector, Intensity, measure_intensity


class Kept:
    """A folder of what was measured, named by the volume that `key` stands for."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def intensity(self, volume: Volume, mask: TissueMask | None) -> Intensity:
        """Of the tissue, measured the first time."""
        key = work_key(self.key, None if mask is None else mask.digest())
        path = self.folder / f"intensity-{key}.json"
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            return Intensity(float(said["level"]), float(said["deviation"]))
        except (OSError, ValueError, KeyError, TypeError):
            # Not measured yet.
            found = measure_intensity(volume, mask)
        write_json(path, asdict(found))
        return found

    def tissue(self, volume: Volume, coarse: Volume | None, report: Report) -> TissueMask:
        """Where tissue is, found the first time."""
        path = self.folder / f"found-tissue-{self.key}.npz"
        if path.exists():
            try:
                return load_tissue(path)
            except DataError:
                path.unlink()
        report("tissue", 0, 1, "")
        mask = find_tissue(volume, coarse)
        save_tissue(path, mask)
        report("tissue", 1, 1, f"{mask.low.mean():.0%} of the volume")
        return mask

    def saved(self, mask: TissueMask) -> Path:
        """A file that workers read it from."""
        path = self.folder / f"tissue-{mask.digest()}.npz"
        if not path.exists():
            save_tissue(path, mask)
        return path

    def detector(self, detector: Detector) -> tuple[str, Path | None]:
        """Its fingerprint, and a folder that workers load it from if it can be saved."""
        if not hasattr(detector, "save"):
            return _digest(detector), None
        beside = self.folder / f"detector-{uuid.uuid4().hex[:12]}"
        try:
            detector.save(beside)
            digest = hashlib.blake2b(digest_size=10)
            for file in sorted(beside.rglob("*")):
                if file.is_file() and file.suffix != ".md":  # the card is for people
                    digest.update(str(file.relative_to(beside)).encode())
                    digest.update(file.read_bytes())
            path = self.folder / f"detector-{digest.hexdigest()}"
            if not path.exists():
                beside.rename(path)
            return digest.hexdigest(), path
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _digest(detector: Any) -> str:
    """Of a detector that cannot be saved: its class and fields, which are plain data or arrays."""
    if not is_dataclass(detector):
        raise ModelError(
            "a detector is told by what it saves, or by its fields",
            type(detector).__name__,
            fix="give it `save`, or make it a dataclass",
        )
    values: dict[str, Any] = {}
    for each in fields(detector):
        value = getattr(detector, each.name)
        values[each.name] = value.tobytes().hex() if isinstance(value, np.ndarray) else repr(value)
    return work_key(type(detector).__qualname__, values)
