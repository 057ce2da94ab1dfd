"""Blocks, done by whatever engine, each once: in turn, in parallel, and again after a kill."""

from __future__ import annotations

import errno
import queue
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from brodmann.core import BrodmannError, OutputError, RecipeError
from brodmann.inference.blocks import Block, BlockGrid, Marks
from brodmann.inference.engines import ALLOWED_DEATHS, Crew, Engine

Work = Callable[[Block], dict[str, Any]]
"""Does one block and has its output on disk when it returns; what it returns goes into the mark.
For dask a plain function, or `functools.partial` of one, with paths and small data."""
Report = Callable[[str, int, int, str], None]
POLL_S = 0.5


def quiet(what: str, done: int, total: int, note: str) -> None:
    """A report that says nothing."""


class BlockError(RuntimeError):
    """Work on a block failed, and not by the fault of its data or of the disk."""


def run_blocks(
    work: Work,
    grid: BlockGrid,
    marks: Marks,
    engine: Engine | None = None,
    *,
    what: str = "blocks",
    report: Report = quiet,
    order: Iterable[int] | None = None,
    only: Collection[int] | None = None,
    tell: Callable[[dict[str, Any]], str] | None = None,
) -> dict[int, dict[str, Any]]:
    """Do all blocks that are not done yet.

    A block is marked by whoever did it, once its output is on disk. When one fails no more are
    begun, those in flight are awaited, and the error names the block; those done stay done. So
    do they after a kill, and the same call goes on from there.

    Parameters
    ----------
    work : callable
        See `Work`. It may be done twice, when a worker dies or its answer is lost, and must
        then write the same.
    grid : BlockGrid
    marks : Marks
    engine : Engine, optional
        Serial by default.
    what : str
        Name of this work in reports and errors.
    report : callable
        Called as (what, blocks done, blocks, "12.3 MVox/s").
    order : iterable of int, optional
        Another order to begin the blocks in; the outcome must not depend on it.
    only : collection of int, optional
        The blocks that there is anything to do in, ascending; the others are left alone.
    tell : callable
        Called once with what each block reported, those of earlier calls too; gives a word
        that is added to the report.

    Returns
    -------
    dict
        Number -> what the block reported, of all blocks, ascending.

    Raises
    ------
    BrodmannError
        As a block raised it, with the block's name added; OutputError for a full disk;
        RecipeError when workers keep dying or the scheduler is gone.
    BlockError
        If a block failed in another way.
    """
    facts = marks.read(len(grid))
    wanted: Collection[int] = range(len(grid))
    if only is not None:
        wanted = frozenset(only)
        facts = {n: found for n, found in facts.items() if n in wanted}
    total, word = len(wanted), ""
    in_turn = (range(len(grid)) if only is None else only) if order is None else order
    numbers = (n for n in in_turn if n in wanted and n not in facts)
    left = total - len(facts)
    if tell is not None:
        for found in facts.values():
            word = tell(found)
    if not left:
        report(what, total, total, "kept" + (f", {word}" if word else ""))
        return facts
    report(what, len(facts), total, word)
    engine = engine or Engine("serial")
    began, voxels = time.monotonic(), 0

    def finished(number: int, found: dict[str, Any]) -> None:
        nonlocal voxels
        facts[number] = found
        voxels += grid[number].voxels
        rate = voxels / 1e6 / max(1e-9, time.monotonic() - began)
        word = f", {tell(found)}" if tell is not None else ""
        report(what, len(facts), total, f"{rate:.1f} MVox/s{word}")

    alone = left == 1 and not engine.elsewhere  # not worth a cluster
    if engine.name == "serial" or alone:
        for number in numbers:
            try:
                found = _do(work, grid, number, marks)
            except Exception as error:
                raise _named(error, grid[number], what) from error
            finished(number, found)
    else:
        with engine.crew(left) as crew:
            _drive(crew, work, grid, numbers, marks, what, finished)
    return dict(sorted(facts.items()))


def _do(work: Work, grid: BlockGrid, number: int, marks: Marks) -> dict[str, Any]:
    """One block, in whatever process; marks it."""
    found = marks.get(number)
    if found is None:
        found = work(grid[number]) or {}
        marks.write(number, found)
    return found


def _drive(
    crew: Crew,
    work: Work,
    grid: BlockGrid,
    numbers: Iterator[int],
    marks: Marks,
    what: str,
    finished: Callable[[int, dict[str, Any]], None],
) -> None:
    """Keep some blocks in flight until all are done or one has failed."""
    answers: queue.SimpleQueue = queue.SimpleQueue()
    flying: dict[int, Any] = {}
    failed: tuple[int, BaseException] | None = None
    limit, asked = crew.limit, time.monotonic()
    try:
        while True:
            while failed is None and len(flying) < limit:
                number = next(numbers, None)
                if number is None:
                    break
                future = crew.submit(_do, work, grid, number, marks)
                flying[number] = future
                future.add_done_callback(lambda _, number=number: answers.put(number))
            if not flying:
                break
            try:
                number = answers.get(timeout=POLL_S)
            except queue.Empty:
                number = None
            if time.monotonic() - asked > 10 * POLL_S:
                limit, asked = crew.limit, time.monotonic()
            crew.check()
            if number is None:
                continue
            future = flying.pop(number, None)
            if future is None:
                continue  # it was cancelled
            found, error = _answer(future)
            if error is None:
                finished(number, found)
            elif failed is None:
                failed = (number, error)
                # Those that have not begun need not.
                for other in [n for n, f in flying.items() if n != number and _dropped(f)]:
                    flying.pop(other)
    except BaseException:
        for future in flying.values():
            future.cancel()
        raise
    if failed is not None:
        raise _named(failed[1], grid[failed[0]], what) from failed[1]


def _answer(future: Any) -> tuple[Any, BaseException | None]:
    try:
        return future.result(), None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # A future that was lost with its scheduler is cancelled, which is no Exception.
        return None, error


def _dropped(future: Any) -> bool:
    """Cancel a future if that does not interrupt it; whether it was."""
    # dask's cancel interrupts, so that there all those handed out are awaited.
    return type(future).__module__.startswith("concurrent.") and future.cancel()


def _named(error: BaseException, block: Block, what: str) -> BaseException:
    """The error with the name of its block."""
    where = f"{what}, {block}"
    if isinstance(error, BrodmannError):
        inner = f"{error.where}; {where}" if error.where is not None else where
        return type(error)(error.what, inner, error.found, error.fix)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            full = seen.errno in (errno.ENOSPC, errno.EDQUOT)
            return OutputError(
                "the disk is full" if full else "cannot read or write",
                where,
                seen.strerror or seen,
                "free some space; the same command goes on from here"
                if full
                else "the same command goes on from here",
            )
        seen = seen.__cause__ or seen.__context__
    if "Cancelled" in type(error).__name__:
        return RecipeError(
            "the dask scheduler lost this block",
            where,
            fix="was it restarted? The same command goes on from here",
        )
    if type(error).__name__ == "KilledWorker":
        return RecipeError(
            f"{ALLOWED_DEATHS} workers died, one after another, with this block in hand",
            where,
            fix="they may lack memory: fewer workers, or smaller blocks",
        )
    line = f"{type(error).__name__}: {error}".split("\n")[0]
    return BlockError(f"{where} failed: {line}")
