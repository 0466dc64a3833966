"""The error messages of every command. The commands are found, not listed: a new one is tested too."""

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
        """The required parameters."""
        return [parameter for parameter in self.command.params if parameter.required]

    @property
    def options(self) -> list[str]:
        """All long options."""
        return [name for parameter in self.command.params for name in parameter.opts if name.startswith("--")]

    def given(self, folder: Path) -> list[str]:
        """Return the words of the required parameters, each with a valid value."""
        return [word for parameter in self.arguments for word in given(parameter, folder)]


def given(parameter: click.Parameter, folder: Path) -> list[str]:
    """Return the words that give a parameter some value."""
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
    """Yield all commands of the tree, groups too."""
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
    """An empty folder."""
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def adapt(*words: str) -> Result:
    return CliRunner().invoke(cli, words, prog_name="adapt")


def complaint(result: Result, code: int) -> str:
    """Check that the command wrote a message to standard error only; return it."""
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert "Traceback" not in result.stderr
    assert "This is unexpected" not in result.stderr
    return result.stderr


def test_commands_are_found() -> None:
    words = {str(found) for found in EVERY}
    assert {"init", "spans", "spans show", "review import", "settings schema"} <= words
    assert len(IN_WORKSPACE) > 15 and len(PATHS) > 2


@pytest.mark.parametrize("found", EVERY, ids=str)
def test_commands_all_have_a_help_text(found: Found) -> None:
    result = adapt(*found.words, "--help")
    assert result.exit_code == 0
    assert found.command.help and "--debug" in result.stdout


@pytest.mark.parametrize("found", [found for found in LEAVES if found.arguments], ids=str)
def test_missing_argument_is_named(found: Found) -> None:
    message = complaint(adapt(*found.words), code=2)
    name = found.arguments[0].make_metavar(click.Context(found.command))
    assert f"Missing argument '{name}'" in message or f"Missing option '{found.arguments[0].opts[0]}'" in message
    assert f"Try 'adapt {found} --help' for help." in message


@pytest.mark.parametrize(("found", "option"), OPTIONS, ids=str)
def test_typo_in_an_option_gets_a_suggestion(found: Found, option: str, tmp_path: Path) -> None:
    typo = option[:-2] + option[-1] + option[-2] if option[-1] != option[-2] else option[:-1]
    message = complaint(adapt(*found.words, *found.given(tmp_path), typo), code=2)
    assert f"No such option '{typo}'" in message
    assert "Did you mean" in message and f"'{option}'" in message


@pytest.mark.parametrize("found", GROUPS, ids=str)
def test_typo_in_a_command_gets_a_suggestion(found: Found) -> None:
    assert isinstance(found.command, click.Group)
    for name in found.command.commands:
        message = complaint(adapt(*found.words, f"{name}e"), code=2)
        assert f"No such command '{name}e'" in message and f"'{name}'" in message.partition("Did you mean")[2]


@pytest.mark.parametrize(("found", "parameter"), PATHS, ids=lambda value: str(getattr(value, "name", value)))
def test_missing_path_is_named(found: Found, parameter: click.Parameter, tmp_path: Path) -> None:
    others = [word for one in found.arguments if one is not parameter for word in given(one, tmp_path)]
    nowhere = str(tmp_path / "no" / "such")
    words = [nowhere] if isinstance(parameter, click.Argument) else [parameter.opts[0], nowhere]
    message = complaint(adapt(*found.words, *others, *words), code=2)
    assert nowhere in message and "does not exist" in message


@pytest.mark.parametrize("found", IN_WORKSPACE, ids=str)
@pytest.mark.parametrize("below", ["", "no/such/folder", "no/such.toml"])
def test_commands_without_settings_say_how_to_make_them(found: Found, below: str, empty: Path, tmp_path: Path) -> None:
    message = complaint(adapt(*found.words, *found.given(tmp_path), "-w", str(empty / below)), code=1)
    assert message.startswith(f"NoSettings: there is no settings file {empty / below}")
    assert 'Make one with "adapt init"' in message
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("found", IN_WORKSPACE, ids=str)
def test_file_without_settings_is_named(found: Found, empty: Path, tmp_path: Path) -> None:
    (empty / "notes.txt").write_text("buy milk")
    message = complaint(adapt(*found.words, *found.given(tmp_path), "-w", str(empty / "notes.txt")), code=1)
    assert message.startswith(f"InvalidSettings: {empty}/notes.txt is not valid TOML")
    assert set(contents(empty)) == {"notes.txt"}


@pytest.mark.parametrize("found", IN_WORKSPACE, ids=str)
def test_settings_with_a_typo_stop_every_command(found: Found, empty: Path, tmp_path: Path) -> None:
    (empty / "adapt.toml").write_text('[labels]\nnames = ["ship", "truck"]\n[evaluation]\ntreshold = 0.8\n')
    message = complaint(adapt(*found.words, *found.given(tmp_path), "-w", str(empty)), code=1)
    assert message.startswith("InvalidSettings: ") and "Did you mean evaluation.threshold?" in message


@pytest.mark.parametrize("found", IN_WORKSPACE, ids=str)
def test_commands_show_a_traceback_on_request_only(found: Found, empty: Path, tmp_path: Path) -> None:
    result = adapt(*found.words, *found.given(tmp_path), "--debug", "-w", str(empty))
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last)") and "NoSettings: " in result.stderr


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EACCES, "Get the permission"),
        (errno.ENOSPC, "Free some space"),
        (errno.ENOTDIR, "a file where a folder should be"),
        (errno.EROFS, "name another place"),
        (errno.ENOENT, "Put it there"),
        (errno.EDQUOT, "quota"),
        (errno.ENOLCK, "no locks"),
        (errno.ENOSYS, "That file system cannot do this"),
        (errno.ENOTSUP, "That file system cannot do this"),
        (errno.EPERM, "another user's"),
        (errno.ESTALE, "Mount the drive again"),
        (errno.EXDEV, "on different disks"),
        (errno.EIO, "Fix that, then run it again"),
    ],
)
def test_refusal_of_the_system_is_reported_with_the_place_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code), "/some/place")

    monkeypatch.setattr(Workspace, "open", fail)
    first, second = complaint(adapt("plan"), code=1).splitlines()
    assert "'/some/place'" in first
    assert remedy in second


def test_workspace_below_a_file_is_refused(empty: Path) -> None:
    (empty / "file").touch()
    message = complaint(adapt("init", "-w", str(empty / "file" / "shop"), "--limit", "10"), code=1)
    assert str(empty / "file") in message and "a file where a folder should be" in message
