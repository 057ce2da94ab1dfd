"""Neurons as a problem: affinities between voxels, later agglomerated to segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from brodmann.core import Convention, LabelMap, RecipeError, Sample, Volume, nearest
from brodmann.core.affinities import NEIGHBOURHOODS
from brodmann.preprocess import Normalisation
from brodmann.problems.neurons.forward import forward
from brodmann.problems.neurons.loss import affinity_loss
from brodmann.problems.neurons.targets import affinity_targets, widened
from brodmann.problems.semantic.plan import Plan

ANISOTROPIC = 2.0
"""Sections thicker than so many pixels are wide have borders in the plane alone."""


@dataclass
class Neurons:
    """The neuron problem.

    Parameters
    ----------
    label_map : None
        Neurons are instances: their ids are no classes.
    plan : Plan
        3D; its spacing tells whether borders are widened along z too.
    offsets : str or sequence of (z, y, x)
        "nearest", "in-plane", "long-range", or the offsets themselves; brought to the canonical
        convention (core.affinities).
    widen : int
        Voxels by which borders between neurons are widened on either side before targets are
        made: 1 for a truth without boundary voxels, 0 for one that has them.
    dice : float
        Weight of the Dice loss beside cross entropy.

    Example
    -------
    >>> plan = Plan((1, 8, 8), 1, (4,), ((1, 1, 1),), ((3, 3, 3),), (0.03, 0.004, 0.004))
    >>> Neurons(None, plan, "in-plane").offsets
    ((0, -1, 0), (0, 0, -1))
    """

    label_map: LabelMap | None
    plan: Plan
    offsets: str | Sequence[Sequence[int]] = "nearest"
    widen: int = 1
    dice: float = 1.0
    labelled: ClassVar[bool] = False
    convention: Convention = field(init=False)

    def __post_init__(self) -> None:
        if isinstance(self.offsets, str):
            if self.offsets not in NEIGHBOURHOODS:
                raise RecipeError(
                    "unknown neighbourhood",
                    "affinities.offsets",
                    repr(self.offsets),
                    nearest(self.offsets, NEIGHBOURHOODS),
                )
            self.offsets = NEIGHBOURHOODS[self.offsets]
        self.convention = Convention(tuple(tuple(o) for o in self.offsets)).canonical
        self.offsets = self.convention.offsets

    @property
    def outputs(self) -> int:
        """Channels of the net's answer."""
        return len(self.convention.offsets)

    @property
    def border_axes(self) -> tuple[int, ...]:
        """Axes along which borders are widened."""
        z, y, x = self.plan.spacing
        return (1, 2) if z / min(y, x) >= ANISOTROPIC else (0, 1, 2)

    def targets(self, sample: Sample) -> np.ndarray:
        """Affinities of a whole sample, (c, z, y, x) uint8: 255 joined, 0 apart or unknown."""
        ids = torch.from_numpy(sample.labels.numpy().astype(np.int64))[None]
        same, known = affinity_targets(
            widened(ids, self.widen, self.border_axes), self.convention.offsets
        )
        return (same & known)[0].numpy().astype(np.uint8) * 255

    def step(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross entropy + Dice of one batch."""
        same, known = self._truth(batch)
        logits = net(batch["image"])
        logits = logits if isinstance(logits, Tensor) else logits[0]
        return {"loss": affinity_loss(logits, same, known, self.dice)}

    def validate(self, net: nn.Module, batch: dict[str, Tensor]) -> np.ndarray:
        """Pairs by (truth, guess at 0.5) of one batch, (2, 2) int64; index 1 is joined."""
        same, known = self._truth(batch)
        logits = net(batch["image"])
        logits = logits if isinstance(logits, Tensor) else logits[0]
        pairs = same[known].long() * 2 + (logits[known] > 0)
        return torch.bincount(pairs, minlength=4).reshape(2, 2).cpu().numpy()

    def summarise(self, evidence: np.ndarray) -> dict[str, float]:
        """F1 of the pairs that are apart."""
        hit, missed, false = evidence[0, 0], evidence[0, 1], evidence[1, 0]
        return {"val_border_f1": float(2 * hit / max(1, 2 * hit + missed + false))}

    def assemble(
        self,
        nets: Sequence[nn.Module],
        image: Volume,
        normalisation: Normalisation,
        out: Path,
        *,
        step: float = 0.5,
        mirror: Sequence[int] = (),
        bf16: bool = False,
        block: Sequence[int] | None = None,
        columns: Sequence[int] | None = None,
        key: str = "",
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> Path:
        """Affinities of a whole volume, a block at a time, in bounded memory.

        Parameters
        ----------
        nets : sequence of nn.Module
            Their logits are averaged.
        image : Volume
            "zyx" or "czyx" at the plan's spacing, of any size; read by window.
        normalisation : Normalisation
        out : Path
            A folder; gets `affinities.zarr`, uint8 czyx, whose attribute "affinities" is the
            convention, and the marks of finished blocks, from which a stopped mapping goes on.
        step : float
            Distance between windows, in patches.
        mirror : sequence of int
            Spatial axes to mirror; all combinations are averaged, each value moved to the
            voxel that its pair belongs to.
        bf16 : bool
            Compute in bfloat16 on a CPU too; affinities then differ in the last of their 255
            steps. Answers that are no numbers are refused either way.
        block, columns
            Share the work among processes; see `inference.channels.predict_channels`.
        key : str
            Work in `out` is gone on with only where this is the same.
        report : callable
            Called with (blocks done, blocks).

        Returns
        -------
        Path
            `out`.
        """
        from brodmann.inference.channels import predict_channels

        statistics = normalisation.of(image)
        predict_channels(
            [forward(net, self.convention.offsets, mirror, bf16=bf16) for net in nets],
            image,
            out / "affinities.zarr",
            patch=self.plan.patch,
            channels=self.outputs,
            convention=self.convention,
            step=step,
            prepare=lambda values: Normalisation.apply(values, statistics),
            block=block,
            columns=columns,
            marks=out / "marks",
            key=key,
            report=report,
        )
        return out

    def score(self, answer: Volume, sample: Sample) -> Any:
        """Sparse contingency table of segments against neurons."""
        from brodmann.metrics.clusters import cluster_table

        return cluster_table(sample.labels, answer)

    def _truth(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        ids = widened(batch["labels"], self.widen, self.border_axes)
        return affinity_targets(ids, self.convention.offsets)
