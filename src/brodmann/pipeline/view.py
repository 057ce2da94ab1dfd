"""Hands a finished run to the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from brodmann.core import Dataset, Volume
from brodmann.io import read_volume
from brodmann.pipeline.model import Model, net_in_words
from brodmann.pipeline.recipe import Recipe
from brodmann.preprocess import image_channels
from brodmann.report import MappedSection, RunView, write_report


class _Sections(Sequence[MappedSection]):
    """Test samples beside their label images, read when looked at."""

    def __init__(self, test: Dataset, predicted: Path) -> None:
        self.test, self.predicted = test, predicted

    def __len__(self) -> int:
        return len(self.test)

    @overload
    def __getitem__(self, index: int) -> MappedSection: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[MappedSection]: ...
    def __getitem__(self, index: int | slice) -> MappedSection | Sequence[MappedSection]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        sample = self.test[index]
        confidence = self.predicted / f"{sample.name}.confidence.tif"
        return MappedSection(
            sample.name,
            sample.subject,
            _visible(sample.image),
            read_volume(self.predicted / f"{sample.name}.tif", spacing=sample.image.spacing),
            sample.labels,
            read_volume(confidence, spacing=sample.image.spacing) if confidence.exists() else None,
        )


def _visible(image: Volume) -> Volume:
    """The image without its prior channels."""
    count = image_channels(image.channels)
    if count == image.num_channels:
        return image
    return replace(image, data=image.read()[:count], channels=image.channels[:count])


def write_run_report(
    recipe: Recipe,
    folder: Path,
    model: Model,
    test: Dataset,
    scores: dict[str, Any],
    curves: list[list[dict]],
    result: dict[str, Any],
) -> Path:
    """Write DIR/report from what the stages left.

    The curve of the first fold stands for all; fold scores are in `result.json`.
    """
    surface = scores["surface"]
    plan = model.plan
    facts = {
        "Data": test.name,
        "Licence of the data": test.licence or "not stated",
        "Citation": test.citation or "not stated",
        "Training images": str(result["training_images"]),
        "Test images": str(result["test_images"]),
        "Net": net_in_words(model)
        + (f", {len(model.nets)} folds averaged" if len(model.nets) > 1 else ""),
        "Window": " x ".join(map(str, plan.patch)) + f" pixels, batch {plan.batch}",
        "Optimiser steps": str(recipe.train.steps),
        "Seed": str(recipe.seed),
        "Time": f"{result['seconds'] / 60:.1f} min (what was kept from earlier calls not counted)",
        "Peak memory": f"{result['peak_memory_mb'] / 1000:.1f} GB",
        "Brodmann": result["environment"]["brodmann"],
        "PyTorch": result["environment"]["torch"],
        "Commit": result["commit"] or "installed package",
        "Hash of the data": result["data_hash"],
    }
    view = RunView(
        title=recipe.title or recipe.name,
        description=recipe.description,
        command=result["command"],
        label_map=model.label_map,
        sections=_Sections(test, folder / "predict"),
        scores={
            "pooled": scores["pooled"],
            "per_image": scores["per_image"],
            **({"primary": scores["primary"]} if scores["primary"] else {}),
            "surface": [
                {
                    "id": row["id"],
                    "hd95_um": row["mean_hd95_um"],
                    "assd_um": row["mean_assd_um"],
                    "nsd": row["mean_nsd"],
                }
                for row in surface.get("per_class", ())
            ],
        },
        confusions=[
            {
                "truth": c["truth"],
                "prediction": c["predicted"],
                "pixels": c["pixels"],
                "share": c["share"],
            }
            for c in scores["confusions"]
        ],
        baselines=scores["baselines"],
        curve=curves[0],
        facts=facts,
        notes=result["notes"],
    )
    return write_report(view, folder / "report")
