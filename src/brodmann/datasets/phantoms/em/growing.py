"""Growing neurites: walks that keep clear of each other, branches, spines, ridges; compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

from brodmann.datasets.phantoms.em.packing import add, clearance, forget

TRIALS = 8
"""Directions tried at each step."""
GAP_UM = 0.012
"""Room kept between two tubes."""
SHAFT, AXON, SPINE = 0, 1, 2


@njit(cache=True, inline="always")
def uniform(state):  # pragma: no cover (compiled)
    """The next number in 0..1 of a splitmix64 stream; the same on every machine."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def direction(state, out):  # pragma: no cover (compiled)
    """A unit vector, all directions alike."""
    z = 2 * uniform(state) - 1
    turn = 2 * np.pi * uniform(state)
    s = np.sqrt(max(0.0, 1 - z * z))
    out[0], out[1], out[2] = z, s * np.cos(turn), s * np.sin(turn)


@njit(cache=True)
def walk(
    sites, state, start, heading, parent, owner, path, kind, target, least, wander, length, box
):  # pragma: no cover (compiled)
    """Grow one chain from `start` until it leaves the box, is stuck or long enough.

    `target` is the radius it wants, `least` the one it dies below, `wander` how much it turns
    per um. Returns the sites added.
    """
    p, way, trial, best = start.copy(), heading.copy(), np.empty(3), np.empty(3)
    added, gone, swell = 0, 0.0, 1.0
    noise = np.empty(3)
    radius = target
    while gone < length:
        step = min(max(0.4 * radius, 0.028), 0.10)
        top, room = -1e9, 0.0
        for trial_number in range(TRIALS):
            direction(state, noise)
            turn = np.sqrt(wander * step) * (0.6 + 0.5 * trial_number)
            for a in range(3):
                trial[a] = way[a] + turn * noise[a]
            size = np.sqrt(trial[0] ** 2 + trial[1] ** 2 + trial[2] ** 2)
            along = 0.0
            for a in range(3):
                trial[a] /= size
                along += trial[a] * way[a]
            # Looking a little ahead keeps thin processes out of dead ends.
            ahead = step + 0.6 * target
            near = clearance(
                sites, p[0] + step * trial[0], p[1] + step * trial[1], p[2] + step * trial[2], owner
            )
            far = clearance(
                sites,
                p[0] + ahead * trial[0],
                p[1] + ahead * trial[1],
                p[2] + ahead * trial[2],
                owner,
            )
            want = 1.15 * target + GAP_UM
            score = min(near, want) + 0.7 * min(far, want) + 0.5 * target * along
            if near - GAP_UM >= least and score > top:
                top, room = score, near - GAP_UM
                best[:] = trial
        if top < -1e8:
            break
        for a in range(3):
            p[a] += step * best[a]
        way[:] = best
        swell += 0.25 * (1.0 - swell) * step / 0.4 + 0.55 * np.sqrt(step) * (uniform(state) - 0.5)
        swell = min(max(swell, 0.65), 1.5)
        radius = min(max(target * swell, least), room, 1.3 * radius + 0.01)
        parent = add(sites, p[0], p[1], p[2], radius, owner, path, kind, parent)
        if parent < 0:
            break
        added += 1
        gone += step
        inside = True
        for a in range(3):
            if p[a] < box[0, a] or p[a] > box[1, a]:
                inside = False
        if not inside:
            break
    return added


@njit(cache=True)
def grow(sites, state, box, low_r, high_r, least, wander, fill, tries, kind, shortest):
    # pragma: no cover (compiled)
    """New neurites until the tubes fill a share of the box, or no start is found in `tries`.

    Returns the share filled by these.
    """
    start, heading, back = np.empty(3), np.empty(3), np.empty(3)
    whole = 1.0
    for a in range(3):
        whole *= box[1, a] - box[0, a]
    volume, failed = 0.0, 0
    while failed < tries and volume < fill * whole:
        target = low_r * (high_r / low_r) ** uniform(state)
        for a in range(3):
            start[a] = box[0, a] + uniform(state) * (box[1, a] - box[0, a])
        owner, path = sites.count[2] + 1, sites.count[3]
        room = clearance(sites, start[0], start[1], start[2], owner)
        if room - GAP_UM < max(least, 0.75 * min(target, 0.3)):
            failed += 1
            continue
        direction(state, heading)
        back[:] = -heading
        before_sites, before_nodes = sites.count[0], sites.count[1]
        radius = min(target, room - GAP_UM)
        first = add(sites, start[0], start[1], start[2], radius, owner, path, kind, -1)
        if first < 0:
            break
        n = walk(
            sites, state, start, heading, first, owner, path, kind,
            target, least, wander, 1e9, box,
        )  # fmt: skip
        n += walk(
            sites, state, start, back, first, owner, path + 1, kind,
            target, least, wander, 1e9, box,
        )  # fmt: skip
        length = 0.0
        for s in range(before_sites + 1, sites.count[0]):
            q = sites.parent[s]
            step = 0.0
            for a in range(3):
                step += (sites.at[s, a] - sites.at[q, a]) ** 2
            length += np.sqrt(step)
        if length < shortest:
            forget(sites, before_sites, before_nodes)
            failed += 1
            continue
        failed = 0
        sites.count[2] += 1
        sites.count[3] += 2
        for s in range(before_sites, sites.count[0]):
            r = sites.at[s, 3]
            volume += np.pi * r * r * length / (sites.count[0] - before_sites)
    return volume / whole


