"""The recipe of a study of cell detectors on brains that they never saw."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from brodmann.core import RecipeError
from brodmann.nets import NETS
from brodmann.pipeline.recipe import Section, open_recipe
from brodmann.problems.cells.batches import Target, Turns
from brodmann.problems.cells.intensity import Contrast, contrast_from
from brodmann.problems.cells.net_detector import build_net


class ContrastSection(Section):
    """See problems.cells.intensity.Contrast."""

    background_um: list[float] = Field(default_factory=list)
    """Sides of the box whose mean is taken off; none: the level of the brain is."""
    scale: Literal["fixed", "root", "background", "volume", "patch"] = "fixed"
    unit: float = Field(1.0, gt=0)
    floor: float = Field(300.0, gt=0)
    compress: bool = True
    blobs_um: list[list[float]] = Field(default_factory=list)
    """Deviations of Laplacians of Gaussian that nets see as further channels."""

    def made(self, **changes: Any) -> Contrast:
        """The contrast."""
        fields = self.model_dump() | changes
        return contrast_from(fields)


class TargetSection(Section):
    """See problems.cells.batches.Target."""

    kind: Literal["gaussian", "ball", "mask"] = "gaussian"
    size_um: float = Field(4.0, gt=0)

    def made(self) -> Target:
        """The target."""
        return Target(**self.model_dump())


class TurnsSection(Section):
    """See problems.cells.batches.Turns."""

    mirror: str = Field("zyx", pattern="^[zyx]*$")
    turn: bool = True
    gain: float = Field(0.1, ge=0)
    shift: float = Field(0.0, ge=0)
    noise: float = Field(0.1, ge=0)

    def made(self) -> Turns:
        """The augmentation."""
        return Turns(**self.model_dump())


class ScheduleSection(Section):
    """How long and how fast small nets learn; see problems.learner.Schedule."""

    steps: int = Field(200, ge=1)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    decay: Literal["poly", "cosine"] = "cosine"
    lr: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(20, ge=0)
    clip_norm: float = Field(5.0, gt=0)
    ema: float = Field(0.0, ge=0, lt=1)
    precision: Literal["auto", "32", "bf16-mixed", "16-mixed"] = "auto"
    checkpoint_every: int = Field(100, ge=1)
    log_every: int = Field(10, ge=1)


class CellTrainSection(ScheduleSection):
    """How nets learn, and from which crops."""

    batch: int = Field(2, ge=1)
    crop: list[int] = Field([16, 48, 48], min_length=2, max_length=3)
    """Voxels along each axis."""
    centred: float = Field(0.6, ge=0, le=1)
    """Share of the crops that hold a certain cell."""
    overlays: int = Field(0, ge=0)
    """Crops of the same brain whose cells may be added to a crop, at most."""
    gamma: float = Field(2.0, ge=0)
    """Of the focal loss."""
    workers: int = Field(0, ge=0)
    """Processes that make batches; changes no byte."""


class CellNetSection(Section):
    """The net of a row: one width, patch and kernel for a convmixer; stages for a plain-unet."""

    kind: str = "convmixer"
    features: list[int] = Field([64], min_length=1)
    strides: list[list[int]] = Field([[2, 4, 4]], min_length=1)
    kernels: list[list[int]] | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    def made(self) -> dict[str, Any]:
        """What `build_net` takes."""
        kept = {"kind": self.kind, "features": self.features, "strides": self.strides}
        return kept | ({"kernels": self.kernels} if self.kernels else {}) | self.options


class CellRow(Section):
    """One detector; what is not given is the study's."""

    name: str
    net: CellNetSection | None = None
    """A net; without one the row is a Laplacian of Gaussian."""
    sigmas_um: list[list[float]] = Field(default_factory=list)
    """Scales to choose from by the training brains, for a Laplacian of Gaussian."""
    contrast: dict[str, Any] = Field(default_factory=dict)
    target: dict[str, Any] = Field(default_factory=dict)
    augmentation: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    mirror: str = Field("", pattern="^[zyx]*$")
    """Axes along which heat is mirrored and averaged."""
    choose_by: Literal["pooled", "mean"] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> CellRow:
        if (self.net is None) == (not self.sigmas_um):
            raise RecipeError(
                "a row is a net or a Laplacian of Gaussian", self.name, fix="give net or sigmas_um"
            )
        if self.net is None and (self.target or self.augmentation or self.train or self.mirror):
            raise RecipeError("a Laplacian of Gaussian learns nothing but its settings", self.name)
        return self


