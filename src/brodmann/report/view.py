"""What a report is made of: the nouns that the pipeline fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from brodmann.core import LabelMap, Volume, check_same_grid


@dataclass(frozen=True)
class MappedSection:
    """One section, or one volume, with what was predicted for it.

    Parameters
    ----------
    name : str
        Unique within a run; files are named after it.
    subject : str
        The animal.
    image : Volume
        "yx", "cyx", "zyx" or "czyx". A volume is shown as its three middle slices.
    prediction : Volume
        Label ids on the image's grid.
    truth : Volume, optional
        Label ids on the same grid; pixels with the label map's ignore id are left out of
        every comparison.
    confidence : Volume, optional
        Probability of the winning class, uint8, 0..255 for 0..1.
    split : str
        The split that the section belongs to.

    Raises
    ------
    DataError
        If the grids differ.
    """

    name: str
    subject: str
    image: Volume
    prediction: Volume
    truth: Volume | None = None
    confidence: Volume | None = None
    split: str = "test"

    def __post_init__(self) -> None:
        for other in (self.prediction, self.truth, self.confidence):
            if other is not None:
                check_same_grid(self.image, other, self.name)


@dataclass(frozen=True)
class RunView:
    """Everything that one report shows.

    Parameters
    ----------
    title, description, command : str
        Heading, one line on what was done, and the command that does it again.
    label_map : LabelMap
        The tree of regions.
    sections : sequence of MappedSection
        May be lazy: each is read once, one at a time.
    scores : dict
        ``{"pooled": {"mean_dice", "mean_iou", "mean_f1", "mean_precision", "mean_recall",
        "per_class": [{"id", "acronym", "name", "dice", "iou", "precision", "recall",
        "truth_pixels", "pred_pixels"}]}, "per_image": [{"name", "mean_dice"}],
        "primary": {...as pooled...}, "surface": [{"id", "hd95_um", "assd_um", "nsd"}]}``.
        Every part may be missing; empty when there is no truth.
    confusions : sequence of dict
        ``{"truth", "prediction", "pixels", "share"}``: acronyms, pixels of the one taken for
        the other and their share of the true region (0..1), most confused first.
    baselines : dict of dict
        Name -> ``{"mean_dice", "mean_iou"}``, shown beside the headline.
    curve : sequence of dict
        ``{"step", "loss", "lr", "seconds"}`` and, where it was measured, ``"val_dice"``.
    facts : dict of str
        Data, licence, model, steps, time, peak memory, version, commit.
    notes : sequence of str
        What a reader must know before believing the numbers; shown above them all.
    """

    title: str
    description: str
    command: str
    label_map: LabelMap
    sections: Sequence[MappedSection]
    scores: Mapping[str, Any] = field(default_factory=dict)
    confusions: Sequence[Mapping[str, Any]] = ()
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    curve: Sequence[Mapping[str, float]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
