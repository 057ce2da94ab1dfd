"""Pictures, tables and the page of a finished neuron run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import Dataset
from brodmann.core.files import make_folder, write_text
from brodmann.io import read_volume
from brodmann.metrics.clusters import ClusterTable, cluster_table, neuron_errors
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
        neurons = largest(truth)
        bodies = counterparts(table, neurons)
        for what, labels, ids, text in (
            ("Truth", truth, neurons, f"The {len(neurons)} largest neurons of {sample.name}."),
            ("Segments", segments, bodies, "The segment with most of each, in its colour; where "
             "two neurons are merged, they have the colour of the larger one."),
        ):  # fmt: skip
            path = out / f"{what.lower()}3d.png"
            figures.append(
                (
                    f"{what} in 3D",
                    text,
                    render_neurons(labels, sample.image.spacing, ids=ids, path=path),
                )
            )
    rows = errors.rows[:MOST_ERRORS]
    return write_neurons_page(result, curves[seed], figures, rows, out)


def largest(truth: np.ndarray, count: int = 24) -> list[int]:
    """Ids of the largest neurons, the largest first."""
    ids, sizes = np.unique(truth[truth > 0], return_counts=True)
    return [int(i) for i in ids[np.argsort(sizes, kind="stable")[::-1][:count]]]


def counterparts(table: ClusterTable, neurons: list[int]) -> list[int]:
    """For each neuron the segment with most of it that no neuron before it has taken.

    So a picture of these, coloured by their order, has the colours of the neurons; where two are
    merged the second goes without.
    """
    taken: list[int] = []
    for neuron in neurons:
        own = np.flatnonzero(table.truth_ids == np.uint64(neuron))
        best = own[np.argsort(table.counts[own], kind="stable")[::-1]]
        segment = next((int(table.segment_ids[i]) for i in best[:1] if table.segment_ids[i]), 0)
        taken.append(segment if segment not in taken else 0)
    return taken
