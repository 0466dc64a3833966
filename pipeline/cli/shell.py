"""The shell around the commands: what becomes of an error, the exit codes, and the options that all have."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptation.errors import AdaptationError

if TYPE_CHECKING:
    from pipeline.workspace.workspace import Workspace

FAILED, INTERRUPTED = 1, 130
in_workspace = click.option(
    "--workspace",
    "-w",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("."),
    show_default="the current folder",
    help="The workspace's folder, or its settings file.",
)
_DEBUG = f"{__name__}.debug"
_MENDS = {
    errno.EACCES: "Give yourself the right to that, or name another place.",
    errno.ENOENT: "Put it there, or name another place.",
    errno.ENOSPC: "Free some space, then run it again.",
    errno.ENOTDIR: "There is a file where a folder should be: move it, or name another place.",
    errno.EROFS: "Nothing can be written there: name another place.",
}


class Command(click.Command):
    """A command that takes --debug, wherever among its arguments it is put."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        help = "Show the whole traceback of an error."
        self.params.append(click.Option(["--debug"], is_flag=True, expose_value=False, callback=_note_debug, help=help))


class _Group(Command, click.Group):
    """Commands that take --debug, before the command's name as well."""

    command_class = Command


class Shell(_Group):
    """All commands together: an error is one message and an exit code, with its traceback only on request."""

    group_class = _Group

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            complain(error)
            ctx.exit(FAILED)


def open_workspace(folder: Path) -> Workspace:
    """Open the workspace that a command was given."""
    from pipeline.workspace.workspace import Workspace

    return Workspace.open(folder)


def complain(error: Exception) -> None:
    """Says on the error stream what went wrong."""
    if click.get_current_context().meta.get(_DEBUG):
        traceback.print_exception(error)
        return
    click.echo(f"{type(error).__name__}: {error}", err=True)
    if isinstance(error, AdaptationError):
        return
    if isinstance(error, OSError):
        click.echo(_MENDS.get(error.errno or 0, "Mend that, then run it again."), err=True)
    else:
        click.echo("This was not foreseen; with --debug the whole traceback is shown.", err=True)


def _note_debug(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    ctx.meta[_DEBUG] = given or ctx.meta.get(_DEBUG, False)
