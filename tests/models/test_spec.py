"""Training spec: its values, its JSON, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from models.recipe import training_spec
from models.spec import InvalidSpec, TrainingSpec

LABELS = ("cat", "dog")
OF_0_1_0 = (
    '{"model": "digits", "labels": ["cat", "dog"], "image_size": 16, "channels": 1, "epochs": 15, "batch_size": 32, '
    '"learning_rate": 0.003, "seed": 0, "warm_start": "", "weights": "none", "precision": "auto", "xla": "auto", '
    '"cache_megabytes": 1024, "prefetch": 0}'
)


def test_spec_is_unchanged_by_json():
    spec = training_spec("resnet50", LABELS, seed=4, warm_start="gs://bucket/model", learning_rate=0.5)
    assert TrainingSpec.from_json(spec.to_json()) == spec


def test_spec_of_version_0_1_0_is_read():
    assert TrainingSpec.from_json(OF_0_1_0) == training_spec("digits", LABELS)


def test_changed_spec_is_validated_again():
    spec = training_spec("digits", LABELS)
    assert spec.but(epochs=2) == training_spec("digits", LABELS, epochs=2)
    with pytest.raises(InvalidSpec, match="epochs is 0"):
        spec.but(epochs=0)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("labels", ("cat",), "at least 2"),
        ("labels", ("cat", ""), "no empty name"),
        ("labels", ("cat", "dog", "cat"), "twice or more: cat"),
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
        ("weights", "", "weights is ''"),
        ("learning_rat", 0.1, 'did you mean "learning_rate"'),
    ],
)
def test_value_that_is_not_allowed_is_refused_and_named(name, value, words):
    values = {"labels": LABELS, name: value}
    with pytest.raises(InvalidSpec) as refusal:
        training_spec("digits", **values)
    assert words in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_text_that_is_no_spec_is_refused(text):
    with pytest.raises(InvalidSpec, match="to_json"):
        TrainingSpec.from_json(text)


@pytest.mark.parametrize("name", ["model", "epochs"])
def test_spec_that_lacks_a_value_is_refused(name):
    value = json.loads(training_spec("digits", LABELS).to_json())
    del value[name]
    with pytest.raises(InvalidSpec, match=f"{name}.* missing"):
        TrainingSpec.from_json(json.dumps(value))


def test_spec_and_built_in_recipes_import_no_tensorflow():
    code = (
        "import sys\nfrom models.recipe import built_in_recipes, training_spec\n"
        f"specs = [training_spec(name, {LABELS!r}) for name in built_in_recipes()]\n"
        "sys.exit(len(specs) != 3 or any(name in sys.modules for name in ('tensorflow', 'keras', 'tfx')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
