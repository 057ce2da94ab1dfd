"""The augmentation `translate`: the target's anatomy in the stain of another image."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, Self, get_args

import numpy as np

from brodmann.augment.base import Augmentation, CannotDraw, Params, Progress
from brodmann.augment.mixing import is_number, others_of
from brodmann.core import Dataset, ModelError, RecipeError, Sample, keyed_rng
from brodmann.core.files import make_folder
from brodmann.problems.synthesis.translate.fitted import FORMAT, Codes, Fitted, ready
from brodmann.problems.synthesis.translate.pool import WIDE, Batches, Survey, stored, survey
from brodmann.problems.synthesis.translate.training import CHECKPOINT, build, train

IMAGES = "images"
PATCH = {2: 64, 3: 32}
VIEWS = 16
"""Places of an image whose codes are averaged to its style."""
SPREAD = 0.01
"""Weight that keeps codes near the prior that random ones are drawn from."""
Style = Literal["pool", "prior", "both"]


@dataclass(frozen=True)
class Translate(Augmentation):
    """A generative rival of mixing: content of the target, style of another image.

    A generator is trained on the pool's images, without labels, to take an image apart into
    content (a map) and style (a code for each channel), and to put together the content of
    one with the style of another. Stain and texture change, anatomy and labels do not.

    Parameters
    ----------
    style : "pool", "prior" or "both"
        Whose style: another image's of the pool, a random code, or either equally often.
    steps, batch, lr
        Optimiser steps of each net, patches in one, Adam's learning rate.
    patch : int, optional
        Voxels along each axis of a training patch, even; 64 in 2D, 32 in 3D.
    features, blocks, content_size, style_size : int
        Width and depth of the generator, channels of the content, numbers in a code.
    reconstruction, cycle, adversarial, latent, contrast : float
        Weights of the losses: the image from its own content and style; the same by way of
        a translation; the critic's; the style of a translation; its content.

    Raises
    ------
    RecipeError
        If an option is out of range.

    After MouseGAN++ (Yu et al. 2022; a comparator in seeds/prmix.txt, sections 4.5 and 5.1),
    from what is published of it: one content encoder for all modalities, a style encoder and
    a modulated decoder that are told the modality, an adversarial loss for each modality,
    self-reconstruction, cycle, latent regression, and a contrastive loss on content.
    Modalities are the image's channels: content seen through one marker alone (a quarter of
    the time) or through all is rendered as any other, in the style of an unpaired image. With
    one channel the domains are the images' styles.

    Ours, where nothing is published or micrographs ask for it: features are normalised over
    channels at each voxel, not over the image, so that tiles of a section have no seams;
    intensities are normalised over the pool, so that brightness is style; content is read from
    patches in made-up stains (gain, offset, gamma) and style from another place of the same
    image, so that neither holds the other; markers of a section lie on each other, so that
    reconstruction compares them; a translation is put back in its own modality, not across
    markers, which makes all markers alike; places are contrasted in a projection; content has
    half the resolution of the image; random codes are standard normal and stand for made-up
    stains too; the running mean of the generator is kept.

    The same pool, options and seed give the same generator on one CPU, byte for byte, however
    many threads and stops; on a GPU it differs in rounding from run to run. Images are taken at
    their own spacing, so a pool should have one.

    Example
    -------
    >>> Translate(style="prior", steps=200).options()["style"]
    'prior'
    """

    name: ClassVar[str] = "translate"
    learns: ClassVar[bool] = True

    style: Style = "pool"
    steps: int = 1000
    batch: int = 4
    patch: int | None = None
    lr: float = 2e-3
    features: int = 32
    blocks: int = 2
    content_size: int = 16
    style_size: int = 8
    reconstruction: float = 10.0
    cycle: float = 5.0
    adversarial: float = 1.0
    latent: float = 1.0
    contrast: float = 0.5
    _fitted: Fitted | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise RecipeError(
                "unknown kind of style", "translate.style", repr(self.style), "pool, prior or both"
            )
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if name == "patch" and value is None:
                continue
            whole = isinstance(low, int)
            if not is_number(value) or not low <= value <= high or (whole and value != int(value)):
                kind = "a whole number" if whole else "a number"
                raise RecipeError(f"wanted {kind} in {low}..{high}", f"translate.{name}", value)
        if self.patch is not None and self.patch % 2:
            raise RecipeError("a patch has an even number of voxels", "translate.patch", self.patch)

    def weight(self, loss: str) -> float:
        """The weight of one loss of `generator_losses`."""
        return SPREAD if loss == "spread" else getattr(self, loss)

    def fitted(
        self, pool: Dataset, folder: Path, *, seed: int = 0, progress: Progress | None = None
    ) -> Self:
        """With the generator for this pool: taken from `folder`, or trained and kept there.

        Every pool, set of options and seed has a folder of its own in it, named by a hash of
        all these, so that nothing is overwritten. A training that was stopped goes on.

        Raises
        ------
        DataError
            If the pool has fewer than two images, NaN, or images of differing channels.
        ModelError
            If what lies in the folder is damaged.
        Divergence
            If training fails.
        """
        report = progress or (lambda what, done, total, note: None)
        folder = make_folder(Path(folder))
        known = survey(pool, lambda done, total: report("survey", done, total, ""))
        key = self._key(known, seed)
        generator, _ = build(self, known.channels, known.ndim, seed)
        home = make_folder(folder / key)
        found = Fitted.load(home, generator, key)
        if found is None:
            found = self._trained(pool, known, key, home, seed, report)
            found.save(home)
        (home / CHECKPOINT).unlink(missing_ok=True)
        shutil.rmtree(home / IMAGES, ignore_errors=True)
        return replace(self, _fitted=found)

    def _trained(
        self, pool: Dataset, known: Survey, key: str, home: Path, seed: int, report: Progress
    ) -> Fitted:
        patch = (self.patch or PATCH[known.ndim],) * known.ndim
        images = stored(pool, home / IMAGES)
        batches = Batches(images, known.statistics, patch, self.batch, self.style_size, seed)

        def note(done: int, total: int, note: str) -> None:
            report("train", done, total, note)

        generator = train(self, batches, known.channels, known.ndim, seed, home, note)
        fitted = Fitted(ready(generator), known.statistics, {}, key)
        wide = tuple(WIDE * n for n in patch)
        styles = {}
        for index, name in enumerate(known.names):
            rng = keyed_rng(seed, "style", name)
            views = np.stack([batches.view(index, wide, rng) for _ in range(VIEWS)])
            styles[name] = fitted.code(views)
        return replace(fitted, styles=styles)

    def _key(self, known: Survey, seed: int) -> str:
        options = {k: v for k, v in self.options().items() if k != "style"}
        text = json.dumps([FORMAT, known.digest, seed, sorted(options.items())])
        return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()

    @property
    def _generator(self) -> Fitted:
        if self._fitted is None:
            raise ModelError(
                "translate has no generator yet",
                fix="train or load one with fitted(pool, folder), as brodmann augment does",
            )
        return self._fitted

    def draw(self, rng: np.random.Generator, target: Sample, pool: Dataset | None = None) -> Params:
        """A style: another image's of the pool, or a random one; its codes are in `params`.

        Raises
        ------
        CannotDraw
            If no other image of the pool has a style.
        ModelError
            Before `fitted`.
        """
        fitted = self._generator
        params: Params = {"generator": fitted.key, "sources": []}
        prior = self.style == "prior" or (self.style == "both" and rng.random() < 0.5)
        if prior:
            shape = (len(fitted.statistics.mean), self.style_size)
            codes: Codes = np.round(rng.standard_normal(shape), 5).tolist()
            return params | {"style": codes}
        others = [name for name in others_of(target, pool) if name in fitted.styles]
        if not others:
            raise CannotDraw("the generator knows the style of no other image", target.name)
        source = others[rng.integers(len(others))]
        return params | {"sources": [source], "style": fitted.styles[source]}

    def apply(self, params: Params, target: Sample, pool: Dataset | None = None) -> Sample:
        """The target in the style of `params`, all channels together; needs `fitted`.

        Images of any size, in bounded memory (the result aside). Points and attributes are
        kept: nothing moves.

        Raises
        ------
        ModelError
            Before `fitted`, or if it was drawn with another generator.
        DataError
            If the image does not fit the generator, or holds NaN.
        """
        fitted = self._generator
        if params["generator"] != fitted.key:
            raise ModelError(
                "these parameters were drawn with another generator",
                target.name,
                f"{params['generator']}, here is {fitted.key}",
                "load the one that lies with them",
            )
        made = fitted.translate(target.image, params["style"], target.name)
        image = target.image
        # Labels stay as they are: no tissue was exchanged, so that there are no seams to open.
        return target.with_(image=image.like(made if image.axes.startswith("c") else made[0]))


LIMITS: dict[str, tuple[float, float]] = {
    "steps": (1, 10_000_000),
    "batch": (1, 1024),
    "patch": (8, 4096),
    "lr": (0.0, 1.0),
    "features": (2, 512),
    "blocks": (1, 16),
    "content_size": (2, 512),
    "style_size": (1, 512),
    "reconstruction": (0.0, 1e4),
    "cycle": (0.0, 1e4),
    "adversarial": (0.0, 1e4),
    "latent": (0.0, 1e4),
    "contrast": (0.0, 1e4),
}
"""What each option must lie within; whole numbers where the limits are."""
