"""From distances to grey values as X-ray microtomography of a stained brain shows them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from brodmann.core import keyed_rng
from brodmann.datasets.phantoms.bands import by_rows
from brodmann.datasets.phantoms.tomography.locate import nearest_tube
from brodmann.datasets.phantoms.tomography.world import World

TILE, TILE_STEP_UM = 64, 0.6
DENDRITE_UM = 2.0
"""Reach of the faint dark line that a dendrite is."""
WALL, WALL_UM = 12.0, 2.4
"""A vessel's wall is lighter than what surrounds it."""
SPECKS_PER_UM3 = 6e-5
LEVEL = 128.0
"""Mean grey value of a cube, before its slices drift."""


class Style(NamedTuple):
    """How one cube was imaged; grey levels of 0..255, voxels where they say px."""

    axon: float  # times the light and the streaks of the tissue's axons
    ground: float  # deviation of the texture of everything else
    cell: float
    vessel: float
    blur_px: float
    edge: float  # light and dark fringes at edges, as phase contrast gives
    noise: float
    gain: float
    drift: float  # deviation of the mean from slice to slice


def draw_style(seed: int, cube: str) -> Style:
    """The look of one cube.

    Example
    -------
    >>> draw_style(0, "ctx-A") == draw_style(0, "ctx-A"), draw_style(0, "ctx-A").gain > 0.7
    (True, True)
    """
    rng = keyed_rng(seed, "phantom tomography style", cube)
    return Style(
        axon=rng.uniform(0.88, 1.12),
        ground=rng.uniform(9, 12),
        cell=rng.uniform(-70, -58),
        vessel=rng.uniform(-98, -84),
        blur_px=rng.uniform(0.85, 1.05),
        edge=rng.uniform(0.6, 0.85),
        noise=rng.uniform(6.0, 8.5),
        gain=rng.uniform(0.9, 1.1),
        drift=rng.uniform(6.0, 8.0),
    )


@lru_cache(maxsize=2)
def fibre_tile(seed: int) -> np.ndarray:
    """Texture across tubes, periodic, mean 0 and deviation 1, float32."""
    from scipy.ndimage import gaussian_filter

    noise = keyed_rng(seed, "phantom tomography fibres").standard_normal((TILE,) * 3)
    out = gaussian_filter(noise, 1.5, mode="wrap")
    return (out / out.std()).astype(np.float32)


@njit(cache=True, nogil=True)
def paint(
    first, last, steps, vessel_d, cell_d, cell_n, axon_d, axon_n, dendrite_d, dendrite_n, axons, cells,
    looks, glow, line, tile, style, ground, out,
):  # fmt: skip  # pragma: no cover (compiled)
    """Noise-free grey values of rows first..last; the edges of things are a voxel wide.

    `looks` (cells, 3): darkness, light of the core, dark shell. `glow` (pieces, 2): light and
    streaks of axons. `line`: how light each piece of a dendrite is. `ground`: texture of
    deviation 1.
    """
    mask = TILE - 1
    wide = (steps[0] + steps[1] + steps[2]) / 3
    for i in range(first, last):
        z = (i + 0.5) * steps[0]
        for j in range(out.shape[1]):
            y = (j + 0.5) * steps[1]
            for k in range(out.shape[2]):
                x = (k + 0.5) * steps[2]
                value = style.ground * ground[i, j, k]
                d = dendrite_d[i, j, k]
                if d < DENDRITE_UM:
                    value += line[dendrite_n[i, j, k]] * np.exp(-(max(d, 0.0) ** 2) / 1.5)
                d = axon_d[i, j, k]
                cover = min(max(0.5 - d / wide, 0.0), 1.0)
                if cover > 0:
                    row = axons[axon_n[i, j, k]]
                    pz, py, px = z - row[0], y - row[1], x - row[2]
                    hz, hy, hx = row[4] - row[0], row[5] - row[1], row[6] - row[2]
                    size = np.sqrt(hz * hz + hy * hy + hx * hx) + 1e-9
                    hz, hy, hx = hz / size, hy / size, hx / size
                    along = pz * hz + py * hy + px * hx
                    u = pz * row[8] + py * row[9] + px * row[10]
                    vz = hy * row[10] - hx * row[9]
                    vy = hx * row[8] - hz * row[10]
                    vx = hz * row[9] - hy * row[8]
                    v = pz * vz + py * vy + px * vx
                    # Stretched along the tube twelvefold; the number keeps tubes apart.
                    a = int(np.floor((row[11] + along) / (12 * TILE_STEP_UM) + 17 * row[12]))
                    b = int(np.floor(u / TILE_STEP_UM + 29 * row[12]))
                    c = int(np.floor(v / TILE_STEP_UM + 41 * row[12]))
                    speck = tile[a & mask, b & mask, c & mask]
                    # The sheath is lighter than the rim of the bundle.
                    light = glow[axon_n[i, j, k], 0] * min(0.75 - 0.15 * d, 1.0)
                    value += cover * (light + glow[axon_n[i, j, k], 1] * speck - 0.6 * value)
                d = cell_d[i, j, k]
                if d < 3.0:
                    n = cell_n[i, j, k]
                    cover = min(max(0.5 - d / wide, 0.0), 1.0)
                    shell = looks[n, 2] * min(max(1 - d / 2.5, 0.0), 1.0)
                    value += shell * (1 - cover)
                    if cover > 0:
                        deep = min(max(-d / cells[n, 5], 0.0), 1.0)
                        core = looks[n, 1] * max(deep - 0.45, 0.0) / 0.55
                        value += cover * (looks[n, 0] + core - 0.75 * value)
                d = vessel_d[i, j, k]
                cover = min(max(0.5 - d / wide, 0.0), 1.0)
                value += WALL * (1 - cover) * min(max(1 - d / WALL_UM, 0.0), 1.0)
                if cover > 0:
                    lumen = style.vessel + 3.0 * min(max(-d - 3.0, 0.0), 5.0)
                    value += cover * (lumen - value)
                out[i, j, k] = value


