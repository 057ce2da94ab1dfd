"""More training data out of little: one draw, saved, and applied anywhere."""

from brodmann.augment.base import (
    AUGMENTATIONS,
    Augmentation,
    CannotDraw,
    Params,
    PatchAugmentation,
    Unchanged,
    make_augmentation,
)

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "CannotDraw",
    "Params",
    "PatchAugmentation",
    "Unchanged",
    "make_augmentation",
]
