"""The way to the emulators for clients that use Google's own addresses, such as `https://storage.googleapis.com`.

TensorFlow's `gs://` knows no other, and a compiled pipeline names none. A proxy takes the CONNECT requests to them,
ends their TLS with a certificate of its own, and passes what is inside on to the emulator. Requests for any other place
are refused, and told of: nothing leaves the machine.
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from emulators.http_server import HOST, LoopbackThread

STORAGE_HOSTS = ("storage.googleapis.com", "www.googleapis.com")


def vertex_host(location: str) -> str:
    """The host of Vertex AI in a location."""
    return f"{location}-aiplatform.googleapis.com"


class TlsProxy:
    """A proxy in a thread of this process, while its context lasts.

    Args:
      emulators: The addresses of the emulators, by the host whose part they take.

    Attributes:
      refused: The requests that were for any other place, as `CONNECT host:port` or `GET http://host/path`.
    """

    def __init__(self, emulators: Mapping[str, str]) -> None:
        self.refused: list[str] = []
        self._emulators = {host: urlsplit(url) for host, url in emulators.items()}
        self._folder = tempfile.TemporaryDirectory(prefix="tls-proxy-")
        self._certificate = Path(self._folder.name, "certificate.pem")
        self._thread = LoopbackThread(self._converse)

    def environment(self) -> dict[str, str]:
        """What a process must have in its environment when it starts, for its clients to come here."""
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
        self._certificate.write_bytes(_self_signed(self._emulators))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self._certificate)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.stop()
        self._folder.cleanup()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        await asyncio.gather(_pass_on(reader, inner_writer), _pass_on(inner_reader, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(2**18):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def _self_signed(hosts: Iterable[str]) -> bytes:
    """A key and a certificate for these hosts, as PEM; good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emulators")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain
    ) + certificate.public_bytes(serialization.Encoding.PEM)
