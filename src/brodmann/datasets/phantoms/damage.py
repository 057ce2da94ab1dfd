"""What goes wrong with sections: warps of mounting, tears, folds, missing pieces, bubbles, dust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from brodmann.core import RecipeError, keyed_rng, nearest

DAMAGE = {"tears": 0.8, "folds": 0.5, "missing": 0.35, "bubbles": 0.8, "dust": 10.0}
"""Expected number of each in a section at damage 1."""
FRAME_GRID = (-0.3, -0.6, 0.0125)
"""First node (u, v) and step of the grid of `frame_fields`."""
FRAME_SHAPE = (176, 210)


class Damage(NamedTuple):
    """What is wrong with one section, in frame coordinates (see `frame_fields`)."""

    folds: np.ndarray  # (n, 9) centre u, v, unit tangent, half length, width, reach, bend, phase
    cuts: np.ndarray  # (n, 6) pieces of tears: u, v, half width at both ends
    holes: np.ndarray  # (n, 7) centre u, v, radius, two harmonics of the rim
    bubbles: np.ndarray  # (n, 4) u, v, radius, strength
    dust: np.ndarray  # (n, 4) u, v, radius, strength
    counts: dict[str, int]


def damage_rates(damage: Any) -> dict[str, float]:
    """Expected number of each kind of damage in a section.

    Parameters
    ----------
    damage : float, bool or mapping
        A number multiplies the defaults (`DAMAGE`; False is 0); a mapping gives the expected
        number of some kinds, the others are absent.

    Raises
    ------
    RecipeError
        On an unknown kind, or a number that is negative or not finite.

    Example
    -------
    >>> damage_rates({"folds": 2})["folds"], damage_rates(0.0)["tears"]
    (2.0, 0.0)
    """
    if isinstance(damage, Mapping):
        for kind in damage:
            if kind not in DAMAGE:
                raise RecipeError(
                    "unknown kind of damage", "damage", repr(kind), nearest(str(kind), DAMAGE)
                )
        rates = {kind: damage.get(kind, 0.0) for kind in DAMAGE}
    else:
        rates = {kind: damage for kind in DAMAGE}
    for kind, rate in rates.items():
        if not isinstance(rate, int | float) or not np.isfinite(rate) or rate < 0:
            raise RecipeError("damage must be numbers from 0", f"damage, {kind}", repr(rate))
    if isinstance(damage, Mapping):
        return {kind: float(rate) for kind, rate in rates.items()}
    return {kind: float(damage) * rate for kind, rate in DAMAGE.items()}


def _smooth(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Two smooth random fields on the frame grid with standard deviation 1, (rows, columns, 2)."""
    noise = rng.standard_normal((2, *FRAME_SHAPE))
    along = [np.fft.fftfreq(FRAME_SHAPE[0])[:, None], np.fft.rfftfreq(FRAME_SHAPE[1])[None]]
    keep = np.exp(-2 * (np.pi * sigma / FRAME_GRID[2]) ** 2 * (along[0] ** 2 + along[1] ** 2))
    field = np.fft.irfft2(np.fft.rfft2(noise) * keep, FRAME_SHAPE)
    return np.moveaxis(field / field.std((1, 2), keepdims=True), 0, -1)


def frame_fields(seed: int, subject: int, section: str) -> np.ndarray:
    """How a section's frame maps onto the drawn brain, (rows, columns, 4) float32.

    Displacement (u, v) from the frame to canonical coordinates: the subject's own anatomy
    and the section's mounting, both one-to-one; then two small rough fields that make
    boundaries irregular. The frame's centre is (1, 0.5); its height or half its width,
    whichever is less, is one unit.
    """
    rng = keyed_rng(seed, "phantom body", subject)
    warp = 0.017 * _smooth(rng, 0.15)
    stretch = rng.normal(1.0, 0.025, 2).clip(0.96, 1.05)
    rng = keyed_rng(seed, "phantom mount", subject, section)
    warp += 0.006 * _smooth(rng, 0.08)
    turn = np.deg2rad(np.clip(rng.normal(0, 2.0), -5, 5))
    shift = rng.normal(0, 0.008, 2).clip(-0.02, 0.02)
    fine = 0.0028 * _smooth(rng, 0.020)
    rough = 0.0095 * _smooth(rng, 0.032)
    # One-to-one needs the slope of the displacement below 1.
    slope = max(np.abs(np.diff(warp, axis=a)).max() for a in (0, 1)) / FRAME_GRID[2]
    warp *= min(1.0, 0.40 / slope)
    u = FRAME_GRID[0] + FRAME_GRID[2] * np.arange(FRAME_SHAPE[1])[None, :] - 1.0
    v = FRAME_GRID[1] + FRAME_GRID[2] * np.arange(FRAME_SHAPE[0])[:, None] - 0.5
    out = np.empty((*FRAME_SHAPE, 4), np.float32)
    cos, sin = np.cos(turn), np.sin(turn)
    out[..., 0] = (cos * u - sin * v) * stretch[0] - u + shift[0] + warp[..., 0] + fine[..., 0]
    out[..., 1] = (sin * u + cos * v) * stretch[1] - v + shift[1] + warp[..., 1] + fine[..., 1]
    out[..., 2:] = rough
    return out


