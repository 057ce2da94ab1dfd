"""What the stage leaves in a folder: cells, other candidates, and what was done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, OutputError, Points, Volume
from brodmann.core.files import write_json
from brodmann.inference.running import Report, quiet
from brodmann.io.crops import FOLDERS, write_crops
from brodmann.io.points import read_points, write_points
from brodmann.pipeline.cells.detect import FACTS, facts_of
from brodmann.pipeline.cells.source import Source
from brodmann.pipeline.stages import file_hash
from brodmann.problems.candidates import CropClassifier
from brodmann.problems.candidates.classifier import same_spacing


def publish(
    out: Path,
    every: Points,
    name: str,
    key: str,
    facts: dict[str, Any],
    said: dict[str, Any],
    volume: Volume,
) -> Points:
    """Write both tables and last what was done; hands back the cells.

    Parameters
    ----------
    out : Path
    every : Points
        All candidates, with `probability`.
    name : str
        Of the file of cells.
    key : str
        Of all that they depend on.
    facts : dict
        What the detector said.
    said : dict
        Of the classifier.
    volume : Volume
    """
    kept = (every.table["probability"] > said["threshold"]).to_numpy()
    cells, others = Points(every.table[kept], "cells"), Points(every.table[~kept], "others")
    other = _other(name)
    for table, file in ((others, other), (cells, name)):
        write_points(table, out / file, spacing=volume.spacing, shape=volume.spatial_shape)
    said |= {"points": other, "file_digest": file_hash(out / other)}
    own = {
        "key": key,
        "file_digest": file_hash(out / name),
        "cells": len(cells),
        "non_cells": len(others),
        "points": name,
        "classifier": said,
    }
    write_json(out / FACTS, own | {k: v for k, v in facts.items() if k not in own})
    return cells


def _other(name: str) -> str:
    return f"non_{name}"


def check_place(out: Path) -> dict[str, Any] | None:
    """What is said of classified cells here; cells that nobody classified are in the way."""
    if not (out / FACTS).exists():
        return None
    said = facts_of(out)
    if "classifier" not in said:
        raise OutputError(
            "cells that were not classified are in the way",
            out,
            said.get("detector"),
            "move them, or choose another --out",
        )
    return said


def finished(out: Path, key: str, name: str) -> Points | None:
    """What an earlier call wrote, None if there is nothing; other cells are in the way."""
    said = check_place(out)
    if said is None:
        return None
    if said.get("key") != key:
        raise OutputError(
            "cells of another volume, detector or classifier are in the way",
            out,
            said["classifier"].get("name"),
            "move them, or choose another --out",
        )
    if said.get("points") != name:
        return None  # the same cells, to be written in another format
    for file, digest in (
        (name, said.get("file_digest")),
        (_other(name), said["classifier"].get("file_digest")),
    ):
        if not (out / file).exists():
            return None
        if file_hash(out / file) != digest:
            raise OutputError(
                "these cells were changed", out / file, fix="move them, or choose another --out"
            )
    return read_points(out / name, unit="voxel") if said["cells"] else _empty()


def _empty() -> Points:
    import pandas as pd

    columns = ("z", "y", "x", "score", "probability")
    return Points(pd.DataFrame({name: np.zeros(0) for name in columns}), "cells")


def all_candidates(out: str | Path) -> Points:
    """Cells and others of a finished folder, with `probability`, in (z, y, x) order.

    Raises
    ------
    DataError
        If no cells were classified there, or their format holds no probability.
    """
    import pandas as pd

    out = Path(out)
    said = facts_of(out)
    if "classifier" not in said:
        raise DataError("no candidates were classified here", out)
    names = {said["points"]: said["cells"], said["classifier"]["points"]: said["non_cells"]}
    tables = [read_points(out / name, unit="voxel").table for name, n in names.items() if n]
    if any("probability" not in table for table in tables):
        raise DataError(
            "this format holds no probability", out / said["points"], fix="use --points cells.csv"
        )
    if not tables:
        return _empty()
    table = pd.concat(tables, ignore_index=True)
    return Points(table.sort_values(["z", "y", "x"], kind="stable"), str(out))


def uncertain(points: Points, threshold: float, count: int | None = None) -> Points:
    """Candidates from the least certain on: those whose probability is next to the threshold.

    Parameters
    ----------
    points : Points
        With a column `probability`; others than it and the coordinates are kept too.
    threshold : float
        The classifier's.
    count : int, optional
        At most so many.

    Example
    -------
    >>> from brodmann.problems.cells.detector import as_points
    >>> three = as_points(np.array([[1, 0, 0], [2, 0, 0], [3, 0, 0]]), np.ones(3))
    >>> told = Points(three.table.assign(probability=[0.9, 0.55, 0.1]))
    >>> uncertain(told, 0.5).coordinates[:, 0].tolist()
    [2.0, 1.0, 3.0]
    """
    apart = np.abs(points.table["probability"].to_numpy(float) - threshold)
    order = np.argsort(apart, kind="stable")[:count]
    return Points(points.table.iloc[order], "candidates")


def write_uncertain(
    out: str | Path,
    classifier: CropClassifier,
    channels: list[Volume],
    count: int,
    report: Report = quiet,
) -> Path:
    """The crops of a finished folder's least certain candidates, as `io.crops` writes them.

    Parameters
    ----------
    out : path
        Of `find_classified`; its folder "uncertain" is made, or made anew. crops.csv in it
        begins with the least certain one.
    classifier : CropClassifier
    channels : list of Volume
        See `channels_of`.
    count : int
        At most so many.

    Raises
    ------
    DataError
        If there is no candidate, or no probability of them.
    OutputError
        If crops in the folder were sorted already.
    """
    folder = Path(out) / "uncertain"
    for name in (FOLDERS[0], FOLDERS[1]):
        if (folder / name).exists():
            raise OutputError(
                "somebody sorted the crops here", folder / name, fix="move the folder first"
            )
    picked = uncertain(all_candidates(out), classifier.threshold, count)
    if not len(picked):
        raise DataError("there is no candidate to judge", out)
    volumes = [_flat(Source(one).seen) for one in channels]
    spacing = None if same_spacing(classifier, volumes[0].spacing) else classifier.spacing
    return write_crops(
        folder,
        picked,
        volumes,
        shape=classifier.shape,
        spacing=spacing,
        report=lambda done, total: report("crops", done, total, ""),
    )


def _flat(volume: Volume) -> Volume:
    """One channel without its axis."""
    if not volume.axes.startswith("c"):
        return volume
    return Volume(_First(volume.data), volume.spatial_axes, volume.spacing)


@dataclass(frozen=True, eq=False)
class _First:
    """(*spatial) of (1, *spatial)."""

    data: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.data.dtype)

    def __getitem__(self, window: tuple[slice, ...]) -> np.ndarray:
        return self.data[(slice(0, 1), *window)][0]
