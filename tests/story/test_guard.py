"""The network guard refuses every way in which a Python process can leave this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.story.guard import sitecustomize as guard

OUTSIDE = "192.0.2.1"  # reserved for documentation: no host has it
WAYS = {
    "connect": f"socket.socket().connect(('{OUTSIDE}', 80))",
    "connect_ex": f"socket.socket().connect_ex(('{OUTSIDE}', 80))",
    "datagram": f"socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('{OUTSIDE}', 53))",
    "lookup": "socket.getaddrinfo('example.com', 443)",
    "old lookup": "socket.gethostbyname('example.com')",
    "library": f"urllib.request.urlopen('http://{OUTSIDE}/', timeout=1)",
    "coroutine": f"asyncio.run(asyncio.wait_for(asyncio.open_connection('{OUTSIDE}', 80), 1))",
}


@pytest.fixture
def record(tmp_path: Path) -> Path:
    file = tmp_path / "attempts.txt"
    file.touch()
    return file


@pytest.mark.parametrize("way", WAYS)
def test_child_process_that_tries_to_leave_is_refused_and_recorded(
    guarded: dict[str, str], record: Path, way: str
) -> None:
    code = f"import asyncio, socket, urllib.request\n{WAYS[way]}"
    result = run(code, {**guarded, guard.VARIABLE: str(record)})
    assert "PermissionError" in result.stderr
    assert "nothing outside the loopback interface may be contacted here" in result.stderr
    place = "example.com" if "lookup" in way else OUTSIDE
    assert place in record.read_text()


def test_loopback_interface_is_free(guarded: dict[str, str], record: Path) -> None:
    code = """
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(("localhost", server.getsockname()[1])).close()
socket.create_connection(server.getsockname()).close()
"""
    result = run(code, {**guarded, guard.VARIABLE: str(record)})
    assert (result.returncode, record.read_text()) == (0, ""), result.stderr


def test_process_is_guarded_too(record: Path, attempts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guard.VARIABLE, str(record))
    with pytest.raises(PermissionError, match=OUTSIDE):
        socket.create_connection((OUTSIDE, 80), timeout=1)
    assert OUTSIDE in record.read_text()
    assert attempts.exists()


def run(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
