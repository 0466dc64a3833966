"""The processes of a rehearsal's tasks: each leads its own process group, so that all of it can be ended."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from adaptation.errors import AdaptationError

SECONDS_TO_END = 10.0


class Ended(AdaptationError, RuntimeError):
    """A command that was ended, or not started, because the rehearsal was stopped."""


class Processes:
    """The running commands. Each runs in a thread; any thread may stop them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Run a command in an empty folder until it has ended; the log gets the command and its output.

        Raises:
          AdaptationError: It cannot be started, or ended with another code than 0; the message has the last line.
          Ended: The rehearsal was stopped.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="task-") as folder, log.open("ab", buffering=0) as output:
            output.write(f"$ {shlex.join(command)}\n".encode())
            process = self._start(command, environment, folder, output.fileno())
            try:
                code = process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)
        if self._stopped:
            raise Ended("the rehearsal was stopped.")
        if code:
            raise AdaptationError(f"{_how(code)}: {_last_line(log)}")

    def stop(self) -> None:
        """End all running commands with the processes that they started; later ones are not started."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            try:
                process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str], folder: str, output: int
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise Ended("the rehearsal was stopped.")
            try:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise AdaptationError(f"{command[0]} cannot be started: {error}") from error
            self._running.add(process)
            return process


def _how(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()
