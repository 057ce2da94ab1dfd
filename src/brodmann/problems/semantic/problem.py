"""Dense labels: every pixel of a section or a volume gets a region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn

from brodmann.core import IGNORE_CLASS, LabelMap, Sample, Volume
from brodmann.inference import Headed, predict_strips, tissue_mask
from brodmann.inference.heads import Predict
from brodmann.nets.unet import finest_features
from brodmann.preprocess import Normalisation
from brodmann.problems.semantic.loss import deep_loss
from brodmann.problems.semantic.plan import Plan


@dataclass
class Semantic:
    """The semantic problem on one label map.

    Parameters
    ----------
    label_map : LabelMap
    plan : Plan

    Example
    -------
    >>> from brodmann.core import Label
    >>> plan = Plan((8, 8), 2, (4,), ((1, 1),), ((3, 3),), (1.0, 1.0))
    >>> problem = Semantic(LabelMap([Label(7, "Thalamus", "TH")]), plan)
    >>> section = Volume(np.zeros((2, 2)), "yx", (1, 1))
    >>> labels = Volume(np.array([[0, 7], [7, 7]]), "yx", (1, 1))
    >>> problem.targets(Sample("a", section, labels)).tolist()
    [[0, 1], [1, 1]]
    """

    label_map: LabelMap
    plan: Plan
    labelled: ClassVar[bool] = True

    @property
    def outputs(self) -> int:
        """Channels of the net's answer: classes, background among them."""
        return self.label_map.num_classes

    def targets(self, sample: Sample) -> np.ndarray:
        """Class indices, int16, ignore -1."""
        return self.label_map.to_classes(sample.labels.numpy(), sample.name)

    def step(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Dice + cross entropy over all scales of one batch; of two label maps where mixed."""
        truth = (batch["labels"], batch.get("labels2"), batch.get("weight"))
        return {"loss": deep_loss(net(batch["image"]), *truth)}

    def validate(self, net: nn.Module, batch: dict[str, Tensor]) -> np.ndarray:
        """Contingency table (truth, prediction) of one batch, int64."""
        outputs = net(batch["image"])
        logits = outputs if isinstance(outputs, Tensor) else outputs[0]
        guess, truth = logits.argmax(1), batch["labels"]
        known = truth != IGNORE_CLASS
        n = self.label_map.num_classes
        pairs = truth[known] * n + guess[known]
        return torch.bincount(pairs, minlength=n * n).reshape(n, n).cpu().numpy()

    def summarise(self, evidence: np.ndarray) -> dict[str, float]:
        """Mean Dice of the regions that the validation patches hold."""
        from brodmann.metrics.overlap import overlap

        return {"val_dice": overlap(evidence, self.label_map).mean["mean_dice"] or 0.0}

    def assemble(
        self,
        nets: Sequence[nn.Module],
        image: Volume,
        normalisation: Normalisation,
        out: Path,
        *,
        step: float = 0.5,
        mirror: Sequence[int] = (),
        tissue: bool = False,
        confidence: bool = True,
        key: str = "",
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> Path:
        """Map a whole image in bounded memory.

        Parameters
        ----------
        nets : sequence of nn.Module
            Their logits are averaged.
        image : Volume
            At the plan's spacing, of any size; read by window.
        normalisation : Normalisation
        out : Path
            A folder; gets `classes.zarr` (class indices), `confidence.zarr` (probability of
            the winner, 0..255) and `state.json`, from which a stopped mapping goes on.
        step : float
            Distance between windows, in patches.
        mirror : sequence of int
            Spatial axes to mirror; all combinations are averaged.
        tissue : bool
            Find the tissue first and leave the rest background.
        confidence : bool
        key : str
            Work in `out` is gone on with only where this is the same.
        report : callable
            Called with (windows done, windows).

        Returns
        -------
        Path
            `out`.
        """
        from brodmann.io import open_output

        statistics = normalisation.of(image)
        classes = self.label_map.num_classes
        dtype = np.uint8 if classes <= 256 else np.uint16
        shape = image.spatial_shape

        def target(name: str, dtype: type) -> Any:
            return open_output(
                out / name, shape=shape, dtype=dtype, axes=image.spatial_axes, spacing=image.spacing
            )

        predict_strips(
            [forward(net, mirror) for net in nets],
            image,
            target("classes.zarr", dtype),
            patch=self.plan.patch,
            step=step,
            num_classes=classes,
            confidence=target("confidence.zarr", np.uint8) if confidence else None,
            tissue=tissue_mask(image) if tissue else None,
            prepare=lambda values: Normalisation.apply(values, statistics),
            state_path=out / "state.json",
            key=key,
            progress=report,
        )
        return out

    def score(self, answer: Volume, sample: Sample) -> np.ndarray:
        """Contingency table (truth, prediction) of one sample, int64; ignore is left out."""
        from brodmann.metrics.contingency import contingency

        return contingency(sample.labels, answer, self.label_map)


def forward(net: nn.Module, mirror: Sequence[int] = ()) -> Predict:
    """A function (n, c, *patch) float32 -> (n, classes, *patch) float32 logits.

    Runs on a GPU in mixed precision where there is one. Logits of mirrored inputs are turned
    back and averaged. Of a plain U-Net this is a `Headed`, for which prediction needs far
    less memory: it averages the features before the last layer, which comes to the same.

    Example
    -------
    >>> from brodmann.nets.unet import plain_unet
    >>> net = forward(plain_unet(1, 9, (4, 8), ((1, 1), (2, 2))), mirror=(0, 1))
    >>> net.features(torch.rand(1, 1, 16, 16)).shape, net(torch.rand(1, 1, 16, 16)).shape
    (torch.Size([1, 4, 16, 16]), torch.Size([1, 9, 16, 16]))
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = net.to(device).eval()
    axes = sorted(mirror)
    flips = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))
    headed = isinstance(net, PlainConvUNet)
    answer = partial(finest_features, net) if headed else net

    @torch.inference_mode()
    def run(batch: Tensor | np.ndarray) -> Tensor:
        batch = torch.as_tensor(batch).to(device)
        total: Tensor | None = None
        with torch.autocast("cuda", enabled=device.type == "cuda"):
            for flip in flips:
                turned = [axis + 2 for axis in flip]
                values = answer(batch.flip(turned))
                # With deep supervision the finest scale comes first.
                values = values if isinstance(values, Tensor) else values[0]
                values = values.float().flip(turned)
                total = values if total is None else total.add_(values)
                del values
        return total.div_(len(flips)) if len(flips) > 1 else total

    if not headed:
        return run
    last = net.decoder.seg_layers[-1]
    return Headed(run, last.weight.detach().flatten(1), last.bias.detach())