NO_FOLDS, NO_CUTS, NO_HOLES = np.zeros((0, 9)), np.zeros((0, 6)), np.zeros((0, 7))


def _tear(rng: np.random.Generator, start: np.ndarray, towards: np.ndarray) -> list:
    """A crack from the rim inwards that narrows and wanders, as tapered pieces."""
    heading = np.arctan2(towards[1], towards[0]) + rng.normal(0, 0.35)
    length, width = rng.uniform(0.10, 0.34), rng.uniform(0.006, 0.017)
    steps = 9
    points = [start - 0.03 * np.array([np.cos(heading), np.sin(heading)])]
    for _ in range(steps):
        heading += rng.normal(0, 0.30)
        points.append(
            points[-1] + (length + 0.03) / steps * np.array([np.cos(heading), np.sin(heading)])
        )
    widths = width * (1 - np.linspace(0, 1, steps + 1) ** 1.5) * rng.uniform(0.7, 1.2, steps + 1)
    widths[-1] = -0.001
    return [(*points[i], widths[i], *points[i + 1], widths[i + 1]) for i in range(steps)]


def _hole(rng: np.random.Generator, at: np.ndarray, radius: float) -> tuple:
    return (
        *at,
        radius,
        rng.uniform(0.05, 0.28),
        rng.uniform(0, 6.28),
        rng.uniform(0.02, 0.10),
        rng.uniform(0, 6.28),
    )


def draw_damage(
    rates: Mapping[str, float],
    tissue: np.ndarray,
    low: tuple[float, float],
    step: float,
    seed: int,
    subject: int,
    section: str,
) -> Damage:
    """Draw one section's damage.

    Parameters
    ----------
    rates : mapping
        Expected number of each kind, see `damage_rates`.
    tissue : ndarray of bool
        Where the undamaged section is, on a grid over the frame that does not depend on the
        image's size.
    low, step : (u, v) of the first node, distance between nodes
    """
    from scipy.ndimage import binary_erosion

    rng = keyed_rng(seed, "phantom damage", subject, section)
    counts = {kind: int(rng.poisson(rates[kind])) for kind in DAMAGE}
    inside = np.argwhere(binary_erosion(tissue, iterations=3))
    rim = np.argwhere(tissue & ~binary_erosion(tissue))
    centre = inside.mean(0)

    def at(node: np.ndarray) -> np.ndarray:
        return np.array([low[0] + node[1] * step, low[1] + node[0] * step])

    cuts, holes, folds = [], [], []
    for _ in range(counts["tears"]):
        start = rim[rng.integers(len(rim))]
        cuts += _tear(rng, at(start), (centre - start)[::-1] / np.linalg.norm(centre - start))
    for _ in range(counts["missing"]):
        # Mostly a bite out of the rim, sometimes a hole in the middle.
        if rng.uniform() < 0.75:
            holes.append(_hole(rng, at(rim[rng.integers(len(rim))]), rng.uniform(0.035, 0.085)))
        else:
            holes.append(
                _hole(rng, at(inside[rng.integers(len(inside))]), rng.uniform(0.012, 0.035))
            )
    for _ in range(counts["folds"]):
        turn, half = rng.uniform(0, 6.28), rng.uniform(0.10, 0.26)
        width = rng.uniform(0.010, 0.026)
        folds.append(
            (
                *at(inside[rng.integers(len(inside))]),
                np.cos(turn),
                np.sin(turn),
                half,
                width,
                rng.uniform(0.06, 0.15),
                rng.uniform(-0.02, 0.02),
                rng.uniform(0, 6.28),
            )
        )
    bubbles = [
        (
            rng.uniform(0.1, 1.9),
            rng.uniform(0.05, 0.95),
            rng.uniform(0.012, 0.05),
            rng.uniform(0.12, 0.35),
        )
        for _ in range(counts["bubbles"])
    ]
    dust = [
        (
            rng.uniform(0, 2),
            rng.uniform(0, 1),
            rng.uniform(0.0008, 0.0035),
            rng.choice([-0.5, 0.35, 0.8]),
        )
        for _ in range(counts["dust"])
    ]
    return Damage(
        np.array(folds, np.float64).reshape(-1, 9),
        np.array(cuts, np.float64).reshape(-1, 6),
        np.array(holes, np.float64).reshape(-1, 7),
        np.array(bubbles, np.float64).reshape(-1, 4),
        np.array(dust, np.float64).reshape(-1, 4),
        counts,
    )
