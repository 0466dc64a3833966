"""Delivery of the storage emulator's events: CloudEvents over HTTP, as Eventarc sends them.

Their attributes are `ce-` headers and the body is the object's resource: the binary content mode of CloudEvents, which
Eventarc's documentation promises. Delivery is at least once, and in no promised order.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
import uuid
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

FINALIZED = "google.cloud.storage.object.v1.finalized"
ATTEMPTS = 5
SECONDS_BETWEEN_ATTEMPTS = 0.2
SECONDS_PER_ATTEMPT = 30
EVENTS_IN_FLIGHT = 8
_PLAIN = "".join(character for character in map(chr, range(0x21, 0x7F)) if character not in '"%')
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class _Subscription:
    url: str
    copies: int


class Deliveries:
    """Sends events to the subscribed addresses, from threads of its own.

    Attributes:
      failed: The addresses of the events that were given up.
    """

    def __init__(self) -> None:
        self.failed: list[str] = []
        self._subscriptions: list[_Subscription] = []
        self._pool = ThreadPoolExecutor(EVENTS_IN_FLIGHT, "emulator events")
        self._pending: set[Future[None]] = set()

    def subscribe(self, url: str, copies: int) -> None:
        """Send each event from now on to `url`, `copies` times."""
        self._subscriptions.append(_Subscription(url, copies))

    def finalized(self, resource: Mapping[str, Any]) -> None:
        """Announce an object that was created or replaced."""
        if self._subscriptions:
            headers, body = _headers(resource), json.dumps(resource).encode()
            for subscription in self._subscriptions:
                for _ in range(subscription.copies):
                    self._send(urllib.request.Request(subscription.url, body, headers))

    def wait(self, seconds: float) -> None:
        """Wait until all events have been delivered, or been given up.

        Raises:
          TimeoutError: Some have not, after `seconds`.
        """
        end = time.monotonic() + seconds
        while pending := set(self._pending):
            if wait(pending, max(0.0, end - time.monotonic())).not_done:
                raise TimeoutError(f"{len(self._pending)} events are not delivered after {seconds} s.")

    def close(self) -> None:
        """Send no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _send(self, event: urllib.request.Request) -> None:
        future = self._pool.submit(self._deliver, event)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)

    def _deliver(self, event: urllib.request.Request) -> None:
        for attempt in range(ATTEMPTS):
            time.sleep(attempt * SECONDS_BETWEEN_ATTEMPTS)
            with contextlib.suppress(OSError), _direct.open(event, timeout=SECONDS_PER_ATTEMPT):
                return
        self.failed.append(event.full_url)


def _headers(resource: Mapping[str, Any]) -> dict[str, str]:
    return {
        "ce-id": uuid.uuid4().hex,
        "ce-specversion": "1.0",
        "ce-type": FINALIZED,
        "ce-source": f"//storage.googleapis.com/projects/_/buckets/{resource['bucket']}",
        "ce-subject": f"objects/{quote(resource['name'], safe=_PLAIN)}",
        "ce-time": resource["updated"],
        "ce-bucket": resource["bucket"],
        "Content-Type": "application/json",
    }
