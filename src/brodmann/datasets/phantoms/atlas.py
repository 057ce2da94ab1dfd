"""Signed-distance fields of the drawn key planes, worked out once in a process."""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

from brodmann.datasets.phantoms import drawing
from brodmann.datasets.phantoms.bands import by_rows
from brodmann.datasets.phantoms.tree import ZONES

GRID_SHAPE = (176, 336)
LOW, STEP = (-0.05, -0.05), 2.1 / 335
"""First node (u, v) and distance between the nodes of the atlas grid."""
FIELDS = (
    *ZONES,
    "body",
    "bulb",
    "white",
    "fluid",
    "depth",
    "arc",
    "dentate",
    "granule",
    "pyramidal",
)
BODY, BULB, WHITE, FLUID, DEPTH, ARC, DENTATE, GRANULE = range(len(ZONES), len(ZONES) + 8)
ROUND = 0.006
ABSENT = -0.08
"""Signed distance of a shape that a key plane does not have."""


@njit(cache=True, nogil=True)
def _distances_in(first, last, out, points, low, step, closed):  # pragma: no cover (compiled)
    """`_distances` for some rows."""
    columns = out.shape[2]
    n = len(points)
    lengths = np.zeros(n + 1)
    for i in range(n - 1):
        lengths[i + 1] = lengths[i] + np.hypot(
            points[i + 1, 0] - points[i, 0], points[i + 1, 1] - points[i, 1]
        )
    for y in range(first, last):
        v = low[1] + y * step
        for x in range(columns):
            u = low[0] + x * step
            best, inside, along = 1e9, False, 0.0
            for i in range(n if closed else n - 1):
                j = (i + 1) % n
                au, av, bu, bv = points[i, 0], points[i, 1], points[j, 0], points[j, 1]
                du, dv = bu - au, bv - av
                t = ((u - au) * du + (v - av) * dv) / (du * du + dv * dv + 1e-18)
                t = min(max(t, 0.0), 1.0)
                d = (u - au - t * du) ** 2 + (v - av - t * dv) ** 2
                if d < best:
                    best = d
                    along = lengths[i] + t * np.hypot(du, dv)
                if (av > v) != (bv > v) and u < (bu - au) * (v - av) / (bv - av) + au:
                    inside = not inside
            distance = np.sqrt(best)
            out[0, y, x] = distance if inside or not closed else -distance
            out[1, y, x] = along / max(lengths[n - 1], 1e-9)


def _distances(points: np.ndarray, closed: bool) -> np.ndarray:
    """Signed distance (positive inside) to a closed curve, or distance to an open one and
    the share of its length at the nearest point; (2, rows, columns)."""
    out = np.empty((2, *GRID_SHAPE), np.float32)
    by_rows(_distances_in, GRID_SHAPE[0], out, points, LOW, STEP, closed)
    return out


def _shape(curves: list[drawing.Curve]) -> np.ndarray:
    """Signed distance to the union of closed curves."""
    if not curves:
        return np.full(GRID_SHAPE, ABSENT, np.float32)
    fields = [_distances(drawing.spline(c, True), True)[0] for c in curves]
    return np.max(fields, axis=0)


def _band(curve: drawing.Curve, widths: tuple[float, float, float], plane: int) -> np.ndarray:
    """Signed distance to a tapered band round a curve.

    The distance is rounded off at the middle, since the grid is coarser than a thin band.
    """
    distance, along = _line(curve)
    width = widths[plane]
    if width > 0:
        width = np.sqrt(width**2 + ROUND**2) - ROUND
        width = width * (0.25 + 0.75 * np.sqrt(np.maximum(4 * along * (1 - along), 0)))
    return width - (np.sqrt(distance**2 + ROUND**2) - ROUND)


def _line(curve: drawing.Curve | np.ndarray) -> np.ndarray:
    points = curve if isinstance(curve, np.ndarray) else drawing.spline(curve, False)
    return _distances(points, False)


@cache
def key_planes() -> np.ndarray:
    """Every field of `FIELDS` in the three key planes, (3, rows, columns, fields) float32.

    Zones, body, bulb, white, fluid and dentate are signed distances (positive inside, in
    canonical units), depth is 0 at the pia and 1 at the white matter, arc runs 0..1 from
    front to back along the isocortex, granule is the distance to the V of granule cells
    (positive outside).
    """
    out = np.empty((3, *GRID_SHAPE, len(FIELDS)), np.float32)
    for plane in range(3):
        pia, white = (drawing.spline(c[plane], False) for c in (drawing.PIA, drawing.WM))
        to_pia, (to_white, along) = _line(pia)[0], _line(white)
        mantle = np.concatenate([pia, white[::-1]])
        zones = {zone: _shape(shapes[plane]) for zone, shapes in drawing.ZONE_SHAPES.items()}
        # What lies under the white matter belongs to its neighbours, not to the cortex.
        cortex = _distances(mantle, True)[0]
        zones["Isocortex"] = np.where(cortex < 0, 3 * cortex, cortex)
        # The cerebellum is worked out exactly from its tree instead.
        zones["CB"] = np.full(GRID_SHAPE, ABSENT, np.float32)
        # A band under the cortex, thickest in the middle: corpus callosum, external capsule.
        half = 0.015 * np.sqrt(np.maximum(np.sin(np.pi * np.clip(along * 1.04, 0, 1)), 0))
        under = np.where(zones["Isocortex"] > 0, -to_white, to_white)
        inner = half - (np.sqrt((under - half) ** 2 + ROUND**2) - ROUND)
        fibres = [inner, *(_band(curve, width, plane) for curve, width in drawing.FIBRES)]
        fluid = [_band(curve, width, plane) for curve, width in drawing.FLUID]
        granule = _distances(drawing.spline(drawing.GRANULE[plane], True), True)[0]
        parts = [
            *(zones[zone] for zone in ZONES),
            _shape(drawing.BODY[plane]),
            _shape(drawing.BULB[plane]),
            np.max(fibres, axis=0),
            np.max(fluid, axis=0),
            to_pia / (to_pia + to_white + 1e-6),
            along,
            _shape(drawing.DENTATE[plane]),
            -granule,
        ]
        for i, part in enumerate(parts):
            out[plane, ..., i] = part
    return out


def plane_fields(plane: float) -> np.ndarray:
    """The fields of one plane in 0..1, between its two key planes; (rows, columns, fields)."""
    keys = key_planes()
    below = min(int(plane * 2), 1)
    weight = np.float32(plane * 2 - below)
    return keys[below] * (1 - weight) + keys[below + 1] * weight
