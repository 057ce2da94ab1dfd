import re

import pytest
import yaml

from brodmann.core import RecipeError
from brodmann.pipeline.recipe import load_recipe, recipe_kind, recipe_names

RECIPES = [name for name in recipe_names() if recipe_kind(name) == "recipe"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_packaged_recipe_is_valid(name):
    needs = {"sections": ["data.path=x"], "prmix-dmbm": ["data.root=x"]}
    settings = needs.get(name, [])
    if name.startswith(("sections-brain100um", "microstructure-", "regions-")):
        settings = ["data.root=x"]
    recipe = load_recipe(name, settings)
    assert recipe.name == name and recipe.title and recipe.description


def test_settings_reach_any_depth_and_are_yaml():
    recipe = load_recipe(
        "demo",
        ["train.steps=7", "net.patch=[32, 64]", "data.shape=[256, 512]", "predict.tissue=true"],
    )
    assert recipe.train.steps == 7 and recipe.net.patch == [32, 64] and recipe.predict.tissue
    assert recipe.data["shape"] == [256, 512]


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("train.stepz=3", "did you mean 'steps'"),
        ("trian.steps=3", "did you mean 'train'"),
        ("data.subjetcs=3", "did you mean 'subjects'"),
        ("data.kind=phantom-section", "did you mean 'phantom-sections'"),
        ("train.augmentation.rotation_q=1", "did you mean 'rotation_p'"),
        ("train.augmentation.method=clasical", "did you mean 'classical'"),
        ("train.steps=many", "valid integer"),
        ("train.steps=0", "greater than or equal to 1"),
        ("train.steps", "a.b=value"),
        ("seed.deep=1", "no further keys"),
        ("net.patch=[1", "no YAML"),
        ("augment.schedule=hybrid", "no copies to train on (augment.schedule)"),
        ("augment.online=true", "no copies to train on (augment.online)"),
        ("augment.schedule=sometimes", "'together', 'synthetic' or 'hybrid'"),
        ("augment.synthetic_share=1.0", "less than 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_nearest_right_key(setting, answer):
    with pytest.raises(RecipeError, match=re.escape(answer)):
        load_recipe("demo", [setting])


def test_online_copies_have_no_factor():
    online = ["augment.method=classical", "augment.online=true"]
    assert load_recipe("demo", online).augment.told == "classical online, together"
    with pytest.raises(RecipeError, match=r"augment\.factor\): found 3"):
        load_recipe("demo", [*online, "augment.factor=3"])


def test_a_file_is_a_recipe_and_nothing_in_it_is_executed(tmp_path):
    good = tmp_path / "mine.yaml"
    good.write_text("name: mine\ndata: {kind: folder, path: here}\n", "utf-8")
    assert load_recipe(str(good)).data["path"] == "here"
    evil = tmp_path / "evil.yaml"
    evil.write_text("name: !!python/object/apply:os.getcwd []\ndata: {kind: folder}\n", "utf-8")
    with pytest.raises(RecipeError, match="no YAML"):
        load_recipe(str(evil))
    for text, word in [
        ("- a\n", "mapping"),
        ("name: x\n", "needs data.kind"),
        ("name: x\ndata: {kind: folder}\n", "data.path"),
    ]:
        good.write_text(text, "utf-8")
        with pytest.raises(RecipeError, match=word):
            load_recipe(str(good))
    with pytest.raises(RecipeError, match="cannot read"):
        load_recipe(str(tmp_path / "none.yaml"))
    with pytest.raises(RecipeError, match="did you mean 'demo'"):
        load_recipe("demoo")


def test_a_recipe_survives_its_own_dump(tmp_path):
    recipe = load_recipe("demo")
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(recipe.dump()), "utf-8")
    assert load_recipe(str(path)) == recipe


def test_every_key_is_in_the_docs():
    from pathlib import Path

    from brodmann.pipeline.recipe import Recipe, Section

    text = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text("utf-8")
    for name, field in Recipe.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            for key in section.model_fields:
                assert f"| `{name}.{key}` |" in text
        else:
            assert f"| `{name}` |" in text
