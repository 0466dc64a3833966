"""The shell around the commands: error messages, exit codes, and the options that all have."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptation.errors import AdaptationError, described

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
_OTHER_DISK = '"adapt doctor" tries what a workspace needs; put the workspace on another disk if it says so.'
_REMEDIES = {
    errno.EACCES: "Get the permission for it, or name another place.",
    errno.EDQUOT: "Your quota on that disk is used up. Free some space or get a larger one, then run it again.",
    errno.ENOENT: "Put it there, or name another place.",
    errno.ENOSPC: "Free some space, then run it again.",
    errno.ENOLCK: f"That file system has no locks, or no more of them. {_OTHER_DISK}",
    errno.ENOSYS: f"That file system cannot do this. {_OTHER_DISK}",
    errno.ENOTDIR: "There is a file where a folder should be: move it, or name another place.",
    errno.ENOTSUP: f"That file system cannot do this. {_OTHER_DISK}",
    errno.EPERM: "The system does not allow it: the file is another user's or immutable, or its disk cannot do this. "
    '"adapt doctor" tries what a workspace needs.',
    errno.EROFS: "It is read-only: name another place.",
    errno.ESTALE: "The network drive has lost that file or folder. Mount the drive again, then run it again.",
    errno.EXDEV: "The two places are on different disks. Put them on one.",
}


class Command(click.Command):
    """A command that takes --debug anywhere among its arguments."""

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
        """Run the requested command."""
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
    """Open the workspace that a command names."""
    from pipeline.workspace.workspace import Workspace

    return Workspace.open(folder)


def complain(error: Exception) -> None:
    """Print on the error stream what went wrong."""
    if click.get_current_context().meta.get(_DEBUG):
        traceback.print_exception(error)
        return
    click.echo(described(error), err=True)
    if isinstance(error, AdaptationError):
        return
    if isinstance(error, OSError):
        click.echo(_REMEDIES.get(error.errno or 0, "Fix that, then run it again."), err=True)
    else:
        click.echo("This is unexpected; --debug shows the whole traceback.", err=True)


def _note_debug(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    ctx.meta[_DEBUG] = given or ctx.meta.get(_DEBUG, False)
