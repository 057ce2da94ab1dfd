"""What a block of neuropil holds, in micrometres: neurites, mitochondria, synapses, vesicles."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from brodmann.core import key_seed, keyed_rng
from brodmann.datasets.phantoms.em.growing import AXON, SHAFT, SPINE, branch, grow, ridges
from brodmann.datasets.phantoms.em.packing import Index, Sites, add, indexed, relisted, room_for

MARGIN_UM = 0.6
"""Neurites grow so far beyond the volume, so that its faces cut them like any other plane."""
INSET_UM = 0.04
"""A mitochondrion keeps so far from its neuron's membrane."""
BETWEEN_UM = 0.12
"""Room between two mitochondria of one neuron."""
TILE, WARP_STEP_UM = 64, 0.05
SITES_PER_UM3 = 900
VESICLE_UM = 0.019


class World(NamedTuple):
    """Everything in one block, in its own straight coordinates; `warp` bends it into tissue."""

    sites: Sites
    neurites: Index  # of the same sites
    mitochondria: Index  # their spheres
    axes: np.ndarray  # (mitochondria + 1, 6) float32: cristae direction, period, phase, gain
    hosts: np.ndarray  # (mitochondria + 1,) int32: the neuron that holds each
    synapses: Index  # their discs
    sides: np.ndarray  # (synapses + 1, 2) int32: neuron before and after
    vesicles: np.ndarray  # (n, 5) float32: z, y, x, radius, darkness
    within: np.ndarray  # (n,) int32: their neuron
    warp: np.ndarray  # (TILE, TILE, TILE, 3) float32, um


@lru_cache(maxsize=4)
def warp_tile(seed: int, subject: int) -> np.ndarray:
    """Smooth displacements (z, y, x) in um, periodic over 3.2 um, one-to-one."""
    rng = keyed_rng(seed, "phantom em warp", subject)
    along = np.fft.fftfreq(TILE, WARP_STEP_UM)
    square = (
        along[:, None, None] ** 2
        + along[None, :, None] ** 2
        + np.fft.rfftfreq(TILE, WARP_STEP_UM) ** 2
    )
    field = np.zeros((TILE, TILE, TILE, 3), np.float32)
    for length, weight in ((0.16, 0.030), (0.075, 0.011)):
        keep = np.exp(-2 * (np.pi * length) ** 2 * square)
        for axis in range(3):
            noise = np.fft.rfftn(rng.standard_normal((TILE,) * 3)) * keep
            smooth = np.fft.irfftn(noise, (TILE,) * 3, (0, 1, 2))
            field[..., axis] += weight * smooth / smooth.std()
    slopes = np.stack([np.roll(field, -1, axis) - field for axis in range(3)], -1) / WARP_STEP_UM
    steepest = np.linalg.norm(slopes.reshape(-1, 3, 3), ord="fro", axis=(1, 2)).max()
    # The Frobenius norm bounds the slope; below 1 no point is reached twice.
    return field * np.float32(min(1.0, 0.85 / steepest))


@lru_cache(maxsize=4)
def make_world(extent: tuple[float, float, float], seed: int, subject: int, scale: float) -> World:
    """Fill a block of `extent` um (z, y, x) from the origin; the voxels that will sample it do
    not matter. `scale` multiplies all calibres."""
    low = np.full(3, -MARGIN_UM)
    high = np.asarray(extent) + MARGIN_UM
    box = np.stack([low, high])
    volume = float(np.prod(high - low))
    sites = room_for(box, int(SITES_PER_UM3 * volume / min(scale, 1) ** 2) + 20_000)
    state = np.array([key_seed(seed, "phantom em neurites", subject)], np.uint64)
    s = scale
    sites = relisted(sites, box, 0.4, 0.85 * s)
    grow(sites, state, box, 0.30 * s, 0.62 * s, 0.12 * s, 0.10, 0.20, 300, SHAFT, 1.5)
    sites = relisted(sites, box, 0.25, 0.40 * s)
    grow(sites, state, box, 0.15 * s, 0.26 * s, 0.07 * s, 0.35, 0.16, 500, SHAFT, 1.2)
    branch(sites, state, box, 0.12, 0.10 * s, 0.2 * s, 0.05, 0.4, 3.0, 0.0, SHAFT, SHAFT)
    branch(sites, state, box, 0.9, 0.045 * s, 0.07 * s, 0.03, 1.0, 0.55, 0.17 * s, SPINE, SHAFT)
    sites = relisted(sites, box, 0.15, 0.22 * s)
    grow(sites, state, box, 0.085 * s, 0.16 * s, 0.04 * s, 0.5, 0.30, 1500, AXON, 1.0)
    branch(sites, state, box, 0.06, 0.06 * s, 0.1 * s, 0.04, 0.6, 3.0, 0.0, AXON, AXON)
    sites = relisted(sites, box, 0.10, 0.13 * s)
    grow(sites, state, box, 0.05 * s, 0.09 * s, 0.034 * s, 0.8, 1.0, 2500, AXON, 0.6)
    ridges(sites, state, 0.55)
    rng = keyed_rng(seed, "phantom em contents", subject)
    mitochondria, axes, hosts = _mitochondria(sites, rng, box, s)
    synapses, sides, vesicles, within = _synapses(sites, rng, box)
    return World(
        sites,
        indexed(sites, box, 0.15, 0.30),
        indexed(mitochondria, box, 0.15, 0.15),
        axes,
        hosts,
        indexed(synapses, box, 0.15, 0.10),
        sides,
        vesicles,
        within,
        warp_tile(seed, subject),
    )


