"""Plans: which leaf of a label tree lies where in the drawn zones, for one subject and plane."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from brodmann.core import LabelMap, keyed_rng
from brodmann.datasets.phantoms import drawing
from brodmann.datasets.phantoms.atlas import BODY, BULB, LOW, STEP, key_planes, plane_fields
from brodmann.datasets.phantoms.layout import (
    AREAS,
    BULB_LAYERS,
    DENTATE_LEAVES,
    ELLIPSES,
    LAYERS,
    NUCLEI,
    PLANES,
    SEEDS,
    SIZES,
)
from brodmann.datasets.phantoms.tree import NAMED, ZONES, apportion

CORTEX, CEREBELLUM, BULBS, HIPPOCAMPUS = (
    ZONES.index(zone) for zone in ("Isocortex", "CB", "OLF", "HPF")
)
RAMP = 0.12
"""Way in plane over which a region grows from nothing to its full size."""


class Plan(NamedTuple):
    """One subject and plane, as plain arrays for the compiled code."""

    fields: np.ndarray  # (rows, columns, fields) of the plane
    bias: np.ndarray  # (zones,) added to each zone's signed distance
    seed_start: np.ndarray  # (zones + 1,) into the next two
    seeds: np.ndarray  # (n, 3) u, v, weight of the power diagram
    seed_leaf: np.ndarray
    arcs: np.ndarray  # (areas + 1,) along the isocortex
    layers: np.ndarray  # (areas, layers) lower edges in depth, 2 where unused
    layer_leaf: np.ndarray
    folia: np.ndarray  # (folia, 4, 2) from the root to the tip
    folium_leaf: np.ndarray  # (folia, 2) molecular, granular
    folium_radius: float
    bulb_edge: np.ndarray  # (layers,) upper edges in depth from the bulb's surface
    bulb_leaf: np.ndarray
    ellipses: np.ndarray  # (n, 4) u, v, half axes
    ellipse_leaf: np.ndarray
    dentate: np.ndarray  # (3,) leaves: molecular, polymorph, granule; 0 where not drawn
    pyramidal: np.ndarray  # (n, 2) line of the pyramidal cells
    count: int  # leaves


def presence(window: tuple[float, float], plane: float) -> float:
    """How much of itself a region has in a plane, 0..1; no ramp where a window ends at 0 or 1."""
    low, high = window
    ramp = min(RAMP, (high - low) / 2)
    rise = 1.0 if low <= 0 else (plane - low) / ramp
    fall = 1.0 if high >= 1 else (high - plane) / ramp
    return float(min(max(min(rise, fall), 0.0), 1.0))


@cache
def zone_nodes(zone: int) -> np.ndarray:
    """Nodes (u, v) of the atlas grid that a zone covers in the middle key plane."""
    fields = key_planes()[1]
    if zone == CEREBELLUM:
        return np.concatenate([drawing.place(line) for _, line in drawing.FOLIA])
    inside = (fields[..., : len(ZONES)].argmax(-1) == zone) & (
        np.maximum(fields[..., BODY], fields[..., BULB]) > 0.005
    )
    rows, columns = np.nonzero(inside)
    return np.stack([LOW[1] + columns * STEP, LOW[0] + rows * STEP], axis=1)


@cache
def spread(zone: int, count: int) -> np.ndarray:
    """`count` seeds (u, v) spread evenly over a zone by Lloyd's method, front to back."""
    from scipy.spatial import cKDTree

    nodes = zone_nodes(zone)
    rng = keyed_rng(0, "phantom seeds", zone, count)
    if zone == CEREBELLUM:
        return drawing.place([(1.60, 0.475)]) + rng.normal(0, 0.02, (count, 2))
    seeds = nodes[rng.choice(len(nodes), count, replace=count > len(nodes))]
    seeds = seeds + rng.uniform(-STEP / 2, STEP / 2, seeds.shape)
    for _ in range(12):
        owner = cKDTree(seeds).query(nodes)[1]
        total = np.bincount(owner, minlength=count)
        for axis in range(2):
            sums = np.bincount(owner, nodes[:, axis], minlength=count)
            seeds[:, axis] = np.where(total > 0, sums / np.maximum(total, 1), seeds[:, axis])
    return seeds[np.lexsort((seeds[:, 1], np.round(seeds[:, 0] / 0.08)))]


