"""Study: one table as YAML, every one of its runs validated before the first begins."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from brodmann.core import RecipeError, nearest
from brodmann.pipeline.recipe import (
    Recipe,
    Section,
    read_tree,
    recipe_text,
    set_key,
    validated,
)

Column = Literal["f1", "iou", "precision", "recall", "dice"]
ENOUGH = 3
"""Models of a row whose deviation says something."""
Published = dict[Column, float | tuple[float, float]]
"""Percent, as printed: a mean, or mean and deviation."""


class Row(Section):
    """One method, or setting: the base and what differs from it."""

    name: str = Field(min_length=1)
    set: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys of the recipe and their values."""
    published: Published = Field(default_factory=dict)
    """What the paper reports for it, in percent."""

    @property
    def slug(self) -> str:
        """The name as a folder."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "row"


class Span(Section):
    """Test images from the first name to the last, in the order of the test split."""

    first: str
    last: str


class Comparison(Section):
    """Each of `methods` is tested against each of `references`: is it higher?"""

    references: list[str] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)


class Significance(Section):
    """Paired one-sided tests on units that are independent of one another."""

    kind: Literal["paired_t", "wilcoxon", "bootstrap"] = "paired_t"
    unit: Literal["subject", "image", "block"] = "subject"
    """What is drawn independently; images of one unit are averaged, or drawn together."""
    blocks: dict[str, list[str] | Span] = Field(default_factory=dict)
    """For the unit block: name -> test images, or {first, last}."""
    comparisons: list[Comparison] = Field(default_factory=list)

    @model_validator(mode="after")
    def _blocks_where_needed(self) -> Significance:
        if (self.unit == "block") != bool(self.blocks):
            raise ValueError("blocks belong to the unit block, and it needs them")
        return self

    def pairs(self) -> list[tuple[str, str]]:
        """(reference, method), each once, in the order given."""
        every = [(r, m) for c in self.comparisons for r in c.references for m in c.methods]
        return list(dict.fromkeys(pair for pair in every if pair[0] != pair[1]))


class Study(Section):
    """Rows of recipes, run with every seed, compared in one table."""

    name: str
    title: str = ""
    description: str = ""
    notes: list[str] = Field(default_factory=list)
    """Caveats that the table shows."""
    base: str | dict[str, Any]
    """The recipe that all rows share: the name of one, a file, or the recipe itself."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Changes to the base, dotted keys to values; a row's own come after these."""
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    rows: list[Row] = Field(min_length=1)
    only: list[str] | None = None
    """The rows to run; all by default."""
    columns: list[Column] = Field(["f1", "iou", "precision", "recall"], min_length=1)
    published_as: str = "published"
    """What the published values are called in the table."""
    tests: Significance = Significance()
    matched: bool = True
    """Refuse rows that differ in optimiser steps or batch."""
    reuse: list[str] = Field(default_factory=list)
    """Folders of other studies whose finished runs may be taken over where nothing differs."""
    pages: bool = False
    """Also write the report of every run."""

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError("seeds are different whole numbers from 0")
        return seeds

    @model_validator(mode="after")
    def _rows_are_known(self) -> Study:
        slugs: dict[str, str] = {}
        for row in self.rows:
            if row.slug in slugs:
                raise ValueError(f"rows {slugs[row.slug]!r} and {row.name!r} share a folder")
            slugs[row.slug] = row.name
        names = [row.name for row in self.rows]
        named = [(name, "tests.comparisons") for pair in self.tests.pairs() for name in pair]
        for name, where in named + [(name, "only") for name in self.only or ()]:
            if name not in names:
                raise ValueError(f"{where} name no row {name!r}; {nearest(name, names)}")
        return self

    @property
    def chosen(self) -> list[Row]:
        """The rows to run, in the table's order."""
        return [row for row in self.rows if self.only is None or row.name in self.only]

    def dump(self) -> dict[str, Any]:
        """Plain data, every default spelled out."""
        return self.model_dump(mode="json")


