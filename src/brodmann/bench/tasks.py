"""Benchmarks in folders: their data, tasks, committed counts, published rows and pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from brodmann.bench.building import Record, build
from brodmann.bench.records import TASK_ID, DataRecord, Name, Split, Task
from brodmann.core import RecipeError, nearest

DESCRIPTION = "benchmark.yaml"
COUNTS = "counts.yaml"
PUBLISHED = "published.yaml"
PAGE = "README.md"
TASK_PREFIX = "task-"
LARGEST_BYTES = 1 << 20
"""Of a YAML file."""
Published = dict[str, dict[str, dict[str, dict[str, tuple[float, float | None]]]]]
"""Table -> task id -> method -> score -> mean and deviation (None where none is given)."""


class _Description(Record):
    """What benchmark.yaml holds."""

    name: Name
    title: str
    data: DataRecord
    splits: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """One folder of tasks on the same data.

    `published` are rows from papers, which stand beside results of version 1 only; `folder` is
    where it lies.
    """

    name: str
    title: str
    data: DataRecord
    tasks: tuple[Task, ...]
    published: Published = field(default_factory=dict)
    folder: Traversable = field(default=Path(), compare=False, repr=False)

    def task(self, name: str, version: str) -> Task:
        """The task of this name and version."""
        known = {f"{task.name}@{task.version}": task for task in self.tasks}
        wanted = f"{name}@{version}"
        if wanted not in known:
            raise RecipeError("no such task", self.name, repr(wanted), nearest(wanted, known))
        return known[wanted]

    def published_rows(self, task: Task) -> dict[str, dict[str, tuple[float, float | None]]]:
        """Method -> score -> mean and deviation, of every table that has this task."""
        rows: dict[str, dict[str, tuple[float, float | None]]] = {}
        for table in self.published.values():
            rows |= table.get(task.id, {})
        return rows

    @property
    def page(self) -> str:
        """The text of its README.md; empty where there is none."""
        file = self.folder / PAGE
        return file.read_text(encoding="utf-8") if file.is_file() else ""


def benchmarks(extra: Path | None = None) -> dict[str, Benchmark]:
    """Every benchmark that comes with the package, and those in the folders below `extra`.

    Raises
    ------
    RecipeError
        If `extra` holds no benchmark, or two have one name.

    Example
    -------
    >>> "mtneuro" in benchmarks()
    True
    """
    found = dict(_packaged())
    if extra is not None:
        folders = list(_folders(Path(extra)))
        if not folders:
            raise RecipeError("no benchmark here", extra, fix=f"a folder with a {DESCRIPTION}")
        for folder in folders:
            made = read_benchmark(folder)
            if made.name in found:
                raise RecipeError(
                    "two benchmarks have one name", str(folder), made.name, "rename yours"
                )
            found[made.name] = made
    return found


@cache
def _packaged() -> dict[str, Benchmark]:
    root = resources.files("brodmann") / "bench"
    read = [read_benchmark(folder) for folder in _folders(root)]
    return {one.name: one for one in read}


def _folders(root: Traversable) -> Iterator[Traversable]:
    """The root itself where it is a benchmark, else the benchmarks right below it."""
    if not root.is_dir():
        return
    if (root / DESCRIPTION).is_file():
        yield root
        return
    for folder in sorted(root.iterdir(), key=lambda one: one.name):
        if folder.is_dir() and (folder / DESCRIPTION).is_file():
            yield folder


def find_task(task: str, extra: Path | None = None) -> tuple[Benchmark, Task]:
    """The task that an id such as "mtneuro/roi-c1@v2" names.

    Raises
    ------
    RecipeError
        Names the nearest id; or the versions, where the id gives none and there are several.

    Example
    -------
    >>> find_task("mtneuro/roi-c1@v2")[1].main
    'balanced_accuracy'
    """
    known = {one.id: (bench, one) for bench in benchmarks(extra).values() for one in bench.tasks}
    if task in known:
        return known[task]
    versions = [id_ for id_ in known if id_.partition("@")[0] == task]
    if len(versions) == 1:
        return known[versions[0]]
    if versions:
        raise RecipeError("name the version of the task", found=task, fix=" or ".join(versions))
    raise RecipeError("no such task", found=repr(task), fix=nearest(task, known))


def read_benchmark(folder: Path | Traversable) -> Benchmark:
    """Read a folder: benchmark.yaml, task-*.yaml, counts.yaml, published.yaml.

    Raises
    ------
    RecipeError
        Names the file and the key at fault, and the nearest right one.
    """
    where = str(folder)
    description = build(
        _Description, read_yaml(folder / DESCRIPTION), f"{folder.name}/{DESCRIPTION}"
    )
    if description.name != folder.name:
        raise RecipeError(
            "a benchmark's folder is called as it is", where, description.name, "rename one"
        )
    splits = {
        name: _split(name, tree, f"{folder.name}/{DESCRIPTION}: splits.{name}")
        for name, tree in description.splits.items()
    }
    file = folder / COUNTS
    counts = read_yaml(file) if file.is_file() else {}
    tasks: list[Task] = []
    for one in sorted(folder.iterdir(), key=lambda file: file.name):
        if one.name.startswith(TASK_PREFIX) and one.name.endswith(".yaml"):
            name = f"{folder.name}/{one.name}"
            tasks += _versions(read_yaml(one), description, splits, counts, name)
    if not tasks:
        raise RecipeError("a benchmark without tasks", where, fix=f"add a {TASK_PREFIX}NAME.yaml")
    _check_ids(tasks, description.data, counts, where)
    made = Benchmark(description.name, description.title, description.data, tuple(tasks))
    file = folder / PUBLISHED
    rows = _published(read_yaml(file), made, f"{folder.name}/{PUBLISHED}") if file.is_file() else {}
    return Benchmark(made.name, made.title, made.data, made.tasks, rows, folder)


def read_yaml(file: Path | Traversable) -> dict[str, Any]:
    """The mapping that a YAML file of sensible size holds."""
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise RecipeError("this YAML is too large", str(file), f"> {LARGEST_BYTES} bytes")
        tree = yaml.safe_load(content.decode("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError("cannot read this YAML", str(file), error) from error
    if not isinstance(tree, dict):
        raise RecipeError("a mapping of keys to values is needed", str(file), type(tree).__name__)
    return tree


def _versions(
    tree: dict[str, Any],
    description: _Description,
    splits: Mapping[str, Split],
    counts: Mapping[str, Any],
    where: str,
) -> Iterator[Task]:
    """The task once for each of its versions; a version's keys come before the common ones."""
    versions = tree.pop("versions", None)
    if not isinstance(versions, Mapping) or not versions:
        raise RecipeError("a task needs versions", where, fix="versions: {v1: {...}, v2: {...}}")
    for version, own in versions.items():
        place = f"{where}: versions.{version}"
        if own is not None and not isinstance(own, Mapping):
            raise RecipeError("a version is keys and values", place, type(own).__name__)
        one = {**tree, **(own or {})}
        one["data"] = {**_mapping(tree, "data", where), **_mapping(own or {}, "data", place)}
        for key in ("benchmark", "version", "counts"):
            if key in one:
                raise RecipeError("this key is filled in for you", place, key)
        names = one.get("splits", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RecipeError("splits are a list of names", place, repr(names)[:80])
        for name in names:
            if name not in splits:
                raise RecipeError("no such split", place, repr(name), nearest(name, splits))
        one |= {
            "benchmark": description.name,
            "version": version,
            "splits": [splits[name] for name in names],
        }
        if isinstance(one.get("name"), str):
            id_ = f"{description.name}/{one['name']}@{version}"
            one["counts"] = counts.get(id_, {})
        yield build(Task, one, place)


def _mapping(tree: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = tree.get(key, {})
    if not isinstance(found, Mapping):
        raise RecipeError("keys and values are needed", f"{where}: {key}", type(found).__name__)
    return found


def _split(name: str, tree: Any, where: str) -> Split:
    """A split as YAML writes it: {cubes: [a, b], z: [0, 9]} stands for a box of each."""
    if isinstance(tree, Mapping) and isinstance(tree.get("parts"), Mapping):
        parts = {
            part: [box for one in members for box in _boxes(one)]
            if isinstance(members, list)
            else members
            for part, members in tree["parts"].items()
        }
        tree = {**tree, "parts": parts}
    if isinstance(tree, Mapping):
        tree = {"name": name, **tree}
    return build(Split, tree, where)


def _boxes(one: Any) -> list[Any]:
    if isinstance(one, Mapping) and isinstance(one.get("cubes"), list):
        rest = {key: value for key, value in one.items() if key != "cubes"}
        return [{"cube": cube, **rest} for cube in one["cubes"]]
    return [one]


def _check_ids(tasks: list[Task], data: DataRecord, counts: Mapping[str, Any], where: str) -> None:
    ids = [task.id for task in tasks]
    twice = sorted({id_ for id_ in ids if ids.count(id_) > 1})
    if twice:
        raise RecipeError("two files make one task", where, twice)
    for id_ in counts:
        if id_ not in ids:
            raise RecipeError("counts of no task", f"{where}/{COUNTS}", id_, nearest(id_, ids))
    for task in tasks:
        if task.encoder is not None and task.encoder not in ids:
            raise RecipeError(
                "no such encoder task", task.id, task.encoder, nearest(task.encoder, ids)
            )
        if task.truth is None:
            continue
        regions = {data.cubes[b.cube].region for b in _every_box(task) if b.cube in data.cubes}
        lost = sorted({b.cube for b in _every_box(task)} - set(data.cubes))
        if lost or (task.categories and not regions <= set(task.categories)):
            raise RecipeError(
                "truth by cubes needs the region of every cube among the categories",
                task.id,
                lost or sorted(regions - set(task.categories)),
            )
        if task.truth == "channel" and data.labelled_slices is None:
            raise RecipeError("truth by channel needs data.labelled_slices", where)


def _every_box(task: Task) -> Iterator[Any]:
    for split in task.splits:
        for part in split.parts:
            yield from split.boxes(part)


def _published(tree: Mapping[str, Any], benchmark: Benchmark, where: str) -> Published:
    """Tables of published rows; only version 1 may have them."""
    tasks = {task.id: task for task in benchmark.tasks}
    tables: Published = {}
    for table, of_task in tree.items():
        tables[str(table)] = {}
        for id_, methods in _items(of_task, f"{where}: {table}"):
            place = f"{where}: {table}.{id_}"
            if id_ not in tasks:
                raise RecipeError("published rows of no task", place, fix=nearest(id_, tasks))
            match = TASK_ID.match(id_)
            if match is None or match[3] != "v1":
                raise RecipeError("published rows stand beside version 1 only", place, id_)
            rows = tables[str(table)].setdefault(id_, {})
            for method, scores in _items(methods, place):
                rows[method] = {
                    score: _pair(value, score, tasks[id_], f"{place}.{method}.{score}")
                    for score, value in _items(scores, f"{place}.{method}")
                }
    return tables


def _items(tree: Any, where: str) -> list[tuple[str, Any]]:
    if not isinstance(tree, Mapping):
        raise RecipeError("keys and values are needed", where, type(tree).__name__)
    return [(str(key), value) for key, value in tree.items()]


def _pair(value: Any, score: str, task: Task, where: str) -> tuple[float, float | None]:
    metric, _, of = score.partition(":")
    if metric not in {m.name for m in task.metrics} or (of and of not in task.classes):
        raise RecipeError("no score of this task", where, score)
    numbers = value if isinstance(value, list) else [value]
    if not 1 <= len(numbers) <= 2 or not all(type(n) in (int, float) for n in numbers):
        raise RecipeError("a published score is [mean, deviation] or [mean]", where, repr(value))
    return float(numbers[0]), float(numbers[1]) if len(numbers) == 2 else None
