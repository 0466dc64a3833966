"""The watch: repeated deliveries to the trigger, on a machine without a schedule or events.

What a delivery does is in `trigger`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from adaptation.errors import AdaptationError
from adaptation.trigger import Delivery


def watch(tick: Callable[[], Delivery], interval: float, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Deliver repeatedly until stopped; report one line a change.

    Args:
      tick: Makes one delivery. A failed one is reported and repeated at the next interval.
      interval: Seconds between two deliveries.
      stop: Ends the watch: at once while it waits, else after the current delivery.
      say: Receives the lines.
    """
    said = None
    while not stop.is_set():
        try:
            delivery = tick()
            change, line = _change(delivery), _line(delivery)
        except (AdaptationError, OSError) as error:
            change = line = f"could not look: {error}; trying again every {interval:g} s"
        if change != said:
            say(line)
            said = change
        stop.wait(interval)


def _change(delivery: Delivery) -> str:
    planned, training = delivery.plan, delivery.training
    job = training.record.job if training.record else ""
    return f"{planned.batch} {planned.outcome} {planned.job_id} {training.step} {job} {delivery.damaged}"


def _line(delivery: Delivery) -> str:
    planned = delivery.plan
    subject = f"{planned.batch}: " if planned.batch else ""
    link = f" ({delivery.job.link})" if delivery.job else ""
    training = f"; {delivery.training.step}: {delivery.training.reason}" if delivery.training.is_open else ""
    damaged = "".join(f"; goes on without what is damaged: {text}" for text in delivery.damaged)
    return f"{subject}{planned.outcome}: {planned.reason}{link}{training}{damaged}"
