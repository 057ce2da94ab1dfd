"""Recipe: one experiment as YAML, validated before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from brodmann.augment.base import make_augmentation
from brodmann.core import RecipeError, nearest
from brodmann.datasets.registry import DATASETS
from brodmann.pipeline.net_options import NET_KEYS, check_net, net_parameters
from brodmann.problems.base import PROBLEMS

Model = TypeVar("Model", bound="Section")


class Section(BaseModel):
    """A part of a recipe: frozen; refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitSection(Section):
    """Which samples train, validate and test."""

    train: str = "train"
    test: str = "test"
    folds: int = Field(1, ge=1)
    """1 trains one model on all training samples; more makes cross-validation by subject."""
    run: list[int] | None = None
    """The folds to train; all by default."""


class AugmentSection(Section):
    """More training samples, made of those there are."""

    method: str = "none"
    factor: int = Field(1, ge=1)
    """Images made of each training sample."""
    options: dict[str, Any] = {}
    schedule: Literal["together", "synthetic", "hybrid"] = "together"
    """Train on originals and copies, on copies alone, or on copies first and then on originals."""
    synthetic_share: float = Field(0.5, gt=0, lt=1)
    """Share of the steps that a hybrid schedule spends on copies."""
    online: bool = False
    """Make each copy when a batch asks for it, without end and without files."""

    @property
    def told(self) -> str:
        """The section in a few words."""
        if self.method == "none":
            return "none"
        return f"{self.method} {'online' if self.online else f'x{self.factor}'}, {self.schedule}"

    @model_validator(mode="after")
    def _fits_together(self) -> AugmentSection:
        if self.method == "none" and (self.schedule != "together" or self.online):
            key = "online" if self.online else "schedule"
            raise RecipeError(
                "there are no copies to train on",
                f"augment.{key}",
                getattr(self, key),
                "name an augmentation under augment.method",
            )
        if self.online and self.factor != 1:
            raise RecipeError(
                "online copies have no end, so a factor means nothing",
                "augment.factor",
                self.factor,
                "leave it out, or set augment.online=false",
            )
        return self


class PriorSection(Section):
    """Labels carried along a series of sections, as further input channels."""

    method: Literal["none", "propagate"] = "none"
    copies: int = Field(8, ge=1)
    """Times that each training section is written, each with another prior."""
    gaps: list[int] = Field([1, 2, 3, 4, 6, 8], min_length=1)
    """How many sections away a copy's labels lie at least; drawn for each copy."""
    bend_um: float = Field(250.0, ge=0)
    """Largest deviation of the random bend that stands for errors of registration."""
    bend_knots_um: list[float] = Field([800.0, 1200.0, 2000.0], min_length=1)
    """Distances between the knots of the bend; one is drawn for each copy."""


