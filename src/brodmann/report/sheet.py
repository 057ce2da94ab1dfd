"""Sheets: pictures placed to the pixel, with outlines, captions that fit, and a legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import BACKGROUND, LabelMap, OutputError, Volume
from brodmann.core.files import make_folder, written_beside
from brodmann.report.counts import label_of
from brodmann.report.figures import composite, shrink
from brodmann.report.outlines import trace_regions

FORMATS = (".png", ".pdf", ".svg")
DPI = 100
PAPER, INK, SOFT, LINE, ACCENT = "#fbfaf7", "#1d2327", "#5a646b", "#dfdcd3", "#0b6e6e"
SOURCES = ("#ffd23f", "#35d6ff", "#ff8ad1")
"""Outlines of what is taken from the first, second and third source."""
BARE = "#5d6b7d"
"""Pixels that nobody annotated, hatched."""
MARGIN = 28


@dataclass(frozen=True)
class Cell:
    """Where a picture lies on a sheet, in pixels from the top left."""

    x: float
    y: float
    width: float
    height: float

    def fitted(self, aspect: float) -> Cell:
        """The largest part with this width over height, in the middle."""
        width = min(self.width, self.height * aspect)
        height = width / aspect
        left, top = self.x + (self.width - width) / 2, self.y + (self.height - height) / 2
        return Cell(round(left), round(top), round(width), round(height))

    def part(self, shares: Sequence[float]) -> Cell:
        """The part from (top, bottom, left, right), as shares of this one."""
        top, low, left, right = shares
        return Cell(
            self.x + left * self.width,
            self.y + top * self.height,
            (right - left) * self.width,
            (low - top) * self.height,
        )


class Sheet:
    """A page of `width` x `height` pixels to put pictures and words on."""

    def __init__(self, width: int, height: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self._frame()

    def _frame(self) -> None:
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0), aspect="auto")

    def picture(self, rgb: np.ndarray, cell: Cell, exact: bool = False) -> None:
        """An (h, w, 3) uint8 picture that fills a cell; `exact` ones are never smoothed."""
        grown = cell.width > 1.02 * rgb.shape[1]
        smooth = "bilinear" if grown else "antialiased"
        self.axes.imshow(
            rgb,
            extent=(cell.x, cell.x + cell.width, cell.y + cell.height, cell.y),
            interpolation="nearest" if exact else smooth,
            zorder=1,
        )
        self._frame()

    def outlines(
        self, labels: np.ndarray, label_map: LabelMap, cell: Cell, width: float = 1.0
    ) -> None:
        """Every region's border in its colour; pixels of the ignore id are hatched.

        `labels` are (h, w) ids, `width` is in pixels.
        """
        lines: dict[str, list[np.ndarray]] = {}
        for part in trace_regions(np.where(labels == label_map.ignore, BACKGROUND, labels)):
            rings = [self._placed(ring, labels.shape, cell) for ring in part.rings]
            lines.setdefault("#" + label_of(label_map, part.id).color, []).extend(rings)
        for color, rings in lines.items():
            self._lines(rings, color, width, 2)
        self.hatch(labels == label_map.ignore, cell)

    def hatch(self, mask: np.ndarray | bool, cell: Cell) -> None:
        """A (h, w) mask that says: nobody annotated this."""
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path as Outline

        for part in trace_regions(np.asarray(mask)) if np.any(mask) else ():
            rings = (
                Outline(self._placed(ring, np.shape(mask), cell), closed=True)
                for ring in part.rings
            )
            self.axes.add_patch(
                PathPatch(
                    Outline.make_compound_path(*rings),
                    fc=BARE,
                    ec="#aab4c0",
                    lw=0,
                    hatch="/" * 6,
                    alpha=0.8,
                    zorder=1.8,
                )
            )

    def strong(
        self, mask: np.ndarray, cell: Cell, color: str, width: float = 2.2, dashed: bool = False
    ) -> None:
        """The border of a (h, w) mask in a strong line that shows on bright and dark."""
        rings = [
            self._placed(ring, mask.shape, cell)
            for part in trace_regions(mask)
            for ring in part.rings
        ]
        self._lines(rings, "#000000b0", width + 2, 3)
        self._lines(rings, color, width, 3.1, (0, (3, 2)) if dashed else "-")

    def tint(self, mask: np.ndarray, cell: Cell, rgba: Sequence[float]) -> None:
        """A (h, w) mask in one colour."""
        picture = np.zeros((*mask.shape, 4))
        picture[mask] = rgba
        extent = (cell.x, cell.x + cell.width, cell.y + cell.height, cell.y)
        self.axes.imshow(picture, extent=extent, interpolation="nearest", zorder=1.6)
        self._frame()

    def box(self, cell: Cell, color: str, width: float = 1.6, dashed: bool = False) -> None:
        """A rectangle."""
        right, low = cell.x + cell.width, cell.y + cell.height
        ring = np.array([(cell.x, cell.y), (right, cell.y), (right, low), (cell.x, low)], float)
        ring = np.concatenate([ring, ring[:2]])
        self._lines([ring], "#000000a0", width + 1.6, 4)
        self._lines([ring], color, width, 4.1, (0, (4, 3)) if dashed else "-")

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 12,
        color: str = INK,
        width: float | None = None,
        least: float | None = None,
        **style: Any,
    ) -> float:
        """Words of `size` pixels with their baseline at y, cut to `width`; where they end.

        Before they are cut they become smaller, down to `least`.
        """
        from matplotlib.font_manager import FontProperties

        keys = {"bold": ("weight", "bold"), "serif": ("family", "serif")}
        font = {key: value for name, (key, value) in keys.items() if style.pop(name, False)}
        font = {"family": "sans-serif", **font}

        def measure(words: str) -> float:
            return self.renderer.get_text_width_height_descent(
                words, FontProperties(**font, size=size * 72 / DPI), ismath=False
            )[0]

        if width is not None and least is not None:
            size = max(least, min(size, size * width / max(measure(words), 1)))

        if width is not None and measure(words) > width:
            low, high = 0, len(words)
            while low < high:
                middle = (low + high + 1) // 2
                wide = measure(words[:middle].rstrip(" ,") + "…")
                low, high = (middle, high) if wide <= width else (low, middle - 1)
            words = words[:low].rstrip(" ,") + "…"
        self.axes.text(
            x, y, words, color=color, parse_math=False, va="baseline", zorder=5,
            size=size * 72 / DPI, **font, **style,
        )  # fmt: skip
        return x + measure(words)

    def tag(self, cell: Cell, words: str, color: str) -> None:
        """A short word on a patch of colour in a cell's upper left corner."""
        from matplotlib.patches import Rectangle

        wide = 9 * len(words) + 8
        self.axes.add_patch(Rectangle((cell.x, cell.y), wide, 18, fc=color, lw=0, zorder=4.5))
        self.text(cell.x + 4.5, cell.y + 14, words, 13, "#000000", bold=True)

    def chip(self, x: float, y: float, color: Any, size: float = 10) -> float:
        """A small square on the baseline y; where words may follow."""
        from matplotlib.patches import Rectangle

        self.axes.add_patch(
            Rectangle((x, y - size + 0.5), size, size, fc=color, ec="#00000060", lw=0.6, zorder=5)
        )
        return x + size + 6

    def head(self, title: str, lead: str) -> None:
        """Title and one line below, at the top."""
        wide = self.width - 2 * MARGIN
        self.text(MARGIN, 40, title, 25, serif=True, bold=True, width=wide, least=17)
        self.text(MARGIN, 63, lead, 13, SOFT, width=wide)

    def legend(self, entries: Iterable[tuple[Any, str]], y: float) -> None:
        """Chips and words in a row; what finds no place is left out."""
        x = float(MARGIN)
        for color, words in entries:
            x = self.chip(x, y, color)
            x = self.text(x, y, words, 12, SOFT, width=max(self.width - MARGIN - x, 30)) + 20
            if x > self.width - MARGIN - 60:
                return

    def save(self, path: Path) -> Path:
        """Write the sheet, in the format that the name tells: .png, .pdf or .svg."""
        path = checked(path)
        make_folder(path.parent)
        self._frame()
        undated = {".png": {"Software": None}, ".pdf": {"CreationDate": None}}
        metadata = undated.get(path.suffix.lower(), {"Date": None})
        with written_beside(path) as beside:
            self.figure.savefig(beside, dpi=DPI, facecolor=PAPER, metadata=metadata)
        return path

    def _placed(self, ring: np.ndarray, shape: Sequence[int], cell: Cell) -> np.ndarray:
        scale = (cell.width / shape[1], cell.height / shape[0])
        return np.concatenate([ring, ring[:2]]) * scale + (cell.x, cell.y)

    def _lines(self, rings: list, color: Any, width: float, zorder: float, style="-") -> None:
        from matplotlib.collections import LineCollection

        points = width * 72 / DPI
        self.axes.add_collection(
            LineCollection(rings, colors=color, linewidths=points, linestyles=style, zorder=zorder),
            autolim=False,
        )


