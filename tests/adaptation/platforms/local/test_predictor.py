"""Local batch prediction, with a real SavedModel that classifies images as bright or dark."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptation import progress
from adaptation.errors import AdaptationError
from adaptation.platforms.base import NoSuchModel, Upload
from adaptation.platforms.local import LocalPredictor, LocalRegistry, predictor
from tests.worlds.images import grey


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Save a model that predicts `bright`, with the image's mean brightness as the confidence, or `dark`."""
    import tensorflow as tf

    folder = str(tmp_path_factory.mktemp("model") / "saved")
    module = tf.Module()
    module.middle = tf.Variable(127.5)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes: Any) -> dict[str, Any]:
        def brightness(data: Any) -> Any:
            return tf.reduce_mean(tf.cast(tf.io.decode_image(data, channels=1, expand_animations=False), tf.float32))

        mean = tf.map_fn(brightness, image_bytes, fn_output_signature=tf.float32)
        return {"label": tf.where(mean > module.middle, "bright", "dark"), "confidence": mean / 255.0}

    module.serve = serve
    tf.saved_model.save(module, folder, signatures={"serving_default": serve})
    return folder


@pytest.fixture
def registry(tmp_path: Path, saved_model: str) -> LocalRegistry:
    registry = LocalRegistry(str(tmp_path / "registry"))
    for key in ("first", "second"):
        registry.upload(Upload(saved_model, key, (1,), {}, "", ""))
    registry.promote(registry.find("2"), "because")
    return registry


@pytest.fixture
def messages() -> Iterator[list[str]]:
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    progress.LOGGER.addHandler(handler)
    progress.LOGGER.setLevel(logging.INFO)
    yield heard
    progress.LOGGER.removeHandler(handler)


def images(folder: Path, **contents: bytes) -> list[str]:
    folder.mkdir(exist_ok=True)
    for name, data in contents.items():
        (folder / f"{name}.png").write_bytes(data)
    return [str(folder / f"{name}.png") for name in contents]


def predict(registry: LocalRegistry, tmp_path: Path, uris: list[str], model: str = "champion") -> Path:
    file_list = tmp_path / "files.txt"
    file_list.write_text("".join(f"{uri}\n" for uri in uris))
    return Path(LocalPredictor(registry).predict(str(file_list), str(tmp_path / "predictions"), model))


def lines(folder: Path, kind: str) -> list[Any]:
    return [json.loads(line) for file in sorted(folder.glob(f"{kind}-*")) for line in file.read_text().splitlines()]


def predicted(folder: Path) -> dict[str, str]:
    return {line["instance"]: line["prediction"]["label"] for line in lines(folder, "prediction.results")}


def refused(folder: Path) -> dict[str, tuple[int, str]]:
    found = lines(folder, "prediction.errors_stats")
    return {line["instance"]: (line["error"]["code"], line["error"]["message"]) for line in found}


def test_images_get_their_label_and_confidence(tmp_path: Path, registry: LocalRegistry) -> None:
    bright, dark = images(tmp_path / "images", bright=grey(255), dark=grey(51))
    folder = predict(registry, tmp_path, [dark, bright])
    assert lines(folder, "prediction.results") == [
        {"instance": dark, "prediction": {"label": "dark", "confidence": pytest.approx(0.2)}},
        {"instance": bright, "prediction": {"label": "bright", "confidence": pytest.approx(1.0)}},
    ]
    assert refused(folder) == {}


def test_results_folder_names_the_version_behind_the_alias(tmp_path: Path, registry: LocalRegistry) -> None:
    uris = images(tmp_path / "images", bright=grey(255))
    assert predict(registry, tmp_path, uris).name.startswith("prediction-version-2-")
    assert predict(registry, tmp_path, uris, "1").name.startswith("prediction-version-1-")


