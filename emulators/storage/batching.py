"""Batch requests: several requests of the JSON API in one, as Beam and the client library send deletions and copies.

Batch and response are `multipart/mixed` messages whose parts are HTTP requests or responses as text. Each request
takes effect and fails by itself.
"""

from __future__ import annotations

import http.client
import io
import uuid
from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import BytesParser
from urllib.parse import urlsplit

from aiohttp import web

from emulators.http_server import Request, to_bytes


def unpack(batch: Request) -> Iterator[Request]:
    """Yield the requests in a batch."""
    head = f"Content-Type: {batch.headers.get('content-type', '')}\r\n\r\n"
    message = BytesParser().parsebytes(head.encode("latin-1") + batch.body)
    if not message.is_multipart():
        raise ValueError("a batch that is no multipart message")
    yield from (_request(part, batch) for part in message.walk() if not part.is_multipart())


def pack(responses: Iterable[web.Response]) -> web.Response:
    """Return the response to a batch, made of those to its requests in their order."""
    boundary = f"batch_{uuid.uuid4().hex}"
    before, after = f"--{boundary}\r\nContent-Type: application/http\r\n\r\n".encode(), f"--{boundary}--\r\n".encode()
    body = b"".join([before + to_bytes(response) + b"\r\n" for response in responses]) + after
    return web.Response(body=body, headers={"Content-Type": f"multipart/mixed; boundary={boundary}"})


def _request(part: Message, batch: Request) -> Request:
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    file = io.BytesIO(data)
    method, target, _ = file.readline().decode("latin-1").split(" ")
    headers = {name.lower(): value for name, value in http.client.parse_headers(file).items()}
    path = urlsplit(target)._replace(scheme="", netloc="").geturl()
    return Request(method, path, {"host": batch.headers["host"], **headers}, file.read())
