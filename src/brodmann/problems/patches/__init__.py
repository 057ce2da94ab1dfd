"""Categories of whole images, with and without MixUp."""

from brodmann.problems.patches.images import Stack, Views, corners, stack_of
from brodmann.problems.patches.problem import Batches, Patches

__all__ = ["Batches", "Patches", "Stack", "Views", "corners", "stack_of"]
