"""Points in and out, against parsers of our own, Neuroglancer's writer and cellfinder's rules."""

import json
import struct
import sys
from xml.dom import minidom
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.core import BrodmannError, DataError, OutputError, Points, RecipeError
from brodmann.io.points import read_points, write_points
from brodmann.io.points.annotations import spatial_levels, write_annotations
from brodmann.io.points.rows import spans

SPACING = (4.0, 1.8, 1.8)
SHAPE = (100, 200, 300)


def made(count, seed=0, **columns):
    rng = np.random.default_rng(seed)
    at = rng.random((count, 3)) * (np.array(SHAPE) - 1)
    table = pd.DataFrame(at, columns=list("zyx"))
    table["score"] = rng.random(count)
    table["region"] = rng.choice(["CTX", "NA", "", 'a "b", c'], count)
    table["marker"] = rng.choice(["NeuN", "cFos"], count)
    for name, values in columns.items():
        table[name] = values
    return Points(table)


def faults(path, text, **options):
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_points(path, **options)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


class TestCsv:
    @given(
        st.lists(
            st.tuples(*[st.floats(-1e9, 1e9)] * 3, st.text("ab,\"';é \n", max_size=5)),
            max_size=12,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_every_digit_and_letter_returns(self, tmp_path_factory, rows):
        path = tmp_path_factory.mktemp("csv") / "a.csv"
        table = pd.DataFrame(rows, columns=["z", "y", "x", "note"])
        table["note"] = table["note"].str.strip()
        write_points(Points(table), path)
        again = read_points(path)
        wanted = table[["z", "y", "x"]].to_numpy(dtype=float).reshape(-1, 3)
        assert np.array_equal(again.coordinates, wanted)
        assert again.table["note"].astype(str).tolist() == table["note"].astype(str).tolist()

    def test_known_columns_return_in_order(self, tmp_path):
        points = made(50, id=np.arange(50) * 3, label=np.arange(50) % 2, size=np.arange(50) / 7)
        path = write_points(points, tmp_path / "a.csv")
        first = path.read_text().splitlines()[0]
        assert first == "id,z,y,x,score,region,marker,label,size"
        again = read_points(path, spacing=SPACING, shape=SHAPE)
        for name in points.table.columns:
            assert again.table[name].tolist() == points.table[name].tolist(), name

    def test_any_order_case_and_separator(self, tmp_path):
        path = tmp_path / "a.csv"
        for text in (
            "\ufeffX,Score,Y,Z\n3,0.5,2,1\n",
            "# x; score; y; z\n3; 0.5; 2; 1\n",
            "x\tscore\ty\tz\r\n3\t0.5\t2\t1\r\n",
            ",x,score,y,z\n0,3,0.5,2,1\n\n\n",
            "x,score,y,z,\n3,0.5,2,1,\n",
        ):
            path.write_text(text, encoding="utf-8")
            points = read_points(path)
            assert points.coordinates.tolist() == [[1, 2, 3]]
            assert points.table["score"].tolist() == [0.5]

    def test_two_dimensions(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text("x,y\n3,2\n")
        assert read_points(path, shape=(10, 10)).axes == "yx"
        assert "2 axes" not in faults(path, "x,y\n3,2\n", shape=(5, 10, 10))
        assert "3 axes" in faults(path, "x,y\n3,2\n", shape=(5, 10, 10))

    def test_micrometres(self, tmp_path):
        points = made(30)
        path = write_points(points, tmp_path / "a.csv", unit="um", spacing=SPACING)
        assert path.read_text().startswith("z_um,y_um,x_um,score")
        again = read_points(path, unit="um", spacing=SPACING, shape=SHAPE)
        assert np.allclose(again.coordinates, points.coordinates, rtol=0, atol=1e-9)
        with pytest.raises(DataError, match=r"columns say um.*unit='voxel'.*unit='um'"):
            read_points(path, spacing=SPACING)

    def test_every_bad_line_is_named(self, tmp_path):
        message = faults(
            tmp_path / "a.csv",
            "z,y,x,score\n1,2,3,1\n\nnan,1,2,1\n1,inf,2,1\n1,abc,3,1\n100,1,1,1\n99.6,1,1,1\n"
            "1,,1,1\n1,1,1,high\n-0.6,1,1,1\n99.5,1,-0.5,1\n",
            shape=SHAPE,
        )
        for part in (
            "8 of 10 points",
            "line 4: z is NaN",
            "line 5: y is infinite",
            "line 6: y is no number",
            "line 9: y is empty",
            "line 10: score is no number",
            "lines 7-8, 11: outside the volume 100 x 200 x 300",
        ):
            assert part in message

    def test_lines_are_those_of_the_file(self, tmp_path):
        text = 'z,y,x,note\n1,2,3,"two\nlines"\n\n1,2,nan,\n1,2,3,"a ""b"" \n\n c"\ninf,2,3,e\n'
        message = faults(tmp_path / "a.csv", text)
        lines = text.split("\n")
        for what in ("1,2,nan,", "inf,2,3,e"):
            assert f"line {lines.index(what) + 1}:" in message

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "empty"),
            ("1,2,3\n4,5,6\n", "there is no header.*z,y,x"),
            ("a,b\n1,2\n", "header does not name"),
            ("z,y,x\n1,2,3,4\n", "rows are longer than the header"),
            ("z,y,x\n1,2,3\n1,2,3,4\n", "line 3, saw 4"),
            ("z,y,x\n1,2\n", "line 2: x is empty"),
            ("z,y,z,x\n1,2,3,4\n", "columns have one name"),
            ("z_um,y,x\n1,2,3\n", "some coordinates say um"),
            ("z,y,x\nTrue,1,2\n", "line 2: z is no number"),
            ("z,y,x\n1,2,1e400\n", "line 2: x is infinite"),
            ("z,y,x\n1\x00,2,3\n", "line 2|no text|damaged"),
        ],
    )
    def test_faults(self, tmp_path, text, message):
        with pytest.raises(DataError, match=message) as caught:
            (tmp_path / "a.csv").write_text(text)
            read_points(tmp_path / "a.csv")
        assert "\n" not in str(caught.value)

    def test_many_bad_lines_are_counted(self, tmp_path):
        rows = "".join("1,2,3\nnan,2,3\n" for _ in range(100))
        assert "and 80 more" in faults(tmp_path / "a.csv", "z,y,x\n" + rows)
        assert spans([9, 3, 4, 5, 1]) == "lines 1, 3-5, 9"

    def test_another_unit_or_order_is_guessed(self, tmp_path):
        voxels = made(200).coordinates
        path = tmp_path / "a.csv"

        def say(at, **options):
            table = pd.DataFrame(at, columns=list("zyx"))
            return faults(path, table.to_csv(index=False), shape=SHAPE, **options)

        assert "look like micrometres" in say(voxels * SPACING, spacing=SPACING)
        assert "look like voxels" in say(voxels, spacing=(0.5, 0.5, 0.5), unit="um")
        assert "exchanged" in say(voxels[:, ::-1])
        assert "mend these rows" in say(voxels * 100, spacing=SPACING)

    def test_whole_micrometres_are_doubted(self, tmp_path):
        path = tmp_path / "a.csv"
        pd.DataFrame(np.rint(made(40).coordinates), columns=list("zyx")).to_csv(path, index=False)
        with pytest.warns(UserWarning, match="voxels rather than micrometres"):
            read_points(path, unit="um", spacing=SPACING)

    @given(st.binary(max_size=300))
    @settings(max_examples=80, deadline=None)
    def test_garbage_is_refused_in_one_line(self, tmp_path_factory, data):
        folder = tmp_path_factory.mktemp("bad")
        for suffix in (".csv", ".xml", ".nml"):
            path = folder / f"a{suffix}"
            path.write_bytes(data)
            try:
                read_points(path)
            except BrodmannError as error:
                assert "\n" not in str(error)


