"""From geometry to grey values as a section of stained neuropil would give them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from brodmann.core import keyed_rng
from brodmann.datasets.phantoms.em.locate import DEPTH_STEP_UM, GAP_STEP_UM

GRAIN, GRAIN_STEP_UM = 128, 0.006
MEMBRANE_UM = 0.0085
"""Standard deviation of the dark line that two neighbouring membranes give together."""
MITO_MEMBRANE_UM = 0.006
PSD_UM = 0.045
"""Reach of the dark density on the far side of a synapse."""


class Style(NamedTuple):
    """How one animal's tissue was stained and imaged; brightness runs from 0 (black) to 1."""

    cytoplasm: float
    spread: float
    membrane: float
    matrix: float
    grain: float
    noise: float
    blur_px: float
    contrast: float


def draw_style(seed: int, subject: int) -> Style:
    """The look of one animal."""
    rng = keyed_rng(seed, "phantom em style", subject)
    return Style(
        rng.uniform(0.60, 0.69),
        rng.uniform(0.025, 0.06),
        rng.uniform(0.08, 0.18),
        rng.uniform(0.32, 0.45),
        rng.uniform(0.07, 0.11),
        rng.uniform(0.04, 0.065),
        rng.uniform(0.55, 0.85),
        rng.uniform(1.0, 1.4),
    )


@lru_cache(maxsize=4)
def grain_tile(seed: int, subject: int) -> np.ndarray:
    """Fine structure of cytoplasm: a periodic field, mean 0 and deviation 1, float32."""
    rng = keyed_rng(seed, "phantom em grain", subject)
    along = np.fft.fftfreq(GRAIN, GRAIN_STEP_UM)
    square = (
        along[:, None, None] ** 2
        + along[None, :, None] ** 2
        + np.fft.rfftfreq(GRAIN, GRAIN_STEP_UM) ** 2
    )
    out = np.zeros((GRAIN,) * 3)
    for length, weight in ((0.007, 1.0), (0.016, 1.0), (0.05, 0.5)):
        noise = np.fft.rfftn(rng.standard_normal((GRAIN,) * 3, np.float32))
        part = np.fft.irfftn(
            noise * np.exp(-2 * (np.pi * length) ** 2 * square), (GRAIN,) * 3, (0, 1, 2)
        )
        out += weight * part / part.std()
    # Dark specks on a smoother ground, as ribosomes and filaments are.
    out = np.where(out < -0.6, 1.6 * out + 0.36, 0.8 * out)
    return (out / out.std()).astype(np.float32)


def membrane_table(spacing: tuple[float, float, float]) -> np.ndarray:
    """Darkness of a membrane by distance and tilt, as `locate` keeps them; (256, 256) float32.

    A section is a projection: a membrane that stands on it is a thin line, one that lies in it
    is spread over its thickness and fades. The integral of the Gaussian line through the
    section is exact.
    """
    from scipy.special import erf

    t = (np.arange(256) + 0.5)[:, None] * GAP_STEP_UM
    half = 0.5 * spacing[0] * (np.arange(256) / 255)[None]
    half = np.maximum(half, 1e-4)
    width = np.hypot(MEMBRANE_UM, 0.3 * min(spacing[1:]))
    s = width * np.sqrt(2)
    dark = (erf((t + half) / s) - erf((t - half) / s)) * width * np.sqrt(np.pi / 2) / (2 * half)
    return (dark * MEMBRANE_UM / width * 1.12).clip(0, 1).astype(np.float32)


def mito_table(style: Style) -> np.ndarray:
    """Brightness by depth into a mitochondrion (257 entries for -128..128), and how far it
    replaces the cytoplasm; (257, 2) float32."""
    d = (np.arange(257) - 128 + 0.5) * DEPTH_STEP_UM
    inside = 1 / (1 + np.exp(d / 0.003))
    line = np.exp(-(((d + 0.004) / (MITO_MEMBRANE_UM * 1.3)) ** 2))
    second = np.exp(-(((d + 0.020) / MITO_MEMBRANE_UM) ** 2))
    light = style.matrix - (style.matrix - style.membrane) * np.maximum(line, 0.6 * second)
    return np.column_stack([light, np.maximum(inside, line)]).astype(np.float32)


