"""Engines: the same outcome from each; failures are errors and not done; deaths are survived."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from brodmann.core import DataError, OutputError, RecipeError
from brodmann.inference.blocks import BlockGrid, Marks
from brodmann.inference.engines import IN_FLIGHT, Engine
from brodmann.inference.running import BlockError, run_blocks

GRID = BlockGrid((30, 4), (1, 4))


def square(block, folder: Path, pause=0.0):
    time.sleep(pause)
    (folder / f"{block.number}.txt").write_text(str(block.number**2))
    return {"square": block.number**2}


def bad_at(block, number: int, error: Exception):
    if block.number == number:
        raise error
    return {}


def deadly(block, folder: Path, at: int, deaths: int):
    """Kills its own process at one block, so many times."""
    if block.number == at:
        for n in range(deaths):
            if not (folder / f"died-{n}").exists():
                (folder / f"died-{n}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
    return square(block, folder)


@pytest.fixture(scope="module")
def cluster():
    with Engine("dask", 2) as engine:
        yield engine


@pytest.fixture(params=["serial", "threads", "dask"])
def engine(request):
    if request.param == "dask":
        return request.getfixturevalue("cluster")
    return Engine(request.param, 2)


def check_outcome(folder, facts):
    assert facts == {n: {"square": n * n} for n in range(30)}
    assert list(facts) == sorted(facts)
    assert [(folder / f"{n}.txt").read_text() for n in range(30)] == [str(n * n) for n in range(30)]


def test_all_blocks_are_done_and_marked(tmp_path, engine):
    said = []
    marks = Marks(tmp_path / "m", "a")
    marks.write(4, {"square": 16})
    (tmp_path / "4.txt").write_text("16")
    facts = run_blocks(
        partial(square, folder=tmp_path), GRID, marks, engine,
        what="squares", report=lambda *what: said.append(what), order=list(range(30))[::-1],
    )  # fmt: skip
    check_outcome(tmp_path, facts)
    assert Marks(tmp_path / "m", "a").read(30) == facts
    assert [done for _, done, _, _ in said] == list(range(1, 31))
    assert {(what, total) for what, _, total, _ in said} == {("squares", 30)}
    assert said[-1][3].endswith("MVox/s")
    stamp = (tmp_path / "0.txt").stat().st_mtime_ns
    assert run_blocks(partial(square, folder=tmp_path), GRID, marks, engine) == facts
    assert (tmp_path / "0.txt").stat().st_mtime_ns == stamp, "nothing is done twice"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (DataError("affinities lie in 0..1", "a.zarr", "NaN"), DataError,
         r"affinities lie in 0..1 \(a.zarr; cells, block 17 \(y 17:18, x 0:4\)\): found NaN"),
        (OSError(errno.ENOSPC, "No space left"), OutputError, r"the disk is full \(cells, block 17"),
        (ZeroDivisionError("oh"), BlockError, r"cells, block 17 .* failed: ZeroDivisionError: oh"),
    ],
)  # fmt: skip
def test_a_failed_block_is_named_and_not_done(tmp_path, engine, error, kind, words):
    marks = Marks(tmp_path / "m", "a")
    with pytest.raises(kind, match=words):
        run_blocks(partial(bad_at, number=17, error=error), GRID, marks, engine, what="cells")
    done = marks.read(30)
    assert 17 not in done and set(range(10)) <= set(done)
    assert len(run_blocks(partial(bad_at, number=-1, error=error), GRID, marks, engine)) == 30


def test_few_blocks_are_handed_out_at_a_time(tmp_path):
    lock, running, most, begun = threading.Lock(), 0, 0, []

    def work(block):
        nonlocal running, most
        with lock:
            running += 1
            begun.append(block.number)
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    grid = BlockGrid((400,), (1,))
    run_blocks(work, grid, Marks(tmp_path / "m", "a"), Engine("threads", 3))
    assert sorted(begun) == list(range(400)) and 1 < most <= 3
    # A million blocks are never in memory: the order is drawn as workers come free.
    taken = []

    def order():
        for n in range(400):
            taken.append(n)
            yield n

    def stop(block):
        raise ValueError

    with pytest.raises(BlockError):
        run_blocks(stop, grid, Marks(tmp_path / "m2", "a"), Engine("threads", 3), order=order())
    assert len(taken) <= 3 * IN_FLIGHT + 1


def test_a_killed_worker_is_replaced_and_its_block_done_again(tmp_path, cluster):
    marks = Marks(tmp_path / "m", "a")
    facts = run_blocks(partial(deadly, folder=tmp_path, at=7, deaths=1), GRID, marks, cluster)
    assert (tmp_path / "died-0").exists()
    check_outcome(tmp_path, facts)


def test_a_block_that_kills_every_worker_is_given_up(tmp_path, cluster):
    marks = Marks(tmp_path / "m", "a")
    # It may name a block that waited at the same worker.
    words = r"3 workers died.*with this block in hand.*block \d+ .*smaller blocks"
    with pytest.raises(RecipeError, match=words):
        run_blocks(partial(deadly, folder=tmp_path, at=7, deaths=9), GRID, marks, cluster)
    done = marks.read(30)
    assert 7 not in done
    assert all((tmp_path / f"{n}.txt").exists() for n in done)


def test_a_scheduler_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr("brodmann.inference.engines.CONNECT_S", 1)
    with Engine("auto", 1, "tcp://127.0.0.1:9") as engine:
        assert engine.name == "dask"
        with pytest.raises(RecipeError, match=r"does not answer \(tcp://127.0.0.1:9\)"):
            run_blocks(partial(square, folder=tmp_path), GRID, Marks(tmp_path / "m", "a"), engine)


def test_bad_engines_are_refused():
    for call in (("spark", 1), ("auto", 0), ("threads", 1, "tcp://a:1")):
        with pytest.raises(RecipeError):
            Engine(*call)


def start(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )


def cluster_outside(folder: Path):
    """A scheduler and a worker as a user starts them, and their address."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    scheduler = start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                      "--scheduler-file", str(file))  # fmt: skip
    worker = start("dask_worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny",
                   "--no-dashboard", "--local-directory", str(folder))  # fmt: skip
    import json

    for _ in range(300):
        if file.exists() and file.read_text().strip():
            return scheduler, worker, json.loads(file.read_text())["address"]
        time.sleep(0.1)
    raise AssertionError("the scheduler did not start")


