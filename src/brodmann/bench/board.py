"""Tables of results: a pure function of the result files, one table for each task version."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from brodmann.bench.baselines import BASELINES
from brodmann.bench.evaluate import check_result, interval
from brodmann.bench.records import Task
from brodmann.bench.results import Result, read_result
from brodmann.bench.tasks import Benchmark
from brodmann.core import DataError, RecipeError, nearest

PUBLISHED = "published"
KINDS = ("method", PUBLISHED, "baseline")
"""In the order of equals."""
Spread = tuple[float | None, float | None]
"""Mean, and deviation over seeds (n - 1; None below two)."""


@dataclass(frozen=True)
class BoardRow:
    """One method. `kind` is "method", "baseline" or "published"; `missing` are seeds to run.

    `interval` (95 %) is of the main score over clusters of test samples; None where there are
    too few of them.
    """

    method: str
    kind: str
    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    scores: Mapping[str, Spread]
    seconds: float | None = None
    interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "method": self.method,
            "kind": self.kind,
            "seeds": list(self.seeds),
            "missing_seeds": list(self.missing),
            "scores": {key: {"mean": m, "std": s} for key, (m, s) in self.scores.items()},
            "interval": None if self.interval is None else list(self.interval),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Board:
    """One table: a task version, its rows from best to worst, and what to know of them."""

    task: str
    title: str
    main: str
    columns: tuple[str, ...]
    rows: tuple[BoardRow, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "task": self.task,
            "title": self.title,
            "main": self.main,
            "columns": list(self.columns),
            "rows": [row.to_dict() for row in self.rows],
            "notes": list(self.notes),
        }

    def brief(self) -> Board:
        """The same table without the scores of single classes."""
        keep = tuple(key for key in self.columns if ":" not in key)
        return replace(self, columns=keep)

    def cells(self) -> list[list[str]]:
        """Rows of text: method, kind, seeds, every column, and the interval where any is."""
        return [
            [
                row.method,
                row.kind,
                str(len(row.seeds)) if row.kind != PUBLISHED else "",
                *(spread(row.scores.get(key)) for key in self.columns),
                *([_span(row.interval)] if self.intervals else []),
            ]
            for row in self.rows
        ]

    @property
    def head(self) -> list[str]:
        """Titles over `cells`."""
        last = ["95 %"] if self.intervals else []
        return ["method", "kind", "seeds", *self.columns, *last]

    @property
    def intervals(self) -> bool:
        """Whether any row has one."""
        return any(row.interval for row in self.rows)

    def to_markdown(self) -> str:
        """A table for a page; the main score is the first one."""
        head = "| " + " | ".join(self.head) + " |"
        rule = "|---|---|" + "---:|" * (len(self.head) - 2)
        rows = ["| " + " | ".join(map(_plain, cells)) + " |" for cells in self.cells()]
        notes = ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join([f"### {self.title} ({self.task})", "", head, rule, *rows, *notes]) + "\n"

    def to_csv(self) -> str:
        """Task, method, kind, seeds, mean and deviation of every column, and the interval."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        pairs = [f"{key}_{what}" for key in self.columns for what in ("mean", "std")]
        writer.writerow(["task", "method", "kind", "seeds", *pairs, "low", "high"])
        for row in self.rows:
            numbers = [row.scores.get(key, (None, None)) for key in self.columns]
            flat = ["" if n is None else repr(n) for pair in numbers for n in pair]
            ends = [repr(end) for end in row.interval] if row.interval else ["", ""]
            writer.writerow([self.task, row.method, row.kind, len(row.seeds), *flat, *ends])
        return text.getvalue()


def read_results(paths: Iterable[Path]) -> list[Result]:
    """The results in files, and in the `*__seed*.json` of folders, in the order of their names.

    Raises
    ------
    DataError
        If a path is not there, holds no result, or a file is none.
    """
    found: list[Result] = []
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(path.glob("*__*__*__*__seed*.json"))
            if not files:
                raise DataError("no results in this folder", path, fix="run `brodmann bench run`")
            found += [read_result(file) for file in files]
        else:
            found.append(read_result(path))
    return found


def boards(results: Sequence[Result], known: Mapping[str, Benchmark]) -> list[Board]:
    """A table for each task version that has results, in the order of their ids.

    Raises
    ------
    DataError
        As `board`; also if a result is of a task that is not known.
    """
    tasks = {task.id: (bench, task) for bench in known.values() for task in bench.tasks}
    for result in results:
        if result.task not in tasks:
            raise DataError(
                "a result of an unknown task",
                result.file_name,
                result.task,
                nearest(result.task, tasks),
            )
    ids = sorted({result.task for result in results})
    return [
        board([one for one in results if one.task == id_], tasks[id_][1], tasks[id_][0])
        for id_ in ids
    ]


