"""What every command says where something is wrong. The commands are found, not listed: a new one is tried too."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pipeline.cli.main import cli
from pipeline.workspace.workspace import Workspace
from tests.worlds.images import contents

WITHOUT_SETTINGS = ("init", "demo", "doctor")


@dataclass(frozen=True)
class Found:
    """A command of the tree and the words that call it."""

    words: tuple[str, ...]
    command: click.Command

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def arguments(self) -> list[click.Parameter]:
        """What must be given."""
        return [parameter for parameter in self.command.params if parameter.required]

    @property
    def options(self) -> list[str]:
        """All long options."""
        return [name for parameter in self.command.params for name in parameter.opts if name.startswith("--")]

    def given(self, folder: Path) -> list[str]:
        """What must be given, each with a value that is taken."""
        return [word for parameter in self.arguments for word in given(parameter, folder)]


def given(parameter: click.Parameter, folder: Path) -> list[str]:
    """The words that give a parameter some value."""
    match parameter.type:
        case click.Choice() as choice:
            value = str(choice.choices[0])
        case click.Path(file_okay=False):
            value = str(folder)
        case click.Path():
            value = str(folder / "some.txt")
            Path(value).touch()
        case _:
            value = "1"
    return [value] if isinstance(parameter, click.Argument) else [parameter.opts[0], value]


def commands(tree: click.Command, *words: str) -> Iterator[Found]:
    """All commands below, groups too."""
    yield Found(words, tree)
    if isinstance(tree, click.Group):
        for name, command in tree.commands.items():
            yield from commands(command, *words, name)


EVERY = list(commands(cli))
GROUPS = [found for found in EVERY if isinstance(found.command, click.Group)]
LEAVES = [found for found in EVERY if not isinstance(found.command, click.Group)]
IN_WORKSPACE = [found for found in LEAVES if "--workspace" in found.options and found.words[0] not in WITHOUT_SETTINGS]
OPTIONS = [(found, option) for found in LEAVES for option in found.options]
PATHS = [
    (found, parameter)
    for found in LEAVES
    for parameter in found.command.params
    if isinstance(parameter.type, click.Path) and parameter.type.exists
]


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder without anything."""
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def adapt(*words: str) -> Result:
    return CliRunner().invoke(cli, words, prog_name="adapt")


def complaint(result: Result, code: int) -> str:
    """What it says on the error stream, and nowhere else, in words for a person."""
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert "Traceback" not in result.stderr
    assert "not foreseen" not in result.stderr
    return result.stderr


def test_the_commands_are_found() -> None:
    words = {str(found) for found in EVERY}
    assert {"init", "spans", "spans show", "review import", "settings schema"} <= words
    assert len(IN_WORKSPACE) > 15 and len(PATHS) > 2


@pytest.mark.parametrize("found", EVERY, ids=str)
def test_every_command_explains_itself(found: Found) -> None:
    result = adapt(*found.words, "--help")
    assert result.exit_code == 0
    assert found.command.help and "--debug" in result.stdout


@pytest.mark.parametrize("found", [found for found in LEAVES if found.arguments], ids=str)
def test_what_is_missing_is_named(found: Found) -> None:
    told = complaint(adapt(*found.words), code=2)
    name = found.arguments[0].make_metavar(click.Context(found.command))
    assert f"Missing argument '{name}'" in told or f"Missing option '{found.arguments[0].opts[0]}'" in told
    assert f"Try 'adapt {found} --help' for help." in told


@pytest.mark.parametrize(("found", "option"), OPTIONS, ids=str)
def test_a_typo_in_an_option_is_told_with_the_option_that_was_meant(found: Found, option: str, tmp_path: Path) -> None:
    typo = option[:-2] + option[-1] + option[-2] if option[-1] != option[-2] else option[:-1]
    told = complaint(adapt(*found.words, *found.given(tmp_path), typo), code=2)
    assert f"No such option '{typo}'" in told
    assert "Did you mean" in told and f"'{option}'" in told


