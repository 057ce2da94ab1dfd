"""What a page of a benchmark says of its own results: warnings, and how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from brodmann.report.bench_rows import BenchRow, TaskText

FEW_SEEDS = 3
"""Below so many a mean says little."""


def warnings_of(
    of_task: Mapping[str, Sequence[BenchRow]], texts: Mapping[str, TaskText]
) -> list[str]:
    """What makes a table less than it seems."""
    found = []
    for id_, rows in of_task.items():
        hashes = {row.data_hash for row in rows if row.data_hash}
        if len(hashes) > 1:
            found.append(f"{id_}: results were made on {len(hashes)} different sets of data.")
        methods = {row.method for row in rows if not row.baseline}
        few = sorted(m for m in methods if len({r.seed for r in rows if r.method == m}) < FEW_SEEDS)
        if few:
            found.append(f"{id_}: fewer than {FEW_SEEDS} seeds of {', '.join(few)}.")
        for method in sorted(methods):
            ways = {_json(row.configuration) for row in rows if row.method == method}
            if len(ways) > 1:
                found.append(f"{id_}: results of {method} have {len(ways)} different settings.")
        text = texts.get(id_)
        reached = [
            value
            for row in rows
            if row.configuration.get("method", row.method) == "oracle"
            and text is not None
            and (value := row.scores.get(text.main)) is not None
        ]
        if text is not None and reached and min(reached) < text.maximum - 1e-6:
            found.append(
                f"{id_}: the oracle, which knows the truth, reaches {min(reached):.3f} of "
                f"{text.maximum:g}: the task itself is at fault."
            )
    return found


def facts_of(rows: Sequence[BenchRow]) -> dict[str, str]:
    """Seeds, time, memory, commit and environment of all results together."""

    def every(values: Any) -> str:
        return ", ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))

    names = dict.fromkeys(key for row in rows for key in row.environment)
    facts = {
        "Results": f"{len(rows)}",
        "Seeds": every(sorted({row.seed for row in rows})),
        "Time of all runs": f"{sum(row.seconds for row in rows) / 60:.1f} min",
        "Peak memory": f"{max(row.peak_memory_mb for row in rows) / 1000:.1f} GB",
        "Commit": every(row.commit for row in rows) or "installed package",
    }
    for name in names:
        facts[name[:1].upper() + name[1:]] = every(row.environment.get(name) for row in rows)
    return {key: value for key, value in facts.items() if value}


def hashes_of(
    order: Sequence[str], of_task: Mapping[str, Sequence[BenchRow]]
) -> list[tuple[str, list[str]]]:
    """Every task with the hashes of the data that its results were made on."""
    return [
        (id_, hashes)
        for id_ in order
        if (hashes := list(dict.fromkeys(r.data_hash for r in of_task[id_] if r.data_hash)))
    ]


def configurations_of(rows: Sequence[BenchRow]) -> list[tuple[str, str]]:
    """Every method with its settings, once for each that it had."""
    pairs = dict.fromkeys(
        (row.method, _json(row.configuration)) for row in rows if row.configuration
    )
    return sorted(pairs)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
