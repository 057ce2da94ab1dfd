"""Errors that say what went wrong, where, what was found and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class BrodmannError(Exception):
    """Anything a user can put right. The command line prints it as one line and exits 2.

    Parameters
    ----------
    what : str
        What is wrong, in a few words.
    where : str or Path, optional
        The file, key or argument that is at fault.
    found : object, optional
        The value or shape that was met.
    fix : str, optional
        What to do next.

    Example
    -------
    >>> print(DataError("label id missing from labels.csv", "labels/a.tif", 17, "add id 17"))
    label id missing from labels.csv (labels/a.tif): found 17; add id 17
    """

    def __init__(
        self,
        what: str,
        where: str | Path | None = None,
        found: object = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.found, self.fix = what, where, found, fix
        super().__init__(what, where, found, fix)

    def __str__(self) -> str:
        line = self.what
        if self.where is not None:
            line += f" ({self.where})"
        if self.found is not None:
            line += f": found {self.found}"
        if self.fix:
            line += f"; {self.fix}"
        return " ".join(line.split())


class DataError(BrodmannError):
    """An image, a label map or a dataset folder is at fault."""


class RecipeError(BrodmannError):
    """A recipe, or an option on the command line, is at fault."""


class ModelError(BrodmannError):
    """A model folder is at fault, or does not fit the data it is given."""


class OutputError(BrodmannError):
    """An output cannot be written."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Half a sentence that names the known word most like `word`, for the end of an error.

    >>> nearest("stepz", ["steps", "batch"])
    "did you mean 'steps'?"
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)
