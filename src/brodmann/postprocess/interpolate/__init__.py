"""Dense labels between annotated slices."""

from brodmann.postprocess.interpolate.between import METHODS, interpolate_between
from brodmann.postprocess.interpolate.times import Between

__all__ = [
    "Between",
    "METHODS",
    "interpolate_between",
]
