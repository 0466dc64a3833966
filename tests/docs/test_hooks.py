"""The page of each hook of a recipe: its example is a recipe, overrides the hook, and the hook gives what it should."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.recipe import Channels, Recipe, load_recipe, training_spec
from tests.docs.documents import PROJECT, Document, document

HOOKS = [name for name in vars(Recipe) if name not in ("smallest", "pretrained", "options_in", "checked_options")]
HOOKS = [name for name in HOOKS if not name.startswith("_")]


@pytest.fixture(params=HOOKS)
def hook(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Put the example of the hook's page on the path, as the module `shop`."""
    name: str = request.param
    ((file, text),) = Document(PROJECT / f"docs/recipe/{name}.md").files.items()
    (tmp_path / file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield name
    sys.modules.pop("shop", None)


def test_every_hook_has_a_page_in_the_table_and_in_the_site() -> None:
    table, site = document("docs/recipe.md").text, (PROJECT / "mkdocs.yml").read_text()
    assert sorted(path.stem for path in PROJECT.glob("docs/recipe/*.md")) == sorted(HOOKS)
    assert [name for name in HOOKS if f"| [`{name}`](recipe/{name}.md) |" not in table] == []
    assert [name for name in HOOKS if f"- recipe/{name}.md" not in site] == []


def test_example_of_a_hook_is_a_recipe_that_overrides_it(hook: str) -> None:
    recipe = load_recipe("shop")
    assert hook in vars(type(recipe))
    spec = training_spec("shop", ("hat", "shoe", "sock"), image_size=16)
    model = recipe.build_model(spec)
    assert model.output_shape == (None, 3)
    recipe.compile(model, spec, steps=5)
    check(hook, recipe, spec, model)


def check(hook: str, recipe: Any, spec: Any, model: Any) -> None:
    """Fail unless the hook gives what its page says."""
    import keras

    match hook:
        case "compile":
            assert isinstance(model.optimizer, keras.optimizers.SGD)
        case "options":
            assert recipe.options_in(spec).patience == 3
            assert recipe.callbacks(spec)[0].patience == 3
        case "callbacks":
            assert isinstance(recipe.callbacks(spec)[0], keras.callbacks.EarlyStopping)
        case "eval_metrics":
            assert recipe.eval_metrics(spec)[0].class_name == "SparseTopKCategoricalAccuracy"
        case "defaults":
            assert (spec.epochs, spec.precision, spec.image_size) == (20, "mixed", 16)
        case _:
            further(hook, recipe, spec, model)


def further(hook: str, recipe: Any, spec: Any, model: Any) -> None:
    import keras_tuner
    import tensorflow_transform as tft
    from tfx.components import StatisticsGen
    from tfx.types import channel_utils
    from tfx.types.standard_artifacts import Examples

    match hook:
        case "preprocessing_fn":
            assert "scale_to_z_score" in recipe.preprocessing_fn.__code__.co_names
            assert callable(tft.scale_to_z_score)
        case "tuner":
            assert isinstance(recipe.tuner(lambda **values: model, spec, "trials"), keras_tuner.RandomSearch)
        case "components":
            channels = Channels(channel_utils.as_channel([Examples()]), *[None] * 7)  # type: ignore[arg-type]
            assert isinstance(recipe.components(channels, spec)[0], StatisticsGen)
