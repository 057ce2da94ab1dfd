"""Neuroglancer's precomputed annotations, against a parser of our own and its writer."""

import json
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_points import SHAPE, SPACING, made

from brodmann.core import DataError, OutputError, Points
from brodmann.io.points import read_points, write_points
from brodmann.io.points.annotations import spatial_levels, write_annotations


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