def board(
    results: Sequence[Result], task: Task | None = None, bench: Benchmark | None = None
) -> Board:
    """The table of one task version: the same results, in any order, give the same table.

    Parameters
    ----------
    results : sequence of Result
    task : Task
    bench : Benchmark, optional
        For its published rows, which stand beside version 1 only.

    Raises
    ------
    RecipeError
        If results of several tasks or versions are put into one table.
    DataError
        If one is not borne out by its evidence, two of one method and seed differ, or one
        method has several configurations.
    """
    ids = sorted({result.task for result in results} | ({task.id} if task else set()))
    if len(ids) > 1:
        raise RecipeError(
            "scores of different tasks or versions share no table",
            found=", ".join(ids),
            fix="make a table of each",
        )
    if task is None:
        raise RecipeError("a table needs its task")
    for result in results:
        check_result(task, result)
    kept = _once(results)
    rows = [_row(method, kept[method], task) for method in sorted(kept)]
    if bench is not None and task.version == "v1":
        rows += [
            BoardRow(method, PUBLISHED, (), (), dict(scores))
            for method, scores in bench.published_rows(task).items()
        ]
    names = [metric.name for metric in task.metrics]
    columns = [task.main, *(name for name in names if name != task.main)]
    detail = dict.fromkeys(key for row in rows for key in row.scores if ":" in key)
    ranked = sorted(rows, key=lambda row: (-_main(row, task), KINDS.index(row.kind), row.method))
    return Board(
        task.id,
        task.title,
        task.main,
        (*columns, *detail),
        tuple(ranked),
        tuple(_notes(task, kept, rows)),
    )


def spread(value: Spread | None) -> str:
    """A mean and its deviation as tables show them.

    >>> spread((0.91234, 0.02)), spread((0.5, None)), spread(None)
    ('0.912 ± 0.020', '0.500', '–')
    """
    if value is None or value[0] is None:
        return "–"
    return f"{value[0]:.3f}" + ("" if value[1] is None else f" ± {value[1]:.3f}")


def _once(results: Sequence[Result]) -> dict[str, dict[int, Result]]:
    """Method -> seed -> result; the same one twice counts once."""
    found: dict[str, dict[int, Result]] = {}
    for result in sorted(results, key=lambda one: one.to_json()):
        seeds = found.setdefault(result.method, {})
        other = seeds.get(result.seed)
        if other is not None and other != result:
            raise DataError(
                "two different results of one method and seed",
                result.task,
                f"{result.method}, seed {result.seed}",
                "keep one of them, or call one otherwise with --name",
            )
        seeds[result.seed] = result
        first = next(iter(seeds.values()))
        if first.configuration != result.configuration:
            raise DataError(
                "one method with several configurations",
                result.task,
                f"{result.method}, seeds {first.seed} and {result.seed}",
                "call one of them otherwise with --name",
            )
    return found


def _row(method: str, seeds: Mapping[int, Result], task: Task) -> BoardRow:
    keys = dict.fromkeys(key for result in seeds.values() for key in result.scores)
    kind = "baseline" if _is_baseline(next(iter(seeds.values()))) else "method"
    missing = tuple(seed for seed in task.seeds if seed not in seeds)
    if kind == "baseline" and next(iter(seeds.values())).configuration.get("method") != "random":
        missing = ()  # the others draw nothing
    return BoardRow(
        method,
        kind,
        tuple(sorted(seeds)),
        missing,
        {key: _spread([seeds[seed].scores.get(key) for seed in sorted(seeds)]) for key in keys},
        fmean(seeds[seed].seconds for seed in sorted(seeds)),
        interval(task, [seeds[seed].raw for seed in sorted(seeds)]),
    )


def _is_baseline(result: Result) -> bool:
    return result.configuration.get("method") in BASELINES


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    return fmean(known), stdev(known) if len(known) > 1 else None


def _main(row: BoardRow, task: Task) -> float:
    value = row.scores.get(task.main, (None, None))[0]
    if value is None:
        # A published row without the main score stands where the mean of its classes puts it.
        of_class = [
            m for key, (m, _) in row.scores.items()
            if key.startswith(f"{task.main}:") and m is not None
        ]  # fmt: skip
        value = fmean(of_class) if of_class else -1e9
    return value


def _notes(
    task: Task, kept: Mapping[str, Mapping[int, Result]], rows: Sequence[BoardRow]
) -> list[str]:
    notes = []
    if len(task.splits) > 1:
        notes.append(f"Means over the splits {', '.join(split.name for split in task.splits)}.")
    for row in rows:
        if row.missing:
            seeds = ", ".join(map(str, row.missing))
            notes.append(f"{row.method} lacks seeds {seeds}.")
    hashes = {result.data_hash for seeds in kept.values() for result in seeds.values()}
    if len(hashes) > 1:
        notes.append(f"These results were made on {len(hashes)} different states of the data.")
    commits = {result.commit for seeds in kept.values() for result in seeds.values()}
    if len(commits) > 1:
        notes.append(f"These results were made by {len(commits)} different commits of the code.")
    if any(row.interval for row in rows):
        notes.append(
            f"95 %: interval of {task.main}, all seeds together, over clusters of test samples."
        )
    if any(row.kind == PUBLISHED for row in rows):
        notes.append("Published rows are numbers of the paper, not made by this code.")
    if task.faults:
        notes += [f"Fault of {task.version}: {fault}" for fault in task.faults]
    return notes


def _span(found: tuple[float, float] | None) -> str:
    return "–" if found is None else f"{found[0]:.3f} to {found[1]:.3f}"


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|")
