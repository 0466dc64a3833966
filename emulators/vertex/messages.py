"""Checks of bodies against the service's messages, refusals in the form of its errors, and what all resources share."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format

Json = dict[str, Any]

LARGEST_PAGE = 100
MOST_RESOURCES = 10_000
_STATUS = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
_RPC_CODES = {  # google.rpc.Code
    "INVALID_ARGUMENT": 3,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
}
_TERM = re.compile(r'\s*([A-Za-z_]+)(?:\.([\w-]+))?\s*(!=|=|:)\s*(?:"([^"]*)"|([^\s"]+))\s*')


class Refusal(Exception):
    """The error response to a request, or the error of an operation."""

    def __init__(self, code: int, message: str, *, status: str = "", field: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.field = code, message, field
        self.status = status or _STATUS.get(code, "UNKNOWN")

    def to_json(self) -> Json:
        """Return the body of the response, in the form of Google's errors."""
        error: Json = {"code": self.code, "message": self.message, "status": self.status}
        if self.field:
            violation = {"field": self.field, "description": self.message}
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}]
        return {"error": error}

    def to_rpc_status(self) -> Json:
        """Return the error in the form of an operation or a job."""
        return {"code": _RPC_CODES.get(self.status, 2), "message": self.message}


def not_found(what: str) -> Refusal:
    """Return the refusal of a request for a missing resource."""
    return Refusal(404, f"{what} is not found.")


def precondition(message: str) -> Refusal:
    """Return the refusal of a request that the present state does not allow."""
    return Refusal(400, message, status="FAILED_PRECONDITION")


def check_room(resources: Collection[object]) -> None:
    """Refuse to keep more than a bounded number of resources."""
    if len(resources) >= MOST_RESOURCES:
        raise Refusal(429, f"Quota exceeded: {MOST_RESOURCES} resources.")


def remove(resources: dict[Any, Any], name: object) -> Json:
    """Delete a resource; return the empty response."""
    resources.pop(name, None)
    return {}


@dataclass(frozen=True)
class Place:
    """A project, by id and number, and a location. Responses name the project by its number, as the service's do."""

    project: str
    number: str
    location: str

    @property
    def name(self) -> str:
        """The prefix of its resources' names."""
        return f"projects/{self.number}/locations/{self.location}"

    def local(self, name: str) -> str:
        """Return a resource's name below the place: `models/ships`.

        Raises:
          Refusal: The resource is in another place.
        """
        match = re.fullmatch(r"projects/([^/]+)/locations/([^/]+)/(.+)", name)
        if not match:
            raise Refusal(400, f"{name!r} is no resource name.", field="name")
        if match[1] not in (self.project, self.number):
            raise Refusal(403, f"Permission denied on resource project {match[1]}.")
        if match[2] != self.location:
            raise Refusal(400, f"Location {match[2]} is not that of this endpoint: {self.location}.")
        return match[3]


def parse(body: Any, message: Any, *required: str) -> Json:
    """Return the body as the message's JSON, normalised.

    Args:
      body: Decoded JSON.
      message: A message class of google.cloud.aiplatform_v1.
      required: Required fields, as dotted JSON names.

    Raises:
      Refusal: The body has an unknown field, a value of another type, or lacks a required field.
    """
    try:
        parsed = json_format.ParseDict(body, message.pb()())
    except json_format.ParseError as error:
        raise Refusal(400, f"Invalid JSON payload received. {error}", field=_field(str(error))) from error
    value: Json = json_format.MessageToDict(parsed)
    for name in required:
        if not at(value, name):
            raise Refusal(400, f"Required field is not set: {name}.", field=name)
    return value


def mask(query: dict[str, str]) -> list[str]:
    """Return the fields in the query's `updateMask`, by their JSON names."""
    names = [name.strip() for name in query.get("updateMask", "").split(",") if name.strip()]
    if not names:
        raise Refusal(400, "Required field is not set: updateMask.", field="updateMask")
    return [json_name(name) for name in names]


def json_name(field: str) -> str:
    """Return a field's name in JSON: displayName for display_name."""
    return re.sub(r"_(\w)", lambda letter: letter[1].upper(), field)


def at(value: Any, dotted: str) -> Any:
    """Return the value at a dotted name, or None."""
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def now() -> str:
    """Return the time in the service's format."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def page(items: Iterable[Json], field: str, query: dict[str, str]) -> Json:
    """Return one page of a listing, newest first, by the query's `filter`, `pageSize` and `pageToken`."""
    found = [item for item in items if _matches(item, query.get("filter", ""))]
    found.sort(key=lambda item: item.get("versionCreateTime") or item.get("createTime", ""), reverse=True)
    start, size = _whole(query.get("pageToken")), min(_whole(query.get("pageSize")) or LARGEST_PAGE, LARGEST_PAGE)
    answer: Json = {field: found[start : start + size]}
    if start + size < len(found):
        answer["nextPageToken"] = str(start + size)
    return answer


def _field(message: str) -> str:
    match = re.search(r'(?:no field named|parse) "?(\w+)"?', message)
    return match[1] if match else "body"


def _whole(text: str | None) -> int:
    if text and not text.isdecimal():
        raise Refusal(400, f"{text!r} is no page token and no page size.", field="pageToken")
    return int(text or 0)


def _matches(item: Json, expression: str) -> bool:
    return all(_holds(item, term) for term in expression.split(" AND ") if term.strip())


def _holds(item: Json, term: str) -> bool:
    match = _TERM.fullmatch(term)
    if not match:
        raise Refusal(400, f"Invalid filter: {term!r}.", field="filter")
    name, key, operator, value = match[1], match[2], match[3], match[4] or match[5] or ""
    found = item.get(json_name(name))
    if key:
        found = (found or {}).get(key)
    if operator == ":":
        return found is not None if value == "*" else value.strip("*") in str(found)
    return (found == value) == (operator == "=")
