"""Points for other programs: cellfinder's XML by its rules, WEBKNOSSOS's NML."""

from xml.dom import minidom
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from made_points import SHAPE, SPACING, faults, made

from brodmann.core import DataError, OutputError, Points, RecipeError
from brodmann.io.points import read_points, write_points


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
