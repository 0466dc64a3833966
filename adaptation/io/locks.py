"""Locks between the processes of one machine.

The operating system holds them for a process and releases them when it ends, however it ends: a free lock means that no
living process has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock on a file while the context lasts; wait for it. A missing file is made."""
    with _descriptor(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_if_free(path: str) -> Iterator[bool]:
    """Like `locked`, but never wait: yield False, without the lock, if another process has it."""
    with _descriptor(path) as descriptor:
        yield _acquired(descriptor)


def is_locked(path: str) -> bool:
    """Return True if another process holds the lock. The check itself holds the lock for a moment."""
    if not os.path.exists(path):
        return False
    with locked_if_free(path) as free:
        return not free


@contextlib.contextmanager
def _descriptor(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield descriptor
    finally:
        # Unlocked explicitly: a process forked meanwhile has the descriptor, and with it the lock, as well.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
