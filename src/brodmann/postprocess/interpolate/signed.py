"""Shape-based interpolation: signed distances of all labels, blended linearly."""

from __future__ import annotations

import numpy as np

from brodmann.postprocess.interpolate.distance import distance_to
from brodmann.postprocess.interpolate.times import Between, Others, as_ticks

Box = tuple[slice, slice]


def distance_between(
    before: np.ndarray, after: np.ndarray, steps: int, spacing: tuple[float, float]
) -> Between:
    """The label whose signed distance, blended linearly between the slices, is largest.

    A label's signed distance is that of a pixel's centre from its border, positive inside. A
    label that is absent from one slice has there its distances in the other, less its
    greatest depth: all of it has just shrunk away. Of one that fills a slice the rest has
    shrunk away likewise. Against a slice that another label fills, both are as far from any
    border as the slice's diagonal.

    Two labels' lines cross once, so that a pixel is described by when it changes; third labels
    that stand higher where a pixel's two labels cross are kept apart. Distances are computed
    label by label within its own bounding box, and never held for all labels.

    Parameters
    ----------
    before, after : (h, w) non-negative integers
        Class indices below 2**31.
    steps : int
        Not used: times do not depend on it.
    spacing : (y, x)
        Pixel spacing in micrometres.

    Notes
    -----
    Raya and Udupa (1990) for one label; the largest of all for many.

    Example
    -------
    >>> before, after = np.array([[1] * 2 + [0] * 6]), np.array([[1] * 6 + [0] * 2])
    >>> distance_between(before, after, 4, (1.0, 1.0)).slices(4).sum(axis=(1, 2)).tolist()
    [3, 4, 5]
    """
    pixels = np.flatnonzero(before.reshape(-1) != after.reshape(-1))
    if not len(pixels):
        return Between(before, after, pixels, np.empty(0, np.int32))
    node = np.full(before.shape, -1, np.int64)
    node.reshape(-1)[pixels] = np.arange(len(pixels))
    first, last = before.reshape(-1)[pixels], after.reshape(-1)[pixels]
    # Of each changing pixel: its old label's height in both slices, then its new label's.
    own = np.empty((len(pixels), 4))
    boxes = _boxes(before, after)
    for label in np.union1d(first, last).tolist():
        window = _grown(boxes[label], 1, before.shape)
        height = _heights(before, after, label, window, spacing)
        nodes = node[window]
        for column, mine in ((0, first), (2, last)):
            at = np.flatnonzero(nodes.reshape(-1) >= 0)
            at = at[mine[nodes.reshape(-1)[at]] == label]
            own[nodes.reshape(-1)[at], column] = height[0].reshape(-1)[at]
            own[nodes.reshape(-1)[at], column + 1] = height[1].reshape(-1)[at]
    near, far = own[:, 0] - own[:, 2], own[:, 3] - own[:, 1]
    ticks = as_ticks(near, far)
    cross = (far * own[:, 0] + near * own[:, 1]) / (near + far)
    others = _others(before, after, pixels, own, (near, far, cross), boxes, spacing)
    return Between(before, after, pixels, ticks, 0, others)


def _others(before, after, pixels, own, lines, boxes, spacing) -> Others:
    """Third labels that are on top where a pixel's two labels cross."""
    near, far, cross = lines
    low = np.flatnonzero(cross < 0)
    y, x = np.divmod(pixels[low], before.shape[1])
    first, last = before[y, x], after[y, x]
    found: list[tuple[np.ndarray, ...]] = []
    for label, box in boxes.items():
        away = [
            np.maximum(np.maximum(part.start - 0.5 - at, at - part.stop + 0.5), 0) * step
            for part, at, step in zip(box, (y, x), spacing)
        ]
        within = np.hypot(*away) < -cross[low]
        near_by = np.flatnonzero(within & (first != label) & (last != label))
        if not len(near_by):
            continue
        ys, xs = y[near_by], x[near_by]
        window = tuple(
            slice(min(part.start, at.min()), max(part.stop, at.max() + 1))
            for part, at in zip(box, (ys, xs))
        )
        window = _grown(window, 1, before.shape)
        height = _heights(before, after, label, window, spacing)
        value = np.stack([h[ys - window[0].start, xs - window[1].start] for h in height], 1)
        at = low[near_by]
        top = (far[at] * value[:, 0] + near[at] * value[:, 1]) / (near[at] + far[at]) > cross[at]
        ids = np.full(int(top.sum()), label, before.dtype)
        found.append((at[top], ids, value[top], own[at[top]]))
    if not found:
        return Others(
            np.empty(0, np.int64), np.empty(0, before.dtype), np.empty((0, 2)), np.empty((0, 4))
        )
    return Others(*(np.concatenate(column) for column in zip(*found)))


def _heights(
    before: np.ndarray, after: np.ndarray, label: int, window: Box, spacing: tuple[float, float]
) -> list[np.ndarray]:
    """Signed distances to one label in both slices, within a window that holds all of it."""
    masks = [image[window] == label for image in (before, after)]
    known = [
        distance_to(~mask, spacing) - distance_to(mask, spacing)
        if mask.any() and not mask.all()
        else None
        for mask in masks
    ]
    diagonal = float(np.hypot(*(n * step for n, step in zip(before.shape, spacing))))
    heights = []
    for mask, own, other in zip(masks, known, known[::-1]):
        if own is not None:
            heights.append(own)
        elif other is not None:
            heights.append(other - (other.min() if mask.any() else other.max()))
        else:
            heights.append(np.full(mask.shape, diagonal if mask.any() else -diagonal))
    return heights


def _boxes(before: np.ndarray, after: np.ndarray) -> dict[int, Box]:
    """The box around each label in both slices together."""
    from scipy.ndimage import find_objects

    boxes: dict[int, Box] = {}
    for image in (before, after):
        for label, box in enumerate(find_objects(image.astype(np.int32) + 1)):
            if box is None:
                continue
            if label in boxes:
                box = tuple(
                    slice(min(a.start, b.start), max(a.stop, b.stop))
                    for a, b in zip(boxes[label], box)
                )
            boxes[label] = box
    return boxes


def _grown(box: Box, by: int, shape: tuple[int, ...]) -> Box:
    return tuple(
        slice(max(part.start - by, 0), min(part.stop + by, n)) for part, n in zip(box, shape)
    )
