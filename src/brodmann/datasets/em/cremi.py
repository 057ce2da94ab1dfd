"""CREMI: three volumes of an adult fly's brain with neuron ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Dataset, RecipeError, Volume
from brodmann.datasets.em.layouts import below
from brodmann.datasets.em.stacks import checked, cut
from brodmann.datasets.em.windows import Lazy
from brodmann.io.hdf5 import read_hdf5

SPACING_UM = (0.04, 0.004, 0.004)
UNKNOWN = 2**64 - 1
RAW, IDS = "volumes/raw", "volumes/labels/neuron_ids"
FILES = ("sample_{}_20160501.hdf", "sample_{}_padded_20160501.hdf", "sample{}.h5", "sample_{}.hdf")
"""Names looked for, at most four folders below the root."""
SHARES = {"train": (0.0, 0.6), "tune": (0.632, 0.76), "test": (0.8, 1.0)}
"""Along z; of 125 slices that is 0 to 74, 79 to 94 and 100 to 124."""
FIX = "fetch it: brodmann data get cremi FOLDER"


def cremi(
    root: str | Path,
    samples: Sequence[str] = ("A", "B", "C"),
    split: str = "within",
    ratio: float | None = None,
) -> Dataset:
    """Volumes A, B and C (each 125 x 1250 x 1250), cut along z or kept apart.

    The challenge's test labels are not public; a score here is not one of its board.

    Parameters
    ----------
    root : str or Path
        Holds sample_A_20160501.hdf (or the padded file: its raw margin is left out), and so on.
    samples : sequence of str
        Which of A, B, C, in this order.
    split : "within" or "samples"
        "within": of each volume slices 0 to 74 train, 79 to 94 tune, 100 to 124 test.
        "samples": the last volume is the test; of the others slices 0 to 94 train and 100 to
        124 tune. All are of one fly, but the last is another tissue.
    ratio : float, optional
        Percent of the training voxels to keep, in the middle of each training part.

    Returns
    -------
    Dataset
        "cremi-a-train", ...; 0.04 x 0.004 x 0.004 um by the files' own word; ids uint64. The id
        2^64 - 1, that of voxels nobody labelled, is 0.

    Raises
    ------
    DataError
        If a file is missing or is not CREMI's.
    RecipeError
        On other samples or another split.

    Source: Funke et al. 2016, cremi.org.

    Example
    -------
    >>> cremi("data/cremi", ["A", "C"], "samples").splits["test"]  # doctest: +SKIP
    ['cremi-c-test']
    """
    names = [samples] if isinstance(samples, str) else list(samples)
    if not names or len(set(names)) < len(names) or not set(names) <= {"A", "B", "C"}:
        raise RecipeError("samples are A, B and C, once each", "samples", names)
    if split not in ("within", "samples"):
        raise RecipeError("unknown split", "split", repr(split), "use within or samples")
    if split == "samples" and len(names) < 2:
        raise RecipeError("a split by sample needs two or more", "samples", names)
    found = below(Path(root), FIX)
    openers = {}
    for letter in names:
        wanted = [name.format(letter) for name in FILES]
        file = next((found[name.lower()] for name in wanted if name.lower() in found), None)
        if file is None:
            raise DataError(
                f"no sample {letter} here", root, fix=f"looked for {', '.join(wanted)}; {FIX}"
            )
        openers[letter] = Cremi(str(file))
    depths = {letter: open_()[0].shape[0] for letter, open_ in openers.items()}
    parts: dict[str, tuple[str, str, Any]] = {}
    for letter in names:
        low = f"cremi-{letter.lower()}"
        spans = {
            s: (round(a * depths[letter]), round(b * depths[letter]))
            for s, (a, b) in SHARES.items()
        }
        if split == "samples":
            last = letter == names[-1]
            spans = (
                {"test": (0, depths[letter])}
                if last
                else {"train": (0, spans["tune"][1]), "tune": spans["test"]}
            )
        parts |= {f"{low}-{s}": (letter, s, span) for s, span in spans.items()}
    return cut(
        "cremi",
        openers,
        parts,
        ratio=ratio,
        subjects=dict.fromkeys(names, "fly"),
        licence="see cremi.org (for research)",
        citation="Funke, Saalfeld, Bock, Turaga and Perlman 2016, CREMI, cremi.org",
        description=f"CREMI {', '.join(names)}, split {split}; the challenge's test labels are "
        "not public",
    )


@dataclass(frozen=True)
class Cremi:
    """Opens one file: the raw voxels that have labels, and the labels."""

    file: str

    def __call__(self) -> tuple[Volume, Volume]:
        raw, ids = (read_hdf5(Path(self.file), name) for name in (RAW, IDS))
        spacing = tuple(raw.spacing.get(axis, s) for axis, s in zip("zyx", SPACING_UM))
        start = _offset(self.file, spacing)
        box = tuple((a, a + n) for a, n in zip(start, ids.data.shape))
        if any(b > n for (_, b), n in zip(box, raw.data.shape)):
            raise DataError(
                "image and labels differ in shape",
                self.file,
                f"image {raw.data.shape}, labels {ids.data.shape} from {start}",
            )
        image: Any = raw.data
        if ids.data.shape != raw.data.shape:
            image = Lazy(raw.data, box)  # type: ignore[arg-type]
        return checked(
            Volume(image, "zyx", spacing), Volume(ids.data, "zyx", spacing), self.file, UNKNOWN
        )


def _offset(file: str, spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Where the labels begin in the raw volume, in voxels; the file says it in nanometres."""
    import h5py

    with h5py.File(file, "r") as opened:
        given = np.asarray(opened[IDS].attrs.get("offset", (0, 0, 0)), float).reshape(-1)
    if len(given) != 3 or not np.isfinite(given).all() or (given < 0).any():
        raise DataError("the offset of the labels is three distances from 0", file, given)
    return tuple(round(d / (1000 * s)) for d, s in zip(given, spacing))
