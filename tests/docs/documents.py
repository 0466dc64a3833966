"""The project's documents, as the tests read them: fenced blocks of code, commands, and the paths they name.

A fence with `console` holds commands that are run, each after `$ `; one with `file=NAME` holds that file's content.
What is set in four spaces is shown, and not run.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("*/README.md")])
_FENCE = re.compile(r"^```(\w*)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(r"(?:^    |`)(?:\$ )?((?:adapt|make) [^`\n#]+)", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
_PATH = re.compile(
    r"`((?:adaptation|components|models|pipeline|cloud_function|emulators|benchmarks|docs|tests)/[\w./-]*)`"
)


@dataclass(frozen=True)
class Document:
    """A Markdown file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(PROJECT))

    @property
    def text(self) -> str:
        """The whole text."""
        return self.path.read_text()

    @property
    def files(self) -> dict[str, str]:
        """The contents of the files that the document shows, by name."""
        return {name: text for _, name, text in _FENCE.findall(self.text) if name}

    @property
    def commands(self) -> list[list[str]]:
        """The commands to run, in order, each split into its words."""
        blocks = (text for kind, _, text in _FENCE.findall(self.text) if kind == "console")
        lines = (line for block in blocks for line in block.splitlines() if line.startswith("$ "))
        return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]

    @property
    def mentioned(self) -> list[list[str]]:
        """The commands that the document names anywhere, run or not."""
        return self.commands + [shlex.split(line.replace("|", " ")) for line in _SHOWN.findall(self.text)]

    @property
    def places(self) -> set[str]:
        """The paths in the project that the document names or links to, relative to the project."""
        links = (link for link in _LINK.findall(self.text) if "://" not in link)
        linked = {str((self.path.parent / link).resolve().relative_to(PROJECT)) for link in links}
        return linked | set(_PATH.findall(self.text))


def document(name: str) -> Document:
    """Return the document of that path in the project."""
    return Document(PROJECT / name)
