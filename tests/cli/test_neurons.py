"""`brodmann neurons` as a person and as a machine calls it, killed, stopped, and given bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import zarr
from scipy.ndimage import gaussian_filter

from brodmann.cli import main
from brodmann.core import Affinities, Volume
from brodmann.io import read_volume, write_volume
from brodmann.postprocess import segment

SPACING = (0.04, 0.01, 0.01)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A folder with affinities, and the segments that they make in memory."""
    folder = tmp_path_factory.mktemp("neurons")
    noise = gaussian_filter(np.random.default_rng(2).normal(size=(3, 12, 60, 70)), (0, 1, 3, 3))
    values = (255 / (1 + np.exp(-2 - 2 * noise / noise.std()))).astype(np.uint8)
    volume = Volume(values, "czyx", SPACING)
    write_volume(folder / "affinities.zarr", volume)
    ((_, labels),) = segment(Affinities(volume), "mean", [0.3])
    return folder / "affinities.zarr", labels


def call(capsys, *words):
    words = ["brodmann", "neurons", *map(str, words)]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as leaving:
        patch.setattr(sys, "argv", words)
        main()
    said = capsys.readouterr()
    return leaving.value.code or 0, said.out, said.err


def complaint(err):
    lines = [line for line in err.splitlines() if line.startswith("brodmann:")]
    assert len(lines) == 1 and "Traceback" not in err
    return lines[0]


def test_json_and_nothing_else_on_stdout(tmp_path, capsys, example):
    path, labels = example
    code, out, err = call(
        capsys, path, tmp_path / "o.zarr", "--threshold", 0.3, "--json", "--engine", "serial",
        "--block", "5,30,70",
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0 and found["segments"] == labels.max() and found["threshold"] == 0.3
    assert found["out"] == str(tmp_path / "o.zarr") and found["missing_chunks"] == 0
    assert np.array_equal(read_volume(tmp_path / "o.zarr").numpy(), labels)
    assert "edges" in err


def test_every_option_reaches_the_work(tmp_path, capsys, example):
    path, _ = example
    values = read_volume(path).numpy()
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["affs"] = 255 - values[::-1]
        file["raw"] = values[0]
    out = tmp_path / "o.zarr"
    code, said, _ = call(
        capsys, tmp_path / "a.h5", out, "--json", "--method", "multicut", "--beta", 0.4,
        "--offsets", "0,0,-1;0,-1,0;-1,0,0", "--kind", "boundary", "--anchor", "destination",
        "--dataset", "affs", "--spacing", "0.05,0.01,0.01", "--watershed-threshold", 0.4,
        "--sigma", 1.5, "--min-size", 5, "--volumetric", "--block", "5,30,30",
        "--fragment-block", "6,30,30", "--workers", 2, "--engine", "threads", "--no-pyramid",
        "--work", tmp_path / "work",
    )  # fmt: skip
    found = json.loads(said)
    assert code == 0
    expected = {
        "method": "multicut", "beta": 0.4, "watershed_threshold": 0.4, "seed_sigma": 1.5,
        "min_size": 5, "per_slice": False, "fragment_block": [6, 30, 30], "fragments_exact": False,
        "spacing_um": [0.05, 0.01, 0.01], "pyramid": False,
        "convention": {"offsets": [[0, 0, -1], [0, -1, 0], [-1, 0, 0]], "kind": "boundary",
                       "anchor": "destination"},
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert list((tmp_path / "work").glob("graph-*"))
    code, said, _ = call(capsys, path, tmp_path / "p.zarr", "--engine", "serial", "--fragment-block", "4,30,30")  # fmt: skip
    assert code == 0 and "faces of cells of 4,30,30" in said and str(tmp_path / "p.zarr") in said
    code, said, _ = call(capsys, path, tmp_path / "p.zarr", "--engine", "serial", "--fragment-block", "4,30,30")  # fmt: skip
    assert code == 0 and "was there already" in said


def test_missing_chunks_are_told(tmp_path, capsys, example):
    values = read_volume(example[0]).numpy().copy()
    values[:, :4, :20, :20] = 0
    zarr.create_array(tmp_path / "a.zarr", data=values, chunks=(3, 4, 20, 20), attributes={"spacing_um": SPACING})  # fmt: skip
    code, out, err = call(capsys, tmp_path / "a.zarr", tmp_path / "o.zarr", "--engine", "serial", "--json")  # fmt: skip
    assert code == 0 and json.loads(out)["missing_chunks"] == 1
    assert "not on disk: 1;" in complaint(err)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda v: np.where(v == v[1, 3, 5, 7], np.nan, v / 255).astype("f4"), (), "0..1"),
        (lambda v: v.astype("f4"), (), "affinities lie in 0..1"),
        (lambda v: 255 - v, (), "looks like a boundary map"),
        (lambda v: v[[0, 1, 2, 2]], (), "offsets of these channels are not known"),
        (lambda v: v, ("--offsets", "long-range"), "12 offsets need 12 channels"),
        (lambda v: v, ("--offsets", "nearset"), "did you mean 'nearest'"),
        (lambda v: v, ("--kind", "edges"), "kind is affinity or boundary"),
        (lambda v: v, ("--anchor", "both"), "anchor is source or destination"),
        (lambda v: v, ("--beta", "0.3"), "mean has no beta"),
        (lambda v: v, ("--method", "multicot"), "did you mean 'multicut'"),
        (lambda v: v, ("--threshold", "1.5"), "1.5"),
        (lambda v: v, ("--sigma", "-1"), "sigma"),
        (lambda v: v, ("--block", "4,4"), "three whole numbers"),
        (lambda v: v, ("--engine", "spark"), "unknown engine"),
        (lambda v: v[:, :, :1], (), "too small"),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, capsys, example, change, options, words):
    volume = Volume(change(read_volume(example[0]).numpy()), "czyx", SPACING)
    write_volume(tmp_path / "a.zarr", volume)
    options = ("--engine", "serial", *options)
    code, out, err = call(capsys, tmp_path / "a.zarr", tmp_path / "o.zarr", "--json", *options)
    assert code == 2 and out == "" and words in complaint(err)
    assert not (tmp_path / "o.zarr").exists()


