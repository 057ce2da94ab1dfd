"""Shapes of cells in micrometres: clouds of beads around the centre of the soma."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Beads = np.ndarray
"""(n, 5): z, y, x, sigma in um, and light (um3 of substance of brightness 1)."""
STEP_UM = 1.1


def _directions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors that keep away from each other, (count, 3)."""
    many = rng.standard_normal((24 * count, 3))
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    taken = [many[0]]
    while len(taken) < count:
        # The candidate, of a few, that is furthest from those taken.
        some = many[rng.integers(0, len(many), 4)]
        taken.append(some[np.argmin((some @ np.array(taken).T).max(1))])
    return np.array(taken)


def _rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return q * np.sign(np.diag(r))


def soma(
    rng: np.random.Generator,
    axes: tuple[float, float, float],
    brightness: float = 1.0,
    core: float = 1.0,
    core_share: float = 0.0,
    mottle: float = 0.2,
) -> Beads:
    """An ellipsoid of half axes in um; its nucleus (`core_share` of the radius) `core` bright."""
    count = 130
    ball = rng.standard_normal((count, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    radius = ((np.arange(count) + rng.random(count)) / count) ** (1 / 3)
    light = np.where(radius < core_share, core, 1.0) * rng.gamma(1 / mottle**2, mottle**2, count)
    # Beads are wide: so drawn in, the edge comes out at the radius.
    at = (ball * (0.88 * radius)[:, None] * axes) @ _rotation(rng).T
    at -= np.average(at, axis=0, weights=light)
    volume = 4 / 3 * np.pi * float(np.prod(axes))
    sigma = np.full(count, 0.26 * float(np.prod(axes)) ** (1 / 3))
    return np.column_stack([at, sigma, light * (brightness * volume / count)])


def process(
    rng: np.random.Generator,
    start: np.ndarray,
    direction: np.ndarray,
    length: float,
    radii: tuple[float, float],
    brightness: float,
    wander: float = 0.25,
    beading: float = 0.3,
    branches: tuple[int, ...] = (),
    spread: float = 0.8,
) -> list[np.ndarray]:
    """A process that tapers, wanders and forks; `branches`: how many at each order."""
    count = max(2, round(length / STEP_UM))
    at, heading = np.array(start, float), np.array(direction, float)
    heading /= np.linalg.norm(heading)
    forks: dict[int, int] = {}
    if branches:
        for place in rng.integers(count // 4, count, branches[0]):
            forks[int(place)] = forks.get(int(place), 0) + 1
    rows, more = np.empty((count, 5)), []
    bead = rng.gamma(1 / beading**2, beading**2, count)
    for i in range(count):
        share = i / (count - 1)
        radius = radii[0] + (radii[1] - radii[0]) * share
        rows[i] = *at, 0.6 * radius, np.pi * radius**2 * STEP_UM * brightness * bead[i]
        for _ in range(forks.get(i, 0)):
            turn = rng.standard_normal(3)
            turn -= heading * (turn @ heading)
            turn /= np.linalg.norm(turn)
            tip = (1 - share) * length * rng.uniform(0.5, 0.9) + 4
            more += process(
                rng, at, heading + spread * turn, tip, (0.85 * radius, radii[1]), brightness,
                wander, beading, branches[1:], spread,
            )  # fmt: skip
        heading = heading + wander * rng.standard_normal(3) * np.sqrt(STEP_UM / 3)
        heading /= np.linalg.norm(heading)
        at = at + heading * STEP_UM
    return [rows, *more]


def neun(rng: np.random.Generator) -> Beads:
    """Nucleus and soma filled, nucleus brighter; some with the stub of an apical dendrite."""
    r = rng.uniform(4.2, 6.2)
    axes = (r * rng.uniform(0.9, 1.1), r * rng.uniform(0.85, 1.0), r * rng.uniform(1.0, 1.25))
    parts = [soma(rng, axes, 0.8, core=1.6, core_share=0.62)]
    if rng.random() < 0.5:
        ahead = _directions(rng, 1)[0]
        parts += process(rng, 0.8 * r * ahead, ahead, rng.uniform(5, 11), (1.9, 0.7), 0.6)
    return np.concatenate(parts)


def cfos(rng: np.random.Generator) -> Beads:
    """A nucleus, nothing else."""
    r = rng.uniform(3.0, 4.3)
    axes = (r * rng.uniform(0.85, 1.1), r * rng.uniform(0.85, 1.1), r * rng.uniform(0.95, 1.25))
    return soma(rng, axes, 1.0, mottle=0.45)


def pv(rng: np.random.Generator) -> Beads:
    """A filled soma and the first stretch of its dendrites."""
    r = rng.uniform(5.5, 7.5)
    parts = [soma(rng, (r, r * rng.uniform(0.8, 1.0), r * rng.uniform(1.0, 1.35)))]
    for ahead in _directions(rng, int(rng.integers(3, 7))):
        parts += process(
            rng, 0.8 * r * ahead, ahead, rng.uniform(14, 38), (1.6, 0.45), 0.9, 0.22, 0.4, (1,), 0.7
        )
    return np.concatenate(parts)


def th(rng: np.random.Generator) -> Beads:
    """A large soma with a dark nucleus, drawn out into two to four thick dendrites."""
    r = rng.uniform(6.5, 8.5)
    axes = (r * 0.9, r * rng.uniform(0.75, 0.95), r * rng.uniform(1.15, 1.6))
    parts = [soma(rng, axes, 1.0, core=0.35, core_share=0.55)]
    for ahead in _directions(rng, int(rng.integers(2, 5))):
        parts += process(
            rng, 0.8 * r * ahead, ahead, rng.uniform(25, 48), (2.2, 0.6), 0.8, 0.18, 0.3, (1,), 0.6
        )
    return np.concatenate(parts)


def iba1(rng: np.random.Generator) -> Beads:
    """A small, often drawn-out soma and thin processes that fork two or three times."""
    r = rng.uniform(3.5, 4.8)
    parts = [soma(rng, (r, r * rng.uniform(0.75, 1.0), r * rng.uniform(1.1, 1.8)))]
    for ahead in _directions(rng, int(rng.integers(5, 9))):
        parts += process(
            rng, 0.7 * r * ahead, ahead, rng.uniform(16, 30), (0.9, 0.35), 1.5, 0.42, 0.55,
            (2, 1), 0.9,
        )  # fmt: skip
    return np.concatenate(parts)


def gfap(rng: np.random.Generator) -> Beads:
    """A faint soma; straight, bright processes thickest at the soma, in all directions."""
    parts = [soma(rng, (3.4, 3.2, 3.8), 0.2)]
    for ahead in _directions(rng, int(rng.integers(6, 12))):
        parts += process(
            rng, 4.2 * ahead, ahead, rng.uniform(16, 36), (0.85, 0.4), 4.6, 0.15, 0.25, (1, 1), 0.6
        )
    return np.concatenate(parts)


def debris(rng: np.random.Generator) -> Beads:
    """A speck or a splinter, smaller than a cell."""
    speck = soma(rng, (0.9, rng.uniform(0.7, 1.3), rng.uniform(0.7, 1.6)), 9.0)
    if rng.random() < 0.3:
        ahead = _directions(rng, 1)[0]
        return np.concatenate([speck, *process(rng, -6 * ahead, ahead, 13, (0.6, 0.5), 6.0, 0.3)])
    return speck


SHAPES: dict[str, Callable[[np.random.Generator], Beads]] = {
    "NeuN": neun,
    "cFos": cfos,
    "PV": pv,
    "TH": th,
    "Iba1": iba1,
    "GFAP": gfap,
    "debris": debris,
}
"""By marker: draws the beads of one cell."""