def _chains(sites: Sites) -> list[np.ndarray]:
    """Sites of each path in order along it."""
    n = int(sites.count[0])
    path = sites.path[:n]
    order = np.argsort(path, kind="stable")
    order = order[path[order] >= 0]
    return np.split(order, np.flatnonzero(np.diff(path[order])) + 1)


def _mitochondria(
    sites: Sites, rng: np.random.Generator, box: np.ndarray, scale: float
) -> tuple[Sites, np.ndarray, np.ndarray]:
    """Worms along the middle of neurites that are thick enough, apart from each other."""
    out = relisted(room_for(box, int(60 * np.prod(box[1] - box[0])) + 4000), box, 1.0, 0.0)
    axes, hosts = [(1.0, 0.0, 0.0, 0.05, 0.0, 0.0)], [0]
    taken: dict[int, list[np.ndarray]] = {}
    for chain in _chains(sites):
        if len(chain) < 6:
            continue
        at = sites.at[chain].astype(float)
        steps = np.linalg.norm(np.diff(at[:, :3], axis=0), axis=1)
        along = np.concatenate([[0.0], np.cumsum(steps)])
        neuron = int(sites.owner[chain[0]])
        start = rng.uniform(0.0, 1.2)
        while start < along[-1]:
            wanted = rng.uniform(0.14, 0.26) * scale**0.5
            long = rng.uniform(0.5, 2.6)
            run = np.flatnonzero((along >= start) & (along <= start + long))
            start += long + rng.uniform(0.3, 2.6)
            roomy = at[run, 3] - INSET_UM - 0.015 > 0.065 * scale
            # The longest stretch without a narrow.
            run = max(np.split(run, np.flatnonzero(~roomy)), key=len, default=run)[1:]
            if len(run) < 4 or along[run[-1]] - along[run[0]] < 0.25:
                continue
            radius = np.minimum(at[run, 3] - INSET_UM - 0.012, wanted)
            ends = np.minimum(along[run] - along[run[0]], along[run[-1]] - along[run])
            radius *= np.sqrt(np.clip((ends + 0.45 * radius) / (radius + 0.02), 0.1, 1.0))
            spare = np.maximum(at[run, 3] - INSET_UM - radius, 0.0)
            side = rng.standard_normal(3)
            side *= rng.uniform(0.2, 0.95) / np.linalg.norm(side)
            worm = np.column_stack([at[run, :3] + spare[:, None] * side, radius])
            others = taken.setdefault(neuron, [])
            if any(_nearer(worm, other, BETWEEN_UM) for other in others):
                continue
            others.append(worm)
            number = len(hosts)
            hosts.append(neuron)
            way = worm[-1, :3] - worm[0, :3] + 0.1 * rng.standard_normal(3)
            if rng.random() < 0.5:  # cristae across, or along
                way = np.cross(way, rng.standard_normal(3))
            way /= np.linalg.norm(way) + 1e-9
            axes.append(
                (*way, rng.uniform(0.042, 0.065), rng.uniform(0, 6.28), rng.uniform(0.6, 1.0))
            )
            for point in worm:
                if add(out, *point, number, 0, 0, -1) < 0:
                    raise MemoryError("more mitochondria than room was made for")
    return out, np.array(axes, np.float32), np.array(hosts, np.int32)


