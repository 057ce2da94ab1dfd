"""A trained ConvMixer on a CPU: each row of tokens goes through a whole block while it is in cache.

Torch passes over all tokens for each convolution, GELU, normalisation and sum, so that memory is
the limit. Here a row of tokens is read once and written once a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit
from torch import nn

TOKENS = 16
"""Filtered together: a multiple of what a register holds whatever the width."""
ALONE = 1 << 18
"""Multiplications of a matrix product that BLAS does in the calling thread, at most. Its own
threads, beside those here, cost far more than they gain."""
FAST = {"cache": True, "nogil": True, "fastmath": {"contract", "nnan", "ninf", "nsz", "arcp"},
        "error_model": "numpy"}  # fmt: skip


class CompiledConvMixer:
    """What a ConvMixer in eval mode answers, in float32, without torch.

    Parameters
    ----------
    net : ConvMixer
        Its weights are copied.

    Example
    -------
    >>> import torch
    >>> from brodmann.nets.convmixer import convmixer
    >>> net = convmixer(2, 1, (8,), ((2, 4, 4),), ((3, 5, 3),), depth=2, skip=True).eval()
    >>> image = torch.rand(1, 2, 6, 12, 8)
    >>> answer = CompiledConvMixer(net)(image[0].numpy())
    >>> with torch.no_grad():
    ...     bool(np.allclose(answer, net(image)[0], atol=1e-5))
    True
    """

    def __init__(self, net: Any) -> None:
        self.patch = (1,) * (3 - len(net.patch)) + tuple(net.patch)
        self.flat = len(net.patch) == 2
        conv, _, norm = net.embed
        self.embed = _plain(_matrix(conv)), *_affine(norm, conv.bias)
        self.blocks = []
        for block in net.blocks:
            (space, _, first), (mix, _, second) = block.space, block.mix
            weight = _array(space.weight[:, 0])
            weight = weight[:, None] if self.flat else weight
            # One row of weights for each tap, repeated for as many tokens as go together.
            taps = np.ascontiguousarray(np.tile(np.moveaxis(weight, 0, -1), TOKENS))
            self.blocks.append(
                (
                    taps,
                    *_affine(first, space.bias),
                    _plain(_matrix(mix)),
                    *_affine(second, mix.bias),
                )
            )
        self.reach = tuple(n // 2 for n in self.blocks[0][0].shape[:3])
        self.head = _plain(_matrix(net.head)), _array(net.head.bias)
        self.classes = net.num_classes
        self.skip = (
            np.zeros((net.num_classes, net.in_channels), np.float32),
            np.zeros(net.num_classes, np.float32),
        )
        if net.skip is not None:
            self.skip = _array(net.skip.weight.flatten(1)), _array(net.skip.bias)

    def __call__(self, image: np.ndarray, threads: int = 1, trim: Sequence[int] = ()) -> np.ndarray:
        """Answer for an image, or for what is within.

        Parameters
        ----------
        image : ndarray (in_channels, *spatial)
            The patch divides the spatial sizes.
        threads : int
            That share the rows of tokens; changes no number.
        trim : sequence of int
            Voxels of each side whose answers nobody wants; what is within still depends on them.

        Returns
        -------
        ndarray (num_classes, *spatial less 2 trim), float32
            Logits.
        """
        trim = tuple(trim) or (0,) * (image.ndim - 1)
        if self.flat:
            image, trim = image[:, None], (0, *trim)
        image = np.ascontiguousarray(image, np.float32)
        sizes = image.shape[1:]
        grid = tuple(n // p for n, p in zip(sizes, self.patch))
        wanted = [(t // p, -(-(n - t) // p)) for n, t, p in zip(sizes, trim, self.patch)]
        width = self.embed[0].shape[1]
        room = tuple(n + 2 * r for n, r in zip(grid, self.reach))
        tokens, other = (np.zeros((*room, width), np.float32) for _ in range(2))
        logits = np.empty(
            (self.classes, *((b - a) * p for (a, b), p in zip(wanted, self.patch))), np.float32
        )
        with ThreadPoolExecutor(threads) as pool:

            def rows(kernel: Any, blocks: int, *given: Any) -> None:
                """On the tokens that so many blocks to come need."""
                (z, ends), (y, ys), (x, xs) = (
                    (max(0, a - blocks * r), min(n, b + blocks * r))
                    for (a, b), r, n in zip(wanted, self.reach, grid)
                )
                place = np.array([*self.patch, *self.reach, z, y, x, ys - y, xs - x], np.int64)
                count = (ends - z) * (ys - y)
                cuts = [count * part // threads for part in range(threads + 1)]
                list(pool.map(lambda low, high: kernel(low, high, place, *given), cuts, cuts[1:]))

            rows(_embed, len(self.blocks), image, *self.embed, tokens)
            for number, block in enumerate(self.blocks, 1):
                rows(_block, len(self.blocks) - number, tokens, *block, other)
                tokens, other = other, tokens
            rows(_head, 0, tokens, *self.head, *self.skip, image, logits)
        inner = tuple(
            slice(t - a * p, t - a * p + n - 2 * t)
            for n, t, (a, _), p in zip(sizes, trim, wanted, self.patch)
        )
        logits = logits[:, *inner]
        return logits[:, 0] if self.flat else logits


def _array(tensor: Any) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


def _matrix(conv: nn.Module) -> Any:
    return conv.weight.flatten(1).t()  # type: ignore[operator, union-attr]


def _plain(tensor: Any) -> np.ndarray:
    return _array(tensor.contiguous())


def _affine(norm: Any, bias: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is added before GELU, and scale and shift after it; each for `TOKENS` tokens."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    before, scale, shift = (np.tile(_array(part), TOKENS) for part in (bias, scale, shift))
    return before, scale, shift


@njit(inline="always", **FAST)
def _gelu(value):  # pragma: no cover (compiled)
    """value * Phi(value), to about the precision of float32: erf as a quotient of polynomials."""
    x = min(max(value * np.float32(math.sqrt(0.5)), np.float32(-4)), np.float32(4))
    q = x * x
    p = np.float32(-2.72614225801306e-10) * q + np.float32(2.77068142495902e-08)
    p = p * q + np.float32(-2.10102402082508e-06)
    p = p * q + np.float32(-5.69250639462346e-05)
    p = p * q + np.float32(-7.34990630326855e-04)
    p = p * q + np.float32(-2.95459980854025e-03)
    p = p * q + np.float32(-1.60960333262415e-02)
    d = np.float32(-1.45660718464996e-05) * q + np.float32(-2.13374055278905e-04)
    d = d * q + np.float32(-1.68282697438203e-03)
    d = d * q + np.float32(-7.37332916720468e-03)
    d = d * q + np.float32(-1.42647390514189e-02)
    return np.float32(0.5) * value * (np.float32(1) + x * p / d)


@njit(**FAST)
def _through(values, start, count, before, scale, shift):  # pragma: no cover (compiled)
    """GELU and normalisation in place."""
    part = values[start : start + count]
    for k in range(count):
        part[k] = _gelu(part[k] + before[k]) * scale[k] + shift[k]


@njit(**FAST)
def _product(given, weight, out):  # pragma: no cover (compiled)
    """out = given @ weight."""
    step = max(1, ALONE // weight.size)
    for low in range(0, len(given), step):
        np.dot(given[low : low + step], weight, out[low : low + step])


@njit(**FAST)
def _embed(low, high, place, image, weight, before, scale, shift, tokens):  # pragma: no cover
    """Patches of rows low..high of a place of the grid as tokens."""
    pz, py, px, rz, ry, rx, z0, y0, x0, rows, count = place
    width, channels = weight.shape[1], image.shape[0]
    patches = np.empty((count, weight.shape[0]), np.float32)
    made = np.empty((count, width), np.float32)
    for row in range(low, high):
        z, y = z0 + row // rows, y0 + row % rows
        k = 0
        for c in range(channels):
            for dz in range(pz):
                for dy in range(py):
                    line = image[c, z * pz + dz, y * py + dy, x0 * px :]
                    # The short loop outside: its beginning costs more than what it does.
                    for dx in range(px):
                        for t in range(count):
                            patches[t, k + dx] = line[t * px + dx]
                    k += px
        _product(patches, weight, made)
        flat = made.reshape(-1)
        for t in range(0, count, TOKENS):
            more = min(TOKENS, count - t) * width
            _through(flat, t * width, more, before, scale, shift)
        tokens[z + rz, y + ry, rx + x0 : rx + x0 + count] = made


@njit(**FAST)
def _added(total, count, first, second, third, given, start, step):  # pragma: no cover (compiled)
    """Three taps beside each other."""
    a = given[start : start + count]
    b = given[start + step : start + step + count]
    c = given[start + 2 * step : start + 2 * step + count]
    for k in range(count):
        total[k] += first[k] * a[k] + second[k] * b[k] + third[k] * c[k]


@njit(**FAST)
def _block(
    low, high, place, tokens, taps, before, scale, shift, weight, after, rescale, reshift, out
):  # pragma: no cover (compiled)
    """Rows low..high of a place of the grid through one block."""
    _, _, _, rz, ry, rx, z0, y0, x0, rows, count = place
    kz, ky, kx = taps.shape[:3]
    tall, wide, width = tokens.shape[1:]
    given = tokens.reshape(-1)
    mixed = np.empty((count, width), np.float32)
    spaced = np.empty((count, width), np.float32)
    for row in range(low, high):
        z, y = z0 + row // rows, y0 + row % rows
        for t in range(0, count, TOKENS):
            more = min(TOKENS, count - t) * width
            total = spaced.reshape(-1)[t * width : t * width + more]
            total[:] = 0
            for dz in range(kz):
                for dy in range(ky):
                    start = (((z + dz) * tall + y + dy) * wide + x0 + t) * width
                    weights = taps[dz, dy]
                    dx = 0
                    while dx + 3 <= kx:
                        _added(
                            total, more, weights[dx], weights[dx + 1], weights[dx + 2],
                            given, start + dx * width, width,
                        )  # fmt: skip
                        dx += 3
                    while dx < kx:
                        one = given[start + dx * width : start + dx * width + more]
                        single = weights[dx]
                        for k in range(more):
                            total[k] += single[k] * one[k]
                        dx += 1
            own = (((z + rz) * tall + y + ry) * wide + x0 + t + rx) * width
            kept = given[own : own + more]
            for k in range(more):
                total[k] = _gelu(total[k] + before[k]) * scale[k] + shift[k] + kept[k]
        _product(spaced, weight, mixed)
        flat = mixed.reshape(-1)
        for t in range(0, count, TOKENS):
            more = min(TOKENS, count - t) * width
            _through(flat, t * width, more, after, rescale, reshift)
        out[z + rz, y + ry, rx + x0 : rx + x0 + count] = mixed


@njit(**FAST)
def _head(
    low, high, place, tokens, weight, bias, skip, base, image, logits
):  # pragma: no cover (compiled)
    """Rows low..high of a place of the grid as answers of its voxels."""
    pz, py, px, rz, ry, rx, z0, y0, x0, rows, count = place
    classes = logits.shape[0]
    voxels = pz * py * px
    answers = np.empty((count, weight.shape[1]), np.float32)
    for row in range(low, high):
        z, y = z0 + row // rows, y0 + row % rows
        given = np.ascontiguousarray(tokens[z + rz, y + ry, rx + x0 : rx + x0 + count])
        _product(given, weight, answers)
        for c in range(classes):
            k = c * voxels
            for dz in range(pz):
                for dy in range(py):
                    line = logits[c, (z - z0) * pz + dz, (y - y0) * py + dy]
                    line[:] = base[c]
                    for channel in range(image.shape[0]):
                        share = skip[c, channel]
                        seen = image[channel, z * pz + dz, y * py + dy, x0 * px :]
                        for x in range(len(line)):
                            line[x] += share * seen[x]
                    for dx in range(px):
                        for t in range(count):
                            line[t * px + dx] += answers[t, k + dx] + bias[k + dx]
                    k += px
