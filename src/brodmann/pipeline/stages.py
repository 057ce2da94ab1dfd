"""Stages: work whose outcome is kept under a key made of everything that it depends on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from brodmann.core import OutputError
from brodmann.core.files import make_folder, write_json, write_text

MARK = "stage.json"


def content_key(*parts: Any) -> str:
    """A short hash of plain data; equal data in any key order give equal keys."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def file_hash(path: Path) -> str:
    """Hash of a file's bytes, or of a folder's files and their names (a Zarr array, say)."""
    digest = hashlib.blake2b(digest_size=16)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


class Stages:
    """The stages of one run folder.

    A stage owns a sub-folder. It is done when its `stage.json` names the present key; then its
    recorded outcome is handed back. With another key the folder is emptied and the work is
    done anew; with the same key but no mark, the work goes on with what lies there.

    Parameters
    ----------
    folder : Path
        The run folder.
    announce : callable
        Called with (stage name, "start" | "kept" | "done").
    """

    def __init__(
        self, folder: Path, announce: Callable[[str, str], None] = lambda name, state: None
    ) -> None:
        self.folder, self.announce = make_folder(folder), announce

    def run(
        self, name: str, depends: Mapping[str, Any], work: Callable[[Path], dict[str, Any]]
    ) -> tuple[dict[str, Any], str]:
        """Do a stage, or take its kept outcome.

        Parameters
        ----------
        name : str
        depends : mapping
            Plain data; any difference makes the stage anew.
        work : callable
            Stage folder -> outcome (plain data). Must go on from what it finds there.

        Returns
        -------
        outcome : dict
        key : str
            For stages that depend on this one.
        """
        key = content_key(name, depends)
        folder = self.folder / name
        begun, mark = folder / ".key", folder / MARK
        if mark.exists():
            kept = _read(mark)
            if kept.get("key") == key:
                self.announce(name, "kept")
                return kept["outcome"], key
        if folder.exists() and (not begun.exists() or begun.read_text("utf-8") != key):
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise OutputError("cannot clear an old stage", folder, error.strerror) from error
        make_folder(folder)
        write_text(begun, key)
        self.announce(name, "start")
        outcome = work(folder)
        write_json(mark, {"key": key, "outcome": outcome})
        self.announce(name, "done")
        return outcome, key


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