def test_probabilities_are_written_if_the_signature_gives_them(tmp_path: Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes: Any) -> dict[str, Any]:
        count = tf.shape(image_bytes)[0]
        probabilities = tf.tile(tf.constant([[0.1234, 0.8766]], tf.float64), [count, 1])
        return {"label": tf.fill([count], "dark"), "confidence": tf.ones([count]), "probabilities": probabilities}

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": serve})
    registry = LocalRegistry(str(tmp_path / "registry"))
    registry.promote(registry.upload(Upload(str(tmp_path / "model"), "first", (1,), {}, "", "")), "because")
    folder = predict(registry, tmp_path, images(tmp_path / "images", one=grey(0), two=grey(9)))
    predictions = [line["prediction"] for line in lines(folder, "prediction.results")]
    assert predictions == [{"label": "dark", "confidence": 1.0, "probabilities": [0.1234, 0.8766]}] * 2


def test_undecodable_images_do_not_affect_the_others(
    tmp_path: Path, registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "BATCH_IMAGES", 8)
    good = images(tmp_path / "images", **{f"good_{number}": grey(255) for number in range(17)})
    text, empty, cut = images(tmp_path / "images", text=b"not an image", empty=b"", cut=grey(255)[:30])
    folder = predict(registry, tmp_path, [text, *good[:11], empty, cut, *good[11:]])
    assert predicted(folder) == dict.fromkeys(good, "bright")
    assert {uri: code for uri, (code, _) in refused(folder).items()} == dict.fromkeys([text, empty, cut], 3)
    assert all("could not be predicted" in message for _, message in refused(folder).values())


def test_unreadable_images_do_not_affect_the_others(tmp_path: Path, registry: LocalRegistry) -> None:
    good, gone = images(tmp_path / "images", good=grey(0), gone=grey(0))
    os.unlink(gone)
    folder = predict(registry, tmp_path, [gone, good])
    assert predicted(folder) == {good: "dark"}
    code, message = refused(folder)[gone]
    assert (code, "could not be read" in message) == (5, True)


def test_list_of_only_bad_images_gives_their_errors(tmp_path: Path, registry: LocalRegistry) -> None:
    bad = images(tmp_path / "images", one=b"", two=b"")
    folder = predict(registry, tmp_path, [*bad, str(tmp_path / "missing.png")])
    assert predicted(folder) == {}
    assert len(refused(folder)) == 3


def test_batches_are_bounded_in_number_and_in_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uris = images(tmp_path / "images", **{f"n{number}": b"x" * 10 for number in range(7)})
    monkeypatch.setattr(predictor, "BATCH_IMAGES", 3)
    assert [len(batch) for batch in predictor._batches(uris)] == [3, 3, 1]
    monkeypatch.setattr(predictor, "BATCH_BYTES", 20)
    assert [len(batch) for batch in predictor._batches(uris)] == [2, 2, 2, 1]


def test_progress_counts_the_images(
    tmp_path: Path, registry: LocalRegistry, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "BATCH_IMAGES", 600)
    uris = images(tmp_path / "images", **{f"n{number}": grey(0) for number in range(1100)})
    predict(registry, tmp_path, uris)
    assert messages == ["predicted 600 of 1,100", "predicted 1,100 of 1,100"]


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_file_list_is_refused(tmp_path: Path, registry: LocalRegistry, content: str) -> None:
    (tmp_path / "files.txt").write_text(content)
    with pytest.raises(AdaptationError, match="files.txt names no image"):
        LocalPredictor(registry).predict(str(tmp_path / "files.txt"), str(tmp_path / "predictions"))
    assert not (tmp_path / "predictions").exists()


def test_unknown_version_is_refused_before_anything_is_written(tmp_path: Path, registry: LocalRegistry) -> None:
    with pytest.raises(NoSuchModel, match="'7'"):
        predict(registry, tmp_path, images(tmp_path / "images", one=grey(0)), "7")
    assert not (tmp_path / "predictions").exists()


def test_prediction_that_fails_leaves_no_results(
    tmp_path: Path, registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = images(tmp_path / "images", **{f"n{number}": grey(0) for number in range(4)})
    monkeypatch.setattr(predictor, "BATCH_IMAGES", 2)

    def full_disk(message: str) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(predictor, "report", full_disk)
    with pytest.raises(OSError, match="No space"):
        predict(registry, tmp_path, uris)
    assert list((tmp_path / "predictions").iterdir()) == []
