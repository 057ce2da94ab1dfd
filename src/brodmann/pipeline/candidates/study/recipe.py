"""The recipe of a classifier of candidates, scored on brains that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from brodmann.core import RecipeError
from brodmann.pipeline.cells.study.recipe import ContrastSection, ScheduleSection, TurnsSection
from brodmann.pipeline.recipe import (
    Model,
    Section,
    check_data,
    explain,
    read_tree,
    recipe_text,
    set_key,
)


class DetectorSection(Section):
    """Who proposes candidates: a detector on disk, or a Laplacian of Gaussian tuned here."""

    folder: str | None = None
    """Of a detector. "{fold}" in it stands for the fold's number, from 0."""
    sigmas_um: list[list[float]] = Field(default_factory=list)
    """Scales to choose from by the training brains."""
    radii: list[list[int]] = Field(default_factory=list)
    """Peak windows to choose from, in voxels."""
    contrast: ContrastSection = ContrastSection(compress=False)
    lower: float = Field(0.5, gt=0, le=1)
    """Candidates are peaks above this part of the detector's threshold."""

    @model_validator(mode="after")
    def _one_kind(self) -> DetectorSection:
        if (self.folder is None) == (not self.sigmas_um):
            raise RecipeError(
                "candidates come from a detector's folder, or a Laplacian of Gaussian",
                "detector",
                fix="give folder or sigmas_um",
            )
        if self.sigmas_um and not self.radii:
            raise RecipeError("a Laplacian of Gaussian needs peak windows", "detector.radii")
        return self


class ClassifierTrainSection(ScheduleSection):
    """How the classifier learns."""

    steps: int = Field(300, ge=1)
    weight_decay: float = Field(0.05, ge=0)
    batch: int = Field(32, ge=2, multiple_of=2)
    """Crops, half of them cells."""
    workers: int = Field(0, ge=0)
    """Processes that make batches; changes no byte."""


class CandidateRecipe(Section):
    """A classifier trained on the candidates of some brains, and scored on those of others."""

    name: str
    title: str = ""
    description: str = ""
    notes: list[str] = Field(default_factory=list)
    problem: Literal["candidates"]
    seeds: list[int] = Field([0], min_length=1)
    data: dict[str, Any] | None = None
    """A dataset whose samples have points."""
    detector: DetectorSection | None = None
    tolerance: float = Field(6.0, gt=0)
    """Voxels; a candidate closer to a true centre is a cell."""
    add_missed: bool = False
    """Train on true cells that are no candidates too."""
    crops: dict[str, str] | None = None
    """Brain -> folder of crops, instead of data and detector."""
    spacing_um: list[float] | None = Field(None, min_length=3, max_length=3)
    """Of crops. With data: cut crops at this spacing instead of the images' own."""
    crop: list[int] = Field([8, 32, 32], min_length=3, max_length=3)
    """Voxels of a crop that is cut."""
    folds: int = Field(0, ge=0)
    """Groups of brains; 0 leaves one brain out at a time."""
    contrast: ContrastSection = ContrastSection(scale="volume", unit=2.0)
    augmentation: TurnsSection = TurnsSection()
    slide: list[int] = Field([0, 1, 1], min_length=3, max_length=3)
    """Voxels by which crops are moved at most."""
    features: list[int] = Field([16, 32, 64], min_length=2)
    """Of the net's stages."""
    train: ClassifierTrainSection = ClassifierTrainSection()

    @model_validator(mode="after")
    def _one_source(self) -> CandidateRecipe:
        if (self.data is None) == (self.crops is None):
            raise RecipeError(
                "a classifier learns from a dataset or from folders of crops",
                self.name,
                fix="give data and detector, or crops and spacing_um",
            )
        if (self.data is None) != (self.detector is None):
            raise RecipeError("data and detector go together", self.name)
        if self.crops is not None and self.spacing_um is None:
            raise RecipeError("folders of crops do not say their spacing", "spacing_um")
        if min(self.crop) < 1 or min(self.slide) < 0:
            raise RecipeError("a crop has three sides, and slides by 0 or more", self.name)
        return self

    def dump(self) -> dict[str, Any]:
        """Plain data, every default spelled out."""
        return self.model_dump(mode="json")


def load_candidate_recipe(recipe: str, settings: Sequence[str] = ()) -> CandidateRecipe:
    """Read, change and validate a recipe of candidates; see `pipeline.recipe.load_recipe`."""
    text, where = recipe_text(recipe)
    tree = read_tree(text, where)
    for setting in settings:
        set_key(tree, setting)
    if tree.get("data") is not None or tree.get("crops") is None:
        check_data(tree, where)
    if isinstance(tree.get("detector"), dict):
        _validated(DetectorSection, tree["detector"], f"{where}: detector")
    loaded = _validated(CandidateRecipe, tree, where)
    seeds = loaded.seeds
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise RecipeError("seeds are different whole numbers from 0", f"{where}: seeds", seeds)
    loaded.contrast.made()
    loaded.augmentation.made()
    return loaded


def _validated(kind: type[Model], tree: dict[str, Any], where: str) -> Model:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise explain(error, where, kind) from None
