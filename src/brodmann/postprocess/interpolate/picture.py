"""A picture of a slice that was left out: truth, and what each method made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from brodmann.core.files import written_beside

WRONG = (214, 39, 40)
INK = (20, 24, 32)
PANEL = 760
"""Pixels of a panel's longer side, at most."""
BAR = 30


def draw_held_out(
    path: Path, truth: np.ndarray, guesses: Mapping[str, np.ndarray], titles: Mapping[str, str]
) -> Path:
    """Write a PNG: the true slice, and each guess with its wrong pixels in red.

    Parameters
    ----------
    path : Path
    truth : (h, w) integers
    guesses : mapping of name to (h, w)
    titles : mapping of name to words below the name
        "truth" among them.
    """
    from PIL import Image, ImageDraw, ImageFont

    stride = max(1, -(-max(truth.shape) // PANEL))
    zoom = max(1, min(PANEL // max(truth.shape), 4))
    panels = [("truth", _paint(truth, truth, stride, zoom))]
    panels += [(name, _paint(guess, truth, stride, zoom)) for name, guess in guesses.items()]
    height, width = panels[0][1].shape[:2]
    columns = 1 if width > 2.4 * height else 2
    rows = -(-len(panels) // columns)
    pad = 12
    size = (columns * (width + pad) + pad, rows * (height + BAR + pad) + pad)
    picture = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=17)
    for number, (name, panel) in enumerate(panels):
        left = pad + number % columns * (width + pad)
        top = pad + number // columns * (height + BAR + pad)
        pen.text((left, top + 3), f"{name}   {titles.get(name, '')}".rstrip(), INK, font)
        picture.paste(Image.fromarray(panel), (left, top + BAR))
    with written_beside(path) as beside:
        picture.save(beside, format="PNG")
    return Path(path)


def _paint(labels: np.ndarray, truth: np.ndarray, stride: int, zoom: int) -> np.ndarray:
    """Regions in pale colours with the true borders in ink; red where the two differ."""
    labels, truth = labels[::stride, ::stride], truth[::stride, ::stride]
    labels, truth = (np.kron(a, np.ones((zoom, zoom), a.dtype)) for a in (labels, truth))
    ids, numbers = np.unique(labels, return_inverse=True)
    out = np.array([_color(int(label)) for label in ids], np.uint8)[numbers.reshape(labels.shape)]
    edge = np.zeros(truth.shape, bool)
    edge[:, 1:] |= truth[:, 1:] != truth[:, :-1]
    edge[1:] |= truth[1:] != truth[:-1]
    out[edge] = out[edge] // 2
    out[labels != truth] = WRONG
    return out


def _color(label: int) -> tuple[int, int, int]:
    """A pale colour of an id, never red; 0 is near white."""
    from colorsys import hls_to_rgb

    if label == 0:
        return 246, 246, 244
    # Neighbours in number are far apart; reds are left to what is wrong.
    turn = math.modf(label * 0.61803398875)[0]
    light = 0.66 + 0.14 * (label % 3) / 2
    red, green, blue = hls_to_rgb(0.09 + 0.8 * turn, light, 0.55)
    return round(255 * red), round(255 * green), round(255 * blue)
