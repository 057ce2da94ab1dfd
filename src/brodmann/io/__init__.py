"""Images in and out: PNG, TIFF, NIfTI, HDF5 and OME-Zarr, read by window where they can be."""

from brodmann.io.formats import read_volume, stem_of, suffix_of, with_spacing, write_volume
from brodmann.io.ngff import add_pyramid, open_output

__all__ = [
    "add_pyramid",
    "open_output",
    "read_volume",
    "stem_of",
    "suffix_of",
    "with_spacing",
    "write_volume",
]
