"""Pictures, tables and the page of a finished neuron run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import Dataset, Sample
from brodmann.core.files import make_folder, write_text
from brodmann.io import read_volume
from brodmann.metrics.clusters import cluster_table, neuron_errors
from brodmann.pipeline.neurons.recipe import NeuronRecipe
from brodmann.report.neurons import neurons_csv, neurons_markdown, write_neurons_page

MOST_ERRORS = 12
"""Neurons listed on the page; errors.csv has them all."""


def write_neuron_report(
    recipe: NeuronRecipe,
    folder: Path,
    parts: Mapping[str, Dataset],
    curves: Mapping[int, list[dict]],
    result: Mapping[str, Any],
) -> Path:
    """Write table.csv, table.md and report/ from what the stages left.

    Pictures and the list of errors are of the first test volume, segmented by the method of
    lowest mean VI with the first seed.
    """
    from brodmann.report.neuron_panels import neuron_panel
    from brodmann.report.neurons3d import render_neurons

    write_text(folder / "table.csv", neurons_csv(result))
    write_text(folder / "table.md", neurons_markdown(result))
    out = make_folder(folder / "report")
    seed, method = recipe.seeds[0], result["best"]
    sample = parts["test"][0]
    home = folder / f"seed{seed}"
    segments = read_volume(
        home / "segment" / method / f"{sample.name}.zarr", spacing=sample.image.spacing
    ).numpy()
    affinities = read_volume(
        home / "predict" / sample.name / "affinities.zarr", spacing=sample.image.spacing
    ).read()
    table = cluster_table(sample.labels.numpy(), segments)
    errors = neuron_errors(table)
    errors.write_csv(out / "errors.csv")
    truth = sample.labels.numpy()
    middle = len(truth) // 2
    figures = [
        (
            "One section",
            f"{sample.name}, section {middle}: image, truth, segments by {method}, and what is "
            "wrong: split neurons and merged ones.",
            neuron_panel(
                sample.image.read()[0],
                truth,
                segments,
                affinities=affinities,
                z=middle,
                spacing=sample.image.spacing,
                path=out / "section.png",
            ),
        )
    ]
    if not recipe.score.per_slice:
        figures += [
            (
                f"{what} in 3D",
                f"The largest neurons of the {'truth' if what == 'Truth' else 'test part'}.",
                render_neurons(
                    labels, sample.image.spacing, ids=largest(labels, truth), path=out / name
                ),
            )
            for what, labels, name in (
                ("Truth", truth, "truth3d.png"),
                ("Segments", segments, "segments3d.png"),
            )
        ]
    rows = errors.rows[:MOST_ERRORS]
    return write_neurons_page(result, curves[seed], figures, rows, out)


def largest(labels: np.ndarray, truth: np.ndarray, count: int = 24) -> list[int]:
    """Ids of the largest bodies within the truth's neurons."""
    ids, sizes = np.unique(labels[(truth > 0) & (labels > 0)], return_counts=True)
    return [int(i) for i in ids[np.argsort(sizes, kind="stable")[::-1][:count]]]


def shown_sample(parts: Mapping[str, Dataset]) -> Sample:
    """The test volume that the pictures show."""
    return parts["test"][0]
