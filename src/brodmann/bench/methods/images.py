"""Methods that look at a whole image: a representation and a linear readout, or a classifier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import Dataset, RecipeError, Sample, nearest
from brodmann.core.files import write_json
from brodmann.pipeline.counting import Report
from brodmann.preprocess import Holes
from brodmann.problems.patches import Stack, Views, stack_of
from brodmann.problems.patches.images import channels_first
from brodmann.problems.representations.encoders import NetEncoder
from brodmann.problems.representations.flat import Flat, Texture

VIEW_OPTIONS = tuple(field.name for field in fields(Views))


@dataclass
class ImageMethod:
    """An encoder, and what reads categories or attributes from it.

    Attributes
    ----------
    encoder : NetEncoder, Flat or Texture
    head : bool
        Answer categories with the classifier's own head instead of a linear readout.
    mean, deviation : float, optional
        Of intensities, in their own units; measured on the training images where not given.
    strength : float, optional
        Penalty of the linear classifier; chosen on folds of the training images where not given.
    holes : Holes, optional
        What is filled before an image is looked at, in training and after.
    """

    encoder: Any
    head: bool = False
    mean: float | None = None
    deviation: float | None = None
    strength: float | None = None
    holes: Holes | None = None

    def fit(
        self,
        train: Dataset,
        validation: Dataset | None = None,
        *,
        seed: int = 0,
        folder: Path,
        report: Report = lambda what, done, total, note: None,
        encoder_data: Dataset | None = None,
    ) -> None:
        """Learn the encoder, then a linear readout on its frozen representations.

        The encoder learns from `encoder_data` where that is given, the readout from `train`.
        """
        from brodmann.metrics.linear import STRENGTHS
        from brodmann.metrics.readout import linear_classifier, linear_regressor

        stack = stack_of(encoder_data or train, mean=self.mean, deviation=self.deviation)
        self.tissue = stack.mean, stack.deviation
        stack = self._filled_stack(stack)
        self.encoder.fit(
            stack,
            seed=seed,
            folder=Path(folder),
            told=lambda done, loss: report(
                self.encoder.method, done, self.encoder.steps, f"loss {loss:.3f}"
            ),
        )
        if encoder_data is not None:
            stack = stack_of(train, mean=stack.mean, deviation=stack.deviation)
            stack = self._filled_stack(stack)
        self.names = stack.names
        values = attributes_table(train)
        self.attributes = tuple(values)
        if self.attributes:
            features = self.encoder.encode(stack.images)
            table = np.stack(list(values.values()), 1)
            self.readout = linear_regressor(features, table, groups=stack.groups)
        elif not self.head:
            features = self.encoder.encode(stack.images)
            truth = np.array(stack.names)[stack.categories]
            chosen = STRENGTHS if self.strength is None else (self.strength,)
            self.readout = linear_classifier(features, truth, groups=stack.groups, strengths=chosen)

    def predict(self, sample: Sample) -> str | dict[str, float]:
        """The category of an image, or its attributes."""
        images = channels_first(sample.image, sample.name)[None]
        if self.attributes:
            found = self.readout.predict(self.encoder.encode(self._filled(images)))[0]
            return {name: float(value) for name, value in zip(self.attributes, found)}
        return self.names[int(self.probabilities(images)[0].argmax())]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Of each category, in the order of `names`: (n, c, h, w) as recorded -> (n, k)."""
        images = self._filled(images)
        if self.head:
            logits = self.encoder.logits(images).astype(float)
            shares = np.exp(logits - logits.max(1, keepdims=True))
            return shares / shares.sum(1, keepdims=True)
        return self.readout.probabilities(self.encoder.encode(images))

    def load(self, folder: Path) -> None:
        """Take over the encoder that `fit` left in a folder, to make `features`."""
        self.encoder.load(Path(folder))
        self.tissue = self.encoder.stack_facts["mean"], self.encoder.stack_facts["deviation"]

    def features(self, dataset: Dataset) -> np.ndarray:
        """Representations of a dataset's images, (n, d) float32, for pictures of them."""
        return np.concatenate(
            [
                self.encoder.encode(self._filled(channels_first(s.image, s.name)[None]))
                for s in dataset
            ]
        )

    def _filled(self, images: np.ndarray) -> np.ndarray:
        if self.holes is None:
            return images
        return np.stack([self.holes.fill(image, *self.tissue) for image in images])

    def _filled_stack(self, stack: Stack) -> Stack:
        return replace(stack, images=self._filled(stack.images))


