"""Candidates as a problem that the one trainer knows how to teach."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class Candidates:
    """Binary cross entropy of crops; see `problems.base.Problem`.

    Crops come from `CropBatches`, and whole brains are mapped by `pipeline.candidates`.
    """

    outputs = 1

    def step(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss of one batch."""
        logits = net(batch["image"]).float()
        return {"loss": binary_cross_entropy_with_logits(logits, batch["target"])}

    def validate(self, net: nn.Module, batch: dict[str, Tensor]) -> np.ndarray:
        """(summed loss, crops rightly told, crops)."""
        logits = net(batch["image"]).float()
        right = ((logits > 0) == (batch["target"] > 0.5)).sum()
        loss = binary_cross_entropy_with_logits(logits, batch["target"], reduction="sum")
        return np.array([float(loss), float(right), len(logits)])

    def summarise(self, evidence: np.ndarray) -> dict[str, float]:
        """Mean loss and accuracy of crops that are not trained on."""
        loss, right, crops = evidence
        return {"val_loss": loss / crops, "val_accuracy": right / crops}
