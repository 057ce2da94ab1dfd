"""Tables: pure, of one version, honest about seeds, data and what is published."""

from __future__ import annotations

import csv
import io
import json
import random

import pytest

from brodmann.bench.board import board, boards, read_results, spread
from brodmann.bench.evaluate import mean_scores, score
from brodmann.bench.results import Evidence, Result, write_result
from brodmann.bench.tasks import benchmarks
from brodmann.core import DataError, RecipeError

KNOWN = benchmarks()
BENCH = KNOWN["mtneuro"]
V1, V2 = BENCH.task("roi-c1", "v1"), BENCH.task("roi-c1", "v2")
SIDES = KNOWN["slice309"].task("regions-32px", "v1")


def made(task, method="byol", seed=1, wrong=10, **changes):
    """A result of which so many answers a split are wrong, on the task's own counts."""
    raw = {}
    for split in task.splits:
        truth = [n for n, k in task.counts[split.name]["test"].items() for _ in range(k)]
        names = list(task.categories)
        pairs = {
            f"s{i:04d}": (one, names[names.index(one) - 1] if i < wrong else one)
            for i, one in enumerate(truth)
        }
        raw[split.name] = Evidence(pairs=pairs, clusters={n: n[:4] for n in pairs})
    per_split = {name: score(task, one) for name, one in raw.items()}
    fields = {
        "task": task.id,
        "method": method,
        "seed": seed,
        "scores": mean_scores(per_split),
        "per_split": per_split,
        "raw": raw,
        "configuration": {"method": method, "options": {}},
        "commit": "a" * 40,
        "data_hash": "0" * 32,
        "environment": {},
        "seconds": 1.0,
        "peak_memory_mb": 1.0,
    }
    return Result(**(fields | changes))


def test_mean_and_deviation_by_hand():
    results = [made(V2, seed=s, wrong=w) for s, w in ((1, 10), (100, 20), (350, 60))]
    (row,) = board(results, V2, BENCH).rows
    # 60 wrong of 50 a region: all of CTX and 10 of STR; the mean of recalls is of equal parts.
    values = [1 - w / 200 for w in (10, 20, 60)]
    mean = sum(values) / 3
    std = (sum((v - mean) ** 2 for v in values) / 2) ** 0.5
    assert row.scores["balanced_accuracy"] == (pytest.approx(mean), pytest.approx(std))
    assert row.seeds == (1, 100, 350) and row.missing == (631, 872)
    assert "byol lacks seeds 631, 872." in board(results, V2).notes
    assert row.scores["recall:ZI"] == (1.0, 0.0)


def test_a_table_is_a_pure_function_of_the_files(tmp_path):
    results = [
        made(V1, m, s, w)
        for m, s, w in (("byol", 1, 3), ("pca", 1, 90), ("byol", 100, 5), ("constant", 1, 120))
    ]
    first = board(results, V1, BENCH)
    for seed in range(4):
        random.Random(seed).shuffle(results)
        assert board(results, V1, BENCH) == first
    for result in results:
        write_result(result, tmp_path)
    (tmp_path / "notes.json").write_text("{}", "utf-8")
    read = read_results([tmp_path])
    assert boards(read, KNOWN) == [first]
    assert board([*read, *read], V1, BENCH) == first  # the same file twice is one result
    assert boards(read, KNOWN)[0].to_markdown() == first.to_markdown()


def test_versions_never_share_a_table():
    with pytest.raises(RecipeError, match=r"share no table.*roi-c1@v1.*roi-c1@v2"):
        board([made(V1), made(V2)], V1, BENCH)
    with pytest.raises(RecipeError, match="share no table"):
        board([made(V1)], V2, BENCH)
    both = boards([made(V2), made(V1)], KNOWN)
    assert [one.task for one in both] == [V1.id, V2.id]