@pytest.mark.parametrize("found", GROUPS, ids=str)
def test_a_typo_in_a_commands_name_is_told_with_the_one_that_was_meant(found: Found) -> None:
    assert isinstance(found.command, click.Group)
    for name in found.command.commands:
        told = complaint(adapt(*found.words, f"{name}e"), code=2)
        assert f"No such command '{name}e'" in told and f"'{name}'" in told.partition("Did you mean")[2]


@pytest.mark.parametrize(("found", "parameter"), PATHS, ids=lambda value: str(getattr(value, "name", value)))
def test_a_path_that_is_not_there_is_named(found: Found, parameter: click.Parameter, tmp_path: Path) -> None:
    others = [word for one in found.arguments if one is not parameter for word in given(one, tmp_path)]
    nowhere = str(tmp_path / "no" / "such")
    words = [nowhere] if isinstance(parameter, click.Argument) else [parameter.opts[0], nowhere]
    told = complaint(adapt(*found.words, *others, *words), code=2)
    assert nowhere in told and "does not exist" in told


@pytest.mark.parametrize("found", IN_WORKSPACE, ids=str)
@pytest.mark.parametrize("below", ["", "no/such/folder", "no/such.toml"])
def test_without_settings_every_command_tells_how_to_make_them(
    found: Found, below: str, empty: Path, tmp_path: Path
) -> None:
    told = complaint(adapt(*found.words, *found.given(tmp_path), "-w", str(empty / below)), code=1)
    assert told.startswith(f"NoSettings: there is no settings file {empty / below}")
    assert 'Make one with "adapt init"' in told
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("found", IN_WORKSPACE, ids=str)
def test_a_file_that_holds_no_settings_is_told(found: Found, empty: Path, tmp_path: Path) -> None:
    (empty / "notes.txt").write_text("buy milk")
    told = complaint(adapt(*found.words, *found.given(tmp_path), "-w", str(empty / "notes.txt")), code=1)
    assert told.startswith(f"InvalidSettings: {empty}/notes.txt is not written as TOML is")
    assert set(contents(empty)) == {"notes.txt"}


@pytest.mark.parametrize("found", IN_WORKSPACE, ids=str)
def test_settings_with_a_typo_stop_every_command(found: Found, empty: Path, tmp_path: Path) -> None:
    (empty / "adapt.toml").write_text('[labels]\nnames = ["ship", "truck"]\n[evaluation]\ntreshold = 0.8\n')
    told = complaint(adapt(*found.words, *found.given(tmp_path), "-w", str(empty)), code=1)
    assert told.startswith("InvalidSettings: ") and "Did you mean evaluation.threshold?" in told


@pytest.mark.parametrize("found", IN_WORKSPACE, ids=str)
def test_every_command_shows_its_traceback_on_request_alone(found: Found, empty: Path, tmp_path: Path) -> None:
    result = adapt(*found.words, *found.given(tmp_path), "--debug", "-w", str(empty))
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last)") and "NoSettings: " in result.stderr


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.EACCES, "Give yourself the right"),
        (errno.ENOSPC, "Free some space"),
        (errno.ENOTDIR, "a file where a folder should be"),
        (errno.EROFS, "name another place"),
        (errno.ENOENT, "Put it there"),
        (errno.EIO, "Mend that, then run it again"),
    ],
)
def test_what_the_system_refuses_is_told_with_the_place_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, code: int, told: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code), "/some/place")

    monkeypatch.setattr(Workspace, "open", fail)
    first, second = complaint(adapt("plan"), code=1).splitlines()
    assert "'/some/place'" in first
    assert told in second


def test_a_workspace_below_a_file_is_told(empty: Path) -> None:
    (empty / "file").touch()
    told = complaint(adapt("init", "-w", str(empty / "file" / "shop"), "--limit", "10"), code=1)
    assert str(empty / "file") in told and "a file where a folder should be" in told
