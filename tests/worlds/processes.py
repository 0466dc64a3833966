"""Processes that are killed, that start together, and that a test waits for."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOBODY = 65534
CHANGES = ("fsync", "link", "mkdir", "remove", "rename", "replace", "rmdir", "unlink")


def killed(task: Callable[[], object], after: int) -> bool:
    """Run the task in a process that is killed after so many changes of the disk. Return whether it was killed."""
    pid = os.fork()
    if pid == 0:
        _child(lambda: (_die_after(after), task()))
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the task failed, see standard error"
    return False


def as_nobody(task: Callable[[], object]) -> None:
    """Run the task in a process of a user without any rights of its own; only root can. Fail if the task fails."""

    def become_nobody() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    pid = os.fork()
    if pid == 0:
        _child(lambda: (become_nobody(), task()))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the task failed, see standard error"


def at_once(*tasks: Callable[[], Any]) -> list[Any]:
    """Run tasks that start together, each in a process. Return their results; an exception counts as one."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(len(tasks)), context.SimpleQueue()
    processes = [context.Process(target=_meet, args=(barrier, results, *one)) for one in enumerate(tasks)]
    for process in processes:
        process.start()
    found = dict(results.get() for _ in processes)
    for process in processes:
        process.join()
    return [found[number] for number in range(len(tasks))]


def wait_until(holds: Callable[[], bool], seconds: float = 240) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Return whether the process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _meet(barrier: Any, results: Any, number: int, task: Callable[[], Any]) -> None:
    try:
        barrier.wait(30)
        results.put((number, task()))
    except Exception as error:
        traceback.print_exc()
        results.put((number, error))


def _child(task: Callable[[], object]) -> None:
    try:
        task()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _die_after(changes: int) -> None:
    done = itertools.count(1)

    def mortal(change: Callable[..., Any]) -> Callable[..., Any]:
        def changing(*args: Any, **kwargs: Any) -> Any:
            result = change(*args, **kwargs)
            if next(done) >= changes:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return changing

    for name in CHANGES:
        setattr(os, name, mortal(getattr(os, name)))
