"""Cells found, missed and made up, drawn on the images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from brodmann.core import Dataset
from brodmann.core.files import written_beside
from brodmann.metrics.points import match

COLUMNS = 4
PLANES = 8
"""Sections of a slab that are drawn as one."""
COLORS = {"found": "#3ddc84", "missed": "#ffd23f", "not a cell": "#ff5c5c"}


def write_cell_picture(
    path: Path,
    data: Dataset,
    row: str,
    cells: Mapping[str, np.ndarray],
    tolerance: float,
    samples: int = 12,
) -> Path:
    """A detector's cells, each sample at its fullest slab.

    Parameters
    ----------
    path : Path
        A PNG.
    data : Dataset
    row : str
        The detector's name.
    cells : mapping
        Sample -> (n, d) cells.
    tolerance : float
        In voxels.
    samples : int
        At most so many, those of most cells first.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = sorted(cells, key=lambda name: -len(data[name].points))[:samples]
    rows = -(-len(names) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(3.1 * COLUMNS, 3.3 * rows + 0.6), squeeze=False
    )
    for panel in axes.flat:
        panel.axis("off")
    for panel, name in zip(axes.flat, names):
        draw(panel, data, name, cells[name], tolerance)
    marks = [
        plt.Line2D([], [], ls="", marker="o", mfc="none", mec=color, mew=1.5, label=label)
        for label, color in COLORS.items()
    ]
    figure.legend(handles=marks, loc="lower center", ncol=3, frameon=False)
    figure.suptitle(f"{data.name}: {row}, brains never seen", fontsize=11)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    with written_beside(path) as beside:
        figure.savefig(beside, dpi=110)
    plt.close(figure)
    return path


def draw(panel, data: Dataset, name: str, cells: np.ndarray, tolerance: float) -> None:
    """One sample: a slab's brightest values, and circles around centres."""
    sample = data[name]
    truth = sample.points.coordinates
    pairs = match(cells, truth, tolerance).pairs if len(cells) and len(truth) else np.zeros((0, 2))
    hit = set(pairs[:, 0].astype(int)) if len(pairs) else set()
    seen = set(pairs[:, 1].astype(int)) if len(pairs) else set()
    image = sample.image.read().astype(float)
    low, high = 0, 1
    if sample.image.ndim == 3:
        depth = image.shape[1]
        middle = np.median(truth[:, 0]) if len(truth) else depth / 2
        low = int(np.clip(middle - PLANES / 2, 0, max(0, depth - PLANES)))
        high = low + PLANES
        image = image[:, low:high].max(1)
    span = np.percentile(image, [1, 99.7])
    shown = np.clip((image - span[0]) / max(1e-9, span[1] - span[0]), 0, 1)
    panel.imshow(shown[0] if len(shown) == 1 else np.moveaxis(shown, 0, -1), cmap="gray")
    groups = {
        "found": [p for i, p in enumerate(cells) if i in hit],
        "not a cell": [p for i, p in enumerate(cells) if i not in hit],
        "missed": [p for i, p in enumerate(truth) if i not in seen],
    }
    for kind, points in groups.items():
        near = [p for p in points if len(p) == 2 or low <= p[0] < high]
        panel.scatter(
            [p[-1] for p in near], [p[-2] for p in near], s=42, facecolors="none",
            edgecolors=COLORS[kind], linewidths=1.2,
        )  # fmt: skip
    counts = f"{len(hit)} found, {len(truth) - len(seen)} missed, {len(cells) - len(hit)} not"
    panel.set_title(f"{name}: {counts}", fontsize=8)
