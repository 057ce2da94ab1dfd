"""`brodmann score regions` as a person and as a machine calls it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import tifffile

from brodmann.cli import main

TABLE = "id,name,acronym,parent,color\n1,Thalamus,[b]TH,,ff0000\n2,Cortex,CTX,,00ff00\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    truth = np.zeros((40, 50), np.uint8)
    truth[5:20, 5:45], truth[20:35, 5:45] = 1, 2
    for side, image in (("truth", truth), ("pred", np.roll(truth, 3, 0))):
        (tmp_path / side).mkdir()
        tifffile.imwrite(tmp_path / side / "section.tif", image)
    (tmp_path / "labels.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path


def call(capsys, folder, *options):
    files = [str(folder / name) for name in ("pred", "truth", "labels.csv")]
    arguments = ["brodmann", "score", "regions", *files[:2], "--labels", files[2], *options]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as leaving:
        patch.setattr(sys, "argv", arguments)
        main()
    said = capsys.readouterr()
    return leaving.value.code or 0, said.out, said.err


def test_json_and_nothing_else_on_stdout(folder, capsys):
    code, out, _ = call(capsys, folder, "--json", "--exclude", "CTX", "--background")
    found = json.loads(out)
    assert code == 0
    assert found["background"] is True and found["excluded"] == ["CTX"]
    # TH moves down by 3 of its 15 rows: 12 of 15 remain.
    assert found["pooled"]["per_class"][1]["dice"] == pytest.approx(0.8)
    assert "per_class" not in found["per_image"][0]


def test_every_option_reaches_the_score(folder, capsys):
    plain = json.loads(call(capsys, folder, "--json")[1])
    full = json.loads(
        call(
            capsys,
            folder,
            *("--json", "--surface", "--tolerance-um", "20", "--spacing-um", "10,10"),
            *("--per-image", "--rollup"),
        )[1]
    )
    assert full["pooled"]["mean_dice"] == plain["pooled"]["mean_dice"]
    assert full["pooled"]["surface"]["mean_hausdorff_um"] == pytest.approx(30)
    assert full["rollup"] and "per_class" in full["per_image"][0]


def test_text_for_people(folder, capsys):
    code, out, _ = call(capsys, folder)
    assert code == 0
    assert "[b]TH" in out and "mean of 2" in out and "CTX taken for [b]TH" in out
    assert "section" not in out
    assert "section" in call(capsys, folder, "--per-image")[1]


def test_bad_input_is_one_line_and_code_2(folder, capsys):
    image = tifffile.imread(folder / "pred" / "section.tif")
    image[0, 0] = 99
    tifffile.imwrite(folder / "pred" / "section.tif", image)
    code, out, err = call(capsys, folder, "--json")
    assert code == 2 and out == ""
    lines = [line for line in err.splitlines() if line.startswith("brodmann:")]
    assert len(lines) == 1 and "99" in lines[0] and "labels.csv" in lines[0]
