"""The corpus: the check, training, serving, prediction, report and contact sheet agree on every kind of image."""

from __future__ import annotations

import base64
import io
import random
import re
import struct
import zlib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from adaptation.data import decoding
from adaptation.data.image_check import image_problem
from adaptation.data.tfrecords import LabelledImage
from adaptation.evaluation.prediction_results import read_predictions
from adaptation.io import storage
from adaptation.platforms.base import Upload
from adaptation.platforms.local import LocalPredictor, LocalRegistry
from models import data, trainer
from models.decoding import decode_pixels
from models.export import export
from models.recipe import training_spec
from pipeline.report.thumbnails import picture
from pipeline.review.contact_sheet import Picture, write_sheets
from tests.images import make
from tests.worlds.images import image

FILES = sorted(file for file in make.FOLDER.iterdir() if file.suffix in (".jpg", ".png"))
CONTENT = {file.name: file.read_bytes() for file in FILES}
TAKEN = [name for name, content in CONTENT.items() if image_problem(content) is None]
LEFT_OUT = [name for name in CONTENT if name not in TAKEN]
CMYK_IN_JFIF = "jpeg-cmyk-in-jfif.jpg"  # a colour model predicts it, a grey one does not
DAMAGED = 1_500
LOST = 25  # of 255, by the thumbnails' encoding
ROW = re.compile(r"^\| (`.*`) \| .* \| (.*) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def spec() -> data.TrainingSpec:
    return training_spec("digits", ("cat", "dog"), image_size=16)


@pytest.fixture(scope="module")
def model(spec: data.TrainingSpec) -> keras.Model:
    keras.utils.set_random_seed(1)
    return trainer.initial_model(spec)


@pytest.fixture(scope="module")
def exported(model: keras.Model, spec: data.TrainingSpec, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("model") / "saved")
    export(model, spec, folder)
    return folder


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def decoded(request: pytest.FixtureRequest) -> Callable[[bytes], np.ndarray | None]:
    """Return TensorFlow's decoding in a graph, as in an input pipeline; its result is None for an error."""
    channels = request.param
    graph = tf.function(lambda image: decode_pixels(image, channels), input_signature=[tf.TensorSpec([], tf.string)])

    def decode(content: bytes) -> np.ndarray | None:
        try:
            return graph(tf.constant(content)).numpy()
        except tf.errors.InvalidArgumentError:
            return None

    return decode


def distance(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


def shown(content: bytes) -> np.ndarray:
    return np.asarray(decoding.decode(content))


def blocks(pixels: np.ndarray) -> np.ndarray:
    """Return the means of 8 x 8 pixels: thumbnails are encoded with losses."""
    height, width, _ = pixels.shape
    return pixels.reshape(height // 8, 8, width // 8, 8, 3).mean(axis=(1, 3))


def in_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    return pixels if channels == 3 else np.asarray(Image.fromarray(pixels).convert("L"))[..., np.newaxis]


def opened(source: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as opened:
        return np.asarray(opened.convert("RGB"))


def test_table_in_the_documents_says_what_happens_to_each_file() -> None:
    rows = [
        (re.findall(r"`([^`]+)`", names), result) for names, result in ROW.findall(Path("docs/images.md").read_text())
    ]
    for name, content in CONTENT.items():
        results = [result for patterns, result in rows if any(fnmatch(name, pattern) for pattern in patterns)]
        named = [result for patterns, result in rows if name in patterns]
        (result,) = named or results
        problem = image_problem(content)
        assert result.startswith("taken") if problem is None else result == f"left out: {problem}", name
    for patterns, _ in rows[1:]:
        assert all(any(fnmatch(name, pattern) for name in CONTENT) for pattern in patterns), patterns


@pytest.mark.parametrize("name", TAKEN)
def test_training_decodes_what_is_taken_to_the_pixels_shown(
    name: str, decoded: Callable[[bytes], np.ndarray | None]
) -> None:
    pixels = decoded(CONTENT[name])
    assert pixels is not None
    assert distance(pixels, in_channels(shown(CONTENT[name]), pixels.shape[-1])) <= decoding.TOLERANCE


@pytest.mark.parametrize("name", LEFT_OUT)
def test_training_refuses_what_is_left_out(name: str, decoded: Callable[[bytes], np.ndarray | None]) -> None:
    assert decoded(CONTENT[name]) is None or name == CMYK_IN_JFIF


@pytest.mark.parametrize("name", ["jpeg-colour.jpg", "jpeg-grey.jpg", "png-colour-8.png", "png-grey-8.png"])
def test_ordinary_images_have_the_pixels_of_tensorflows_own_decoding(
    name: str, decoded: Callable[[bytes], np.ndarray | None]
) -> None:
    pixels = decoded(CONTENT[name])
    assert pixels is not None
    assert np.array_equal(tf.io.decode_image(CONTENT[name], channels=pixels.shape[-1]), pixels)


def test_training_batches_hold_everything_taken(spec: data.TrainingSpec, tmp_path: Path) -> None:
    records = [LabelledImage(CONTENT[name], 0, name, 1).to_record() for name in TAKEN]
    (tmp_path / "a.tfrecord").write_bytes(b"".join(records))
    found = data.find_records([str(tmp_path / "a.tfrecord")], spec)
    assert sum(len(labels) for _, labels in data.training_batches(found, spec)) == len(TAKEN)


def test_prediction_refuses_exactly_what_is_left_out(exported: str, tmp_path: Path) -> None:
    registry = LocalRegistry(str(tmp_path / "registry"))
    registry.upload(Upload(exported, "key", (1,), {}, "", ""))
    registry.promote(registry.find("1"), "because")
    (tmp_path / "files.txt").write_text("".join(f"{file}\n" for file in FILES))
    folder = LocalPredictor(registry).predict(str(tmp_path / "files.txt"), str(tmp_path / "predictions"))
    rows = [row for frame in read_predictions(folder) for row in frame.iter_rows(named=True)]
    assert sorted(Path(row["image"]).name for row in rows if row["error"] is None) == TAKEN
    assert sorted(Path(row["image"]).name for row in rows if row["error"]) == LEFT_OUT


def test_serving_sees_the_pixels_of_training(exported: str, model: keras.Model, spec: data.TrainingSpec) -> None:
    contents = [CONTENT[name] for name in TAKEN]
    served = tf.saved_model.load(exported).signatures["serving_default"](image_bytes=tf.constant(contents))
    pixels = np.stack([data.decode(tf.constant(content), spec) for content in contents])
    probabilities = model.predict(pixels.astype(np.float32), verbose=0)
    assert np.allclose(served["confidence"], probabilities.max(axis=1), atol=1e-4)


@pytest.mark.parametrize("name", CONTENT)
def test_report_shows_what_the_model_sees(name: str) -> None:
    found = picture(CONTENT[name], name, "cat")
    assert (found is None) == (name in LEFT_OUT)
    if found:
        assert distance(blocks(opened(found.source)), blocks(shown(CONTENT[name]))) < LOST


def test_contact_sheet_shows_what_the_model_sees(tmp_path: Path) -> None:
    pictures = [
        Picture(row, storage.absolute(str(file)), file.stat().st_size, file.name, "") for row, file in enumerate(FILES)
    ]
    (sheet,) = write_sheets(tmp_path, "corpus", pictures)
    page = sheet.read_text()
    sources = dict(map(reversed, re.findall(r'<img src="([^"]+)" alt="([^"]+)">', page)))
    assert sorted(sources) == TAKEN
    for name, source in sources.items():
        assert distance(blocks(opened(source)), blocks(shown(CONTENT[name]))) < LOST, name
    assert page.count('class="damaged"') == len(LEFT_OUT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photo_is_turned_as_its_exif_says(orientation: int) -> None:
    content = CONTENT[f"jpeg-exif-{orientation}.jpg"]
    reference = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert distance(shown(content), reference) <= 8  # Pillow's own computation of JPEG
    assert shown(content).shape == ((16, 24, 3) if orientation < 5 else (24, 16, 3))


def test_shape_in_an_alpha_channel_is_over_white() -> None:
    pixels = shown(CONTENT["png-shape-in-alpha.png"])
    assert (pixels[4:12, 6:14] == 0).all()
    assert pixels.mean() > 200


def test_16_bits_are_as_bright_as_8() -> None:
    for kind in ("grey", "colour", "grey-alpha", "colour-alpha"):
        assert distance(shown(CONTENT[f"png-{kind}-16.png"]), shown(CONTENT[f"png-{kind}-8.png"])) <= 1


def test_first_picture_of_several_is_taken() -> None:
    for name in ("jpeg-mpo.jpg", "png-animated.png"):
        assert distance(blocks(shown(CONTENT[name])), blocks(make.scene())) < LOST


def test_large_photo_is_decoded_smaller_and_upright_for_a_thumbnail() -> None:
    content = image("large", "JPEG", (640, 480), exif=make.exif(6))
    small = decoding.decode(content, edge=100)
    assert small.size == (120, 160)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_file_that_is_taken_is_decoded_by_tensorflow(
    seed: int, decoded: Callable[[bytes], np.ndarray | None]
) -> None:
    chance = random.Random(seed)
    files = [damaged(CONTENT[chance.choice(TAKEN)], chance) for _ in range(DAMAGED // 3)]
    taken = [file for file in files if image_problem(file) is None]
    assert [file for file in taken if decoded(file) is None] == []
    assert len(taken) > len(files) / 20


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return the file cut off, with a bit flipped, a byte replaced, bytes left out or put in; PNG with right sums."""
    place = chance.randrange(len(content))
    match chance.randrange(5):
        case 0:
            broken = content[:place]
        case 1:
            broken = content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
        case 2:
            broken = content[:place] + chance.randbytes(1) + content[place + 1 :]
        case 3:
            broken = content[:place] + content[place + chance.randrange(1, 30) :]
        case _:
            broken = content[:place] + chance.randbytes(chance.randrange(1, 20)) + content[place:]
    return summed(broken) if broken.startswith(decoding.PNG) and chance.random() < 0.8 else broken


def summed(content: bytes) -> bytes:
    """Return the PNG with right checksums, so that its damage is looked at."""
    parts, place = [content[:8]], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        chunk = content[place + 4 : place + 8 + length]
        parts.append(content[place : place + 4] + chunk + struct.pack(">I", zlib.crc32(chunk)))
        place += 12 + length
    return b"".join(parts)
