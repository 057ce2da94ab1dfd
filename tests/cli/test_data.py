"""`brodmann data`: exit codes, JSON alone on standard output, one line for an error."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest

from brodmann.cli import main
from brodmann.core import Dataset, Label, LabelMap, Points, Sample, Volume
from brodmann.datasets import download as downloading
from brodmann.datasets.folder import write_folder


@pytest.fixture
def folder(tmp_path):
    def make(name):
        rng = np.random.default_rng(ord(name))
        coarse = rng.integers(0, 3, (6, 6)).repeat(10, 0).repeat(10, 1)
        image = Volume((coarse * 50 + rng.integers(0, 99, (60, 60))).astype("u1"), "yx", (25, 25))
        return Sample(name, image, image.like(coarse.astype("u1")))

    tree = LabelMap([Label(1, "Cortex", "CTX", None, "70FF71"), Label(2, "Thalamus", "TH")])
    data = Dataset("mice", list("abc"), make, tree, splits={"train": ["a", "b"], "test": ["c"]})
    return write_folder(data, tmp_path / "mice")


@pytest.fixture
def run(capsys, monkeypatch):
    def call(*args):
        monkeypatch.setattr("sys.argv", ["brodmann", "data", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return stop.value.code or 0, said.out, said.err

    return call


def test_show(run, folder, tmp_path):
    code, out, _ = run("show", folder, "--json", "--out", tmp_path / "regions.png")
    told = json.loads(out)
    assert code == 0
    assert [sample["name"] for sample in told["samples"]] == ["a", "b", "c"]
    assert told["figure"] == str(tmp_path / "regions.png")
    assert (tmp_path / "regions.png").stat().st_size > 5000
    code, out, _ = run("show", folder)
    assert code == 0
    for word in ("mice", "train 2, test 1", "Cortex", "CTX", f"{told['classes'][0]['pixels']:,}"):
        assert word in out


def test_show_draws_points(run, tmp_path):
    def make(name):
        image = Volume(np.full((6, 40, 40), 9, np.uint16), "zyx", (4, 2, 2))
        table = pd.DataFrame({"z": [1.0, 5.0], "y": [3.0, 4.0], "x": [3.0, 30.0]})
        return Sample(name, image, points=Points(table if name == "a" else table.iloc[:0]))

    folder = write_folder(Dataset("cells", ["a", "b"], make), tmp_path / "cells")
    code, out, _ = run("show", folder, "--out", tmp_path / "cells.png")
    assert code == 0
    assert "2 in 2 samples" in out and "points" in out
    assert (tmp_path / "cells.png").stat().st_size > 5000
    code, out, _ = run("show", folder, "--json")
    assert [sample["points"] for sample in json.loads(out)["samples"]] == [2, 0]


def test_check_of_a_sound_folder(run, folder):
    code, out, _ = run("check", folder, "--json")
    assert (code, json.loads(out)["findings"]) == (0, [])
    code, out, _ = run("check", folder)
    assert (code, "nothing wrong" in out) == (0, True)


def test_check_lists_everything_and_exits_2(run, folder):
    for name in "ab":
        file = folder / "images" / f"{name}.tif"
        file.write_bytes(file.read_bytes()[:200])
    (folder / "labels" / "c.tif").unlink()
    code, out, _ = run("check", folder, "--json")
    told = json.loads(out)
    assert (code, told["errors"]) == (2, 2)
    assert {f["file"] for f in told["findings"]} >= {"images/a.tif", "images/b.tif", "images/c.tif"}
    code, out, _ = run("check", folder)
    assert code == 2
    assert out.count("error ") == 2
    assert "images/b.tif" in out
    assert "2 errors" in out


def test_warnings_alone_exit_0(run, folder):
    (folder / "labels" / "c.tif").unlink()
    code, out, _ = run("check", folder, "--json")
    assert code == 0
    assert json.loads(out)["warnings"] >= 1


@pytest.mark.parametrize("layout", ["nnunet", "coco", "nifti"])
def test_convert(run, folder, tmp_path, layout):
    code, out, _ = run("convert", folder, tmp_path / "there", "--to", layout, "--json")
    assert (code, json.loads(out)["samples"]) == (0, 3)
    source = "folder" if layout == "nifti" else layout
    code, out, _ = run("convert", tmp_path / "there", tmp_path / "back", "--from", source)
    assert code == 0
    assert "3 samples" in out
    same = (folder / "labels.csv").read_text()
    assert (tmp_path / "back" / "labels.csv").read_text() == same


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("check", "nowhere"), "no such dataset folder"),
        (("show", "nowhere"), "no such dataset"),
        (("convert", "nowhere", "x", "--to", "coko"), "did you mean 'coco'"),
        (("show", "nowhere", "--spacing", "a,b"), "numbers with commas"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(run, args, message):
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert message in err.strip().splitlines()[-1]
    assert "Traceback" not in err


class TestGet:
    @pytest.fixture
    def site(self, tmp_path, monkeypatch):
        monkeypatch.setattr(downloading, "WAIT_S", 0.002)
        monkeypatch.setenv("no_proxy", "*")
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "regions.csv").write_text("id,acronym,parent\n1,AOB,OLF\n")
        handler = partial(QuietHandler, directory=str(folder))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        server.server_close()

    @pytest.mark.parametrize("args", [(), ("--list",)])
    def test_lists(self, run, args):
        code, out, _ = run("get", *args, "--json")
        listed = json.loads(out)["sources"]
        assert code == 0
        names = [source["name"] for source in listed]
        assert names == ["ac34", "canvas", "cellfinder", "cremi", "dmbm", "snemi3d", "mtneuro"]
        code, out, _ = run("get", *args)
        assert code == 0
        for source in listed:
            for key in ("licence", "size", "url"):
                assert source[key] in out

    def test_fetches_then_verifies(self, run, site, tmp_path):
        code, out, _ = run("get", "dmbm", tmp_path / "there", "--url", site, "--json")
        told = json.loads(out)
        assert (code, told["files"], told["checksums"]) == (0, 1, "recorded")
        code, out, _ = run("get", "dmbm", tmp_path / "there", "--url", site)
        assert code == 0
        assert "nothing fetched" in out
        assert f"data.root={tmp_path / 'there'}" in out

    def test_bad_input_is_one_line_and_exit_2(self, run, site, tmp_path):
        there = tmp_path / "there"
        for args, message in (
            (("dmbm",), "say where to"),
            (("dmbn", there), "did you mean 'dmbm'"),
            (("dmbm", there, "--url", "http://127.0.0.1:9/"), "cannot get an answer"),
            (("dmbm", there, "--url", site, "--sha256", "0" * 64), "wrong checksum"),
        ):
            code, out, err = run("get", *args)
            assert (code, out) == (2, "")
            assert message in err.strip().splitlines()[-1]
            assert "Traceback" not in err
        assert not (there / "regions.csv").exists()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
