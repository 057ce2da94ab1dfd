"""Kills: of the command, of a worker, of an external scheduler; the rerun writes the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from made_cells import PLAIN, SPACING, Boxes, Deadly, Slow, as_array, of_whole, random_volume

from brodmann.core import RecipeError, Volume
from brodmann.io import write_volume
from brodmann.pipeline.cells import detect, open_brain

BLOCK = (7, 20, 20)
SCRIPT = """
import sys
from made_cells import PLAIN, Slow
from brodmann.pipeline.cells import detect, open_brain
brain, out, pause = sys.argv[1:]
detect(open_brain(brain), Slow(pause_s=float(pause)), out, block=(7, 20, 20), intensity=PLAIN)
"""
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    """A brain on disk, and the bytes that an undisturbed run writes."""
    folder = tmp_path_factory.mktemp("brain")
    volume = random_volume((21, 60, 60), 5, 200)
    write_volume(folder / "brain.zarr", volume)
    detect(volume, Boxes(), folder / "calm", block=BLOCK, intensity=PLAIN)
    return folder / "brain.zarr", volume, (folder / "calm/cells.csv").read_bytes()


def environment():
    return {**os.environ, "PYTHONPATH": str(HERE)}


def marks(out: Path) -> list[Path]:
    """Of blocks that are done; a kill may leave the beginning of another behind."""
    return [p for p in out.glob("work/blocks-*/marks/0/*.json") if p.name[0] != "."]


def done(out: Path) -> int:
    return len(marks(out))


def test_kill_9_of_the_command_and_the_rerun_goes_on(tmp_path, brain):
    path, _, expected = brain
    words = [sys.executable, "-c", SCRIPT, str(path), str(tmp_path / "d")]
    with subprocess.Popen([*words, "0.2"], env=environment()) as process:
        deadline = time.monotonic() + 120
        while done(tmp_path / "d") < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = done(tmp_path / "d")
    assert 5 <= before < 27 and not (tmp_path / "d/cells.csv").exists()
    stamps = {p: p.stat().st_mtime_ns for p in marks(tmp_path / "d")}
    # The same work by another pause would be other work: the detector's fields are in the key.
    said = []

    def report(what, now, total, note):
        assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
        said.append(now)

    detect(open_brain(path), Slow(pause_s=0.2), tmp_path / "d", block=BLOCK, intensity=PLAIN,
           engine="threads", workers=8, report=report)  # fmt: skip
    assert said[0] == before and said[-1] == 27
    assert (tmp_path / "d/cells.csv").read_bytes() == expected


def start(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )


class Outside:
    """A scheduler and a worker with its nanny, as a user starts them."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        import json

        file = folder / f"scheduler-{time.monotonic_ns()}.json"
        self.processes = [
            start("dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard",
                  "--scheduler-file", str(file)),
            start("dask_worker", "--scheduler-file", str(file), "--nthreads", "1",
                  "--no-dashboard", "--local-directory", str(folder)),
        ]  # fmt: skip
        deadline = time.monotonic() + 120
        while not (file.exists() and file.read_text().strip()):
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.1)
        self.address = json.loads(file.read_text())["address"]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_a_killed_worker_and_a_restarted_scheduler(tmp_path, brain):
    """One test, because schedulers take seconds to start."""
    path, volume, expected = brain
    mined = Volume(volume.numpy().copy(), "zyx", SPACING)
    mined.data[10, 30, 30] = 255
    write_volume(tmp_path / "mined.zarr", mined)
    deadly = Deadly(folder=str(tmp_path))
    with Outside(tmp_path) as cluster:
        cells = detect(open_brain(tmp_path / "mined.zarr"), deadly, tmp_path / "k", block=BLOCK,
                       intensity=PLAIN, scheduler=cluster.address)  # fmt: skip
        assert (tmp_path / "died").exists(), "the worker was killed by its block"
        assert np.array_equal(as_array(cells), of_whole(Boxes(), mined))

        def report(what, now, total, note):
            if now == 4:
                cluster.processes[0].kill()

        slow = Slow(pause_s=0.05)
        with pytest.raises(RecipeError, match="the dask scheduler is gone"):
            detect(open_brain(path), slow, tmp_path / "d", block=BLOCK, intensity=PLAIN,
                   scheduler=cluster.address, report=report)  # fmt: skip
    kept = done(tmp_path / "d")
    assert 4 <= kept < 27
    port = int(cluster.address.rpartition(":")[2])
    with Outside(tmp_path, port) as again:
        said = []
        detect(open_brain(path), slow, tmp_path / "d", block=BLOCK, intensity=PLAIN,
               scheduler=again.address, report=lambda *what: said.append(what[1]))  # fmt: skip
    assert said[0] >= kept
    assert (tmp_path / "d/cells.csv").read_bytes() == expected
