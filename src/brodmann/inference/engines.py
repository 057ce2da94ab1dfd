"""Who does the blocks: this process, its threads, or dask workers here or on other machines.

One file, because the two crews and the loop that drives them are each other's only callers.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import queue
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Literal

from brodmann.core import BrodmannError, OutputError, RecipeError
from brodmann.inference.blocks import Block, BlockGrid, Marks

Work = Callable[[Block], dict[str, Any]]
"""Does one block and has its output on disk when it returns; what it returns goes into the mark.
For dask a plain function, or `functools.partial` of one, with paths and small data."""
Report = Callable[[str, int, int, str], None]
EngineName = Literal["auto", "serial", "threads", "dask"]
IN_FLIGHT = 3
"""Blocks handed out at a time, per worker: so that millions of blocks do not pile up."""
POLL_S = 0.5
CONNECT_S, CLOSE_S = 10, 2
ALLOWED_DEATHS = 3
"""A block that so many workers had in hand when they died is given up."""
KEEP_MEMORY = {"MALLOC_ARENA_MAX": 1, "MALLOC_MMAP_MAX_": 0, "MALLOC_TRIM_THRESHOLD_": 1 << 40}
"""Blocks are alike: what one frees the next takes, and the system need not clear it between. That
takes a third of the time off a fast detector's block; dask by itself gives all back at once.
glibc reads these variables when a process begins; elsewhere they do nothing."""


def quiet(what: str, done: int, total: int, note: str) -> None:
    """A report that says nothing."""


class BlockError(RuntimeError):
    """Work on a block failed, and not by the fault of its data or of the disk."""


class Engine(AbstractContextManager):
    """Runs blocks; a cluster starts when it is first needed and ends with the `with`.

    Parameters
    ----------
    name : "auto", "serial", "threads" or "dask"
        "auto" is dask where a scheduler is named or there are several workers, else serial.
    workers : int
        Threads, or worker processes of one thread each.
    scheduler : str, optional
        Address of a running dask scheduler, "tcp://host:8786". Its workers must see the same
        files under the same paths, and have this package.
    cluster : callable, optional
        Makes a dask cluster whose workers come and go, such as one of dask-jobqueue; it is
        called when first needed and closed in the end.

    Example
    -------
    >>> with Engine("threads", 2) as engine:
    ...     engine.name, engine.workers
    ('threads', 2)
    """

    def __init__(
        self,
        name: EngineName = "auto",
        workers: int = 1,
        scheduler: str | None = None,
        cluster: Callable[[], Any] | None = None,
    ) -> None:
        if name not in ("auto", "serial", "threads", "dask"):
            raise RecipeError(
                "unknown engine", "engine", repr(name), "auto, serial, threads or dask"
            )
        if workers < 1:
            raise RecipeError("at least one worker", "workers", workers)
        if (scheduler or cluster) is not None and name not in ("auto", "dask"):
            raise RecipeError("a scheduler is dask's", "engine", repr(name))
        if scheduler is not None and cluster is not None:
            raise RecipeError("either a scheduler that runs, or a cluster to start", scheduler)
        if name == "auto":
            name = "dask" if scheduler or cluster or workers > 1 else "serial"
        self.name, self.workers, self.scheduler = name, workers, scheduler
        self._make_cluster = cluster
        self._client: Any = None
        self._cluster: Any = None

    @property
    def elsewhere(self) -> bool:
        """Whether the workers are not ours to count: they come and go."""
        return self.scheduler is not None or self._make_cluster is not None

    def __exit__(self, *error: Any) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                try:
                    part.close(timeout=CLOSE_S)
                except Exception:
                    # It is going down; what there is to say has been said.
                    continue
        self._client = self._cluster = None

    def client(self) -> Any:
        """The dask client.

        Raises
        ------
        RecipeError
            If the scheduler does not answer.
        """
        if self._client is not None:
            return self._client
        import logging

        import dask
        import distributed

        # They tell at length of every worker that goes and of every connection that is lost.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        settings = {
            "distributed.comm.timeouts.connect": f"{CONNECT_S}s",
            "distributed.scheduler.allowed-failures": ALLOWED_DEATHS - 1,
            "distributed.admin.log-format": "%(message)s",
            "distributed.logging": {"distributed": "critical"},
        }
        # For good: the client looks at them again when it reconnects.
        dask.config.set(settings)
        if self.scheduler:
            try:
                self._client = distributed.Client(
                    self.scheduler, timeout=CONNECT_S, set_as_default=False
                )
            except (OSError, ValueError) as error:
                raise RecipeError(
                    "this dask scheduler does not answer",
                    self.scheduler,
                    str(error).split("\n")[0][:120],
                    "start it with `dask scheduler`, or leave --scheduler out",
                ) from error
            return self._client
        if self._make_cluster is not None:
            with _deaf_to_ctrl_c():
                self._cluster = self._make_cluster()
                self._client = distributed.Client(self._cluster, set_as_default=False)
            return self._client
        begin = "distributed.nanny.pre-spawn-environ"
        kept = {f"{begin}.{name}": value for name, value in KEEP_MEMORY.items()}
        with _deaf_to_ctrl_c(), dask.config.set(kept):
            self._cluster = distributed.LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                host="127.0.0.1",
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
            self._client = distributed.Client(self._cluster, set_as_default=False)
        return self._client


def engine_of(
    engine: EngineName | Engine,
    workers: int,
    scheduler: str | None,
    cluster: Callable[[], Any] | None,
) -> AbstractContextManager[Engine]:
    """One that is given, which ends with its owner's `with`, or a new one."""
    if isinstance(engine, Engine):
        return contextlib.nullcontext(engine)
    return Engine(engine, workers, scheduler, cluster)


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Threads and processes begun here, and all that these begin, never see Ctrl-C.

    A terminal sends it to workers too; but we end them. One that comes meanwhile comes after.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    # Begun later, it would let the signal through again in the thread that begins it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    elif engine.name == "threads":
        with ThreadPoolExecutor(min(engine.workers, left)) as pool:
            task = _Threads(pool, engine.workers)
            _drive(task, work, grid, numbers, marks, what, finished)
    else:
        _drive(_Dask(engine), work, grid, numbers, marks, what, finished)
    return dict(sorted(facts.items()))