@njit(cache=True, nogil=True)
def paint(
    first, last, spacing, shift, neurons, mitochondria, contacts, gap, tilt, depth,
    light, sides, axes, membrane, mito, style, grain, out,
):  # fmt: skip  # pragma: no cover (compiled)
    """Noise-free brightness of slices first..last; out: (slices, height, width) float32."""
    mask = GRAIN - 1
    scale = 1 / GRAIN_STEP_UM
    for i in range(first, last):
        z = (i + 0.5) * spacing[0]
        for j in range(neurons.shape[1]):
            y = (j + 0.5) * spacing[1] + shift[i, 0]
            for k in range(neurons.shape[2]):
                x = (k + 0.5) * spacing[2] + shift[i, 1]
                who = neurons[i, j, k]
                # The tile twice, turned in two ways, so that its period does not show.
                a = int(np.floor(scale * (0.80 * z + 0.36 * y + 0.48 * x))) & mask
                b = int(np.floor(scale * (-0.60 * z + 0.48 * y + 0.64 * x))) & mask
                c = int(np.floor(scale * (0.80 * y - 0.60 * x))) & mask
                speck = grain[a, b, c]
                a = int(np.floor(scale * (0.28 * z - 0.768 * y + 0.576 * x))) & mask
                b = int(np.floor(scale * (0.96 * z + 0.224 * y - 0.168 * x))) & mask
                c = int(np.floor(scale * (0.6 * y + 0.8 * x))) & mask
                speck = np.float32(0.75) * (speck + grain[c, a, b])
                value = light[who] + style.grain * speck
                d = depth[i, j, k]
                if d < 20:
                    m = mitochondria[i, j, k]
                    inner, cover = mito[d + 128, 0], mito[d + 128, 1]
                    inner += 0.45 * style.grain * speck
                    if m > 0 and d < -22:
                        # Cristae: dark lamellae, bent by the same noise.
                        phase = (axes[m, 0] * z + axes[m, 1] * y + axes[m, 2] * x) / axes[m, 3]
                        wave = np.sin(2 * np.pi * phase + axes[m, 4] + 0.55 * speck)
                        inner -= 0.20 * axes[m, 5] * max(wave - 0.25, 0.0)
                        inner += 0.07 * axes[m, 5] * max(-wave - 0.2, 0.0)
                    value = value * (1 - cover) + inner * cover
                t = gap[i, j, k]
                dark = membrane[t, tilt[i, j, k]]
                s = contacts[i, j, k]
                if s > 0:
                    far = t * GAP_STEP_UM
                    reach = PSD_UM if who == sides[s, 1] else 0.45 * PSD_UM
                    dense = min(max(1.25 * (1 - far / reach), 0.0), 1.0)
                    dark = max(dark, dense * (0.85 + 0.25 * min(max(0.5 * speck, -1.0), 1.0)))
                    dark = min(dark, 1.0)
                out[i - first, j, k] = value * (1 - dark) + style.membrane * dark


@njit(cache=True, nogil=True)
def vesicles(
    first, last, spacing, shift, neurons, gap, mitochondria, balls, within, light, style, out
):  # fmt: skip  # pragma: no cover (compiled)
    """Draw vesicles over slices first..last of the image: a dark ring, light within."""
    shape = neurons.shape
    for n in range(len(balls)):
        z, y, x, r, dark = balls[n]
        i0 = int(np.floor((z - r) / spacing[0] - 0.5))
        for i in range(max(i0, first), min(int((z + r) / spacing[0] + 1.5), last)):
            dz = (i + 0.5) * spacing[0] - z
            # The part of the ball that lies in the section.
            half = 0.5 * spacing[0]
            near, far = max(dz - half, -r), min(dz + half, r)
            if near >= far:
                continue
            share = min((far - near) / min(spacing[0], r), 1.0)
            level = min(max(0.0, near), far) if near <= 0 else near
            if far < 0:
                level = far
            ring = np.sqrt(max(r * r - level * level, 0.0))
            cy, cx = y - shift[i, 0], x - shift[i, 1]
            reach = r + 0.012
            for j in range(
                max(0, int((cy - reach) / spacing[1])),
                min(shape[1], int((cy + reach) / spacing[1]) + 1),
            ):
                for k in range(
                    max(0, int((cx - reach) / spacing[2])),
                    min(shape[2], int((cx + reach) / spacing[2]) + 1),
                ):
                    if neurons[i, j, k] != within[n] or mitochondria[i, j, k] > 0:
                        continue
                    if gap[i, j, k] * GAP_STEP_UM < 0.012:
                        continue
                    dy = (j + 0.5) * spacing[1] - cy
                    dx = (k + 0.5) * spacing[2] - cx
                    d = np.sqrt(dy * dy + dx * dx)
                    e = (d - ring + 0.002) / 0.0075
                    wall = np.exp(-e * e) * dark * share
                    at = i - first
                    if d < ring - 0.004:
                        out[at, j, k] += 0.5 * share * (light[within[n]] + 0.04 - out[at, j, k])
                    out[at, j, k] += 0.95 * wall * (style.membrane - out[at, j, k])
