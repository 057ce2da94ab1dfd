"""What the options of electron-microscopy augmentation may hold."""

from __future__ import annotations

import math
from typing import Any

from brodmann.augment.em_effects import FILLS
from brodmann.core import RecipeError

Range = tuple[float, float]
Counts = tuple[int, int]
LIMITS: dict[str, Range] = {
    "scale": (0.5, 2.0),
    "elastic_knot_px": (8.0, 1000.0),
    "elastic_px": (0.0, 400.0),
    "misalignment_px": (1.0, 200.0),
    "missing_sections": (1, 100),
    "blur_sections": (1, 100),
    "blur_sigma_px": (0.2, 50.0),
    "cutout_boxes": (1, 100),
    "cutout_px": (1.0, 1000.0),
    "contrast": (0.0, 10.0),
    "brightness_std": (-10.0, 10.0),
    "gamma": (0.1, 10.0),
    "section_contrast": (0.0, 10.0),
    "section_brightness_std": (-10.0, 10.0),
    "section_gamma": (0.1, 10.0),
    "noise_std": (0.0, 10.0),
}
"""What each range must lie within."""


def check_option(name: str, kind: str, value: Any) -> None:
    """Raise RecipeError unless a value is what its field, annotated as `kind`, may hold.

    >>> check_option("gamma", "Range", (0.5, 99.0))
    Traceback (most recent call last):
    brodmann.core.errors.RecipeError: a range is [low, high] within 0.1..10 (em.gamma): found [0.5, 99.0]
    """
    where = f"em.{name}"
    if kind == "float":
        low, high = (0, 180) if name == "rotation_deg" else (0, 1)
        if not (_is_number(value) and low <= value <= high):
            what = "an angle" if name == "rotation_deg" else "a probability"
            raise RecipeError(f"{what} lies in {low}..{high}", where, repr(value))
    elif kind in ("Range", "Counts"):
        low, high = LIMITS[name]
        fits = isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))
        fits = fits and (kind == "Range" or all(isinstance(bound, int) for bound in value))
        if not (fits and low <= value[0] <= value[1] <= high):
            raise RecipeError(
                f"a range is [low, high] within {low:g}..{high:g}"
                + (", in whole numbers" if kind == "Counts" else ""),
                where,
                list(value) if isinstance(value, tuple) else repr(value),
            )
    elif kind == "bool" and not isinstance(value, bool):
        raise RecipeError("this is true or false", where, repr(value))
    elif kind.startswith("tuple") and not (
        isinstance(value, tuple) and value and all(fill in FILLS for fill in value)
    ):
        raise RecipeError(f"fills are one or more of {list(FILLS)}", where, repr(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
