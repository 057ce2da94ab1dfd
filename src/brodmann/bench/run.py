"""One method on one task with one seed: fit, predict, score, and a result file."""

from __future__ import annotations

import hashlib
import inspect
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from brodmann.bench.baselines import Method, Oracle
from brodmann.bench.data import Report, anonymous, open_parts, prove_encoder, survey
from brodmann.bench.evaluate import gather, mean_scores, same_counts, score
from brodmann.bench.records import NAME, Split, Task
from brodmann.bench.results import Evidence, Result, read_result, write_result
from brodmann.bench.tasks import Benchmark, find_task
from brodmann.core import DataError, Dataset, RecipeError, nearest
from brodmann.core.files import make_folder
from brodmann.pipeline.environment import commit, peak_memory_mb, versions

WORK = "work"
"""Folder, beside the results, in which methods keep what they make."""


def run_task(
    task: str | Task,
    method_name: str,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    folder: Path = Path("results"),
    report: Report = lambda what, done, total, note: None,
    data_options: Mapping[str, Any] | None = None,
    *,
    row: str | None = None,
    again: bool = False,
    extra: Path | None = None,
) -> Result:
    """Fit a method on every split of a task, score what it answers, and write the result.

    Parameters
    ----------
    task : str or Task
        An id such as "slice309/regions-32px@v1".
    method_name : str
        One of METHODS.
    options : mapping, optional
        Of the method.
    seed : int
    folder : Path
        Where the result file goes; what a method keeps goes into `folder/work`.
    report : callable
        Called as (what, done, total, note).
    data_options : mapping, optional
        Of the data, such as {"root": ...}.
    row : str, optional
        What the result is called in tables, for one method with several options; default: the
        method's name.
    again : bool
        Run although the folder holds this result already.
    extra : Path, optional
        A folder of further benchmarks.

    Returns
    -------
    Result
        Also written; a finished one of the same configuration and data is handed back as it is.

    Raises
    ------
    BrodmannError
        If an input is at fault: a split that is not disjoint, data that differ from the
        committed counts, an unknown option, a result of this name but another configuration.
    """
    bench, found = find_task(task.id if isinstance(task, Task) else task, extra)
    chosen = task if isinstance(task, Task) else found
    name = row or method_name
    if not NAME.match(name) or len(name) > 80 or name.endswith("\n"):
        raise RecipeError(
            "the name of a method in tables is small letters, digits and single -, _, . or + between",
            "--name",
            repr(name)[:80],
        )
    configuration = {"method": method_name, "options": dict(options or {})}
    make_method(method_name, options)
    started = time.perf_counter()
    opened: dict[str, dict[str, Dataset]] = {}
    digest = hashlib.blake2b(digest_size=16)
    prove_encoder(bench, chosen)
    for split in chosen.splits:
        split.prove(bench.data.cubes)
        opened[split.name] = open_parts(chosen, split, data_options)
        looked = survey(chosen, split, bench.data, opened[split.name], report)
        check_counts(chosen, split, looked.counts)
        digest.update(looked.digest.encode())
    encoder_data, encoder_digest = _encoder_data(bench, chosen, data_options, report)
    digest.update(encoder_digest.encode())
    data_hash = digest.hexdigest()
    draft = {
        "task": chosen.id,
        "method": name,
        "seed": seed,
        "configuration": configuration,
        "data_hash": data_hash,
    }
    kept = _kept(draft, Path(folder)) if not again else None
    if kept is not None:
        report("kept", 1, 1, kept.file_name)
        return kept
    per_split: dict[str, dict[str, float | None]] = {}
    raw: dict[str, Evidence] = {}
    for split in chosen.splits:
        work = make_folder(work_folder(Path(folder), chosen, name, seed) / split.name)
        method = make_method(method_name, options)
        raw[split.name] = _fit_and_answer(
            chosen,
            split,
            opened[split.name],
            method,
            seed,
            work,
            report,
            data_options,
            encoder_data,
        )
        per_split[split.name] = score(chosen, raw[split.name])
    result = Result(
        **draft,
        scores=mean_scores(per_split),
        per_split=per_split,
        raw=raw,
        commit=commit(),
        environment=environment(),
        seconds=round(time.perf_counter() - started, 3),
        peak_memory_mb=round(peak_memory_mb(), 1),
    )
    write_result(result, folder)
    return result


def work_folder(folder: Path, task: Task, row: str, seed: int) -> Path:
    """Where a method keeps what it makes of one task and seed, a folder for each split."""
    return folder / WORK / f"{_slug(task)}__{row}__seed{seed}"


