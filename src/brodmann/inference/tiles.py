"""Overlapping windows over an image of any size, joined by Gaussian weights, all in memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from brodmann.core import DataError, RecipeError, Volume
from brodmann.inference.heads import CHUNK, Blend, Predict

Prepare = Callable[[np.ndarray], np.ndarray]
"""(channels, *window) as stored -> the same shape, normalised, before any padding."""


def tile_starts(size: int, patch: int, step: float) -> list[int]:
    """First positions of the windows along one axis, as nnU-Net places them.

    As few as keep neighbours at most ``step * patch`` apart, evenly spread, the first at 0
    and the last flush with the end. The axis must be at least as long as the patch.

    >>> tile_starts(10, 4, 0.5), tile_starts(4, 4, 0.5)
    ([0, 2, 4, 6], [0])
    """
    room = size - patch
    count = math.ceil(room / max(1.0, patch * step))
    return [round(room / count * i) for i in range(count + 1)] if count else [0]


def axis_weights(patch: int) -> np.ndarray:
    """Importance along one axis: a Gaussian, sigma patch / 8, 1 at ``patch // 2``; float64.

    It is nnU-Net's map, which is the outer product of these. With this sigma it never falls
    to zero (exp(-8) at the edge), so that nothing has to be clipped.
    """
    offset = np.arange(patch) - patch // 2
    return np.exp(-0.5 * (offset * 8.0 / patch) ** 2)


@dataclass(frozen=True)
class Grid:
    """Where the windows lie on an image of `shape`.

    An image shorter than the patch along an axis is padded there with zeros, as nnU-Net
    does, half on either side, after normalisation: zero is then the mean. All positions are
    in padded coordinates; subtract `before` for the image's own.

    Parameters
    ----------
    shape, patch : tuple of int
        Spatial, 2 or 3 axes, (z, y, x).
    step : float
        Greatest distance between neighbours as a share of the patch, in (0, 1].

    Example
    -------
    >>> grid = Grid((10, 3), (4, 4), 0.5)
    >>> grid.starts, grid.padded, grid.before
    (((0, 2, 4, 6), (0,)), (10, 4), (0, 0))
    """

    shape: tuple[int, ...]
    patch: tuple[int, ...]
    step: float = 0.5
    before: tuple[int, ...] = field(init=False)
    padded: tuple[int, ...] = field(init=False)
    starts: tuple[tuple[int, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        shape, patch = (tuple(int(n) for n in axis) for axis in (self.shape, self.patch))
        if len(patch) != len(shape) or min(patch, default=0) < 1:
            raise RecipeError(
                f"a patch for a {len(shape)}D image is {len(shape)} sizes of at least 1",
                "patch",
                patch,
            )
        if not 0 < self.step <= 1:
            raise RecipeError("the step between tiles is a share of the patch", "step", self.step)
        if min(shape) < 1:
            raise DataError("an empty image", found=f"shape {shape}")
        padded = tuple(max(pair) for pair in zip(shape, patch))
        values = {
            "shape": shape,
            "patch": patch,
            "before": tuple((big - small) // 2 for big, small in zip(padded, shape)),
            "padded": padded,
            "starts": tuple(
                tuple(tile_starts(size, side, self.step)) for size, side in zip(padded, patch)
            ),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def weight(self) -> torch.Tensor:
        """Importance of every pixel of one window, float32, shaped like the patch."""
        return torch.from_numpy(outer([axis_weights(side) for side in self.patch]))

    def weight_sums(self) -> list[np.ndarray]:
        """Sum of the windows' weights along each axis, float64; their outer product is the whole.

        Axes are independent because the weight is an outer product, so that no buffer of
        the image's size is needed for it.
        """
        sums = []
        for size, side, starts in zip(self.padded, self.patch, self.starts):
            total = np.zeros(size)
            for start in starts:
                total[start : start + side] += axis_weights(side)
            sums.append(total)
        return sums

    def read(self, image: Volume, start: Sequence[int], prepare: Prepare | None) -> np.ndarray:
        """One window as the net wants it: (channels, *patch) float32, prepared, then padded.

        Raises
        ------
        DataError
            If the window holds NaN or infinity.
        """
        window, pad = [], [(0, 0)]
        for axis, first in enumerate(start):
            low = first - self.before[axis]
            inside = slice(max(low, 0), min(low + self.patch[axis], self.shape[axis]))
            window.append(inside)
            pad.append((inside.start - low, low + self.patch[axis] - inside.stop))
        values = image.read(tuple(window))
        values = np.asarray(prepare(values) if prepare else values, np.float32)
        if not np.isfinite(values).all():
            where = ", ".join(f"{slot.start}:{slot.stop}" for slot in window)
            raise DataError(
                "the image holds NaN or infinity",
                f"{image.spatial_axes} {where}",
                fix="replace them before predicting",
            )
        return np.pad(values, pad) if np.any(pad) else values


def outer(axes: Sequence[np.ndarray]) -> np.ndarray:
    """Outer product of vectors, computed in float64, as contiguous float32."""
    product = np.ones(())
    for axis in axes:
        product = np.multiply.outer(product, axis)
    return np.ascontiguousarray(product, np.float32)


def add_weighted(sums: torch.Tensor, logits: torch.Tensor, weight: torch.Tensor) -> None:
    """``sums += logits * weight`` in place: (C, *s) float32, (C, *s) any float and layout, (*s).

    Product and sum are rounded one after the other in small contiguous pieces. Every pixel
    so gets the same bits wherever its window is cut, which a fused multiply-add would not
    promise.
    """
    rows = max(1, CHUNK // max(1, sums[:, 0].numel()))
    scratch = torch.empty((sums.shape[0], min(rows, sums.shape[1]), *sums.shape[2:]))
    scratch = scratch.to(sums.device)
    for first in range(0, sums.shape[1], rows):
        part = slice(first, min(first + rows, sums.shape[1]))
        product = scratch[:, : part.stop - first]
        product.copy_(logits[:, part])
        sums[:, part].add_(product.mul_(weight[part]))


def batched(items: Sequence, size: int) -> Iterator[Sequence]:
    """Runs of at most `size` items, in order."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def sliding_logits(
    predict: Predict | Sequence[Predict],
    image: Volume | np.ndarray,
    *,
    patch: Sequence[int],
    num_classes: int,
    step: float = 0.5,
    prepare: Prepare | None = None,
    batch: int = 1,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Logits of a whole image from overlapping windows, held in memory at once.

    For images whose logits fit: 4 bytes x classes x pixels. `predict_strips` gives the
    argmax of the very same numbers in bounded memory.

    Parameters
    ----------
    predict : callable or Headed, or a sequence of them
        (n, c, *patch) float32 tensor on the CPU -> (n, num_classes, *patch) logits. The
        logits of several (folds) are averaged with equal weight. Where all are `Headed` and
        have fewer features than classes, features are summed and the heads come last.
    image : Volume, or ndarray (c, *spatial)
        2D or 3D.
    patch : sequence of int
        The windows' size. A smaller image is padded with zeros after `prepare`, as in nnU-Net.
    step : float
        Greatest distance between windows as a share of the patch.
    prepare : callable, optional
        Normalisation, applied to each window as read, (c, *window), before padding.
    batch : int
        Windows handed to the net at once. With more than one, the logits of `batch` windows
        times all nets are in memory together; with one, those of one window and net.
    device : str or torch.device
        Where the sums are kept.

    Returns
    -------
    ndarray (num_classes, *spatial) float32

    Raises
    ------
    DataError, ModelError, RecipeError
        For NaN in the image, logits of the wrong shape, or a patch or step that cannot be.

    Example
    -------
    >>> image = np.random.default_rng(0).normal(size=(1, 9, 13)).astype(np.float32)
    >>> double = lambda x: torch.cat([x, 2 * x], 1)
    >>> logits = sliding_logits(double, image, patch=(4, 6), num_classes=2)
    >>> bool(np.allclose(logits[1], 2 * image[0], atol=1e-5))
    True
    """
    if not isinstance(image, Volume):
        axes = {3: "cyx", 4: "czyx"}.get(image.ndim)
        if axes is None:
            raise DataError("an image is (c, y, x) or (c, z, y, x)", found=f"shape {image.shape}")
        image = Volume(image, axes, (1.0,) * (image.ndim - 1))
    device = torch.device(device)
    blend = Blend(predict, num_classes, device)
    grid = Grid(image.spatial_shape, tuple(patch), step)
    weight = grid.weight().to(device)
    sums = torch.zeros((blend.channels, *grid.padded), device=device)
    for first in grid.starts[0]:
        row = [(first, *rest) for rest in itertools.product(*grid.starts[1:])]
        for some in batched(row, batch):
            windows = np.stack([grid.read(image, start, prepare) for start in some])
            for part in blend.parts(windows):
                slots = [slice(a, a + n) for a, n in zip(some[part.window], grid.patch)]
                slots[0] = slice(slots[0].start + part.rows.start, slots[0].start + part.rows.stop)
                add_weighted(sums[(part.channels, *slots)], part.values, weight[part.rows])
                del part  # or the next net's would stand beside it
    totals = grid.weight_sums()
    totals[0] = totals[0] * len(blend.nets)
    logits = sums
    if blend.channels != num_classes:
        logits = torch.empty((num_classes, *grid.padded), device=device)
    for row in range(grid.padded[0]):
        totals_row = torch.from_numpy(outer([totals[0][row : row + 1], *totals[1:]])[0])
        blend.logits(sums[:, row], totals_row.to(device), logits[:, row])
    inside = tuple(slice(b, b + n) for b, n in zip(grid.before, grid.shape))
    return np.ascontiguousarray(logits[(slice(None), *inside)].cpu().numpy())