class TestParquet:
    def test_round_trip(self, tmp_path):
        pytest.importorskip("pyarrow")
        points = made(40, id=np.arange(40))
        path = write_points(points, tmp_path / "a.parquet")
        again = read_points(path, shape=SHAPE)
        assert np.array_equal(again.coordinates, points.coordinates)
        assert again.table["region"].tolist() == points.table["region"].tolist()
        path = write_points(points, tmp_path / "b.parquet", unit="um", spacing=SPACING)
        again = read_points(path, unit="um", spacing=SPACING)
        assert np.allclose(again.coordinates, points.coordinates, atol=1e-9)
        bad = points.table.copy()
        bad.loc[3, "y"] = np.nan
        bad.to_parquet(path)
        with pytest.raises(DataError, match="row 4: y is NaN"):
            read_points(path)

    def test_without_a_package_it_says_which(self, tmp_path, monkeypatch):
        for name in ("pyarrow", "fastparquet"):
            monkeypatch.setitem(sys.modules, name, None)
        path = tmp_path / "a.parquet"
        with pytest.raises(OutputError, match="pip install pyarrow"):
            write_points(made(3), path)
        assert not list(tmp_path.iterdir())
        path.write_bytes(b"PAR1")
        with pytest.raises(DataError, match="pip install pyarrow"):
            read_points(path)


