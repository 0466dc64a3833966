"""Batch requests: several requests of the JSON API in one, as Beam and the client library send removals and copies.

Both ways they are `multipart/mixed` messages whose parts are HTTP requests or responses as text. Each request takes
effect and fails by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from email.message import Message
from email.parser import BytesParser

from emulators.http_server import Reply, Request


def unpack(batch: Request) -> Iterator[Request]:
    """The requests in a batch."""
    head = f"Content-Type: {batch.headers.get('content-type', '')}\r\n\r\n"
    message = BytesParser().parsebytes(head.encode("latin-1") + batch.body)
    if not message.is_multipart():
        raise ValueError("a batch that is no multipart message")
    yield from (_request(part, batch) for part in message.walk() if not part.is_multipart())


def pack(replies: Iterable[Reply]) -> Reply:
    """The response to a batch: those to its requests, in their order."""
    boundary = f"batch_{uuid.uuid4().hex}"
    before, after = f"--{boundary}\r\nContent-Type: application/http\r\n\r\n".encode(), f"--{boundary}--\r\n".encode()
    body = b"".join([before + reply.to_bytes() + b"\r\n" for reply in replies]) + after
    return Reply(200, body, {"Content-Type": f"multipart/mixed; boundary={boundary}"})


def _request(part: Message, batch: Request) -> Request:
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    head, _, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    request = Request.of(head.decode("latin-1"), body)
    target = request.url._replace(scheme="", netloc="").geturl()
    return replace(request, target=target, headers={"host": batch.headers["host"], **request.headers})
