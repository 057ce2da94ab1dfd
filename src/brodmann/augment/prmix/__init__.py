"""PRMix: primary regions exchanged between sections, placed so that they fit."""

from brodmann.augment.prmix.method import PRMix

__all__ = ["PRMix"]
