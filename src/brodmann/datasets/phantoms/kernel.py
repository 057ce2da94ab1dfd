"""Compiled geometry: the region at a point of a section, and label images made of it."""

from __future__ import annotations

import numpy as np
from numba import njit

from brodmann.datasets.phantoms.atlas import (
    ARC,
    BODY,
    BULB,
    DENTATE,
    DEPTH,
    FLUID,
    GRANULE,
    LOW,
    STEP,
    WHITE,
)
from brodmann.datasets.phantoms.bands import by_rows
from brodmann.datasets.phantoms.plan import BULBS, CEREBELLUM, CORTEX, HIPPOCAMPUS
from brodmann.datasets.phantoms.tree import ZONES

ZONE_COUNT = len(ZONES)
LOW_U, LOW_V = LOW[1], LOW[0]
FOLIUM_WHITE, FOLIUM_GRANULAR, NUCLEI_RADIUS = 0.006, 0.026, 0.045
PYRAMIDAL_WIDTH = 0.0040


@njit(cache=True, inline="always")
def _cell(u, v, rows, columns, low_u, low_v, step):  # pragma: no cover (compiled)
    """Grid cell and weights of a point, clamped to the grid."""
    x = min(max((u - low_u) / step, 0.0), columns - 1.001)
    y = min(max((v - low_v) / step, 0.0), rows - 1.001)
    i, j = int(y), int(x)
    return i, j, y - i, x - j


@njit(cache=True, inline="always")
def _mix(grid, k, i, j, a, b):  # pragma: no cover (compiled)
    return (grid[i, j, k] * (1 - b) + grid[i, j + 1, k] * b) * (1 - a) + (
        grid[i + 1, j, k] * (1 - b) + grid[i + 1, j + 1, k] * b
    ) * a


@njit(cache=True)
def _line_distance(u, v, line):  # pragma: no cover (compiled)
    least = 1e9
    for i in range(len(line) - 1):
        du, dv = line[i + 1, 0] - line[i, 0], line[i + 1, 1] - line[i, 1]
        t = ((u - line[i, 0]) * du + (v - line[i, 1]) * dv) / (du * du + dv * dv + 1e-18)
        t = min(max(t, 0.0), 1.0)
        least = min(least, (u - line[i, 0] - t * du) ** 2 + (v - line[i, 1] - t * dv) ** 2)
    return np.sqrt(least)


@njit(cache=True)
def folia_distance(u, v, folia):  # pragma: no cover (compiled)
    """Distance to the nearest folium and to the nearest other one, which, and how far out."""
    first, second, which, out = 1e9, 1e9, 0, 0.0
    for k in range(len(folia)):
        near, along = 1e9, 0.0
        for i in range(folia.shape[1] - 1):
            au, av = folia[k, i, 0], folia[k, i, 1]
            du, dv = folia[k, i + 1, 0] - au, folia[k, i + 1, 1] - av
            t = ((u - au) * du + (v - av) * dv) / (du * du + dv * dv + 1e-18)
            t = min(max(t, 0.0), 1.0)
            d = (u - au - t * du) ** 2 + (v - av - t * dv) ** 2
            if d < near:
                near, along = d, (i + t) / (folia.shape[1] - 1)
        if near < first:
            first, second, which, out = near, first, k, along
        elif near < second:
            second = near
    return np.sqrt(first), np.sqrt(second), which, out


@njit(cache=True)
def damage_at(u, v, rough, cuts, holes):  # pragma: no cover (compiled)
    """Positive where tissue is torn or missing: signed distance to cuts and holes."""
    worst = -1.0
    for k in range(len(cuts)):
        au, av, aw, bu, bv, bw = cuts[k]
        du, dv = bu - au, bv - av
        t = ((u - au) * du + (v - av) * dv) / (du * du + dv * dv + 1e-18)
        t = min(max(t, 0.0), 1.0)
        d = np.sqrt((u - au - t * du) ** 2 + (v - av - t * dv) ** 2)
        worst = max(worst, aw + t * (bw - aw) - d)
    for k in range(len(holes)):
        du, dv = u - holes[k, 0], v - holes[k, 1]
        d = np.sqrt(du * du + dv * dv)
        if d < 2.5 * holes[k, 2]:
            turn = np.arctan2(dv, du)
            radius = holes[k, 2] * (
                1
                + holes[k, 3] * np.sin(2 * turn + holes[k, 4])
                + holes[k, 5] * np.sin(5 * turn + holes[k, 6])
            )
            worst = max(worst, radius - d)
    # Torn edges are ragged.
    return worst + (0.3 * rough if worst > -0.02 else 0.0)


