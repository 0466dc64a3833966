"""The commands `adapt status` and `adapt notify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.shell import FAILED, Command, in_workspace, open_workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.status import Batch, Item, Status

NEEDS_A_PERSON = 5


@click.command(cls=Command)
@in_workspace
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; docs/status.md describes it.")
def status(folder: Path, as_json: bool) -> None:
    """Show the champion, the evidence, what runs or waits, and what a person should do.

    Exit codes: 0 if there is nothing for a person to do, 5 if there is, 1 if the status cannot be read. Nothing is
    changed or sent.
    """
    from adaptation import codec
    from pipeline.status import read_status

    found = read_status(open_workspace(folder))
    if as_json:
        click.echo(codec.encode(found))
    else:
        for name, text in _lines(found):
            click.echo(f"{name:12}{text}")
    if found.needs_a_person:
        click.get_current_context().exit(NEEDS_A_PERSON)


@click.command(cls=Command)
@in_workspace
@click.option("--test", is_flag=True, help="Send an event of the type test to every receiver instead.")
def notify(folder: Path, test: bool) -> None:
    """Send the events that receivers have not taken, without waiting for the pause after a failure.

    Events are sent by jobs, "adapt watch" and the Cloud Function, too. Exit code: 1 if a receiver did not take what it
    was sent.
    """
    from adaptation.notify.delivery import notify, try_receivers
    from adaptation.notify.receivers import receivers

    workspace = open_workspace(folder)
    known = receivers(workspace.notification)
    if not known:
        raise click.UsageError(
            f"{workspace.settings.file} names no receiver. [notify] does; see docs/notifications.md."
        )
    left = try_receivers(known) if test else notify(workspace.sources, workspace.notification, at_once=True)
    failed = {one.receiver: one.error for one in left}
    for receiver in known:
        click.echo(f"{receiver.name}: {failed.get(receiver.name, 'has everything')}")
    if failed:
        click.get_current_context().exit(FAILED)


def _lines(found: Status) -> Iterator[tuple[str, str]]:
    from pipeline.console import minute

    yield "deployment", found.deployment
    champion = found.champion
    yield (
        "champion",
        f"version {champion.version} since {minute(champion.since)} UTC: {champion.reason}" if champion else "none",
    )
    if found.evidence is not None:
        yield "evidence", f"{found.evidence:.0%} of what a retraining takes"
    if found.decision:
        yield "decision", _batch(found.decision)
    if found.look:
        yield "look", _batch(found.look)
    yield "delivery", f"{found.delivery.subject}: {found.delivery.reason}"
    yield from _items("running", found.running)
    yield from _items("waiting", found.waiting)
    yield from _items("given up", found.given_up)
    for one in found.undelivered:
        yield "undelivered", f"{one.events} events for {one.receiver}" + (f": {one.error}" if one.error else "")
    for event in found.events:
        yield "event", f"{minute(event.time)} {event.kind} {event.subject}"
    yield "next", found.todo[0] if found.todo else "nothing for a person to do"
    for further in found.todo[1:]:
        yield "", further


def _batch(one: Batch) -> str:
    from pipeline.console import minute

    return f"{one.batch} on {minute(one.time)} UTC: {one.outcome}: {one.reason}"


def _items(name: str, items: tuple[Item, ...]) -> Iterator[tuple[str, str]]:
    for item in items:
        yield name, f"{item.subject}: {item.reason}"
