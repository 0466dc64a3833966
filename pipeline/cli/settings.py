"""The commands of `adapt settings`."""

from __future__ import annotations

import json

import click

from pipeline.cli.shell import Shell


@click.group(cls=Shell.group_class)
def settings() -> None:
    """The settings file."""


@settings.command()
def schema() -> None:
    """Print the JSON schema of settings files.

    Kept as adapt.schema.json, with "#:schema ./adapt.schema.json" as the first line of adapt.toml, it lets an editor
    complete and check the settings.
    """
    from pipeline.workspace.settings_schema import settings_schema

    click.echo(json.dumps(settings_schema(), indent=1))