def draw(
    world: World,
    found: list[tuple[np.ndarray, np.ndarray]],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    seed: int,
    cube: str,
) -> np.ndarray:
    """The picture of what `locate` found; float32, background at 0."""
    rng = keyed_rng(seed, "phantom tomography looks", cube)
    style = draw_style(seed, cube)
    count = len(world.cells)
    looks = np.column_stack(
        [
            style.cell + 17 * rng.standard_normal(count),
            np.where(rng.random(count) < 0.45, rng.uniform(15, 50, count), 0),
            np.where(rng.random(count) < 0.6, rng.uniform(-22, 0, count), 0),
        ]
    )
    tubes = int(world.axons[:, 12].max(initial=0)) + 1
    each = rng.normal(1, 0.25, tubes)[world.axons[:, 12].astype(int)]
    light, streaks = np.array([(t.light, t.streaks) for t in world.tissues]).T
    glow = style.axon * np.column_stack(
        [light[world.axon_tissue] * each, streaks[world.axon_tissue]]
    )
    steps = np.array(spacing, float)
    tubes = int(world.dendrites[:, 12].max(initial=0)) + 1
    line = np.where(rng.random(tubes) < 0.6, rng.uniform(-20, -8, tubes), rng.uniform(6, 14, tubes))
    line = line[world.dendrites[:, 12].astype(int)].astype(np.float32)
    dendrites = np.full(shape, DENDRITE_UM, np.float32), np.zeros(shape, np.int32)
    by_rows(nearest_tube, shape[0], world.dendrites, steps, DENDRITE_UM, *dendrites)
    (vessel_d, _), (cell_d, cell_n), (axon_d, axon_n) = found
    out = np.empty(shape, np.float32)
    by_rows(
        paint, shape[0], steps, vessel_d, cell_d, cell_n, axon_d, axon_n, *dendrites,
        world.axons, world.cells, looks.astype(np.float32), glow.astype(np.float32), line, fibre_tile(seed), style,
        _ground(shape, seed, cube), out,
    )  # fmt: skip
    # Bright specks that no label tells of.
    count = rng.poisson(SPECKS_PER_UM3 * float(np.prod(np.multiply(shape, spacing))))
    at = tuple((rng.random((count, 3)) * shape).astype(int).T)
    out[at] += rng.uniform(80, 380, count).astype(np.float32)
    return out


def _ground(shape: tuple[int, int, int], seed: int, cube: str) -> np.ndarray:
    """Texture of neuropil: fine grain and slow clouds, deviation 1."""
    from scipy.ndimage import gaussian_filter

    rng = keyed_rng(seed, "phantom tomography ground", cube)
    fine = gaussian_filter(rng.standard_normal(shape, np.float32), 1.0, mode="wrap")
    slow = gaussian_filter(rng.standard_normal(shape, np.float32), 4.0, mode="wrap")
    fine *= np.float32(0.85) / max(fine.std(), 1e-6)
    slow *= np.float32(0.5) / max(slow.std(), 1e-6)
    return fine + slow


def develop(values: np.ndarray, seed: int, cube: str, level: float | None = LEVEL) -> np.ndarray:
    """Blur, fringes, noise and slow changes of brightness; uint8.

    The mean is brought to `level` first (unless None, where background is), so that it does
    not tell what the tissue is; then gain and offset drift from slice to slice.
    """
    from scipy.ndimage import gaussian_filter, gaussian_filter1d

    rng, style = keyed_rng(seed, "phantom tomography noise", cube), draw_style(seed, cube)
    values = gaussian_filter(values, style.blur_px, mode="nearest")
    values += np.float32(style.edge) * (values - gaussian_filter(values, 2.2, mode="nearest"))
    # Filtered back-projection leaves noise with little power at low frequencies.
    noise = gaussian_filter(rng.standard_normal(values.shape, np.float32), 0.85, mode="wrap")
    noise -= np.float32(0.7) * gaussian_filter(noise, (0.7, 1.6, 1.6), mode="wrap")
    values += np.float32(style.noise) / max(noise.std(), 1e-6) * noise
    mean = float(values.mean(dtype=np.float64)) if level is not None else 0.0
    slow = gaussian_filter1d(rng.standard_normal((2, len(values))), 2.5, axis=1, mode="wrap")
    slow /= 0.34
    gain = np.float32(style.gain) * (1 + 0.06 * slow[0])
    offset = (LEVEL - 10 if level is None else level) + style.drift * slow[1]
    tilt = rng.uniform(-7, 7, 2)
    y = np.linspace(-1, 1, values.shape[1])[:, None] * tilt[0]
    x = np.linspace(-1, 1, values.shape[2])[None] * tilt[1]
    shade = (y + x).astype(np.float32)
    values -= np.float32(mean)
    for i, plane in enumerate(values):
        plane *= np.float32(gain[i])
        plane += shade + np.float32(offset[i])
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
