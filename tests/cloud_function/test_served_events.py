"""A burst of storage events to the function as the runtime serves it: one job."""

from __future__ import annotations

from tests.worlds.function import COLLECTION, Place, collect

TARGET = "on_event"
SECONDS_TO_DELIVER = 120


def test_a_burst_of_500_uploads_each_told_of_twice_starts_one_job(place: Place, month: str) -> None:
    for instance in place.instances:
        place.storage.subscribe(instance.url)
    collect(f"{COLLECTION}/{month}", 500)
    place.storage.events.wait(SECONDS_TO_DELIVER)
    assert place.storage.events.failed == []
    assert place.jobs(month) == [f"evaluation-{month}-0001"]
    lines = place.lines(month)
    assert len(lines) == 1_000
    assert sum(line["outcome"] == "start" for line in lines) == 1
