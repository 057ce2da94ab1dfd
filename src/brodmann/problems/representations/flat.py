"""Representations without a net: PCA and NMF of the pixels, and histograms of texture."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from brodmann.core import RecipeError
from brodmann.problems.patches.images import Stack


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warning of NMF each time that it stops at `rounds`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass
class Flat:
    """PCA or NMF of flattened images, fitted on training images alone.

    Parameters
    ----------
    method : "pca" or "nmf"
    size : int
        Length of the representation; less where there are fewer images or pixels.
    rounds : int
        Most iterations of NMF.

    Source: Task 1 of the MTNeuro paper (256 numbers an image).

    Example
    -------
    >>> stack = Stack(np.random.default_rng(0).integers(0, 255, (9, 1, 4, 4)).astype(np.uint8),
    ...     np.zeros(9, int), ("a",), ("s",) * 9, 128.0, 60.0)
    >>> Flat("pca", size=3).fit(stack).encode(stack.images).shape
    (9, 3)
    """

    method: Literal["pca", "nmf"]
    size: int = 256
    rounds: int = 200
    fitted: Any = field(default=None, repr=False)

    def fit(self, stack: Stack, seed: int = 0, **_: Any) -> Flat:
        """Learn the components."""
        from sklearn.decomposition import NMF, PCA

        rows = self._rows(stack.images)
        size = min(self.size, *rows.shape)
        if self.method == "pca":
            self.fitted = PCA(size, random_state=seed)
        elif self.method == "nmf":
            if rows.min() < 0:
                raise RecipeError("NMF needs intensities from 0 up", "method", self.method)
            self.fitted = NMF(size, init="nndsvda", max_iter=self.rounds, random_state=seed)
        else:
            raise RecipeError("no such method", "method", self.method, "pca or nmf")
        with quiet():
            self.fitted.fit(rows)
        if self.method == "pca":
            self._drop_empty(rows)
        return self

    def _drop_empty(self, rows: np.ndarray) -> None:
        """Take out components along which the training images do not differ.

        There is one at least where there are as many components as images. A readout that
        scales its features to unit deviation would blow up what other images have there.
        """
        values = self.fitted.singular_values_
        held = values > values[0] * max(rows.shape) * np.finfo(rows.dtype).eps
        self.fitted.components_ = self.fitted.components_[held]
        self.fitted.explained_variance_ = self.fitted.explained_variance_[held]
        self.fitted.n_components_ = int(held.sum())

    def encode(self, images: np.ndarray) -> np.ndarray:
        """(n, c, h, w) as recorded -> (n, size) float32."""
        with quiet():
            return self.fitted.transform(self._rows(images)).astype(np.float32)

    @staticmethod
    def _rows(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


@dataclass
class Texture:
    """Histograms of intensities and of gradients at several scales: a baseline that is hard to beat.

    Parameters
    ----------
    bins : int
        Of each histogram; its edges are quantiles of the training images.
    sigmas : sequence of float
        Scales in pixels at which gradient magnitude and Laplacian are taken.
    coarse : int
        Images are averaged over squares of this many pixels a side first; `sigmas` then are in
        such squares.
    """

    bins: int = 16
    sigmas: tuple[float, ...] = (1.0, 2.0, 4.0)
    coarse: int = 1
    edges: list[np.ndarray] = field(default_factory=list, repr=False)

    def fit(self, stack: Stack, seed: int = 0, **_: Any) -> Texture:
        """Take the histograms' edges from the training images."""
        shares = np.linspace(0, 1, self.bins + 1)[1:-1]
        self.edges = [np.quantile(map_, shares) for map_ in self._maps(stack.images)]
        return self

    def encode(self, images: np.ndarray) -> np.ndarray:
        """(n, c, h, w) -> (n, maps x bins) float32, each histogram a share of the pixels."""
        found = []
        for map_, edges in zip(self._maps(images), self.edges):
            places = np.searchsorted(edges, map_.reshape(len(images), -1))
            rows = np.arange(len(images))[:, None] * self.bins
            counts = np.bincount((rows + places).ravel(), minlength=len(images) * self.bins)
            found.append(counts.reshape(len(images), self.bins) / places.shape[1])
        return np.concatenate(found, 1).astype(np.float32)

    def _maps(self, images: np.ndarray) -> list[np.ndarray]:
        from scipy.ndimage import gaussian_filter, gaussian_laplace

        values = images.astype(np.float32)
        if self.coarse > 1:
            n, c, h, w = values.shape
            side = self.coarse
            values = values[..., : h // side * side, : w // side * side]
            values = values.reshape(n, c, h // side, side, w // side, side).mean((3, 5))
        maps = [values]
        for sigma in self.sigmas:
            flat = (0, 0, sigma, sigma)
            rows = gaussian_filter(values, flat, order=(0, 0, 1, 0))
            columns = gaussian_filter(values, flat, order=(0, 0, 0, 1))
            maps += [np.hypot(rows, columns), _laplace(values, gaussian_laplace, sigma)]
        return maps


def _laplace(values: np.ndarray, laplace: Any, sigma: float) -> np.ndarray:
    return np.stack([[laplace(plane, sigma) for plane in image] for image in values])
