"""Samples that a split should have kept apart: twins, mirrored twins, one animal on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from brodmann.core import Dataset, Volume
from brodmann.datasets.layout import Finding

SIDE = {2: 64, 3: 24}
"""Pixels along each side of a thumbnail."""
SAME_LABELS = 0.95
"""Label maps that agree on this share of what either labels are twins. The two hemispheres
of the Allen atlas agree on 0.97 to 0.99 in 13 groups, sections 100 um apart on 0.78 to 0.92."""
SAME_IMAGE = 0.98
"""Images whose thumbnails correlate above this are twins."""
BLOCK = 64


@dataclass(frozen=True)
class Twin:
    """A sample of one split and its nearest in another; `flip` names the mirrored axes."""

    a: str
    split_a: str
    b: str
    split_b: str
    kind: str
    flip: str
    agreement: float

    def as_finding(self) -> Finding:
        how = f", mirrored along {self.flip}" if self.flip else ""
        measure = "agreement" if self.kind == "labels" else "correlation"
        return Finding(
            "warning",
            f"{self.kind}/{self.a}",
            f"leak: nearly the same {self.kind} as {self.b}{how}",
            f"{measure} {self.agreement:.3f} between splits {self.split_a} and {self.split_b}",
            f"leave {self.b} out of {self.split_b}, or put both into one split",
        )


def label_thumbnail(labels: Volume) -> np.ndarray:
    """Ids at the centres of a regular grid of 64 x 64 (24 x 24 x 24 in 3D), int64.

    The grid spans the whole field, so that maps of different size can be compared.
    """
    side = SIDE[labels.ndim]
    at = [((np.arange(side) + 0.5) * n / side).astype(int) for n in labels.spatial_shape]
    if labels.ndim == 2:
        return labels.read()[0][np.ix_(*at)].astype(np.int64)
    planes = [labels.read((slice(z, z + 1),) + (slice(None),) * 2)[0, 0] for z in at[0]]
    return np.stack([plane[np.ix_(*at[1:])] for plane in planes]).astype(np.int64)


def image_thumbnail(image: Volume) -> np.ndarray:
    """Means over a grid of 64 x 64 (24 planes of 24 x 24 in 3D), channels averaged, float32."""
    side = SIDE[image.ndim]
    if image.ndim == 2:
        return _means(image.read().mean(axis=0, dtype=np.float32), side)
    at = ((np.arange(side) + 0.5) * image.spatial_shape[0] / side).astype(int)
    whole = (slice(None),) * 2
    return np.stack(
        [
            _means(image.read((slice(z, z + 1), *whole))[:, 0].mean(axis=0, dtype=np.float32), side)
            for z in at
        ]
    )


def _means(plane: np.ndarray, side: int) -> np.ndarray:
    for axis in range(2):
        size = plane.shape[axis]
        if size < side:
            index = ((np.arange(side) + 0.5) * size / side).astype(int)
            plane = np.take(plane, index, axis=axis)
            continue
        edges = np.arange(side) * size // side
        widths = np.diff([*edges, size])
        sums = np.add.reduceat(plane, edges, axis=axis)
        plane = sums / np.expand_dims(widths, 1 - axis).astype(np.float32)
    # What is not finite has been reported; here it would only make NumPy warn.
    return np.nan_to_num(plane.astype(np.float32), posinf=0, neginf=0)


def label_agreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share of equal ids where either is labelled, for all pairs: (n, p), (m, p) -> (n, m).

    >>> label_agreement(np.array([[1, 2, 0, 0]]), np.array([[1, 3, 0, 0], [1, 2, 0, 0]])).tolist()
    [[0.5, 1.0]]
    """
    result = np.zeros((len(a), len(b)))
    for i, one in enumerate(a):
        for start in range(0, len(b), BLOCK):
            part = b[start : start + BLOCK]
            either = np.count_nonzero((one != 0) | (part != 0), axis=1)
            equal = np.count_nonzero((one == part) & (one != 0), axis=1)
            result[i, start : start + BLOCK] = equal / np.maximum(either, 1)
    return result


