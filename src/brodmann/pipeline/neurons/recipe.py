"""The recipe of a neuron run: volume, affinities, net, segmentation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from brodmann.augment.base import make_augmentation
from brodmann.core import RecipeError
from brodmann.datasets.registry import DATASETS
from brodmann.nets import NETS
from brodmann.pipeline.recipe import Section, TrainSection, open_recipe
from brodmann.postprocess.methods import find_method
from brodmann.problems.neurons import Neurons
from brodmann.problems.semantic.plan import Plan, topology


class AffinitySection(Section):
    """What the net learns to say."""

    offsets: str | list[list[int]] = "nearest"
    """`nearest`, `in-plane`, `long-range`, or triples (z, y, x)."""
    widen: int = Field(1, ge=0)
    """Voxels by which borders are widened on either side; 0 for a truth that has them."""
    dice: float = Field(1.0, ge=0)
    """Weight of the Dice loss beside cross entropy."""


class NeuronNetSection(Section):
    """The net; strides and kernels are planned from patch and spacing where they are not given."""

    kind: str = "plain-unet"
    patch: list[int] = Field(min_length=3, max_length=3)
    batch: int = Field(1, ge=1)
    features: list[int] = Field([16, 32, 64, 96], min_length=1)
    """Channels of each stage, finest first."""
    strides: list[list[int]] | None = None
    kernels: list[list[int]] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the net's own: see its factory."""

    def plan(self, spacing: tuple[float, ...]) -> Plan:
        """The plan at a spacing in um."""
        patch, stages = tuple(self.patch), len(self.features)
        _, strides, kernels = topology(spacing, patch)
        if self.strides is None and len(strides) < stages:
            raise RecipeError(
                f"a patch of {patch} allows {len(strides)} stages",
                "net.features",
                f"{stages} numbers",
                "make the patch larger, give fewer features, or give strides",
            )
        strides = tuple(map(tuple, self.strides)) if self.strides else strides[:stages]
        kernels = tuple(map(tuple, self.kernels)) if self.kernels else kernels[:stages]
        for name, value in (("strides", strides), ("kernels", kernels)):
            if len(value) != stages or any(len(one) != 3 for one in value):
                raise RecipeError(f"{name} are {stages} triples (z, y, x)", f"net.{name}", value)
        plan = Plan(patch, self.batch, tuple(self.features), strides, kernels, spacing)
        if any(p % d for p, d in zip(patch, plan.divisor)):
            raise RecipeError(
                "patch must be a multiple of what its strides divide by",
                "net.patch",
                self.patch,
                f"use multiples of {list(plan.divisor)}",
            )
        return plan


class AffinityPredictSection(Section):
    """How affinities of whole volumes are made."""

    step: float = Field(0.5, gt=0, le=1)
    """Distance between windows, in patches."""
    mirror: str = Field("", pattern="^[zyx]*$")
    """Letters of the axes along which predictions are mirrored and averaged, such as "yx"."""
    bf16: bool = False
    """Compute in bfloat16 on a CPU too, which is faster where the processor knows it."""


class FragmentSection(Section):
    """Settings of the watershed to choose from; each combination is tried on the tuning part."""

    thresholds: list[float] = Field([0.25], min_length=1)
    """Boundary probability above which a voxel is boundary."""
    sigmas: list[float] = Field([2.0], min_length=1)
    """Gaussian on the distances before seeds are taken, in voxels."""
    per_slice: bool = True
    min_size: int = Field(0, ge=0)


class SegmentSection(Section):
    """From affinities to segments."""

    methods: list[str] = Field(["mean"], min_length=1)
    values: dict[str, list[float]] = Field(default_factory=dict)
    """Thresholds (or betas) to choose from by method; the method's own where it is not named."""
    fragments: FragmentSection = FragmentSection()
    choose_by: Literal["vi", "arand", "both"] = "both"
    """What is lowest on the tuning part; `both` is the sum of VI and ARAND."""

    @model_validator(mode="after")
    def _known(self) -> SegmentSection:
        for name in [*self.methods, *self.values]:
            find_method(name)
        unused = set(self.values) - set(self.methods)
        if unused:
            raise RecipeError(
                "values for a method that is not run", "segment.values", ", ".join(sorted(unused))
            )
        return self


class NeuronScoreSection(Section):
    """What is counted."""

    per_slice: bool = False
    """Score each section by itself and average, as ISBI 2012 does."""
    border_voxels: float | None = Field(None, ge=0)
    """Voxels so near to a border of the truth, in the plane, are not counted."""


class NeuronRecipe(Section):
    """One experiment on neurons: learn affinities, tune, segment, score; once for each seed."""

    name: str
    title: str = ""
    description: str = ""
    notes: list[str] = Field(default_factory=list)
    problem: Literal["neurons"]
    seeds: list[int] = Field([0], min_length=1)
    data: dict[str, Any]
    affinities: AffinitySection = AffinitySection()
    net: NeuronNetSection
    train: TrainSection = TrainSection()
    predict: AffinityPredictSection = AffinityPredictSection()
    segment: SegmentSection = SegmentSection()
    score: NeuronScoreSection = NeuronScoreSection()
    published: dict[str, dict[Literal["vi", "arand"], float]] = Field(default_factory=dict)
    """Printed numbers to show beside ours, by the name of their row."""

    def dump(self) -> dict[str, Any]:
        """Plain data, every default spelled out."""
        return self.model_dump(mode="json")

    @property
    def problem_options(self) -> dict[str, Any]:
        """Arguments of `Neurons` beside the plan, as a model folder keeps them."""
        return self.affinities.model_dump(mode="json")


def load_neuron_recipe(recipe: str, settings: list[str] | tuple[str, ...] = ()) -> NeuronRecipe:
    """Read, change and validate a neuron recipe; see `pipeline.recipe.load_recipe`."""
    loaded, where = open_recipe(recipe, settings, NeuronRecipe)
    NETS[loaded.net.kind]
    if loaded.train.foreground != TrainSection().foreground:
        raise RecipeError(
            "patches of neurons are drawn anywhere",
            f"{where}: train.foreground",
            fix="leave it out",
        )
    augmentation = dict(loaded.train.augmentation)
    make_augmentation(augmentation.pop("method", "em"), augmentation)
    cube = Plan((8, 8, 8), 1, (1,), ((1, 1, 1),), ((3, 3, 3),), (1.0, 1.0, 1.0))
    Neurons(None, cube, **loaded.problem_options)
    assert DATASETS[loaded.data["kind"]]
    return loaded
