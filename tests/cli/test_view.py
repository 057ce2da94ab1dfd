"""`brodmann view`: what the server gives over HTTP, and what an export holds."""

import io
import json
import sys
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest
from typer.testing import CliRunner

from brodmann.cli import view as view_module
from brodmann.cli.app import app
from brodmann.core import Volume
from brodmann.io import write_volume
from brodmann.io.precomputed import read_precomputed
from brodmann.pipeline.neurons.viewer import open_layers, start_viewer
from brodmann.postprocess.shapes import mesh_segment

SPACING = (0.03, 0.008, 0.008)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    ids = np.zeros((6, 20, 30), np.uint32)
    ids[1:5, 3:12, 4:25], ids[1:5, 13:18, 4:25] = 70_000, 3
    data = {
        "em.zarr": (rng.integers(0, 256, ids.shape).astype(np.uint8), "zyx"),
        "ids.zarr": (ids, "zyx"),
        "aff.zarr": (rng.integers(0, 256, (3, *ids.shape)).astype(np.uint8), "czyx"),
    }
    for name, (array, axes) in data.items():
        write_volume(tmp_path / name, Volume(array, axes, SPACING), labels=name == "ids.zarr")
    return tmp_path, {name: array for name, (array, _) in data.items()}


def run(*args):
    return CliRunner().invoke(app, ["view", *map(str, args)])


def test_export_holds_the_same_voxels(files):
    folder, data = files
    out = folder / "out"
    done = run(
        folder / "em.zarr", "--labels", folder / "ids.zarr", "--affinities", folder / "aff.zarr",
        "--export", out, "--url", "http://a.b/c/", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["state"] == str(out / "state.json")
    for name in ("em", "ids", "aff"):
        assert np.array_equal(read_precomputed(out / name).numpy(), data[f"{name}.zarr"])
    state = json.loads((out / "state.json").read_text(encoding="utf-8"))
    assert [(layer["type"], layer["source"]) for layer in state["layers"]] == [
        ("image", "precomputed://http://a.b/c/em"),
        ("segmentation", "precomputed://http://a.b/c/ids"),
        ("image", "precomputed://http://a.b/c/aff"),
    ]
    assert state["dimensions"] == {"x": [8e-9, "m"], "y": [8e-9, "m"], "z": [3e-8, "m"]}
    assert [layer.kind for layer in open_layers(out / "em", [out / "ids"])] == ["image", "labels"]


def test_the_server_gives_the_voxels_and_surfaces(files):
    pytest.importorskip("neuroglancer")
    folder, data = files
    layers = open_layers(folder / "em.zarr", [folder / "ids.zarr"], [folder / "aff.zarr"])
    viewer = start_viewer(layers)
    root = viewer.get_viewer_url().split("/v/")[0]
    assert root.startswith("http://127.0.0.1:")

    def get(path):
        with urllib.request.urlopen(f"{root}/neuroglancer/{path}", timeout=20) as answer:
            return answer.read()

    with urllib.request.urlopen(viewer.get_viewer_url(), timeout=20) as page:
        assert b"<script" in page.read()
    for layer in layers:
        source = viewer.state.layers[layer.name].source[0].url
        key = getattr(source, "token", None) or str(source).rsplit("/", 1)[-1]
        key = key if "." in key else f"{viewer.token}.{key}"
        info = json.loads(get(f"info/{key}"))
        array = data[f"{layer.name}.zarr"]
        assert info["shape"] == list(array.shape) and info["dataType"] == array.dtype.name
        scales = info["coordinateSpace"]
        assert scales["x"] == [8e-9, "m"] and scales["z"] == [3e-8, "m"]
        assert info["volumeType"] == ("segmentation" if layer.kind == "labels" else "image")
        start, end = [0] * array.ndim, list(array.shape)
        start[-1], end[-1] = 5, 17
        ends = "/".join(",".join(map(str, side)) for side in (start, end))
        raw = get(f"npz/{key}/{','.join('1' * array.ndim)}/{ends}")
        assert np.array_equal(np.load(io.BytesIO(zlib.decompress(raw))), array[..., 5:17])
        if layer.kind == "labels":
            mesh = mesh_segment(layer.volume, 70_000, smooth=5)
            raw = get(f"mesh/{key}/70000")
            (count,) = np.frombuffer(raw, "<u4", 1)
            assert count == len(mesh.vertices)
            points = np.frombuffer(raw, "<f4", 3 * count, 4).reshape(-1, 3)
            # Metres in the order of the axes, as the package's own generator gives them, which
            # counts from the centre of the first voxel though its sections begin at the corner.
            low, high = (np.array(c) * SPACING * 1e-6 for c in ((1, 3, 4), (5, 12, 25)))
            np.testing.assert_allclose(points.min(0), low, atol=4e-9)
            np.testing.assert_allclose(points.max(0), high, atol=4e-9)
            faces = np.frombuffer(raw, "<u4", -1, 4 + 12 * count).reshape(-1, 3)
            a, b, c = np.moveaxis(points[faces].astype(float), 1, 0)
            signed = float(np.sum(a * np.cross(b, c)) / 6)
            assert signed == pytest.approx(mesh.volume_um3 * 1e-18, rel=0.01)
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(f"mesh/{key}/99")


def test_the_verb_prints_the_address_and_opens_no_browser(files, monkeypatch):
    pytest.importorskip("neuroglancer")
    folder, _ = files
    monkeypatch.setattr(view_module, "_wait", lambda: None)
    monkeypatch.setattr("webbrowser.open", lambda url: pytest.fail("a browser was opened"))
    done = run(folder / "em.zarr", "--no-browser", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["url"].startswith("http://127.0.0.1:")


def test_without_the_extra_it_says_how_to_get_it(files, monkeypatch):
    folder, _ = files
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    done = run(folder / "em.zarr", "--no-browser")
    assert done.exit_code == 2 and "brodmann[view]" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert run(folder / "em.zarr", "--export", folder / "out").exit_code == 0


def test_what_cannot_be_shown_is_one_line(files):
    folder, _ = files
    write_volume(folder / "flat.tif", Volume(np.zeros((4, 5), np.uint8), "yx", (1, 1)))
    write_volume(folder / "f.zarr", Volume(np.zeros((4, 5, 6), np.float32), "zyx", (1, 1, 1)))
    for args, words in (
        ([folder / "flat.tif"], "axes zyx"),
        ([folder / "em.zarr", "--labels", folder / "f.zarr"], "whole numbers"),
        ([folder / "em.zarr", "--affinities", folder / "ids.zarr"], "axes czyx"),
        ([folder / "no.zarr"], "no such file"),
    ):
        done = run(*args, "--no-browser")
        assert done.exit_code == 2 and words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_signed_ids_are_served_unsigned(files):
    pytest.importorskip("neuroglancer")
    folder, data = files
    ids = data["ids.zarr"].astype(np.int64)
    write_volume(folder / "i.zarr", Volume(ids, "zyx", SPACING), labels=True)
    layers = open_layers(folder / "em.zarr", [folder / "i.zarr"])
    viewer = start_viewer(layers)
    (local,) = [v for v in viewer.volume_manager.volumes.values() if v.data_type == "uint64"]
    raw, _ = local.get_encoded_subvolume("npz", np.zeros(3, int), np.array(ids.shape), "1,1,1")
    assert np.array_equal(np.load(io.BytesIO(zlib.decompress(raw))), ids)
