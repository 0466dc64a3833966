"""A burst of storage events to the function as the runtime serves it starts one job."""

from __future__ import annotations

from tests.worlds.function import COLLECTION, Place, collect

TARGET = "on_event"
SECONDS_TO_DELIVER = 120


def test_500_uploads_each_notified_twice_start_one_job(place: Place, batch: str) -> None:
    for instance in place.instances:
        place.storage.subscribe(instance.url)
    collect(f"{COLLECTION}/{batch}", 500)
    place.storage.events.wait(SECONDS_TO_DELIVER)
    assert place.storage.events.failed == []
    assert place.jobs(batch) == [f"evaluation-{batch}-0001"]
    lines = place.lines(batch)
    assert len(lines) == 1_000
    assert sum(line["outcome"] == "start" for line in lines) == 1
