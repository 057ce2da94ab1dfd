"""A table as YAML: tasks, the methods to run on them with their options, and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from brodmann.bench.records import Name
from brodmann.bench.run import make_method
from brodmann.bench.tasks import find_task
from brodmann.core import RecipeError, nearest
from brodmann.pipeline.recipe import Section, explain, read_tree, recipe_text, set_key


class MethodSection(Section):
    """One row: a method by name, and its options."""

    method: str
    options: dict[str, Any] = Field(default_factory=dict)


class BenchRecipe(Section):
    """Every method on every task with every seed; the results make one table a task."""

    name: str
    title: str = ""
    description: str = ""
    notes: list[str] = Field(default_factory=list)
    """Caveats that the page shows."""
    tasks: list[str] = Field(min_length=1)
    """Ids, such as slice309/regions-32px@v1."""
    benchmarks: Path | None = None
    """A folder of further benchmarks, your own."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Options of the data, such as root."""
    methods: dict[Name, MethodSection] = Field(min_length=1)
    seeds: list[int] | None = Field(None, min_length=1)
    """Those of each task where not given."""
    only: list[str] | None = None
    """The rows to run; all by default."""
    embeddings: Literal["pca", "umap", "none"] = "pca"
    """How the page draws what the best encoder learned."""

    @property
    def chosen(self) -> dict[str, MethodSection]:
        """The rows to run."""
        return {
            name: row for name, row in self.methods.items() if name in (self.only or self.methods)
        }

    def dump(self) -> dict[str, Any]:
        """Plain data, every default spelled out."""
        return self.model_dump(mode="json")


def load_bench_recipe(recipe: str, settings: list[str] | tuple[str, ...] = ()) -> BenchRecipe:
    """Read, change and validate a table before anything runs.

    Raises
    ------
    RecipeError
        Names the key, the task, the method or the option at fault.

    Example
    -------
    >>> load_bench_recipe("mtneuro-table1").tasks[0]
    'mtneuro/roi-c1@v1'
    """
    text, where = recipe_text(recipe)
    tree = read_tree(text, where)
    for setting in settings:
        set_key(tree, setting)
    # Settings that rows share stand under a key of their own, as YAML anchors.
    tree.pop("shared", None)
    try:
        loaded = BenchRecipe.model_validate(tree)
    except ValidationError as error:
        raise explain(error, where, BenchRecipe) from None
    for task in loaded.tasks:
        find_task(task, loaded.benchmarks)
    for name in loaded.only or []:
        if name not in loaded.methods:
            raise RecipeError("no such row", f"{where}: only", name, nearest(name, loaded.methods))
    for name, row in loaded.methods.items():
        try:
            make_method(row.method, row.options)
        except RecipeError as error:
            error.where = f"{where}: methods.{name}" + (f": {error.where}" if error.where else "")
            raise
    seeds = loaded.seeds or [0]
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise RecipeError("seeds are different whole numbers from 0", f"{where}: seeds", seeds)
    return loaded
