"""A section's image from its anatomy: stain, light, camera, and what lies on the slide."""

from __future__ import annotations

from functools import partial

import numpy as np

from brodmann.core import LabelMap, key_seed, keyed_rng
from brodmann.datasets.phantoms.bands import by_rows
from brodmann.datasets.phantoms.damage import Damage
from brodmann.datasets.phantoms.tissue import (
    GAIN,
    OFFSET,
    SOFTNESS,
    expose_rows,
    grain_tiles,
    mottle,
    normal_table,
    stain,
    stamp,
)

VESSELS = 170


def render(
    size: tuple[int, int, int],
    tree: LabelMap,
    classes: np.ndarray,
    about: np.ndarray,
    block: int,
    origin: tuple[float, float],
    scale: float,
    seed: int,
    subject: int,
    section: str,
) -> np.ndarray:
    """Stain, texture, light and camera: (channels, height, width) uint16.

    Parameters
    ----------
    size : (channels, height, width)
    tree : LabelMap
    classes, about : ndarray
        As `locate_nodes` gives them, with a node every `block` pixels.
    origin : (v, u) of the first pixel's centre
    scale : float
        Pixels to one canonical unit.
    seed, subject, section
        Keys of the random numbers.
    """
    from scipy.ndimage import gaussian_filter

    channels = size[0]
    mean, texture = stain(tree, channels, seed, subject)
    rng = keyed_rng(seed, "phantom look", subject, section)
    edge, band, where_u, where_v, folded, _ = about
    inside = (classes > 0).astype(np.float32)
    shared, own = rng.uniform(0, 1, (5, 2)), rng.uniform(0, 1, (channels, 2))
    mottles = mottle(classes, where_u, where_v, texture, shared, own)
    sigma = SOFTNESS * scale / block
    soft = partial(gaussian_filter, sigma=sigma, mode="nearest", truncate=3.0)
    share = np.maximum(soft(inside), 1e-3)
    light = _light(classes.shape, block / scale, origin, channels, rng)
    fields = np.empty((3 + 2 * channels, *classes.shape), np.float32)
    fields[0] = edge
    for k in range(2):
        fields[1 + k] = soft(texture[:, 5 + k][classes]) / share
    # Puncta average out where a pixel holds many of them.
    fields[1] *= min(1.0, 0.55 + 0.45 * scale / 4000)
    glow = 0.010 + 0.016 * np.exp(np.minimum(edge, 0) / 0.015)
    shade = band * (1 + 0.7 * folded)
    for c in range(channels):
        one = mean[:, c][classes] * shade * (1 + mottles[c])
        fields[3 + c] = np.maximum(soft(one) / share, 0) * light[c]
        fields[3 + channels + c] = glow * light[c]
    image = np.empty(size, np.uint16)
    shot, read = rng.uniform(0.012, 0.022), rng.uniform(0.002, 0.004)
    by_rows(
        expose_rows,
        size[1],
        image,
        fields,
        grain_tiles(round(scale)),
        normal_table(),
        block,
        np.float32(max(0.0016, 1.2 / scale)),
        np.float32(rng.uniform(0.01, 0.07)),
        shot,
        read,
        np.uint64(key_seed(seed, "phantom noise", subject, section)),
    )
    return image


def _light(nodes, step, origin, channels, rng) -> np.ndarray:
    """Staining gradients and uneven illumination at the nodes, (channels, rows, columns)."""
    v = (origin[0] + step * np.arange(nodes[0], dtype=np.float32))[:, None]
    u = (origin[1] + step * np.arange(nodes[1], dtype=np.float32))[None, :]
    out = np.empty((channels, *nodes), np.float32)
    # The microscope's fields of view, each a little darker at its rim.
    pitch, depth = rng.uniform(0.10, 0.16), rng.uniform(0.02, 0.07)
    corner = rng.uniform(0, 1, 2)
    fields = 1 - depth * 2 * (
        ((v / pitch + corner[0]) % 1 - 0.5) ** 2 + ((u / pitch + corner[1]) % 1 - 0.5) ** 2
    )
    for c in range(channels):
        slope = rng.normal(0, 0.10, 2)
        field = 1 + slope[0] * (u - 1) + slope[1] * (v - 0.5)
        for _ in range(3):
            wave, turn = rng.uniform(1.5, 5.0), rng.uniform(0, 2 * np.pi)
            phase = np.float32(rng.uniform(0, 2 * np.pi))
            field = field + np.float32(rng.uniform(0.01, 0.05)) * np.cos(
                np.float32(wave * np.cos(turn)) * u + np.float32(wave * np.sin(turn)) * v + phase
            )
        out[c] = rng.uniform(0.85, 1.15) * field.clip(0.45, 1.7) * fields
    return out


def overlay(
    image: np.ndarray,
    harm: Damage,
    origin: tuple[float, float],
    scale: float,
    seed: int,
    subject: int,
    section: str,
) -> None:
    """Draw vessels, dust and bubbles into an image; the arguments are `render`'s."""
    rng = keyed_rng(seed, "phantom vessels", subject, section)
    channels = image.shape[0]
    # Vessels wander; each has up to eight pieces.
    start = rng.uniform((0.05, 0.02), (1.95, 0.98), (VESSELS, 1, 2))
    heading = rng.uniform(0, 2 * np.pi, (VESSELS, 1)) + rng.normal(0, 0.35, (VESSELS, 8)).cumsum(1)
    steps = 0.011 * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    points = np.concatenate([start, start + steps.cumsum(1)], axis=1)
    points = (points - (origin[1], origin[0])) * scale
    radius = rng.uniform(0.0006, 0.0019, VESSELS) * scale
    dark = rng.uniform(0.25, 0.6, VESSELS) * np.minimum(1.0, radius / 0.7) ** 1.5
    pieces = rng.integers(1, 9, VESSELS)[:, None] > np.arange(8)
    rows = np.zeros((VESSELS, 8, 6))
    rows[..., 1:3], rows[..., 3:5] = points[:, :-1], points[:, 1:]
    rows[..., 5] = np.maximum(radius, 0.7)[:, None]
    marks, strength = list(rows[pieces]), list(np.repeat(-dark, 8).reshape(-1, 8)[pieces])
    strength = [[value] * channels for value in strength]

    def pixel(u, v):
        return (u - origin[1]) * scale, (v - origin[0]) * scale

    for u, v, radius, bright in harm.dust:
        marks.append((1, *pixel(u, v), *pixel(u, v), max(radius * scale, 0.8)))
        share = rng.uniform(0.4, 1.0, channels) if bright > 0 else np.ones(channels)
        strength.append(list(bright * share * GAIN * 0.7))
    for u, v, radius, much in harm.bubbles:
        marks.append((2, *pixel(u, v), *pixel(u, v), max(radius * scale, 2.0)))
        strength.append([much] * channels)
    stamp(image, np.array(marks, np.float64), np.array(strength, np.float64), OFFSET)