def cells_of(path):
    """Markers as brainglobe-utils reads them: (type, x, y, z), the fraction cut off."""
    root = ElementTree.parse(path).getroot()
    found = []
    for kind in root.find("Marker_Data").findall("Marker_Type"):
        for marker in kind.findall("Marker"):
            place = [int(float(marker.find(f"Marker{axis}").text)) for axis in "XYZ"]
            found.append((int(kind.find("Type").text), *place))
    return found


class TestCellfinder:
    def test_its_rules_read_what_is_written(self, tmp_path):
        points = made(60, type=np.arange(60) % 3)
        path = write_points(points, tmp_path / "cells.xml")
        whole = np.rint(points.coordinates).astype(int)
        wanted = [(k, *place[::-1]) for k, place in zip(points.table["type"], whole.tolist())]
        assert sorted(cells_of(path)) == sorted(wanted)
        assert "<CellCounter_Marker_File>" in [line.strip() for line in path.open()]
        again = read_points(path, shape=SHAPE)
        order = np.argsort(points.table["type"], kind="stable")
        assert np.array_equal(again.coordinates, whole[order])
        assert again.table["type"].tolist() == points.table["type"].iloc[order].tolist()

    def test_what_cellfinder_writes_is_read(self, tmp_path):
        # As brainglobe-utils makes it: elements, then minidom's pretty printing.
        root = ElementTree.Element("CellCounter_Marker_File")
        data = ElementTree.SubElement(root, "Marker_Data")
        ElementTree.SubElement(data, "Current_Type").text = "1"
        for kind, places in ((1, [(5, 6, 7)]), (2, [(1, 2, 3), (9, 8, 4)])):
            group = ElementTree.SubElement(data, "Marker_Type")
            ElementTree.SubElement(group, "Type").text = str(kind)
            for place in places:
                marker = ElementTree.SubElement(group, "Marker")
                for axis, value in zip("XYZ", place):
                    ElementTree.SubElement(marker, f"Marker{axis}").text = str(value)
        text = minidom.parseString(ElementTree.tostring(root)).toprettyxml(indent="  ")
        (tmp_path / "a.xml").write_text(text)
        points = read_points(tmp_path / "a.xml")
        assert points.coordinates.tolist() == [[7, 6, 5], [3, 2, 1], [4, 8, 9]]
        assert points.table["type"].tolist() == [1, 2, 2]

    def test_labels_become_types(self, tmp_path):
        path = write_points(made(3, label=[1, 0, 1]), tmp_path / "a.xml")
        assert sorted(kind for kind, *_ in cells_of(path)) == [1, 2, 2]
        assert [kind for kind, *_ in cells_of(write_points(made(2), path))] == [2, 2]
        assert len(read_points(write_points(made(0), path))) == 0

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({"y": [1], "x": [1]}, "three axes"),
            ({"z": [-1.0], "y": [1], "x": [1]}, "within a volume"),
            ({"z": [1], "y": [1], "x": [1], "type": ["soma"]}, "types are whole.*soma"),
            ({"z": [1], "y": [1], "x": [1], "label": [3]}, "labels are 1"),
        ],
    )
    def test_what_it_cannot_hold(self, tmp_path, table, message):
        with pytest.raises(OutputError, match=message) as caught:
            write_points(Points(pd.DataFrame(table)), tmp_path / "a.xml")
        assert caught.value.where == tmp_path / "a.xml"
        assert not list(tmp_path.iterdir())

    def test_faults_name_their_lines(self, tmp_path):
        path = write_points(made(5), tmp_path / "a.xml")
        lines = path.read_text().splitlines()
        starts = [i for i, line in enumerate(lines) if "<Marker>" in line]
        lines[starts[1] + 2] = "<MarkerY>NaN</MarkerY>"
        lines[starts[3] + 3] = "<MarkerZ></MarkerZ>"
        message = faults(path, "\n".join(lines))
        assert f"line {starts[1] + 1}: y is NaN" in message
        assert f"line {starts[3] + 1}: z is empty" in message
        whole = "\n".join(lines)
        assert "cut short" in faults(path, whole[: len(whole) // 2])
        assert "no Cell Counter file" in faults(path, "<svg/>")
        assert "whole number" in faults(path, whole.replace("<Type>2<", "<Type>two<"))
        assert "no type" in faults(path, whole.replace("<Type>2</Type>", ""))

    @pytest.mark.parametrize("suffix", [".xml", ".nml"])
    def test_entities_are_refused(self, tmp_path, suffix):
        secret = tmp_path / "secret"
        secret.write_text("7")
        for declared in (
            f'<!DOCTYPE a [<!ENTITY e SYSTEM "{secret}">]>',
            '<!DOCTYPE a [<!ENTITY e "7"><!ENTITY f "&e;&e;">]>',
        ):
            text = f"<?xml version='1.0'?>{declared}<CellCounter_Marker_File>&e;"
            message = faults(tmp_path / f"a{suffix}", text)
            assert "document type is not allowed" in message
        deep = "".join(f"<a{i}>" for i in range(100))
        root = {".xml": "CellCounter_Marker_File", ".nml": "things"}[suffix]
        assert "too deeply" in faults(tmp_path / f"a{suffix}", f"<{root}>{deep}")
        assert "too long" in faults(
            tmp_path / f"a{suffix}", f"<{root}><a>{'7' * 9999}</a></{root}>"
        )

    @pytest.mark.real
    def test_real_cells(self, real_data):
        path = real_data / "cells" / "stp" / "cell_classification.xml"
        points = read_points(path, shape=(30, 510, 667))
        assert len(points) == 56 == len(cells_of(path))
        assert [tuple(row) for row in points.coordinates[:, ::-1].astype(int)] == [
            place for _, *rest in cells_of(path) for place in [tuple(rest)]
        ]


class TestNml:
    def test_round_trip(self, tmp_path):
        points = made(60, label=np.arange(60) % 2, id=np.arange(60) + 7)
        path = write_points(points, tmp_path / "a.nml", spacing=SPACING)
        again = read_points(path, spacing=SPACING, shape=SHAPE)
        assert np.array_equal(again.coordinates, np.rint(points.coordinates))
        for name in ("score", "region", "marker", "label", "id"):
            assert again.table[name].tolist() == points.table[name].tolist(), name
        second = write_points(again, tmp_path / "b.nml", spacing=SPACING)
        assert read_points(second).table.equals(again.table)

    def test_its_rules_read_what_is_written(self, tmp_path):
        path = write_points(made(20), tmp_path / "a.nml", spacing=SPACING)
        root = ElementTree.parse(path).getroot()
        scale = root.find("parameters/scale")
        assert [float(scale.get(axis)) for axis in "zyx"] == [4000.0, 1800.0, 1800.0]
        assert root.find("parameters/experiment").get("name") == "a"
        ids = [int(node.get("id")) for node in root.iter("node")]
        assert sorted(ids) == list(range(1, 21))
        assert {tree.get("name") for tree in root.iter("thing")} == {"NeuN", "cFos"}
        assert all(float(node.get("x")).is_integer() for node in root.iter("node"))
        for tag in ("branchpoints", "comments", "groups"):
            assert root.find(tag) is not None

    def test_foreign_trees(self, tmp_path):
        path = tmp_path / "a.nml"
        path.write_text(
            '<things><parameters><scale x="11.24" y="11.24" z="25" /></parameters>'
            '<thing id="4" name="left"><nodes><node id="9" radius="1" x="3.5" y="2" z="1" />'
            '<node id="2" radius="1" x="30" y="20" z="10" /></nodes>'
            '<edges><edge source="9" target="2" /></edges></thing>'
            '<comments><comment node="9" content="a cell?" /></comments></things>'
        )
        points = read_points(path, spacing=(0.025, 0.01124, 0.01124))
        assert points.coordinates.tolist() == [[10, 20, 30], [1, 2, 3.5]]
        assert points.table["comment"].tolist() == ["", "a cell?"]
        assert points.table["tree"].tolist() == ["left", "left"]
        with pytest.raises(DataError, match=r"another spacing.*0\.025 x.*4 x 1\.8"):
            read_points(path, spacing=SPACING)
        again = read_points(write_points(points, tmp_path / "b.nml", spacing=SPACING))
        assert again.table["comment"].tolist() == ["", "a cell?"]

    def test_units_of_the_scale(self, tmp_path):
        path = tmp_path / "a.nml"
        text = '<things><parameters><scale x="2" y="2" z="5" unit="%s" /></parameters></things>'
        path.write_text(text % "micrometer")
        assert len(read_points(path, spacing=(5, 2, 2))) == 0
        assert "three positive lengths" in faults(path, text % "parsec")

    def test_faults_name_their_lines(self, tmp_path):
        path = write_points(made(3), tmp_path / "a.nml", spacing=SPACING)
        lines = path.read_text().splitlines()
        node = next(i for i, line in enumerate(lines) if "<node " in line)
        broken = [*lines]
        broken[node] = '<node id="1" x="inf" y="1" />'
        message = faults(path, "\n".join(broken))
        assert f"line {node + 1}: z is empty" in message
        assert f"line {node + 1}: x is infinite" in message
        broken = "\n".join(lines).replace('comment node="1"', 'comment node="99"')
        assert "not there" in faults(path, broken)

    def test_what_it_cannot_hold(self, tmp_path):
        with pytest.raises(OutputError, match="XML cannot hold"):
            write_points(made(1, marker=["a\x00"]), tmp_path / "a.nml", spacing=SPACING)
        with pytest.raises(RecipeError, match="needs the spacing"):
            write_points(made(1), tmp_path / "a.nml")
        assert not list(tmp_path.iterdir())


def decode(data, info, count, offset):
    """Annotations as the format's description words them."""
    sizes = {"float32": "<f", "int32": "<i", "uint32": "<I", "uint16": "<H", "uint8": "<B"}
    found = []
    for _ in range(count):
        start, one = offset, {}
        one["at"] = struct.unpack_from("<3f", data, offset)
        offset += 12
        for size in (4, 2, 1):
            for entry in info["properties"]:
                if struct.calcsize(sizes[entry["type"]]) == size:
                    (value,) = struct.unpack_from(sizes[entry["type"]], data, offset)
                    offset += size
                    one[entry["id"]] = (
                        entry["enum_labels"][entry["enum_values"].index(value)]
                        if "enum_values" in entry
                        else value
                    )
        while (offset - start) % 4:
            assert data[offset] == 0
            offset += 1
        found.append(one)
    return found, offset


def by_id(folder, info, id_):
    """One annotation from its file, or from the shards as their description says."""
    place = folder / info["by_id"]["key"]
    if "sharding" not in info["by_id"]:
        return (place / str(id_)).read_bytes()
    rules = info["by_id"]["sharding"]
    hashed = id_ >> rules["preshift_bits"]
    minishard = hashed & (2 ** rules["minishard_bits"] - 1)
    shard = (hashed >> rules["minishard_bits"]) & (2 ** rules["shard_bits"] - 1)
    digits = -(-rules["shard_bits"] // 4)
    data = (place / (format(shard, "x").zfill(digits) + ".shard")).read_bytes()
    base = 2 ** rules["minishard_bits"] * 16
    start, end = struct.unpack_from("<QQ", data, 16 * minishard)
    count = (end - start) // 24
    table = struct.unpack_from(f"<{3 * count}Q", data, base + start)
    key, at = 0, base
    for i in range(count):
        key += table[i]
        at += table[count + i]
        if key == id_:
            return data[at : at + table[2 * count + i]]
        at += table[2 * count + i]
    raise KeyError(id_)


class TestAnnotations:
    @pytest.mark.parametrize("sharded", [False, True])
    def test_both_indices_hold_every_point(self, tmp_path, sharded):
        count = 2500 if sharded else 400
        points = made(count, label=np.arange(count) % 2)
        folder = tmp_path / "cells.precomputed"
        write_annotations(folder, points, SPACING, shape=SHAPE, limit=60, sharded=sharded)
        info = json.loads((folder / "info").read_text())
        assert info["@type"] == "neuroglancer_annotations_v1"
        assert list(info["dimensions"]) == ["x", "y", "z"]
        assert info["dimensions"]["z"] == [4e-6, "m"]
        assert info["upper_bound"] == [300, 200, 100]
        wanted = points.coordinates[:, ::-1] + 0.5
        seen, before = {}, None
        for level in info["spatial"]:
            chunk, grid = np.array(level["chunk_size"]), np.array(level["grid_shape"])
            assert np.array_equal(chunk * grid, info["upper_bound"])
            assert before is None or set((before / chunk).tolist()) <= {1.0, 2.0}
            before = chunk
            for file in (folder / level["key"]).iterdir():
                cell, data = np.array(file.name.split("_"), int), file.read_bytes()
                (number,) = struct.unpack_from("<Q", data)
                assert 0 < number <= level["limit"] <= 60
                found, offset = decode(data, info, number, 8)
                ids = struct.unpack_from(f"<{number}Q", data, offset)
                assert offset + 8 * number == len(data)
                for id_, one in zip(ids, found):
                    assert id_ not in seen
                    seen[id_] = one
                    assert (np.array(one["at"]) >= cell * chunk).all()
                    assert (np.array(one["at"]) <= (cell + 1) * chunk).all()
        assert sorted(seen) == list(range(count))
        assert info["spatial"][0]["grid_shape"] == [1, 1, 1] and len(info["spatial"]) > 2
        for id_, one in seen.items():
            row = points.table.loc[id_]
            assert np.allclose(one["at"], wanted[id_], atol=1e-4)
            assert np.isclose(one["score"], row["score"])
            for name in ("marker", "region", "label"):
                assert one[name] == row[name]
            if id_ % 7 == 0:
                assert decode(by_id(folder, info, id_), info, 1, 0)[0] == [one]

    @given(
        st.lists(st.tuples(*[st.integers(0, 7)] * 3), max_size=80),
        st.integers(1, 6),
        st.tuples(*[st.floats(0.5, 5)] * 3),
    )
    @settings(max_examples=60, deadline=None)
    def test_levels_hold_each_point_once(self, at, limit, spacing):
        at = np.array(at, float).reshape(-1, 3) + 0.5
        low, high = np.zeros(3), np.full(3, 8.0)
        levels = spatial_levels(at, low, high, 8 * np.array(spacing), limit)
        assert sorted(np.concatenate([chosen for _, chosen, _ in levels]).tolist()) == list(
            range(len(at))
        )
        for grid, chosen, cells in levels:
            assert np.array_equal(np.floor(at[chosen] * grid / 8.0), cells)
            if len(cells):
                assert np.unique(cells, axis=0, return_counts=True)[1].max() <= limit

    def test_coarse_levels_are_a_fair_sample(self):
        rng = np.random.default_rng(1)
        at = np.concatenate([rng.random((9000, 3)) * [50, 100, 100], rng.random((3000, 3)) * 100])
        size = np.full(3, 100.0)
        (_, chosen, _), *_ = spatial_levels(at, np.zeros(3), size, size, 1000)
        # 10,500 of 12,000 points are in the left half on average; so are those of the sample.
        assert abs((at[chosen, 0] < 50).mean() - (at[:, 0] < 50).mean()) < 0.03
        assert 850 < len(chosen) <= 1000

    def test_neuroglancer_writes_the_same_bytes(self, tmp_path):
        neuroglancer = pytest.importorskip("neuroglancer")
        from neuroglancer.write_annotations import AnnotationWriter

        points = made(40, region=np.arange(40) * 997)
        table = points.table
        space = neuroglancer.CoordinateSpace(
            names=["x", "y", "z"], units="m", scales=[1.8e-6, 1.8e-6, 4e-6]
        )
        spec = neuroglancer.AnnotationPropertySpec
        markers = ["NeuN", "cFos"]
        writer = AnnotationWriter(
            space,
            "point",
            properties=[
                spec(id="score", type="float32"),
                spec(id="region", type="int32"),
                spec(id="marker", type="uint8", enum_values=[0, 1], enum_labels=markers),
            ],
        )
        for z, y, x, score, region, marker in table[
            ["z", "y", "x", "score", "region", "marker"]
        ].itertuples(index=False):
            writer.add_point(
                (x + 0.5, y + 0.5, z + 0.5),
                score=score,
                region=region,
                marker=markers.index(marker),
            )
        writer.write(tmp_path / "theirs")
        ours = write_points(points, tmp_path / "ours.precomputed", spacing=SPACING)
        for row in range(40):
            name = f"by_id/{row}"
            assert (ours / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
        one, two = (
            json.loads((folder / "info").read_text()) for folder in (ours, tmp_path / "theirs")
        )
        assert one["properties"] == two["properties"] and one.keys() == two.keys()
        assert one["dimensions"] == two["dimensions"]
        theirs = read_points(tmp_path / "theirs", spacing=SPACING, shape=SHAPE)
        assert np.allclose(theirs.coordinates, points.coordinates, atol=1e-4)
        assert theirs.table["region"].tolist() == table["region"].tolist()
        assert theirs.table["marker"].tolist() == table["marker"].tolist()

    @pytest.mark.parametrize("sharded", [False, True])
    def test_neuroglancer_reads_both_indices(self, tmp_path, sharded):
        pytest.importorskip("tensorstore")
        from neuroglancer.read_precomputed_annotations import AnnotationReader

        points = made(3000, region=np.arange(3000) * 997)
        folder = tmp_path / "cells"
        write_annotations(folder, points, SPACING, shape=SHAPE, limit=100, sharded=sharded)
        reader = AnnotationReader(f"file://{folder}/")
        wanted = points.coordinates[:, ::-1] + 0.5
        names = [one.id for one in reader.properties]
        for row in (0, 1, 1023, 1024, 2999):
            found = reader.by_id[row]
            assert np.allclose(found.point, wanted[row], atol=1e-4)
            assert dict(zip(names, found.props))["region"] == row * 997
        low, high = np.array([50, 60, 20]), np.array([90, 100, 80])
        seen = reader.get_within_spatial_bounds(lower_bound=low, upper_bound=high)
        inside = np.flatnonzero(((wanted >= low) & (wanted <= high)).all(axis=1))
        assert sorted(int(one.id) for one in seen) == inside.tolist()

    def test_read_back(self, tmp_path):
        for count in (0, 1, 300):
            points = made(count)
            path = write_points(points, tmp_path / "a.precomputed", spacing=SPACING, shape=SHAPE)
            again = read_points(path, spacing=SPACING, shape=SHAPE)
            assert np.allclose(again.coordinates, points.coordinates, atol=1e-4)
            if count:
                assert again.table["region"].tolist() == points.table["region"].tolist()
                assert again.table["marker"].tolist() == points.table["marker"].tolist()
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.precomputed"]
        edge = Points(pd.DataFrame([[99.5, 199.5, 299.5], [-0.5] * 3], columns=list("zyx")))
        path = write_points(edge, tmp_path / "a.precomputed", spacing=SPACING, shape=SHAPE)
        assert np.allclose(read_points(path).coordinates, edge.coordinates, atol=1e-4)
        flat = Points(pd.DataFrame({"y": [3.0], "x": [4.0]}))
        path = write_points(flat, tmp_path / "flat.precomputed", spacing=(1, 1))
        assert read_points(path).coordinates.tolist() == [[3, 4]]

    def test_duplicates_end(self, tmp_path):
        same = Points(pd.DataFrame({"z": [1.0] * 500, "y": [2.0] * 500, "x": [3.0] * 500}))
        write_annotations(tmp_path / "a", same, SPACING, limit=20)
        assert len(read_points(tmp_path / "a")) == 500

    def test_faults(self, tmp_path):
        with pytest.raises(OutputError, match=r"outside the volume.*\[100\.0, 0\.0, 0\.0\]"):
            beyond = Points(pd.DataFrame({"z": [100.0], "y": [0.0], "x": [0.0]}))
            write_points(beyond, tmp_path / "a.precomputed", spacing=SPACING, shape=SHAPE)
        assert not list(tmp_path.iterdir())
        path = write_points(made(50), tmp_path / "a.precomputed", spacing=SPACING)
        with pytest.raises(DataError, match="another spacing"):
            read_points(path, spacing=(1, 1, 1))
        cell = next((path / "spatial0").iterdir())
        data = cell.read_bytes()
        cell.write_bytes(data[:-3])
        with pytest.raises(DataError, match="cut short"):
            read_points(path)
        cell.write_bytes(data)
        info = json.loads((path / "info").read_text())
        for change, message in (
            ({"@type": "neuroglancer_multiscale_volume"}, "no annotations"),
            ({"annotation_type": "LINE"}, "only points"),
            ({"spatial": [{"key": "../../x"}]}, "out of the folder"),
            ({"spatial": [{"key": "spatial0", "sharding": {}}]}, "shards"),
            ({"spatial": [{"key": "gone"}]}, "missing"),
            ({"dimensions": {"x": [1, ""], "y": [1, ""], "z": [1, ""]}}, "no unit"),
            ({"dimensions": {"t": [1, "s"]}}, "x, y and z"),
            ({"properties": [{"id": "a", "type": "float64"}]}, "unknown type"),
            ({"dimensions": 3}, "damaged"),
        ):
            (path / "info").write_text(json.dumps(info | change))
            with pytest.raises(DataError, match=message):
                read_points(path)


@pytest.mark.parametrize("suffix", [".csv", ".xml", ".nml", ".precomputed"])
def test_stopped_in_the_middle_nothing_is_left(tmp_path, monkeypatch, suffix):
    points = made(20)
    path = write_points(points, tmp_path / f"a{suffix}", spacing=SPACING)
    files = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    before = {p: p.read_bytes() for p in files}

    class Stop(KeyboardInterrupt):
        pass

    def stop(*_, **__):
        raise Stop

    for where in (
        "brodmann.io.points.tables.ordered",
        "brodmann.io.points.cellfinder.types_of",
        "brodmann.io.points.nml._comments",
        "brodmann.io.points.annotations._write_level",
    ):
        monkeypatch.setattr(where, stop)
    with pytest.raises(Stop):
        write_points(made(7, seed=1), path, spacing=SPACING)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == files
    assert all(p.read_bytes() == data for p, data in before.items())


def test_options(tmp_path):
    path = write_points(made(3), tmp_path / "a.csv")
    for options, message in (
        ({"unit": "mm"}, "voxels or micrometres"),
        ({"unit": "um"}, "need a spacing"),
        ({"spacing": (1, 2, 0)}, "positive numbers"),
        ({"spacing": ("a", 2, 3)}, "positive numbers"),
    ):
        with pytest.raises(RecipeError, match=message):
            read_points(path, **options)
        with pytest.raises(RecipeError, match=message):
            write_points(made(3), tmp_path / "b.csv", **options)
    with pytest.raises(DataError, match="the spacing has 2 axes"):
        read_points(path, spacing=(1, 2))
    with pytest.raises(RecipeError, match="need 3 spacings"):
        write_points(made(3), tmp_path / "b.csv", unit="um", spacing=(1, 2))
    with pytest.raises(RecipeError, match="counts voxels"):
        read_points(write_points(made(3), tmp_path / "a.xml"), unit="um", spacing=SPACING)
    with pytest.raises(DataError, match=r"not a format of points.*\.nml"):
        read_points(tmp_path / "a.swc")
    with pytest.raises(OutputError, match="not a format of points"):
        write_points(made(3), tmp_path / "a.swc")
    with pytest.raises(DataError, match="no such file"):
        read_points(tmp_path / "gone.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="this is a folder"):
        read_points(tmp_path / "folder.csv")
