"""Progress told item by item."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int, str], None]
"""Called as (what, done, total, note) while work goes on."""


def counter(report: Report, what: str, total: int) -> Callable[[], None]:
    """A function to call after each item; it tells how many are done.

    >>> tick = counter(lambda *told: print(*told[:3], "-"), "sections", 2)
    >>> tick(); tick()
    sections 1 2 -
    sections 2 2 -
    """
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        report(what, done, total, "")

    return advance
