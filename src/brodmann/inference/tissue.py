"""Where there is tissue, from a small picture of the image; the rest need not be predicted."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit

from brodmann.core import DataError, RecipeError, Volume
from brodmann.core.volume import Window
from brodmann.io.raw import blocks, chunks_of

BAND = 1 << 24
"""Values read at once, about."""


@dataclass(frozen=True, eq=False)
class TissueMask:
    """A coarse mask over an image of `shape`: pixel p lies in ``low[p // scale]`` on each axis.

    Example
    -------
    >>> mask = TissueMask(np.array([[False, True]]), (2, 3), (2, 5))
    >>> mask.window((slice(0, 1), slice(1, 5))).tolist()
    [[False, False, True, True]]
    """

    low: np.ndarray
    scale: tuple[int, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        expected = tuple(math.ceil(n / s) for n, s in zip(self.shape, self.scale))
        if self.low.shape != expected:
            raise DataError(f"a tissue mask of shape {expected} is needed", found=self.low.shape)

    def _bins(self, window: Window) -> list[np.ndarray]:
        spans = zip(window, self.scale, self.shape)
        return [np.arange(*slot.indices(size)) // step for slot, step, size in spans]

    def window(self, window: Window) -> np.ndarray:
        """The mask of a window at full resolution, bool."""
        return self.low[np.ix_(*self._bins(window))]

    def any(self, window: Window) -> bool:
        """Whether the window holds any tissue; nothing of its size is made."""
        bins = self._bins(window)
        if any(len(axis) == 0 for axis in bins):
            return False
        return bool(self.low[tuple(slice(axis[0], axis[-1] + 1) for axis in bins)].any())

    def digest(self) -> str:
        """A fingerprint of the mask, for resuming and caching."""
        text = f"{self.low.shape}{self.scale}{self.shape}".encode()
        return hashlib.blake2b(text + np.packbits(self.low).tobytes(), digest_size=16).hexdigest()


class NoTissue(DataError):
    """The image is even: nothing in it stands out from the background."""


def block_means(image: Volume, scale: tuple[int, ...]) -> np.ndarray:
    """(c, *low) float32 means of blocks of `scale` pixels; the last ones may be cut.

    Read in portions of about BAND values, in whole chunks of the file, each once: memory does
    not grow with the image.
    """
    shape = image.spatial_shape
    low = tuple(math.ceil(n / s) for n, s in zip(shape, scale))
    sums = np.zeros((image.num_channels, *low))
    # Sections are volumes of one plane.
    lead = (1,) * (4 - sums.ndim)
    steps = np.array(lead + tuple(scale), np.int64)
    kind = np.zeros(1, np.int64 if image.dtype.kind in "bui" else np.float64)
    windows = list(_portions(image))
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(image.read, windows[0])
        for window, following in zip(windows, [*windows[1:], None]):
            values = coming.result()
            if following is not None:
                coming = reader.submit(image.read, following)
            if values.dtype.kind == "f" and values.dtype.itemsize < 4:
                values = values.astype(np.float32)
            _add_blocks(
                np.ascontiguousarray(values, values.dtype.newbyteorder("=")).reshape(
                    len(values), *lead, *values.shape[1:]
                ),
                np.array([0] * len(lead) + [part.start for part in window], np.int64),
                steps,
                kind,
                sums.reshape(len(sums), *lead, *low),
            )
    for axis, (size, step) in enumerate(zip(shape, scale), start=1):
        counts = np.diff(np.append(np.arange(0, size, step), size))
        sums /= counts.reshape(-1, *(1,) * (image.ndim - axis))
    return sums.astype(np.float32)


@njit(cache=True, nogil=True)
def _add_blocks(values, first, steps, kind, sums):  # pragma: no cover (compiled)
    """Each voxel to the sum of its block; `kind` is what sums within a line are of."""
    channels, depth, height, width = values.shape
    z0, y0, x0 = first
    for c in range(channels):
        for z in range(depth):
            for y in range(height):
                row = values[c, z, y]
                blocks = sums[c, (z0 + z) // steps[0], (y0 + y) // steps[1]]
                x = 0
                while x < width:
                    block = (x0 + x) // steps[2]
                    stop = min(width, (block + 1) * steps[2] - x0)
                    total = kind[0]
                    for k in range(x, stop):
                        total += row[k]
                    blocks[block] += total
                    x = stop


def _portions(image: Volume) -> Iterator[Window]:
    """Windows that cover the image once: few values each, rows before planes, whole chunks."""
    unit = chunks_of(image.data)
    size = [min(n, s) for n, s in zip((unit or (1,) * 9)[-image.ndim :], image.spatial_shape)]
    for axis in reversed(range(image.ndim)):
        room = BAND // max(1, image.num_channels * math.prod(size))
        size[axis] = min(image.spatial_shape[axis], size[axis] * max(1, room))
    return blocks(image.spatial_shape, tuple(size))


def tissue_mask(
    image: Volume,
    *,
    size: int | None = None,
    method: str = "otsu",
    tissue: str = "auto",
    closing_um: float | None = None,
    margin_um: float | None = None,
    max_hole_um: float | None = None,
    min_share: float = 0.002,
) -> TissueMask:
    """Find the tissue on a section or in a volume by its brightness, at low resolution.

    Block means at about `size` pixels along the longest side; each channel becomes its
    distance from the background in its own range, the channels' largest is median
    filtered (3 pixels) and cut by `method`; then closing, hole filling, removal of small
    pieces and a margin.

    Parameters
    ----------
    image : Volume
        2D or 3D, any number of channels, any dtype. Non-finite values count as background.
    size : int, optional
        Low-resolution pixels along the longest side. Default: 512 for a section, 128 for a
        volume.
    method : {"otsu", "triangle"}
        Triangle finds faint tissue that fills little of the image.
    tissue : {"auto", "brighter", "darker"}
        Than the background. "auto" takes the median at the image's border for background
        and either side of it for tissue; it needs a border that is mostly empty.
    closing_um : float, optional
        Radius that bridges gaps. Default: two low-resolution pixels. 0: none.
    margin_um : float, optional
        How far the mask grows in the end. Default: one low-resolution pixel. 0: none.
    max_hole_um : float, optional
        Diameter of a disk (ball) as large as the largest hole that is filled. Default: all
        holes are filled.
    min_share : float
        Pieces smaller than this share of the image are dropped.

    Returns
    -------
    TissueMask

    Raises
    ------
    NoTissue
        If nothing stands out from the background.
    DataError
        If no piece is large enough.

    Example
    -------
    >>> section = np.zeros((1, 60, 90), np.uint8)
    >>> section[:, 20:40, 30:70] = 200
    >>> mask = tissue_mask(Volume(section, "cyx", (10.0, 10.0)))
    >>> bool(mask.window((slice(20, 40), slice(30, 70))).all()), mask.any((slice(0, 9), slice(90)))
    (True, False)
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu, threshold_triangle

    cuts = {"otsu": threshold_otsu, "triangle": threshold_triangle}
    if method not in cuts:
        raise RecipeError("unknown threshold", "method", repr(method), f"use one of {list(cuts)}")
    if tissue not in ("auto", "brighter", "darker"):
        raise RecipeError(
            "unknown side", "tissue", repr(tissue), "use 'auto', 'brighter' or 'darker'"
        )
    extent = [n * um for n, um in zip(image.spatial_shape, image.spacing)]
    pixel = max(extent) / (size or (512 if image.ndim == 2 else 128))
    scale = tuple(
        min(n, max(1, round(pixel / um))) for n, um in zip(image.spatial_shape, image.spacing)
    )
    low_um = [s * um for s, um in zip(scale, image.spacing)]
    contrast = _contrast(block_means(image, scale), tissue)
    contrast = ndimage.median_filter(contrast, 3)
    if contrast.max() - contrast.min() < 1e-6:
        raise NoTissue(
            "no tissue stands out from the background",
            found="an even image",
            fix="predict without a tissue mask",
        )
    mask = contrast > cuts[method](contrast)
    mask = _grow(mask, 2 * max(low_um) if closing_um is None else closing_um, low_um, close=True)
    mask = _fill(mask, max_hole_um, low_um)
    pieces, count = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    keep = sizes >= min_share * mask.size
    keep[0] = False
    if not keep.any():
        raise DataError(
            "no piece of tissue is large enough",
            "min_share",
            f"largest {sizes[1:].max(initial=0) / mask.size:.2g}",
            "lower it, or predict without a tissue mask",
        )
    mask = _grow(keep[pieces], max(low_um) if margin_um is None else margin_um, low_um)
    return TissueMask(mask, scale, image.spatial_shape)


def _contrast(means: np.ndarray, tissue: str) -> np.ndarray:
    """Largest over channels of the distance from the background, each in 0..1 of its range."""
    contrast = np.zeros(means.shape[1:], np.float32)
    for channel in means:
        finite = np.isfinite(channel)
        if not finite.any():
            continue
        inner = tuple(slice(1, -1) if n > 2 else slice(None) for n in channel.shape)
        border = finite.copy()
        border[inner] = False
        if tissue == "auto":
            level = np.median(channel[border] if border.any() else channel[finite])
            away = np.abs(channel - level)
        else:
            sign = 1 if tissue == "brighter" else -1
            away = sign * channel - np.percentile(sign * channel[finite], 1)
        away = np.where(finite, np.maximum(away, 0), 0)
        # A few saturated specks must not set the scale.
        top = np.percentile(away, 99.5) or away.max()
        if top > 0:
            np.maximum(contrast, np.minimum(away / top, 1), out=contrast)
    return contrast


def _grow(
    mask: np.ndarray, radius_um: float, low_um: list[float], close: bool = False
) -> np.ndarray:
    """Dilate by a ball; with `close`, shrink back by it. Distances are exact, in micrometres."""
    from scipy.ndimage import distance_transform_edt

    if radius_um <= 0 or not mask.any():
        return mask
    # Padded so that the image's end does not count as background when shrinking back.
    pad = [math.ceil(radius_um / um) + 1 for um in low_um]
    wide = np.pad(mask, [(n, n) for n in pad])
    reach = radius_um * (1 + 1e-6)
    wide = distance_transform_edt(~wide, sampling=low_um) <= reach
    if close:
        wide = distance_transform_edt(wide, sampling=low_um) > reach
    inside = wide[tuple(slice(n, -n) for n in pad)]
    return inside | mask


def _fill(mask: np.ndarray, max_hole_um: float | None, low_um: list[float]) -> np.ndarray:
    """Fill enclosed holes, all of them or those no larger than a ball of this diameter."""
    from scipy import ndimage

    filled = ndimage.binary_fill_holes(mask)
    if max_hole_um is None:
        return filled
    holes, count = ndimage.label(filled & ~mask)
    sizes = np.bincount(holes.ravel(), minlength=count + 1) * math.prod(low_um)
    radius = max_hole_um / 2
    limit = math.pi * radius**2 if mask.ndim == 2 else 4 / 3 * math.pi * radius**3
    small = sizes <= limit
    small[0] = False
    return mask | small[holes]
