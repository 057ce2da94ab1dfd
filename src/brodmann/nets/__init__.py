"""Architectures: plain modules without training code."""

from brodmann.nets.registry import NETS

__all__ = ["NETS"]
