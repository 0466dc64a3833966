"""Recipes: found by name, with validated options; a refusal names the reason and the place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.recipe import UnusableRecipe, built_in_recipes, changed, load_recipe, training_spec
from models.spec import InvalidSpec

LABELS = ("cat", "dog")
SHOP = """
from dataclasses import dataclass

from models.recipe import Recipe
from models.spec import Knobs


@dataclass(frozen=True)
class Options:
    filters: int = 8
    name: str = "small"


class Shop(Recipe):
    defaults = Knobs(epochs=2)
    options = Options

    def build_model(self, spec):
        return self.options_in(spec).filters


recipe = Shop()
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Return a writer of modules that can be imported while the test runs."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def module(name: str, text: str) -> Path:
        monkeypatch.delitem(sys.modules, name, raising=False)
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        return file

    return module


def test_built_in_recipes_are_the_modules_of_their_folder():
    assert built_in_recipes() == ("cifar", "digits", "resnet50")


@pytest.mark.parametrize("name", built_in_recipes())
def test_values_left_out_come_from_the_recipes_defaults(name):
    spec, defaults = training_spec(name, LABELS, epochs=None), load_recipe(name).defaults
    assert defaults.model_dump(exclude_unset=True).items() <= spec.model_dump().items()


def test_values_given_replace_the_recipes_defaults():
    spec = training_spec("digits", LABELS, image_size=28, channels=None, options={})
    assert (spec.image_size, spec.channels) == (28, 1)


def test_custom_recipe_changes_only_what_it_overrides(write):
    write("shop_recipe", SHOP)
    spec = training_spec("shop_recipe", LABELS, options={"filters": 3})
    assert (spec.epochs, spec.image_size, spec.options) == (2, 32, {"filters": 3, "name": "small"})
    assert load_recipe("shop_recipe").build_model(spec) == 3


def test_module_with_build_model_alone_is_a_recipe(write):
    write("plain_recipe", "def build_model(spec): return spec.channels")
    assert load_recipe("plain_recipe").build_model(training_spec("plain_recipe", LABELS)) == 3


def test_entry_point_names_a_recipe(write, tmp_path):
    write("shop_recipe", SHOP)
    metadata = tmp_path / "shop-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[continuous_adaptation.recipes]\nbest = shop_recipe\n")
    assert load_recipe("best") is load_recipe("shop_recipe")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"filtres": 3}, 'did you mean "filters"'),
        ({"filters": "many"}, "filters is 'many'"),
        ({"filtres": 3, "nam": "x"}, 'did you mean "name"'),
    ],
)
def test_option_that_is_unknown_or_mistyped_is_refused(write, options, words):
    write("shop_recipe", SHOP)
    with pytest.raises(InvalidSpec) as refusal:
        training_spec("shop_recipe", LABELS, options=options)
    assert "model.options" in str(refusal.value) and words in str(refusal.value)


def test_option_of_a_recipe_without_options_is_refused():
    with pytest.raises(InvalidSpec, match="no option 'filters'"):
        training_spec("digits", LABELS, options={"filters": 3})


def test_tuned_values_are_settings_or_options(write):
    write("shop_recipe", SHOP)
    spec = changed(training_spec("shop_recipe", LABELS), {"learning_rate": 0.5, "filters": 3})
    assert spec == training_spec("shop_recipe", LABELS, learning_rate=0.5, options={"filters": 3})
    with pytest.raises(InvalidSpec, match='did you mean "filters"'):
        changed(spec, {"filter": 3})


def test_recipe_refuses_images_smaller_than_it_takes():
    with pytest.raises(InvalidSpec, match="at least 32"):
        training_spec("resnet50", LABELS, image_size=24)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digit", 'did you mean "digits"'),
        ("no_such_package.model", "no recipe is called 'no_such_package.model'"),
        ("models.recipes.none", "no recipe is called 'models.recipes.none'"),
        ("../digits", "no recipe is called '../digits'"),
        ("models.spec", r"build_model(spec)"),
    ],
)
def test_name_of_no_recipe_is_refused(name, words):
    with pytest.raises(UnusableRecipe) as refusal:
        load_recipe(name)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def build_model(spec:\n    pass\n", "line 1"),
        ("import json\n\njson.nothing\n", "line 3"),
        ("\nimport no_such_library\n", "line 2"),
    ],
)
def test_recipe_that_cannot_be_imported_is_named_with_file_and_line(write, text, words):
    file = write("broken_recipe", text)
    with pytest.raises(UnusableRecipe) as refusal:
        load_recipe("broken_recipe")
    assert f"{file}, {words}" in str(refusal.value)
