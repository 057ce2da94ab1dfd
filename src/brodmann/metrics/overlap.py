"""Overlap of predicted with true regions, per class and in the mean, from a contingency matrix."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brodmann.core import BACKGROUND, DataError, LabelMap, nearest

MEANS = ("dice", "f1", "iou", "precision", "recall")
"""Keys of a mean: mean_dice, ...; F1 is Dice by another name, and both names are expected."""


@dataclass(frozen=True, eq=False)
class Overlap:
    """What one contingency matrix says of every class; all arrays are (n,), class 0 background.

    `truth_pixels`, `pred_pixels`, `tp`, `fp`, `fn` are int64. `dice`, `iou`, `precision`,
    `recall` are float64 in 0..1, NaN for a class in neither image. `counted` marks the classes
    that enter `mean`, whose keys are mean_dice, mean_f1, mean_iou, mean_precision and
    mean_recall (None if no class counts). `scope` marks the classes that `rows` lists.
    """

    ids: tuple[int, ...]
    acronyms: tuple[str, ...]
    names: tuple[str, ...]
    truth_pixels: np.ndarray
    pred_pixels: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    dice: np.ndarray
    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    counted: np.ndarray
    scope: np.ndarray
    mean: dict[str, float | None]

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each class, background only where it was asked for; None for NaN."""
        shares = ("dice", "iou", "precision", "recall")
        numbers = ("truth_pixels", "pred_pixels", "tp", "fp", "fn")
        return [
            {"id": self.ids[i], "acronym": self.acronyms[i], "name": self.names[i]}
            | {key: none_if_nan(getattr(self, key)[i]) for key in shares}
            | {key: int(getattr(self, key)[i]) for key in numbers}
            | {"counted": bool(self.counted[i])}
            for i in np.flatnonzero(self.scope)
        ]


def overlap(
    counts: np.ndarray,
    label_map: LabelMap | None = None,
    *,
    background: bool = False,
    exclude: Iterable[int | str] = (),
) -> Overlap:
    """F1 (= Dice), IoU, precision and recall of every class, and their means over classes.

    A class absent from both truth and prediction is not counted. A class absent from one of
    them counts 0, also where precision or recall alone would be undefined.

    Parameters
    ----------
    counts : (n, n) int
        From `contingency`; a sum of such matrices pools their images.
    label_map : LabelMap, optional
        Gives classes their ids and names; without it the class index is all three.
    background : bool
        Count class 0 too.
    exclude : ids or acronyms
        Classes kept out of the means (DMBM: "AOB", "RSPv6b"). Their pixels still count
        against the classes that they are confused with.

    Raises
    ------
    DataError
        If the matrix does not fit the label map, or nothing is called what `exclude` says.

    Notes
    -----
    The rule for absent classes is that of the PRMix evaluation (specs/regions.md A, Metrics).

    Example
    -------
    >>> counts = np.array([[5, 1, 0, 0], [0, 3, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    >>> found = overlap(counts)
    >>> found.dice.round(3).tolist(), found.mean["mean_iou"]
    ([0.833, 0.857, 0.0, nan], 0.375)
    """
    counts = _square(counts, label_map)
    ids, acronyms, names = _names(len(counts), label_map)
    tp = np.diag(counts).copy()
    truth, pred = counts.sum(1), counts.sum(0)
    present = (truth + pred) > 0
    scope = np.ones(len(counts), bool)
    scope[BACKGROUND] = background
    counted = scope & present
    counted[_find(exclude, ids, acronyms)] = False
    union = truth + pred - tp
    shares = {
        "dice": _share(2 * tp, truth + pred, present),
        "iou": _share(tp, union, present),
        "precision": _share(tp, pred, present),
        "recall": _share(tp, truth, present),
    }
    mean = {
        f"mean_{key}": float(shares["dice" if key == "f1" else key][counted].mean())
        if counted.any()
        else None
        for key in MEANS
    }
    return Overlap(
        ids,
        acronyms,
        names,
        truth,
        pred,
        tp,
        pred - tp,
        truth - tp,
        shares["dice"],
        shares["iou"],
        shares["precision"],
        shares["recall"],
        counted,
        scope,
        mean,
    )


