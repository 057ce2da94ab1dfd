"""Points as CSV and Parquet, and what holds for every format."""

import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_points import SHAPE, SPACING, faults, made

from brodmann.core import BrodmannError, DataError, OutputError, Points, RecipeError
from brodmann.io.points import read_points, write_points
from brodmann.io.points.rows import spans


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
