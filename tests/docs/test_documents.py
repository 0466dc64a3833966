"""The documents are true: what they name exists, and what they show runs."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from click.testing import CliRunner

from models.recipe import built_in_recipes, training_spec
from pipeline.cli.main import cli
from pipeline.workspace.settings_file import load
from tests.components.conftest import run, world
from tests.docs.documents import DOCUMENTS, PROJECT, Document, document
from tests.worlds.cloud import Cloud, a_cloud, done
from tests.worlds.components import ComponentWorld
from tests.worlds.images import collect

__all__ = ["run", "world"]  # fixtures of the components' tests, which the guide's own test takes
TARGETS = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def any_document(request: pytest.FixtureRequest) -> Document:
    return Document(request.param)


def test_documents_name_only_files_that_exist(any_document: Document) -> None:
    shown = {Path(name).name for name in any_document.files}
    places = (place for place in sorted(any_document.places) if Path(place).name not in shown)
    assert [place for place in places if not (PROJECT / place).exists()] == []


def test_documents_name_only_commands_and_options_that_exist(any_document: Document) -> None:
    unknown = [" ".join(words) for words in any_document.mentioned if not is_known(words)]
    assert unknown == []


def is_known(words: list[str]) -> bool:
    program, *arguments = words
    if program == "make":
        return all(word in TARGETS for word in arguments if "=" not in word and "/" not in word)
    command: click.Command = cli
    context = click.Context(cli)
    for word in arguments:
        if word.startswith("-"):
            names = {name for option in command.get_params(context) for name in option.opts}
            if word.partition("=")[0].strip("[]") not in names:
                return False
        elif isinstance(command, click.Group) and word in command.commands:
            command = command.commands[word]
        elif command is cli:
            return False
    return True


# The guide to components


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules of the guide to components, by the names of their files."""
    files = document("docs/components.md").files
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield {name: imported(tmp_path / name) for name in files}
    for name in files:
        sys.modules.pop(Path(name).stem, None)


def imported(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec and spec.loader
    module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_component_of_the_guide_passes_its_own_test(
    guide: dict[str, ModuleType], world: ComponentWorld, run: Any
) -> None:
    guide["test_class_counter.py"].test_images_are_counted_by_class(world, run)


def test_component_of_the_guide_and_its_test_are_short(guide: dict[str, ModuleType]) -> None:
    for text in document("docs/components.md").files.values():
        assert len(text.splitlines()) < 30


# The guide to Google Cloud


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A deployment with the guide's settings, and in it a span, a batch and a version."""
    with a_cloud(tmp_path / "shop", monkeypatch) as cloud:
        (cloud.folder / "adapt.toml").write_text(document("docs/google-cloud.md").files["adapt.toml"])
        monkeypatch.chdir(cloud.folder)
        cloud.publish_spans()
        cloud.collect(120)
        cloud.register()
        yield cloud


def test_guide_to_google_cloud_runs(cloud: Cloud) -> None:
    for program, *arguments in document("docs/google-cloud.md").commands:
        assert program == "adapt"
        done(cloud.adapt(*arguments))
    assert [job["labels"]["adaptation-pipeline"] for job in cloud.jobs()] == ["training"]


# The guide to your own model and data


def test_guide_to_own_data_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    collect(tmp_path / "images", [f"{label}/{number}.jpg" for label in ("hat", "shoe") for number in range(30)])
    shown = [done(CliRunner().invoke(cli, words)) for _, *words in document("docs/your-model-and-data.md").commands]
    assert "60 images" in shown[0]
    assert "span-1" in shown[1]
    assert load(tmp_path / "shop" / "adapt.toml").name == "shop"


def test_guide_to_own_models_lists_the_recipes_of_the_package() -> None:
    (table,) = re.findall(
        r"\| `model\.name` \|[^\n]*\n(.*?)\n\n", document("docs/your-model-and-data.md").text, re.DOTALL
    )
    assert sorted(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == list(built_in_recipes())


def test_model_of_the_guide_has_the_shapes_of_its_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((name, text),) = document("docs/your-model-and-data.md").files.items()
    (tmp_path / "small.py").write_text(text)
    spec = training_spec("digits", ("hat", "shoe"), image_size=20, channels=3)
    model = imported(tmp_path / "small.py").build_model(spec)
    assert (model.input_shape, model.output_shape) == ((None, 20, 20, 3), (None, 2))
    assert f'name = "{name.removesuffix(".py").replace("/", ".")}"' in document("docs/your-model-and-data.md").text
