"""Representations learned without labels: BYOL, MYOW, MYOW-m, PCA, NMF."""

from brodmann.problems.representations.flat import Flat, Texture
from brodmann.problems.representations.problem import TwinBatches, TwinProblem
from brodmann.problems.representations.twins import Twins

__all__ = ["Flat", "Texture", "TwinBatches", "TwinProblem", "Twins"]
