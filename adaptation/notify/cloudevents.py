"""An event as a CloudEvent 1.0 in JSON, the structured content mode.

Source of the format: CloudEvents 1.0.2, "JSON Event Format"; the attribute `sequence` is CloudEvents' own extension,
which receivers order events by.
"""

from __future__ import annotations

from adaptation import codec
from adaptation.events import Event

CONTENT_TYPE = "application/cloudevents+json"
PREFIX = "continuous-adaptation."


def to_cloudevent(event: Event, source: str) -> bytes:
    """Return the event as JSON.

    Args:
      event: The event.
      source: Name of the deployment; with the event's id it is unique.
    """
    return codec.encode(
        {
            "specversion": "1.0",
            "id": event.id,
            "source": f"/continuous-adaptation/{source}",
            "type": PREFIX + event.kind,
            "subject": event.subject,
            "time": event.time,
            "sequence": f"{event.number:010d}",
            "datacontenttype": "application/json",
            "data": {"message": event.message, **event.data},
        },
        indent=0,
    )