@njit(cache=True)
def branch(sites, state, box, per_um, low_r, high_r, least, wander, length, head_r, kind, only):
    # pragma: no cover (compiled)
    """Side branches from the shafts that are there, of the same neuron; how many.

    `head_r` above 0 ends each in a bulb (a spine). `only` is the kind of site to start from.
    """
    last, made = sites.count[0], 0
    noise, start, way, heading = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    bulb = np.empty(3)
    for s in range(last):
        q = sites.parent[s]
        if q < 0 or sites.kind[s] != only:
            continue
        step = 0.0
        for a in range(3):
            start[a] = sites.at[s, a]
            way[a] = sites.at[s, a] - sites.at[q, a]
            step += way[a] * way[a]
        step = np.sqrt(step)
        if uniform(state) > per_um * step or step == 0:
            continue
        direction(state, noise)
        dot = (noise[0] * way[0] + noise[1] * way[1] + noise[2] * way[2]) / step
        size = 0.0
        for a in range(3):
            heading[a] = noise[a] - dot * way[a] / step
            size += heading[a] ** 2
        size = np.sqrt(size) + 1e-9
        for a in range(3):
            heading[a] /= size
        owner, path = sites.owner[s], sites.count[3]
        before_sites, before_nodes = sites.count[0], sites.count[1]
        target = low_r * (high_r / low_r) ** uniform(state)
        long = sites.at[s, 3] + length * (0.5 + uniform(state))
        n = walk(
            sites, state, start, heading, s, owner, path, kind,
            min(target, sites.at[s, 3]), least, wander, long, box,
        )  # fmt: skip
        end = sites.count[0] - 1
        out = 0.0
        for a in range(3):
            out += (sites.at[end, a] - sites.at[s, a]) ** 2
        if n < 3 or np.sqrt(out) < sites.at[s, 3] + 0.6 * min(length, 0.5):
            forget(sites, before_sites, before_nodes)
            continue
        if head_r > 0:
            for a in range(3):
                bulb[a] = sites.at[end, a]
            room = clearance(sites, bulb[0], bulb[1], bulb[2], owner) - GAP_UM
            r = min(head_r * (0.7 + 0.6 * uniform(state)), room)
            if r > sites.at[end, 3]:
                add(sites, bulb[0], bulb[1], bulb[2], r, owner, path, kind, end)
        sites.count[3] += 1
        made += 1
    return made


@njit(cache=True)
def ridges(sites, state, share):  # pragma: no cover (compiled)
    """Smaller spheres half outside the larger ones, so that sections are not round."""
    last = sites.count[0]
    side, noise = np.zeros(3), np.zeros(3)
    path = -1
    for s in range(last):
        r = sites.at[s, 3]
        if sites.kind[s] == SPINE:
            continue
        if sites.path[s] != path:
            path = sites.path[s]
            direction(state, side)
        direction(state, noise)
        size = 0.0
        for a in range(3):
            side[a] += 0.22 * noise[a]
            size += side[a] ** 2
        size = np.sqrt(size) + 1e-9
        for a in range(3):
            side[a] /= size
        # On one side or on both: ridges, and flat processes.
        for sign in (1.0, -1.0):
            if uniform(state) > share:
                continue
            far = sign * r * (0.6 + 0.8 * uniform(state))
            z = sites.at[s, 0] + far * side[0]
            y = sites.at[s, 1] + far * side[1]
            x = sites.at[s, 2] + far * side[2]
            room = clearance(sites, z, y, x, sites.owner[s]) - 0.5 * GAP_UM
            small = min(0.62 * r, room)
            # It overlaps its neurite, so that the two are one piece.
            if small > max(0.025, 0.2 * r) and abs(far) < r + 0.8 * small:
                add(sites, z, y, x, small, sites.owner[s], -2, sites.kind[s], s)
