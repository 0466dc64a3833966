"""The function as the runtime serves it: processes of functions-framework and gunicorn, on what the emulators hold."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptation.io import storage
from emulators.storage.emulator import StorageEmulator
from tests.worlds.vertex import Vertex

INSTANCES = 2
MONTHS = (f"20{number:02d}-10" for number in itertools.count(10))
_SECONDS_TO_START = 60
_SECONDS_TO_STOP = 20


@dataclass(frozen=True)
class Served:
    """A function that is being served, in a process of its own."""

    url: str
    out: Path

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged; each line has to be JSON."""
        return [json.loads(line) for line in self.out.read_text().splitlines()]


@dataclass(frozen=True)
class Place:
    """What the instances of one entry point run on."""

    storage: StorageEmulator
    vertex: Vertex
    instances: list[Served]

    def jobs(self, month: str) -> list[str]:
        return [job.id for job in self.vertex.jobs.list() if job.parameters["batch"] == month]

    def lines(self, month: str) -> list[dict[str, Any]]:
        """What the instances have logged about a month."""
        return [line for served in self.instances for line in served.lines() if line.get("batch") == month]


@contextlib.contextmanager
def serving(main: Path, target: str, variables: dict[str, str], out: Path) -> Iterator[Served]:
    """Serves an entry point on a free port until the context ends."""
    port = _free_port()
    command = [sys.executable, "-m", "functions_framework", "--target", target, "--source", str(main)]
    with out.open("wb") as stdout:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, **variables, "THREADS": "8", "WORKERS": "1"},
            stdout=stdout,
        )
    try:
        _wait_for(port, server)
        yield Served(f"http://127.0.0.1:{port}", out)
    finally:
        server.terminate()
        try:
            server.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"no function was served on {port} within {_SECONDS_TO_START} s; exit code {server.poll()}")


def collect(folder: str, count: int) -> None:
    uris = [f"{folder}/ship_{number:04}.jpg" for number in range(count)]
    storage.in_parallel(lambda uri: storage.write(uri, b"image"), uris)
