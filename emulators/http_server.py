"""An HTTP/1.1 server on the loopback interface: what every emulator needs, and no service's own rules.

Any number of connections is served, and each answer is worked out alone: what a request reads and then changes, no
other can have changed in between. Only what may take its time, and changes nothing, is worked out beside others.
Requests are logged, and can be made to fail, to lose their connection or to be slow.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import SplitResult, parse_qs, urlsplit

HOST = "127.0.0.1"
LARGEST_HEAD = 2**20
LARGEST_BODY = 2**30
LOGGED_REQUESTS = 500_000
_SECONDS_TO_START_OR_STOP = 10
_REASONS = {308: "Resume Incomplete", **{status.value: status.phrase for status in HTTPStatus if status != 308}}
_log = logging.getLogger(__name__)

Drop = Literal["before", "after", "within"]


@dataclass(frozen=True)
class Request:
    """An HTTP request; `target` is path and query as sent, the names of `headers` are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, head: str, body: bytes = b"") -> Request:
        """The request with this head: the request line, then a header a line."""
        first, *lines = head.splitlines()
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        return cls(method, target, {name.strip().lower(): value.strip() for name, _, value in pairs}, body)

    def __str__(self) -> str:
        return f"{self.method} {self.target}"

    @property
    def url(self) -> SplitResult:
        """The target, cut into its parts."""
        return urlsplit(self.target)

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters of the query, decoded."""
        return parse_qs(self.url.query, keep_blank_values=True)


@dataclass(frozen=True)
class Reply:
    """An HTTP response."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, status: int, value: object) -> Reply:
        """A response that is a JSON value."""
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=UTF-8"})

    def to_bytes(self) -> bytes:
        """The response as it goes over the wire."""
        head = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Unknown')}"]
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        head += [f"Content-Length: {len(self.body)}", "", ""]
        return "\r\n".join(head).encode("latin-1") + self.body


@dataclass
class _Fault:
    pattern: re.Pattern[str]
    left: int
    status: int | None
    drop: Drop | None
    delay: float


class LoopbackThread:
    """A thread that serves the connections to a port of the loopback interface.

    Args:
      converse: What is done with a connection. When it ends, or the client goes away, the connection is closed.
    """

    def __init__(self, converse: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.port = 0
        self._converse = converse
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="emulator", daemon=True)

    def start(self) -> None:
        """Begins to serve; the port is known then."""
        self._thread.start()
        if not self._started.wait(_SECONDS_TO_START_OR_STOP):
            raise TimeoutError(f"no server could be started on {HOST} within {_SECONDS_TO_START_OR_STOP} s.")

    def stop(self) -> None:
        """Ends all connections."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(_SECONDS_TO_START_OR_STOP)

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, HOST, 0, limit=LARGEST_HEAD, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopped.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client went away, or the server stops
        finally:
            writer.close()


class Loopback:
    """A server in a thread of this process, while its context lasts; `answer` is what its kind has to say.

    Attributes:
      latency: Seconds that every request waits before it takes effect; requests wait at the same time.
      requests: The requests so far, as `GET /path?query`, oldest first; the last 500,000 are kept.
      most_in_flight: The largest number of requests that were there at the same time.
    """

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency
        self.requests: deque[str] = deque(maxlen=LOGGED_REQUESTS)
        self.most_in_flight = 0
        self._in_flight = 0
        self._faults: list[_Fault] = []
        self._thread = LoopbackThread(self._converse)

    def answer(self, request: Request) -> Reply | Callable[[], Reply]:
        """The response to a request, no other being answered meanwhile; or what works it out while others are."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> Reply:
        """An error in the form in which Google's APIs put it."""
        details = [{"domain": "global", "reason": _REASONS.get(status, "unknown"), "message": message}]
        return Reply.of_json(status, {"error": {"code": status, "message": message, "errors": details}})

    @property
    def url(self) -> str:
        """The server's address, `http://127.0.0.1:<port>`."""
        return f"http://{HOST}:{self._thread.port}"

    def count(self, pattern: str) -> int:
        """The number of requests so far that a regular expression is found in."""
        return sum(bool(re.search(pattern, request)) for request in list(self.requests))

    def fail_next(
        self,
        pattern: str = "",
        *,
        times: int = 1,
        status: int | None = None,
        drop: Drop | None = None,
        delay: float = 0.0,
    ) -> None:
        """Makes the next requests fail that a regular expression is found in.

        Args:
          pattern: What to look for in `GET /path?query`; every request by default.
          times: How many requests.
          status: The HTTP status that is answered, without any effect.
          drop: The connection is cut `before` the effect, `after` it, or `within` the response to it.
          delay: Seconds to wait first; alone, the requests are merely slow.
        """
        self._faults.append(_Fault(re.compile(pattern), times, status, drop, delay))

    def recover(self) -> None:
        """Ends the failures that are still to come."""
        self._faults.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.stop()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read_request(reader, writer):
                await self._respond(request, writer)
        except (ValueError, asyncio.LimitOverrunError) as error:
            writer.write(self.error(400, f"this is no HTTP request: {error}").to_bytes())

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.requests.append(str(request))
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            data = await self._data(request, writer)
        finally:
            self._in_flight -= 1
        writer.write(data)
        await writer.drain()

    async def _data(self, request: Request, writer: asyncio.StreamWriter) -> bytes:
        fault = self._fault(str(request))
        await asyncio.sleep(self.latency + (fault.delay if fault else 0.0))
        if fault is None:
            return (await self._answer(request)).to_bytes()
        if fault.status is not None:
            return self.error(fault.status, "this failure was asked for").to_bytes()
        if fault.drop == "before":
            raise ConnectionAbortedError
        data = (await self._answer(request)).to_bytes()
        if fault.drop == "within":
            writer.write(data[:-1])
        if fault.drop:
            raise ConnectionAbortedError
        return data

    def _fault(self, request: str) -> _Fault | None:
        fault = next((fault for fault in self._faults if fault.left and fault.pattern.search(request)), None)
        if fault:
            fault.left -= 1
        return fault

    async def _answer(self, request: Request) -> Reply:
        try:
            answer = self.answer(request)
            return await asyncio.to_thread(answer) if callable(answer) else answer
        except Exception as error:
            _log.exception("%s was not answered", request)
            return self.error(500, f"the emulator failed: {error!r}")


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next request of a connection; None where the client has ended it."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    request = Request.of(head)
    if request.headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return replace(request, body=await _read_body(reader, request.headers))


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":  # TensorFlow sends a Content-Length too
        return b"".join([chunk async for chunk in _chunks(reader)])
    return await reader.readexactly(_allowed(int(headers.get("content-length", 0))))


async def _chunks(reader: asyncio.StreamReader) -> Any:
    total = 0
    while size := int((await reader.readline()).split(b";")[0], 16):
        total = _allowed(total + size)
        yield await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # trailing headers


def _allowed(size: int) -> int:
    if not 0 <= size <= LARGEST_BODY:
        raise ValueError(f"a body of {size} bytes (at most {LARGEST_BODY})")
    return size
