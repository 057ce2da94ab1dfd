"""From cells and tissue to camera counts, voxel by voxel."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit, uint64

from brodmann.core import key_seed, keyed_rng
from brodmann.datasets.phantoms.lightsheet.cells import PHASES, cells_of_class, cells_of_marker
from brodmann.datasets.phantoms.lightsheet.fields import fill_light
from brodmann.datasets.phantoms.lightsheet.hashing import (
    TABLE,
    lognormals,
    mix2,
    mix4,
    normals,
    photons,
    unit,
)
from brodmann.datasets.phantoms.lightsheet.markers import TISSUES, Marker
from brodmann.datasets.phantoms.lightsheet.stamps import EACH, Bank, bank, paste
from brodmann.datasets.phantoms.lightsheet.vessels import vessels

if TYPE_CHECKING:
    from brodmann.datasets.phantoms.lightsheet.volume import LightSheet

OFFSET, COUNTS_PER_PHOTON, READ_NOISE = 100.0, 2.0, 7.0
"""Of the camera, in counts."""
FINE, COARSE = (31, 61, 127), (29, 53, 109)
"""Periods of the two textures of tissue in voxels; together they do not repeat for long."""
STRIPES = (173, 509)
STRIPE_UM = 380.0
"""Along the light, stripes change over this distance."""
HALO_STEPS = 256
VESSEL_DARK = 0.8
DEBRIS, DEBRIS_SPREAD = 7000.0, 1.0


class Look(NamedTuple):
    """How a brain was imaged; all but `gain` are relative.

    gain: brightness of everything. stripes, planes: deviation of shadows along the light and of
    brightness from plane to plane. rim, glow: light at the border within and beyond it.
    """

    gain: float
    stripes: float
    planes: float
    rim: float
    glow: float


@lru_cache(maxsize=8)
def textures(
    spacing: tuple[float, float, float], blur_um: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two periodic textures of tissue, int8 with deviation 32, and one of stripes, float32.

    Stripes are (z, y), mean 0: faint bands and some darker, sharp lines.
    """
    from scipy.ndimage import gaussian_filter

    found = []
    rng = keyed_rng(0, "light-sheet texture")
    for shape, grain_um in ((FINE, 1.6), (COARSE, 6.0)):
        sigma = [np.hypot(grain_um, b) / s for b, s in zip(blur_um, spacing)]
        tile = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
        tile -= tile.mean()
        found.append(np.clip(np.rint(32 * tile / tile.std()), -127, 127).astype(np.int8))
    noise = rng.standard_normal((2, *STRIPES))
    z, y = (1.0 / spacing[0], 2.6 / spacing[1])
    sharp = gaussian_filter(noise[0], (z, y), mode="wrap")
    broad = gaussian_filter(noise[1], (2 * z, 5 * y), mode="wrap")
    sharp, broad = sharp / sharp.std(), broad / broad.std()
    shadow = -np.maximum(sharp - 1.1, 0) * 2.2
    stripes = 0.45 * sharp + 0.6 * broad + shadow
    stripes = (stripes - stripes.mean()) / stripes.std()
    found.append(stripes.astype(np.float32))
    for tile in found:
        tile.setflags(write=False)
    return found[0], found[1], found[2]


@lru_cache(maxsize=32)
def halo_table(deepest: float, rim: float, glow: float) -> np.ndarray:
    """(`HALO_STEPS` + 1, 2) float32 by distance to the border, -deepest..deepest.

    Cover: share of the voxel in tissue. Halo: light that comes on top, relative to the tissue's
    own: a bright ring just within, and a haze beyond that fades.
    """
    d = np.linspace(-deepest, deepest, HALO_STEPS + 1)
    # Half a step either way, so that the table's own step blurs the edge no further.
    cover = np.clip(0.5 + d / 10.0, 0, 1)
    ring = rim * np.exp(-0.5 * ((d - 9) / 7.0) ** 2) - 0.35 * rim * np.exp(
        -0.5 * ((d - 34) / 12) ** 2
    )
    haze = (
        glow * np.where(d < 0, 0.6 * np.exp(d / 14.0) + 0.4 * np.exp(d / 45.0), 1.0) * (1 - cover)
    )
    table = np.column_stack([cover, ring * cover + haze]).astype(np.float32)
    table.setflags(write=False)
    return table


