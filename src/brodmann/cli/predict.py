"""`brodmann predict`: a model folder on any image."""

from __future__ import annotations

from pathlib import Path

import typer

from brodmann.cli.common import JSON_HELP, emit, numbers, out, progress


def predict(
    model: Path = typer.Argument(help="Model folder, as written by `brodmann run` (DIR/model)."),
    source: Path = typer.Argument(
        metavar="INPUT", help="An image, a folder of images, or a dataset folder."
    ),
    target: Path = typer.Argument(metavar="OUT", help="Folder for the maps."),
    spacing: str = typer.Option(
        None, "--spacing", metavar="Y,X", help="Micrometres per pixel, for files that do not say."
    ),
    suffix: str = typer.Option(
        ".tif", "--format", help="Label files: tif, ome.zarr, png, nii.gz, h5."
    ),
    step: float = typer.Option(
        0.5, "--step", min=0.05, max=1.0, help="Distance between windows, in windows."
    ),
    mirror: str = typer.Option(
        "", "--mirror", metavar="AXES", help="Average over mirrored images along these axes (y, x)."
    ),
    tissue: bool = typer.Option(
        False, "--tissue", help="Find the tissue first; leave out the rest."
    ),
    confidence: bool = typer.Option(True, help="Write the probability of each pixel's region."),
    page: bool = typer.Option(True, help="Write report.html, areas.csv and GeoJSON polygons."),
    workers: int = typer.Option(
        1, "--workers", min=1, help="Processes; for models of neurons, on large volumes."
    ),
    scheduler: str = typer.Option(
        None, "--scheduler", metavar="tcp://HOST:PORT", help="A running dask scheduler to use."
    ),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Map images with a trained model, in memory that does not grow with the image's height.

    Writes label images, confidence, labels.csv, areas.csv, polygons for QuPath and a page of
    pictures into OUT; if OUT is a file name (maps/a.tif), only that label image. Files that
    predict did not write are never replaced. Stopped, the same command goes on where it was.
    A neuron model writes the affinities of a volume into OUT.zarr; see brodmann neurons.

    Example: brodmann predict runs/demo/model sections/ maps/ --spacing 25,25

    Neurons: brodmann predict runs/neurons-fib25/seed0/model volume.zarr affinities.zarr
    """
    import shlex
    import sys

    from brodmann.pipeline.predict import predict_images

    with progress() as report:
        result = predict_images(
            model,
            source,
            target,
            spacing=numbers(spacing, "--spacing") if spacing else None,
            suffix=suffix,
            step=step,
            mirror=mirror,
            tissue=tissue,
            confidence=confidence,
            page=page,
            workers=workers,
            scheduler=scheduler,
            command=shlex.join(["brodmann", *sys.argv[1:]]),
            report=report,
        )

    def text(result: dict) -> None:
        console = out()
        if "affinities" in result:
            console.print(f"affinities  {result['affinities']}", markup=False, soft_wrap=True)
            return
        for image in result["images"]:
            console.print(f"map     {image['labels']}", markup=False, soft_wrap=True)
        for key in ("labels_table", "areas", "report"):
            if key in result:
                line = f"{key.split('_')[0]:<7} {result[key]}"
                console.print(line, markup=False, soft_wrap=True)

    emit(result, as_json, text)
