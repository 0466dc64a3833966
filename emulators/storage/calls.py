"""Requests and responses of the JSON API, as gcp-storage-emulator's handlers and the emulator's own rules use them."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from emulators.http_server import Request
from emulators.storage.objects import LARGEST_PAGE, Listing


class Call:
    """A request in the form that gcp-storage-emulator's handlers, and the rules above, read."""

    def __init__(self, request: Request, params: Mapping[str, str | None]) -> None:
        self.request = request
        self.method = request.method
        self.path = request.url.path
        self.query = request.query
        self.params = {name: unquote(value or "") for name, value in params.items()}
        self.bucket = self.params.get("bucket_name", "")
        self.name = self.params.get("object_id", "")

    @property
    def base_url(self) -> str:
        """The address that the client used; through the TLS proxy it is an https one."""
        host = self.request.headers["host"]
        return f"https://{host}" if host.endswith(".googleapis.com") else f"http://{host}"

    @property
    def full_url(self) -> str:
        """The whole address."""
        return self.base_url + self.request.target

    def get_header(self, name: str, default: str | None = None) -> str | None:
        """Return a header, whatever the case of its name."""
        return self.request.headers.get(name.lower(), default)

    def parameter(self, name: str) -> str | None:
        """Return a parameter of the query."""
        values = self.query.get(name)
        return values[0] if values else None

    @cached_property
    def data(self) -> Any:
        """The body: a JSON value, the two parts of a multipart upload, or bytes."""
        kind, body = self.get_header("Content-Type") or "", self.request.body
        if "upload_id" in self.query or self.parameter("uploadType") == "media":
            return body
        if kind.startswith("multipart/"):
            return _parts(kind, body)
        return json.loads(body) if kind.startswith("application/json") and body else body

    @property
    def uploaded_name(self) -> str:
        """The name of the object that an upload is for."""
        meta = self.data.get("meta", self.data) if isinstance(self.data, dict) else {}
        name = self.parameter("name") or meta.get("name")
        if not name:
            raise ValueError("an upload without a name")
        return str(name)

    @property
    def listing(self) -> Listing:
        """The parameters of a listing."""
        limit = int(self.parameter("maxResults") or LARGEST_PAGE)
        if limit < 1:
            raise ValueError(f"maxResults {limit}")
        return Listing(
            bucket=self.bucket,
            prefix=self.parameter("prefix") or "",
            delimiter=self.parameter("delimiter") or "",
            start=self.parameter("startOffset") or "",
            end=self.parameter("endOffset") or "",
            after=_last(self.parameter("pageToken") or ""),
            limit=min(limit, LARGEST_PAGE),
        )

    @property
    def range(self) -> tuple[str, str] | None:
        """The two ends of the one requested range, as written, or None."""
        match = re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", self.get_header("Range") or "")
        return (match[1], match[2]) if match and match[0] != "bytes=-" else None


class Outcome:
    """A response in the form that gcp-storage-emulator's handlers write."""

    def __init__(self) -> None:
        self.status: int = HTTPStatus.OK
        self.headers: dict[str, str] = {}
        self.body = b""

    def __setitem__(self, name: str, value: str) -> None:
        self.headers[name] = value

    def json(self, value: object) -> None:
        """Respond with a JSON value."""
        self.headers["Content-Type"] = "application/json; charset=UTF-8"
        self.body = json.dumps(value).encode()


def _last(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"pageToken {token!r}") from error


def _parts(kind: str, body: bytes) -> dict[str, Any]:
    """Return the metadata and the content of a multipart upload, byte for byte, with either kind of line break."""
    boundary = re.search(r'boundary="?([^";]+)', kind)
    if not boundary:
        raise ValueError("a multipart upload without boundary")
    mark = b"--" + boundary[1].encode()
    end = b"\r\n" if body.startswith(mark + b"\r\n") else b"\n"
    begin = len(mark + end)
    cut = body.index(end + mark + end)
    meta = body[begin:cut].partition(end * 2)[2]
    head, _, content = body[cut + len(end) + begin : body.rindex(end + mark + b"--")].partition(end * 2)
    content_type = re.search(rb"(?i)^content-type:\s*([^\s;]+)", head, re.MULTILINE)
    return {
        "meta": json.loads(meta),
        "content": content,
        "content-type": content_type[1].decode() if content_type else "application/octet-stream",
    }