def roll_up(
    counts: np.ndarray, label_map: LabelMap, targets: Sequence[int] | None = None
) -> tuple[np.ndarray, LabelMap]:
    """Add up a contingency matrix over the tree, so that confusions within a region vanish.

    Parameters
    ----------
    counts : (n, n) int
        Over the classes of `label_map`.
    label_map : LabelMap
    targets : sequence of int, optional
        Ids of the coarser regions; default: the primary regions above the classes.

    Returns
    -------
    (m, m) int64, LabelMap
        The coarser matrix, and the map of its classes. A class under none of the targets is
        left out where true, like ignore, and is background where predicted.

    Example
    -------
    >>> from brodmann.core import Label
    >>> tree = [Label(1, "Thalamus", "TH"), Label(2, "VP", "VP", 1), Label(3, "LG", "LG", 1)]
    >>> counts = np.array([[4, 0, 1], [0, 5, 2], [1, 0, 3]])
    >>> roll_up(counts, LabelMap(tree), targets=[1])[0].tolist()
    [[4, 1], [1, 10]]
    """
    counts = _square(counts, label_map)
    group, coarse = coarse_classes(label_map, targets)
    out = np.zeros((coarse.num_classes,) * 2, np.int64)
    rows = np.flatnonzero(group >= 0)
    np.add.at(out, (group[rows][:, None], np.maximum(group, BACKGROUND)[None]), counts[rows])
    return out, coarse


def coarse_classes(
    label_map: LabelMap, targets: Sequence[int] | None = None
) -> tuple[np.ndarray, LabelMap]:
    """For every class its coarser class, (n,) int16 (-1 for none), and the map of those."""
    if targets is None:
        targets = list(dict.fromkeys(label_map.primary(id_) for id_ in label_map.classes))
    coarse, table = label_map.roll_up(targets)
    index = {id_: i for i, id_ in enumerate(coarse.classes, start=1)}
    group = [BACKGROUND, *(index.get(table.get(id_, -1), -1) for id_ in label_map.classes)]
    return np.array(group, np.int16), coarse


def confusions(
    counts: np.ndarray,
    label_map: LabelMap | None = None,
    k: int = 10,
    *,
    background: bool = False,
) -> list[dict[str, Any]]:
    """The k pairs of regions that are confused most, by pixels.

    Parameters
    ----------
    counts : (n, n) int
    label_map : LabelMap, optional
    k : int
    background : bool
        Also pairs of which one is background.

    Returns
    -------
    list of dict
        truth_id, truth, predicted_id, predicted (acronyms), pixels, and share: of the true
        class's pixels, in 0..1. Most pixels first, ties in class order.

    Example
    -------
    >>> confusions(np.array([[9, 0, 0], [0, 6, 2], [0, 1, 3]]), k=1)
    [{'truth_id': 1, 'truth': '1', 'predicted_id': 2, 'predicted': '2', 'pixels': 2, 'share': 0.25}]
    """
    counts = _square(counts, label_map)
    ids, acronyms, _ = _names(len(counts), label_map)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    if not background:
        wrong[BACKGROUND] = wrong[:, BACKGROUND] = 0
    truth = counts.sum(1)
    order = np.argsort(-wrong, axis=None, kind="stable")[: max(k, 0)]
    pairs = [divmod(int(at), len(counts)) for at in order if wrong.flat[at] > 0]
    return [
        {
            "truth_id": ids[i],
            "truth": acronyms[i],
            "predicted_id": ids[j],
            "predicted": acronyms[j],
            "pixels": int(wrong[i, j]),
            "share": float(wrong[i, j] / truth[i]),
        }
        for i, j in pairs
    ]


def none_if_nan(value: Any) -> float | None:
    """A float that JSON can hold: None for NaN and infinities."""
    return float(value) if value is not None and math.isfinite(value) else None


def _share(part: np.ndarray, whole: np.ndarray, present: np.ndarray) -> np.ndarray:
    share = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    share[~present] = np.nan
    return share


def _square(counts: np.ndarray, label_map: LabelMap | None) -> np.ndarray:
    counts = np.asarray(counts)
    n = len(counts) if label_map is None else label_map.num_classes
    if counts.shape != (n, n) or counts.dtype.kind not in "iu":
        raise DataError(
            f"a contingency matrix over {n} classes is {n} x {n} whole numbers",
            found=f"{counts.dtype} {counts.shape}",
        )
    return counts.astype(np.int64)


def _names(
    n: int, label_map: LabelMap | None
) -> tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]:
    if label_map is None:
        return tuple(range(n)), tuple(map(str, range(n))), tuple(map(str, range(n)))
    labels = [label_map[id_] for id_ in label_map.classes]
    return (
        (BACKGROUND, *(label.id for label in labels)),
        ("background", *(label.acronym for label in labels)),
        ("background", *(label.name for label in labels)),
    )


def _find(wanted: Iterable[int | str], ids: Sequence[int], acronyms: Sequence[str]) -> list[int]:
    """Class indices of ids or acronyms; an acronym is tried before a number."""
    found = []
    for one in wanted:
        text = str(one).strip()
        if text in acronyms:
            found.append(acronyms.index(text))
        elif text.isdigit() and int(text) in ids:
            found.append(ids.index(int(text)))
        else:
            raise DataError(
                "no class to exclude has this id or acronym",
                found=repr(one),
                fix=nearest(text, acronyms),
            )
    return found
