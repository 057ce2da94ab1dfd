"""What is done to an image before anything is learned from it."""

from brodmann.preprocess.holes import Holes
from brodmann.preprocess.intensity import (
    PRIOR,
    PRIOR_SCALE,
    Normalisation,
    Statistics,
    image_channels,
    measure,
)

__all__ = [
    "PRIOR",
    "PRIOR_SCALE",
    "Holes",
    "Normalisation",
    "Statistics",
    "image_channels",
    "measure",
]
