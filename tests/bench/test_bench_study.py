"""A table from a recipe: all rows, boards, a page; gone on with where it stopped."""

import json
from pathlib import Path

import pytest
import yaml

from brodmann.bench.recipe import load_bench_recipe
from brodmann.bench.study import run_bench
from brodmann.core import RecipeError
from brodmann.pipeline.recipe import recipe_kind, recipe_names

pytest_plugins = ("toy_bench",)


def written(tmp_path: Path, folder: Path, **changes) -> str:
    tree = {
        "name": "toys",
        "title": "Toys",
        "description": "Made-up tasks.",
        "benchmarks": str(folder),
        "tasks": ["toy/roi@v2"],
        "seeds": [0, 1],
        "methods": {
            "net": {
                "method": "supervised",
                "options": {"steps": 4, "batch": 4, "stem": "large", "crop": 1.0, "whole": True},
            },
            "pixels": {"method": "pca", "options": {"size": 2}},
            "constant": {"method": "constant"},
            "oracle": {"method": "oracle"},
        },
    }
    file = tmp_path / "toys.yaml"
    file.write_text(yaml.safe_dump(tree | changes), encoding="utf-8")
    return str(file)


def test_a_table_is_run_and_gone_on_with(tmp_path, folder):
    recipe = load_bench_recipe(written(tmp_path, folder))
    told = []
    result = run_bench(recipe, tmp_path / "out", report=lambda *a: told.append(a[0]))
    out = tmp_path / "out"
    (board,) = result["boards"]
    rows = {row["method"]: row for row in board["rows"]}
    assert rows["oracle"]["scores"]["balanced_accuracy"]["mean"] == 1
    assert rows["constant"]["scores"]["balanced_accuracy"]["mean"] == 0.25
    assert rows["pixels"]["scores"]["balanced_accuracy"]["mean"] > 0.9
    assert rows["net"]["seeds"] == [0, 1]
    assert len(list((out / "results").glob("*.json"))) == 8
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Toys" in page and "data:image/png" in page
    assert (
        json.loads((out / "result.json").read_text(encoding="utf-8"))["boards"] == result["boards"]
    )
    assert "pixels" in (out / "table.md").read_text(encoding="utf-8")
    again = []
    run_bench(recipe, out, report=lambda *a: again.append(a[0]), pages=False)
    assert not [what for what in again if "supervised" in what], "finished rows are not run again"


def test_one_row_alone(tmp_path, folder):
    recipe = load_bench_recipe(written(tmp_path, folder), ["only=[constant]", "seeds=[0]"])
    result = run_bench(recipe, tmp_path / "out", pages=False)
    assert [row["method"] for row in result["boards"][0]["rows"]] == ["constant"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": ["toy/roy@v2"]}, "toy/roi@v2"),
        ({"only": ["nett"]}, "net"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"methods": {"a": {"method": "resnet"}}}, "method"),
        ({"methods": {"a": {"method": "byol", "options": {"stepz": 1}}}}, "steps"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_is_wrong_is_named_before_anything_runs(tmp_path, folder, changes, words):
    with pytest.raises(RecipeError, match=words):
        load_bench_recipe(written(tmp_path, folder, **changes))


def test_every_packaged_table_is_valid():
    names = [name for name in recipe_names() if recipe_kind(name) == "bench"]
    assert {"slice309", "slice309-128px", "phantom-tomography", "mtneuro-table1"} <= set(names)
    for name in names:
        recipe = load_bench_recipe(name)
        assert recipe.title and recipe.description


def test_the_papers_tables_have_all_their_rows():
    """Tables 1, 3 and A3 have seven methods, Table 2 six nets in 2D and three in 3D."""
    for name in ("mtneuro-table1", "mtneuro-table3", "mtneuro-table-a3"):
        recipe = load_bench_recipe(name)
        assert list(recipe.methods) == [
            "supervised",
            "mixup",
            "byol",
            "myow",
            "myow-m",
            "pca",
            "nmf",
        ]
        assert {task[-2:] for task in recipe.tasks} == {"v1", "v2"}
    for classes in (3, 4):
        assert len(load_bench_recipe(f"mtneuro-table2-2d-{classes}class").methods) == 6
        assert len(load_bench_recipe(f"mtneuro-table2-3d-{classes}class").methods) == 3
