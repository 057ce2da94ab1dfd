"""How the tissue looks: stain of every region, texture, light, camera."""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

from brodmann.core import LabelMap, keyed_rng
from brodmann.datasets.phantoms.bands import by_rows
from brodmann.datasets.phantoms.plan import is_named, zone_leaves
from brodmann.datasets.phantoms.tree import ZONES

OFFSET, GAIN = 180.0, 9000.0
"""Camera's zero level and counts at signal 1."""
TILE = 512
MOTTLE_SPAN = 1.0
"""Canonical units over which a mottle tile repeats."""
SOFTNESS = 0.0013
"""Blur of the boundaries between regions, in canonical units (about 10 um)."""

# Stain of two synaptic markers in each zone, and further markers are mixtures of these.
STAIN = {
    "OLF": (0.40, 0.60), "Isocortex": (0.64, 0.47), "CTXsp": (0.50, 0.62), "STR": (0.60, 0.40),
    "PAL": (0.33, 0.31), "HPF": (0.74, 0.72), "TH": (0.46, 0.27), "HY": (0.33, 0.50),
    "MB": (0.33, 0.37), "CB": (0.44, 0.24), "HB": (0.24, 0.25),
}  # fmt: skip
WHITE_STAIN, FLUID_STAIN = (0.135, 0.13), (0.025, 0.025)
# Share of the zone's stain that stands out in some named regions.
ACCENT = {
    "MOBgl": (1.35, 1.25), "MOBopl": (1.02, 1.1), "MOBmi": (0.72, 0.8), "MOBipl": (0.86, 0.9),
    "MOBgr": (0.78, 0.92), "AOB": (1.15, 1.2), "AON": (1.25, 1.02), "TT": (1.15, 1.0),
    "PIR": (1.25, 1.1),
    "DG-sg": (0.46, 0.50), "DG-po": (0.74, 0.82), "DG-mo": (1.0, 1.05), "CA1": (1.07, 1.0),
    "CA3": (0.84, 0.92), "CA2": (0.90, 0.97), "SUB": (0.86, 0.84), "ProS": (0.93, 0.9),
    "POST": (0.84, 0.86), "PRE": (0.85, 0.88), "GPe": (0.85, 0.8), "OT": (1.08, 1.1),
    "ACB": (1.03, 1.1),
    "SCs": (1.32, 1.2), "IC": (1.02, 0.95), "PAG": (1.06, 1.2), "SNr": (0.8, 0.8),
    "RN": (0.82, 0.8),
    "PG": (1.2, 1.1), "MV": (1.18, 1.15), "IO": (1.12, 1.1), "VII": (0.88, 0.9), "RT": (0.82, 0.88),
    "LD": (1.12, 1.08), "LP": (1.06, 1.06), "MM": (1.12, 1.05),
}  # fmt: skip
LAYER_ACCENT = {
    "1": (1.00, 1.22), "2/3": (1.06, 1.10), "4": (1.02, 0.84), "5": (0.90, 0.97),
    "6a": (0.88, 0.86), "6b": (0.76, 0.84),
}  # fmt: skip
# Strength of five mottles: blotches, dark bundles, streaks along u, streaks along v, clumps.
MOTTLE = {
    "OLF": (0.07, 0.02, 0.02, 0.02, 0.05), "Isocortex": (0.060, 0.02, 0.01, 0.05, 0.01),
    "CTXsp": (0.07, 0.03, 0.02, 0.02, 0.02), "STR": (0.05, 0.16, 0.02, 0.02, 0.01),
    "PAL": (0.07, 0.10, 0.05, 0.03, 0.02), "HPF": (0.05, 0.01, 0.03, 0.02, 0.01),
    "TH": (0.07, 0.06, 0.06, 0.02, 0.02), "HY": (0.09, 0.04, 0.04, 0.02, 0.03),
    "MB": (0.08, 0.05, 0.08, 0.02, 0.03), "CB": (0.05, 0.02, 0.02, 0.02, 0.02),
    "HB": (0.08, 0.07, 0.12, 0.02, 0.04),
}  # fmt: skip
WHITE_MOTTLE = (0.10, 0.02, 0.16, 0.06, 0.02)


