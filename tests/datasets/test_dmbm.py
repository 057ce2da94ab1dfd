"""DMBM from small made-up trees of every layout it may have, and what is said where it has none.

One file, because every test begins with the same made-up trees.
"""

import csv
import io
import json
import pickle
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tifffile

from brodmann.core import BACKGROUND, BrodmannError, DataError, Dataset, RecipeError, Sample, Volume
from brodmann.datasets import download as downloading
from brodmann.datasets.channels import Planes
from brodmann.datasets.convert import write_nnunet
from brodmann.datasets.dmbm import EXCLUDED, PRIMARY, dmbm
from brodmann.datasets.fetch import fetch
from brodmann.datasets.folder import write_folder
from brodmann.datasets.hierarchy import read_hierarchy
from brodmann.datasets.leaks import leaks
from brodmann.datasets.registry import DATASETS
from brodmann.io.raw import LazyArray
from brodmann.metrics.overlap import overlap

SHAPE, UM = (48, 64), (5.0, 5.0)
REGIONS = (("AOB", "OLF"), ("MOB", "OLF"), ("RSPv6b", "Isocortex"), ("VPM", "TH"), ("SN", "MB"))
NAMES = [f"s{i:02d}" for i in range(6)]
SIDES = {"train": NAMES[:4], "test": NAMES[4:]}


def pixels(name):
    rng = np.random.default_rng(int(name[1:]))
    return rng.integers(1, 9999, (2, *SHAPE)).astype(np.uint16)


def ids(name):
    return np.random.default_rng(100 + int(name[1:])).integers(0, 6, SHAPE).astype(np.uint8)


def tiff(file, array, axes):
    file.parent.mkdir(parents=True, exist_ok=True)
    resolution = (10_000 / UM[1], 10_000 / UM[0])
    photo = "rgb" if axes == "YXS" else "minisblack"
    tifffile.imwrite(
        file,
        array,
        resolution=resolution,
        resolutionunit="CENTIMETER",
        photometric=photo,
        planarconfig="contig" if axes == "YXS" else None,
        metadata={"axes": axes},
    )


def table(file, rows):
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)


def regions(folder):
    rows = [(i, acronym, parent) for i, (acronym, parent) in enumerate(REGIONS, start=1)]
    table(folder / "regions.csv", [("ID", "Acronym", "Primary region"), *rows])


def label_files(folder, names=NAMES, end=""):
    for name in names:
        tiff(folder / f"{name}{end}.tif", ids(name), "YX")


def one_file(root):
    for name in NAMES:
        tiff(root / "images" / f"{name}.tif", pixels(name), "CYX")
    label_files(root / "labels")


def unnamed_axis(root):
    for name in NAMES:
        tiff(root / "images" / f"{name}.tif", pixels(name), "QYX")
    label_files(root / "masks", end="_mask")


def rgb(root):
    for name in NAMES:
        picture = np.concatenate([pixels(name), np.zeros((1, *SHAPE), np.uint16)])
        tiff(root / "images" / f"{name}.tif", np.moveaxis(picture, 0, -1), "YXS")
    label_files(root / "labels")


def file_names(root):
    for name in NAMES:
        for channel, plane in zip(("SAP102", "PSD95"), pixels(name)):
            tiff(root / "images" / f"{name}_{channel}.tif", plane, "YX")
    label_files(root / "annotations")


def channel_folders(root):
    for name in NAMES:
        for channel, plane in zip(("SAP102mKO2", "PSD95eGFP"), pixels(name)):
            tiff(root / channel / f"{name}.tif", plane, "YX")
    label_files(root / "labels")


def channel_folders_in_images(root):
    for name in NAMES:
        for channel, plane in zip(("SAP102", "PSD95"), pixels(name)):
            tiff(root / "images" / channel / f"{name}_{channel}.tif", plane, "YX")
    label_files(root / "labels")


def two_sides(root):
    for side, names in SIDES.items():
        for name in names:
            tiff(root / side / "images" / f"{name}.tif", pixels(name), "CYX")
        label_files(root / side / "labels", names)


def below(root):
    one_file(root / "DMBM" / "data")