def _do(work: Work, grid: BlockGrid, number: int, marks: Marks) -> dict[str, Any]:
    """One block, in whatever process; marks it."""
    found = marks.get(number)
    if found is None:
        found = work(grid[number]) or {}
        marks.write(number, found)
    return found


class _Threads:
    def __init__(self, pool: ThreadPoolExecutor, workers: int) -> None:
        self._pool, self.limit = pool, workers * IN_FLIGHT

    def submit(self, *call: Any) -> Any:
        return self._pool.submit(*call)

    def check(self) -> str:
        return ""


class _Dask:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._client = engine, engine.client()
        self._workers = 0
        self._name = f"block-{os.getpid()}-{time.monotonic_ns()}"
        self._count = itertools.count()

    @property
    def limit(self) -> int:
        # Workers of a scheduler come and go.
        if self._engine.elsewhere:
            try:
                self._workers = sum(self._client.nthreads().values())
            except Exception:
                self._workers = 0
        else:
            self._workers = self._engine.workers
        return max(1, self._workers) * IN_FLIGHT

    def submit(self, *call: Any) -> Any:
        return self._client.submit(*call, key=f"{self._name}-{next(self._count)}", pure=False)

    def check(self) -> str:
        if self._client.status != "running":
            raise RecipeError(
                "the dask scheduler is gone",
                self._engine.scheduler or "begun by this command",
                fix="start it again; the same command goes on from here",
            )
        return "" if self._workers else "no workers at the scheduler yet"


def _drive(
    pool: Any,
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
    limit, asked = pool.limit, time.monotonic()
    try:
        while True:
            while failed is None and len(flying) < limit:
                number = next(numbers, None)
                if number is None:
                    break
                future = pool.submit(_do, work, grid, number, marks)
                flying[number] = future
                future.add_done_callback(lambda _, number=number: answers.put(number))
            if not flying:
                break
            try:
                number = answers.get(timeout=POLL_S)
            except queue.Empty:
                number = None
            if time.monotonic() - asked > 10 * POLL_S:
                limit, asked = pool.limit, time.monotonic()
            pool.check()
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