def test_a_scheduler_that_dies_is_an_error_and_the_rerun_goes_on(tmp_path):
    marks = Marks(tmp_path / "m", "a")
    work = partial(square, folder=tmp_path, pause=0.05)
    scheduler, worker, address = cluster_outside(tmp_path)

    def report(what, done, total, note):
        if done == 6:
            scheduler.kill()

    try:
        with (
            Engine("auto", 1, address) as engine,
            pytest.raises(RecipeError, match="the dask scheduler is gone"),
        ):
            run_blocks(work, GRID, marks, engine, report=report)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    done = marks.read(30)
    assert 6 <= len(done) < 30 and all((tmp_path / f"{n}.txt").exists() for n in done)
    check_outcome(tmp_path, run_blocks(work, GRID, Marks(tmp_path / "m", "a"), Engine("serial")))


def deaf():
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_ctrl_c_in_a_terminal_does_not_reach_the_workers(cluster):
    """They would die with long traces; the command ends them instead, and hears it itself."""
    heard = cluster.client().run(deaf)
    assert heard and all(heard.values())
    assert not deaf()


def churned() -> tuple[int, int]:
    """Page faults of the first and of later large arrays, freed one after the other."""
    resource = pytest.importorskip("resource")
    seen = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.full(1 << 27, 1, np.uint8)
        seen.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return seen[0], min(seen[1:])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc's malloc")
def test_workers_keep_memory_for_the_next_block(cluster):
    for first, later in cluster.client().run(churned).values():
        assert later <= first
        assert later < 8, "fresh pages again: 64 huge ones, or 32,768"