def test_published_rows_stand_beside_version_1_only():
    first, second = boards([made(V1), made(V2)], KNOWN)
    published = {row.method: row for row in first.rows if row.kind == "published"}
    assert published["MYOW-m"].scores == {"accuracy": (0.94, 0.02)}
    assert len(published) == 7 and not published["PCA"].missing
    assert not [row for row in second.rows if row.kind == "published"]
    assert any("not made by this code" in note for note in first.notes)
    assert any("z 109 to 459" in note for note in first.notes)
    assert "published" not in second.to_markdown() and "MYOW-m | published" in first.to_markdown()


def test_rows_stand_from_best_to_worst_baselines_among_them():
    results = [
        made(V1, "pca", wrong=90),
        made(V1, "constant", wrong=120),
        made(V1, "oracle", wrong=0),
    ]
    rows = [(row.method, row.kind) for row in board(results, V1, BENCH).rows]
    assert rows[0] == ("oracle", "baseline")
    assert rows.index(("MYOW-m", "published")) < rows.index(("pca", "method"))
    assert rows[-1] == ("constant", "baseline")
    # A constant draws nothing, so no seed of it is missed; a random answer does.
    random_ = board([made(V1, "random")], V1).rows[0]
    assert random_.missing and not board(results, V1).rows[-1].missing


def test_duplicates_must_be_the_same():
    with pytest.raises(DataError, match=r"two different results.*byol, seed 1"):
        board([made(V2), made(V2, wrong=11)], V2)
    other = {"configuration": {"method": "byol", "options": {"steps": 9}}}
    with pytest.raises(DataError, match="several configurations"):
        board([made(V2), made(V2, seed=100, **other)], V2)


def test_scores_are_made_anew_from_the_evidence():
    result = made(V2)
    better = result.model_copy(update={"scores": result.scores | {"balanced_accuracy": 0.99}})
    with pytest.raises(DataError, match="does not follow from its evidence"):
        board([better], V2)
    raw = {"c1-v2": Evidence(pairs={"a": ("CTX", "CTX")})}
    scores = score(V2, raw["c1-v2"])
    few = result.model_copy(update={"raw": raw, "scores": scores, "per_split": {"c1-v2": scores}})
    with pytest.raises(DataError, match="tested on other data"):
        board([few], V2)


def test_other_data_and_other_code_are_told():
    notes = board([made(V2), made(V2, seed=100, data_hash="1" * 32, commit="b" * 40)], V2).notes
    assert any("2 different states of the data" in note for note in notes)
    assert any("2 different commits" in note for note in notes)


def test_splits_are_averaged_and_intervals_are_of_clusters():
    table = board([made(SIDES, wrong=30)], SIDES)
    (row,) = table.rows
    result = made(SIDES, wrong=30)
    halves = [result.per_split[name]["balanced_accuracy"] for name in ("left-right", "right-left")]
    assert row.scores["balanced_accuracy"][0] == pytest.approx(sum(halves) / 2)
    low, high = row.interval
    assert low <= row.scores["balanced_accuracy"][0] + 0.05 and low < high
    assert table.head[-1] == "95 %" and "to" in table.cells()[0][-1]


def test_texts_hold_the_same_numbers():
    table = board([made(V1, wrong=10), made(V1, seed=100, wrong=20)], V1, BENCH)
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    byol = next(row for row in rows if row["kind"] == "method")
    assert float(byol["accuracy_mean"]) == pytest.approx(0.925)
    tree = json.loads(json.dumps(table.to_dict()))
    assert next(r for r in tree["rows"] if r["kind"] == "method")["scores"]["accuracy"][
        "mean"
    ] == pytest.approx(0.925)
    lines = table.brief().to_markdown().splitlines()
    assert lines[2].startswith("| method | kind | seeds | accuracy |")
    assert "| byol | method | 2 | 0.925 ± 0.035 |" in table.to_markdown()
    assert len(lines[2].split("|")) == len(lines[3].split("|")) == len(lines[4].split("|"))
    assert spread((0.5, None)) == "0.500" and spread((None, None)) == "–"


def test_what_is_no_result(tmp_path):
    with pytest.raises(DataError, match="no results in this folder"):
        read_results([tmp_path])
    with pytest.raises(DataError, match=r"unknown task.*did you mean"):
        boards([made(V2).model_copy(update={"task": "mtneuro/roi-c9@v2"})], KNOWN)