@cache
def mottle_tiles() -> np.ndarray:
    """Five periodic textures with mean 0 and deviation 1, (5, TILE, TILE) float32."""
    from scipy.ndimage import gaussian_filter

    rng = keyed_rng(0, "phantom mottle")
    per = TILE / MOTTLE_SPAN

    def noise(sigma_v: float, sigma_u: float) -> np.ndarray:
        white = rng.standard_normal((TILE, TILE), dtype=np.float32)
        field = gaussian_filter(white, (sigma_v * per, sigma_u * per), mode="wrap")
        return field / field.std()

    blotches = noise(0.010, 0.010) + 0.8 * noise(0.004, 0.004)
    bundles = -np.maximum(noise(0.0036, 0.0040) - 0.75, 0)
    along = noise(0.0024, 0.020)
    across = noise(0.020, 0.0030)
    clumps = np.maximum(noise(0.0045, 0.0045) - 0.6, 0)
    tiles = np.stack([blotches, bundles, along, across, clumps])
    tiles -= tiles.mean((1, 2), keepdims=True)
    return (tiles / tiles.std((1, 2), keepdims=True)).astype(np.float32)


@cache
def grain_tiles(pixels_per_unit: int) -> np.ndarray:
    """Puncta and cell bodies at one resolution, (2, TILE, TILE) float32, mean 0.

    Puncta are as fine as the pixels; cell bodies (about 10 um across) hold no synapses and
    are dark where the pixels are fine enough to show them.
    """
    from scipy.ndimage import gaussian_filter

    rng = keyed_rng(0, "phantom grain")
    fine = gaussian_filter(rng.standard_normal((TILE, TILE), dtype=np.float32), 0.6, mode="wrap")
    puncta = np.exp(0.8 * fine / fine.std())
    puncta = (puncta - puncta.mean()) / puncta.std()
    radius = 0.00075 * pixels_per_unit
    spacing = max(2.6 * radius, 2.0)
    count = int((TILE / spacing) ** 2 * 0.45)
    bodies = np.zeros((TILE, TILE), np.float32)
    np.add.at(bodies, tuple(rng.integers(0, TILE, (2, count))), 1.0)
    size = max(radius * 0.62, 0.5)
    bodies = np.minimum(gaussian_filter(bodies, size, mode="wrap") * (2 * np.pi * size**2), 1.2)
    bodies = bodies.mean() - bodies
    # Bodies smaller than a pixel lose contrast.
    return np.stack([puncta, 0.9 * bodies * min(1.0, radius / 1.2)]).astype(np.float32)


@cache
def normal_table() -> np.ndarray:
    """65,536 normal numbers that the camera's noise is looked up in."""
    return keyed_rng(0, "phantom camera").standard_normal(2**16, dtype=np.float32)


