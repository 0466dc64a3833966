"""A proxy that leads clients of Google's own addresses, such as `https://storage.googleapis.com`, to the emulators.

TensorFlow's `gs://` uses no other address, and a compiled pipeline names none. The proxy accepts CONNECT requests to
these hosts, ends their TLS with a certificate of its own and forwards the content to the emulator. Requests for any
other host are refused and recorded: nothing leaves the machine.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import trustme

from emulators.http_server import HOST, ServerThread

STORAGE_HOSTS = ("storage.googleapis.com", "www.googleapis.com")


def vertex_host(location: str) -> str:
    """Return the host of Vertex AI in a location."""
    return f"{location}-aiplatform.googleapis.com"


class TlsProxy:
    """A proxy in a thread of this process, while its context lasts.

    Args:
      emulators: The addresses of the emulators, by the host that each stands for.

    Attributes:
      refused: The requests for any other host, as `CONNECT host:port` or `GET http://host/path`.
    """

    def __init__(self, emulators: Mapping[str, str]) -> None:
        self.refused: list[str] = []
        self._emulators = {host: urlsplit(url) for host, url in emulators.items()}
        self._folder = tempfile.TemporaryDirectory(prefix="tls-proxy-")
        self._certificate = Path(self._folder.name, "certificate.pem")
        self._thread = ServerThread(lambda: asyncio.start_server(self._connected, HOST, 0))

    def environment(self) -> dict[str, str]:
        """Return the environment variables that lead a process's clients to the proxy, if set when it starts."""
        url = f"http://{HOST}:{self._thread.port}"
        return {
            "http_proxy": url,
            "https_proxy": url,
            "no_proxy": f"{HOST},localhost",
            "CURL_CA_BUNDLE": str(self._certificate),
            "REQUESTS_CA_BUNDLE": str(self._certificate),
            "NO_GCE_CHECK": "true",
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "emulated",
        }

    def __enter__(self) -> Self:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self._certificate)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*self._emulators).configure_cert(self._tls)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.stop()
        self._folder.cleanup()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._forward(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client has disconnected, or the proxy stops
        finally:
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.splitlines()[0].split(" ")
        emulator = self._emulators.get(target.rpartition(":")[0]) if method == "CONNECT" else None
        if emulator is None:
            self.refused.append(f"{method} {target}")
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.start_tls(self._tls)
        inner_reader, inner_writer = await asyncio.open_connection(emulator.hostname, emulator.port)
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(2**18):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
