"""Brodmann: from a handful of labelled micrographs to a mapped brain."""

from importlib.metadata import version

from brodmann.core import Dataset, Label, LabelMap, Points, Sample, Volume

__version__ = version("brodmann")
__all__ = ["Dataset", "Label", "LabelMap", "Points", "Sample", "Volume", "__version__"]
