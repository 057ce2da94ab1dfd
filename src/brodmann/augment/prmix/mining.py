"""Hard-sample mining: how much alike the label maps of a pool are, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brodmann.augment.base import Progress
from brodmann.augment.regions import Regions
from brodmann.core import DataError, Dataset
from brodmann.core.files import make_folder, written_beside

SIDE = {2: 512, 3: 128}
"""Longest side, in pixels, of the label maps that are compared, by dimensions."""
EASY_SHARE = 0.2
CHUNK = 1 << 16


def pair_scores(
    pool: Dataset, folder: Path | None = None, progress: Progress | None = None
) -> np.ndarray:
    """Mask-overlap score of every two samples, (n, n) float64 in 0..1.

    The mean, over the primary regions that both hold, of the Dice of their masks; 0 where they
    share none. Label maps are shrunk to the nearest pixel on one common grid (512 pixels on
    the longest side, 128 in 3D) with their centres together, so that sizes still differ.

    Parameters
    ----------
    pool : Dataset
        Labelled samples, in any sizes and spacings.
    folder : Path, optional
        Keeps the scores under a hash of the shrunken maps, and gives them back.
    progress : callable, optional

    Source: Yuan et al. 2026 (PRMix), section 4.2, whose score is not defined further; that it
    is the mean Dice over shared regions is our decision.

    Example
    -------
    >>> from brodmann.datasets.phantoms.sections import phantom_sections
    >>> scores = pair_scores(phantom_sections(3, 1, (32, 64), subregions=4, primary=2))
    >>> scores.shape, bool(np.allclose(scores, scores.T)), float(scores[1, 1])
    ((3, 3), True, 1.0)
    """
    regions = Regions.of_pool(pool)
    maps = thumbnails(pool, regions, progress)
    if folder is None:
        return mask_overlap(maps, len(regions))
    # Of the content alone, so that the same maps are compared once.
    from hashlib import blake2b

    digest = blake2b(np.ascontiguousarray(maps).data, digest_size=10)
    digest.update(repr((maps.shape, len(regions))).encode())
    file = make_folder(folder) / f"overlap-{digest.hexdigest()}.npy"
    if file.exists():
        try:
            kept = np.load(file, allow_pickle=False)
            if kept.shape == (len(maps), len(maps)):
                return kept
        except (OSError, ValueError):
            pass  # Damaged: found anew below.
    scores = mask_overlap(maps, len(regions))
    with written_beside(file) as beside:
        np.save(beside, scores, allow_pickle=False)
    return scores


def thumbnails(pool: Dataset, regions: Regions, progress: Progress | None = None) -> np.ndarray:
    """Region numbers of every sample on one small common grid, (n, *small) uint8."""
    extents = []
    for name in pool.names:
        volume = pool[name].image
        extents.append(np.array(volume.spatial_shape) * np.array(volume.spacing))
        if len(extents[-1]) != len(extents[0]):
            raise DataError("sections and volumes cannot be mixed", name)
    most = np.max(extents, axis=0)
    step_um = most.max() / SIDE[len(most)]
    grid = [max(1, int(np.ceil(size / step_um))) for size in most]
    maps = np.zeros((len(pool), *grid), np.uint8)
    for i, name in enumerate(pool.names):
        sample = pool[name]
        if sample.labels is None:
            raise DataError("mining needs labels of every sample", name)
        picks, places = [], []
        for n, spacing, side in zip(sample.labels.spatial_shape, sample.labels.spacing, grid):
            # Centres together: grid pixel -> source pixel.
            pick = np.floor((np.arange(side) + 0.5 - side / 2) * step_um / spacing + n / 2)
            inside = (pick >= 0) & (pick < n)
            picks.append(pick[inside].astype(int))
            places.append(np.flatnonzero(inside))
        ids = sample.labels.numpy()[np.ix_(*picks)]
        maps[i][np.ix_(*places)] = regions.of(ids)
        if progress is not None:
            progress("rank pairs", i + 1, len(pool), "")
    return maps


def mask_overlap(maps: np.ndarray, count: int) -> np.ndarray:
    """The scores of maps of region numbers, (n, *shape) -> (n, n) float64."""
    flat = maps.reshape(len(maps), -1)
    total, shared = np.zeros((len(maps),) * 2), np.zeros((len(maps),) * 2)
    for number in range(1, count + 1):
        hits = np.zeros((len(maps),) * 2)
        for start in range(0, flat.shape[1], CHUNK):
            # In float32 counts of a chunk are exact.
            mask = (flat[:, start : start + CHUNK] == number).astype(np.float32)
            if mask.any():
                hits += mask @ mask.T
        area = np.diag(hits)
        both = (area[:, None] > 0) & (area[None] > 0)
        total += np.where(both, 2 * hits / np.maximum(area[:, None] + area[None], 1), 0)
        shared += both
    return total / np.maximum(shared, 1)


def easy_and_hard(scores: np.ndarray, target: int) -> tuple[list[int], list[int]]:
    """The other samples by likeness: the most alike fifth (at least one), and the rest.

    >>> easy_and_hard(np.array([[1, 0.2, 0.9], [0.2, 1, 0.4], [0.9, 0.4, 1]]), 0)
    ([2], [1])
    """
    order = np.argsort(-scores[target], kind="stable")
    others = [int(i) for i in order if i != target]
    few = max(1, round(EASY_SHARE * len(others)))
    return others[:few], others[few:]


def draw_partners(
    rng: np.random.Generator,
    scores: np.ndarray,
    target: int,
    count: int,
    hard_fraction: float,
) -> list[int]:
    """Different partners, each out of the hard ones with probability `hard_fraction`.

    Where one kind is used up the other serves.
    """
    kinds: Sequence[list[int]] = easy_and_hard(scores, target)
    easy, hard = (list(kind) for kind in kinds)
    found: list[int] = []
    while len(found) < count and (easy or hard):
        wanted = hard if rng.random() < hard_fraction else easy
        kind = wanted or easy or hard
        found.append(kind.pop(int(rng.integers(len(kind)))))
    return found
