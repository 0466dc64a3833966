"""A fork server: a process that has imported a module and forks for each process to start.

Importing TFX takes longer than many a job's work. A series of processes, started from one and from each other, can
share one import: `serving` holds a server as long as its context lasts, and `start` forks from it if it serves the
command. Without a running server `start` does nothing, and its caller starts a process in the ordinary way.

A server runs the code that it once imported. So it suits a series that soon ends, not a program that starts jobs for
days.

It has no address. Clients write to one end of a pair of sockets that its owner made; the owner and the forked processes
have that end open, and it closes in any program that they execute.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple

from adaptation.io.storage import collector_at_rest

TIMEOUT_SECONDS = 120.0  # it may still be importing
_PYTHON = (sys.executable, "-P")
_SERVE = "from adaptation.platforms.local.forkserver import serve; serve({module!r}, {preload!r}, {client}, {server})"
_REQUEST_BYTES = 2**18
_BEGUN = b"\n"


@dataclass(frozen=True)
class Forked:
    """A forked process. It holds the other end of the connection as long as it lives."""

    connection: socket.socket

    def wait(self) -> None:
        """Wait until it has ended, however it does."""
        with self.connection, contextlib.suppress(ConnectionError):
            self.connection.recv(1)


@dataclass(frozen=True)
class _Server:
    """The server of this process: the start of the commands that it serves, and the socket to write to."""

    command: tuple[str, ...]
    client: socket.socket


class _Request(NamedTuple):
    """A request for a process: JSON, and the descriptors of its connection and its log."""

    content: bytes
    connection: int
    log: int


_server: _Server | None = None


@contextlib.contextmanager
def serving(module: str, preload: str) -> Iterator[None]:
    """Hold a server for the commands `python -P -m MODULE ...`. It imports while the caller continues.

    It ends with the context, and with this process, however that ends; processes that it has forked continue. It exists
    only on Linux: elsewhere libraries with threads of their own do not survive a fork.

    Args:
      module: The module to run.
      preload: The module to import first. It must neither begin work nor start threads that anything waits for.
    """
    global _server
    if sys.platform != "linux":
        yield
        return
    client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with client, _started(module, preload, client, server) as process:
        server.close()
        _server = _Server(_command(module), client)
        try:
            yield
        finally:
            _server = None
            process.kill()


def start(command: Sequence[str], log: IO[bytes]) -> Forked | None:
    """Start a process that runs the command in its own session, without input; return None if no server serves it.

    Args:
      command: Program and arguments.
      log: A file that receives the process's output.
    """
    if _server is None or tuple(command[: len(_server.command)]) != _server.command:
        return None
    connection, theirs = socket.socketpair()
    connection.settimeout(TIMEOUT_SECONDS)
    with contextlib.suppress(OSError):  # the server has ended, or does not respond
        with theirs:
            _send(_server.client, _content(command[len(_server.command) :]), [theirs.fileno(), log.fileno()])
        if connection.recv(1) == _BEGUN:
            connection.settimeout(None)
            return Forked(connection)
    connection.close()
    return None


def serve(module: str, preload: str, client: int, server: int) -> None:
    """Run the server and, from the fork on, each requested process."""
    global _server
    _server = _Server(_command(module), _inherited(client))
    with collector_at_rest():
        importlib.import_module(preload)
    gc.freeze()  # else the collectors of the forked processes write to the imported objects, and so copy them
    sys.stdout.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # exit codes are not used: the system need not keep them
    with _inherited(server) as requests:
        request = _forked(requests)
    if request:
        _become(request)
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _started(module: str, preload: str, client: socket.socket, server: socket.socket) -> subprocess.Popen[bytes]:
    serve = _SERVE.format(module=module, preload=preload, client=client.fileno(), server=server.fileno())
    return subprocess.Popen(
        [*_PYTHON, "-c", serve],
        stdin=subprocess.PIPE,  # it closes when this process ends
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # an interrupt at the terminal of this process must not end the server
        pass_fds=(client.fileno(), server.fileno()),
    )


def _command(module: str) -> tuple[str, ...]:
    return (*_PYTHON, "-m", module)


def _send(client: socket.socket, content: bytes, descriptors: Sequence[int]) -> None:
    """Send like `socket.send_fds`, but raise if the queue is full: Python 3.11 forgets the flags there."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
    client.sendmsg([content], [rights], socket.MSG_DONTWAIT)


def _content(arguments: Sequence[str]) -> bytes:
    """Return the settings that a process inherits from its creator."""
    value = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    return json.dumps(value).encode()


def _inherited(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def _forked(requests: socket.socket) -> _Request | None:
    """Fork for each request and return it in the forked process. In the server return None when its owner has ended."""
    while sys.stdin not in select.select([sys.stdin, requests], [], [])[0]:
        content, descriptors, *_ = socket.recv_fds(requests, _REQUEST_BYTES, 2)
        if os.fork() == 0:
            return _Request(content, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
    return None


def _become(request: _Request) -> None:
    """Turn this process into the requested one. If that fails, it ends without having begun."""
    value = json.loads(request.content)
    os.chdir(value["folder"])
    os.environ.clear()
    os.environ.update(value["environment"])
    sys.argv[1:] = value["arguments"]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.set_inheritable(request.connection, False)  # it stays open, but in no program that is executed
    os.write(request.connection, _BEGUN)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in [(nothing, 0), (request.log, 1), (request.log, 2)]:
        os.dup2(source, target)
    for descriptor in (nothing, request.log):
        os.close(descriptor)