class NetSection(Section):
    """The net; what is not given is planned from the data."""

    kind: str = "plain-unet"
    memory_gb: float = Field(8.0, gt=0)
    """GPU memory that the planner may use."""
    patch: list[int] | None = None
    batch: int | None = Field(None, ge=1)
    base_features: int = Field(32, ge=1)
    max_features: int | None = None
    convs_per_stage: int = Field(2, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    trust: float = Field(0.5, ge=0, le=1)
    """Share of its corrections that a prior-unet keeps outside training."""
    options: dict[str, Any] = {}
    """What only this kind of net takes, such as the decoder of an smp."""

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without options where there are none: runs made before they were known go on."""
        tree = handler(self)
        return tree if self.options else {k: v for k, v in tree.items() if k != "options"}

    @property
    def arguments(self) -> dict[str, Any]:
        """`kind` and the arguments of the net's factory, for `build_net`."""
        taken = net_parameters(self.kind)
        shared = {key: getattr(self, key) for key in NET_KEYS if key in taken}
        return {"kind": self.kind, **shared, **self.options}


class TrainSection(Section):
    """Optimiser and batches; see problems.learner.Schedule for the defaults' source."""

    steps: int = Field(1000, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(1e-2, gt=0)
    momentum: float = Field(0.99, ge=0, lt=1)
    weight_decay: float = Field(3e-5, ge=0)
    poly_power: float = 0.9
    warmup_steps: int = Field(0, ge=0)
    clip_norm: float = Field(12.0, gt=0)
    ema: float = Field(0.0, ge=0, lt=1)
    precision: Literal["auto", "32", "bf16-mixed", "16-mixed"] = "auto"
    checkpoint_every: int = Field(100, ge=1)
    validate_every: int = Field(0, ge=0)
    validate_batches: int = Field(8, ge=1)
    log_every: int = Field(10, ge=1)
    foreground: float = Field(0.5, ge=0, le=1)
    """Share of each batch that is centred on a labelled pixel."""
    normalisation: Literal["image", "robust", "dataset"] = "image"
    """`image`: each image's own mean and deviation; `robust`: after cutting at its 0.5 and 99.5
    percentiles; `dataset`: those of the training set."""
    workers: int = Field(0, ge=0)
    """Processes that make batches."""
    augmentation: dict[str, Any] = {}
    """On the fly: `method` (default classical) and its options."""


class PredictSection(Section):
    """How test images are mapped."""

    step: float = Field(0.5, gt=0, le=1)
    """Distance between windows, in patches."""
    mirror: str = Field("", pattern="^[zyx]*$")
    """Letters of the axes along which predictions are mirrored and averaged, such as "x"."""
    tissue: bool = False
    """Skip what is not tissue."""
    confidence: bool = True
    per_fold: bool = False
    """Also predict and score every fold's model alone."""


class ScoreSection(Section):
    """What is counted."""

    exclude: list[str] = []
    """Acronyms left out of the means."""
    surface: bool = True
    """Surface distances too."""
    tolerance_um: float | None = Field(None, ge=0)
    """For the normalised surface Dice; two pixels by default."""
    neighbours: int = 12
    """How many confusions to list."""


class Recipe(Section):
    """One experiment: where its data come from, how it learns, how it is scored."""

    name: str
    title: str = ""
    description: str = ""
    notes: list[str] = []
    """Caveats that every report of this recipe shows."""
    seed: int = Field(0, ge=0)
    data: dict[str, Any]
    problem: str = "semantic"
    split: SplitSection = SplitSection()
    augment: AugmentSection = AugmentSection()
    prior: PriorSection = PriorSection()
    net: NetSection = NetSection()
    train: TrainSection = TrainSection()
    predict: PredictSection = PredictSection()
    score: ScoreSection = ScoreSection()

    def dump(self) -> dict[str, Any]:
        """Plain data, every default spelled out."""
        return self.model_dump(mode="json")


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("brodmann") / "recipes"
    return sorted(
        item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")
    )


def recipe_text(recipe: str) -> tuple[str, str]:
    """The YAML of a packaged recipe, or of a file, and what to call it in an error."""
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError("cannot read the recipe", path, error) from error
    if recipe not in recipe_names():
        raise RecipeError("no such recipe", found=repr(recipe), fix=nearest(recipe, recipe_names()))
    file = resources.files("brodmann") / "recipes" / f"{recipe}.yaml"
    return file.read_text(encoding="utf-8"), recipe


def recipe_kind(
    recipe: str,
) -> Literal["recipe", "study", "neurons", "cells", "cells-matrix", "candidates", "bench"]:
    """Which of its forms a recipe has: a run, a table of runs, a room of its own, or benchmarks.

    >>> recipe_kind("demo")
    'recipe'
    """
    tree = read_tree(*recipe_text(recipe))
    if tree.get("problem") in ("neurons", "cells", "cells-matrix", "candidates"):
        return tree["problem"]
    if "tasks" in tree:
        return "bench"
    return "study" if "rows" in tree else "recipe"


def load_recipe(recipe: str, settings: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read, change and validate a recipe.

    Parameters
    ----------
    recipe : str
        The name of a packaged recipe, or the path of a YAML file.
    settings : sequence of str
        Changes as "a.b=value"; the value is YAML.

    Raises
    ------
    RecipeError
        Names the key at fault and the nearest right one.
    """
    text, where = recipe_text(recipe)
    tree = read_tree(text, where)
    for setting in settings:
        set_key(tree, setting)
    return validated(tree, where)


def open_recipe(recipe: str, settings: Sequence[str], model: type[Model]) -> tuple[Model, str]:
    """A recipe whose `seeds` and `data` are as studies have them, and what to call it in errors."""
    text, where = recipe_text(recipe)
    tree = read_tree(text, where)
    for setting in settings:
        set_key(tree, setting)
    check_data(tree, where)
    try:
        loaded = model.model_validate(tree)
    except ValidationError as error:
        raise explain(error, where, model) from None
    seeds = loaded.seeds  # type: ignore[attr-defined]
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise RecipeError("seeds are different whole numbers from 0", f"{where}: seeds", seeds)
    return loaded, where


def read_tree(text: str, where: str) -> dict[str, Any]:
    """The mapping that a YAML text holds; `where` names it in an error."""
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError("this is no YAML", where, error) from error
    if not isinstance(tree, dict):
        raise RecipeError("a recipe is a mapping of keys to values", where, type(tree).__name__)
    return tree


def validated(tree: dict[str, Any], where: str) -> Recipe:
    """The recipe that a mapping stands for, or an error that names the key at fault."""
    _check_names(tree, where)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise explain(error, where, Recipe) from None


def set_key(tree: dict[str, Any], setting: str) -> None:
    """Change a mapping as "a.b=value" says; the value is YAML."""
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError("a setting is written a.b=value", "--set", setting)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError("the value is no YAML", f"--set {key}", text) from error
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise RecipeError("this key holds no further keys", f"--set {key}", part)
    tree[parts[-1]] = value


def check_data(tree: dict, where: str) -> None:
    """Refuse an unknown kind of data set, and arguments that it does not take or lacks."""
    data = tree.get("data")
    if not isinstance(data, dict) or "kind" not in data:
        raise RecipeError(
            "a recipe needs data.kind", where, fix="known: " + ", ".join(DATASETS.names())
        )
    if not isinstance(data["kind"], str):
        raise RecipeError(
            "data.kind is a name", where, data["kind"], "known: " + ", ".join(DATASETS.names())
        )
    known = inspect.signature(DATASETS[data["kind"]]).parameters
    for key in data.keys() - {"kind"}:
        if key not in known:
            raise RecipeError("unknown recipe key", f"{where}: data.{key}", fix=nearest(key, known))
    missing = [
        name
        for name, p in known.items()
        if p.default is inspect.Parameter.empty and p.kind is not p.VAR_KEYWORD and name not in data
    ]
    if missing:
        raise RecipeError(
            f"data kind {data['kind']!r} needs {missing}",
            where,
            fix=f"add --set data.{missing[0]}=...",
        )


def net_defaults() -> dict[str, Any]:
    """What the net section holds where nothing is set."""
    return {key: field.default for key, field in NetSection.model_fields.items()}


def _check_names(tree: dict, where: str) -> None:
    """Refuse what pydantic cannot know: problems, nets, data sets, augmentations."""
    check_data(tree, where)
    PROBLEMS[tree.get("problem", "semantic")]
    net = tree.get("net", {})
    if isinstance(net, dict):
        check_net(net, where, net_defaults())
    for section, key, default in (
        ("train", "augmentation", "classical"),
        ("augment", "options", "none"),
    ):
        part = tree.get(section)
        if isinstance(part, dict) and isinstance(part.get(key, {}), dict):
            options = dict(part.get(key, {}))
            method = options.pop("method", part.get("method", default))
            make_augmentation(method, options)


def explain(error: ValidationError, where: str, kind: type[Section]) -> RecipeError:
    """One line on the first fault that pydantic found in a recipe of some kind."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    place = f"{where}: {'.'.join(path)}"
    if first["type"] == "extra_forbidden":
        section: Any = kind
        for part in path[:-1]:
            section = section.model_fields[part].annotation
        return RecipeError("unknown recipe key", place, fix=nearest(path[-1], section.model_fields))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return RecipeError(first["msg"].lower() + more, place, repr(first.get("input")))
