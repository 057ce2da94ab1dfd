"""A trained net that tells cells from other bright things; in a folder that nothing unpickles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from brodmann.core import DataError, ModelError
from brodmann.core.files import make_folder, write_text, written_beside
from brodmann.problems.candidates.intensity import crop_contrast
from brodmann.problems.candidates.net import build_crop_net
from brodmann.problems.cells.detector import SPACING_TOLERANCE, in_um
from brodmann.problems.cells.intensity import (
    Contrast,
    Intensity,
    contrast_from,
    contrast_tree,
)
from brodmann.problems.cells.model_folder import read_description, read_weights, unfit

CLASSIFIER_FILE, WEIGHTS = "classifier.yaml", "model.safetensors"
FORMAT = 1
BATCH = 32
"""Crops that the net sees together: always as many, so that no crop's answer depends on others."""


@dataclass
class CropClassifier:
    """Probability that a cube about a candidate holds a cell in its middle.

    Attributes
    ----------
    net : nn.Module
        (n, contrast.channels(channels), *shape) -> logits (n,).
    net_options : dict
        See `build_crop_net`.
    shape : (z, y, x)
        Voxels of a cube; its candidate lies at voxel n // 2.
    spacing : (z, y, x)
        Micrometres per voxel of a cube.
    threshold : float
        Candidates of a higher probability are cells.
    contrast : Contrast
        See `crop_contrast`.
    channels : int
        As recorded: signal, or signal and background.
    facts : dict
        What the card tells.
    """

    net: nn.Module
    net_options: dict[str, Any]
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    threshold: float
    contrast: Contrast
    channels: int = 1
    name: str = "cell classifier"
    facts: dict[str, Any] = field(default_factory=dict)

    def probability(self, crops: np.ndarray, intensities: Sequence[Intensity]) -> np.ndarray:
        """(n, channels, *shape) as recorded -> (n,) float32 in 0..1.

        Parameters
        ----------
        crops : ndarray
        intensities : sequence of Intensity
            Of the brain, one for each channel; see `crop_intensities` where it is not at hand.

        Raises
        ------
        ModelError
            If channels or shape are others, or an answer is no number.
        DataError
            If a voxel is not finite.
        """
        crops = np.asarray(crops)
        check_crops(self, crops, intensities)
        found = np.empty(len(crops), np.float32)
        for first in range(0, len(crops), BATCH):
            some = crops[first : first + BATCH]
            found[first : first + BATCH] = self._batch(some, intensities)[: len(some)]
        if not np.isfinite(found).all():
            raise ModelError("a probability is no number", self.name, fix="train it anew")
        return found

    @torch.inference_mode()
    def _batch(self, crops: np.ndarray, intensities: Sequence[Intensity]) -> np.ndarray:
        seen = crop_contrast(crops, self.contrast, self.spacing, intensities)
        whole = np.zeros((BATCH, *seen.shape[1:]), np.float32)
        whole[: len(seen)] = seen
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net.to(device).eval()
        return self.net(torch.from_numpy(whole).to(device)).float().sigmoid().cpu().numpy()

    def save(self, folder: Path) -> Path:
        """Write `model.safetensors`, a card, and last `classifier.yaml`."""
        folder = make_folder(folder)
        tensors = {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in self.net.state_dict().items()
        }
        with written_beside(folder / WEIGHTS) as beside:
            save_file(tensors, beside)
        write_text(folder / "README.md", card_of(self))
        tree = {
            "format": FORMAT,
            "name": self.name,
            "net": self.net_options,
            "channels": self.channels,
            "shape": list(self.shape),
            "spacing": list(self.spacing),
            "threshold": float(self.threshold),
            "contrast": contrast_tree(self.contrast),
            "facts": self.facts,
        }
        write_text(folder / CLASSIFIER_FILE, yaml.safe_dump(tree, sort_keys=False))
        return folder


