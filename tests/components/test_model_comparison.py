"""ModelComparator: who was right on each test image, whatever the order and the number of the models' classes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
import tensorflow as tf
from tfx import v1 as tfx
from tfx.types.standard_artifacts import Examples, Model

from adaptation import codec
from adaptation.data.tfrecords import LabelledImage
from adaptation.errors import AdaptationError
from adaptation.evaluation.gate import Comparison
from adaptation.evaluation.look import Profile, Reference
from adaptation.evaluation.mix import Recall
from adaptation.evaluation.paired import Pairs
from adaptation.io import storage
from adaptation.platforms.base import Upload
from adaptation.platforms.connect import connect
from components import model_comparison
from components.model_comparison import ModelComparator, count
from emulators.tls_proxy import STORAGE_HOSTS, TlsProxy
from emulators.vertex import VertexEmulator
from tests.worlds.vertex import ROOT, a_config, object_storage

CHALLENGER, CHAMPION = 0, 1
ON_CLOUD = """
import sys

import apache_beam as beam
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import Examples, Model

from components.model_comparison import ModelComparator_Executor
from components.registry_champion import ChampionGen_Executor

names = {"examples": Examples, "model": Model, "champion": Model, "comparison": File}
artifacts = {name: kind() for name, kind in names.items()}
for name, artifact in artifacts.items():
    artifact.uri = f"{sys.argv[2]}/{name}"
artifacts["examples"].split_names = '["train", "eval"]'
ChampionGen_Executor._FUNCTION(model=artifacts["champion"], platform=sys.argv[1], run="run-1")
ModelComparator_Executor._FUNCTION(**artifacts, beam_pipeline=beam.Pipeline())
"""


class Scripted(tf.Module):
    """A model that answers what the image says: its character at the model's place is the class's index, x is NaN."""

    def __init__(self, place: int, classes: int) -> None:
        super().__init__()
        self.place, self.classes = place, classes

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.io.parse_example(examples, {"image": tf.io.FixedLenFeature([], tf.string)})["image"]
        said = tf.strings.substr(images, self.place, 1)
        chosen = tf.strings.to_number(tf.where(said == "x", "0", said), tf.int32)
        missing = tf.where(said == "x", float("nan"), 0.0)[:, tf.newaxis]
        return {"probabilities": tf.one_hot(chosen, self.classes) + missing}


def a_model(folder: Path, place: int, labels: Sequence[str], classes: int | None = None) -> str:
    """An export whose spec names the classes."""
    model = Scripted(place, classes or len(labels))
    tf.saved_model.save(model, str(folder), signatures={"evaluate": model.evaluate})
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "spec.json").write_text(json.dumps({"labels": labels, "model": "scripted"}))
    return str(folder)


def records(file: Path, *images: tuple[int, int, str]) -> str:
    """A record file; each image is its span, its label and what the models say: the challenger first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    made = (LabelledImage(said.encode(), label, f"{number}", span) for number, (span, label, said) in enumerate(images))
    file.write_bytes(b"".join(one.to_record() for one in made))
    return str(file)


def test_counts_are_by_span_and_by_name_of_class(tmp_path: Path) -> None:
    challenger = a_model(tmp_path / "new", CHALLENGER, ["cat", "dog"])
    champion = a_model(tmp_path / "old", CHAMPION, ["cat", "dog"])
    file = records(tmp_path / "a", (1, 0, "00"), (1, 0, "01"), (1, 0, "10"), (1, 1, "11"), (2, 1, "00"), (2, 1, "10"))
    assert count([file], challenger, champion).tests == {
        (1, "cat"): Pairs(both=1, challenger_only=1, champion_only=1),
        (1, "dog"): Pairs(both=1),
        (2, "dog"): Pairs(neither=1, challenger_only=1),
    }


def test_champion_with_classes_in_another_order_is_compared_by_their_names(tmp_path: Path) -> None:
    challenger = a_model(tmp_path / "new", CHALLENGER, ["cat", "dog", "ship"])
    champion = a_model(tmp_path / "old", CHAMPION, ["ship", "cat", "dog"])
    file = records(tmp_path / "a", (1, 0, "01"), (1, 1, "12"), (1, 2, "20"), (1, 0, "00"))
    found = count([file], challenger, champion).tests
    assert found == {(1, "cat"): Pairs(both=1, challenger_only=1), (1, "dog"): Pairs(1), (1, "ship"): Pairs(1)}


