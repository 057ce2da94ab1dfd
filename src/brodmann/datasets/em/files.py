"""A user's own volume with neuron ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brodmann.core import Dataset, RecipeError, nearest
from brodmann.datasets.em.stacks import SPLITS, Files, cut
from brodmann.io import stem_of


def em_files(
    image: str | Path,
    labels: str | Path,
    spacing_um: Sequence[float] | None = None,
    parts: Mapping[str, Any] | None = None,
    ratio: float | None = None,
    *,
    ignore: int | None = None,
    name: str | None = None,
    subject: str = "",
    licence: str = "",
    citation: str = "",
) -> Dataset:
    """Parts of one labelled volume, for training, tuning thresholds and testing.

    Parameters
    ----------
    image, labels : str or Path
        Any format of `brodmann.io.read_volume`, z first; "FILE::NAME" names a dataset within
        HDF5 or zarr. Labels: one id for each neuron, 0 between neurons or unknown.
    spacing_um : (z, y, x), optional
        Overrules the image file; needed where that does not say.
    parts : mapping
        Split -> slices [first, end], end not included, as in Python; or three such pairs for
        z, y and x: ``{"train": [0, 70], "tune": [74, 84], "test": [88, 100]}``. Leave a gap of
        some slices between them: neighbouring slices are nearly the same picture. Splits are
        train, tune (where thresholds are chosen) and test, each optional.
    ratio : float, optional
        Percent of the training voxels to keep, as a block in the middle of the training part.
    ignore : int, optional
        An id that means unknown; it becomes 0.
    name, subject : str, optional
        The image's name when not given.
    licence, citation : str

    Returns
    -------
    Dataset
        Samples "NAME-train", ...: image and labels (uint32 or uint64) "zyx", read by window
        where the format can; `meta` holds the window in the volume.

    Raises
    ------
    DataError
        If a file is missing or damaged, the shapes differ, ids are not whole numbers, or a
        sample's truth holds fewer than two neurons.
    RecipeError
        If a part is not within the volume, parts overlap, a split is unknown, or ratio is not
        a percentage.

    Example
    -------
    >>> import numpy as np, tempfile
    >>> from brodmann.core import Volume
    >>> from brodmann.io import write_volume
    >>> folder = Path(tempfile.mkdtemp())
    >>> ids = np.arange(6 * 8 * 8, dtype=np.uint32).reshape(6, 8, 8) % 5
    >>> for file, values in (("em.tif", ids.astype(np.uint8)), ("ids.tif", ids)):
    ...     _ = write_volume(folder / file, Volume(values, "zyx", (0.03, 0.008, 0.008)))
    >>> data = em_files(folder / "em.tif", folder / "ids.tif", parts={"train": [0, 3], "test": [4, 6]})
    >>> data.splits, data["em-test"].image.shape, data["em-test"].meta["window"]["z"]
    ({'train': ['em-train'], 'test': ['em-test']}, (2, 8, 8), [4, 6])
    """
    if not isinstance(parts, Mapping) or not parts:
        raise RecipeError(
            "say which slices are for what", "parts", parts, 'e.g. {"train": [0, 70], "test": ...}'
        )
    for split in parts:
        if split not in SPLITS:
            raise RecipeError("unknown split", "parts", repr(split), nearest(str(split), SPLITS))
    steps = None if spacing_um is None else _spacing(spacing_um)
    name = name or stem_of(image)
    return cut(
        name,
        {name: Files(image, labels, steps, ignore)},
        {f"{name}-{split}": (name, split, part) for split, part in parts.items()},
        ratio=ratio,
        subjects={name: subject or name},
        licence=licence,
        citation=citation,
        description=f"parts of {Path(str(image)).name} with neuron ids",
    )


def _spacing(given: Any) -> tuple[float, ...]:
    steps = tuple(given) if isinstance(given, list | tuple) else ()
    numbers = all(isinstance(s, int | float) and not isinstance(s, bool) for s in steps)
    if len(steps) != 3 or not numbers or not all(0 < step < float("inf") for step in steps):
        raise RecipeError("spacing_um is three positive numbers (z, y, x)", "spacing_um", given)
    return tuple(float(step) for step in steps)
