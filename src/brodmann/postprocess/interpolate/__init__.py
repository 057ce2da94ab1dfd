"""Dense labels between annotated slices."""

from brodmann.postprocess.interpolate.between import METHODS, interpolate_between
from brodmann.postprocess.interpolate.held_out import HeldOut, held_out_scores
from brodmann.postprocess.interpolate.times import Between
from brodmann.postprocess.interpolate.volume import find_slices, interpolate_volume

__all__ = [
    "Between",
    "HeldOut",
    "METHODS",
    "find_slices",
    "held_out_scores",
    "interpolate_between",
    "interpolate_volume",
]