def image_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of all pairs of rows; a constant row correlates with nothing.

    >>> image_correlation(np.array([[0., 1., 2.]]), np.array([[0., 2., 4.], [5., 5., 5.]])).tolist()
    [[1.0, 0.0]]
    """

    def unit(rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float64) - rows.mean(axis=1, keepdims=True, dtype=np.float64)
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)

    return np.round(unit(a) @ unit(b).T, 12)


def twins(
    thumbnails: Mapping[str, np.ndarray],
    splits: Mapping[str, Sequence[str]],
    kind: str,
    threshold: float | None = None,
) -> list[Twin]:
    """For each sample of the smaller of two splits, its nearest in the other, if near enough.

    Parameters
    ----------
    thumbnails : mapping of str to ndarray
        Sample -> thumbnail; samples without one are passed over.
    splits : mapping of str to sequence of str
    kind : "labels" or "images"
        How likeness is measured: `label_agreement` or `image_correlation`.
    threshold : float, optional
        Default 0.95 for labels and 0.98 for images.

    Every pair is compared as it is and mirrored along every combination of axes.
    """
    compare = label_agreement if kind == "labels" else image_correlation
    least = threshold if threshold is not None else SAME_LABELS if kind == "labels" else SAME_IMAGE
    found = []
    for one, other in combinations(splits, 2):
        small, large = sorted((one, other), key=lambda split: len(splits[split]))
        for ndim in (2, 3):
            names = [
                [n for n in splits[s] if n in thumbnails and thumbnails[n].ndim == ndim]
                for s in (small, large)
            ]
            if not all(names):
                continue
            a, b = (np.stack([thumbnails[n] for n in part]) for part in names)
            if kind == "labels":
                _, dense = np.unique(np.concatenate([a, b]), return_inverse=True)
                # Background stays 0 whether or not it occurs.
                dense = dense.reshape(-1, *a.shape[1:]) + (min(a.min(), b.min()) > 0)
                a, b = np.split(dense.astype(np.int32), [len(a)])
            best = np.full(len(a), -np.inf)
            mate, flip = np.zeros(len(a), int), [""] * len(a)
            axes = "zyx"[-ndim:]
            for count in range(ndim + 1):
                for mirrored in combinations(range(ndim), count):
                    turned = np.flip(b, [axis + 1 for axis in mirrored]).reshape(len(b), -1)
                    scores = compare(a.reshape(len(a), -1), turned)
                    nearest = scores.argmax(axis=1)
                    for i, j in enumerate(nearest):
                        if scores[i, j] > best[i]:
                            best[i], mate[i] = scores[i, j], j
                            flip[i] = "".join(axes[axis] for axis in mirrored)
            found += [
                Twin(names[0][i], small, names[1][mate[i]], large, kind, flip[i], float(best[i]))
                for i in range(len(a))
                if best[i] >= least and names[0][i] != names[1][mate[i]]
            ]
    return found


def shared_subjects(dataset: Dataset) -> list[Finding]:
    """Animals with samples in more than one split, "unlabelled" not counted."""
    findings = []
    named = [split for split in dataset.splits if split != "unlabelled"]
    for one, other in combinations(named, 2):
        sides = [{dataset.subjects[n] for n in dataset.splits[s]} for s in (one, other)]
        both = sorted(sides[0] & sides[1])
        if both:
            shown = ", ".join(both[:5]) + (" ..." if len(both) > 5 else "")
            findings.append(
                Finding(
                    "warning",
                    "dataset.yaml",
                    f"leak: animals on both sides of splits {one!r} and {other!r}",
                    f"{len(both)}: {shown}",
                    "keep all samples of an animal in one split, or say that the score"
                    " measures interpolation",
                )
            )
    return findings


def leaks(dataset: Dataset, threshold: float | None = None) -> list[Finding]:
    """Warnings about near-identical label maps and images, and animals, across splits.

    Reads every sample of the splits once. Mirrored copies count: an atlas whose
    hemispheres are mirror images gives a test section away by its twin. The split
    "unlabelled", from which nothing is learned or scored, cannot leak.
    """
    splits = {key: names for key, names in dataset.splits.items() if key != "unlabelled"}
    dataset = dataset.with_splits(splits)
    labels, images = {}, {}
    for name in dict.fromkeys(n for members in dataset.splits.values() for n in members):
        sample = dataset[name]
        images[name] = image_thumbnail(sample.image)
        if sample.labels is not None:
            labels[name] = label_thumbnail(sample.labels)
    pairs = twins(labels, dataset.splits, "labels", threshold) + twins(
        images, dataset.splits, "images"
    )
    return [*shared_subjects(dataset), *(pair.as_finding() for pair in pairs)]
