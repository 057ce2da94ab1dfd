"""What the verbs share: printing results and showing progress."""

from __future__ import annotations

import json
import time
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
LINE_EVERY_S = 30.0
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
    """A bar for each kind of work, with time left, on standard error; lines where it is a file.

    >>> with progress() as report:
    ...     report("train", 5, 10, "loss 0.31")
    """
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _lines(console)
        return
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


def _lines(console: Console) -> Report:
    """A line when a kind of work begins, every half minute, and when it is done."""
    began: dict[str, tuple[float, int]] = {}
    spoken: dict[str, float] = {}

    def report(what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        start, first = began.setdefault(what, (now, done))
        if done < total and now - spoken.get(what, -LINE_EVERY_S) < LINE_EVERY_S:
            return
        spoken[what] = now
        rate = (done - first) / (now - start) if now > start else 0
        left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        console.print(f"{what}: {done}/{total}{left} {note}".rstrip(), soft_wrap=True)

    return report


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Numbers parted by commas, as an option gives them.

    >>> numbers("25,25", "--spacing")
    (25.0, 25.0)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError("write numbers parted by commas", option, repr(text)) from None
