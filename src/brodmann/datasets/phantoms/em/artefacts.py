"""What cutting and imaging do to sections: shifts, contrast, loss, folds, knife marks, noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from brodmann.core import RecipeError, keyed_rng, nearest
from brodmann.datasets.phantoms.em.render import Style

ARTEFACTS = {"shift": 0.008, "contrast": 0.05, "missing": 0.004, "folds": 0.02, "knife": 0.06}
"""At damage 1: slice shifts (deviation, um), contrast changes (deviation, share), and the
expected share of slices that are lost, folded, or scratched by the knife."""
FURTHEST_UM = 0.04
"""No slice is shifted by more."""
FOLD_UM = 0.07


def artefact_rates(damage: Any) -> dict[str, float]:
    """How much of each artefact.

    Parameters
    ----------
    damage : float, bool or mapping
        A number multiplies `ARTEFACTS`; a mapping gives some, the others are absent.

    Raises
    ------
    RecipeError
        On an unknown artefact, or a number that is negative or not finite.

    Example
    -------
    >>> artefact_rates({"folds": 0.5})["folds"], artefact_rates(0)["shift"]
    (0.5, 0.0)
    """
    if isinstance(damage, Mapping):
        for kind in damage:
            if kind not in ARTEFACTS:
                raise RecipeError(
                    "unknown artefact", "damage", repr(kind), nearest(str(kind), ARTEFACTS)
                )
        rates = {kind: damage.get(kind, 0.0) for kind in ARTEFACTS}
    else:
        rates = dict.fromkeys(ARTEFACTS, damage)
    for kind, rate in rates.items():
        if not isinstance(rate, int | float) or not np.isfinite(rate) or rate < 0:
            raise RecipeError("damage must be numbers from 0", f"damage, {kind}", repr(rate))
    if isinstance(damage, Mapping):
        return {kind: float(rate) for kind, rate in rates.items()}
    return {kind: float(damage) * usual for kind, usual in ARTEFACTS.items()}


def shifts(slices: int, rate_um: float, seed: int, subject: int) -> np.ndarray:
    """(y, x) shift of every slice in um: jitter and a slow drift, bounded."""
    rng = keyed_rng(seed, "phantom em shift", subject)
    jitter = rng.standard_normal((slices, 2))
    drift = rng.standard_normal((slices, 2))
    for i in range(1, slices):
        drift[i] = 0.93 * drift[i - 1] + 0.37 * drift[i]
    return (rate_um * (0.6 * jitter + 0.8 * drift)).clip(-FURTHEST_UM, FURTHEST_UM)


def finish(
    values: np.ndarray,
    index: int,
    spacing: tuple[float, float, float],
    style: Style,
    rates: Mapping[str, float],
    seed: int,
    subject: int,
) -> tuple[np.ndarray, list[str]]:
    """One slice's brightness as an 8-bit picture, and the artefacts that it has."""
    from scipy.ndimage import gaussian_filter

    rng = keyed_rng(seed, "phantom em slice", subject, index)
    lost, folded, scratched = (rng.random() < rates[k] for k in ("missing", "folds", "knife"))
    rng_fold, rng_knife = rng.spawn(2)
    shape, had = values.shape, []
    noise = rng.standard_normal(shape, np.float32)
    gain, offset = 1 + rates["contrast"] * rng.standard_normal(2)
    if lost:
        return np.clip(252 + 2 * noise, 0, 255).astype(np.uint8), ["missing"]
    values = gaussian_filter(values, style.blur_px, mode="nearest")
    if folded:
        values = values * _fold(shape, spacing, rng_fold)
        had.append("folds")
    if scratched:
        values = values + _scratches(shape, spacing, rng_knife)
        had.append("knife")
    values += style.noise * gaussian_filter(noise, 0.45, mode="wrap") * np.float32(1.35)
    values = (values - 0.52) * np.float32(style.contrast * gain)
    values += np.float32(0.52 + 0.5 * (offset - 1))
    return np.clip(np.rint(255 * values), 0, 255).astype(np.uint8), had


def _fold(shape: tuple[int, int], spacing: tuple[float, ...], rng: np.random.Generator):
    """Transmission of a fold: a dark, wavering band across the slice."""
    y = (np.arange(shape[0], dtype=np.float32)[:, None] + 0.5) * spacing[1]
    x = (np.arange(shape[1], dtype=np.float32)[None] + 0.5) * spacing[2]
    turn = rng.uniform(0, np.pi)
    cy, cx = rng.uniform(0.2, 0.8, 2) * (y[-1, 0], x[0, -1])
    across = (y - cy) * np.cos(turn) + (x - cx) * np.sin(turn)
    along = (x - cx) * np.cos(turn) - (y - cy) * np.sin(turn)
    across = across + 0.06 * np.sin(along / rng.uniform(0.3, 0.7) + rng.uniform(0, 6.28))
    width = FOLD_UM * rng.uniform(0.6, 1.6) * (1 + 0.35 * np.sin(along / 0.9 + 1.0))
    return 1 - 0.78 / (1 + np.exp((np.abs(across) - width) / 0.012))


def _scratches(shape: tuple[int, int], spacing: tuple[float, ...], rng: np.random.Generator):
    """Light and dark straight lines in the direction of the cut."""
    y = (np.arange(shape[0], dtype=np.float32)[:, None] + 0.5) * spacing[1]
    x = (np.arange(shape[1], dtype=np.float32)[None] + 0.5) * spacing[2]
    turn = rng.uniform(0, np.pi)
    across = y * np.cos(turn) + x * np.sin(turn)
    out = np.zeros(shape, np.float32)
    for _ in range(rng.integers(1, 5)):
        at = rng.uniform(across.min(), across.max())
        width = rng.uniform(0.006, 0.02)
        strength = rng.normal(0, 0.14)
        out += strength * np.exp(-(((across - at) / width) ** 2))
    return out
