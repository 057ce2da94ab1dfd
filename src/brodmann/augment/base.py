"""What every augmentation is: parameters drawn once, saved, and applied as often as one likes."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from brodmann.core import DataError, Dataset, LabelMap, RecipeError, Registry, Sample, nearest

Params = dict[str, Any]
"""The outcome of one draw: only dicts, lists, strings, numbers, booleans and None."""
Progress = Callable[[str, int, int, str], None]
"""Called as (what, done, total, note) while work goes on."""

AUGMENTATIONS: Registry[type[Augmentation]] = Registry(
    "augmentation",
    {
        "none": "brodmann.augment.base:Unchanged",
        "classical": "brodmann.augment.classical:Classical",
        "em": "brodmann.augment.em:EM",
        "morph": "brodmann.augment.morph:Morph",
        "mixup": "brodmann.augment.mixup:MixUp",
        "cutmix": "brodmann.augment.cutmix:CutMix",
        "carvemix": "brodmann.augment.carvemix:CarveMix",
        "prmix": "brodmann.augment.prmix.method:PRMix",
    },
)


class CannotDraw(DataError):
    """This target allows no such augmentation (no partner, no region to paste, ...).

    `expand` counts and reports such cases; a loader gives the sample unchanged.
    """


@dataclasses.dataclass(frozen=True)
class Augmentation(ABC):
    """A way to make one more sample out of a target and, for mixing methods, a pool.

    A subclass is a frozen dataclass whose fields are the options of a recipe; fields that
    begin with an underscore are none: they hold what `fitted` found. `draw` makes every
    random choice; `apply` is a plain function of the parameters and the samples that
    they name, so that the same draw gives the same bytes online, offline and on replay.
    """

    name: ClassVar[str]
    learns: ClassVar[bool] = False
    """Whether `apply` needs what `fitted` found, and not `draw` alone."""

    def fitted(
        self,
        pool: Dataset,
        folder: Path,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """This method with all that it must know of its pool before the first draw.

        What costs time to find (a ranking of pairs, a trained generator) is kept in `folder`
        and taken from there again, also after a stop. Most methods need nothing and give
        themselves back.
        """
        return self

    def tree(self, label_map: LabelMap | None) -> LabelMap | None:
        """The label map of what is made: the pool's, with an ignore id if one is needed."""
        return label_map

    @abstractmethod
    def draw(self, rng: np.random.Generator, target: Sample, pool: Dataset | None = None) -> Params:
        """Parameters for one new sample, as JSON would hold them.

        Raises
        ------
        CannotDraw
            When this target, or this pool, allows none.
        """

    @abstractmethod
    def apply(self, params: Params, target: Sample, pool: Dataset | None = None) -> Sample:
        """The sample that `params` stand for, on the target's grid and in its dtype."""

    def sources_of(self, params: Params) -> list[str]:
        """Names of the samples in the pool, other than the target, that `params` take from."""
        return list(params.get("sources", []))

    def options(self) -> dict[str, Any]:
        """The fields as JSON would hold them, for provenance."""
        return {name: _plain(getattr(self, name)) for name in self._option_names()}

    @classmethod
    def from_options(cls, options: Mapping[str, Any] | None = None) -> Self:
        """Build from a recipe's mapping; lists become tuples.

        Raises
        ------
        RecipeError
            On a key that is no field, with the nearest right one, or a value out of range.
        """
        known = cls._option_names()
        values = {}
        for key, value in (options or {}).items():
            if key not in known:
                raise RecipeError(
                    f"unknown option of the augmentation {cls.name!r}",
                    found=repr(key),
                    fix=nearest(str(key), known) if known else "it takes no options",
                )
            values[key] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    @classmethod
    def _option_names(cls) -> list[str]:
        return [f.name for f in dataclasses.fields(cls) if not f.name.startswith("_")]