def nnunet(root, channels=("SAP102", "PSD95")):
    for side, names in zip(("Tr", "Ts"), SIDES.values()):
        for name in names:
            planes = dict(zip(("SAP102", "PSD95"), pixels(name)))
            for i, channel in enumerate(channels):
                tiff(root / f"images{side}" / f"{name}_{i:04d}.tif", planes[channel], "YX")
        label_files(root / f"labels{side}", names)
    labels = {"background": 0} | {acronym: i for i, (acronym, _) in enumerate(REGIONS, start=1)}
    info = {"channel_names": dict(enumerate(channels)), "labels": labels, "file_ending": ".tif"}
    (root / "dataset.json").write_text(json.dumps(info))


def nnunet_swapped(root):
    nnunet(root, ("PSD95", "SAP102"))


PUBLISHED = (two_sides, nnunet, nnunet_swapped)
LAYOUTS = (
    one_file,
    unnamed_axis,
    rgb,
    file_names,
    channel_folders,
    channel_folders_in_images,
    below,
    *PUBLISHED,
)


def made(root, layout):
    root.mkdir(exist_ok=True)
    layout(root)
    regions(root)
    return root


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
    def test_pixels_labels_tree_and_split(self, tmp_path, layout):
        data = dmbm(made(tmp_path / "set", layout))
        assert data.names == NAMES
        for name in NAMES:
            sample = data[name]
            assert (sample.image.axes, sample.image.spacing) == ("cyx", UM)
            assert sample.image.channels == ("SAP102", "PSD95")
            assert np.array_equal(sample.image.numpy(), pixels(name))
            assert np.array_equal(sample.labels.numpy(), ids(name))
            window = (slice(3, 9), slice(10, 30))
            assert np.array_equal(sample.image.read(window), pixels(name)[:, 3:9, 10:30])
        tree = data.label_map
        assert tree.class_names[1:] == [acronym for acronym, _ in REGIONS]
        primary = {tree[i].acronym: tree[tree.primary(i)].acronym for i in tree.classes}
        assert primary == dict(REGIONS)
        assert len(tree.children(None)) == 11
        if layout in PUBLISHED:
            assert data.splits == SIDES
            assert "came with the data" in data.description
        else:
            assert len(data.splits["test"]) == 1 and "drawn here" in data.description
        assert not [f for f in leaks(data) if f.severity == "error"]

    @pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
    def test_one_channel_alone(self, tmp_path, layout):
        sample = dmbm(made(tmp_path / "set", layout), channels=["PSD95"])["s01"]
        assert sample.image.channels == ("PSD95",)
        assert np.array_equal(sample.image.numpy(), pixels("s01")[1:])

    def test_our_own_folder(self, tmp_path):
        plain = dmbm(made(tmp_path / "set", two_sides))
        ours = dmbm(write_folder(plain, tmp_path / "ours"), channels=["PSD95"])
        assert (ours.names, ours.splits, ours.label_map) == (NAMES, SIDES, plain.label_map)
        assert np.array_equal(ours["s02"].image.numpy(), pixels("s02")[1:])
        assert "read as folder" in ours.description
        with pytest.raises(RecipeError, match="states its own"):
            dmbm(tmp_path / "ours", spacing=[1, 1])

    def test_what_is_written_as_nnunet_comes_back(self, tmp_path):
        plain = dmbm(made(tmp_path / "set", two_sides))
        back = dmbm(write_nnunet(plain, tmp_path / "nn"))
        assert back.splits == SIDES
        assert back.label_map.class_names == plain.label_map.class_names
        assert np.array_equal(back["s05"].labels.numpy(), ids("s05"))

    def test_by_name(self, tmp_path):
        assert DATASETS["dmbm"] is dmbm

    def test_nothing_is_read_on_opening_and_a_window_reads_itself_only(self, tmp_path, monkeypatch):
        data = dmbm(made(tmp_path / "set", file_names))
        read, plain = [], LazyArray._read
        monkeypatch.setattr(LazyArray, "_read", lambda s, w: read.append(w) or plain(s, w))
        sample = pickle.loads(pickle.dumps(data))["s03"]
        assert read == []
        sample.image.read((slice(0, 8), slice(8, 16)))
        sample.labels.read((slice(0, 8), slice(8, 16)))
        assert read == [(slice(0, 8), slice(8, 16))] * 3

    def test_damaged_images_are_met_only_when_read(self, tmp_path):
        root = made(tmp_path / "set", one_file)
        (root / "images" / "s00.tif").write_bytes(b"II*\0")
        data = dmbm(root)
        assert data["s01"].labels is not None
        with pytest.raises(DataError, match=r"s00\.tif"):
            data["s00"].image.numpy()

    def test_scores_leave_out_what_is_excluded(self, tmp_path):
        tree = dmbm(made(tmp_path / "set", one_file)).label_map
        table = 9 * np.eye(tree.num_classes, dtype=int)
        for acronym in EXCLUDED:
            i = tree.class_names.index(acronym)
            table[i, i], table[i, 0] = 0, 9  # never predicted
        assert overlap(table, tree, exclude=EXCLUDED).mean["mean_recall"] == 1.0
        assert overlap(table, tree).mean["mean_recall"] == pytest.approx(3 / 5)


