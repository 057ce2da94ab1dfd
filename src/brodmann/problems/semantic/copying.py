"""The baselines that every net must beat: labels copied, or carried by registration."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from brodmann.core import BACKGROUND, Dataset, LabelMap, Sample, Volume
from brodmann.preprocess import PRIOR_SCALE, image_channels
from brodmann.preprocess.resample import nearest

THUMBNAIL = 32
"""Side, in pixels, of the pictures by which likeness is judged."""


def copied_labels(train: Dataset, ignore: int | None = None) -> Callable[[Sample], Volume]:
    """A predictor that copies labels.

    Nearest means nearest in `meta["position"]` where all samples have one (sections of one
    block), ties going to the earlier; else the training image with the highest correlation of
    thumbnails. Copied ignore pixels become background.

    Parameters
    ----------
    train : Dataset
        Labelled samples.
    ignore : int, optional
        The ignore id.

    Returns
    -------
    callable
        Sample -> label Volume on the sample's grid.
    """
    places, thumbs = {}, {}
    for name in train.names:
        sample = train[name]
        places[name] = sample.meta.get("position")
        thumbs[name] = _thumbnail(sample.image)
    by_position = all(place is not None for place in places.values())

    def predict(sample: Sample) -> Volume:
        position = sample.meta.get("position")
        if by_position and position is not None:
            best = min(train.names, key=lambda name: abs(places[name] - position))
        else:
            own = _thumbnail(sample.image)
            best = max(train.names, key=lambda name: _likeness(own, thumbs[name]))
        labels = train[best].labels.numpy()
        copied = nearest(labels, sample.image.spatial_shape)
        if ignore is not None:
            copied = np.where(copied == ignore, BACKGROUND, copied).astype(labels.dtype)
        return Volume(copied, sample.image.spatial_axes, sample.image.spacing)

    return predict


def prior_labels(label_map: LabelMap) -> Callable[[Sample], Volume]:
    """A predictor that answers with the likeliest class of a sample's prior channels."""

    def predict(sample: Sample) -> Volume:
        first = image_channels(sample.image.channels)
        prior = sample.image.read()[first:]
        background = PRIOR_SCALE - prior.sum(0, dtype=np.float32)
        classes = np.concatenate([background[None], prior]).argmax(0)
        return Volume(label_map.to_ids(classes), sample.image.spatial_axes, sample.image.spacing)

    return predict


def _thumbnail(image: Volume) -> np.ndarray:
    """A few pixels of each channel's square root, which tames bright spots; zero mean."""
    steps = tuple(slice(None, None, max(1, n // (4 * THUMBNAIL))) for n in image.spatial_shape)
    values = np.sqrt(np.maximum(image.read(steps).astype(np.float32), 0))
    picks = [
        np.minimum((np.arange(THUMBNAIL) + 0.5) * n / THUMBNAIL, n - 1).astype(int)
        for n in values.shape[1:]
    ]
    small = values[np.ix_(range(len(values)), *picks)]
    return small - small.mean(axis=tuple(range(1, small.ndim)), keepdims=True)


def _likeness(a: np.ndarray, b: np.ndarray) -> float:
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / norm if norm and a.shape == b.shape else -1.0
