"""Steps of a deployment as commands of `gcloud`: carried out one after the other, or shown as a script.

A command is a tuple of words. It becomes text for a shell only in the script, each word quoted.
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


@dataclass(frozen=True)
class Answer:
    """A word of a command: `text`, followed by another command's output at that time."""

    text: str
    command: Command


Command = tuple[str | Answer, ...]


@dataclass(frozen=True)
class Step:
    """One thing that a deployment ensures. It is safe to repeat.

    Attributes:
      what: What it makes, for a person to read.
      make: Makes it. Without a `look`, this command is safe to repeat.
      look: Succeeds if it exists; it is not made again then.
      renew: Updates an existing one, if needed.
    """

    what: str
    make: Command
    look: Command = ()
    renew: Command = ()


class _Failed(Exception):
    """A command that ended with an error; the message is its own."""


def carry_out(steps: Sequence[Step], showing: Callable[[str], AbstractContextManager[object]]) -> None:
    """Carry out the steps in their order.

    Args:
      steps: The steps.
      showing: Shows what a step makes, while its context lasts.

    Failure: what earlier steps have made stays. A retry finds it.

    Raises:
      AdaptationError: There is no Google Cloud CLI, or a command failed; the message has its own message, and the steps
        done before.
    """
    if not shutil.which(GCLOUD):
        raise AdaptationError(
            f"{GCLOUD} is not on this machine's PATH. Install the Google Cloud CLI "
            '(https://cloud.google.com/sdk/docs/install) and run "gcloud auth login"; or run the commands '
            "that --dry-run prints where it is installed."
        )
    for number, step in enumerate(steps):
        try:
            with showing(step.what):
                _carry_out(step)
        except _Failed as error:
            done = "; ".join(step.what for step in steps[:number]) or "nothing"
            raise AdaptationError(
                f"{step.what}: {error}\nDone before it: {done}.\n"
                "Fix the cause and repeat this: what exists already is found, and nothing is made twice."
            ) from error


def script(steps: Sequence[Step]) -> str:
    """Return the steps as a script for `sh -e`, a comment and a line of commands each."""
    return "".join(f"# {step.what}\n{_line(step)}\n" for step in steps)


def _carry_out(step: Step) -> None:
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
    """Return the command's output. Its standard input is empty, so that it cannot prompt."""
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
    raise _Failed(f"{shlex.join(map(_resolved, word.command))} has printed nothing, but {word.text} needs it")


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