class PatchAugmentation(Augmentation):
    """An augmentation that needs no second sample, and so works on patches in a loader.

    The loader draws, reads a window of `source_shape` around the patch's centre, and applies::

        params = method.draw_patch(rng, patch_shape, num_channels)
        window = method.source_shape(params, patch_shape)
        # read `window` voxels: start = patch start - (window - patch) // 2 on every axis
        image, labels = method.apply_patch(params, image, labels, patch_shape)
    """

    @abstractmethod
    def draw_patch(
        self,
        rng: np.random.Generator,
        patch_shape: tuple[int, ...],
        num_channels: int,
        spacing: tuple[float, ...] | None = None,
    ) -> Params:
        """Parameters for one patch; `spacing` (um) matters only where axes differ.

        `num_channels` channels may change in intensity; an image may have more, which then
        only move with the tissue (the probabilities of a prior, say).
        """

    @abstractmethod
    def source_shape(self, params: Params, patch_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Voxels to read, centred on the patch; differs from `patch_shape` by even numbers."""

    @abstractmethod
    def apply_patch(
        self,
        params: Params,
        image: np.ndarray,
        labels: np.ndarray | None,
        patch_shape: tuple[int, ...],
        outside_value: float | np.ndarray = 0.0,
        outside_label: int = -1,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The patch made from a source window.

        Parameters
        ----------
        params : dict
            From `draw_patch`.
        image : (c, *window) float32
            Normalised (zero mean, unit deviation).
        labels : (*window) integers, or None
            Class indices, or ids; never interpolated.
        patch_shape : tuple of int
            The shape to give back.
        outside_value, outside_label
            What stands for pixels that the window does not hold; the value may be one per
            channel. Labels outside default to ignore (-1).

        Returns
        -------
        image : (c, *patch_shape) float32
        labels : (*patch_shape) of the dtype given, or None
            Where nothing was drawn these are views of the input: copy before writing.
        """


@dataclasses.dataclass(frozen=True)
class Unchanged(PatchAugmentation):
    """No augmentation: every draw is the same and gives the sample back.

    >>> Unchanged().source_shape({}, (64, 64))
    (64, 64)
    """

    name: ClassVar[str] = "none"

    def draw(self, rng: np.random.Generator, target: Sample, pool: Dataset | None = None) -> Params:
        return {}

    def apply(self, params: Params, target: Sample, pool: Dataset | None = None) -> Sample:
        return target

    def draw_patch(
        self,
        rng: np.random.Generator,
        patch_shape: tuple[int, ...],
        num_channels: int,
        spacing: tuple[float, ...] | None = None,
    ) -> Params:
        return {}

    def source_shape(self, params: Params, patch_shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(patch_shape)

    def apply_patch(
        self,
        params: Params,
        image: np.ndarray,
        labels: np.ndarray | None,
        patch_shape: tuple[int, ...],
        outside_value: float | np.ndarray = 0.0,
        outside_label: int = -1,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return crop_centre(image, patch_shape), (
            None if labels is None else crop_centre(labels, patch_shape)
        )


def make_augmentation(name: str, options: Mapping[str, Any] | None = None) -> Augmentation:
    """The augmentation that a recipe names.

    >>> make_augmentation("classical", {"mirror_axes": "x"}).mirror_axes
    'x'
    >>> make_augmentation("clasical")
    Traceback (most recent call last):
    brodmann.core.errors.RecipeError: unknown augmentation: found 'clasical'; did you mean 'classical'?
    """
    return AUGMENTATIONS[name].from_options(options)


def crop_centre(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A view of the middle of the last axes; leading axes are kept.

    Raises
    ------
    DataError
        If the array is smaller, or its middle does not fall on whole voxels.
    """
    window = array.shape[array.ndim - len(shape) :]
    extra = [have - want for have, want in zip(window, shape)]
    if array.ndim < len(shape) or any(n < 0 or n % 2 for n in extra):
        raise DataError(
            "a source window must be the patch plus an even number of voxels on each axis",
            found=f"window {window}, patch {tuple(shape)}",
            fix="read a window of source_shape(params, patch_shape)",
        )
    return array[(..., *(slice(n // 2, n // 2 + want) for n, want in zip(extra, shape)))]


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
