"""Cells as a problem: a heat for each voxel, whose peaks are centres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from brodmann.core import LabelMap, Sample, Volume
from brodmann.core.files import make_folder
from brodmann.preprocess import Normalisation
from brodmann.problems.cells.batches import Target
from brodmann.problems.cells.loss import focal_loss


@dataclass
class Cells:
    """The cell problem.

    Parameters
    ----------
    label_map : None
        Cells are points.
    plan : object
        Not asked for anything: how a net is cut into blocks follows from its reach.
    target : Target
        What the net learns to say.
    gamma : float
        Of the focal loss.

    Example
    -------
    >>> Cells(None, None).outputs
    1
    """

    label_map: LabelMap | None = None
    plan: Any = None
    target: Target = field(default_factory=Target)
    gamma: float = 2.0
    labelled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.target, dict):
            self.target = Target(**self.target)

    @property
    def outputs(self) -> int:
        """Channels of the net's answer."""
        return 1

    def targets(self, sample: Sample) -> np.ndarray:
        """Heat of a whole sample, (*spatial) float32 in 0..1."""
        return self.target.of(sample)

    def step(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Focal loss of one batch."""
        return {"loss": focal_loss(net(batch["image"]), batch["target"], self.gamma)}

    def validate(self, net: nn.Module, batch: dict[str, Tensor]) -> np.ndarray:
        """(summed focal loss, batches) of one batch."""
        return np.array([float(self.step(net, batch)["loss"].detach()), 1.0])

    def summarise(self, evidence: np.ndarray) -> dict[str, float]:
        """Mean loss of crops that are not trained on."""
        return {"val_loss": float(evidence[0] / evidence[1])}

    def assemble(
        self,
        nets: Sequence[nn.Module],
        image: Volume,
        normalisation: Normalisation,
        out: Path,
        *,
        detector: Any,
    ) -> Path:
        """Cells of a volume in memory, as `cells.csv` in a folder.

        `detector` says what the nets alone do not: contrast, threshold and peak window; its nets
        are replaced by those given. Volumes of any size: `pipeline.cells`.
        """
        from dataclasses import replace

        from brodmann.problems.cells.detector import find_cells

        points = find_cells(replace(detector, nets=list(nets)), image)
        path = make_folder(out) / "cells.csv"
        points.to_csv(path)
        return path

    def score(self, answer: Any, sample: Sample, tolerance: float = 6.0) -> Any:
        """Counts of found, false and missed cells: `metrics.points.PointScore`."""
        from brodmann.metrics.points import score_points

        return score_points(answer, sample.points, tolerance)