class TestSubjectsAndSplits:
    def test_mice_of_a_table_stay_together(self, tmp_path):
        root = made(tmp_path / "set", one_file)
        mice = {name: f"m{i // 3}" for i, name in enumerate(NAMES)}
        table(root / "mice.csv", [("image", "mouse"), *((f"{n}.tif", m) for n, m in mice.items())])
        data = dmbm(root)
        assert data.subjects == mice and "2 mice" in data.description
        sides = [{mice[n] for n in data.splits[side]} for side in ("train", "test")]
        assert not sides[0] & sides[1]

    def test_102_sections_of_96_mice_give_80_and_22(self, tmp_path):
        root = tmp_path / "set"
        for part in ("images", "labels"):
            (root / part).mkdir(parents=True)
            for i in range(102):
                (root / part / f"{i:03d}.tif").touch()
        regions(root)
        rows = [(f"{i:03d}", f"mouse{min(i, 95) if i < 96 else i - 96}") for i in range(102)]
        table(root / "mice.csv", [("id", "Mouse ID"), *rows])
        data = dmbm(root)
        assert "96 mice" in data.description
        assert [len(data.splits[side]) for side in ("train", "test")] == [80, 22]
        mice = [{data.subjects[n] for n in data.splits[side]} for side in ("train", "test")]
        assert not mice[0] & mice[1]
        assert dmbm(root).splits == data.splits != dmbm(root, seed=1).splits

    def test_without_a_table_it_is_said(self, tmp_path):
        assert "each section its own" in dmbm(made(tmp_path / "set", one_file)).description

    @pytest.mark.parametrize("kind", ["csv", "json"])
    def test_a_published_split_is_kept(self, tmp_path, kind):
        root = made(tmp_path / "set", one_file)
        if kind == "csv":
            rows = [(n, "val" if n == "s00" else side) for side in SIDES for n in SIDES[side]]
            table(root / "sections.csv", [("image", "split"), *rows])
        else:
            (root / "split.json").write_text(json.dumps(SIDES))
            (root / "splits_final.json").write_text('[{"train": ["s00"], "val": ["s01"]}]')
        assert dmbm(root).splits == SIDES

    def test_images_without_labels(self, tmp_path):
        root = made(tmp_path / "set", nnunet)
        for name in SIDES["test"]:
            (root / "labelsTs" / f"{name}.tif").unlink()
        data = dmbm(root)
        assert data.splits["unlabelled"] == SIDES["test"]
        assert set(data.splits["train"]) | set(data.splits["test"]) == set(SIDES["train"])
        assert "drawn here" in data.description and data["s05"].labels is None

    def test_tables_that_do_not_fit(self, tmp_path):
        root = made(tmp_path / "set", one_file)
        table(root / "mice.csv", [("image", "mouse"), ("s00", "m")])
        with pytest.raises(DataError, match="images without mouse"):
            dmbm(root)
        table(
            root / "mice.csv",
            [("image", "split"), *((n, "train" if n < "s05" else "x") for n in NAMES)],
        )
        with pytest.raises(DataError, match="no side of the split"):
            dmbm(root)