@njit(cache=True, nogil=True)
def expose(
    origin, spacing, step, node, depth, light, deepest, halo, ground, signal, vessel, dark,
    fine, coarse, grain, starts, stripes, stripe_gain, stripe_side, stripe_key, plane_gain,
    gain, noise_key, table, out,
):  # fmt: skip  # pragma: no cover (compiled)
    """Camera counts of a block, uint16.

    `depth`, `light`: fields at nodes, the first of them `node`. `signal`: light of cells.
    """
    nz, ny, nx = out.shape
    cx = depth.shape[2]
    column, part = np.empty(nx, np.int64), np.empty(nx, np.float32)
    along, apart = np.empty(nx, np.int64), np.empty(nx, np.float32)
    for k in range(nx):
        um = (origin[2] + k + 0.5) * spacing[2]
        place = um / step[2] - 0.5
        column[k] = int(np.floor(place)) - node[2]
        part[k] = np.float32(place - np.floor(place))
        place = um / stripe_side
        along[k] = int(np.floor(place))
        apart[k] = np.float32(place - np.floor(place))
    first_band = along[0]
    bands = np.empty(along[nx - 1] - first_band + 2, np.float32)
    row = np.empty((3, cx), np.float32)
    for i in range(nz):
        z = origin[0] + i
        place = (z + 0.5) * spacing[0] / step[0] - 0.5
        a = int(np.floor(place)) - node[0]
        fz = np.float32(place - np.floor(place))
        plane = np.float32(plane_gain[i])
        for j in range(ny):
            y = origin[1] + j
            place = (y + 0.5) * spacing[1] / step[1] - 0.5
            b = int(np.floor(place)) - node[1]
            fy = np.float32(place - np.floor(place))
            for k in range(cx):
                for f in range(3):
                    if f == 0:
                        field = depth
                    elif f == 1:
                        field = light[0]
                    else:
                        field = light[1]
                    p = field[a, b, k] + fy * (field[a, b + 1, k] - field[a, b, k])
                    q = field[a + 1, b, k] + fy * (field[a + 1, b + 1, k] - field[a + 1, b, k])
                    row[f, k] = p + fz * (q - p)
            for n in range(len(bands)):
                h = mix2(stripe_key, first_band + n)
                dz = int(h & uint64(0xFFFFF))
                dy = int((h >> uint64(20)) & uint64(0xFFFFF))
                bands[n] = stripes[(z + dz) % stripes.shape[0], (y + dy) % stripes.shape[1]]
            fine_row = fine[(z + starts[0]) % fine.shape[0], (y + starts[1]) % fine.shape[1]]
            coarse_row = coarse[
                (z + starts[3]) % coarse.shape[0], (y + starts[4]) % coarse.shape[1]
            ]
            u = (origin[2] + starts[2]) % fine.shape[2]
            v = (origin[2] + starts[5]) % coarse.shape[2]
            row_key = mix4(noise_key, z, y, 0)
            for k in range(nx):
                c, t = column[k], part[k]
                d = row[0, c] + t * (row[0, c + 1] - row[0, c])
                own = row[1, c] + t * (row[1, c + 1] - row[1, c])
                lit = row[2, c] + t * (row[2, c + 1] - row[2, c])
                s = (d + deepest) * np.float32(0.5 / deepest * HALO_STEPS)
                s = min(max(s, np.float32(0.0)), np.float32(HALO_STEPS - 0.001))
                n = int(s)
                s -= np.float32(n)
                cover = halo[n, 0] + s * (halo[n + 1, 0] - halo[n, 0])
                more = halo[n, 1] + s * (halo[n + 1, 1] - halo[n, 1])
                grains = np.float32(fine_row[u]) * grain[0] + np.float32(coarse_row[v]) * grain[1]
                blood = min(vessel[i, j, k], np.float32(1.0)) * dark
                tissue = own * (
                    cover * (np.float32(1.0) + grains) * (np.float32(1.0) - blood) + more
                )
                m = along[k] - first_band
                band = bands[m] + apart[k] * (bands[m + 1] - bands[m])
                shade = max(np.float32(1.0) + stripe_gain * band, np.float32(0.05)) * plane
                # Cells end with the tissue; what is left beyond is out of focus.
                cells = signal[i, j, k] * (np.float32(0.12) + np.float32(0.88) * cover)
                value = (ground * tissue + cells) * lit * shade * gain
                h = mix2(row_key, origin[2] + k)
                one, two = int(h & uint64(TABLE - 1)), int((h >> uint64(16)) & uint64(TABLE - 1))
                count = photons(
                    float(value) * (1.0 / COUNTS_PER_PHOTON), (one + 0.5) / TABLE, float(table[one])
                )
                counts = OFFSET + COUNTS_PER_PHOTON * count + READ_NOISE * float(table[two])
                out[i, j, k] = np.uint16(min(max(np.floor(counts + 0.5), 0.0), 65535.0))
                u = u + 1 if u + 1 < fine.shape[2] else 0
                v = v + 1 if v + 1 < coarse.shape[2] else 0