def test_classes_of_two_models_are_compared_in_nfc(tmp_path: Path) -> None:
    challenger = a_model(tmp_path / "new", CHALLENGER, ["cat", normalize("NFC", "bär")])
    champion = a_model(tmp_path / "old", CHAMPION, [normalize("NFD", "bär"), "cat"])
    file = records(tmp_path / "a", (1, 0, "01"), (1, 1, "10"))
    assert count([file], challenger, champion).tests == {
        (1, "cat"): Pairs(1),
        (1, normalize("NFC", "bär")): Pairs(1),
    }


def test_champion_is_wrong_on_a_class_that_it_does_not_know(tmp_path: Path) -> None:
    challenger = a_model(tmp_path / "new", CHALLENGER, ["cat", "dog", "ship"])
    champion = a_model(tmp_path / "old", CHAMPION, ["bird", "cat"])
    file = records(tmp_path / "a", (1, 2, "20"), (1, 2, "21"), (1, 0, "00"), (1, 0, "21"))
    found = count([file], challenger, champion).tests
    assert found == {(1, "ship"): Pairs(challenger_only=2), (1, "cat"): Pairs(challenger_only=1, champion_only=1)}


def test_without_a_champion_it_is_wrong_everywhere(tmp_path: Path) -> None:
    file = records(tmp_path / "a", (1, 0, "00"), (1, 0, "10"))
    found = count([file], a_model(tmp_path / "new", CHALLENGER, ["cat", "dog"])).tests
    assert found == {(1, "cat"): Pairs(challenger_only=1, neither=1)}


def test_probabilities_that_are_no_numbers_are_wrong(tmp_path: Path) -> None:
    challenger = a_model(tmp_path / "new", CHALLENGER, ["cat", "dog"])
    champion = a_model(tmp_path / "old", CHAMPION, ["cat", "dog"])
    file = records(tmp_path / "a", (1, 0, "x0"), (1, 0, "0x"), (1, 1, "1x"))
    found = count([file], challenger, champion).tests
    assert found == {(1, "cat"): Pairs(challenger_only=1, champion_only=1), (1, "dog"): Pairs(challenger_only=1)}


def test_profile_of_the_challenger_has_no_predictions_that_are_no_numbers(tmp_path: Path) -> None:
    challenger = a_model(tmp_path / "new", CHALLENGER, ["cat", "dog"])
    file = records(tmp_path / "a", (1, 0, "00"), (1, 1, "01"), (2, 0, "11"), (2, 0, "x0"))
    assert count([file], challenger).profile == Profile.of({"cat": 2, "dog": 1}, [1, 1, 1], np.eye(2)[[0, 0, 1]])


def test_every_record_of_every_file_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_comparison, "BATCH_IMAGES", 3)
    challenger = a_model(tmp_path / "new", CHALLENGER, ["cat", "dog"])
    plain = records(tmp_path / "a", *[(1, 0, "00")] * 7)
    packed = tmp_path / "b.gz"
    with tf.io.TFRecordWriter(str(packed), "GZIP") as writer:
        for record in tf.data.TFRecordDataset(records(tmp_path / "c", *[(2, 1, "00")] * 4)):
            writer.write(record.numpy())
    assert count([plain, str(packed)], challenger).tests == {
        (1, "cat"): Pairs(challenger_only=7),
        (2, "dog"): Pairs(neither=4),
    }


def test_champion_that_shares_no_class_is_refused(tmp_path: Path) -> None:
    challenger = a_model(tmp_path / "new", CHALLENGER, ["cat", "dog"])
    champion = a_model(tmp_path / "old", CHAMPION, ["ship", "plane"])
    with pytest.raises(AdaptationError, match=r"knows the classes ship, plane, the challenger cat, dog: none"):
        count([], challenger, champion)


@pytest.mark.parametrize("spec", [None, b"{}", b"["], ids=["missing", "without labels", "damaged"])
def test_champion_that_does_not_name_its_classes_is_refused(tmp_path: Path, spec: bytes | None) -> None:
    champion = Path(a_model(tmp_path / "old", CHAMPION, ["cat", "dog"]))
    (champion / "assets.extra" / "spec.json").unlink()
    if spec is not None:
        (champion / "assets.extra" / "spec.json").write_bytes(spec)
    with pytest.raises(AdaptationError, match="does not name its classes"):
        count([], a_model(tmp_path / "new", CHALLENGER, ["cat", "dog"]), str(champion))


