from __future__ import annotations

import json
import subprocess
import sys

import pytest

from models.spec import DEFAULTS, InvalidSpec, TrainingSpec

LABELS = ("cat", "dog")


def test_a_specification_survives_the_way_through_json():
    spec = TrainingSpec.for_model("resnet50", LABELS, seed=4, warm_start="gs://bucket/model", learning_rate=0.5)
    assert TrainingSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("model", DEFAULTS)
def test_what_is_left_out_comes_from_the_models_defaults(model):
    spec, defaults = TrainingSpec.for_model(model, LABELS), DEFAULTS[model]
    for name in ("image_size", "channels", "epochs", "batch_size", "learning_rate", "weights"):
        assert getattr(spec, name) == getattr(defaults, name)


def test_what_is_given_stands_and_none_is_the_default():
    spec = TrainingSpec.for_model("digits", LABELS, image_size=28, channels=None, epochs=None)
    assert (spec.image_size, spec.channels, spec.epochs) == (28, 1, DEFAULTS["digits"].epochs)


def test_a_model_of_ones_own_is_named_by_its_module():
    assert TrainingSpec.for_model("models.recipes.digits", LABELS).module == "models.recipes.digits"
    assert TrainingSpec.for_model("digits", LABELS).module == "models.recipes.digits"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("model", "digit", 'did you mean "digits"'),
        ("model", "no_such_package.model", "no model is called 'no_such_package.model'"),
        ("model", "../digits", "no model is called"),
        ("model", 50, "no model is called 50"),
        ("labels", ("cat",), "at least two"),
        ("labels", ("cat", ""), "none of them empty"),
        ("labels", ("cat", "dog", "cat"), "cat more than once"),
        ("image_size", 4, "at least 8"),
        ("image_size", 32.0, "image_size is 32.0"),
        ("channels", 4, "1 (grey) or 3 (colour)"),
        ("epochs", 0, "epochs is 0"),
        ("epochs", True, "epochs is True"),
        ("batch_size", -1, "batch_size is -1"),
        ("seed", -1, "seed is -1"),
        ("learning_rate", 0.0, "learning_rate is 0.0"),
        ("learning_rate", float("nan"), "learning_rate is nan"),
        ("learning_rate", "fast", "learning_rate is 'fast'"),
        ("weights", "imagenet", "no pretrained weights"),
        ("weights", "", "weights is empty"),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_named(name, value, words):
    values = {"model": "digits", "labels": LABELS, name: value}
    with pytest.raises(InvalidSpec) as refusal:
        TrainingSpec.for_model(**values)
    assert words in str(refusal.value)


def test_a_model_refuses_images_smaller_than_it_takes():
    with pytest.raises(InvalidSpec, match="at least 32"):
        TrainingSpec.for_model("resnet50", LABELS, image_size=24)


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(InvalidSpec, match='"learning_rate"'):
        TrainingSpec.for_model("digits", LABELS, learning_rat=0.1)


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_text_that_is_no_specification_is_refused(text):
    with pytest.raises(InvalidSpec, match="to_json"):
        TrainingSpec.from_json(text)


def test_a_specification_without_a_model_is_refused():
    value = json.loads(TrainingSpec.for_model("digits", LABELS).to_json())
    del value["model"]
    with pytest.raises(InvalidSpec, match="'model'"):
        TrainingSpec.from_json(json.dumps(value))


def test_reading_the_defaults_imports_no_tensorflow():
    code = "import sys, models.spec; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'tfx')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
