"""The settings file: what is read, what is refused with which message, and what a new workspace gets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from adaptation.errors import AlreadyExists
from pipeline.workspace.settings import Settings, declared
from pipeline.workspace.settings_file import (
    LAST_LINE,
    RENAMED,
    SECTIONS,
    InvalidSettings,
    NoSettings,
    is_whole,
    load,
    render,
    service_variables,
    write_settings,
)

EXAMPLES = Path(__file__).parents[2] / "settings"
VALID = sorted((EXAMPLES / "valid").glob("*.toml"))
INVALID = sorted((EXAMPLES / "invalid").glob("*.toml"))
LABELS = '[labels]\nnames = ["cat", "dog"]\n'


@pytest.fixture(autouse=True)
def no_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("ADAPT_")]:
        monkeypatch.delenv(name)


def settings_file(folder: Path, text: str = LABELS) -> Path:
    file = folder / "adapt.toml"
    file.write_text(text)
    return file


def values(settings: Settings) -> dict[str, object]:
    return settings.model_dump()


def flat(found: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings by their dotted names."""
    return {
        name: setting
        for key, value in found.items()
        for name, setting in (
            flat(value, f"{prefix}{key}.") if prefix + key in SECTIONS else {prefix + key: value}
        ).items()
    }


def refusal(file: Path) -> str:
    with pytest.raises(InvalidSettings) as refused:
        load(file)
    return str(refused.value)


def names(files: list[Path]) -> list[str]:
    return [file.stem for file in files]


@pytest.mark.parametrize("file", VALID, ids=names(VALID))
def test_valid_file_is_read(file: Path) -> None:
    assert load(file).file == file


@pytest.mark.parametrize("file", INVALID, ids=names(INVALID))
def test_invalid_file_is_refused_with_the_message_of_its_first_line(file: Path) -> None:
    expected = file.read_bytes().splitlines()[0].decode().removeprefix("# expects: ")
    message = refusal(file)
    assert expected in message
    assert str(file) in message


def test_setting_that_the_file_omits_has_its_default(tmp_path: Path) -> None:
    settings = load(settings_file(tmp_path))
    assert (settings.evaluation.threshold, settings.evaluation.rule) == (0.9, "evidence")
    assert (settings.collection.min_images, settings.data.test_ratio, settings.training.window) == (100, 0.2, "all")
    assert (settings.model.epochs, settings.labels.file) == (None, "")


def test_settings_of_the_file_are_all_read() -> None:
    settings = load(EXAMPLES / "valid" / "every_setting.toml")
    default = load(EXAMPLES / "valid" / "minimal.toml")
    given, defaults = flat(values(settings)), flat(values(default))
    by_default = [key for key in given if given[key] == defaults.get(key)]
    assert by_default == ["labels.pattern"]  # another source's than labels.file
    assert settings.labels.names == ("ship", "traffic_light", "été")


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_setting_of_0_1_0_is_read_by_its_old_name(tmp_path: Path, old: str, new: str) -> None:
    given = flat(values(load(EXAMPLES / "valid" / "every_setting.toml")))[new]
    settings = load(settings_file(tmp_path, f"{old} = {json.dumps(given)}\n{LABELS}"))
    assert flat(values(settings))[new] == given


def test_relative_folders_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    text = (
        LABELS + 'source = "file"\nfile = "labels.csv"\n[model]\nweights = "w/start.h5"\n[platform]\nroot = "../work"\n'
    )
    settings_file(tmp_path, text)
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = load("../adapt.toml")
    assert settings.data.root == f"{tmp_path}/data"
    assert settings.collection.root == f"{tmp_path}/collection"
    assert settings.labels.file == f"{tmp_path}/labels.csv"
    assert settings.model.weights == f"{tmp_path}/w/start.h5"
    assert settings.platform.root == f"{tmp_path.parent}/work"
    assert settings.file == tmp_path / "adapt.toml"


@pytest.mark.parametrize("name", ["a [1]", "all*", "what?", "back\\\\slash", "a]"])
def test_folder_whose_path_is_a_pattern_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InvalidSettings, match=re.escape(f"platform.root = {str(tmp_path / name)!r}")):
        load(settings_file(tmp_path / name))
    elsewhere = f'platform.root = "{tmp_path}/work"\n{LABELS}'
    assert load(settings_file(tmp_path / name, elsewhere)).data.root == f"{tmp_path / name}/data"
    with pytest.raises(InvalidSettings, match="data.root = "):
        load(settings_file(tmp_path / name, f'training.ingestion = "import"\n{elsewhere}'))