class TestFaults:
    def said(self, *args, **options):
        with pytest.raises(BrodmannError) as error:
            dmbm(*args, **options)
        assert "\n" not in str(error.value)
        return str(error.value)

    def test_no_folder_and_no_layout(self, tmp_path):
        assert "brodmann data get dmbm" in self.said(tmp_path / "nowhere")
        (tmp_path / "readme.txt").touch()
        said = self.said(tmp_path)
        for word in ("readme.txt", "imagesTr/", "dataset.yaml", "SAP102/"):
            assert word in said

    def test_two_sets(self, tmp_path):
        made(tmp_path / "a", one_file)
        made(tmp_path / "b", one_file)
        assert "a, b" in self.said(tmp_path)

    def test_no_tree_says_the_columns(self, tmp_path):
        root = made(tmp_path / "set", one_file)
        (root / "regions.csv").rename(root / "regions.txt")
        said = self.said(root)
        assert "id, acronym (or name), parent" in said and "data.regions" in said
        table(root / "ids.csv", [("id", "acronym"), (1, "AOB")])
        assert "Acronym" not in said and "columns are missing" in self.said(
            root, regions=root / "ids.csv"
        )

    def test_two_trees(self, tmp_path):
        root = made(tmp_path / "set", one_file)
        regions(root / "images")
        (root / "images" / "regions.csv").rename(root / "more.csv")
        assert "more.csv, regions.csv" in self.said(root)
        assert len(dmbm(root, regions=root / "more.csv")) == 6

    def test_a_channel_is_missing(self, tmp_path):
        root = made(tmp_path / "set", file_names)
        (root / "images" / "s03_PSD95.tif").unlink()
        assert "add the file of PSD95" in self.said(root)

    def test_a_grey_image(self, tmp_path):
        root = made(tmp_path / "set", one_file)
        tiff(root / "images" / "s00.tif", pixels("s00")[0], "YX")
        with pytest.raises(DataError, match=r"axes 'cyx'.*s00"):
            dmbm(root)["s00"]

    def test_no_spacing(self, tmp_path):
        root = made(tmp_path / "set", one_file)
        tifffile.imwrite(root / "images" / "s00.tif", pixels("s00"), photometric="minisblack")
        with pytest.raises(DataError, match="spacing"):
            dmbm(root)["s00"]
        assert dmbm(root, spacing=[1.3, 1.3])["s00"].image.spacing == (1.3, 1.3)

    def test_unknown_channels(self, tmp_path):
        for channels in ([], ["GFP"], ["PSD95", "PSD95"]):
            assert "SAP102, PSD95 or both" in self.said(tmp_path, channels=channels)

    def test_own_folder_without_primary_regions(self, tmp_path):
        def load(name):
            image = Volume(pixels(name), "cyx", UM)
            return Sample(name, image, image.like(ids(name)))

        folder = write_folder(Dataset("d", NAMES, load), tmp_path / "ours")
        assert "add labels.csv" in self.said(folder)
        table(folder / "labels.csv", [("id", "name"), *((i, f"r{i}") for i in range(1, 6))])
        assert "under no primary region" in self.said(folder)

    def test_nnunet_labels_that_the_tree_lacks(self, tmp_path):
        root = made(tmp_path / "set", nnunet)
        table(root / "regions.csv", [("acronym", "parent"), *REGIONS[1:]])
        assert "regions that the table does not have" in self.said(root)


