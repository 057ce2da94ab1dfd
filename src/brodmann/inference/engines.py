"""Who does the blocks: this process, its threads, or dask workers here or on other machines."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from brodmann.core import RecipeError

EngineName = Literal["auto", "serial", "threads", "dask"]
IN_FLIGHT = 3
"""Blocks handed out at a time, per worker: so that millions of blocks do not pile up."""
CONNECT_S, CLOSE_S = 10, 2
ALLOWED_DEATHS = 3
"""A block that so many workers had in hand when they died is given up."""
KEEP_MEMORY = {"MALLOC_ARENA_MAX": 1, "MALLOC_MMAP_MAX_": 0, "MALLOC_TRIM_THRESHOLD_": 1 << 40}
"""Blocks are alike: what one frees the next takes, and the system need not clear it between. That
takes a third of the time off a fast detector's block; dask by itself gives all back at once.
glibc reads these variables when a process begins; elsewhere they do nothing."""


class Crew(Protocol):
    """Workers that are handed calls."""

    @property
    def limit(self) -> int:
        """How many calls to have in hand at a time."""

    def submit(self, *call: Any) -> Any:
        """The future of a function and its arguments."""

    def check(self) -> str:
        """A word on what is lacking, if anything is; raises where nothing more will come."""


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

    @contextlib.contextmanager
    def crew(self, calls: int) -> Iterator[Crew]:
        """Threads, or the workers of the cluster, for so many calls.

        Raises
        ------
        RecipeError
            If the scheduler does not answer.
        """
        if self.name == "threads":
            with ThreadPoolExecutor(min(self.workers, calls)) as pool:
                yield _Threads(pool, self.workers)
        else:
            yield _Dask(self)

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