def test_model_with_another_number_of_outputs_than_names_is_refused(tmp_path: Path) -> None:
    file = records(tmp_path / "a", (1, 0, "00"))
    challenger = a_model(tmp_path / "new", CHALLENGER, ["cat", "dog"])
    champion = a_model(tmp_path / "old", CHAMPION, ["cat", "dog"], classes=3)
    with pytest.raises(AdaptationError, match="3 outputs, but .* names 2"):
        count([file], challenger, champion)


@pytest.mark.parametrize("version", [0, 4])
def test_component_writes_the_counts_of_all_files(tmp_path: Path, run: Any, version: int) -> None:
    a_model(tmp_path / "new" / "Format-Serving", CHALLENGER, ["cat", "dog"])
    if version:
        a_model(tmp_path / "old" / "Format-Serving", CHAMPION, ["cat", "dog"])
    for number in range(2):
        records(tmp_path / "examples" / "Split-eval" / f"span-{number}", (number + 1, 0, "00"), (1, 1, "10"))
    records(tmp_path / "examples" / "Split-train" / "span-1", (1, 0, "00"))
    examples, model, champion = (
        tfx.dsl.Importer(source_uri=str(tmp_path / name), artifact_type=kind, reimport=True, **more).with_id(name)
        for name, kind, more in [
            ("examples", Examples, {"properties": {"split_names": '["train", "eval"]'}}),
            ("new", Model, {}),
            ("old", Model, {"custom_properties": {"version": version}}),
        ]
    )
    comparator = ModelComparator(
        examples=examples.outputs["result"], model=model.outputs["result"], champion=champion.outputs["result"]
    )
    output = run([examples, model, champion, comparator]).outputs["ModelComparator", "comparison"]
    cat = Pairs(both=1) if version else Pairs(challenger_only=1)
    assert codec.read(f"{output.uri}/pairs.json", Comparison) == Comparison.of(
        version, {(1, "cat"): cat, (2, "cat"): cat, (1, "dog"): Pairs(challenger_only=2)}
    )
    reference = codec.read(f"{output.uri}/reference.json", Reference)
    assert reference.profile == Profile.of({"cat": 2, "dog": 2}, [1] * 4, np.eye(2)[[0, 0, 1, 1]])
    assert reference.recalls == {"cat": Recall(2, 2), "dog": Recall(2, 2)}


def test_champion_in_a_bucket_is_compared_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_model(tmp_path / "model" / "Format-Serving", CHALLENGER, ["cat", "dog"])
    a_model(tmp_path / "registered", CHAMPION, ["dog", "cat"])
    records(tmp_path / "examples" / "Split-eval" / "span-1", (1, 0, "01"), (1, 0, "00"), (1, 1, "10"), (1, 1, "00"))
    with object_storage(monkeypatch) as objects, VertexEmulator() as vertex:
        platform = a_config(vertex)
        for file in storage.files_below(str(tmp_path)):
            storage.write(f"{ROOT}/{file.name}", (tmp_path / file.name).read_bytes())
        registry = connect(platform).registry
        registry.promote(registry.upload(Upload(f"{ROOT}/registered", "key", (1,), {}, "", "")), "because")
        with TlsProxy(dict.fromkeys(STORAGE_HOSTS, objects.url)) as proxy:
            command = [sys.executable, "-c", ON_CLOUD, platform.to_json(), ROOT]
            environment = os.environ | proxy.environment()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
            assert done.returncode == 0, done.stderr
        compared = codec.read(f"{ROOT}/comparison/pairs.json", Comparison)
        reference = codec.read(f"{ROOT}/comparison/reference.json", Reference)
    assert reference.profile == Profile.of({"cat": 3, "dog": 1}, [1] * 4, np.eye(2)[[0, 0, 0, 1]])
    assert compared == Comparison.of(
        1, {(1, "cat"): Pairs(both=1, challenger_only=1), (1, "dog"): Pairs(both=1, champion_only=1)}
    )