def stain(tree: LabelMap, channels: int, seed: int, subject: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean signal of every class in every channel, and its textures.

    Returns
    -------
    mean : (classes + 3, channels) float32
        Row 0 is empty, then the leaves, white matter, fluid. Neighbours differ by less than
        the texture within them varies, so that no pixel tells its region by itself.
    texture : (classes + 3, 7) float32
        Strengths of the five mottles, of puncta and of cell bodies.
    """
    count = len(tree.classes)
    mean = np.zeros((count + 3, channels), np.float32)
    texture = np.zeros((count + 3, 7), np.float32)
    mixes = [(1.0, 0.0), (0.0, 1.0)]
    for channel in range(2, channels):
        share = keyed_rng(seed, "phantom marker", channel).uniform(-0.25, 1.25)
        mixes.append((share, 1 - share))
    mix = np.array(mixes[:channels])
    for zone, leaves in enumerate(zone_leaves(tree)):
        named = is_named(tree, zone, leaves)
        for leaf in leaves:
            acronym = tree[tree.classes[leaf - 1]].acronym
            accent = (1.0, 1.0)
            if named and ZONES[zone] == "Isocortex":
                accent = LAYER_ACCENT[
                    acronym[4:] if acronym.startswith(("RSP", "VIS")) else acronym[3:]
                ]
            elif named and ZONES[zone] == "CB" and acronym[-2:] in ("mo", "gr"):
                accent = (1.15, 1.1) if acronym.endswith("mo") else (0.72, 0.95)
            elif named:
                accent = ACCENT.get(acronym, accent)
            rng = keyed_rng(0, "phantom stain", leaf)
            own = keyed_rng(seed, "phantom stain", subject, leaf)
            both = 0.05 if named else 0.09
            change = (
                rng.normal(0, 0.7 * both)
                + rng.normal(0, 0.7 * both, channels)
                + own.normal(0, 0.02, channels)
            )
            base = np.clip(mix @ (np.array(STAIN[ZONES[zone]]) * accent), 0.05, 1.2)
            mean[leaf] = base * (1 + change)
            texture[leaf, :5] = np.array(MOTTLE[ZONES[zone]]) * rng.uniform(0.7, 1.3, 5)
            texture[leaf, 5:] = rng.uniform(0.10, 0.17), rng.uniform(0.2, 0.5)
            if named and (acronym in ("DG-sg", "MOBmi") or acronym.endswith("gr")):
                texture[leaf, 6] = 0.8
    mean[count + 1], mean[count + 2] = mix @ WHITE_STAIN, mix @ FLUID_STAIN
    texture[count + 1, :5], texture[count + 1, 5:] = WHITE_MOTTLE, (0.10, 0.1)
    return mean.clip(0.02, None) * (np.arange(count + 3) > 0)[:, None], texture


@njit(cache=True, inline="always")
def _wrapped(tiles, k, u, v, size):  # pragma: no cover (compiled)
    """A periodic tile at (u, v), in periods."""
    fu, fv = (u - np.floor(u)) * size, (v - np.floor(v)) * size
    i, j = int(fv), int(fu)
    a, b = np.float32(fv - i), np.float32(fu - j)
    i0, j0, i1, j1 = i % size, j % size, (i + 1) % size, (j + 1) % size
    top = tiles[k, i0, j0] + (tiles[k, i0, j1] - tiles[k, i0, j0]) * b
    low = tiles[k, i1, j0] + (tiles[k, i1, j1] - tiles[k, i1, j0]) * b
    return top + (low - top) * a


@njit(cache=True, nogil=True)
def _mottle_in(
    first, last, out, classes, where_u, where_v, texture, tiles, shared, own
):  # pragma: no cover (compiled)
    columns = classes.shape[1]
    channels = len(own)
    for y in range(first, last):
        for x in range(columns):
            leaf = classes[y, x]
            if leaf == 0:
                continue
            u, v = where_u[y, x] / MOTTLE_SPAN, where_v[y, x] / MOTTLE_SPAN
            both = np.float32(0)
            for k in range(5):
                if texture[leaf, k] > 0:
                    both += texture[leaf, k] * _wrapped(
                        tiles, k, u + shared[k, 0], v + shared[k, 1], TILE
                    )
            for c in range(channels):
                apart = _wrapped(tiles, 0, u + own[c, 0], v + own[c, 1], TILE)
                out[c, y, x] = both + np.float32(0.8) * texture[leaf, 0] * apart


def mottle(
    classes: np.ndarray,
    where_u: np.ndarray,
    where_v: np.ndarray,
    texture: np.ndarray,
    shared: np.ndarray,
    own: np.ndarray,
) -> np.ndarray:
    """Mottle at every node in every channel, (channels, rows, columns), a share of the signal.

    Channels share their structure (offsets `shared`, (5, 2)) but for half of the blotches
    (offsets `own`, (channels, 2)); canonical coordinates say where in the tissue a node is.
    """
    out = np.zeros((len(own), *classes.shape), np.float32)
    by_rows(
        _mottle_in,
        len(classes),
        out,
        classes,
        where_u,
        where_v,
        texture,
        mottle_tiles(),
        shared,
        own,
    )
    return out


@njit(cache=True, nogil=True)
def expose_rows(
    first,
    last,
    image,
    fields,
    tiles,
    normals,
    block,
    softness,
    crosstalk,
    shot,
    read,
    key,
):  # pragma: no cover (compiled)
    """Rows of the image from smooth fields at the nodes, texture and camera noise.

    `fields` (3 + 2 channels, rows, columns) float32: signed distance into the tissue,
    strength of puncta, of cell bodies, then stain and haze of each channel.
    """
    channels, width = image.shape[0], image.shape[2]
    count, columns = fields.shape[0], fields.shape[2]
    zero, one, half = np.float32(0), np.float32(1), np.float32(0.5)
    noise_shot, noise_read = np.float32(shot * shot), np.float32(read * read)
    mask = TILE - 1
    signal = np.empty(channels, np.float32)
    line = np.empty((count, columns), np.float32)
    for y in range(first, last):
        i = y // block
        a = np.float32((y - i * block) / block)
        for k in range(count):
            for j in range(columns):
                line[k, j] = fields[k, i, j] + (fields[k, i + 1, j] - fields[k, i, j]) * a
        ty = y & mask
        # Tiles lie staggered, so that their period does not show.
        sy, shift = (y + 37 * (y // TILE)) & mask, 171 * (y // TILE)
        for j in range(columns - 1):
            for x in range(j * block, min((j + 1) * block, width)):
                b = np.float32((x - j * block) / block)
                inside = (line[0, j] + (line[0, j + 1] - line[0, j]) * b) / softness + half
                alpha = min(max(inside, zero), one)
                tx, sx = x & mask, (x + shift) & mask
                if alpha > 0:
                    fine = line[1, j] + (line[1, j + 1] - line[1, j]) * b
                    coarse = line[2, j] + (line[2, j + 1] - line[2, j]) * b
                    common = (
                        one + np.float32(0.6) * fine * tiles[0, ty, tx] + coarse * tiles[1, sy, sx]
                    )
                for c in range(channels):
                    k = 3 + channels + c
                    value = line[k, j] + (line[k, j + 1] - line[k, j]) * b
                    if alpha > 0:
                        k = 3 + c
                        mean = line[k, j] + (line[k, j + 1] - line[k, j]) * b
                        own = tiles[0, (y + 131 * (c + 1)) & mask, (x + 257 * (c + 1)) & mask]
                        value += (
                            alpha
                            * mean
                            * max(np.float32(0.05), common + np.float32(0.8) * fine * own)
                        )
                    signal[c] = value
                for c in range(channels):
                    value = signal[c]
                    if channels > 1:
                        value += crosstalk * (signal[c - 1 if c > 0 else channels - 1] - value)
                    index = np.uint64((y * width + x) * channels + c) + key
                    index = (index ^ (index >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
                    index = index ^ (index >> np.uint64(33))
                    value += normals[index & np.uint64(0xFFFF)] * np.sqrt(
                        noise_shot * value + noise_read
                    )
                    level = np.float32(OFFSET) + np.float32(GAIN) * value + half
                    image[c, y, x] = np.uint16(min(max(level, zero), np.float32(65535)))


@njit(cache=True)
def stamp(image, marks, strength, offset):  # pragma: no cover (compiled)
    """Vessels (kind 0), dust (1) and bubbles (2): kind, x0, y0, x1, y1, radius in pixels."""
    channels, height, width = image.shape
    for k in range(len(marks)):
        kind, x0, y0, x1, y1, radius = marks[k]
        reach = 1.35 * radius + 2 if kind == 2 else 2.6 * radius + 1
        du, dv = x1 - x0, y1 - y0
        for y in range(max(0, int(min(y0, y1) - reach)), min(height, int(max(y0, y1) + reach) + 1)):
            for x in range(
                max(0, int(min(x0, x1) - reach)), min(width, int(max(x0, x1) + reach) + 1)
            ):
                t = ((x - x0) * du + (y - y0) * dv) / (du * du + dv * dv + 1e-9)
                t = min(max(t, 0.0), 1.0)
                d = np.sqrt((x - x0 - t * du) ** 2 + (y - y0 - t * dv) ** 2) / radius
                if kind == 2:
                    rim = (d - 1) / 0.07
                    change = np.exp(-rim * rim) - (0.35 if d < 0.96 else 0.0)
                    rim = (d - 0.86) / 0.08
                    change -= 0.8 * np.exp(-rim * rim)
                else:
                    change = np.exp(-d * d)
                for c in range(channels):
                    value = float(image[c, y, x]) - offset
                    if kind == 1:
                        value += strength[k, c] * change
                    else:
                        value += value * strength[k, c] * change
                    image[c, y, x] = np.uint16(min(max(value + offset, 0.0), 65535.0))
