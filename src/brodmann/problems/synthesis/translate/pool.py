"""The images that a generator learns from: surveyed, kept on disk, and cut into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from brodmann.core import DataError, Dataset, Sample, keyed_rng
from brodmann.core.files import written_beside
from brodmann.nets.translation import STRIDE
from brodmann.preprocess import Normalisation, Statistics, image_channels, measure

WIDE = 2
"""Views that a style is read from are so many times wider than a patch."""
PLACES = 64
"""Places of the content that are compared within a patch."""
PRIOR_SHARE = 0.5
"""Share of translations into a random style rather than another image's."""
STAIN = (0.4, 0.1, 0.2)
"""Deviation of log gain, of offset and of log gamma in made-up stains."""
STAINED = 0.5
"""Share of images that are shown in a made-up stain."""
WHOLE = 0.75
"""Share of images whose content is read from all channels rather than from one."""


@dataclass(frozen=True)
class Survey:
    """What is known of a pool before training.

    Attributes
    ----------
    names : tuple of str
    statistics : Statistics
        Mean and deviation of each channel over all images, so that differences in
        brightness between images remain, as style.
    digest : str
        Of names and images; labels do not count.
    ndim : int
    """

    names: tuple[str, ...]
    statistics: Statistics
    digest: str
    ndim: int

    @property
    def channels(self) -> int:
        return len(self.statistics.mean)


def survey(pool: Dataset, advance: Callable[[int, int], None]) -> Survey:
    """Look at every image of a pool once, one at a time.

    Raises
    ------
    DataError
        With fewer than two images, on NaN, or where images differ in channels or axes.
    """
    if len(pool) < 2:
        raise DataError(
            "a translation takes its styles from other images",
            pool.name,
            f"a pool of {len(pool)}",
            "add a second image (it needs no labels)",
        )
    hasher = hashlib.blake2b(digest_size=16)
    counts, means, squares, first = [], [], [], None
    for done, name in enumerate(pool.names, start=1):
        sample = pool[name]
        image, count = sample.image, intensities(sample)
        kind = (count, image.ndim)
        first = first or kind
        if kind != first:
            raise DataError(
                "images of a pool differ in channels or axes",
                name,
                f"{kind[0]} channels in {kind[1]}D, {pool.names[0]} has {first[0]} in {first[1]}D",
                "leave out those that differ",
            )
        found = measure([image], name)
        mean, std = np.array(found.mean[:count]), np.array(found.std[:count])
        counts.append(np.prod(image.spatial_shape))
        means.append(mean)
        squares.append(std**2 + mean**2)
        values = np.ascontiguousarray(image.read()[:count])
        hasher.update(f"{name}\x1f{values.dtype.str}{values.shape}".encode())
        hasher.update(values.data)
        advance(done, len(pool))
    share = np.array(counts, float) / np.sum(counts)
    mean = share @ np.array(means)
    std = np.sqrt(np.maximum(share @ np.array(squares) - mean**2, 0))
    if (std < 1e-8).any():
        raise DataError(
            "a channel is the same everywhere in all images",
            pool.name,
            f"channel {int(np.argmin(std))}",
            "leave it out",
        )
    statistics = Statistics(tuple(map(float, mean)), tuple(map(float, std)))
    return Survey(tuple(pool.names), statistics, hasher.hexdigest(), first[1])


def intensities(sample: Sample) -> int:
    """Channels that can be translated; channels of a prior come after them."""
    return image_channels(sample.image.channels)


def stored(pool: Dataset, folder: Path) -> list[np.ndarray]:
    """Images as memory maps (c, *spatial) in their own dtype, so that a patch is one small read."""
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for index, name in enumerate(pool.names):
        file = folder / f"{index:05d}.npy"
        if not file.exists():
            sample = pool[name]
            with written_beside(file) as beside:
                np.save(beside, sample.image.read()[: intensities(sample)], allow_pickle=False)
        images.append(np.load(file, mmap_mode="r", allow_pickle=False))
    return images


