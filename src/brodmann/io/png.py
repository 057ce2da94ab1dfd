"""PNG, JPEG and BMP: read whole; PNG also written."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np

from brodmann.core import DataError, OutputError, Volume
from brodmann.io.raw import RGB, Raw, check_file, reading

SPACING_KEY = "spacing_um"
SIGNATURE_AND_HEADER = 33
"""Bytes of a PNG before its second chunk: the signature (8) and IHDR (25)."""


def read_picture(path: Path) -> Raw:
    """A PNG, JPEG or BMP as it stands: grey or palette index (yx), or red, green, blue (cyx).

    A palette picture gives its indices, since that is how label images are painted. An
    alpha channel is left out. Spacing comes only from the text field "spacing_um" that
    `write_png` adds; the print resolution in these files says nothing about tissue.

    Raises
    ------
    DataError
        If the file is missing, damaged, or has more than about 179 million pixels.
    """
    from PIL import Image

    path = check_file(path)
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=("PNG", "JPEG", "BMP")) as picture:
                text = getattr(picture, "text", {}).get(SPACING_KEY, "")
                array = _pixels(picture, path)
        except Image.DecompressionBombError:
            raise DataError(
                "the picture is too large for this format", path, fix="save it as TIFF or OME-Zarr"
            ) from None
    spacing = {}
    parts = text.split(",")
    if len(parts) == 2:
        with reading(path):
            spacing = {axis: float(part) for axis, part in zip("yx", parts)}
    if array.ndim == 2:
        return Raw(array, "yx", spacing)
    return Raw(np.moveaxis(array, -1, 0), "cyx", spacing, RGB)


def _pixels(picture, path: Path) -> np.ndarray:
    depth, color_type = 8, 0
    if picture.format == "PNG":
        with path.open("rb") as file:
            depth, color_type = file.read(SIGNATURE_AND_HEADER)[24:26]
    if depth == 16 and color_type in (2, 6):
        # Pillow would cut 16-bit colour down to 8 bits.
        import imagecodecs

        return imagecodecs.png_decode(path.read_bytes())[..., :3]
    if picture.mode in ("LA", "PA", "La"):
        picture = picture.convert("L")
    elif picture.mode not in ("1", "L", "P", "I", "F", "RGB") and "I;16" not in picture.mode:
        picture = picture.convert("RGB")
    array = np.asarray(picture)
    return array.astype(np.uint8) if array.dtype == bool else array


def write_png(path: Path, volume: Volume, compression: bool = True) -> None:
    """Write a 2D volume of 8 or 16 bits with one channel or three (red, green, blue).

    Raises
    ------
    OutputError
        If PNG cannot hold it.
    """
    import imagecodecs

    array = volume.numpy()
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if volume.ndim != 2 or volume.num_channels not in (1, 3) or array.dtype not in ("u1", "u2"):
        raise OutputError(
            "PNG holds one or three channels of 8 or 16 bits in 2D",
            path,
            f"axes {volume.axes!r}, shape {volume.shape}, {array.dtype}",
            "write .tif or .ome.zarr",
        )
    if volume.axes == "cyx":
        array = np.moveaxis(array, 0, -1) if len(array) == 3 else array[0]
    encoded = imagecodecs.png_encode(np.ascontiguousarray(array), level=6 if compression else 0)
    field = b"tEXt" + f"{SPACING_KEY}\0{volume.spacing[0]!r},{volume.spacing[1]!r}".encode("latin1")
    chunk = struct.pack(">I", len(field) - 4) + field + struct.pack(">I", zlib.crc32(field))
    at = SIGNATURE_AND_HEADER
    Path(path).write_bytes(encoded[:at] + chunk + encoded[at:])
