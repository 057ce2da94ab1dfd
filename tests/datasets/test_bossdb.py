"""Fetching cubes through the real `intern` from a server made here: sound, failing, lying.

One file, because every test needs the same server.
"""

from __future__ import annotations

import builtins
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_bossdb import FakeBoss, gray, hashed, serving

from brodmann.core import DataError, OutputError, RecipeError
from brodmann.datasets import bossdb_client, bossdb_fetch, download
from brodmann.datasets.bossdb import bossdb, open_cubes
from brodmann.datasets.bossdb_client import Boss, split_uri
from brodmann.datasets.bossdb_fetch import fetch_cubes
from brodmann.datasets.bossdb_store import counts_of
from brodmann.datasets.bossdb_volume import read_boss_volume
from brodmann.datasets.cube_files import export_cube, import_cube
from brodmann.io import read_volume, write_volume

pytest.importorskip("intern")

EXTENT = (60, 80, 100)
TREE = {
    "name": "little",
    "title": "A little volume",
    "licence": "CC0",
    "citation": "nobody",
    "spacing_um": [1.17, 1.17, 1.17],
    "image": "bossdb://lab/scan/image",
    "regions": {"channel": "bossdb://lab/ids/regions", "labels": {0: "clear", 1: "CTX", 2: "STR"}},
    "microstructure": {
        "channel": "bossdb://lab/ids/pixels",
        "labels": {1: "vessel", 2: {"name": "Cell", "acronym": "cell", "color": "E8C547"}},
    },
    "cubes": {
        "ctx-A": {"region": "CTX", "z": [10, 40], "y": [20, 52], "x": [4, 36]},
        "str-A": {
            "region": "STR",
            "z": [10, 40],
            "y": [8, 24],
            "x": [60, 84],
            "annotations": ["regions"],
        },
    },
}


def regions(z, y, x):
    return np.where(x < 50, 1, 2) + 0 * (z + y)


def pixels(z, y, x):
    return hashed(z, y, x, 5) % 3