class DetectorRecipe(Section):
    """What every recipe of detectors says: of data, and how they are made."""

    name: str
    title: str = ""
    description: str = ""
    notes: list[str] = Field(default_factory=list)
    seeds: list[int] = Field([0], min_length=1)
    data: dict[str, Any]
    folds: int = Field(0, ge=0)
    """Groups of brains; 0 leaves one brain out at a time."""
    radii: list[list[int]] = Field(min_length=1)
    """Peak windows to choose from by the training brains, in voxels."""
    choose_by: Literal["pooled", "mean"] = "pooled"
    """Settings are those of the highest F1 of all training cells, or of the mean over brains."""
    contrast: ContrastSection = ContrastSection()
    target: TargetSection = TargetSection()
    augmentation: TurnsSection = TurnsSection()
    train: CellTrainSection = CellTrainSection()

    def dump(self) -> dict[str, Any]:
        """Plain data, every default spelled out."""
        return self.model_dump(mode="json")

    def settings(self, row: CellRow) -> tuple[
        ContrastSection, TargetSection, TurnsSection, CellTrainSection
    ]:  # fmt: skip
        """The study's sections with a row's changes."""
        pairs = (
            (self.contrast, row.contrast),
            (self.target, row.target),
            (self.augmentation, row.augmentation),
            (self.train, row.train),
        )
        return tuple(
            type(section).model_validate(section.model_dump() | changes)
            for section, changes in pairs
        )  # type: ignore[return-value]

    def check(self, row: CellRow, where: str) -> None:
        """Refuse a row that cannot be made, before anything runs."""
        try:
            contrast, *_ = self.settings(row)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise RecipeError(
                first["msg"].lower(), f"{where}: row {row.name!r}", ".".join(map(str, first["loc"]))
            ) from None
        contrast.made()
        if row.net is not None:
            NETS[row.net.kind]
            try:
                build_net(row.net.made(), 1)
            except (TypeError, ValueError, IndexError) as error:
                raise RecipeError(
                    "the net cannot be built", f"{where}: row {row.name!r}", error
                ) from None


class CellRecipe(DetectorRecipe):
    """Detectors compared on brains that they were not trained on, with several seeds."""

    problem: Literal["cells"]
    tolerance: float = Field(6.0, gt=0)
    """Voxels; a pair is closer."""
    voxels: list[float] = Field([3.0])
    """Further tolerances in voxels, at the same settings."""
    um: list[float] = Field(default_factory=list)
    """Further tolerances in micrometres, at the same settings."""
    least_cells: int = Field(50, ge=1)
    """Brains of fewer cells do not count as the worst."""
    rows: list[CellRow] = Field(min_length=1)
    only: list[str] = Field(default_factory=list)
    """Names of rows to run; all by default."""

    @property
    def chosen(self) -> list[CellRow]:
        """The rows to run."""
        return [row for row in self.rows if not self.only or row.name in self.only]


class MatrixRecipe(DetectorRecipe):
    """One detector, made for each marker and for all of them, and tried on every marker."""

    problem: Literal["cells-matrix"]
    fold: int = Field(0, ge=0)
    """The group of brains that is tested on; the others train."""
    detector: CellRow
    joint: dict[str, float] = Field(default_factory=lambda: {"all": 1.0})
    """Names of models of all markers together -> how many times the steps of the others."""


def load_cell_recipe(recipe: str, settings: list[str] | tuple[str, ...] = ()) -> CellRecipe:
    """Read, change and validate a recipe of cells; see `pipeline.recipe.load_recipe`."""
    loaded, where = open_recipe(recipe, settings, CellRecipe)
    names = [row.name for row in loaded.rows]
    if len(set(names)) < len(names):
        raise RecipeError("rows have different names", f"{where}: rows", names)
    unknown = sorted(set(loaded.only) - set(names))
    if unknown:
        raise RecipeError("no such row", f"{where}: only", unknown, f"known: {names}")
    for row in loaded.rows:
        loaded.check(row, where)
    return loaded


def load_matrix_recipe(recipe: str, settings: list[str] | tuple[str, ...] = ()) -> MatrixRecipe:
    """Read, change and validate a recipe of a matrix; see `pipeline.recipe.load_recipe`."""
    loaded, where = open_recipe(recipe, settings, MatrixRecipe)
    loaded.check(loaded.detector, where)
    if any(not factor > 0 for factor in loaded.joint.values()):
        raise RecipeError("joint models train a number of times above 0", f"{where}: joint")
    if loaded.detector.net is None and any(factor != 1 for factor in loaded.joint.values()):
        raise RecipeError("a Laplacian of Gaussian has no steps", f"{where}: joint", loaded.joint)
    return loaded
