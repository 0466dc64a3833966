"""The commands of `adapt settings`."""

from __future__ import annotations

import json

import click

from pipeline.cli.shell import Shell


@click.group(cls=Shell.group_class)
def settings() -> None:
    """Describe the settings file."""


@settings.command()
def schema() -> None:
    """Print the JSON schema of settings files.

    Save it as adapt.schema.json and put "#:schema ./adapt.schema.json" on the first line of adapt.toml: an editor then
    completes and checks the settings.
    """
    from pipeline.workspace.settings_schema import settings_schema

    click.echo(json.dumps(settings_schema(), indent=1))
