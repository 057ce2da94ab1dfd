"""What a detector of cells is, and what follows for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from brodmann.core import ModelError, Points, Volume
from brodmann.core.files import make_folder, write_text
from brodmann.postprocess.maxima import find_maxima
from brodmann.problems.cells.intensity import Intensity, measure_intensity
from brodmann.problems.cells.model_folder import read_description

DETECTOR_FILE = "detector.yaml"
FORMAT = 1
SPACING_TOLERANCE = 0.02
"""Relative difference of spacing that is let pass."""


class Detector(Protocol):
    """Says for each voxel how likely it is the centre of a cell.

    `radius` is that of the peak window and `threshold` the heat above which a peak is a cell.
    Heat at a voxel depends on no voxel further than `halo` along an axis, if windows begin at
    multiples of `multiple`.
    """

    name: str
    spacing: tuple[float, ...]
    radius: tuple[int, ...]
    threshold: float

    @property
    def channels(self) -> int:
        """Of the images that it takes."""

    @property
    def halo(self) -> tuple[int, ...]:
        """In voxels along each axis, without the peak radius."""

    @property
    def multiple(self) -> tuple[int, ...]:
        """Voxels along each axis that the origin of a window is a multiple of."""

    def heat(self, raw: np.ndarray, intensity: Intensity, trim: Sequence[int] = ()) -> np.ndarray:
        """As recorded, *spatial or (c, *spatial) -> float32 (*spatial less 2 trim).

        At a true border the caller pads by a mirrored image ("symmetric") as far as `halo`.
        `trim` says how many voxels of each side are there for that alone: heat within is the
        same, and sooner there.
        """

    def save(self, folder: Path) -> Path:
        """Write a folder that `load_detector` reads."""


def check_volume(detector: Detector, volume: Volume, where: str = "volume") -> None:
    """Refuse a volume that a detector cannot know how to read.

    Raises
    ------
    ModelError
        If dimensions, channels or spacing differ from those that it was made for.
    """
    if volume.ndim != len(detector.spacing):
        raise ModelError(f"the detector is {len(detector.spacing)}D", where, volume.axes)
    if volume.num_channels != detector.channels:
        raise ModelError(
            f"the detector takes {detector.channels} channels", where, volume.num_channels
        )
    if any(abs(a / b - 1) > SPACING_TOLERANCE for a, b in zip(volume.spacing, detector.spacing)):
        raise ModelError(
            f"the detector was made at a spacing of {in_um(detector.spacing)}",
            where,
            in_um(volume.spacing),
            "resample the volume, or correct its spacing",
        )


def heat_of(detector: Detector, volume: Volume, intensity: Intensity | None = None) -> np.ndarray:
    """The heat of a whole volume in memory: what blocks must give too.

    Parameters
    ----------
    detector : Detector
    volume : Volume
    intensity : Intensity, optional
        That of the brain that the volume is a piece of; measured on the volume if not given.

    Returns
    -------
    ndarray
        (*spatial) float32.
    """
    check_volume(detector, volume)
    intensity = intensity or measure_intensity(volume)
    margin = [-(-h // m) * m for h, m in zip(detector.halo, detector.multiple)]
    raw = np.pad(volume.read(), [(0, 0), *((n, n) for n in margin)], mode="symmetric")
    return detector.heat(raw, intensity, margin)


def find_cells(detector: Detector, volume: Volume, intensity: Intensity | None = None) -> Points:
    """Cells of a volume in memory; see `pipeline.cells` for volumes of any size."""
    heat = heat_of(detector, volume, intensity)
    return as_points(*find_maxima(heat, detector.radius, detector.threshold))


def as_points(coordinates: np.ndarray, scores: np.ndarray) -> Points:
    """(n, d) voxels and (n,) scores as a table.

    >>> as_points(np.array([[1, 2, 3]]), np.array([0.5])).table.to_dict("records")
    [{'z': 1.0, 'y': 2.0, 'x': 3.0, 'score': 0.5}]
    """
    import pandas as pd

    axes = "zyx"[-coordinates.shape[1] :]
    table = pd.DataFrame({axis: coordinates[:, i].astype(float) for i, axis in enumerate(axes)})
    return Points(table.assign(score=np.asarray(scores, float)))


def load_detector(folder: Path) -> Detector:
    """Read a detector that `save` wrote.

    Raises
    ------
    ModelError
        If the folder holds none, or a damaged one.
    """
    from brodmann.problems.cells.log import LaplacianOfGaussian
    from brodmann.problems.cells.net_detector import NetDetector

    folder = Path(folder)
    path = folder / DETECTOR_FILE
    tree = read_description(
        folder,
        DETECTOR_FILE,
        "detector",
        FORMAT,
        "give a folder that `brodmann run` wrote for a recipe of cells (DIR/.../detector)",
    )
    kinds = {"log": LaplacianOfGaussian, "net": NetDetector}
    kind = kinds.get(tree.get("kind"))
    if kind is None:
        raise ModelError("unknown kind of detector", path, repr(tree.get("kind")))
    try:
        return kind.load(tree, folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError("the file does not describe a detector", path, repr(error)) from error


def write_detector(folder: Path, kind: str, tree: dict[str, Any], card: str) -> Path:
    """`detector.yaml` and the card for people; weights come before."""
    folder = make_folder(folder)
    write_text(folder / "README.md", card)
    text = yaml.safe_dump({"format": FORMAT, "kind": kind, **tree}, sort_keys=False)
    write_text(folder / DETECTOR_FILE, text)
    return folder


def card_of(detector: Detector, told: dict[str, Any]) -> str:
    """The card in Markdown."""
    rows = {
        "spacing (z, y, x)": in_um(detector.spacing),
        "peak window": " x ".join(str(2 * r + 1) for r in detector.radius) + " voxels",
        "threshold": f"{detector.threshold:.4g}",
        "halo": " x ".join(map(str, detector.halo)) + " voxels",
        **told,
    }
    lines = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"""# {detector.name}

Finds cells: gives each voxel a heat, whose peaks above a threshold are centres.

    brodmann map BRAIN --model THIS_FOLDER --annotation ANNOTATION --out DIR

| | |
|---|---|
{lines}
"""


def in_um(spacing: Sequence[float]) -> str:
    """A spacing in words.

    >>> in_um((4.0, 1.8, 1.8))
    '4 x 1.8 x 1.8 um'
    """
    return " x ".join(f"{step:g}" for step in spacing) + " um"
