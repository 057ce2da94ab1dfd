"""Running a net on images of any size: windows, strips in bounded memory, tissue."""

from brodmann.inference.heads import Headed
from brodmann.inference.strips import predict_strips
from brodmann.inference.tiles import Grid, sliding_logits, tile_starts
from brodmann.inference.tissue import TissueMask, tissue_mask

__all__ = [
    "Grid",
    "Headed",
    "TissueMask",
    "predict_strips",
    "sliding_logits",
    "tile_starts",
    "tissue_mask",
]