def test_no_such_file(tmp_path, capsys):
    code, _, err = call(capsys, tmp_path / "a.zarr", tmp_path / "o.zarr")
    assert code == 2 and "no such file" in complaint(err)


SLOW = ("--threshold", "0.3", "--block", "2,20,35", "--no-pyramid", "--json")
"""About 36 blocks: long enough to be killed in the middle of."""


def command(path, out, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "brodmann", "neurons", str(path), str(out), *SLOW, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What runs in the background of a script is deaf to Ctrl-C, and so are its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for_marks(out, stage, count, process):
    """Until so many blocks of a stage are marked."""
    for _ in range(6000):
        if len(list(out.with_name(out.name + ".work").glob(f"{stage}/*/[!.]*.json"))) >= count:
            return
        if process.poll() == 0:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("nothing happens")


@pytest.mark.parametrize(
    ("stage", "signal_", "code"),
    [
        ("graph-*/marks-0", signal.SIGKILL, -signal.SIGKILL),
        ("labels-*/labels-marks", signal.SIGINT, 130),
    ],
)
def test_killed_or_stopped_the_same_command_goes_on(
    tmp_path, capsys, example, stage, signal_, code
):
    path, labels = example
    out = tmp_path / "o.zarr"
    for _ in range(6):
        process = command(path, out, "--engine", "serial")
        wait_for_marks(out, stage, 3, process)
        process.send_signal(signal_)
        said, err = process.communicate(timeout=60)
        if process.returncode != 0:
            break
        # A busy machine may see the signal come when all is done.
        shutil.rmtree(out)
    assert process.returncode == code and said == "" and not out.exists()
    assert (code != 130) or "the same command goes on" in complaint(err)
    done = len(list(out.with_name("o.zarr.work").glob(f"{stage}/*/[!.]*.json")))
    assert 3 <= done < 36
    assert call(capsys, path, out, *SLOW, "--engine", "serial")[0] == 0
    assert np.array_equal(read_volume(out).numpy(), labels)
    assert call(capsys, path, tmp_path / "w.zarr", *SLOW, "--engine", "serial")[0] == 0
    assert bytes_of(out) == bytes_of(tmp_path / "w.zarr")


def bytes_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def workers_of(process):
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        if "spawn_main" in " ".join(child.cmdline()):
            found.append(child)
    return found


def test_a_killed_worker_and_then_a_killed_command(tmp_path, capsys, example):
    """Workers of a real run: one is killed and replaced; those of a killed command end too."""
    path, labels = example
    out = tmp_path / "o.zarr"
    process = command(path, out, "--workers", "2")
    wait_for_marks(out, "graph-*/marks-0", 2, process)
    workers = workers_of(process)
    assert len(workers) == 2
    os.kill(workers[0].pid, signal.SIGKILL)
    wait_for_marks(out, "graph-*/marks-0", 12, process)
    workers = workers_of(process)
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, "workers outlive their command"
    assert not out.exists()
    assert call(capsys, path, out, *SLOW, "--engine", "serial")[0] == 0
    assert np.array_equal(read_volume(out).numpy(), labels)
