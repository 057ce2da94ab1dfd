"""What a problem is: the only things that training, inference and scoring ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor, nn

from brodmann.core import Registry, Sample, Volume
from brodmann.preprocess import Normalisation


class Batches(Protocol):
    """Step -> batch, a dict of tensors that depends on (seed, step) alone."""

    def __getitem__(self, step: int) -> dict[str, Tensor]: ...


class Problem(Protocol):
    """One thing that can be learned. A room under problems/ is a class of this shape.

    It is made from a label map (None where answers are no classes), a plan, and options that
    are plain data. Training asks for `step`, `validate` and `summarise` alone, and calls
    `after_step(net, steps_done)` after each update where a problem has it.
    """

    labelled: ClassVar[bool]
    """Whether answers are classes of a label map."""

    @property
    def outputs(self) -> int:
        """Channels of the net's answer."""

    def targets(self, sample: Sample) -> np.ndarray:
        """What the net should say for a whole sample."""

    def step(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of one batch by name; "loss" is the one to go down."""

    def validate(self, net: nn.Module, batch: dict[str, Tensor]) -> Any:
        """Countable evidence from one batch, added up by `+`."""

    def summarise(self, evidence: Any) -> dict[str, float]:
        """Numbers for the learning curve from all the evidence."""

    def assemble(
        self,
        nets: Sequence[nn.Module],
        image: Volume,
        normalisation: Normalisation,
        out: Path,
        **options: Any,
    ) -> Path:
        """Map a whole image of any size into a file."""

    def score(self, answer: Volume, sample: Sample) -> Any:
        """Countable evidence of how right an answer is, added up by `+`."""


PROBLEMS: Registry[type] = Registry(
    "problem",
    {
        "semantic": "brodmann.problems.semantic.problem:Semantic",
        "neurons": "brodmann.problems.neurons.problem:Neurons",
        "cells": "brodmann.problems.cells.problem:Cells",
    },
)
