"""An HTTP/1.1 server on the loopback interface, on aiohttp: the common base of all emulators.

Connections are served concurrently, but responses are computed one at a time: no request can change what another one
reads and then changes. Only a response that takes long and changes nothing is computed beside others. Requests are
logged, and can be made to fail, to lose their connection or to be slow.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Literal, Self
from urllib.parse import SplitResult, parse_qs, urlsplit

from aiohttp import web

HOST = "127.0.0.1"
BACKLOG = 1024
LARGEST_BODY = 2**30
LOGGED_REQUESTS = 500_000
_SECONDS_TO_START_OR_STOP = 10
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")
_IDENTITY = re.compile(rb"(?i)\r\ntransfer-encoding: *identity")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *[0-9]+")
_log = logging.getLogger(__name__)

Drop = Literal["before", "after", "within"]
Answer = web.Response | Callable[[], web.Response]


@dataclass(frozen=True)
class Request:
    """An HTTP request; `target` is path and query as sent, `headers` are found by names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.target}"

    @property
    def url(self) -> SplitResult:
        """Return the target, split into its parts."""
        return urlsplit(self.target)

    @property
    def query(self) -> dict[str, list[str]]:
        """Return the parameters of the query, decoded."""
        return parse_qs(self.url.query, keep_blank_values=True)


@dataclass
class _Fault:
    pattern: re.Pattern[str]
    left: int
    status: int | None
    drop: Drop | None
    delay: float


class ServerThread:
    """A thread of this process that runs a server on a port of the loopback interface.

    Args:
      listen: Starts the server.
    """

    def __init__(self, listen: Callable[[], Coroutine[None, None, asyncio.Server]]) -> None:
        self.port = 0
        self._listen = listen
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="emulator", daemon=True)

    def start(self) -> None:
        """Start to serve; sets the port."""
        self._thread.start()
        if not self._started.wait(_SECONDS_TO_START_OR_STOP):
            raise TimeoutError(f"no server could be started on {HOST} within {_SECONDS_TO_START_OR_STOP} s.")

    def stop(self) -> None:
        """End the server and all tasks of its connections."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(_SECONDS_TO_START_OR_STOP)

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await self._listen()
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopped.wait()
        server.close()


class _Connection(web.RequestHandler):
    """A connection that accepts what TensorFlow sends, and is closed when the server stops."""

    def data_received(self, data: bytes) -> None:
        """Parse what was received."""
        super().data_received(_framed_once(data))

    async def start(self) -> None:
        """Answer requests until the connection ends."""
        try:
            await super().start()
        finally:
            self.force_close()


class LoopbackServer:
    """A server in a thread of this process, while its context lasts; a subclass answers the requests.

    Attributes:
      latency: Seconds that every request waits before it takes effect; requests wait concurrently.
      requests: The requests so far, as `GET /path?query`, oldest first; the last 500,000 are kept.
      most_in_flight: The largest number of requests that were in progress at the same time.
    """

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency
        self.requests: deque[str] = deque(maxlen=LOGGED_REQUESTS)
        self.most_in_flight = 0
        self._in_flight = 0
        self._faults: list[_Fault] = []
        self._thread = ServerThread(self._listen)

    def answer(self, request: Request) -> Answer:
        """Return the response to a request, or a function that computes it while other requests are answered."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> web.Response:
        """Return an error in the form that Google's APIs use."""
        details = [{"domain": "global", "message": message}]
        return web.json_response({"error": {"code": status, "message": message, "errors": details}}, status=status)

    @property
    def url(self) -> str:
        """Return the server's address, `http://127.0.0.1:<port>`."""
        return f"http://{HOST}:{self._thread.port}"

    def count(self, pattern: str) -> int:
        """Return the number of requests so far that match a regular expression."""
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
        """Make the next requests fail that match a regular expression.

        Args:
          pattern: Regular expression for `GET /path?query`; every request by default.
          times: Number of requests.
          status: The HTTP status to return, without any effect.
          drop: Where to cut the connection: `before` the effect, `after` it, or `within` the response to it.
          delay: Seconds to wait first; alone, the requests are only slow.
        """
        self._faults.append(_Fault(re.compile(pattern), times, status, drop, delay))

    def recover(self) -> None:
        """Cancel the failures that have not happened yet."""
        self._faults.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.stop()

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        request = partial(web.BaseRequest, loop=loop, client_max_size=LARGEST_BODY)
        manager = web.Server(self._respond, request_factory=request)
        connection = partial(_Connection, manager, loop=loop, access_log=None, auto_decompress=False)  # type: ignore[arg-type]
        return await loop.create_server(connection, HOST, 0, backlog=BACKLOG)

    async def _respond(self, received: web.BaseRequest) -> web.Response:
        if "Expect" in received.headers:
            await received.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            request = Request(received.method, received.raw_path, received.headers, await received.read())
        except ConnectionError:
            return web.Response()  # it is not sent: the client has disconnected
        self.requests.append(str(request))
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            return await self._answer_or_fail(request, received.protocol)
        finally:
            self._in_flight -= 1

    async def _answer_or_fail(self, request: Request, connection: web.RequestHandler) -> web.Response:
        fault = self._fault(str(request))
        if delay := self.latency + (fault.delay if fault else 0.0):
            await asyncio.sleep(delay)
        if fault and fault.status is not None:
            return self.error(fault.status, "this failure was requested")
        response = web.Response() if fault and fault.drop == "before" else await self._answer(request)
        if fault and fault.drop == "within" and connection.transport:
            connection.transport.write(to_bytes(response)[:-1])
        if fault and fault.drop:
            connection.force_close()  # the response is not sent
        return response

    def _fault(self, request: str) -> _Fault | None:
        fault = next((fault for fault in self._faults if fault.left and fault.pattern.search(request)), None)
        if fault:
            fault.left -= 1
        return fault

    async def _answer(self, request: Request) -> web.Response:
        try:
            answer = self.answer(request)
            return await asyncio.to_thread(answer) if callable(answer) else answer
        except Exception as error:
            _log.exception("%s was not answered", request)
            return self.error(500, f"the emulator failed: {error!r}")


def to_bytes(response: web.Response) -> bytes:
    """Return a response as it is sent."""
    body = response.body if isinstance(response.body, bytes) else b""
    headers = {**response.headers, "Content-Length": str(len(body))}
    head = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def _framed_once(data: bytes) -> bytes:
    """Return received data without the second of two lengths: TensorFlow sends a Content-Length in any case."""
    if not data.startswith((b"POST ", b"PUT ")):
        return data
    head, end, rest = data.partition(b"\r\n\r\n")
    return (_LENGTH if _CHUNKED.search(head) else _IDENTITY).sub(b"", head) + end + rest