@pytest.mark.parametrize("name", ["100% #1", "\u00fcml\u00e4ut", "it's", "a,b;c{d}(e)$f&g"])
def test_folder_with_other_odd_characters_is_accepted(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert load(settings_file(tmp_path / name)).platform.root == str(tmp_path / name)


def test_absolute_folders_and_buckets_are_unchanged(tmp_path: Path) -> None:
    text = LABELS + '[data]\nroot = "gs://bucket/data"\n[collection]\nroot = "/srv/collected"\n'
    settings = load(settings_file(tmp_path, text))
    assert (settings.data.root, settings.collection.root) == ("gs://bucket/data", "/srv/collected")


def test_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert load(settings_file(tmp_path, LABELS + '[data]\nroot = "~/data"\n')).data.root == "/home/ada/data"


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_names_of_weights_are_not_taken_for_folders(tmp_path: Path, weights: str) -> None:
    assert load(settings_file(tmp_path, LABELS + f'[model]\nweights = "{weights}"\n')).model.weights == weights


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ADAPT_MODEL", "cifar", "model is a section. Give each of its settings a variable, like ADAPT_MODEL__NAME"),
        ("ADAPT_VERTEX__SERVING", "n1", "vertex.serving is a section. Give each"),
        ("ADAPT_VERTEX__LABELS", "team", 'a table is written as JSON, like {"team": "vision"}'),
        ("ADAPT_LABELS__NAMES", "cat,dog", 'a list is written as JSON, like ["cat", "dog"]'),
    ],
)
def test_variable_that_is_no_text_says_how_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert f"{variable} = {value!r}: {words}" in refusal(settings_file(tmp_path))


def test_table_given_as_text_is_named_as_a_section(tmp_path: Path) -> None:
    assert "should be a section, written [model]" in refusal(settings_file(tmp_path, f'model = "cifar"\n{LABELS}'))


SERVICE = {
    "ADAPT_SERVICE_HOST": "10.0.0.11",
    "ADAPT_SERVICE_PORT": "8080",
    "ADAPT_SERVICE_PORT_HTTP": "8080",
    "ADAPT_PORT": "tcp://10.0.0.11:8080",
    "ADAPT_PORT_8080_TCP": "tcp://10.0.0.11:8080",
    "ADAPT_PORT_8080_TCP_PROTO": "tcp",
    "ADAPT_PORT_8080_TCP_PORT": "8080",
    "ADAPT_PORT_8080_TCP_ADDR": "10.0.0.11",
    "ADAPT_MODEL_SERVICE_HOST": "fd00::1",
}


def test_variables_of_a_kubernetes_service_are_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICE.items():
        monkeypatch.setenv(name, value)
    assert load(settings_file(tmp_path)) == load(settings_file(tmp_path))
    assert service_variables() == sorted(SERVICE)


@pytest.mark.parametrize("variable", ["ADAPT_VERTEX__CONTAINER__PORT", "ADAPT_PORTS", "ADAPT_PORT"])
def test_variable_that_only_looks_like_a_service_is_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "not a port")
    assert variable in refusal(settings_file(tmp_path))


def test_written_file_says_that_it_is_whole_and_half_of_it_does_not(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "adapt.toml", ["cat", "dog"])
    assert is_whole(file)
    lines = file.read_text().splitlines(keepends=True)
    for end in range(len(lines)):
        file.write_text("".join(lines[:end]))
        assert not is_whole(file)


def test_environment_overrides_single_settings_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_EVALUATION__THRESHOLD", "0.8")
    monkeypatch.setenv("ADAPT_NAME", "from-environment")
    monkeypatch.setenv("ADAPT_MODEL__CHANNELS", "3")
    monkeypatch.setenv("ADAPT_MODEL__WARM_START", "true")
    monkeypatch.setenv("ADAPT_LABELS__NAMES", '["ship", "truck"]')
    text = 'name = "from-file"\n' + LABELS + '[evaluation]\nthreshold = 0.5\nrule = "wilson"\n'
    settings = load(settings_file(tmp_path, text))
    assert (settings.evaluation.threshold, settings.evaluation.rule) == (0.8, "wilson")
    assert (settings.name, settings.labels.names) == ("from-environment", ("ship", "truck"))
    assert (settings.model.channels, settings.model.warm_start) == (3, True)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ADAPT_EVALUATION__THRESHOLD", "12", "evaluation.threshold = '12': should be less than or equal to 1"),
        ("ADAPT_EVALUATION__TRESHOLD", "0.8", "Did you mean evaluation.threshold?"),
        ("ADAPT_EVALUTION__THRESHOLD", "0.8", "Did you mean evaluation.threshold?"),
        ("ADAPT_EVALUATION_THRESHOLD", "0.8", "evaluation_threshold: there is no such setting"),
        ("ADAPT_NAME__FIRST", "x", "name.first: there is no such setting"),
        ("ADAPT_LABELS__NAMES", "cat,dog", "a list is written as JSON"),
    ],
)
def test_invalid_variable_is_refused_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    message = refusal(settings_file(tmp_path))
    assert expected in message
    assert variable in message