@pytest.fixture
def boss():
    channels = {
        "lab/scan/image": ("uint8", gray),
        "lab/ids/regions": ("uint64", regions),
        "lab/ids/pixels": ("uint64", pixels),
    }
    with serving(FakeBoss(channels, EXTENT)) as server:
        yield server


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Short waits, and files of a few slices each."""
    monkeypatch.setattr(download, "WAIT_S", 0.01)
    monkeypatch.setattr(bossdb_fetch, "CHUNK_VOXELS", 8 * 32 * 32)
    monkeypatch.delenv("INTERN_TOKEN", raising=False)


@pytest.fixture
def volume():
    return read_boss_volume(TREE)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*"))


def test_what_is_fetched_is_what_the_server_has(boss, volume, tmp_path):
    seen = []
    result = fetch_cubes(volume, tmp_path / "out", host=boss.host, report=lambda *a: seen.append(a))
    assert result["fetched"] == result["arrays"] == 5 and result["checked"] == 0
    assert result["licence"] == "CC0" and not result["notes"]
    openers = open_cubes(volume, tmp_path / "out")
    for name, opener in pickle.loads(pickle.dumps(openers)).items():
        cube, told = opener(), TREE["cubes"][name]
        box = (*told["z"], *told["y"], *told["x"])
        assert cube.origin == (told["z"][0], told["y"][0], told["x"][0])
        assert cube.image.spacing == (1.17, 1.17, 1.17) and cube.image.axes == "zyx"
        assert (cube.image.numpy() == boss.cutout("lab/scan/image", box)).all()
        assert (cube.regions.numpy() == boss.cutout("lab/ids/regions", box)).all()
        assert cube.regions.dtype == np.uint8
    ctx = openers["ctx-A"]()
    assert (
        ctx.microstructure.numpy() == boss.cutout("lab/ids/pixels", (10, 40, 20, 52, 4, 36))
    ).all()
    assert openers["str-A"]().microstructure is None
    # Bounded chunks, each asked for once.
    sizes = [(b[1] - b[0]) * (b[3] - b[2]) * (b[5] - b[4]) for _, b in boss.asked]
    assert max(sizes) <= 8 * 32 * 32 and len(boss.asked) == len(set(boss.asked)) == 16
    assert boss.tokens == {"Token public"}
    assert [done for _, done, _, _ in seen] == sorted(done for _, done, _, _ in seen)
    assert seen[-1][1] == seen[-1][2]
    assert not (tmp_path / "out" / ".fetch").exists()


def test_the_second_time_everything_is_checked_and_nothing_fetched(boss, volume, tmp_path):
    fetch_cubes(volume, tmp_path, host=boss.host)
    asked = len(boss.asked)
    result = fetch_cubes(volume, tmp_path, host="http://127.0.0.1:9")
    assert (result["fetched"], result["checked"], len(boss.asked)) == (0, 5, asked)
    # One cube more costs that cube only.
    tree = TREE | {"cubes": TREE["cubes"] | {"more": TREE["cubes"]["str-A"] | {"z": [0, 8]}}}
    result = fetch_cubes(read_boss_volume(tree), tmp_path, host=boss.host)
    assert (result["fetched"], result["checked"], len(boss.asked)) == (2, 5, asked + 2)


@pytest.mark.parametrize("fault", ["500", "half body", "half cutout", "short", "type", "hang up"])
def test_what_another_try_betters_is_tried_again(boss, volume, tmp_path, fault):
    boss.faults = [None, fault, fault, None, fault]
    fetch_cubes(volume, tmp_path, cubes=["str-A"], host=boss.host)
    image = open_cubes(volume, tmp_path, ["str-A"])["str-A"]().image
    assert (image.numpy() == boss.cutout("lab/scan/image", (10, 40, 8, 24, 60, 84))).all()
    again = [box for _, box in boss.asked]
    assert len(again) - len(set(boss.asked)) == 3


def test_a_silent_server_is_not_waited_for_without_end(boss, volume, tmp_path, monkeypatch):
    monkeypatch.setattr(bossdb_client, "TIMEOUT_S", 0.3)
    boss.faults = ["stall"]
    fetch_cubes(volume, tmp_path, cubes=["str-A"], host=boss.host)
    assert len(boss.asked) == len(set(boss.asked)) + 1


@pytest.mark.parametrize("fault", ["half cutout", "short", "half body", "500"])
def test_a_server_that_never_answers_in_full_ends_in_one_error(boss, volume, tmp_path, fault):
    boss.faults = [fault] * 50
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"cannot get this from BossDB.*lab/scan/image z 10:31"):
        fetch_cubes(volume, out, cubes=["str-A"], host=boss.host)
    assert len(boss.asked) == download.TRIES and not out.exists()


def test_whole_chunks_outlast_a_server_that_fails_and_no_half_ones(boss, volume, tmp_path):
    boss.faults = [None, *["half cutout"] * 50]
    with pytest.raises(DataError, match="instead of"):
        fetch_cubes(volume, tmp_path, cubes=["ctx-A"], host=boss.host)
    assert not (tmp_path / "ctx-A").exists()
    boss.faults, first = [], set(boss.asked[:1])
    boss.asked.clear()
    fetch_cubes(volume, tmp_path, cubes=["ctx-A"], host=boss.host)
    assert not first & set(boss.asked)
    image = open_cubes(volume, tmp_path, ["ctx-A"])["ctx-A"]().image
    assert (image.numpy() == boss.cutout("lab/scan/image", (10, 40, 20, 52, 4, 36))).all()


def test_an_unreachable_server_is_one_clear_error(volume, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"cannot get this from BossDB.*4 tries.*the same command"):
        fetch_cubes(volume, out, host="http://127.0.0.1:9")
    assert not out.exists()
    out.mkdir()
    with pytest.raises(DataError):
        fetch_cubes(volume, out, host="http://127.0.0.1:9")
    assert not files(out)


def test_what_the_server_refuses_is_not_asked_for_twice(boss, volume, tmp_path):
    boss.faults = ["404"] * 9
    with pytest.raises(DataError, match=r"BossDB refuses this.*HTTP 404.*token"):
        fetch_cubes(volume, tmp_path, host=boss.host)
    assert len(boss.asked) == 1
    other = read_boss_volume(TREE | {"image": "bossdb://lab/scan/none"})
    with pytest.raises(DataError, match=r"refuses this.*lab/scan/none"):
        fetch_cubes(other, tmp_path, host=boss.host)
    boss.project_faults = ["other"]
    with pytest.raises(DataError, match="does not answer as BossDB does"):
        fetch_cubes(volume, tmp_path, host=boss.host)
    boss.project_faults = ["page"] * 9
    with pytest.raises(DataError, match="cannot get this"):
        fetch_cubes(volume, tmp_path, host=boss.host)
    boss.faults, boss.project_faults = [], ["500", None, "500"]
    assert fetch_cubes(volume, tmp_path, host=boss.host)["fetched"] == 5


def test_a_killed_fetch_goes_on_where_it_was(boss, tmp_path):
    """SIGKILL in mid-work; what was there whole is not asked for again."""
    boss.pause_s = 0.05
    code = (
        "import sys, json\n"
        "from brodmann.datasets import bossdb_fetch\n"
        "from brodmann.datasets.bossdb_volume import read_boss_volume\n"
        "bossdb_fetch.CHUNK_VOXELS = 2 * 32 * 32\n"
        "bossdb_fetch.fetch_cubes(read_boss_volume(sys.argv[1]), sys.argv[2], host=sys.argv[3])\n"
    )
    described = tmp_path / "little.yaml"
    described.write_text(json.dumps(TREE))
    command = [sys.executable, "-c", code, str(described), str(tmp_path / "out"), boss.host]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while len(boss.asked) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = list(boss.asked)
    assert len(before) >= 20 and len(before) < 60
    # 15 requests are the image, so that the second array was under way.
    assert files(tmp_path / "out")[0].startswith(".fetch")
    boss.pause_s = 0
    subprocess.run(command, check=True, timeout=60)
    twice = [one for one in set(boss.asked) if boss.asked.count(one) > 1]
    # What was being written when the signal came may be asked for once more.
    assert len(twice) <= 1
    volume = read_boss_volume(described)
    for name, opener in open_cubes(volume, tmp_path / "out").items():
        told = TREE["cubes"][name]
        box = (*told["z"], *told["y"], *told["x"])
        assert (opener().image.numpy() == boss.cutout("lab/scan/image", box)).all()
    assert fetch_cubes(volume, tmp_path / "out", host="http://127.0.0.1:9")["checked"] == 5


def test_work_stopped_between_record_and_move_is_settled(boss, volume, tmp_path):
    fetch_cubes(volume, tmp_path, cubes=["str-A"], host=boss.host)
    (tmp_path / ".fetch").mkdir()
    (tmp_path / "str-A" / "image.zarr").rename(tmp_path / ".fetch" / "str-A-image.zarr")
    result = fetch_cubes(volume, tmp_path, cubes=["str-A"], host="http://127.0.0.1:9")
    assert result["checked"] == 2 and (tmp_path / "str-A" / "image.zarr").exists()


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x40
    path.write_bytes(bytes(data))


def test_damage_is_found(boss, volume, tmp_path):
    fetch_cubes(volume, tmp_path, host=boss.host)
    chunk = tmp_path / "ctx-A" / "image.zarr" / "0" / "c" / "1" / "0" / "0"
    damage(chunk)
    with pytest.raises(DataError, match="chunk is damaged"):
        fetch_cubes(volume, tmp_path, host=boss.host)
    with pytest.raises(DataError, match="damaged"):
        open_cubes(volume, tmp_path)["ctx-A"]().image.read((slice(8, 16),) + (slice(None),) * 2)
    chunk.unlink()
    for act in (fetch_cubes, open_cubes):
        with pytest.raises(DataError, match="chunk of a fetched cube is missing"):
            act(volume, tmp_path)
    # Sound chunks of other voxels: only the checksum tells.
    image = read_volume(tmp_path / "str-A" / "image.zarr")
    record = json.loads((tmp_path / "fetched.json").read_text())
    other = image.numpy().copy()
    other[0, 0, 0] ^= 1
    write_volume(tmp_path / "str-A" / "image.zarr", image.like(other))
    with pytest.raises(DataError, match=r"not as it was fetched.*str-A.*SHA-256"):
        fetch_cubes(volume, tmp_path, cubes=["str-A"], host=boss.host)
    assert record["arrays"]["str-A/image"]["channel"] == "bossdb://lab/scan/image"


def test_what_was_not_fetched_or_is_another_is_refused(boss, volume, tmp_path):
    with pytest.raises(DataError, match="not fetched"):
        open_cubes(volume, tmp_path)
    fetch_cubes(volume, tmp_path, cubes=["str-A"], host=boss.host)
    with pytest.raises(DataError, match=r"not fetched.*ctx-A"):
        open_cubes(volume, tmp_path)
    tree = TREE | {"cubes": {"str-A": TREE["cubes"]["str-A"] | {"x": [61, 85]}}}
    with pytest.raises(OutputError, match=r"another cut-out.*x \[60, 84\] instead of \[61, 85\]"):
        fetch_cubes(read_boss_volume(tree), tmp_path, host=boss.host)
    with pytest.raises(OutputError, match="another volume"):
        fetch_cubes(read_boss_volume(TREE | {"name": "other"}), tmp_path, host=boss.host)
    (tmp_path / "ctx-A" / "image.zarr").mkdir(parents=True)
    with pytest.raises(OutputError, match="no record tells of"):
        fetch_cubes(volume, tmp_path, host=boss.host)
    (tmp_path / "fetched.json").write_text('{"name": "little", "arrays": []}')
    with pytest.raises(DataError, match="not as it was written"):
        fetch_cubes(volume, tmp_path, host=boss.host)


def test_a_cube_past_the_edge_is_refused_before_anything_is_fetched(boss, volume, tmp_path):
    boss.extent = (39, 80, 100)
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"past the edge.*ctx-A.*z 10:40.*volume is z 0:39"):
        fetch_cubes(volume, out, host=boss.host)
    assert not boss.asked and not out.exists()
    with pytest.raises(RecipeError, match=r"cube ctx-A lies past the edge"):
        read_boss_volume(TREE | {"extent": [39, 80, 100]})
    assert read_boss_volume(TREE | {"extent": [40, 80, 100]}).extent == (40, 80, 100)


def test_ids_outside_the_vocabulary_are_refused(boss, volume, tmp_path):
    boss.channels["lab/ids/pixels"] = (
        "uint64",
        lambda z, y, x: np.where((z == 17) & (y == 30) & (x == 9), 1 << 40, 2),
    )
    with pytest.raises(DataError, match=r"outside the vocabulary \(ctx-A/micro.*1099511627776"):
        fetch_cubes(volume, tmp_path, cubes=["ctx-A"], host=boss.host)
    assert not (tmp_path / "ctx-A" / "microstructure.zarr").exists()


def test_a_cut_out_of_nothing_is_refused(boss, volume, tmp_path):
    boss.channels["lab/scan/image"] = ("uint8", lambda z, y, x: 0 * (z + y + x))
    with pytest.raises(DataError, match="one value only"):
        fetch_cubes(volume, tmp_path, host=boss.host)
    assert not (tmp_path / "ctx-A").exists()


def test_another_spacing_is_said_and_a_coarse_level_measured(boss, tmp_path):
    boss.voxel_size, boss.voxel_unit = (1000, 1000, 1000), "nanometers"
    notes = fetch_cubes(read_boss_volume(TREE), tmp_path / "a", host=boss.host)["notes"]
    assert len(notes) == 3 and "1 x 1 x 1 um" in notes[0] and "1.17 x 1.17 x 1.17" in notes[0]
    client = Boss(boss.host)
    coarse = client.channel("bossdb://lab/scan/image", 1)
    assert coarse.extent == ((0, 60), (0, 40), (0, 50)) and coarse.spacing == (1.0, 2.0, 2.0)
    boss.hierarchy = "isotropic"
    coarse = Boss(boss.host).channel("bossdb://lab/scan/image", 1)
    assert coarse.extent == ((0, 30), (0, 40), (0, 50)) and coarse.spacing == (2.0, 2.0, 2.0)


def test_a_volume_of_16_bits_and_its_token(boss, tmp_path, monkeypatch):
    boss.channels["lab/scan/image"] = ("uint16", lambda z, y, x: hashed(z, y, x) % 65521)
    monkeypatch.setenv("INTERN_TOKEN", "of-the-environment")
    volume = read_boss_volume(
        {k: v for k, v in TREE.items() if k not in ("regions", "microstructure")}
        | {"cubes": {"a": {"region": "X", "z": [0, 3], "y": [0, 7], "x": [0, 9]}}}
    )
    fetch_cubes(volume, tmp_path, host=boss.host)
    image = open_cubes(volume, tmp_path)["a"]().image
    assert image.dtype == np.uint16
    assert (image.numpy() == boss.cutout("lab/scan/image", (0, 3, 0, 7, 0, 9))).all()
    assert boss.tokens == {"Token of-the-environment"}
    assert "of-the-environment" not in (tmp_path / "fetched.json").read_text()


def test_counts_of_every_slice(boss, volume, tmp_path):
    fetch_cubes(volume, tmp_path, host=boss.host)
    counts = counts_of(volume, tmp_path, "ctx-A", "microstructure")
    truth = boss.cutout("lab/ids/pixels", (10, 40, 20, 52, 4, 36))
    assert (counts == [np.bincount(plane.ravel(), minlength=3) for plane in truth]).all()


def test_a_dataset_of_any_volume_without_code(boss, volume, tmp_path):
    described = tmp_path / "little.yaml"
    described.write_text(json.dumps(TREE))
    root = tmp_path / "data"
    fetch_cubes(read_boss_volume(described), root, host=boss.host)
    parts = {
        "train": [{"cube": "ctx-A", "z": [10, 20]}, {"cube": "str-A", "z": [10, 20]}],
        "test": [{"cube": "ctx-A", "z": [30, 40]}],
    }
    data = bossdb(root, described, parts, downsample=2)
    assert len(data.split("train")) == 20 and data["str-A-z0013"].category == "STR"
    assert data.licence == "CC0" and data["str-A-z0013"].image.spacing == (2.34, 2.34)
    parts = {"train": [{"cube": "ctx-A", "z": [10, 20]}]}
    data = bossdb(root, described, parts, "labels")
    truth = boss.cutout("lab/ids/pixels", (12, 13, 20, 52, 4, 36))[0]
    assert (data["ctx-A-z0012"].labels.numpy() == truth).all()
    assert data.label_map.class_names == ["background", "vessel", "cell"]
    data = bossdb(root, described, parts, "labels", mapping={2: 0})
    assert (data["ctx-A-z0012"].labels.numpy() == np.where(truth == 2, 0, truth)).all()
    assert data.label_map.class_names == ["background", "vessel"]
    found = bossdb(root, described, parts, "attributes")["ctx-A-z0012"].attributes
    assert found["vessel_density"] == pytest.approx(np.mean(truth == 1))
    for z, cube, words in (([9, 20], "ctx-A", "past the end"), ([10, 12], "ctx", "mean 'ctx-A'")):
        with pytest.raises(RecipeError, match=words):
            bossdb(root, described, {"train": [{"cube": cube, "z": z}]})
    with pytest.raises(RecipeError, match="need an annotation"):
        bossdb(root, TREE | {"microstructure": None, "cubes": {"ctx-A": TREE["cubes"]["ctx-A"]}},
               parts, "labels")  # fmt: skip


def test_descriptions_name_what_is_wrong(tmp_path):
    for change, words in (
        ({"image": "s3://a/b/c"}, "image"),
        ({"image": "bossdb://a/b"}, "bossdb://COLLECTION/EXPERIMENT/CHANNEL"),
        ({"spacing_um": [0, 1, 1]}, "spacing_um"),
        ({"pixels": 1}, "pixels"),
        ({"cubes": {}}, "needs a cube"),
        ({"cubes": {"a/b": TREE["cubes"]["ctx-A"]}}, "cubes"),
        ({"cubes": {"a": TREE["cubes"]["ctx-A"] | {"z": [9, 9]}}}, "at least one voxel"),
        ({"cubes": {"a": TREE["cubes"]["ctx-A"] | {"annotations": ["axons"]}}}, "not there: axons"),
        ({"name": "../up"}, "name"),
    ):
        with pytest.raises(RecipeError, match=words):
            read_boss_volume(TREE | change)
    (tmp_path / "a.yaml").write_text("name: [")
    for file in ("a.yaml", "none.yaml"):
        with pytest.raises(RecipeError, match="cannot read the description"):
            read_boss_volume(tmp_path / file)
    with pytest.raises(RecipeError, match="no such cube"):
        fetch_cubes(read_boss_volume(TREE), tmp_path / "x", cubes=["ctx-Z"])
    for host in ("api.bossdb.io", "ftp://a", "https://a/b"):
        with pytest.raises(RecipeError, match="no address"):
            Boss(host)
    with pytest.raises(RecipeError):
        split_uri("bossdb://a//c")


def test_without_intern_the_error_names_the_extra(boss, volume, tmp_path, monkeypatch):
    fetch_cubes(volume, tmp_path / "data", cubes=["str-A"], host=boss.host)
    real = builtins.__import__

    def absent(name, *rest, **more):
        if name.split(".")[0] == "intern":
            raise ModuleNotFoundError("No module named 'intern'", name="intern")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(RecipeError, match=r'found intern; pip install "brodmann\[bossdb\]"'):
        fetch_cubes(volume, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    # What is there is read, and checked, without it.
    assert open_cubes(volume, tmp_path / "data", ["str-A"])["str-A"]().image.shape == (30, 16, 24)
    assert fetch_cubes(volume, tmp_path / "data", cubes=["str-A"])["checked"] == 2


def test_the_description_in_the_documentation_can_be_read():
    text = (Path(__file__).parents[2] / "docs" / "mtneuro.md").read_text(encoding="utf-8")
    (described,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    volume = read_boss_volume(yaml.safe_load(described))
    assert volume.kinds("one") == ("image", "regions", "microstructure")
    assert volume.kinds("two") == ("image", "regions")
    assert volume.microstructure.label_map.class_names == ["background", "vessel", "cell"]


def test_a_fetched_cube_goes_to_itk_snap_and_back(boss, volume, tmp_path):
    fetch_cubes(volume, tmp_path / "data", cubes=["ctx-A"], host=boss.host)
    cube, known = (
        open_cubes(volume, tmp_path / "data", ["ctx-A"])["ctx-A"](),
        volume.microstructure.label_map,
    )
    export_cube(cube, tmp_path / "snap", known)
    back = import_cube(tmp_path / "snap", known)
    assert back.origin == cube.origin and back.image.spacing == (1.17, 1.17, 1.17)
    assert (back.image.numpy() == cube.image.numpy()).all()
    assert (back.microstructure.numpy() == cube.microstructure.numpy()).all()
