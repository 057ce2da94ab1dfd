"""A net that labels every pixel, learned as any semantic recipe is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from brodmann.core import DataError, Dataset, RecipeError, Sample
from brodmann.io import read_volume
from brodmann.pipeline.counting import Report
from brodmann.pipeline.folds import Fold
from brodmann.pipeline.mapping import map_image
from brodmann.pipeline.net_options import check_net
from brodmann.pipeline.recipe import (
    NetSection,
    PredictSection,
    Recipe,
    Section,
    TrainSection,
    explain,
    net_defaults,
)

SECTIONS: dict[str, type[Section]] = {
    "net": NetSection,
    "train": TrainSection,
    "predict": PredictSection,
}


class Segment:
    """Semantic segmentation in 2D or 3D with any of the package's nets.

    Parameters
    ----------
    net, train, predict : dict
        Those sections of a recipe; see docs/recipes.md.

    Raises
    ------
    RecipeError
        Names the key at fault.
    """

    def __init__(self, **sections: dict[str, Any]) -> None:
        for key in sections:
            if key not in SECTIONS:
                raise RecipeError("a segmenter has no such section", key, fix=", ".join(SECTIONS))
        check_net(sections.get("net", {}), "segment", net_defaults())
        self.sections: dict[str, Any] = {}
        for key, kind in SECTIONS.items():
            try:
                self.sections[key] = kind.model_validate(sections.get(key, {}))
            except ValidationError as error:
                raise explain(error, key, kind) from None

    def fit(
        self,
        train: Dataset,
        validation: Dataset | None = None,
        *,
        seed: int = 0,
        folder: Path,
        report: Report = lambda what, done, total, note: None,
    ) -> None:
        """Train one net; `folder` keeps cases, checkpoint and the model folder."""
        from brodmann.pipeline.training import train_fold

        if train.label_map is None:
            raise DataError("labels of a known vocabulary are needed to segment", train.name)
        recipe = Recipe(
            name="segment", seed=seed, data={"kind": "folder", "path": "."}, **self.sections
        )
        fold = Fold(0, train, train.subset([]))
        self.model, _ = train_fold(
            recipe,
            fold,
            Path(folder),
            lambda done, total, note: report("segment", done, total, note),
        )
        self.model.save(Path(folder) / "model")

    def predict(self, sample: Sample) -> np.ndarray:
        """Label ids on the image's grid."""
        section = self.sections["predict"]
        with tempfile.TemporaryDirectory() as folder:
            mapped = map_image(
                self.model,
                sample.image,
                Path(folder) / "labels.zarr",
                where=sample.name,
                step=section.step,
                mirror=[self.model.spatial_axes.index(axis) for axis in section.mirror],
            )
            return read_volume(mapped.labels).numpy()
