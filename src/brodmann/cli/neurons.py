"""`brodmann neurons`: affinities to segments, at any size."""

from __future__ import annotations

from pathlib import Path

import typer

from brodmann.cli.common import JSON_HELP, emit, numbers, out, progress
from brodmann.core import RecipeError


def neurons(
    affinities: Path = typer.Argument(
        help="Affinities (c, z, y, x), uint8 or floats in 0..1: .zarr, .h5, .tif. FILE::NAME "
        "names a dataset within."
    ),
    target: Path = typer.Argument(metavar="OUT.zarr", help="OME-Zarr for the segments."),
    method: str = typer.Option(
        "mean", "--method", help="mean, quantile50, multicut, gasp, components, ... (see below)."
    ),
    threshold: float = typer.Option(
        None, "--threshold", help="Merge while 1 - affinity is below this, in 0..1."
    ),
    beta: float = typer.Option(
        None, "--beta", help="Of multicut and gaec: more splits more, in 0..1."
    ),
    bias: float = typer.Option(None, "--bias", help="Of gasp and mutex."),
    offsets: str = typer.Option(
        None,
        "--offsets",
        help='Of the channels: nearest, in-plane, long-range, or "-1,0,0;0,-1,0;0,0,-1". '
        "Default: as the file says, else by the number of channels.",
    ),
    kind: str = typer.Option(
        None, "--kind", help="affinity: high values join; boundary: they part. Default: see below."
    ),
    anchor: str = typer.Option(
        None,
        "--anchor",
        help="source: the value at v is of the pair (v, v + offset); destination: (v - offset, v).",
    ),
    dataset: str = typer.Option("", "--dataset", help="Name of the dataset within the file."),
    spacing: str = typer.Option(
        None, "--spacing", metavar="Z,Y,X", help="Micrometres per voxel, for files that do not say."
    ),
    watershed_threshold: float = typer.Option(
        0.25, "--watershed-threshold", help="Boundary probability that ends a fragment, in 0..1."
    ),
    sigma: float = typer.Option(
        2.0, "--sigma", help="Smoothing of distances before seeds are taken, in voxels."
    ),
    min_size: int = typer.Option(
        0, "--min-size", help="Fragments of fewer voxels are grown over by their neighbours."
    ),
    per_slice: bool = typer.Option(
        True, "--per-slice/--volumetric", help="Fragments in each slice alone, or in 3D."
    ),
    block: str = typer.Option(
        None, "--block", metavar="Z,Y,X", help="Voxels of a block; never changes the answer."
    ),
    fragment_block: str = typer.Option(
        None,
        "--fragment-block",
        metavar="Z,Y,X",
        help="Cut fragments at the faces of such cells: for slices that memory cannot hold. "
        "Changes the answer a little.",
    ),
    workers: int = typer.Option(0, "--workers", min=0, help="Processes; 0: one for each core."),
    engine: str = typer.Option(
        "auto", "--engine", help="serial, threads, dask, or auto: dask for several workers."
    ),
    scheduler: str = typer.Option(
        None, "--scheduler", metavar="tcp://HOST:PORT", help="A running dask scheduler to use."
    ),
    work: Path = typer.Option(
        None,
        "--work",
        metavar="DIR",
        help="Keep fragments and region graph here: another threshold then takes seconds.",
    ),
    pyramid: bool = typer.Option(True, help="Add coarser levels, for viewers."),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Segment neurons from affinities, in blocks, in bounded memory.

    Fragments by a watershed, their region graph, one agglomeration of all
    of it, and labels of the full volume. Blocks, workers and their order
    never change the answer. Stopped or killed, the same command goes on
    where it was; a block that fails is an error and is done again.

    Methods on the region graph run at any size: mean, quantile50,
    quantile75, multicut, gaec, gasp, components. Those that need all
    affinities in memory run up to 67 million voxels: waterz-mean,
    waterz-quantile50, mutex, voxels.

    Affinities that look like a boundary map are refused; --kind boundary
    reads them as one, and --kind affinity insists.

    Example: brodmann neurons affinities.zarr neurons.zarr --threshold 0.3
    """
    import os

    from brodmann.pipeline.neurons.volume import segment_volume
    from brodmann.pipeline.neurons.volume_source import parse_offsets
    from brodmann.postprocess.fragments import FragmentOptions
    from brodmann.postprocess.methods import find_method

    found = find_method(method)
    given = {"threshold": threshold, "beta": beta, "bias": bias}
    for name, value in given.items():
        if value is not None and name != found.parameter:
            raise RecipeError(
                f"{method} has no {name}", f"--{name}", value, f"set its --{found.parameter}"
            )
    with progress() as report:
        result = segment_volume(
            affinities,
            target,
            method=method,
            value=given[found.parameter],
            fragments=FragmentOptions(watershed_threshold, sigma, per_slice, min_size),
            offsets=parse_offsets(offsets) if offsets else None,
            kind=kind,
            anchor=anchor,
            dataset=dataset,
            spacing=numbers(spacing, "--spacing") if spacing else None,
            block=_sizes(block, "--block"),
            fragment_block=_sizes(fragment_block, "--fragment-block"),
            workers=workers or len(os.sched_getaffinity(0)),
            engine=engine,  # type: ignore[arg-type]
            scheduler=scheduler,
            work=work,
            pyramid=pyramid,
            report=report,
        )
    if result["missing_chunks"]:
        typer.echo(
            f"brodmann: chunks of {affinities} that are not on disk: {result['missing_chunks']}; they "
            "were read as 0",
            err=True,
        )

    def text(result: dict) -> None:
        console = out()
        size = " x ".join(map(str, result["shape"]))
        rows = [("segments", f"{result['segments']:,} in {size} voxels")]
        if "fragments" in result:
            rows.append(("graph", f"{result['fragments']:,} fragments, {result['edges']:,} edges"))
        rows.append(("method", f"{method}, {found.parameter} {result[found.parameter]:g}"))
        if not result["fragments_exact"]:
            cell = ",".join(map(str, result["fragment_block"]))
            rows.append(("cells", f"fragments end at the faces of cells of {cell} voxels"))
        seconds = f" ({result['seconds']:.1f} s)" if not result["kept"] else " (was there already)"
        rows.append(("written", f"{result['out']}{seconds}"))
        for name, line in rows:
            console.print(f"{name:<9} {line}", markup=False, soft_wrap=True)

    emit(result, as_json, text)


def _sizes(text: str | None, option: str) -> tuple[int, ...] | None:
    if text is None:
        return None
    sizes = numbers(text, option)
    if len(sizes) != 3 or any(n != int(n) or n < 1 for n in sizes):
        raise RecipeError("write three whole numbers of voxels z,y,x", option, repr(text))
    return tuple(int(n) for n in sizes)