def test_problems_are_all_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_GATE__FLOOR", "12")
    text = 'nmae = "x"\n[labels]\nnames = ["cat"]\n[evaluation]\nthreshold = 2\nruel = "point"\n'
    problems = refusal(settings_file(tmp_path, text)).splitlines()[1:]
    assert [problem.split()[0].rstrip(":") for problem in problems] == [
        "nmae",
        "labels.names",
        "evaluation.threshold",
        "evaluation.ruel",
        "gate.floor",
    ]


def test_long_value_is_shortened_in_the_message(tmp_path: Path) -> None:
    message = refusal(settings_file(tmp_path, f'name = "{"A" * 10_000}"\n' + LABELS))
    assert "'AAAA" in message
    assert len(message) < 1_000


@pytest.mark.parametrize("missing", ["adapt.toml", "."])
def test_missing_file_is_reported_with_how_to_make_one(tmp_path: Path, missing: str) -> None:
    with pytest.raises(NoSettings, match="adapt init") as refused:
        load(tmp_path / missing)
    assert str(tmp_path) in str(refused.value)
    assert isinstance(refused.value, FileNotFoundError)


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = load(settings_file(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        settings.evaluation.threshold = 0.1  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        settings.name = "other"  # type: ignore[misc]


def test_new_file_holds_the_defaults_and_the_overrides(tmp_path: Path) -> None:
    overrides = {
        "name": "ships",
        "model.name": "cifar",
        "model.epochs": 3,
        "evaluation.threshold": 0.8,
        "gate.floor": None,
    }
    settings = load(write_settings(tmp_path / "new" / "adapt.toml", ["ship", "truck"], overrides))
    plain = load(settings_file(tmp_path / "new", '[labels]\nnames = ["ship", "truck"]\n'))
    expected = values(plain) | {"name": "ships"}
    expected["model"] |= {"name": "cifar", "epochs": 3}  # type: ignore[operator]
    expected["evaluation"] |= {"threshold": 0.8}  # type: ignore[operator]
    assert values(settings) == expected


def test_new_file_names_and_explains_every_setting() -> None:
    written = "\n" + render(["cat", "dog"]).removesuffix(f"\n{LAST_LINE}\n")
    top, *sections = re.split(r"\n# (.+)\n\[([\w.]+)\]\n", written)
    bodies = {name: (title, body) for title, name, body in zip(*[iter(sections)] * 3, strict=True)}
    assert explained(top, {"name": Settings.model_fields["name"]})
    assert list(bodies) == list(SECTIONS)
    for name, (title, body) in bodies.items():
        assert title == SECTIONS[name].__doc__
        fields = declared(SECTIONS[name]).items()
        assert explained(body, {key: field for key, field in fields if f"{name}.{key}" not in SECTIONS})


def explained(body: str, fields: Mapping[str, FieldInfo]) -> bool:
    """Check that each field, and nothing else, has its line: set to its value, or commented out if it has none."""
    lines = [line for line in body.splitlines() if line]
    for line, (key, field) in zip(lines, fields.items(), strict=True):
        setting, _, explanation = line.partition("  # ")
        assert setting.rstrip().startswith(f"# {key} =" if field.default is None else f"{key} = ")
        assert field.description and explanation.startswith(field.description)
    return True


def test_new_file_has_the_default_of_every_setting(tmp_path: Path) -> None:
    written = load(write_settings(tmp_path / "adapt.toml", ["cat", "dog"]))
    (tmp_path / "adapt.toml").write_text(LABELS)
    assert values(written) == values(load(tmp_path / "adapt.toml"))


def test_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    file = settings_file(tmp_path)
    with pytest.raises(AlreadyExists, match="exists. Edit it"):
        write_settings(file, ["a", "b"])
    assert file.read_text() == LABELS


def test_new_file_cannot_hold_an_unknown_key() -> None:
    with pytest.raises(InvalidSettings, match="Did you mean evaluation.threshold"):
        render(["cat", "dog"], {"evaluation.treshold": 0.8})


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=40, unique=True))
def test_label_names_of_any_script_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str]
) -> None:
    file = settings_file(tmp_path_factory.mktemp("labels"), "")
    file.write_text(render(labels), encoding="utf-8", newline="")
    assert load(file).labels.names == tuple(labels)
