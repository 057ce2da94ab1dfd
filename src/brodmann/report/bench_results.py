"""The page of result files: their tasks, published rows and intervals looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brodmann.report.bench import write_bench_report


def report_results(
    folder: Path, results: Sequence[Any], known: Mapping[str, Any], **more: Any
) -> Path:
    """The page of checked results, with their tasks, published rows and intervals.

    Parameters
    ----------
    folder : Path
    results : sequence of brodmann.bench.results.Result
    known : mapping of str to Benchmark
        As `brodmann.bench.tasks` finds them.
    **more
        As for `write_bench_report`: extras, title, description, command, facts, notes.

    Returns
    -------
    Path
        `folder`/report.html.

    Raises
    ------
    DataError
        As `brodmann.bench.board.boards`: a result of an unknown task, or one that its evidence
        does not bear out.
    """
    from brodmann.bench.board import boards

    tables = boards(results, known)
    ids = [table.task for table in tables]
    used = [bench for bench in known.values() if any(task.id in ids for task in bench.tasks)]
    tasks = [task for bench in used for task in bench.tasks if task.id in ids]
    published = {
        task.id: bench.published_rows(task)
        for bench in used
        for task in bench.tasks
        if task.id in ids and task.version == "v1"
    }
    data = [bench.data for bench in used]
    facts = {
        "Data": "; ".join(one.title for one in data),
        "Licence": "; ".join(dict.fromkeys(one.licence for one in data)),
        "Citation": "; ".join(dict.fromkeys(one.citation for one in data)),
    }
    words = {
        "title": " / ".join(bench.title for bench in used),
        "tasks": tasks,
        "published": published,
        "intervals": {
            (table.task, row.method): row.interval
            for table in tables
            for row in table.rows
            if row.interval is not None
        },
    }
    facts |= more.pop("facts", None) or {}
    return write_bench_report(folder, results, facts=facts, **(words | more))
