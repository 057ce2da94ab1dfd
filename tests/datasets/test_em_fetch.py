"""The electron microscopy sets that can be fetched, from a site that is made here."""

import hashlib
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest
import tifffile

from brodmann.core import DataError, RecipeError
from brodmann.datasets import download as downloading
from brodmann.datasets import fetch as fetching
from brodmann.datasets.em.cremi import cremi
from brodmann.datasets.em.snemi3d import snemi3d
from brodmann.datasets.fetch import SOURCES, fetch
from brodmann.datasets.registry import DATASETS


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that is served, and the sets' lists pointed at it."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True)
    thread.start()
    monkeypatch.setattr(downloading, "WAIT_S", 0.002)
    monkeypatch.setenv("no_proxy", "*")
    url = f"http://127.0.0.1:{server.server_port}/"
    moved = dict(SOURCES)
    for name in ("ac34", "cremi", "snemi3d"):
        files = tuple(replace(file, url=url + file.path) for file in SOURCES[name].files)
        moved[name] = replace(SOURCES[name], url=url, files=files)
    monkeypatch.setattr(fetching, "SOURCES", moved)
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def volumes(depth=100):
    ids = np.arange(depth * 36, dtype=np.uint32).reshape(depth, 6, 6) % 5
    return ids.astype(np.uint8), ids


def put_snemi(folder):
    for name, array in zip(("train-input", "train-labels"), volumes()):
        tifffile.imwrite(folder / f"{name}.tif", array)
    with zipfile.ZipFile(folder / "snemi.zip", "w") as archive:
        for kind, name in (("image", "train-input"), ("seg", "train-labels")):
            archive.write(folder / f"{name}.tif", f"{kind}/{name}.tif")
    return folder / "snemi.zip"


def test_names_are_kinds_of_data_and_addresses_are_safe():
    for name in ("ac34", "cremi", "snemi3d"):
        assert callable(DATASETS[name])
        assert all(file.url.startswith("https://") for file in SOURCES[name].files)
        assert all(file.url.endswith("/" + file.path) for file in SOURCES[name].files)
    digits = [file.sha256 for file in SOURCES["cremi"].files]
    assert len(set(digits)) == 3 and all(len(bytes.fromhex(text)) == 32 for text in digits)


def test_recorded_at_first_and_held_from_then_on(site, tmp_path):
    archive = put_snemi(site)
    first = digest(archive)
    got = fetch("snemi3d", tmp_path / "a")
    assert got["checksums"] == "recorded" and f"snemi.zip {first}" in got["vouched"]
    assert snemi3d(tmp_path / "a")["snemi3d-test"].labels.shape == (15, 6, 6)
    assert fetch("snemi3d", tmp_path / "a")["checksums"] == "verified"
    # Another file under the same name is refused once a file must be fetched again.
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("more.txt", "more")
    (tmp_path / "a" / "image" / "train-input.tif").unlink()
    with pytest.raises(DataError, match="wrong checksum"):
        fetch("snemi3d", tmp_path / "a")


def test_a_checksum_given_for_a_listed_file(site, tmp_path):
    archive = put_snemi(site)
    got = fetch("snemi3d", tmp_path / "a", sha256=digest(archive))
    assert got["checksums"] == "given" and got["files"] == 2
    with pytest.raises(DataError, match="wrong checksum"):
        fetch("snemi3d", tmp_path / "b", sha256="0" * 64)
    sums = tmp_path / "sums"
    sums.write_text(f"{'1' * 64}  other.zip\n")
    with pytest.raises(DataError, match=r"no checksum for this file \(snemi\.zip\)"):
        fetch("snemi3d", tmp_path / "c", sha256=sums)
    with pytest.raises(RecipeError, match="one checksum is for one file"):
        fetch("cremi", tmp_path / "d", sha256="0" * 64)


def test_checksums_kept_in_the_package(site, tmp_path, monkeypatch):
    image, ids = volumes(125)
    files = []
    for file in fetching.SOURCES["cremi"].files:
        with h5py.File(site / file.path, "w") as opened:
            opened["volumes/raw"], opened["volumes/labels/neuron_ids"] = image, ids
        files.append(replace(file, sha256=digest(site / file.path)))
    with pytest.raises(DataError, match="wrong checksum"):
        fetch("cremi", tmp_path / "a")
    source = replace(fetching.SOURCES["cremi"], files=tuple(files))
    monkeypatch.setitem(fetching.SOURCES, "cremi", source)
    got = fetch("cremi", tmp_path / "b")
    assert got["checksums"] == "kept" and got["fetched"] == 3
    assert len(cremi(tmp_path / "b")) == 9
    (tmp_path / "b" / files[1].path).unlink()
    assert fetch("cremi", tmp_path / "b")["fetched"] == 1


def test_another_address_is_looked_through(site, tmp_path):
    put_snemi(site)
    url = fetching.SOURCES["snemi3d"].url + "snemi.zip"
    assert fetch("snemi3d", tmp_path / "a", url)["url"] == url
    assert snemi3d(tmp_path / "a").names[0] == "snemi3d-train"


def test_not_there(site, tmp_path):
    with pytest.raises(DataError, match="AC3AC4Package"):
        fetch("ac34", tmp_path / "a")