def make_method(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """A method by name, from options that it takes.

    Raises
    ------
    RecipeError
        Names the nearest known method or option.

    Example
    -------
    >>> make_method("constant", {"shade": 1})
    Traceback (most recent call last):
    ...
    brodmann.core.errors.RecipeError: this method takes no such option (constant): found shade; \
it takes none
    """
    from brodmann.bench.methods import METHODS

    factory: Callable[..., Any] = METHODS[name]
    known = inspect.signature(factory).parameters
    anything = any(one.kind is one.VAR_KEYWORD for one in known.values())
    for key in options or {}:
        if key not in known and not anything:
            fix = nearest(key, known) if known else "it takes none"
            raise RecipeError("this method takes no such option", name, key, fix)
    method = factory(**(options or {}))
    for verb in ("fit", "predict"):
        if not callable(getattr(method, verb, None)):
            raise RecipeError(f"a method needs {verb}()", name, type(method).__name__)
    return method


def check_counts(task: Task, split: Split, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Refuse data whose class counts are not those committed with the task, where any are.

    Raises
    ------
    DataError
        Names the part and both counts.
    """
    for part, expected in task.counts.get(split.name, {}).items():
        found = counts.get(part, {})
        if not same_counts(expected, found, task.counts_tolerance):
            raise DataError(
                "the data differ from the task's committed counts",
                f"{task.id}: {split.name}.{part}",
                dict(found),
                f"committed: {expected}",
            )


def answers(
    task: Task,
    method: Method,
    test: Dataset,
    truth: Dataset | None = None,
    report: Report = lambda what, done, total, note: None,
) -> Evidence:
    """What a fitted method answers to a test part, as evidence.

    Parameters
    ----------
    task, method
    test : Dataset
        With its truth, of which the method sees nothing.
    truth : Dataset, optional
        The same samples as they truly are: what the oracle is shown. Default: `test`.
    """
    if isinstance(method, Oracle):
        truth = truth or test
        if len(truth) != len(test):
            raise DataError("the oracle sees other samples", task.id, f"{len(truth)}, {len(test)}")
        method.see(truth)

    def each() -> Any:
        for number, sample in enumerate(test):
            yield sample, method.predict(anonymous(sample, number))
            report("predict", number + 1, len(test), "")

    return gather(task, each(), test.label_map)


def environment() -> dict[str, str | int]:
    """Python, system, processors, accelerator and versions, as a result keeps them."""
    import os

    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "cores": os.cpu_count() or 1,
        "gpu": ", ".join(gpus) or "none",
        **versions(),
    }


def _fit_and_answer(
    task: Task,
    split: Split,
    parts: Mapping[str, Dataset],
    method: Method,
    seed: int,
    work: Path,
    report: Report,
    data_options: Mapping[str, Any] | None,
    encoder_data: Dataset | None,
) -> Evidence:
    more: dict[str, Any] = {}
    if "encoder_data" in inspect.signature(method.fit).parameters:
        more["encoder_data"] = encoder_data
    method.fit(
        parts["train"], parts.get("validation"), seed=seed, folder=work, report=report, **more
    )
    truth = None
    if isinstance(method, Oracle) and task.oracle_data:
        truth = open_parts(task, split, data_options, oracle=True)["test"]
    return answers(task, method, parts["test"], truth, report)


def _encoder_data(
    bench: Benchmark, task: Task, data_options: Mapping[str, Any] | None, report: Report
) -> tuple[Dataset | None, str]:
    """The training part that a frozen encoder may learn from, and its hash."""
    if task.encoder is None:
        return None, ""
    other = next(one for one in bench.tasks if one.id == task.encoder)
    split = other.splits[0]
    parts = open_parts(other, split, data_options)
    train = {"train": parts["train"]}
    return parts["train"], survey(other, split, bench.data, train, report).digest


def _kept(draft: Mapping[str, Any], folder: Path) -> Result | None:
    name = f"{_file_slug(draft['task'])}__{draft['method']}__seed{draft['seed']}.json"
    file = folder / name
    if not file.is_file():
        return None
    kept = read_result(file)
    if kept.configuration != draft["configuration"]:
        raise RecipeError(
            "a result of this name has another configuration",
            file,
            kept.configuration,
            "call this one otherwise with --name, or write into another --out",
        )
    return kept if kept.data_hash == draft["data_hash"] else None


def _slug(task: Task) -> str:
    return _file_slug(task.id)


def _file_slug(id_: str) -> str:
    return id_.replace("/", "__").replace("@", "__")
