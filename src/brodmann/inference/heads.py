"""What is summed over the windows: logits, or the fewer features that a linear head sees.

The last layer of a U-Net is linear and works on each pixel alone, and so is the weighted mean
over windows. They may change places: the head of the mean features is the mean of the logits.
With 8 features and 119 classes the sums then take a fifteenth of the memory and of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numba import njit

from brodmann.core import ModelError, RecipeError

CHUNK = 1 << 21
"""Values worked on at once where a temporary is needed (8 MB of float32)."""
BLOCK = 1024
"""Pixels whose features stay in the fastest cache."""


@dataclass(frozen=True, eq=False)
class Headed:
    """A net that ends in a pointwise linear layer, its logits still to be made.

    Given to `predict_strips` or `sliding_logits`, the logits of a window never exist whole.
    Called, it answers with them like any other net.

    Parameters
    ----------
    features : callable
        (n, c, *patch) float32 on the CPU -> (n, f, *patch) of any float type, on any device.
    weight : Tensor (classes, f) float32
        On the device of the features.
    bias : Tensor (classes,) float32

    Raises
    ------
    ModelError
        If the weights do not fit each other, or hold NaN or infinity.

    Example
    -------
    >>> net = Headed(lambda x: 2 * x, torch.tensor([[1.0], [-1.0]]), torch.tensor([0.0, 5.0]))
    >>> net(torch.ones(1, 1, 1, 2)).flatten().tolist()
    [2.0, 2.0, 3.0, 3.0]
    """

    features: Callable[[torch.Tensor], torch.Tensor]
    weight: torch.Tensor
    bias: torch.Tensor

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ModelError(
                "a head needs a weight (classes, features) and a bias (classes,)",
                found=f"{tuple(self.weight.shape)} and {tuple(self.bias.shape)}",
            )
        if not (torch.isfinite(self.weight).all() and torch.isfinite(self.bias).all()):
            raise ModelError(
                "the net's last layer holds NaN or infinity",
                fix="check that training did not diverge",
            )

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.logits(one) for one in self.features(batch)])

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """(f, *s) -> (classes, *s) float32."""
        flat = features.to(self.weight.dtype).flatten(1)
        return torch.addmm(self.bias[:, None], self.weight, flat).unflatten(1, features.shape[1:])


Predict = Callable[[torch.Tensor], torch.Tensor] | Headed
"""(n, channels, *patch) float32 -> (n, classes, *patch) logits of any float type and layout."""


class Part(NamedTuple):
    """Values to be added to the sums: some channels of some rows of one window of a batch."""

    window: int
    channels: slice
    rows: slice
    values: torch.Tensor
    """(channels, rows, *patch[1:])"""


class Blend:
    """Nets, what is summed over their windows, and the mean logits that come of it.

    Features are summed, those of all nets side by side, where every net is `Headed` and has
    fewer of them than there are classes; logits otherwise.

    Attributes
    ----------
    channels : int
        Of the sums.
    num_classes : int
    """

    def __init__(
        self, predict: Predict | Sequence[Predict], num_classes: int, device: torch.device
    ) -> None:
        self.nets = [predict] if callable(predict) else list(predict)
        if not self.nets:
            raise RecipeError("prediction needs at least one net", found="none")
        self.num_classes, self._device = num_classes, device
        heads = [net for net in self.nets if isinstance(net, Headed)]
        for net in heads:
            if len(net.weight) != num_classes:
                raise ModelError(
                    f"the net must answer with {num_classes} logits", found=len(net.weight)
                )
        widths = [net.weight.shape[1] for net in heads]
        self._joined = len(heads) == len(self.nets) and sum(widths) < num_classes
        self.channels = sum(widths) if self._joined else num_classes
        self._slots = [slice(None)] * len(self.nets)
        if self._joined:
            ends = np.cumsum(widths).tolist()
            self._slots = [slice(end - width, end) for end, width in zip(ends, widths)]
            self._weight = torch.cat([net.weight.detach().to(device) for net in heads], 1)
            biases = torch.stack([net.bias.detach().double().to(device) for net in heads])
            self._bias = biases.mean(0).float()

    def parts(self, windows: np.ndarray) -> Iterator[Part]:
        """What each net says of each window (n, channels, *patch), window by window.

        Of a single window one net's answer exists at a time, if the caller lets go of the
        parts; of several windows the answers of all nets do.
        """
        if len(windows) == 1:
            for net, slots in zip(self.nets, self._slots):
                yield from self._cut(net, slots, 0, self._run(net, windows)[0])
            return
        answers = [self._run(net, windows) for net in self.nets]
        for number in range(len(windows)):
            for net, slots, answer in zip(self.nets, self._slots, answers):
                yield from self._cut(net, slots, number, answer[number])

    def logits(self, sums: torch.Tensor, weights: torch.Tensor, out: torch.Tensor) -> None:
        """Finished sums (channels, *s), weights (*s) -> mean logits into `out` (classes, *s).

        Every pixel gets the same bits wherever the sums are cut. `out` may be `sums` where
        logits are summed.
        """
        if not self._joined:
            torch.div(sums, weights, out=out)
            return
        mean = torch.div(sums, weights)
        if not mean.is_cpu:
            _multiply_planes(mean, self._weight, self._bias, out)
            return
        product = out if out.is_contiguous() else torch.empty(out.shape)
        flat = (mean.reshape(len(mean), -1), self._weight, self._bias)
        _multiply(*(part.numpy() for part in flat), product.view(len(out), -1).numpy())
        if product is not out:
            out.copy_(product)

    def _run(self, net: Predict, windows: np.ndarray) -> torch.Tensor:
        """The answer of one net to a batch, its shape checked, without autograd."""
        with torch.inference_mode():
            batch = torch.from_numpy(windows)
            headed = isinstance(net, Headed)
            answer = net.features(batch) if headed else net(batch)
            what, width = (
                ("features", net.weight.shape[1]) if headed else ("logits", self.num_classes)
            )
            expected = (len(windows), width, *windows.shape[2:])
            if tuple(answer.shape) != expected or not answer.dtype.is_floating_point:
                raise ModelError(
                    f"the net must answer with floating-point {what} of shape {expected}",
                    found=f"{answer.dtype} of shape {tuple(answer.shape)}",
                )
            # A product with the head is best made where the features are.
            return answer if headed and not self._joined else answer.to(self._device)

    def _cut(self, net: Predict, slots: slice, window: int, answer: torch.Tensor) -> Iterator[Part]:
        height = answer.shape[1]
        if self._joined or not isinstance(net, Headed):
            yield Part(window, slots, slice(0, height), answer)
            return
        # Always cut alike: the last bits of a matrix product may depend on its shape.
        rows = max(1, CHUNK // (self.num_classes * answer[0, 0].numel()))
        for first in range(0, height, rows):
            part = slice(first, min(first + rows, height))
            with torch.inference_mode():
                values = net.logits(answer[:, part]).to(self._device)
            yield Part(window, slots, part, values)


@njit(cache=True, nogil=True)
def _multiply(features, weight, bias, out):  # type: ignore[no-untyped-def]
    """out (k, p) = weight (k, f) @ features (f, p) + bias, added up in order for every pixel.

    A matrix product from a library may add in another order at the ends of its blocks.
    """
    classes, width = weight.shape
    pixels = features.shape[1]
    for first in range(0, pixels, BLOCK):
        stop = min(first + BLOCK, pixels)
        for k in range(classes):
            row = out[k, first:stop]
            row[:] = bias[k]
            c = 0
            while c + 4 <= width:
                w0, w1, w2, w3 = weight[k, c], weight[k, c + 1], weight[k, c + 2], weight[k, c + 3]
                f0, f1 = features[c, first:stop], features[c + 1, first:stop]
                f2, f3 = features[c + 2, first:stop], features[c + 3, first:stop]
                for p in range(stop - first):
                    row[p] = (((row[p] + w0 * f0[p]) + w1 * f1[p]) + w2 * f2[p]) + w3 * f3[p]
                c += 4
            while c < width:
                w0, f0 = weight[k, c], features[c, first:stop]
                for p in range(stop - first):
                    row[p] += w0 * f0[p]
                c += 1


def _multiply_planes(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, out: torch.Tensor
) -> None:
    """The same numbers on any device."""
    product = torch.empty_like(features[0])
    for plane, row, start in zip(out, weight.tolist(), bias.tolist()):
        plane.fill_(start)
        for value, feature in zip(row, features):
            plane.add_(torch.mul(feature, value, out=product))