def restained(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(c, *spatial) normalised, in a made-up stain: gain, offset and gamma for each channel."""
    shape = (len(image), *(1,) * (image.ndim - 1))
    gain, offset, gamma = (
        np.float32(scale) * rng.standard_normal(shape, np.float32) for scale in STAIN
    )
    curved = 3 * np.maximum((image + 3) / 3, 0) ** np.exp(gamma) - 3
    return curved * np.exp(gain) + offset


class Batches:
    """Step -> batch, a dict of tensors that depends on (seed, step) alone.

    `image` (n, c, *patch) is to be translated, and `restained` is the same in another stain,
    from which content is read. `own` and `other` (n, c, *2 patch) show other places of the same
    and of another image, in which styles are read: so content says nothing of stain, and style
    nothing of what a patch shows. `real` is the middle of `other`, for the critic. Half of the
    images are in made-up stains, so that styles differ also in a pool of few. `seen` (n, c)
    is 1 for channels that the content is read from: one of them, or all. `target` (n,) are the
    modalities to translate to. `latent` (n, style) holds random codes, used
    where `from_prior`; `places` (n, k) are to be compared, see `contrast`.
    """

    def __init__(
        self,
        images: list[np.ndarray],
        statistics: Statistics,
        patch: tuple[int, ...],
        batch: int,
        style: int,
        seed: int,
    ) -> None:
        self.images, self.statistics, self.patch = images, statistics, patch
        self.batch, self.style, self.seed = batch, style, seed

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        items = [self._item(keyed_rng(self.seed, "batch", step, i)) for i in range(self.batch)]
        return {key: torch.from_numpy(np.stack([item[key] for item in items])) for key in items[0]}

    def _item(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        c = len(self.statistics.mean)
        i, j = rng.choice(len(self.images), 2, replace=False)
        wide = tuple(WIDE * n for n in self.patch)
        image, own, other = (
            self.view(i, self.patch, rng),
            self.view(i, wide, rng),
            self.view(j, wide, rng),
        )
        content = restained(image, rng)
        if rng.random() < STAINED:
            key = rng.integers(2**63)
            image, own = (restained(view, np.random.default_rng(key)) for view in (image, own))
        if rng.random() < STAINED:
            other = restained(other, rng)
        middle = tuple(slice((w - n) // 2, (w - n) // 2 + n) for w, n in zip(wide, self.patch))
        seen = np.ones(c) if rng.random() < WHOLE else np.eye(c)[rng.integers(c)]
        places = int(np.prod([n // STRIDE for n in self.patch]))
        return {
            "image": image,
            "restained": content,
            "own": own,
            "other": other,
            "real": other[(slice(None), *middle)],
            "seen": seen.astype(np.float32),
            "target": rng.integers(c, dtype=np.int64),
            "latent": rng.standard_normal(self.style, np.float32),
            "from_prior": np.bool_(rng.random() < PRIOR_SHARE),
            "places": rng.choice(places, min(PLACES, places), replace=False),
        }

    def view(self, index: int, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """(c, *shape) float32, normalised: of two random places the one that shows more.

        An image that is smaller is mirrored at its far edges.
        """
        views = [self._cut(self.images[index], shape, rng) for _ in range(2)]
        return max(views, key=lambda view: float(view.std()))

    def _cut(
        self, image: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator
    ) -> np.ndarray:
        spatial = image.shape[1:]
        starts = [int(rng.integers(max(0, n - want) + 1)) for n, want in zip(spatial, shape)]
        window = tuple(slice(start, start + want) for start, want in zip(starts, shape))
        view = Normalisation.apply(np.asarray(image[(slice(None), *window)]), self.statistics)
        lack = [(0, want - n) for want, n in zip(shape, view.shape[1:])]
        return np.pad(view, [(0, 0), *lack], mode="symmetric") if np.any(lack) else view