@dataclass
class Chosen:
    """Several methods, of which the one that is best on the validation part answers.

    Attributes
    ----------
    candidates : dict of str to ImageMethod
    """

    candidates: dict[str, ImageMethod]

    def fit(
        self,
        train: Dataset,
        validation: Dataset | None = None,
        *,
        seed: int = 0,
        folder: Path,
        report: Report = lambda what, done, total, note: None,
        encoder_data: Dataset | None = None,
    ) -> None:
        """Fit all; keep the best by balanced accuracy, or mean R2, of what validates."""
        if not validation:
            raise RecipeError("to choose needs a validation part", "mixup", list(self.candidates))
        self.scores = {}
        for name, one in self.candidates.items():
            one.fit(
                train, seed=seed, folder=Path(folder) / name, report=report,
                encoder_data=encoder_data,
            )  # fmt: skip
            self.scores[name] = _validated(one, validation)
        best = max(self.scores, key=lambda name: self.scores[name])
        self.best = self.candidates[best]
        write_json(Path(folder) / "chosen.json", {"chosen": best, "validation": self.scores})

    def predict(self, sample: Sample) -> str | dict[str, float]:
        """What the best says."""
        return self.best.predict(sample)

    def load(self, folder: Path) -> None:
        """Take over the encoder of the best from what `fit` left in a folder."""
        kept = json.loads((Path(folder) / "chosen.json").read_text(encoding="utf-8"))
        self.best = self.candidates[kept["chosen"]]
        self.best.load(Path(folder) / kept["chosen"])

    def features(self, dataset: Dataset) -> np.ndarray:
        """Representations by the best."""
        return self.best.features(dataset)


def _validated(method: ImageMethod, validation: Dataset) -> float:
    from brodmann.metrics.readout import balanced_accuracy, r2

    answers = [method.predict(sample) for sample in validation]
    if not method.attributes:
        return balanced_accuracy([sample.category for sample in validation], answers)
    truth = attributes_table(validation)
    guess = np.array([[one[name] for name in truth] for one in answers])
    return float(np.nanmean(r2(np.stack(list(truth.values()), 1), guess)))


def attributes_table(dataset: Dataset) -> dict[str, np.ndarray]:
    """Attribute -> its values over a dataset; empty where samples have none."""
    rows = [sample.attributes for sample in dataset]
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}


def _net(method: str, head: bool, options: dict[str, Any]) -> ImageMethod:
    views = Views(**{key: options.pop(key) for key in VIEW_OPTIONS if key in options})
    own = {key: options.pop(key) for key in ("mean", "deviation") if key in options}
    holes = _holes(options.pop("holes", None))
    known = [field.name for field in fields(NetEncoder) if field.name not in ("method", "views")]
    for key in options:
        if key not in known:
            raise RecipeError(
                "this method has no such option",
                key,
                fix=nearest(key, [*known, *VIEW_OPTIONS, "holes"]),
            )
    return ImageMethod(NetEncoder(method, views=views, **options), head, **own, holes=holes)


def _holes(options: Mapping[str, Any] | None) -> Holes | None:
    if options is None:
        return None
    known = [field.name for field in fields(Holes)]
    if not isinstance(options, Mapping):
        raise RecipeError("holes has keys of its own", "holes", options, ", ".join(known))
    for key in options:
        if key not in known:
            raise RecipeError("holes has no such key", f"holes.{key}", fix=nearest(key, known))
    return Holes(**options)


def supervised(head: bool = True, **options: Any) -> ImageMethod:
    """ResNet-18 trained on categories; dropout 0.2 and weight decay 0.3 are the paper's."""
    return _net("supervised", head, {"weight_decay": 0.3} | options)


def mixup(head: bool = True, mixup: float | list[float] = 0.3, **options: Any) -> Any:
    """The same, with images and labels mixed; of several probabilities the one that validates best."""
    options = {"weight_decay": 0.3} | options
    if not isinstance(mixup, list):
        return _net("supervised", head, options | {"mixup": mixup})
    return Chosen({f"p{p}": _net("supervised", head, options | {"mixup": p}) for p in mixup})


def byol(**options: Any) -> ImageMethod:
    """BYOL, then a linear readout."""
    return _net("byol", False, options)


def myow(**options: Any) -> ImageMethod:
    """MYOW: mined views through a second projector and predictor; then a linear readout."""
    return _net("myow", False, options)


def myow_merged(**options: Any) -> ImageMethod:
    """MYOW-m: mined views through the first projector and predictor; then a linear readout."""
    return _net("myow-m", False, options)


def random_net(**options: Any) -> ImageMethod:
    """A net that learned nothing: what the architecture alone brings."""
    return _net("random", False, options)


def pca(size: int = 256) -> ImageMethod:
    """Principal components of the pixels, then a linear readout."""
    return ImageMethod(Flat("pca", size))


def nmf(size: int = 256, rounds: int = 200) -> ImageMethod:
    """Non-negative factors of the pixels, then a linear readout."""
    return ImageMethod(Flat("nmf", size, rounds=rounds))


def texture(
    bins: int = 16,
    sigmas: tuple[float, ...] = (1.0, 2.0, 4.0),
    coarse: int = 1,
    strength: float | None = None,
    holes: Mapping[str, Any] | None = None,
) -> ImageMethod:
    """Histograms of intensity and gradients, then a linear readout."""
    encoder = Texture(bins, tuple(sigmas), coarse)
    return ImageMethod(encoder, strength=strength, holes=_holes(holes))