def load_study(
    study: str, settings: list[str] | tuple[str, ...] = ()
) -> tuple[Study, dict[str, Recipe]]:
    """Read, change and validate a study and the recipe of each of its rows.

    Parameters
    ----------
    study : str
        The name of a packaged study, or the path of a YAML file.
    settings : sequence of str
        Changes as "a.b=value", the value YAML: a key of the study ("seeds=[0]"), or
        "base.a.b=value" ("set.a.b=value" is the same) for a key of every row's recipe.

    Returns
    -------
    study : Study
    recipes : dict of str to Recipe
        The chosen rows' names -> their recipes, with the first seed.

    Raises
    ------
    RecipeError
        Names the key at fault and the nearest right one; if steps x batch differ between the
        rows of a matched study; if a row would have fewer than three models and "seeds=" is
        not among the settings.
    """
    tree = read_tree(*recipe_text(study))
    changes: dict[str, Any] = {}
    for setting in settings:
        key = setting.partition("=")[0].strip()
        head, _, rest = key.partition(".")
        if head in ("base", "set") and rest:
            one: dict[str, Any] = {}
            set_key(one, "value" + setting[len(key) :])
            changes[rest] = one["value"]
        elif head in Recipe.model_fields and head not in Study.model_fields:
            raise RecipeError(
                "a study holds recipes", f"--set {setting}", fix=f"write --set base.{setting}"
            )
        else:
            set_key(tree, setting)
    try:
        made = Study.model_validate(tree)
    except ValidationError as error:
        raise _explain_study(error, study) from None
    made = made.model_copy(update={"set": {**made.set, **changes}})
    recipes = {row.name: _recipe(made, row, study) for row in made.chosen}
    if made.matched:
        _check_steps(recipes, study)
    if not any(setting.partition("=")[0].strip() == "seeds" for setting in settings):
        models = min(len(made.seeds) * models_of(recipe) for recipe in recipes.values())
        if models < ENOUGH:
            raise RecipeError(
                "a comparison needs three models of each row",
                f"{study}: seeds",
                made.seeds,
                "give three, or --set seeds=... to go on with fewer",
            )
    return made, recipes


def models_of(recipe: Recipe) -> int:
    """Models that a run scores by themselves: its folds where they are, else one."""
    split = recipe.split
    if not recipe.predict.per_fold or split.folds == 1:
        return 1
    return len(split.run) if split.run is not None else split.folds


def _recipe(study: Study, row: Row, where: str) -> Recipe:
    place = f"{where}: {row.name}"
    if isinstance(study.base, str):
        base, folder = study.base, Path(where).parent
        if base.endswith((".yaml", ".yml")) and where.endswith((".yaml", ".yml")):
            base = str(folder / base)
        tree = read_tree(*recipe_text(base))
    else:
        tree = copy.deepcopy(study.base)
    if "rows" in tree:
        raise RecipeError("a study cannot be the base of another", f"{where}: base", study.base)
    for key, value in {**study.set, **row.set}.items():
        _put(tree, key, copy.deepcopy(value), place)
    title = f"{study.title or study.name}: {row.name}"
    tree |= {"name": f"{study.name}-{row.slug}", "title": title, "seed": study.seeds[0]}
    try:
        return validated(tree, place)
    except RecipeError as error:
        fix = (error.fix or "").replace("--set data.", "--set base.data.")
        raise RecipeError(error.what, error.where or place, error.found, fix) from None


def _put(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    *parents, last = key.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise RecipeError("this key holds no further keys", f"{where}: {key}", part)
    tree[last] = value


def _check_steps(recipes: dict[str, Recipe], where: str) -> None:
    seen = {n: (r.train.steps, r.net.batch or "planned") for n, r in recipes.items()}
    if len(set(seen.values())) > 1:
        found = ", ".join(f"{name} {steps} x {batch}" for name, (steps, batch) in seen.items())
        raise RecipeError(
            "rows differ in optimiser steps x batch",
            where,
            found,
            "make them equal, or --set matched=false and say why in the notes",
        )


def _explain_study(error: ValidationError, where: str) -> RecipeError:
    # A misspelt key is often a missing one too; the misspelling says more.
    errors = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    first = errors[0]
    path = [str(part) for part in first["loc"]]
    place = f"{where}: {'.'.join(path)}" if path else where
    if first["type"] == "extra_forbidden":
        section = _section(Study, [part for part in path[:-1] if not part.isdigit()])
        return RecipeError("unknown study key", place, fix=nearest(path[-1], section.model_fields))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    message = first["msg"].removeprefix("Value error, ")
    found = repr(first.get("input")) if path else None
    return RecipeError(message[:1].lower() + message[1:] + more, place, found)


def _section(section: type[BaseModel], path: list[str]) -> type[BaseModel]:
    """The model that a path of keys leads to; names of dict keys and unions lead nowhere."""
    for part in path:
        field = section.model_fields.get(part)
        if field is None:
            continue
        kinds = [field.annotation, *get_args(field.annotation)]
        kinds += [inner for kind in kinds for inner in get_args(kind)]
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        section = inner[0] if inner else section
    return section