class TestHierarchy:
    def read(self, tmp_path, rows, values=None):
        if isinstance(rows, str):
            file = tmp_path / "t.csv"
            file.write_text(rows)
        else:
            file = tmp_path / "t.json"
            file.write_text(json.dumps(rows))
        return read_hierarchy(file, PRIMARY, values)

    def told(self, tree):
        return {tree[i].acronym: (i, tree[tree.primary(i)].acronym) for i in tree.classes}

    EXPECTED = {"AOB": (1, "OLF"), "VPM": (2, "TH")}  # noqa: RUF012

    @pytest.mark.parametrize(
        "rows",
        [
            "id,acronym,parent\n1,AOB,OLF\n2,VPM,th\n",
            "Label,Name,Primary Region,Colour\n0,background,,\n1,AOB,Olfactory areas,#00ff00\n2,VPM,Thalamus,\n",
            "id,acronym,parent\n1,AOB,MOB\n9,MOB,OLF\n2,VPM,8\n8,VP,TH\n",
            "id,acronym,parent\n698,OLF,695\n695,CTXpl,\n549,TH,\n1,AOB,698\n2,VPM,549\n",
            "id,name,acronym,parent,color,class\n1,a,AOB,5,AABBCC,1\n5,Olfactory areas,OLF,,,0\n2,v,VPM,6,,1\n6,Thalamus,TH,,,0\n",
            {"OLF": {"AOB": 1}, "TH": {"VPM": 2}},
            [
                {"id": 1, "acronym": "AOB", "parent": "OLF"},
                {"id": 2, "acronym": "VPM", "parent": "TH"},
            ],
            {"1": {"acronym": "AOB", "primary": "OLF"}, "2": {"acronym": "VPM", "primary": "TH"}},
        ],
    )
    def test_every_form(self, tmp_path, rows):
        tree = self.read(tmp_path, rows)
        assert self.told(tree) == self.EXPECTED
        assert tree.ids_allowed == {BACKGROUND, 1, 2}
        assert [tree[i].acronym for i in tree.children(None)] == [p.acronym for p in PRIMARY]

    @pytest.mark.parametrize(
        "rows", [{"OLF": ["AOB", "x"], "TH": ["VPM"]}, {"AOB": "OLF", "VPM": "TH"}]
    )
    def test_ids_that_something_else_states(self, tmp_path, rows):
        values = {"background": 0, "AOB": 1, "VPM": 2, "ignore": 9}
        tree = self.read(tmp_path, rows, values)
        assert self.told(tree) == self.EXPECTED
        assert tree.ignore == 9

    def test_colours(self, tmp_path):
        tree = self.read(tmp_path, "id,acronym,parent,color\n1,A,TH,00ff00\n2,B,TH,\n3,C,TH,\n")
        assert tree[1].color == "00FF00"
        assert len({tree[2].color, tree[3].color, PRIMARY[6].color}) == 3

    def test_a_primary_region_that_is_drawn_as_one(self, tmp_path):
        tree = self.read(tmp_path, "id,acronym,parent\n1,AOB,OLF\n2,HB,\n3,CB,CB\n")
        assert self.told(tree) == {"AOB": (1, "OLF"), "HB": (2, "HB"), "CB": (3, "CB")}

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            ("id,acronym,parent\n1,AOB,OLFF\n", r"line 2.*'OLFF'.*did you mean 'OLF'"),
            ("id,acronym,parent\n1,AOB,\n", "under no primary region.*AOB"),
            ("id,acronym,parent\n1,AOB,X\n2,X,\n", "under no primary region.*AOB"),
            ("id,acronym,parent\n1,A,B\n2,B,A\n3,C,A\n", "ring"),
            ("id,acronym\n1,AOB\n", "columns are missing.*wanted"),
            ("acronym,parent\nAOB,OLF\n", "without an id"),
            ("id,acronym,parent\nx,AOB,OLF\n", "whole number"),
            ("id,acronym,parent\n1,AOB,OLF\n1,MOB,OLF\n", "used twice"),
            ("id,acronym,parent,color\n1,AOB,OLF,red\n", "hexadecimal"),
            ("", "columns are missing"),
            ({"a": 1}, "no table of regions"),
            ([1, 2], "no table of regions"),
        ],
    )
    def test_faults(self, tmp_path, rows, words):
        with pytest.raises(DataError, match=words) as error:
            self.read(tmp_path, rows)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[...],
        np.s_[0],
        np.s_[-1, 2],
        np.s_[:, 1:3, ::2],
        np.s_[1:, ..., 4],
        np.s_[..., 1, 2],
        np.s_[5:],
        np.s_[0, ...],
    ],
)
def test_planes_are_indexed_as_the_array_they_stand_for(key):
    whole = np.arange(2 * 5 * 7).reshape(2, 5, 7)
    planes = Planes([(whole[0], None), (whole, 1)])
    assert np.array_equal(planes[key], whole[key])
    assert np.array_equal(np.asarray(planes), whole)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def serving(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_what_is_fetched_is_opened(tmp_path, monkeypatch):
    root = made(tmp_path / "DMBM", nnunet)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
    site = tmp_path / "site"
    site.mkdir()
    (site / "DMBM.zip").write_bytes(buffer.getvalue())
    monkeypatch.setattr(downloading, "WAIT_S", 0.002)
    monkeypatch.setenv("no_proxy", "*")
    with serving(site) as url:
        assert fetch("dmbm", tmp_path / "out", url)["files"] == 20
    data = dmbm(tmp_path / "out")
    assert data.splits == SIDES and data.citation.startswith("Yuan")
    assert np.array_equal(data["s04"].image.numpy(), pixels("s04"))
