"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brodmann.core.errors import OutputError


def make_folder(path: Path) -> Path:
    """Make a folder that can be written to, or say why not."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            "this folder cannot be written",
            path,
            error.strerror or error,
            "choose another with --out",
        ) from error
    return path


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place only when the block ends well.

    The temporary name keeps the suffix, since writers choose the format by it.
    """
    path = Path(path)
    beside = path.with_name(f".{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        yield beside
        if beside.is_file():
            with beside.open("rb") as file:
                os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise OutputError(
            "cannot write", path, error.strerror or error, "free some space or choose another place"
        ) from error
    finally:
        if beside.is_file():
            beside.unlink()


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: Path, value: Any) -> Path:
    """Write JSON that any reader takes: indented, keys as given, NaN refused."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