def _nearer(a: np.ndarray, b: np.ndarray, gap: float) -> bool:
    far = np.linalg.norm(a[:, None, :3] - b[None, :, :3], axis=-1)
    return bool((far - a[:, None, 3] - b[None, :, 3] < gap).any())


def _synapses(
    sites: Sites, rng: np.random.Generator, box: np.ndarray
) -> tuple[Sites, np.ndarray, np.ndarray, np.ndarray]:
    """Contacts between a thick part of an axon and a spine or shaft, with vesicles behind."""
    from scipy.spatial import cKDTree

    out = relisted(room_for(box, int(40 * np.prod(box[1] - box[0])) + 500), box, 1.0, 0.0)
    n = int(sites.count[0])
    at, owner, kind = sites.at[:n].astype(float), sites.owner[:n], sites.kind[:n]
    inside = ((at[:, :3] > box[0]) & (at[:, :3] < box[1])).all(1)
    post = np.flatnonzero(inside & (kind != AXON) & (at[:, 3] > 0.07))
    pre = np.flatnonzero(inside & (kind == AXON) & (at[:, 3] > 0.095))
    sides, vesicles, within, centres = [(0, 0)], [], [], []
    if len(post) and len(pre):
        tree = cKDTree(at[post, :3])
        for a in rng.permutation(pre):
            if rng.random() > 0.5:
                continue
            near = post[tree.query_ball_point(at[a, :3], at[a, 3] + 0.55)]
            near = near[owner[near] != owner[a]]
            gaps = np.linalg.norm(at[near, :3] - at[a, :3], axis=1) - at[a, 3] - at[near, 3]
            likely = np.where(kind[near] == SPINE, 1.0, 0.35) * rng.random(len(near))
            likely[gaps >= 0.05] = 0.0
            if not likely.any():
                continue
            best = near[likely.argmax()]
            way = (at[best, :3] - at[a, :3]) / np.linalg.norm(at[best, :3] - at[a, :3])
            centre = 0.5 * (at[a, :3] + way * at[a, 3] + at[best, :3] - way * at[best, 3])
            if len(centres) and np.linalg.norm(np.array(centres) - centre, axis=1).min() < 0.55:
                continue
            centres.append(centre)
            radius = rng.uniform(0.10, 0.19)
            number = len(sides)
            if add(out, *centre, radius, number, 0, 0, -1) < 0:
                break
            sides.append((int(owner[a]), int(owner[best])))
            count = int(rng.uniform(50, 110))
            # A cloud that fills the axon behind the contact.
            axis = at[a, :3] - at[sites.parent[a], :3] if sites.parent[a] >= 0 else way[::-1]
            axis = axis / (np.linalg.norm(axis) + 1e-9)
            disc = rng.standard_normal((count, 3))
            disc -= (disc @ axis)[:, None] * axis
            disc *= (rng.random(count) ** 0.5 / np.linalg.norm(disc, axis=1))[:, None]
            cloud = at[a, :3] + 0.14 * rng.standard_normal((count, 1)) * axis
            cloud = cloud + (at[a, 3] + 0.01 - VESICLE_UM) * disc + 0.02 * way
            vesicles.append(
                np.column_stack(
                    [cloud, rng.normal(VESICLE_UM, 0.0022, count), rng.uniform(0.85, 1.0, count)]
                )
            )
            within.append(np.full(count, owner[a]))
    # Lone vesicles and small endosomes everywhere.
    some = rng.choice(n, n // 5, replace=False) if n > 5 else np.arange(n)
    away = rng.standard_normal((len(some), 3))
    away *= (rng.uniform(0, 0.85, len(some)) ** 0.5 / np.linalg.norm(away, axis=1))[:, None]
    size = np.where(
        rng.random(len(some)) < 0.10,
        rng.uniform(0.03, 0.055, len(some)),
        rng.normal(0.021, 0.004, len(some)),
    )
    room = np.maximum(at[some, 3] - size - 0.02, 0)
    vesicles.append(
        np.column_stack(
            [at[some, :3] + room[:, None] * away, size, rng.uniform(0.5, 1.0, len(some))]
        )
    )
    within.append(owner[some])
    return (
        out,
        np.array(sides, np.int32),
        np.concatenate(vesicles).astype(np.float32),
        np.concatenate(within).astype(np.int32),
    )
