"""A generator that was trained on a pool: kept in a folder, and run over images of any size."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from brodmann.augment.whole import restored
from brodmann.core import DataError, ModelError, Volume
from brodmann.core.files import write_json, written_beside
from brodmann.nets.translation import STRIDE, Generator
from brodmann.preprocess import Normalisation, Statistics

FORMAT = 2
WEIGHTS, FACTS = "generator.safetensors", "translate.json"
TILE = {2: 512, 3: 64}
"""Voxels along an axis that are made at once, without their surroundings."""
Codes = list[list[float]]
"""A style: one code for each channel."""


@dataclass(frozen=True)
class Fitted:
    """Generator, intensities and styles of one pool.

    Attributes
    ----------
    generator : Generator
        In evaluation mode, on the GPU where there is one.
    statistics : Statistics
        With which the pool was normalised.
    styles : mapping of str to lists
        Of every image of the pool.
    key : str
        Of the pool's content, the options and the seed.
    """

    generator: Generator
    statistics: Statistics
    styles: Mapping[str, Codes]
    key: str

    def save(self, folder: Path) -> None:
        """Write weights, then the facts, without which the weights are not looked at."""
        with written_beside(folder / WEIGHTS) as beside:
            weights = {k: v.cpu().contiguous() for k, v in self.generator.state_dict().items()}
            save_file(weights, beside)
        write_json(
            folder / FACTS,
            {
                "format": FORMAT,
                "key": self.key,
                "mean": self.statistics.mean,
                "std": self.statistics.std,
                "styles": self.styles,
            },
        )

    @classmethod
    def load(cls, folder: Path, generator: Generator, key: str) -> Fitted | None:
        """Read what `save` wrote, into `generator`; None if nothing is there.

        Raises
        ------
        ModelError
            If the files are damaged, or belong to another key.
        """
        if not (folder / FACTS).exists():
            return None
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            if facts["format"] != FORMAT or facts["key"] != key:
                raise ValueError("facts of another generator")
            generator.load_state_dict(load_file(folder / WEIGHTS))
            statistics = Statistics(tuple(facts["mean"]), tuple(facts["std"]))
            styles = dict(facts["styles"])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                "this fitted translation cannot be read",
                folder,
                str(error).split("\n")[0],
                "remove the folder to train it again",
            ) from error
        return cls(ready(generator), statistics, styles, key)

    def code(self, views: np.ndarray) -> Codes:
        """The mean style of normalised views (n, c, *spatial), one code for each channel."""
        codes = []
        with torch.inference_mode():
            image = torch.from_numpy(views).to(self._device)
            for k in range(image.shape[1]):
                which = torch.full((len(image),), k, device=self._device)
                mean = self.generator.style(image[:, k : k + 1], which).mean(0)
                codes.append([round(float(value), 5) for value in mean])
        return codes

    def translate(self, image: Volume, codes: Codes, where: str, tile: int | None = None) -> Any:
        """A whole image in another style.

        It is made in tiles that are cut out of surroundings as wide as the generator looks,
        so that there are no seams, whatever the tile, and memory stays bounded.

        Parameters
        ----------
        image : Volume
            Its first channels are those of the pool; priors after them are left as they are.
        codes : lists of float
            One for each channel.
        where : str
            What to call the image in an error.
        tile : int, optional
            Voxels along an axis made at once, even; by default 512 in 2D and 64 in 3D.

        Returns
        -------
        ndarray
            (c, *spatial) in the image's dtype.

        Raises
        ------
        DataError
            If the image has other channels or axes than the pool, or NaN in it.
        """
        count = len(self.statistics.mean)
        if image.ndim != self.generator.ndim or image.num_channels < count:
            raise DataError(
                f"this translation is for {count} channels in {self.generator.ndim}D",
                where,
                f"{image.num_channels} in {image.ndim}D",
            )
        shape = image.spatial_shape
        result = np.empty((image.num_channels, *shape), image.dtype)
        style = torch.tensor(codes, dtype=torch.float32, device=self._device)
        stats = list(zip(self.statistics.mean, self.statistics.std))
        for core, window in windows(shape, tile or TILE[image.ndim], self.generator.radius):
            raw = image.read(window)
            values = Normalisation.apply(raw[:count], self.statistics)
            if not np.isfinite(values).all():
                raise DataError(
                    "image holds NaN or infinite pixels", where, fix="replace them by numbers"
                )
            made = self._decoded(values, style)
            inner = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(core, window))
            made = restored(made[(slice(None), *inner)], stats, image.dtype)
            result[(slice(None, count), *core)] = made
            result[(slice(count, None), *core)] = raw[(slice(count, None), *inner)]
        return result

    def _decoded(self, values: np.ndarray, style: torch.Tensor) -> np.ndarray:
        odd = [(0, -n % STRIDE) for n in values.shape[1:]]
        padded = np.pad(values, [(0, 0), *odd], mode="edge") if np.any(odd) else values
        with torch.inference_mode():
            image = torch.from_numpy(padded).to(self._device)[None]
            content = self.generator.content(image)
            made = [
                self.generator.decode(content, style[k : k + 1], torch.tensor([k]).to(style.device))
                for k in range(len(style))
            ]
        inside = tuple(slice(n) for n in values.shape[1:])
        return torch.cat(made)[(slice(None), 0, *inside)].cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return next(self.generator.parameters()).device


def ready(generator: Generator) -> Generator:
    """In evaluation mode, on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return generator.to(device).eval().requires_grad_(False)


def windows(
    shape: Sequence[int], tile: int, margin: int
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Tiles that cover a frame, each with the window, `margin` wider, that it is made from.

    >>> [(core[0].start, window[0].stop) for core, window in windows((10,), 4, 2)]
    [(0, 6), (4, 10), (8, 10)]
    """
    axes = []
    for size in shape:
        starts = range(0, size, tile)
        axes.append(
            [
                (
                    slice(start, min(start + tile, size)),
                    slice(max(0, start - margin), min(start + tile + margin, size)),
                )
                for start in starts
            ]
        )
    for sides in itertools.product(*axes):
        core, window = zip(*sides)
        yield core, window