@njit(cache=True)
def locate(u, v, plan, frame, frame_grid, folds, cuts, holes, out):  # pragma: no cover (compiled)
    """Class index at a point (u, v) of the frame, and in `out` what the tissue there is like.

    0 is off the tissue, 1..count the leaves, count + 1 white matter, count + 2 fluid.
    `out`: signed distance into the tissue, cell-layer band, canonical u, v, fold, zone.
    """
    white, fluid = plan.count + 1, plan.count + 2
    folded = 0.0
    i, j, a, b = _cell(
        u, v, frame.shape[0], frame.shape[1], frame_grid[0], frame_grid[1], frame_grid[2]
    )
    damage = damage_at(u, v, _mix(frame, 2, i, j, a, b), cuts, holes)
    for k in range(len(folds)):
        ru, rv = u - folds[k, 0], v - folds[k, 1]
        tu, tv, half, width, reach = folds[k, 2], folds[k, 3], folds[k, 4], folds[k, 5], folds[k, 6]
        along, across = ru * tu + rv * tv, rv * tu - ru * tv
        across += folds[k, 7] * np.sin(along / half * 2.6 + folds[k, 8])
        taper = 1 - (along / half) ** 2
        if taper > 0 and across > 0:
            hidden = width * taper * taper
            if across < hidden:
                folded = max(folded, min(1.0, 6 * min(across, hidden - across) / width))
            hidden *= np.exp(-across / reach)
            u, v = u - tv * hidden, v + tu * hidden
    if len(folds) > 0:
        i, j, a, b = _cell(
            u, v, frame.shape[0], frame.shape[1], frame_grid[0], frame_grid[1], frame_grid[2]
        )
    cu, cv = _mix(frame, 0, i, j, a, b) + u, _mix(frame, 1, i, j, a, b) + v
    wu, wv = _mix(frame, 2, i, j, a, b), _mix(frame, 3, i, j, a, b)
    grid = plan.fields
    i, j, a, b = _cell(cu, cv, grid.shape[0], grid.shape[1], LOW_U, LOW_V, STEP)
    body, bulb = _mix(grid, BODY, i, j, a, b), _mix(grid, BULB, i, j, a, b)
    tissue = max(body, bulb)
    folium, near, other, outward, root = -1.0, 1.0, 0, 0.0, 1.0
    if cu > 1.3 and cv < 0.75:
        near, second, other, outward = folia_distance(cu, cv, plan.folia)
        folium = plan.folium_radius - near
        root = np.sqrt((cu - plan.folia[0, 0, 0]) ** 2 + (cv - plan.folia[0, 0, 1]) ** 2)
        # Fissures between the folia, but not round the stalk.
        if near > 0.024 and tissue < 0.002 and root > 1.3 * plan.folium_radius:
            folium = min(folium, 0.5 * (second - near) - 0.0022)
        tissue = max(tissue, folium)
    tissue = min(tissue, -damage)
    out[0], out[1], out[2], out[3], out[4], out[5] = tissue, 1.0, cu, cv, folded, -1.0
    if tissue <= 0:
        return 0
    zone, best = 0, -1e9
    for k in range(ZONE_COUNT):
        here = (folium if k == CEREBELLUM else _mix(grid, k, i, j, a, b)) + plan.bias[k]
        if here > best:
            zone, best = k, here
    out[5] = zone
    if zone == CEREBELLUM:
        if root > NUCLEI_RADIUS or plan.seed_start[zone] == plan.seed_start[zone + 1]:
            if near + 0.12 * wu < FOLIUM_WHITE * (1.25 - outward):
                return white
            deep = near + 0.2 * wu < FOLIUM_GRANULAR
            return plan.folium_leaf[other, 1 if deep else 0]
    else:
        if _mix(grid, FLUID, i, j, a, b) > 0:
            return fluid
        if _mix(grid, WHITE, i, j, a, b) + 0.25 * wv > 0:
            return white
    if zone == CORTEX:
        arc = _mix(grid, ARC, i, j, a, b) + 0.5 * wu
        depth = _mix(grid, DEPTH, i, j, a, b) + 1.5 * wv
        area = 0
        while area < len(plan.arcs) - 2 and arc > plan.arcs[area + 1]:
            area += 1
        layer = 0
        while layer < plan.layers.shape[1] - 1 and depth > plan.layers[area, layer + 1]:
            layer += 1
        return plan.layer_leaf[area, layer]
    if zone == BULBS:
        for k in range(len(plan.ellipses)):
            du, dv = cu - plan.ellipses[k, 0], cv - plan.ellipses[k, 1]
            if (du / plan.ellipses[k, 2]) ** 2 + (dv / plan.ellipses[k, 3]) ** 2 < 1:
                return plan.ellipse_leaf[k]
        if len(plan.bulb_leaf) > 0 and bulb > max(0.0, 0.9 * (cu - 0.40)):
            layer = 0
            while layer < len(plan.bulb_edge) - 1 and bulb + 0.15 * wu > plan.bulb_edge[layer]:
                layer += 1
            return plan.bulb_leaf[layer]
    if zone == HIPPOCAMPUS:
        dentate = _mix(grid, DENTATE, i, j, a, b)
        if plan.dentate[0] > 0 and dentate > 0:
            hilus = -_mix(grid, GRANULE, i, j, a, b)
            return plan.dentate[1 if hilus > 0.0035 else 2 if hilus > -0.0035 else 0]
        cells = _line_distance(cu, cv, plan.pyramidal) / PYRAMIDAL_WIDTH
        out[1] = 1 - 0.5 * np.exp(-cells * cells)
    pu, pv = cu + wu, cv + wv
    leaf, least = 0, 1e9
    for k in range(plan.seed_start[zone], plan.seed_start[zone + 1]):
        d = (pu - plan.seeds[k, 0]) ** 2 + (pv - plan.seeds[k, 1]) ** 2 - plan.seeds[k, 2]
        if d < least:
            leaf, least = plan.seed_leaf[k], d
    return leaf


