"""What a task can prove of itself without training: its splits, counts, floor and ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from brodmann.bench.baselines import BASELINES
from brodmann.bench.data import (
    Counts,
    Report,
    open_parts,
    parts_by_rule,
    prove_encoder,
    survey,
    without_images,
)
from brodmann.bench.evaluate import mean_scores, score
from brodmann.bench.records import Split, Task
from brodmann.bench.run import answers, check_counts, make_method
from brodmann.bench.tasks import COUNTS, Benchmark
from brodmann.core import BrodmannError, Dataset, OutputError
from brodmann.core.files import write_text

CLOSE = 1e-6
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Check:
    """What the check of one task found.

    `source` is "data", "rule" (the truth follows from the boxes) or "none" (neither is at
    hand). `counts` are those found, `counts_agree` whether they are the committed ones (None
    where there are none to compare). `scores`: baseline -> scores, `main` -> the main one,
    and `oracle` the oracle's.
    `reasons` explain a ceiling below the maximum; `problems` are errors.
    """

    task: str
    source: str
    splits: dict[str, str]
    counts: dict[str, Counts] = field(default_factory=dict)
    counts_agree: bool | None = None
    scores: dict[str, Scores] = field(default_factory=dict)
    main: dict[str, float | None] = field(default_factory=dict)
    oracle: float | None = None
    maximum: float = 1.0
    reasons: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    missing: str = ""

    @property
    def state(self) -> str:
        """How the task stands.

        "broken"; "capped" (a published fault keeps all below the maximum); "ok"; or "open",
        where the oracle could not be asked without the data.
        """
        if self.problems:
            return "broken"
        if not self.scores:
            return "open"
        return "capped" if self.reasons else "ok"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "task": self.task,
            "state": self.state,
            "source": self.source,
            "splits": self.splits,
            "counts": self.counts,
            "counts_agree": self.counts_agree,
            "scores": self.scores,
            "main": self.main,
            "oracle": self.oracle,
            "maximum": self.maximum,
            "reasons": list(self.reasons),
            "problems": list(self.problems),
            "missing": self.missing,
        }


def check_task(
    bench: Benchmark,
    task: Task,
    data_options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    compare: bool = True,
    report: Report = lambda what, done, total, note: None,
) -> Check:
    """Prove the splits, count the classes, and let the baselines answer; nothing is trained.

    Where the truth follows from the boxes (region tasks of MTNeuro) all this needs no data.

    Parameters
    ----------
    bench, task
    data_options : mapping, optional
        Such as {"root": ...}; without it only what needs no data is checked.
    seed : int
        Of the random baseline.
    compare : bool
        Hold the counts against those committed with the task.

    Returns
    -------
    Check
        With problems, not exceptions, for what is wrong with the task or its data. A ceiling
        below the maximum is a problem where the task lists no faults, else it has reasons.
    """
    splits, problems = _prove(bench, task)
    opened, source, missing = _open(bench, task, data_options)
    counts: dict[str, Counts] = {}
    per_split: dict[str, dict[str, Scores]] = {name: {} for name in BASELINES}
    agree: bool | None = None
    if source != "none" and not problems:
        try:
            for split in task.splits:
                parts = opened[split.name]
                looked = survey(task, split, bench.data, parts, report)
                counts[split.name] = looked.counts
                if source == "data" and _ruled(task):
                    _same_as_rule(bench, task, split, counts[split.name], problems)
                if source == "rule" and task.answer != "category":
                    continue
                truth = _truth(bench, task, split, source, data_options)
                if truth is not None and looked.parts:
                    truth = without_images(truth)
                for name in BASELINES:
                    found = _baseline(task, name, looked.parts or parts, truth, seed, report)
                    per_split[name][split.name] = found
        except BrodmannError as error:
            problems.append(str(error))
    if compare and task.counts and counts:
        agree = True
        for split in task.splits:
            try:
                check_counts(task, split, counts.get(split.name, {}))
            except BrodmannError as error:
                agree = False
                problems.append(str(error))
    scores = {name: mean_scores(found) for name, found in per_split.items() if found}
    oracle = scores.get("oracle", {}).get(task.main)
    reasons: tuple[str, ...] = ()
    if "oracle" in scores and (oracle is None or oracle < task.maximum - CLOSE):
        reasons = task.faults
        if not reasons:
            problems.append(
                f"the oracle reaches {oracle} of {task.maximum:g}: the truth of this task is broken"
            )
    return Check(
        task.id,
        source,
        splits,
        counts,
        agree,
        scores,
        {name: found.get(task.main) for name, found in scores.items()},
        oracle,
        task.maximum,
        reasons,
        tuple(problems),
        missing,
    )


def write_counts(bench: Benchmark, checks: list[Check]) -> Path:
    """Write counts.yaml of a benchmark anew, with what checks have counted.

    Tasks that were not counted keep what stands there.

    Raises
    ------
    OutputError
        If the benchmark does not lie in a folder that can be written.
    """
    folder = Path(str(bench.folder))
    if not folder.is_dir():
        raise OutputError("this benchmark lies in no folder", bench.folder, fix="use a checkout")
    found = {task.id: task.counts for task in bench.tasks if task.counts}
    found |= {check.task: check.counts for check in checks if check.counts}
    head = "# Samples of every category, or pixels of every class, in every part.\n"
    head += "# Written by `brodmann bench check --write-counts`; a run on other data is refused.\n"
    text = yaml.safe_dump(_plain(dict(sorted(found.items()))), sort_keys=False)
    return write_text(folder / COUNTS, head + text)


def _plain(tree: Any) -> Any:
    """Plain dicts, classes of which there are none left out."""
    if isinstance(tree, Mapping):
        return {str(key): _plain(value) for key, value in tree.items() if value != 0}
    return tree


def _prove(bench: Benchmark, task: Task) -> tuple[dict[str, str], list[str]]:
    told: dict[str, str] = {}
    problems: list[str] = []
    for split in task.splits:
        try:
            split.prove(bench.data.cubes)
            told[split.name] = _promise(split)
        except BrodmannError as error:
            told[split.name] = "not proved"
            problems.append(str(error))
    try:
        prove_encoder(bench, task)
    except BrodmannError as error:
        problems.append(str(error))
    return told, problems


def _promise(split: Split) -> str:
    if split.in_sample:
        return "tests on what trains"
    if not split.guard_slices and not split.guard_px:
        return "disjoint, no gap"
    slices = f"{split.guard_slices} slice{'s' * (split.guard_slices > 1)}"
    guards = [slices] if split.guard_slices else []
    guards += [f"{split.guard_px} pixels"] if split.guard_px else []
    within = " within a category" if split.guard_within == "category" else ""
    return f"disjoint, {' or '.join(guards)} apart{within}"


def _ruled(task: Task) -> bool:
    return task.truth is not None and task.data.get("depth", 1) == 1


def _open(
    bench: Benchmark, task: Task, data_options: Mapping[str, Any] | None
) -> tuple[dict[str, dict[str, Dataset]], str, str]:
    """The parts of every split; where they come from; what kept them from coming."""
    missing = ""
    try:
        return {s.name: open_parts(task, s, data_options) for s in task.splits}, "data", ""
    except (BrodmannError, ImportError) as error:
        missing = str(error)
    if not _ruled(task):
        return {}, "none", missing
    return {s.name: parts_by_rule(task, s, bench.data) for s in task.splits}, "rule", missing


def _truth(
    bench: Benchmark,
    task: Task,
    split: Split,
    source: str,
    data_options: Mapping[str, Any] | None,
) -> Dataset | None:
    """What the oracle is shown; None for the test part itself."""
    if source == "rule":
        return parts_by_rule(task, split, bench.data, truth="cube")["test"]
    if task.oracle_data:
        return open_parts(task, split, data_options, oracle=True)["test"]
    return None


def _baseline(
    task: Task,
    name: str,
    parts: Mapping[str, Dataset],
    truth: Dataset | None,
    seed: int,
    report: Report,
) -> Scores:
    method = make_method(name)
    with TemporaryDirectory() as folder:
        method.fit(
            parts["train"],
            parts.get("validation"),
            seed=seed,
            folder=Path(folder),
            report=report,
        )
    return score(task, answers(task, method, parts["test"], truth, report))


def _same_as_rule(
    bench: Benchmark, task: Task, split: Split, counts: Counts, problems: list[str]
) -> None:
    for part, data in parts_by_rule(task, split, bench.data).items():
        expected: dict[str, int] = {}
        for sample in data:
            expected[str(sample.category)] = expected.get(str(sample.category), 0) + 1
        if _plain(counts[part]) != expected:
            problems.append(
                f"{split.name}.{part}: the data say {counts[part]}, the boxes {expected}"
            )
