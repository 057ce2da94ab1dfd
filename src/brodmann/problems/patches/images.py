"""Image stacks: all images of a dataset in one array, and the views that are cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brodmann.core import DataError, Dataset, RecipeError, Volume


@dataclass(frozen=True, eq=False)
class Stack:
    """Images of one size, what they show, and how they are normalised.

    Attributes
    ----------
    images : (n, c, h, w) array
        In their own dtype; normalised when views are cut.
    categories : (n,) int64
        Index into `names`; -1 where a sample has none.
    names : tuple of str
        The categories, in the order of the net's answers.
    groups : tuple of str
        The subject of each image.
    mean, deviation : float
        Of the training images, in their own units.
    """

    images: np.ndarray
    categories: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str, ...]
    mean: float
    deviation: float

    def __len__(self) -> int:
        return len(self.images)

    @property
    def side(self) -> tuple[int, int]:
        return self.images.shape[-2], self.images.shape[-1]

    def normalised(self, values: np.ndarray) -> np.ndarray:
        """float32 with mean 0 and deviation 1 over the training images."""
        return (values.astype(np.float32) - np.float32(self.mean)) / np.float32(self.deviation)


def stack_of(
    dataset: Dataset,
    names: Sequence[str] | None = None,
    *,
    mean: float | None = None,
    deviation: float | None = None,
) -> Stack:
    """Read all images of a dataset into one array.

    Parameters
    ----------
    dataset : Dataset
        Samples of two spatial axes and one size.
    names : sequence of str, optional
        The categories in their order; those of the dataset, sorted, where not given.
    mean, deviation : float, optional
        In the images' own units; measured where not given.

    Raises
    ------
    DataError
        If there is no image, sizes differ, or a category is none of `names`.
    """
    if not len(dataset):
        raise DataError("no images to learn from", dataset.name)
    images, found, groups = [], [], []
    for sample in dataset:
        images.append(channels_first(sample.image, sample.name))
        found.append(sample.category)
        groups.append(sample.subject)
        if images[-1].shape != images[0].shape:
            raise DataError(
                "images of one size are needed",
                sample.name,
                f"{images[-1].shape[1:]}, the first is {images[0].shape[1:]}",
                "cut them to one size",
            )
    names = tuple(names or sorted({c for c in found if c is not None}))
    index = {name: i for i, name in enumerate(names)} | {None: -1}
    unknown = sorted({c for c in found if c not in index})
    if unknown:
        raise DataError(
            "categories that are not among the task's", dataset.name, ", ".join(unknown[:5])
        )
    array = np.stack(images)
    mean = float(array.mean(dtype=np.float64)) if mean is None else mean
    deviation = float(array.std(dtype=np.float64)) if deviation is None else deviation
    if deviation <= 0:
        raise DataError("the images are all of one value", dataset.name, array.flat[0])
    categories = np.array([index[c] for c in found], np.int64)
    return Stack(array, categories, names, tuple(groups), mean, deviation)


def channels_first(image: Volume, where: str) -> np.ndarray:
    """(c, h, w) of an image of two spatial axes."""
    if image.ndim != 2:
        raise DataError("images of two spatial axes are needed", where, image.axes)
    values = image.numpy()
    return values if image.axes.startswith("c") else values[None]


@dataclass(frozen=True)
class Views:
    """How a view is cut from an image; a batch of views is drawn at once, each its own.

    Attributes
    ----------
    crop : float
        Side of a view as a share of the image's; the paper crops half.
    mirror, turn : bool
        Random mirroring; random exchange of the axes of square views.
    gain, offset : float
        A view is multiplied by 1 + N(0, gain) and shifted by N(0, offset) deviations.
    noise : float
        Deviation of white noise, drawn for each view from 0 up to this.
    blur : float
        Views are blended with their 3 x 3 mean by a weight drawn from 0 up to this.

    Example
    -------
    >>> stack = Stack(np.zeros((3, 1, 8, 8), np.uint8), np.zeros(3, int), ("a",), ("s",) * 3, 0, 1)
    >>> Views(crop=0.5).cut(stack, np.array([0, 2]), np.random.default_rng(0)).shape
    (2, 1, 4, 4)
    """

    crop: float = 0.5
    mirror: bool = False
    turn: bool = False
    gain: float = 0.0
    offset: float = 0.0
    noise: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise RecipeError("a crop is a share of the image, above 0 to 1", "crop", self.crop)
        for name in ("gain", "offset", "noise", "blur"):
            if getattr(self, name) < 0:
                raise RecipeError("this cannot be negative", name, getattr(self, name))

    def check(self, side: tuple[int, int]) -> None:
        """Refuse what images of this size cannot bear."""
        if self.turn and len(set(self.shape(side))) > 1:
            raise RecipeError("only square views can be turned", "turn", self.shape(side))

    def shape(self, side: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a view of an image of this size."""
        return tuple(max(1, round(n * self.crop)) for n in side)  # type: ignore[return-value]

    def cut(self, stack: Stack, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One view of each image named by `which`: (len(which), c, h, w) float32, normalised."""
        n, (height, width) = len(which), self.shape(stack.side)
        top = rng.integers(0, stack.side[0] - height + 1, n)
        left = rng.integers(0, stack.side[1] - width + 1, n)
        rows = (top[:, None] + np.arange(height))[:, None, :, None]
        columns = (left[:, None] + np.arange(width))[:, None, None, :]
        channels = np.arange(stack.images.shape[1])[None, :, None, None]
        views = stack.normalised(
            stack.images[np.asarray(which)[:, None, None, None], channels, rows, columns]
        )
        if self.mirror:
            for axis in (-2, -1):
                chosen = rng.random(n) < 0.5
                views[chosen] = np.flip(views[chosen], axis)
        if self.turn:
            # With the mirrors, exchanging the axes makes all eight ways to lay a square.
            chosen = rng.random(n) < 0.5
            views[chosen] = views[chosen].swapaxes(-1, -2)
        return self._shaded(views, rng)

    def _shaded(self, views: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        def each(values: np.ndarray) -> np.ndarray:
            return values.astype(np.float32)[:, None, None, None]

        n = len(views)
        if self.blur:
            from scipy.ndimage import uniform_filter

            share = each(self.blur * rng.random(n))
            views += share * (uniform_filter(views, (1, 1, 3, 3), mode="nearest") - views)
        if self.gain:
            views *= each(1 + self.gain * rng.standard_normal(n))
        if self.offset:
            views += each(self.offset * rng.standard_normal(n))
        if self.noise:
            strength = each(self.noise * rng.random(n))
            views += strength * rng.standard_normal(views.shape, np.float32)
        return views


def corners(values: np.ndarray, shape: tuple[int, int]) -> list[np.ndarray]:
    """The four corner views (n, c, *shape) of images (n, c, h, w); one where they are all alike.

    Source: how the paper tests (appendix 3.1.2).
    """
    height, width = values.shape[-2:]
    places = dict.fromkeys(
        (top, left) for top in (0, height - shape[0]) for left in (0, width - shape[1])
    )
    return [values[..., y : y + shape[0], x : x + shape[1]] for y, x in places]


def eight_ways(values: np.ndarray) -> list[np.ndarray]:
    """Square images (n, c, h, h) mirrored and turned: all ways to lay them, as they are first.

    >>> len({way.tobytes() for way in eight_ways(np.arange(9.0).reshape(1, 1, 3, 3))})
    8
    """
    if values.shape[-1] != values.shape[-2]:
        raise RecipeError("only square views can be turned", "turned", values.shape[-2:])
    both = values, values.swapaxes(-1, -2)
    return [np.flip(way, axes) for way in both for axes in ((), (-1,), (-2,), (-2, -1))]
