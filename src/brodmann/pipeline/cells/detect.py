"""Cells of a volume of any size: in blocks, resumable, the same whatever the blocks and workers.

Each block is read with a margin, mirrored at the volume's own borders; the peaks that it owns are
written beside a mark of what they depend on. When all are there they become one table.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, ModelError, OutputError, Points, RecipeError, Volume
from brodmann.core.files import make_folder, write_json
from brodmann.inference.blocks import Marks, work_key
from brodmann.inference.engines import Engine, EngineName, engine_of
from brodmann.inference.running import Report, quiet, run_blocks
from brodmann.inference.tissue import TissueMask
from brodmann.io.points import read_points, write_points
from brodmann.pipeline.cells.kept import Kept
from brodmann.pipeline.cells.layout import BLOCK_VOXELS, Layout, usual_block
from brodmann.pipeline.cells.source import (
    Source,
    StorageWarning,
    cautions,
    check_spacing,
    stamp_of,
)
from brodmann.pipeline.cells.work import (
    Job,
    detect_block,
    load_points,
    points_path,
)
from brodmann.pipeline.neurons.volume_layout import locked
from brodmann.problems.cells import Detector, Intensity
from brodmann.problems.cells.detector import SPACING_TOLERANCE

VERSION = 1
"""Of what blocks write: work of another version is not gone on with."""
FACTS, WORK = "detection.json", "work"


def detect(
    volume: Volume,
    detector: Detector,
    out: str | Path,
    *,
    threshold: float | None = None,
    tissue: TissueMask | bool = False,
    coarse: Volume | None = None,
    intensity: Intensity | None = None,
    resample: bool = False,
    block: Sequence[int] | None = None,
    block_voxels: int = BLOCK_VOXELS,
    points: str = "cells.csv",
    workers: int = 1,
    engine: EngineName | Engine = "auto",
    scheduler: str | None = None,
    cluster: Callable[[], Any] | None = None,
    order: Callable[[Sequence[int]], Iterable[int]] | None = None,
    report: Report = quiet,
) -> Points:
    """Find the cells of a volume on disk, in bounded memory.

    The answer is that of the whole volume in memory: the same points whatever the blocks, workers
    and order, as long as the detector's heat at a voxel is the same number in any window. Stopped
    or killed, the same call goes on, and writes the bytes of an undisturbed one.

    Parameters
    ----------
    volume : Volume
        (z, y, x) or (c, z, y, x), lazily from disk, see `source.open_brain`; 2D sections too.
    detector : Detector
        Of the volume's spacing and number of channels.
    out : path
        A folder. It gets the points and `detection.json`: what they were made of and with.
        While work goes on, "work" in it holds what is done, a few bytes a cell.
    threshold : float, optional
        Another one than the detector's.
    tissue : TissueMask or bool
        Where to look. True: `find_tissue` is asked, and what it says is kept with the work.
    coarse : Volume, optional
        A coarser level of the volume for `find_tissue`.
    intensity : Intensity, optional
        Measured once on a sample of the volume if not given.
    resample : bool
        Read a volume of another spacing at the detector's. Points are voxels of the volume all
        the same, no whole numbers then.
    block : tuple of int, optional
        Voxels that a block owns; else about `block_voxels`.
    points : str
        Name of the file in `out`; its suffix is the format, see `io.points`.
    workers, engine, scheduler, cluster
        See `inference.engines.Engine`; or such an engine, which then outlasts the call. Workers
        of a scheduler must see volume and `out` under the same paths.
    order : callable
        Numbers of blocks -> another order to begin them in.
    report : callable
        Called as ("cells", blocks done, blocks, "8.1 MVox/s, 1,234 cells").

    Returns
    -------
    Points
        z, y, x, score, in (z, y, x) order.

    Raises
    ------
    DataError, ModelError, RecipeError, OutputError
        On a damaged volume (the block is named), a detector that does not fit, dying workers, a
        full disk, cells of other settings in the way.

    Warns
    -----
    StorageWarning
        If the volume is stored so that blocks of it are slow to read, or large in memory.

    Example
    -------
    >>> import tempfile
    >>> from brodmann.problems.cells import LaplacianOfGaussian
    >>> data = np.zeros((12, 40, 40), np.uint16)
    >>> data[5:8, 19:22, 9:12] = 500
    >>> brain = Volume(data, "zyx", (2.0, 2.0, 2.0))
    >>> log = LaplacianOfGaussian((2.0, 2.0, 2.0), (2.0, 2.0, 2.0), (2, 2, 2), 10.0)
    >>> cells = detect(brain, log, tempfile.mkdtemp(), block=(8, 16, 16))
    >>> cells.coordinates.tolist()
    [[6.0, 20.0, 10.0]]
    """
    check_spacing(
        volume, detector.spacing, tolerance=float("inf") if resample else SPACING_TOLERANCE
    )
    same = all(
        abs(a / b - 1) <= SPACING_TOLERANCE for a, b in zip(volume.spacing, detector.spacing)
    )
    source = Source(volume, None if same else tuple(detector.spacing))
    _check_detector(detector, volume)
    limit = float(detector.threshold if threshold is None else threshold)
    halo, radius, multiple = (
        tuple(int(n) for n in each) for each in (detector.halo, detector.radius, detector.multiple)
    )
    if block is None:
        margin = tuple(h + r for h, r in zip(halo, radius))
        block = usual_block(source.shape, margin, block_voxels)
    layout = Layout(source.shape, tuple(int(n) for n in block), halo, radius, multiple)
    for line in cautions(volume, [w.stop - w.start for w in layout.grid[0].outer]):
        warnings.warn(line, StorageWarning, stacklevel=2)
    out = make_folder(Path(out).resolve())
    with locked(make_folder(out / WORK)), engine_of(engine, workers, scheduler, cluster) as crew:
        kept = Kept(out / WORK, work_key(VERSION, stamp_of(volume)))
        digest, folder = kept.detector(detector)
        # What is measured follows from the volume, and needs not be known to tell the same work.
        key = work_key(
            *(kept.key, digest, limit, halo, radius, multiple, source.spacing),
            tissue.digest() if isinstance(tissue, TissueMask) else (tissue, coarse is not None),
            None if intensity is None else asdict(intensity),
        )
        table = _finished(out, key, points)
        if table is None:
            mask = kept.tissue(volume, coarse, report) if tissue is True else tissue or None
            if mask is not None and tuple(mask.shape) != volume.spatial_shape:
                raise DataError("the tissue mask is of another volume", found=tuple(mask.shape))
            measured = intensity or kept.intensity(volume, mask)
            base = work_key(key, asdict(measured), None if mask is None else mask.digest())
            wanted = None
            if mask is not None:
                wanted = [b.number for b in layout.grid if mask.any(source.stored_window(b.window))]
            place = make_folder(out / WORK / f"blocks-{work_key(base, layout.grid.block)}")
            job = Job(
                source,
                layout,
                folder if folder is not None and crew.name == "dask" else detector,
                measured,
                limit,
                None if mask is None else kept.saved(mask),
                place,
            )
            every = list(range(len(layout.grid))) if wanted is None else wanted
            facts = run_blocks(
                partial(detect_block, job=job),
                layout.grid,
                Marks(place / "marks", base),
                crew,
                what="cells",
                report=report,
                order=order(every) if order else None,
                only=wanted,
                tell=_Count(),
            )
            table = _gathered(place, facts, source)
            said = {
                "cells": len(table),
                "points": points,
                "detector": detector.name,
                "detector_digest": digest,
                "threshold": limit,
                "radius": list(radius),
                "shape": list(volume.spatial_shape),
                "spacing_um": list(volume.spacing),
                "resampled_um": None if same else list(detector.spacing),
                "intensity": asdict(measured),
                "tissue_share": None if mask is None else float(mask.low.mean()),
                "block": list(layout.grid.block),
                "margin": list(layout.margin),
                "blocks": len(layout.grid),
                "blocks_searched": len(every),
                "missing_chunks": sum(found["missing_chunks"] for found in facts.values()),
            }
            _publish(out, table, points, key, said, volume)
        else:
            report("cells", 1, 1, f"kept, {len(table):,} cells")
    shutil.rmtree(out / WORK, ignore_errors=True)
    return table


def facts_of(out: Path) -> dict[str, Any]:
    """What `detect` wrote beside the points: how many, made of what.

    Raises
    ------
    DataError
        If there is nothing, or something else.
    """
    path = Path(out) / FACTS
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return {"cells": int(said["cells"]), **said}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("no cells were detected here", path, error) from None


class _Count:
    """Cells so far, in words."""

    def __init__(self) -> None:
        self.cells = 0

    def __call__(self, found: dict[str, Any]) -> str:
        self.cells += found["cells"]
        return f"{self.cells:,} cells"


def _check_detector(detector: Detector, volume: Volume) -> None:
    if volume.num_channels != detector.channels:
        named = ", ".join(volume.channels)
        raise RecipeError(
            f"this detector takes {detector.channels} channel(s)",
            detector.name,
            f"{volume.num_channels}: {named}",
            "choose one with --channel (open_brain(channel=...))",
        )
    contrast = getattr(detector, "contrast", None)
    if not getattr(contrast, "exact", True):
        raise ModelError(
            "this detector scales each window by itself, so that its answer depends on the blocks",
            detector.name,
            f"contrast.scale {getattr(contrast, 'scale', None)!r}",
            "train it with another contrast.scale",
        )


def _gathered(folder: Path, facts: dict[int, dict[str, Any]], source: Source) -> Points:
    """The points of all blocks, in (z, y, x) order."""
    import pandas as pd

    axes = source.volume.spatial_axes
    parts = []
    for number, found in facts.items():
        if found["cells"]:
            path = points_path(folder, number)
            try:
                parts.append(load_points(path, found["cells"]))
            except DataError as error:
                raise DataError(
                    "the points of a block that was done are not there any more",
                    path,
                    error.found,
                    f"remove {folder} and give the same command",
                ) from error
    at = np.concatenate([p for p, _ in parts]) if parts else np.zeros((0, len(axes)), np.int64)
    scores = np.concatenate([s for _, s in parts]) if parts else np.zeros(0, np.float32)
    order = np.lexsort(at.T[::-1])
    at, scores = source.stored(at[order]), scores[order]
    table = pd.DataFrame({axis: at[:, i] for i, axis in enumerate(axes)})
    return Points(table.assign(score=scores), "cells")


def _publish(
    out: Path, table: Points, name: str, key: str, said: dict[str, Any], volume: Volume
) -> None:
    path = out / name
    write_points(table, path, spacing=volume.spacing, shape=volume.spatial_shape)
    write_json(out / FACTS, {"key": key, "file_digest": _file_digest(path), **said})


def _finished(out: Path, key: str, name: str) -> Points | None:
    """What an earlier call wrote, None if there is nothing; other cells are in the way."""
    if not (out / FACTS).exists():
        return None
    said = facts_of(out)
    path = out / name
    if said.get("key") == key and said.get("points") == name and path.exists():
        if said.get("file_digest") == _file_digest(path):
            import pandas as pd

            if not said["cells"]:
                axes = "zyx"[-len(said["shape"]) :]
                empty = {axis: np.zeros(0) for axis in (*axes, "score")}
                return Points(pd.DataFrame(empty), "cells")
            return read_points(path, unit="voxel")
        raise OutputError(
            "these cells were changed", path, fix="move them, or choose another --out"
        )
    if said.get("key") == key:
        return None  # the same cells, to be written in another format
    raise OutputError(
        "cells of another volume, detector or threshold are in the way",
        out,
        said.get("detector"),
        "move them, or choose another --out",
    )


def _file_digest(path: Path) -> str:
    """Of a file, or of all files of a folder."""
    digest = hashlib.blake2b(digest_size=16)
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as stream:
            while part := stream.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()
