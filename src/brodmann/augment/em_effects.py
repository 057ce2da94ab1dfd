"""What goes wrong in single sections, boxes and whole patches: changes of the image alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from brodmann.augment import intensity

FILLS = ("black", "mean", "noise")
"""What a blank holds: the darkest value there is, the mean, or noise about it."""


def change(image: np.ndarray, steps: list[dict[str, Any]]) -> None:
    """Change (c, z, y, x) float32, C-contiguous, in place, channel by channel.

    All channels are changed alike; noise is drawn anew for each.
    """
    for step in steps:
        seed = step.get("seed")
        noise = None if seed is None else np.random.Generator(np.random.PCG64(seed))
        for channel in image:
            _change(channel, step, noise)


def forget(labels: np.ndarray, steps: list[dict[str, Any]], label: int) -> np.ndarray:
    """Labels (z, y, x) with `label` where a missing section is not to be learned."""
    sections = [z for step in steps if step.get("forget") for z in step["sections"]]
    if sections:
        labels = labels.copy()
        labels[sections] = label
    return labels


def _change(channel: np.ndarray, step: dict[str, Any], noise: np.random.Generator | None) -> None:
    op = step["op"]
    if op == "contrast":
        for part, factor in _parts(channel, step["factor"]):
            intensity.contrast(part, factor)
    elif op == "brightness":
        for part, shift in _parts(channel, step["shift_std"]):
            part += np.float32(shift)
    elif op == "gamma":
        for part, exponent in _parts(channel, step["exponent"]):
            intensity.gamma(part, exponent, step["invert"])
    elif op == "noise":
        intensity.add_noise(channel, step["std"], noise)
    elif op == "blur":
        _blur(channel, step)
    elif op == "cutout":
        parts = [channel[tuple(slice(*side) for side in box)] for box in step["boxes"]]
        _blank(channel, parts, step["fill"], noise)
    elif op == "missing":
        _blank(channel, [channel[z] for z in step["sections"]], step["fill"], noise)


def _parts(channel: np.ndarray, value: float | list[float]) -> Any:
    """The patch with its one value, or each section with its own."""
    return zip(channel, value) if isinstance(value, list) else [(channel, value)]


def _blur(channel: np.ndarray, step: dict[str, Any]) -> None:
    (first, last), *plane = step["box"]
    inside = tuple(slice(*side) for side in plane)
    for section in channel[first:last]:
        soft = section.copy()
        intensity.blur(soft, step["sigma_px"])
        section[inside] = soft[inside]


def _blank(
    channel: np.ndarray,
    parts: list[np.ndarray],
    fills: list[str],
    noise: np.random.Generator | None,
) -> None:
    """Fill parts of a channel by what the whole of it was before."""
    low = channel.min()
    mean, std = intensity.moments(channel.reshape(-1))
    for part, fill in zip(parts, fills):
        if fill == "noise" and noise is not None:
            part[:] = noise.standard_normal(part.shape, np.float32)
            part *= np.float32(std)
            part += np.float32(mean)
        else:
            part[:] = low if fill == "black" else np.float32(mean)
