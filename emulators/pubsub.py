"""Pub/Sub's REST interface as far as publishing needs it: topics, and the messages published to them.

Source: https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.topics/publish.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from emulators.http_server import LoopbackServer, Request

_PUBLISH = re.compile(r"/v1/(projects/[^/]+/topics/[^/:]+):publish")


@dataclass(frozen=True)
class Message:
    """A published message."""

    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str


class PubSubEmulator(LoopbackServer):
    """Topics in memory; clients find it by the environment variable `PUBSUB_EMULATOR_HOST`.

    Args:
      topics: Their full names; publishing to another one is refused as the service does.
    """

    def __init__(self, *topics: str) -> None:
        super().__init__()
        self.messages: dict[str, list[Message]] = {topic: [] for topic in topics}

    def environment(self) -> dict[str, str]:
        """Return the variables by which clients find the emulator."""
        return {"PUBSUB_EMULATOR_HOST": self.url.removeprefix("http://")}

    def answer(self, request: Request) -> web.Response:
        """Return the response to a request."""
        match = _PUBLISH.fullmatch(request.url.path)
        if request.method != "POST" or match is None:
            return self.error(404, f"{request} is no method of this emulator")
        if match[1] not in self.messages:
            return self.error(404, f"Resource not found (resource={match[1].rpartition('/')[2]}).")
        try:
            messages = [_message(one) for one in json.loads(request.body)["messages"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return self.error(400, f"Invalid JSON payload received: {error!r}")
        if any(not one.data and not one.attributes for one in messages):
            return self.error(400, "One or more messages in the publish request is empty.")
        kept = self.messages[match[1]]
        kept.extend(messages)
        return web.json_response({"messageIds": [str(len(kept) - place) for place in reversed(range(len(messages)))]})


def _message(given: Mapping[str, object]) -> Message:
    data, attributes = given.get("data", ""), given.get("attributes", {})
    if not isinstance(data, str) or not isinstance(attributes, dict) or not all(map(_is_text, attributes.values())):
        raise ValueError("data should be base64, and attributes a map of texts")
    try:
        return Message(base64.b64decode(data, validate=True), attributes, str(given.get("orderingKey", "")))
    except binascii.Error as error:
        raise ValueError(f"data is no base64: {error}") from error


def _is_text(value: object) -> bool:
    return isinstance(value, str)
