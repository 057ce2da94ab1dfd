"""`brodmann score cells` on files: tables, boxes, volumes, folders, and what is refused."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from brodmann.cli.app import app
from brodmann.metrics.points import SCORER, match, score_points

SPACING = (4.0, 1.8, 1.8)


def run(*args):
    return CliRunner().invoke(app, ["score", "cells", *map(str, args)])


def save(path, points, **columns):
    axes = "zyx"[3 - points.shape[1] :]
    table = pd.DataFrame(points, columns=list(axes)).assign(**columns)
    table.to_csv(path, index=False)
    return path


@pytest.fixture
def made(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, (50, 200, 300), (300, 3))
    found = np.concatenate([truth[40:] + rng.normal(size=(260, 3)) * 1.5, truth[:30] + 12])
    found[5] = found[6]
    save(tmp_path / "f.csv", found)
    save(tmp_path / "t.csv", truth)
    return tmp_path, found, truth


def scores(done):
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("mode", ["greedy_global", "nearest", "optimal"])
def test_numbers_are_those_of_the_function(made, mode):
    folder, found, truth = made
    got = scores(run(folder / "f.csv", folder / "t.csv", "--marker", "neun", "--mode", mode,
                     "--spacing", "4,1.8,1.8", "--out", folder / "o", "--json"))  # fmt: skip
    assert got["scores"] == score_points(found, truth, 6, mode).as_dict()
    assert got["scores"]["duplicates"] == 1 and got["scorer"] == SCORER and got["mode"] == mode
    assert got["other"] == score_points(found, truth, 6 * 1.8, mode, SPACING).as_dict()
    by = {row["tolerance"]: row for row in got["curve"]}
    assert by[6.0] == got["scores"] and len(by) == 16
    assert by[3.0] == score_points(found, truth, 3, mode).as_dict()
    assert json.loads((folder / "o" / "scores.json").read_text()) == got
    assert (folder / "o" / "score.png").read_bytes()[:4] == b"\x89PNG"


def test_units_agree(made):
    folder, found, truth = made
    for name, points in (("fu.csv", found), ("tu.csv", truth)):
        save(folder / name, points * SPACING)
    common = ["--spacing", "4,1.8,1.8", "--out", folder / "o", "--no-plot", "--json"]
    um = scores(
        run(folder / "fu.csv", folder / "tu.csv", "--unit", "um", "--tolerance", "10", *common)
    )
    voxels = scores(run(folder / "f.csv", folder / "t.csv", "--tolerance", "10um", *common))
    assert (
        um["scores"]
        == voxels["scores"]
        == score_points(found, truth, 10, spacing=SPACING).as_dict()
    )
    marker = scores(
        run(folder / "fu.csv", folder / "tu.csv", "--unit", "um", "--marker", "NeuN", *common)
    )
    assert marker["scores"]["tp"] == score_points(found, truth, 6).tp
    assert marker["scores"]["unit"] == "voxel" and marker["other"]["unit"] == "um"


def test_people_see_mode_scorer_and_both_units(made):
    folder, _, _ = made
    done = run(folder / "f.csv", folder / "t.csv", "--marker", "NeuN", "--spacing", "4,1.8,1.8",
               "--out", folder / "o", "--matches")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    for words in ("greedy_global", SCORER, "6 voxel", "10.8 um", "score.png", "matches.csv", "F1"):
        assert words in done.stdout
    rows = list(csv.DictReader((folder / "o" / "matches.csv").open()))
    kinds = pd.Series([row["kind"] for row in rows]).value_counts()
    got = match(*made[1:], 6)
    assert kinds["true"] == len(got.pairs) and kinds["missed"] == len(got.missed)
    assert kinds["false"] + kinds["duplicate"] == len(got.unmatched) and kinds["duplicate"] == 1
    first = next(row for row in rows if row["kind"] == "true")
    gap = [float(first[axis]) - float(first[f"found_{axis}"]) for axis in "zyx"]
    assert (
        float(first["distance"]) == pytest.approx(np.linalg.norm(gap))
        and float(first["distance"]) < 6
    )
    assert {(row["z"] == "", row["found_z"] == "") for row in rows if row["kind"] == "missed"} == {
        (False, True)
    }


def test_a_box_counts_inside_only_whatever_the_origin(made):
    folder, found, truth = made
    start, stop = np.array([10, 50, 100]), np.array([40, 150, 250])
    cut = [
        points[((points >= start - 0.5) & (points < stop - 0.5)).all(1)]
        for points in (found, truth)
    ]
    save(folder / "fb.csv", cut[0] - start)
    save(folder / "tb.csv", cut[1] - start)
    box = [
        "--box",
        "10:40,50:150,100:250",
        "--tolerance",
        "6",
        "--no-plot",
        "--json",
        "--out",
        folder / "o",
    ]
    whole = scores(run(folder / "f.csv", folder / "t.csv", *box))
    assert whole["scores"] == score_points(*cut, 6).as_dict()
    assert whole["outside"] == {"pred": len(found) - len(cut[0]), "truth": len(truth) - len(cut[1])}
    mixed = scores(run(folder / "fb.csv", folder / "t.csv", *box, "--origin", "box"))
    assert mixed["scores"] == whole["scores"] and mixed["outside"]["pred"] == 0
    both = scores(
        run(folder / "fb.csv", folder / "tb.csv", *box, "--origin", "box", "--truth-origin", "box")
    )
    assert both["scores"] == whole["scores"]
    wrong = run(folder / "f.csv", folder / "t.csv", *box, "--origin", "box")
    assert wrong.exit_code == 2 and "outside box" in wrong.stderr
    other = run(folder / "fb.csv", folder / "t.csv", *box)
    assert other.exit_code == 2 and "say --origin box" in other.stderr


def test_volumes_are_kept_apart_and_an_empty_one_counts(made):
    folder, found, truth = made
    left = np.array(["m1_a", "m1_b", "m2_a"])[np.arange(len(truth)) % 3]
    right = np.append(left[40:], ["m3_a"] * 30)
    save(folder / "t.csv", truth, volume=left, brain=[v[:2] for v in left])
    save(folder / "f.csv", found, volume=right, brain=[v[:2] for v in right])
    args = [folder / "f.csv", folder / "t.csv", "--tolerance", "6", "--out", folder / "o", "--json"]
    got = scores(run(*args, "--subject", "brain", "--least-true", "100"))
    assert got["by"] == "volume"
    wanted = {v: score_points(found[right == v], truth[left == v], 6) for v in np.unique(right)}
    rows = {row["region"]: row for row in got["summary"]["regions"]}
    assert {name: row["tp"] for name, row in rows.items()} == {n: s.tp for n, s in wanted.items()}
    assert rows["m3_a"] | {"f1": 0.0, "recall": None, "fp": 30} == rows["m3_a"]
    assert got["scores"]["fp"] == sum(score.fp for score in wanted.values())
    assert [row["subject"] for row in got["summary"]["subjects"]] == ["m1", "m2", "m3"]
    assert got["summary"]["worst_subject"]["subject"] in ("m1", "m2")
    table = list(csv.DictReader((folder / "o" / "regions.csv").open()))
    assert {row["region"]: row["subject"] for row in table}["m2_a"] == "m2"
    done = run(*args[:-1], "--no-plot")
    assert "mean F1 over regions" in done.stdout and "worst subject" in done.stdout


def test_a_column_of_sizes_parts_nothing(made):
    folder, found, truth = made
    save(folder / "f.csv", found, volume=np.arange(len(found)) * 1.5)
    save(folder / "t.csv", truth, volume=np.arange(len(truth)))
    got = scores(
        run(
            folder / "f.csv",
            folder / "t.csv",
            "--tolerance",
            6,
            "--out",
            folder / "o",
            "--json",
            "--no-plot",
        )
    )
    assert got["by"] is None and got["scores"] == score_points(found, truth, 6).as_dict()
    (folder / "none.csv").write_text("z,y,x\n")
    save(folder / "t.csv", truth, volume="a")
    got = scores(
        run(
            folder / "none.csv",
            folder / "t.csv",
            "--tolerance",
            6,
            "--out",
            folder / "o",
            "--json",
            "--no-plot",
        )
    )
    assert got["scores"]["fn"] == len(truth)


def test_regions_of_a_table_bring_boxes_and_subjects(made):
    folder, found, truth = made
    (folder / "r.csv").write_text(
        "region,z0,z1,y0,y1,x0,x1,subject\nleft,0,50,0,200,0,150,m1\nright,0,50,0,200,150,300,m2\n"
    )
    got = scores(run(folder / "f.csv", folder / "t.csv", "--tolerance", 6, "--regions", folder / "r.csv",
                     "--out", folder / "o", "--no-plot", "--json"))  # fmt: skip
    for row, (low, high) in zip(got["summary"]["regions"], ((0, 150), (150, 300))):
        cut = []
        for points in (found, truth):
            inside = (points[:, 2] >= low - 0.5) & (points[:, 2] < high - 0.5)
            inside &= (points[:, :2] >= -0.5).all(1) & (points[:, :2] < (49.5, 199.5)).all(1)
            cut.append(points[inside])
        wanted = score_points(*cut, 6)
        assert (row["tp"], row["fp"], row["fn"]) == (wanted.tp, wanted.fp, wanted.fn)
    assert got["summary"]["interval"]["f1"] is not None


def test_a_tally_lets_cells_match_across_borders(made):
    folder, found, truth = made
    save(folder / "t.csv", truth, region=np.where(truth[:, 2] > 150, "R", "L"))
    save(folder / "f.csv", found, region=np.where(found[:, 2] > 151, "R", "L"))
    args = [folder / "f.csv", folder / "t.csv", "--tolerance", 6, "--out", folder / "o", "--json"]
    got = scores(run(*args, "--tally", "region"))
    assert sum(row["tp"] for row in got["tally"]) == score_points(found, truth, 6).tp
    apart = scores(run(*args, "--by", "region", "--no-plot"))
    assert apart["scores"]["tp"] < got["scores"]["tp"]


def test_sections_are_points_of_two_axes(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 256, (40, 2))
    save(tmp_path / "t.csv", truth)
    save(tmp_path / "f.csv", truth[:30] + 1)
    got = scores(run(tmp_path / "f.csv", tmp_path / "t.csv", "--tolerance", 8, "--out", tmp_path / "o",
                     "--spacing", "2,2", "--json"))  # fmt: skip
    assert got["scores"] == got["other"] | {"tolerance": 8.0, "unit": "voxel"}
    assert got["scores"]["tp"] == score_points(truth[:30] + 1, truth, 8).tp


def test_nothing_true_and_nothing_found_is_null(tmp_path):
    for name in ("f.csv", "t.csv"):
        (tmp_path / name).write_text("z,y,x\n")
    got = scores(
        run(
            tmp_path / "f.csv",
            tmp_path / "t.csv",
            "--tolerance",
            6,
            "--out",
            tmp_path / "o",
            "--json",
        )
    )
    assert got["scores"]["f1"] is None and got["summary"]["macro"]["f1"] is None
    assert (
        run(
            tmp_path / "f.csv", tmp_path / "t.csv", "--tolerance", 6, "--out", tmp_path / "o"
        ).exit_code
        == 0
    )


def test_bad_input_is_one_line_and_exit_2(made):
    folder, found, _ = made
    (folder / "nan.csv").write_text("z,y,x\n1,2,3\n4,nan,6\n7,8,inf\n")
    (folder / "cols.csv").write_text("a,b\n1,2\n")
    (folder / "empty.csv").write_text("")
    save(folder / "um.csv", found * SPACING)
    save(folder / "flat.csv", found[:, 1:])
    save(folder / "v.csv", found, volume=1)
    save(folder / "named.csv", found, volume="a")
    save(folder / "turned.csv", found[:, ::-1])
    spacing = ["--spacing", "4,1.8,1.8"]
    for args, words in (
        (["nan.csv", "t.csv"], ("line 3", "line 4")),
        (["cols.csv", "t.csv"], ("cols.csv",)),
        (["empty.csv", "t.csv"], ("empty.csv",)),
        (["gone.csv", "t.csv"], ("gone.csv",)),
        (["um.csv", "t.csv", *spacing], ("the prediction looks like um",)),
        (["t.csv", "um.csv", *spacing], ("the truth looks like um",)),
        (["turned.csv", "t.csv"], ("exchanged",)),
        (["flat.csv", "t.csv"], ("differ in axes",)),
        (["f.csv", "t.csv", "--shape", "50,100,300"], ("outside the volume", "line")),
        (["f.csv", "t.csv", "--shape", "50,100"], ("shape",)),
        (["f.csv", "t.csv", "--shape", "50,1.5,9"], ("whole voxels",)),
        (["f.csv", "t.csv", "--unit", "px"], ("voxel or um",)),
        (["f.csv", "t.csv", "--unit", "um"], ("spacing",)),
        (["f.csv", "t.csv", "--mode", "optimum"], ("did you mean 'optimal'",)),
        (["f.csv", "t.csv", "--box", "1:2"], ("differ in dimensions", "axes")),
        (["f.csv", "t.csv", "--box", "5"], ("Z0:Z1",)),
        (["f.csv", "t.csv", "--origin", "box"], ("which box",)),
        (["f.csv", "t.csv", "--by", "brain"], ("no column 'brain'", "z, y, x")),
        (["v.csv", "t.csv", "--by", "volume"], ("t.csv",)),
        (["named.csv", "t.csv"], ("only one of both tables names volumes",)),
        (["f.csv", "t.csv", "--subject", "brain"], ("--by",)),
    ):  # fmt: skip
        files = [folder / name for name in args[:2]]
        done = run(*files, "--tolerance", 6, "--out", folder / "o", *args[2:])
        assert done.exit_code == 2, (args, done.stderr)
        assert any(word in done.stderr for word in words), (args, done.stderr)
        assert len([line for line in done.stderr.splitlines() if "brodmann:" in line]) == 1
    for wrong, words in (
        ([], "--tolerance or --marker"),
        (["--tolerance", 6, "--marker", "NeuN"], "--tolerance or --marker"),
        (["--tolerance", "0"], "tolerance"),
        (["--tolerance", "wide"], "number"),
        (["--tolerance", "9um"], "spacing"),
        (["--marker", "NeuNN"], "did you mean 'NeuN'"),
    ):
        done = run(folder / "f.csv", folder / "t.csv", "--out", folder / "o", *wrong)
        assert done.exit_code == 2 and words in done.stderr, done.stderr


def test_where_nothing_matches_the_score_is_0_with_a_note(made):
    folder, found, _ = made
    save(folder / "far.csv", found + 5000)
    done = run(
        folder / "far.csv", folder / "t.csv", "--tolerance", 6, "--out", folder / "o", "--json"
    )
    assert scores(done)["scores"]["f1"] == 0 and "nothing matches" in done.stderr


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(1)
    for marker in ("NeuN", "GFAP"):
        for region in (1, 2):
            truth = rng.uniform(0, 100, (30, 3))
            (tmp_path / "truth").mkdir(exist_ok=True)
            save(tmp_path / "truth" / f"{marker}_b{region}_region{region}_gt.csv", truth)
            for model, kept in (("NeuN", 25), ("GFAP", 9), ("all", 20)):
                (tmp_path / "pred" / model).mkdir(parents=True, exist_ok=True)
                save(
                    tmp_path / "pred" / model / f"{marker}_b{region}_region{region}.csv",
                    truth[:kept] + 2,
                )
    return tmp_path


def test_folders_give_the_matrix(tree):
    got = scores(run(tree / "pred", tree / "truth", "--out", tree / "o", "--json"))
    assert got["markers"] == ["NeuN", "GFAP"] and got["models"] == ["NeuN", "GFAP", "all"]
    total = {(r["marker"], r["model"]): r for r in got["rows"] if r["region"] == "total"}
    assert total["GFAP", "NeuN"]["tp"] == 50 and total["NeuN", "all"]["fn"] == 20
    assert {r["tolerance"] for r in got["rows"] if r["marker"] == "GFAP"} == {8.0}
    assert got["best"] == {"NeuN": ["NeuN"], "GFAP": ["NeuN"]}
    one = next(s for s in got["summaries"] if (s["marker"], s["model"]) == ("NeuN", "all"))
    assert [s["subject"] for s in one["subjects"]] == ["b1", "b2"]
    assert one["interval"]["f1"] is not None
    for name in ("matrix.json", "matrix.csv", "matrix-f1.csv", "matrix-f1.png", "scores.json"):
        assert (tree / "o" / name).stat().st_size > 100
    done = run(tree / "pred", tree / "truth", "--out", tree / "o", "--no-plot")
    assert "F1 in total" in done.stdout and SCORER in done.stdout
    alone = scores(
        run(tree / "pred" / "all", tree / "truth", "--out", tree / "o", "--no-plot", "--json")
    )
    assert alone["models"] == ["all"]


def test_folders_keep_to_boxes(tree):
    lines = ["region,z0,z1,y0,y1,x0,x1"]
    lines += [f"{m}_b{r}_region{r},0,50,0,100,0,100" for m in ("NeuN", "GFAP") for r in (1, 2)]
    (tree / "boxes.csv").write_text("\n".join(lines) + "\n")
    args = [tree / "pred", tree / "truth", "--out", tree / "o", "--no-plot", "--json"]
    got = scores(run(*args, "--regions", tree / "boxes.csv"))
    truth = pd.read_csv(tree / "truth" / "NeuN_b1_region1_gt.csv")
    row = next(r for r in got["rows"] if (r["marker"], r["region"]) == ("NeuN", "b1_region1"))
    inside = (truth.z < 49.5) & (truth.y < 99.5) & (truth.x < 99.5)
    assert row["tp"] + row["fn"] == inside.sum() < len(truth)
    (tree / "boxes.csv").write_text("\n".join(lines[:-1]) + "\n")
    done = run(*args, "--regions", tree / "boxes.csv")
    assert done.exit_code == 2 and "no box" in done.stderr


def test_folders_that_do_not_pair_are_refused(tree):
    args = ["--out", tree / "o", "--no-plot"]
    done = run(tree / "pred", tree / "truth", *args, "--by", "volume")
    assert done.exit_code == 2 and "--by" in done.stderr
    (tree / "pred" / "all" / "NeuN_b1_region1.csv").unlink()
    done = run(tree / "pred", tree / "truth", *args)
    assert done.exit_code == 2 and "none for NeuN_b1_region1" in done.stderr
    (tree / "truth" / "other_region1_gt.csv").write_text("z,y,x\n")
    done = run(tree / "pred", tree / "truth", *args)
    assert done.exit_code == 2 and "names no marker" in done.stderr
    done = run(tree / "truth" / "other_region1_gt.csv", tree / "truth", *args)
    assert done.exit_code == 2 and "folder" in done.stderr


@pytest.mark.real
def test_true_cells_of_microglia_against_themselves(real_data, tmp_path):
    file = real_data / "cells" / "delivr" / "microglia" / "centres.csv"
    got = scores(run(file, file, "--marker", "microglia", "--spacing", "6,1.62,1.62",
                     "--out", tmp_path / "o", "--json"))  # fmt: skip
    assert got["by"] == "volume" and got["scores"]["f1"] == 1 and got["scores"]["tp"] == 388
