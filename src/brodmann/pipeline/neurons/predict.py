"""A neuron model on a volume of any size: what `brodmann predict` does with it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from brodmann.core import OutputError, RecipeError, Volume
from brodmann.core.files import make_folder, write_text
from brodmann.inference.blocks import Block, BlockGrid, Marks
from brodmann.inference.channels import CHUNK
from brodmann.inference.engines import Engine
from brodmann.inference.running import Report, quiet, run_blocks
from brodmann.io import read_volume
from brodmann.pipeline.model import Model
from brodmann.pipeline.stages import content_key, file_hash
from brodmann.preprocess.resample import at_spacing

COLUMNS_A_WORKER = 4
"""Shares of the work for each worker: so that the last to finish is not long waited for."""
HASHED_BYTES = 1 << 31
"""Files larger than this are known by size and time of change, not by their bytes."""


def predict_affinities(
    model_folder: Path,
    source: Path,
    target: Path,
    *,
    spacing: Sequence[float] | None = None,
    step: float = 0.5,
    mirror: Sequence[int] = (),
    workers: int = 1,
    scheduler: str | None = None,
    report: Report = quiet,
) -> dict[str, Any]:
    """Affinities of a volume, block by block.

    Parameters
    ----------
    model_folder : Path
        Of a model of the problem "neurons".
    source : Path
        A volume that `read_volume` opens; brought to the model's spacing by window where it
        differs.
    target : Path
        Ends in .zarr; appears when it is whole. Work in progress lies beside it, and the same
        call goes on with it.
    spacing : sequence of float, optional
        Micrometres, for files that do not say.
    step, mirror
        See `Neurons.assemble`.
    workers, scheduler
        With several workers, or a dask scheduler, columns of blocks are shared among processes.

    Returns
    -------
    dict
        `affinities`, `shape`, `offsets`.

    Raises
    ------
    OutputError
        If something is in the way at `target`.
    """
    model = Model.load(model_folder)
    if target.suffix != ".zarr":
        raise OutputError("affinities are written as Zarr", target, fix=f"{target.name}.zarr, say")
    if target.exists():
        raise OutputError("something is in the way", target, fix="remove it or choose another OUT")
    image = _image(model, source, spacing)
    partial_folder = target.with_name(f".{target.name}.partial")
    shared = workers > 1 or scheduler is not None
    block = _strips(image.spatial_shape, workers) if shared else None
    key = content_key(
        model.fingerprint,
        *(_known_by(source), image.shape, image.spacing, step, sorted(mirror), block),
    )
    mark = partial_folder / "key"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != key:
        shutil.rmtree(partial_folder, ignore_errors=True)
        write_text(make_folder(partial_folder) / mark.name, key)
    options = {"step": step, "mirror": list(mirror), "block": block, "key": key}
    model.map(
        image,
        partial_folder,
        str(source),
        columns=() if shared else None,
        report=lambda done, total: report("predict", done, total, ""),
        **options,
    )
    if shared:
        columns = BlockGrid(image.spatial_shape, (image.spatial_shape[0], *block[1:]))
        work = partial(
            _predict_column,
            model_folder=str(model_folder),
            source=str(source),
            spacing=spacing,
            out=str(partial_folder),
            options=options,
        )
        with Engine("auto", workers, scheduler) as engine:
            run_blocks(
                work,
                columns,
                Marks(partial_folder / "columns", key),
                engine,
                what="predict",
                report=report,
            )
    try:
        (partial_folder / "affinities.zarr").replace(target)
    except OSError as error:
        raise OutputError("cannot write", target, error.strerror or error) from error
    shutil.rmtree(partial_folder, ignore_errors=True)
    offsets = [list(offset) for offset in model.asked().convention.offsets]
    return {
        "affinities": str(target),
        "shape": [len(offsets), *image.spatial_shape],
        "offsets": offsets,
    }


def _predict_column(
    column: Block,
    *,
    model_folder: str,
    source: str,
    spacing: Sequence[float] | None,
    out: str,
    options: dict[str, Any],
) -> dict[str, Any]:
    """One column of blocks, in whatever process this is."""
    model = _loaded(model_folder)
    image = _image(model, Path(source), spacing)
    model.map(image, Path(out), source, columns=(column.number,), **options)
    return {}


@lru_cache(maxsize=2)
def _loaded(model_folder: str) -> Model:
    return Model.load(Path(model_folder))


def _image(model: Model, source: Path, spacing: Sequence[float] | None) -> Volume:
    axes = ("c" if len(model.channels) > 1 else "") + model.spatial_axes
    return at_spacing(read_volume(source, axes=axes, spacing=spacing), model.plan.spacing)


def _strips(shape: tuple[int, ...], workers: int) -> tuple[int, ...]:
    """Blocks that are as wide as the volume and as long as gives every worker a few columns."""
    deep, tall, _ = CHUNK[3]
    rows = -(-shape[1] // (COLUMNS_A_WORKER * workers))
    return (deep, -(-rows // tall) * tall, shape[2])


def refuse_others(**options: Any) -> None:
    """Refuse options of label maps, which affinities do not have."""
    for name, given in options.items():
        if given:
            raise RecipeError("a neuron model writes affinities alone", f"--{name}", given)


def _known_by(source: Path) -> Any:
    files = [p for p in source.rglob("*") if p.is_file()] if source.is_dir() else [source]
    stats = [p.stat() for p in files]
    if sum(s.st_size for s in stats) <= HASHED_BYTES:
        return file_hash(source)
    return sorted((str(p), s.st_size, s.st_mtime_ns) for p, s in zip(files, stats))
