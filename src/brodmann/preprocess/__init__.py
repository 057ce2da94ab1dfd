"""What is done to an image before anything is learned from it."""

from brodmann.preprocess.intensity import Normalisation, Statistics, measure

__all__ = ["Normalisation", "Statistics", "measure"]
