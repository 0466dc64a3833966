"""Steps of a deployment as commands of `gcloud`: taken one after the other, or shown as a script.

A command is a tuple of words. It becomes text for a shell only where it is shown to a person, each word quoted. What
the steps are for is not known here.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from adaptation.errors import AdaptationError

GCLOUD = "gcloud"


class StepFailed(AdaptationError, RuntimeError):
    """A step could not be taken: its command is missing or ended with an error; the steps after it were not taken."""


@dataclass(frozen=True)
class Answer:
    """A word of a command: `text`, followed by what another command answers when it is run."""

    text: str
    command: Command


Command = tuple[str | Answer, ...]


@dataclass(frozen=True)
class Step:
    """One thing that a deployment makes sure of. Taking it again does no harm.

    Attributes:
      what: What there is after it, for a person to read.
      make: Makes it. Without a `look`, the command itself may be repeated.
      look: Succeeds where it is there already; it is not made again then.
      renew: Brings what is there already up to date, where that is needed.
    """

    what: str
    make: Command
    look: Command = ()
    renew: Command = ()


class _Failed(Exception):
    """A command that ended with an error; the message is its own."""


def take(steps: Sequence[Step], telling: Callable[[str], AbstractContextManager[object]]) -> None:
    """Takes the steps in their order.

    Args:
      steps: What is to be there in the end.
      telling: Shows what a step is about, as long as the context that it gives lasts.

    Failure: what the steps before have made stays. Repeat it: what is there is found.

    Raises:
      StepFailed: There is no Google Cloud CLI, or a command failed; the message has its words, and the steps that were
        taken before.
    """
    if not shutil.which(GCLOUD):
        raise StepFailed(
            f"{GCLOUD} is not on this machine's PATH. Install the Google Cloud CLI "
            '(https://cloud.google.com/sdk/docs/install) and run "gcloud auth login"; or let --dry-run show the '
            "commands, and run them where it is installed."
        )
    for number, step in enumerate(steps):
        try:
            with telling(step.what):
                _take(step)
        except _Failed as error:
            done = "; ".join(step.what for step in steps[:number]) or "nothing"
            raise StepFailed(
                f"{step.what}: {error}\nDone before it: {done}.\n"
                "Mend the cause and repeat this: what is there already is found, and nothing is made twice."
            ) from error


def script(steps: Sequence[Step]) -> str:
    """The steps as a script for `sh -e`, a comment and a line of commands each."""
    return "".join(f"# {step.what}\n{_line(step)}\n" for step in steps)


def _take(step: Step) -> None:
    command = step.renew if step.look and _succeeds(step.look) else step.make
    if command:
        _run(command)


def _succeeds(command: Command) -> bool:
    try:
        _run(command)
    except _Failed:
        return False
    return True


def _run(command: Command) -> str:
    """What the command answers. It may not ask anything of a person."""
    words = [_resolved(word) for word in command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise _Failed(f"{done.stderr.strip() or f'exit code {done.returncode}'}\nThe command: {shlex.join(words)}")
    return done.stdout.strip()


def _resolved(word: str | Answer) -> str:
    if isinstance(word, str):
        return word
    if answer := _run(word.command):
        return word.text + answer
    raise _Failed(f"{shlex.join(map(_resolved, word.command))} has answered nothing, where {word.text} needs it")


def _line(step: Step) -> str:
    make, look, renew = map(_shown, (step.make, step.look, step.renew))
    if not look:
        return make
    if not renew:
        return f"{look} > /dev/null 2>&1 || {make}"
    return f"if {look} > /dev/null 2>&1; then {renew}; else {make}; fi"


def _shown(command: Command) -> str:
    return " ".join(map(_quoted, command))


def _quoted(word: str | Answer) -> str:
    return f'{shlex.quote(word.text)}"$({_shown(word.command)})"' if isinstance(word, Answer) else shlex.quote(word)