def checked(path: Path) -> Path:
    """The path, if it names a kind of picture."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise OutputError(
            "unknown kind of picture", path, path.suffix or "no suffix", "use " + ", ".join(FORMATS)
        )
    return path


def viewed(volume: Volume, pixels: int, mean: bool = False) -> np.ndarray:
    """A section, or a volume's middle plane, at no more than `pixels` on the long side.

    Returns
    -------
    (c, h, w) array
        Means over blocks for images, the blocks' central pixels for labels. Read by strips.
    """
    axis = None if volume.ndim == 2 else 0
    step = -(-max(volume.spatial_shape[-2:]) // max(pixels, 1))
    return shrink(volume, axis, max(step, 1), mean=mean)


def aspect(volume: Volume) -> float:
    """Width over height of the shown plane, in micrometres."""
    (height, width), (step_y, step_x) = volume.spatial_shape[-2:], volume.spacing[-2:]
    return width * step_x / (height * step_y)


def composites(views: Sequence[np.ndarray], names: Sequence[str] = ()) -> list[np.ndarray]:
    """RGB pictures of several (c, h, w) views, all stretched alike, so that they compare.

    >>> dark, bright = composites([np.zeros((1, 2, 2)), np.ones((1, 2, 3))])
    >>> dark.shape, int(dark.max()), int(bright.min())
    ((2, 2, 3), 0, 255)
    """
    flat = np.concatenate([view.reshape(len(view), 1, -1) for view in views], axis=-1)
    picture = composite(flat, names)[0]
    ends = np.cumsum([view[0].size for view in views])
    parts = np.split(picture, ends[:-1])
    return [part.reshape(*view.shape[1:], 3) for part, view in zip(parts, views)]
