"""Candidates: small cubes about places that a detector proposed, told as cells or none."""

from brodmann.problems.candidates.classifier import CropClassifier, load_classifier
from brodmann.problems.candidates.intensity import crop_intensities
from brodmann.problems.candidates.training import CropSet, train_classifier
from brodmann.problems.candidates.tuning import choose_threshold

__all__ = [
    "CropClassifier",
    "CropSet",
    "choose_threshold",
    "crop_intensities",
    "load_classifier",
    "train_classifier",
]
