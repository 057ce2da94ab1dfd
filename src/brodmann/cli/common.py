"""What the verbs share: printing results and showing progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from brodmann.core import RecipeError

JSON_HELP = "Print one JSON object on standard output, and nothing else there."
Report = Callable[[str, int, int, str], None]
"""Called as (what, done, total, note) while work goes on."""


def emit(result: Any, as_json: bool, text: Callable[[Any], None]) -> None:
    """Print a result: as JSON for machines, or by `text` for people."""
    if as_json:
        print(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        text(result)


def out() -> Console:
    """Standard output for people."""
    return Console(highlight=False)


@contextmanager
def progress() -> Iterator[Report]:
    """A bar for each kind of work, with time left, on standard error.

    >>> with progress() as report:
    ...     report("train", 5, 10, "loss 0.31")
    """
    console = Console(stderr=True, highlight=False)
    bars = Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
        refresh_per_second=4,
    )
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int, note: str = "") -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total, note=note, completed=done)
        bars.update(tasks[what], completed=done, total=total, note=note)

    with bars:
        yield report


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Numbers parted by commas, as an option gives them.

    >>> numbers("25,25", "--spacing")
    (25.0, 25.0)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError("write numbers parted by commas", option, repr(text)) from None
