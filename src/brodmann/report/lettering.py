"""Letters on pictures that are drawn pixel by pixel."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any


@cache
def font(size: int, bold: bool = False) -> Any:
    """The typeface that comes with matplotlib, which has every letter that units need."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def bar_text(length_um: float) -> str:
    """What a scale bar says.

    >>> bar_text(0.5), bar_text(2), bar_text(1000)
    ('500 nm', '2 µm', '1 mm')
    """
    if length_um < 1:
        return f"{length_um * 1000:g} nm"
    return f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
