"""Neurons in electron microscopy: a net says which voxels belong together."""

from brodmann.problems.neurons.problem import Neurons

__all__ = ["Neurons"]
