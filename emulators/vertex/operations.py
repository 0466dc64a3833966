"""Long-running operations: each takes some time, then has its effect or ends with an error."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from emulators.vertex.messages import Json, Place, Refusal, not_found, now, page, precondition

KEPT = 10_000
_RESPONSES = {"CreateEndpoint": "Endpoint", "Delete": "Empty"}  # those not named after the method


@dataclass
class _Operation:
    resource: str
    due: float
    effect: Callable[[], Json]
    method: str
    error: Refusal | None
    json: Json


class Operations:
    """The operations of a place, oldest first.

    Args:
      place: Their project and location.
      seconds: Duration of each.
      exclusive: If True, an operation on a resource is refused while another is running on it.
    """

    def __init__(self, place: Place, seconds: float, exclusive: bool) -> None:
        self._place, self._seconds, self._exclusive = place, seconds, exclusive
        self._all: dict[str, _Operation] = {}
        self._planned: list[Refusal] = []
        self._ids = itertools.count(1)

    def plan(self, error: Refusal, times: int) -> None:
        """Make the next operations end with this error, without effect."""
        self._planned += [error] * times

    def start(self, resource: str, method: str, effect: Callable[[], Json]) -> Json:
        """Start an operation on a resource; the result of `effect` becomes the response of the method."""
        self._check_free(resource)
        name = f"{self._place.name}/{resource}/operations/{next(self._ids)}"
        times = {"createTime": now(), "updateTime": now()}
        metadata = {"@type": _type(f"{method}OperationMetadata"), "genericMetadata": times}
        error = self._planned.pop(0) if self._planned else None
        due = time.monotonic() + self._seconds
        self._all[name] = _Operation(resource, due, effect, method, error, {"name": name, "metadata": metadata})
        self.settle()
        return self._all[name].json

    def settle(self) -> None:
        """End the operations whose time is over."""
        for operation in self._all.values():
            if "done" not in operation.json and operation.due <= time.monotonic():
                _end(operation)
        while len(self._all) > KEPT:
            del self._all[next(iter(self._all))]

    def get(self, name: str) -> Json:
        """Return the operation in its present state."""
        operation = self._all.get(f"{self._place.name}/{name}")
        if operation is None:
            raise not_found(f"Operation {name}")
        return operation.json

    def list(self, resource: str, query: dict[str, str]) -> Json:
        """Return the operations of a resource, or all of them if it is empty."""
        found = (operation.json for operation in self._all.values() if resource in ("", operation.resource))
        return page(found, "operations", {**query, "filter": ""})

    def _check_free(self, resource: str) -> None:
        running = [
            name
            for name, operation in self._all.items()
            if operation.resource == resource and "done" not in operation.json
        ]
        if self._exclusive and running:
            where = f'"{self._place.name}/{resource}"'
            raise precondition(f"There are other operations running on the resource {where}. They are: {running}.")


def _end(operation: _Operation) -> None:
    operation.json["done"] = True
    try:
        if operation.error:
            raise operation.error
        response = operation.effect()
    except Refusal as error:
        operation.json["error"] = error.to_rpc_status()
    else:
        message = _RESPONSES.get(operation.method, f"{operation.method}Response")
        operation.json["response"] = {"@type": _type(message), **response}


def _type(message: str) -> str:
    where = "google.protobuf" if message == "Empty" else "google.cloud.aiplatform.v1"
    return f"type.googleapis.com/{where}.{message}"
