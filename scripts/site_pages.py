"""Pages of the site that are not in docs/: the change log, and what is made from the code.

The code gives the command line, the settings, and the API reference by folder. `mkdocs.yml` names this file as a hook.
Only the command line's and the settings' modules are imported; mkdocstrings reads the reference from the sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from pipeline.cli.main import cli
from pipeline.workspace.settings import PREFIX
from pipeline.workspace.settings_schema import settings_schema

PROJECT = Path(__file__).parents[1]
PACKAGES = ("adaptation", "components", "models", "pipeline")
Schema = dict[str, Any]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add to the navigation the documents that it does not list, and the pages of the API reference."""
    listed = json.dumps(config.nav)
    others = [path.name for path in sorted(Path(config.docs_dir).glob("*.md")) if f'"{path.name}"' not in listed]
    config.nav = [*(config.nav or ()), *others, {"API": [{folder: _page(folder)} for folder in _folders()]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {"command-line.md": command_line(), "settings.md": settings(), "changelog.md": changelog()}
    pages |= {_page(folder): _reference(folder, modules) for folder, modules in _folders().items()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def changelog() -> str:
    """Return the change log, with its links to docs/ as the site has them."""
    return (PROJECT / "CHANGELOG.md").read_text().replace("](docs/", "](")


def command_line() -> str:
    """Return the page of the command line: the help of `adapt` and of each of its commands."""
    return "# Command line\n\n" + "\n".join(_help(cli, click.Context(cli, info_name="adapt")))


def settings() -> str:
    """Return the page of the settings: a table for each section of `adapt.toml`."""
    about = f"`adapt.toml` in the workspace. An environment variable overrides a setting: `{PREFIX}GATE__FLOOR=0.9`.\n"
    schema = settings_schema()
    return f"# Settings\n\n{about}\n" + "\n".join(_section(schema, schema["$defs"]))


def _help(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from _help(below, click.Context(below, context, info_name=name, max_content_width=110))


def _section(section: Schema, sections: Schema, name: str = "") -> Iterator[str]:
    keys = {key: value for key, value in section["properties"].items() if "$ref" not in value}
    if name:
        yield f"## `[{name}]`\n\n{section['description']}\n"
    rows = [f"| `{key}` | {_default(value)} | {value.get('description', '')} |" for key, value in keys.items()]
    yield "\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) + "\n"
    for key in (key for key in section["properties"] if key not in keys):
        below = sections[section["properties"][key]["$ref"].rpartition("/")[2]]
        yield from _section(below, sections, f"{name}.{key}".removeprefix("."))


def _default(key: Schema) -> str:
    return f"`{json.dumps(key['default'])}`" if "default" in key else ""


def _folders() -> dict[str, list[str]]:
    """Return the modules with a docstring and a public name, by the dotted name of their folder."""
    folders: dict[str, list[str]] = {}
    for file in sorted(path for package in PACKAGES for path in (PROJECT / package).rglob("*.py")):
        path = file.relative_to(PROJECT).with_suffix("")
        if not path.name.startswith("_"):
            folders.setdefault(".".join(path.parent.parts), []).append(".".join(path.parts))
    return folders


def _page(folder: str) -> str:
    return f"api/{folder}.md"


def _reference(folder: str, modules: list[str]) -> str:
    return f"# {folder}\n\n" + "\n".join(f"::: {module}\n" for module in modules)