def zone_leaves(tree: LabelMap) -> list[list[int]]:
    """For each zone the leaves (class indices from 1) that lie in it; never empty.

    A primary region with a drawn zone's acronym gets that zone. The others share the zones
    that are left, front to back; where there are more primary regions than zones, zones
    hold several, and where there are fewer, primary regions hold neighbouring zones.
    """
    groups: dict[int, list[int]] = {}
    for index, id_ in enumerate(tree.classes, start=1):
        groups.setdefault(tree.primary(id_), []).append(index)
    owned: list[list[int]] = [[] for _ in ZONES]  # zone -> primaries
    rest = []
    for top in groups:
        acronym = tree[top].acronym
        if acronym in ZONES:
            owned[ZONES.index(acronym)].append(top)
        else:
            rest.append(top)
    free = [zone for zone, tops in enumerate(owned) if not tops]
    if rest:
        places = free or list(range(len(ZONES)))
        if len(rest) >= len(places):
            for i, top in enumerate(rest):
                owned[places[i * len(places) // len(rest)]].append(top)
        else:
            for i, zone in enumerate(places):
                owned[zone].append(rest[i * len(rest) // len(places)])
    else:
        taken = [zone for zone, tops in enumerate(owned) if tops]
        for zone in free:
            owned[zone] = list(owned[min(taken, key=lambda other: (abs(other - zone), other))])
    leaves: list[list[int]] = [[] for _ in ZONES]
    for top, members in groups.items():
        zones = [zone for zone, tops in enumerate(owned) if top in tops]
        if len(members) <= len(zones):
            for i, zone in enumerate(zones):
                leaves[zone].append(members[i * len(members) // len(zones)])
            continue
        shares = apportion(len(members), [len(NAMED[ZONES[zone]]) for zone in zones])
        start = 0
        for zone, share in zip(zones, shares):
            leaves[zone] += members[start : start + share]
            start += share
    return leaves


def is_named(tree: LabelMap, zone: int, leaves: list[int]) -> bool:
    """Whether a zone's leaves are those of the default tree, which have a place of their own."""
    return tuple(tree[tree.classes[i - 1]].acronym for i in leaves) == NAMED[ZONES[zone]]


def _generic_window(leaf: int) -> tuple[float, float]:
    """Planes in which a leaf without a name is seen: most in all, some in half, a few rarely."""
    rng = keyed_rng(0, "phantom window", leaf)
    kind, centre = rng.uniform(), rng.uniform(0.1, 0.9)
    half = 2.0 if kind < 0.78 else 0.3 if kind < 0.94 else 0.045
    return centre - half, centre + half


def _seed_rows(names, leaves, points, windows, plane, rng, reach):
    """Rows (u, v, weight) and leaves of the seeds that are present; all, should none be."""
    rows, owners = [], []
    jitter = rng.normal(0, 0.35, (len(leaves), 2)) * reach
    size = rng.normal(0, 0.15, len(leaves)) * reach**2
    for i, leaf in enumerate(leaves):
        here = presence(windows[i], plane)
        if here > 0:
            weight = size[i] + SIZES.get(names[i], 0.0) - (1 - here) * 2.0 * reach**2
            rows.append((*(points[i] + jitter[i]), weight))
            owners.append(leaf)
    if not rows:
        rows, owners = [(*p, 0.0) for p in points], list(leaves)
    return rows, owners


def _areas_of(leaves: list[int]) -> list[tuple[float, list[int], tuple[float, float]]]:
    """Leaves without names as areas of up to six layers: width, leaves, window."""
    count = -(-len(leaves) // 6)
    shares = apportion(len(leaves), [1.0] * count)
    out, start = [], 0
    for share in shares:
        out.append((1.0, leaves[start : start + share], (0.0, 1.0)))
        start += share
    return out


def make_plan(tree: LabelMap, subject: int, plane: float, seed: int) -> Plan:
    """Lay a tree's leaves out for one subject and plane.

    The subject's own sizes and places are drawn by (seed, subject), so that all sections of a
    subject share them.
    """
    zones = zone_leaves(tree)
    rng = keyed_rng(seed, "phantom subject", subject)
    bias = rng.normal(0, 0.006, len(ZONES)).clip(-0.012, 0.012)
    by_plane = np.array([np.clip(2 * abs(plane - k / 2), 0, 1) for k in range(3)])
    seeds, seed_leaf, starts = [], [], [0]
    arcs, layers, layer_leaf = np.zeros(2), np.full((1, 1), 2.0), np.zeros((1, 1), np.int64)
    folium_leaf = np.zeros((len(drawing.FOLIA), 2), np.int64)
    bulb_edge, bulb_leaf = np.zeros(0), np.zeros(0, np.int64)
    ellipses, ellipse_leaf, dentate = [], [], np.zeros(3, np.int64)
    for zone, leaves in enumerate(zones):
        rng = keyed_rng(seed, "phantom zone", subject, zone)
        named = is_named(tree, zone, leaves)
        index = {tree[tree.classes[i - 1]].acronym: i for i in leaves}
        rest = list(leaves)
        if zone == CORTEX:
            arcs, layers, layer_leaf = _mantle(named, index, leaves, plane, rng)
            rest = leaves[:1]
        elif zone == CEREBELLUM:
            rest, folium_leaf = _folia(named, leaves)
        elif zone == BULBS and named:
            bulb_leaf = np.array([index[name] for name, _ in BULB_LAYERS])
            bulb_edge = np.cumsum([t * rng.uniform(0.88, 1.12) for _, t in BULB_LAYERS])
            bulb_edge[-1] = 9.0
            for name, (u, v, a, b) in ELLIPSES.items():
                here = presence(PLANES[name], plane)
                if here > 0:
                    size = np.sqrt(here) * rng.uniform(0.9, 1.1)
                    ellipses.append((*drawing.place([(u, v)])[0], a * size, b * size))
                    ellipse_leaf.append(index[name])
            rest = [i for name, i in index.items() if name in SEEDS]
        elif zone == HIPPOCAMPUS and named:
            dentate = np.array([index[name] for name in DENTATE_LEAVES])
            rest = [i for name, i in index.items() if name in SEEDS]
        if zone == CORTEX:
            rows, owners = [(0.0, 0.0, 0.0)], rest
        elif named:
            names = [tree[tree.classes[i - 1]].acronym for i in rest]
            table = NUCLEI if zone == CEREBELLUM else SEEDS
            # A seed's place is drawn in three planes, or in one for all.
            points = []
            for name in names:
                drawn = drawing.place(table[name])
                if len(drawn) == 2:
                    drawn = drawn[[0, 1, 1]]
                if len(drawn) == 3:
                    keys = np.maximum(0, 1 - by_plane)
                    drawn = (drawn * keys[:, None]).sum(0, keepdims=True) / keys.sum()
                points.append(drawn[0])
            windows = [PLANES.get(name, (0.0, 1.0)) for name in names]
            rows, owners = _seed_rows(names, rest, points, windows, plane, rng, 0.018)
        else:
            points = spread(zone, len(rest))
            reach = 0.5 * np.sqrt(len(zone_nodes(zone)) * STEP**2 / max(len(rest), 1))
            windows = [_generic_window(i) for i in rest]
            names = [""] * len(rest)
            rows, owners = _seed_rows(names, rest, points, windows, plane, rng, min(reach, 0.03))
        seeds += rows
        seed_leaf += owners
        starts.append(len(seeds))
    root, tips = _tree_of(plane, keyed_rng(seed, "phantom folia", subject))
    keys = np.maximum(0, 1 - by_plane)
    radius = float(np.dot(keys, drawing.FOLIUM_RADIUS) / keys.sum())
    folia = np.concatenate([np.repeat(root[None, None], len(tips), 0), tips[:, ::-1]], axis=1)
    return Plan(
        plane_fields(plane),
        bias.astype(np.float32),
        np.array(starts, np.int64),
        np.array(seeds, np.float64).reshape(-1, 3),
        np.array(seed_leaf, np.int64),
        np.asarray(arcs, np.float64),
        np.asarray(layers, np.float64),
        np.asarray(layer_leaf, np.int64),
        np.ascontiguousarray(folia),
        np.asarray(folium_leaf, np.int64),
        radius,
        np.asarray(bulb_edge, np.float64),
        np.asarray(bulb_leaf, np.int64),
        np.array(ellipses, np.float64).reshape(-1, 4),
        np.array(ellipse_leaf, np.int64),
        dentate.astype(np.int64),
        _pyramidal(plane),
        len(tree.classes),
    )


def _pyramidal(plane: float) -> np.ndarray:
    """The line of pyramidal cells in a plane, 24 points (u, v) between its key planes'."""
    lines = []
    for curve in drawing.PYRAMIDAL:
        line = drawing.spline(curve, False)
        along = np.concatenate([[0], np.hypot(*np.diff(line, axis=0).T).cumsum()])
        at = np.linspace(0, along[-1], 24)
        lines.append(np.stack([np.interp(at, along, line[:, k]) for k in range(2)], axis=1))
    below = min(int(plane * 2), 1)
    return lines[below] * (below + 1 - 2 * plane) + lines[below + 1] * (2 * plane - below)


def _mantle(named, index, leaves, plane, rng):
    """Arc edges, layer edges and leaves of the isocortex."""
    if named:
        areas = [
            (width, [index[name + layer] for layer in names], PLANES.get(name, (0.0, 1.0)))
            for name, (width, names) in AREAS.items()
        ]
        thickness = {
            i: LAYERS[name[len(area) :]]
            for area in AREAS
            for name, i in index.items()
            if name.startswith(area)
        }
        own = {i: presence(PLANES[name], plane) for name, i in index.items() if name in PLANES}
    else:
        areas = _areas_of(leaves)
        thickness = {i: 1.0 for i in leaves}
        own = {i: presence(_generic_window(i), plane) for i in leaves}
    widths, edges, owners = [], [], []
    for width, members, window in areas:
        size = width * rng.uniform(0.85, 1.15) * presence(window, plane)
        parts = np.array([thickness[i] * own.get(i, 1.0) for i in members])
        parts = parts * rng.uniform(0.88, 1.12, len(parts))
        if size <= 0 or parts.sum() <= 0:
            continue
        row = np.full(6, 2.0)
        row[: len(parts)] = np.concatenate([[0.0], np.cumsum(parts)[:-1] / parts.sum()])
        widths.append(size)
        edges.append(row)
        owners.append([*members, *[members[-1]] * (6 - len(members))])
    arcs = np.concatenate([[0.0], np.cumsum(widths)]) / np.sum(widths)
    return arcs, np.array(edges), np.array(owners)


def _folia(named, leaves):
    """Leaves of the nuclei, and (molecular, granular) leaves of each folium."""
    lobules = 5 if named else min(len(leaves) // 2, 5)
    if lobules == 0:
        return leaves, np.full((len(drawing.FOLIA), 2), leaves[0])
    pairs = np.array(leaves[: 2 * lobules]).reshape(-1, 2)
    chosen = [min(lobule, lobules - 1) for lobule, _ in drawing.FOLIA]
    return leaves[2 * lobules :], pairs[chosen]


def _tree_of(plane, rng):
    """Root (u, v) and folia (n, 3, 2) tip first; folia shift and bend with plane and subject."""
    low, high = drawing.FOLIA_ROOT[0], drawing.FOLIA_ROOT[2]
    root = drawing.place(low)[0] * (1 - plane) + drawing.place(high)[0] * plane
    tips = np.stack([drawing.place(line) for _, line in drawing.FOLIA])
    # Towards the hemisphere the tree gets smaller and leans back.
    centre = root + (tips - drawing.place(drawing.FOLIA_ROOT[1])[0]) * (0.96 - 0.14 * plane)
    return root, centre + rng.normal(0, 0.006, tips.shape)
