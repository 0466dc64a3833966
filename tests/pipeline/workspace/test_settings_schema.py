"""The JSON schema of settings files: what it refuses, what it explains, and that it agrees with the settings."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from pipeline.cli.main import cli
from pipeline.workspace.settings import declared
from pipeline.workspace.settings_file import SECTIONS, load, render
from pipeline.workspace.settings_schema import settings_schema
from tests.pipeline.workspace.test_settings import INVALID, VALID, flat, names

NO_TOML = {"broken_toml", "key_twice", "not_utf8"}
BEYOND_A_SCHEMA = {
    "label_file_in_vain",  # two settings that do not go together
    "label_file_not_named",
    "label_without_a_name",  # a name of blanks
    "learning_rate_that_is_no_number",  # which is one to a schema
    "pattern_in_vain",
    "pattern_not_given",
    "pattern_without_a_label",  # a regular expression in a value
    "model",  # a path that a module might have
    "replicas_the_wrong_way_round",
    "topic_without_project",
    "webhook_without_https",
    "root_that_is_a_pattern",
    "window",
}


def faults(settings: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(settings_schema())
    return [error.message for error in validator.iter_errors(settings)]


def sections() -> dict[str, dict[str, Any]]:
    """Return the schema of each section by its dotted name."""
    schema = settings_schema()

    def below(prefix: str, found: dict[str, Any]) -> dict[str, dict[str, Any]]:
        named = {key: value["$ref"].rpartition("/")[2] for key, value in found["properties"].items() if "$ref" in value}
        parts = {prefix + key: schema["$defs"][name] for key, name in named.items()}
        return {name: part for key in parts for name, part in {key: parts[key], **below(f"{key}.", parts[key])}.items()}

    return below("", schema)


def test_schema_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(settings_schema())


@pytest.mark.parametrize("file", VALID, ids=names(VALID))
def test_schema_accepts_valid_files(file: Path) -> None:
    assert faults(tomllib.loads(file.read_text())) == []


@pytest.mark.parametrize("file", INVALID, ids=names(INVALID))
def test_schema_refuses_invalid_files_as_far_as_it_can(file: Path) -> None:
    if file.stem in NO_TOML:
        with pytest.raises((tomllib.TOMLDecodeError, UnicodeDecodeError)):
            tomllib.loads(file.read_text(encoding="utf-8"))
    else:
        assert bool(faults(tomllib.loads(file.read_text()))) is (file.stem not in BEYOND_A_SCHEMA)


def test_schema_accepts_a_new_file() -> None:
    assert faults(tomllib.loads(render(["cat", "dog"]))) == []


def test_schema_describes_every_setting() -> None:
    assert list(sections()) == list(SECTIONS)
    for name, section in sections().items():
        assert section["description"] == SECTIONS[name].__doc__
        described = {key: value.get("description") for key, value in section["properties"].items()}
        assert described == {key: field.description for key, field in declared(SECTIONS[name]).items()}


def test_schema_has_the_defaults_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "adapt.toml").write_text('[labels]\nnames = ["cat", "dog"]\n')
    settings = flat(load(tmp_path / "adapt.toml").model_dump(mode="json"))
    places = {"data.root", "collection.root", "platform.root", "labels.names"}
    for name, section in sections().items():
        for key, value in section["properties"].items():
            if f"{name}.{key}" not in places | set(SECTIONS):
                assert settings[f"{name}.{key}"] == value.get("default", {} if value.get("type") == "object" else None)


def test_schema_has_no_null_since_toml_has_none() -> None:
    assert "null" not in json.dumps(settings_schema())


def test_command_prints_the_schema() -> None:
    result = CliRunner().invoke(cli, ["settings", "schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == settings_schema()
