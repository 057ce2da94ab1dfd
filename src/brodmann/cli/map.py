"""`brodmann map`: the cells of a whole brain, and how many lie in each region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from brodmann.cli.common import JSON_HELP, emit, numbers, out, progress
from brodmann.core import RecipeError


def map_brain(
    brain: str = typer.Argument(
        metavar="BRAIN",
        help="OME-Zarr, HDF5, TIFF or NIfTI (FILE::NAME names what is within), or a folder of "
        "TIFF planes.",
    ),
    model: Path = typer.Option(..., "--model", metavar="DIR", help="Folder of a detector."),
    target: Path = typer.Option(
        ..., "--out", metavar="DIR", help="Folder for cells and tables; work is kept in it."
    ),
    annotation: str = typer.Option(
        None, "--annotation", help="Volume of ids (.nrrd, .tif, .nii.gz, .zarr), a BrainGlobe "
        "atlas folder, or a brainreg folder: then cells are counted in each region.",
    ),
    structures: Path = typer.Option(
        None, "--structures", help="CSV or JSON of the tree: id, acronym, name, parent or path."
    ),
    transform: Path = typer.Option(
        None, "--transform", help="From brain to annotation: a brainreg folder, an elastix "
        "TransformParameters.txt, or a 4 x 4 matrix. Default: same space.",
    ),
    orientation: str = typer.Option(
        None, "--orientation", help="Where z, y and x of the brain begin, as psl or asr."
    ),
    spacing: str = typer.Option(
        None, "--spacing", metavar="Z,Y,X", help="Micrometres a voxel, for files that do not say; "
        "planes never do.",
    ),
    channel: str = typer.Option(
        None, "--channel", help="Name or number of one channel; of planes, a word in their names."
    ),
    level: int = typer.Option(0, "--level", min=0, help="Of a pyramid; 0 is full resolution."),
    resample: bool = typer.Option(
        False, "--resample", help="Read a brain of another spacing at the detector's."
    ),
    threshold: float = typer.Option(
        None, "--threshold", help="Heat above which a peak is a cell. Default: the detector's."
    ),
    tissue: bool = typer.Option(
        True, "--tissue/--everywhere", help="Leave out what is dark around the brain, or search all."
    ),
    classifier: Path = typer.Option(
        None, "--classifier", metavar="DIR", help="Folder of a classifier: each candidate that the "
        "detector finds is kept as a cell, or goes to non_cells.csv.",
    ),
    background: str = typer.Option(
        None, "--background", metavar="BRAIN", help="The classifier's second channel, if it has "
        "one: opened as the brain is, on the same grid.",
    ),
    uncertain: int = typer.Option(
        None, "--uncertain", metavar="N", min=1, help="Write the crops of the N candidates that "
        "the classifier is least sure of into DIR/uncertain, for a person to judge.",
    ),
    points: str = typer.Option(
        "cells.csv", "--points", help="Name of the file of cells in DIR: .csv .parquet .xml .nml "
        ".precomputed.",
    ),
    to_zarr: Path = typer.Option(
        None, "--to-zarr", metavar="BRAIN.zarr", help="First copy the brain there, to be read in "
        "blocks cheaply: for planes that are compressed whole. A finished copy is used again.",
    ),
    block: str = typer.Option(
        None, "--block", metavar="Z,Y,X", help="Voxels of a block; never changes the answer."
    ),
    workers: int = typer.Option(0, "--workers", min=0, help="Processes; 0: one for each core."),
    engine: str = typer.Option(
        "auto", "--engine", help="serial, threads, dask, or auto: dask for several workers."
    ),
    scheduler: str = typer.Option(
        None, "--scheduler", metavar="tcp://HOST:PORT", help="A running dask scheduler to use."
    ),
    slurm: Path = typer.Option(
        None, "--slurm", metavar="YAML", help="Workers as jobs of SLURM: jobs, cores, memory, "
        "queue, account, walltime, ... of dask_jobqueue.SLURMCluster.",
    ),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:  # fmt: skip
    """Find the cells of a brain of any size, and count them in each region.

    The brain is read in blocks, in bounded memory. Blocks, workers and
    their order never change the cells. Stopped or killed, the same command
    goes on where it was; a block that fails is an error, and is done again.

    Writes cells.csv (z, y, x in voxels, and score) and detection.json; with
    --annotation also the folder regions: table, heat map and page. With
    --classifier both files have a column probability, and give the detector
    a low --threshold unless its folder has one.

    Example: brodmann map brain.zarr --model runs/cfos/detector --out mapped
    """
    import os
    from functools import partial

    from brodmann.pipeline.candidates import channels_of, find_classified, write_uncertain
    from brodmann.pipeline.cells import detect, find_coarse, open_brain
    from brodmann.pipeline.cells import to_zarr as copy
    from brodmann.pipeline.cells.detect import facts_of
    from brodmann.pipeline.cells.slurm import slurm_cluster
    from brodmann.problems.candidates import load_classifier
    from brodmann.problems.cells import load_detector

    for given, option in ((structures, "--structures"), (transform, "--transform"),
                          (orientation, "--orientation")):  # fmt: skip
        if given is not None and annotation is None:
            raise RecipeError("this is of an annotation", option, fix="add --annotation")
    for given, option in ((background, "--background"), (uncertain, "--uncertain")):
        if given is not None and classifier is None:
            raise RecipeError("this is of a classifier", option, fix="add --classifier")
    detector = load_detector(model)
    um = numbers(spacing, "--spacing") if spacing else None
    volume = open_brain(brain, spacing=um, level=level, channel=channel)
    count = workers or len(os.sched_getaffinity(0))
    cluster = slurm_cluster(slurm) if slurm else None
    with progress() as report, _told():
        coarse = None
        if to_zarr is not None:
            volume = copy(volume, to_zarr, workers=count, report=report)
        elif tissue:
            coarse = find_coarse(brain, volume, level, channel)
        find: Any = detect
        if classifier is not None:
            judge = load_classifier(classifier)
            other = open_brain(background, spacing=um, level=level) if background else None
            find = partial(find_classified, classifier=judge, background=other)
        find(
            volume,
            detector,
            out=target,
            threshold=threshold,
            tissue=tissue,
            coarse=coarse,
            resample=resample,
            block=_sizes(block, volume.ndim),
            points=points,
            workers=count,
            engine=engine,  # type: ignore[arg-type]
            scheduler=scheduler,
            cluster=cluster,
            report=report,
        )
        result: dict[str, Any] = {"out": str(target), **facts_of(target)}
        if uncertain is not None:
            result["uncertain"] = str(
                write_uncertain(target, judge, channels_of(volume, other), uncertain, report)
            )
        if annotation is not None:
            from brodmann.report.atlas_run import count_files

            result["regions"] = count_files(
                [target / points],
                annotation,
                target / "regions",
                structures=structures,
                transform=transform,
                orientation=orientation,
                spacing=volume.spacing,
                shape=volume.spatial_shape,
                title=f"Cells of {Path(brain).name}",
                report=report,
            )
    emit(result, as_json, _text)


def _text(result: dict[str, Any]) -> None:
    size = " x ".join(map(str, result["shape"]))
    rows = [("cells", f"{result['cells']:,} in {size} voxels")]
    if result["tissue_share"] == 0:
        rows.append(("tissue", "none: nothing stands out from the background"))
    elif result["tissue_share"] is not None:
        searched = f"{result['blocks_searched']:,} of {result['blocks']:,} blocks searched"
        rows.append(("tissue", f"{result['tissue_share']:.0%} of the volume; {searched}"))
    rows.append(("detector", f"{result['detector']}, threshold {result['threshold']:g}"))
    if "classifier" in result:
        told = f"{result['non_cells']:,} other candidates, threshold"
        rows.append(("rejected", f"{told} {result['classifier']['threshold']:g}"))
    if result["missing_chunks"]:
        rows.append(("missing", f"{result['missing_chunks']:,} chunks were read as empty"))
    rows.append(("written", f"{Path(result['out']) / result['points']}"))
    if "uncertain" in result:
        rows.append(("to judge", result["uncertain"]))
    if "regions" in result:
        rows += [(key, result["regions"]["files"][key]) for key in ("regions", "report")]
    for name, line in rows:
        out().print(f"{name:<9} {line}", markup=False, soft_wrap=True)


class _told:
    """Warnings about the brain's file as lines on standard error."""

    def __enter__(self) -> None:
        import warnings

        from brodmann.pipeline.cells.source import StorageWarning

        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", StorageWarning)
        warnings.showwarning = self._show

    def __exit__(self, *error: Any) -> None:
        self._caught.__exit__(*error)

    @staticmethod
    def _show(message: Any, *where: Any, **more: Any) -> None:
        typer.echo(f"brodmann: {message}", err=True)


def _sizes(text: str | None, axes: int) -> tuple[int, ...] | None:
    if text is None:
        return None
    sizes = numbers(text, "--block")
    if len(sizes) != axes or any(n != int(n) or n < 1 for n in sizes):
        raise RecipeError(f"write {axes} whole numbers of voxels", "--block", repr(text))
    return tuple(int(n) for n in sizes)