@njit(cache=True, nogil=True)
def _nodes_in(first, last, classes, about, origin, step, geometry):  # pragma: no cover (compiled)
    plan, frame, frame_grid, folds, cuts, holes = geometry
    out = np.empty(6)
    for y in range(first, last):
        v = origin[0] + y * step
        for x in range(classes.shape[1]):
            u = origin[1] + x * step
            classes[y, x] = locate(u, v, plan, frame, frame_grid, folds, cuts, holes, out)
            for k in range(6):
                about[k, y, x] = out[k]


def locate_nodes(
    origin: tuple[float, float], step: float, shape: tuple[int, int], geometry: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Class, (rows, columns) int16, and tissue, (6, rows, columns) float32, at the nodes of a
    grid over the frame; origin (v, u) of the first. `geometry` are the arguments of `locate`
    from plan to holes."""
    classes = np.empty(shape, np.int16)
    about = np.empty((6, *shape), np.float32)
    by_rows(_nodes_in, shape[0], classes, about, origin, step, geometry)
    return classes, about


@njit(cache=True, nogil=True)
def _paint_in(
    first, last, labels, ids, classes, block, origin, step, geometry
):  # pragma: no cover (compiled)
    plan, frame, frame_grid, folds, cuts, holes = geometry
    height, width = labels.shape
    out = np.empty(6)
    for i in range(first, last):
        for j in range(classes.shape[1] - 1):
            top, left = i * block, j * block
            bottom, right = min(top + block, height), min(left + block, width)
            here = classes[i, j]
            same = here == classes[i, j + 1] and here == classes[i + 1, j]
            if (same and here == classes[i + 1, j + 1]) or block == 1:
                for y in range(top, bottom):
                    for x in range(left, right):
                        labels[y, x] = ids[here]
                continue
            for y in range(top, bottom):
                v = origin[0] + y * step
                for x in range(left, right):
                    u = origin[1] + x * step
                    here = locate(u, v, plan, frame, frame_grid, folds, cuts, holes, out)
                    labels[y, x] = ids[here]


def paint_labels(
    shape: tuple[int, int],
    ids: np.ndarray,
    classes: np.ndarray,
    block: int,
    origin: tuple[float, float],
    step: float,
    geometry: tuple,
) -> np.ndarray:
    """Label ids of every pixel: blocks whose corner nodes agree are filled, others worked out."""
    labels = np.empty(shape, ids.dtype)
    by_rows(_paint_in, len(classes) - 1, labels, ids, classes, block, origin, step, geometry)
    return labels
