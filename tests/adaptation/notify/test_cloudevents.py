"""CloudEvents: the official reader takes every kind of event."""

from __future__ import annotations

import pytest
from cloudevents.http import from_json

from adaptation.events import Event, Kind
from adaptation.notify.cloudevents import to_cloudevent
from tests.worlds.events import EventWorld


@pytest.fixture(scope="module")
def happened(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Event]:
    """Return one event of each kind."""
    world = EventWorld(tmp_path_factory.mktemp("world"))
    world.live()
    return {event.kind: event for event in world.collect()}


@pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.TEST}))
def test_official_reader_takes_each_kind(happened: dict[Kind, Event], kind: Kind) -> None:
    event = happened[kind]
    read = from_json(to_cloudevent(event, "digits"))
    assert read["specversion"] == "1.0"
    assert read["type"] == f"continuous-adaptation.{kind}"
    assert read["source"] == "/continuous-adaptation/digits"
    assert (read["id"], read["subject"], read["time"]) == (event.id, event.subject, event.time)
    assert read.data == {"message": event.message, **event.data}


def test_sequence_sorts_as_text(happened: dict[Kind, Event]) -> None:
    numbered = sorted(happened.values(), key=lambda event: event.number)
    sequences = [from_json(to_cloudevent(event, "digits"))["sequence"] for event in numbered]
    assert sequences == sorted(set(sequences))
