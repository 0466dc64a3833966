"""A folder with images of all kinds, in a folder of an odd name, goes through the commands that README shows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from adaptation.data.batches import Batch
from pipeline.cli.main import cli
from pipeline.workspace.workspace import Workspace
from tests.docs.documents import document
from tests.worlds.images import contents, encoded
from tests.worlds.workspace import MONTH

KINDS = [
    ("L", "PNG", "scan {}.png"),
    ("RGB", "PNG", "{}.PNG"),
    ("L", "JPEG", "{} (1).jpg"),
    ("RGB", "JPEG", "{}.JPG"),
    ("RGB", "JPEG", "100% #{}.Jpeg"),
    ("RGBA", "PNG", "ümläut_{}.png"),
    ("P", "PNG", "[{}].png"),
]
CLASSES = {"dark cat": 40, "light": 200}
PER_CLASS = 42
CORRUPT = {"dark cat/cut off.png", "light/no image.JPG"}
SMALL = {"GATE__FLOOR": "0", "EVALUATION__THRESHOLD": "0.01", "MODEL__IMAGE_SIZE": "16", "MODEL__EPOCHS": "2"}
INIT, TRAIN, EVALUATE, REPORT = document("README.md").commands


def images(folder: Path, seed: int) -> None:
    """Write two classes of images of every kind, a text file among them, and two damaged images."""
    noise = np.random.default_rng(seed)
    for label, shade in CLASSES.items():
        (folder / label).mkdir(parents=True)
        for number, (mode, encoding, name) in enumerate(islice(cycle(KINDS), PER_CLASS)):
            size = (12 + number % 9, 16)
            pixels = noise.integers(shade - 30, shade + 30, (*size, 3)).astype(np.uint8)
            picture = Image.fromarray(pixels).convert(mode)
            (folder / label / name.format(number)).write_bytes(encoded(picture, encoding))
    (folder / "light" / "read me.txt").write_text("about the images")
    whole = (folder / "dark cat" / "scan 0.png").read_bytes()
    (folder / "dark cat" / "cut off.png").write_bytes(whole[: len(whole) // 2])
    (folder / "light" / "no image.JPG").write_text("<html>not found</html>")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace made from such a folder; both are in the current folder."""
    folder = tmp_path_factory.mktemp("odd") / "100% #1 (\u00fcml\u00e4ut)"
    folder.mkdir()
    images(folder / "images", seed=0)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in SMALL.items():
            patched.setenv(f"ADAPT_{name}", value)
        patched.chdir(folder)
        done(INIT)
        yield folder / "shop"


def done(command: list[str]) -> str:
    """Run a command of README and return its output."""
    result = CliRunner().invoke(cli, command[1:])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_span_has_all_usable_images_and_names_the_others(shop: Path) -> None:
    (manifest,) = (store := Workspace.open(shop).spans).manifests(store.spans())
    counts = {label: sum(manifest.counts[split][label] for split in manifest.counts) for label in manifest.labels}
    assert counts == dict.fromkeys(CLASSES, PER_CLASS)
    assert {skipped.name for skipped in manifest.skipped} == CORRUPT


def test_training_and_evaluation_use_images_of_all_kinds(shop: Path) -> None:
    assert "version 1 is the champion" in done(TRAIN)
    batch = shop / "collection" / MONTH
    images(batch, seed=1)
    before = contents(batch)
    done(EVALUATE)
    workspace = Workspace.open(shop)
    result = workspace.jobs.list()[-1].result
    assert (result["images"], result["retrain"]) == (len(CLASSES) * PER_CLASS, False)
    assert contents(batch) == before
    evaluated = {image.name for image in workspace.batches.evaluated(Batch.parse(MONTH))}
    assert evaluated == {name for name in before if not name.endswith(".txt")}
    done(REPORT)
    assert MONTH in (shop.parent / "report.html").read_text()