def check_crops(
    classifier: CropClassifier, crops: np.ndarray, intensities: Sequence[Intensity]
) -> None:
    """Refuse crops that a classifier cannot know how to read.

    Raises
    ------
    ModelError, DataError
    """
    wanted = (classifier.channels, *classifier.shape)
    if crops.ndim != 5 or crops.shape[1:] != wanted:
        raise ModelError(
            f"the classifier takes crops of {_sides(wanted[1:])} voxels in {wanted[0]} channel(s)",
            classifier.name,
            f"shape {crops.shape[1:]} (channels, z, y, x)",
            "cut them anew, see brodmann.io.crops",
        )
    if len(intensities) != classifier.channels:
        raise ModelError(
            "each channel has an intensity", classifier.name, f"{len(intensities)} of them"
        )
    check_finite(crops)


def check_finite(crops: np.ndarray, where: str | Path = "crops") -> None:
    """Refuse crops with NaN or infinite voxels.

    Raises
    ------
    DataError
    """
    if crops.dtype.kind == "f":
        bad = ~np.isfinite(crops).reshape(len(crops), -1).all(1)
        if bad.any():
            raise DataError(
                "a crop holds NaN or infinite voxels",
                where,
                f"crop {int(np.argmax(bad))} and {int(bad.sum()) - 1} more",
                "replace them by numbers",
            )


def same_spacing(classifier: CropClassifier, spacing: Sequence[float]) -> bool:
    """Whether crops of this spacing need no resampling."""
    return all(abs(a / b - 1) <= SPACING_TOLERANCE for a, b in zip(spacing, classifier.spacing))


def load_classifier(folder: str | Path) -> CropClassifier:
    """Read a classifier that `save` wrote.

    Raises
    ------
    ModelError
        If the folder holds none, or a damaged one.
    """
    folder = Path(folder)
    path = folder / CLASSIFIER_FILE
    tree = read_description(
        folder,
        CLASSIFIER_FILE,
        "classifier of cells",
        FORMAT,
        "give a folder that `brodmann run` wrote for a recipe of candidates (DIR/classifier)",
    )
    try:
        return _made(tree, folder / WEIGHTS)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError("the file does not describe a classifier", path, repr(error)) from error


def _made(tree: dict[str, Any], weights: Path) -> CropClassifier:
    options, channels = dict(tree["net"]), int(tree["channels"])
    contrast = contrast_from(tree["contrast"])
    net = build_crop_net(options, contrast.channels(channels))
    try:
        net.load_state_dict(read_weights(weights))
    except RuntimeError as error:
        raise unfit(weights, error) from error
    shape, spacing = tuple(map(int, tree["shape"])), tuple(map(float, tree["spacing"]))
    threshold = float(tree["threshold"])
    if len(shape) != 3 or len(spacing) != 3 or min(*shape, *spacing) <= 0 or not 0 <= threshold < 1:
        raise ValueError(f"shape {shape}, spacing {spacing}, threshold {threshold}")
    return CropClassifier(
        net.eval(),
        options,
        shape,
        spacing,
        threshold,
        contrast,
        channels,
        str(tree["name"]),
        dict(tree.get("facts") or {}),
    )


def card_of(classifier: CropClassifier) -> str:
    """The card in Markdown."""
    rows = {
        "cubes (z, y, x)": f"{_sides(classifier.shape)} voxels of {in_um(classifier.spacing)}",
        "channels": classifier.channels,
        "threshold": f"{classifier.threshold:.4g}",
        "parameters": f"{sum(p.numel() for p in classifier.net.parameters()):,}",
        "scale of intensities": classifier.contrast.scale,
        **classifier.facts,
    }
    lines = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"""# {classifier.name}

Tells cells from other candidates of a detector, by a cube about each.

    brodmann map BRAIN --model DETECTOR --classifier THIS_FOLDER --out DIR

| | |
|---|---|
{lines}
"""


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