@njit(cache=True, nogil=True)
def _choose(shape_key, light_key, ids, phase, each, table):  # pragma: no cover (compiled)
    """Number of the picture and brightness of each cell."""
    number, bright = np.empty(len(ids), np.int64), np.empty(len(ids), np.float32)
    for n in range(len(ids)):
        number[n] = phase[n] + PHASES * int(unit(mix2(shape_key, ids[n])) * each)
        bright[n] = table[int(mix2(light_key, ids[n]) & uint64(TABLE - 1))]
    return number, bright


def reach(stamps: Bank) -> tuple[np.ndarray, np.ndarray]:
    """How many voxels a picture goes on before and after its centre."""
    size = np.array(stamps.data.shape[1:])
    return stamps.middle + 1, size - stamps.middle + 1


def add_cells(
    sheet: LightSheet, marker: Marker | None, origin: np.ndarray, out: np.ndarray
) -> None:
    """Add the light of a marker's cells, or of debris, to a block; nothing where there is none."""
    name = marker.name if marker else "debris"
    stamps = bank(name, sheet.spacing, sheet.blur_um)
    before, after = reach(stamps)
    low, high = origin - after, origin + np.array(out.shape) + before
    cells = (
        cells_of_marker(sheet, marker, low, high)
        if marker
        else cells_of_class(sheet, "debris", low, high)
    )
    spread = marker.spread if marker else DEBRIS_SPREAD
    keys = tuple(np.uint64(key_seed(sheet.seed, f"light-sheet {w}", name)) for w in "sb")
    number, bright = _choose(*keys, cells.id, cells.phase, EACH[name], lognormals(spread))
    bright *= np.float32(marker.bright if marker else DEBRIS)
    paste(*stamps, cells.centre, number, bright, origin, out)


def render(
    sheet: LightSheet, marker: Marker, origin: np.ndarray, shape: tuple[int, int, int]
) -> np.ndarray:
    """A block of one marker's channel, uint16."""
    spacing = np.array(sheet.spacing)
    node, nodes = sheet.grid.around((origin + 0.5) * spacing, (origin + shape - 0.5) * spacing)
    depth = sheet.grid.depth(node, nodes)
    level = np.array([1.0, *(t.brightness(marker.name) for t in TISSUES.values())])
    light = np.empty((2, *nodes), np.float32)
    seed, look = sheet.seed, sheet.look(marker.name)
    cloud_keys = np.array([key_seed(seed, "light-sheet light", n) for n in range(3)], np.uint64)
    tissue = sheet.grid.tissue(sheet.grid.ids_at(node, nodes))
    extent = np.array(sheet.extent_um)
    fill_light(np.array(node), np.array(sheet.grid.step), extent, cloud_keys, tissue, level, light)
    signal = np.zeros(shape, np.float32)
    vessel = np.zeros(shape, np.float32)
    if depth.max() > -10:
        vessel = vessels(sheet, origin, shape)
    add_cells(sheet, marker, origin, signal)
    add_cells(sheet, None, origin, signal)
    fine, coarse, stripes = textures(sheet.spacing, sheet.blur_um)
    rng = keyed_rng(seed, "light-sheet starts", marker.name)
    starts = rng.integers(0, 1 << 20, 6)
    planes = sheet.plane_gains(marker.name)[origin[0] : origin[0] + shape[0]]
    grain = np.array([0.7, 0.8], np.float32) * np.float32(marker.grain / 32)
    out = np.empty(shape, np.uint16)
    expose(
        origin, spacing, np.array(sheet.grid.step), np.array(node), depth, light,
        np.float32(sheet.grid.deepest), halo_table(sheet.grid.deepest, look.rim, look.glow),
        np.float32(marker.ground), signal, vessel, np.float32(VESSEL_DARK), fine, coarse, grain,
        starts, stripes, np.float32(look.stripes), STRIPE_UM,
        np.uint64(key_seed(seed, "light-sheet stripes", marker.name)), planes,
        np.float32(look.gain), np.uint64(key_seed(seed, "light-sheet noise", marker.name)),
        normals(), out,
    )  # fmt: skip
    return out
