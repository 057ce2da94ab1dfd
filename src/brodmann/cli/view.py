"""`brodmann view`: a volume and its segments in Neuroglancer."""

from __future__ import annotations

from pathlib import Path

import typer

from brodmann.cli.common import JSON_HELP, emit, numbers, out, progress


def view(
    image: Path = typer.Argument(
        help="Image (z, y, x): .zarr, .h5, .tif, or a precomputed folder. FILE::NAME names a "
        "dataset within."
    ),
    labels: list[Path] = typer.Option(
        [], "--labels", help="Segments, shown over the image; may be given again."
    ),
    affinities: list[Path] = typer.Option(
        [], "--affinities", help="Affinities (c, z, y, x); the first three as blue, green, red."
    ),
    port: int = typer.Option(0, "--port", min=0, max=65535, help="0: any free one."),
    browser: bool = typer.Option(True, help="Open a browser."),
    export: Path = typer.Option(
        None, "--export", metavar="DIR", help="Write precomputed layers and state.json instead."
    ),
    url: str = typer.Option(
        "http://127.0.0.1:9000", "--url", help="Where DIR will be served, for state.json."
    ),
    spacing: str = typer.Option(
        None, "--spacing", metavar="Z,Y,X", help="Micrometres per voxel, for files that do not say."
    ),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Look at a volume, its segments and affinities in a browser, in their true proportions.

    Serves this machine only, until Ctrl-C; double-click a segment to see its surface. --export
    writes a folder that any web server can serve, and needs no viewer.

    Example: brodmann view em.zarr --labels segments.zarr
    """
    from brodmann.pipeline.neurons.viewer import export_layers, open_layers, start_viewer

    layers = open_layers(
        image, labels, affinities, numbers(spacing, "--spacing") if spacing else None
    )
    if export is not None:
        with progress() as report:
            result = export_layers(layers, export, url, report)
        emit(result, as_json, lambda r: out().print(f"written  {r['state']}", soft_wrap=True))
        return
    viewer = start_viewer(layers, port)
    address = viewer.get_viewer_url()
    emit({"url": address}, as_json, lambda r: out().print(r["url"], soft_wrap=True))
    if browser:
        import webbrowser

        webbrowser.open(address)
    _wait()


def _wait() -> None:
    """Until Ctrl-C."""
    import sys
    import threading

    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
