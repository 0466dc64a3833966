"""Locks between the processes of one machine.

The operating system holds them for a process and releases them when it ends, however it ends: a free lock means that no
living process has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

_TRIES, _TRY_SECONDS = 5, 0.005


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
        yield _acquired(descriptor, fcntl.LOCK_EX)


def is_locked(path: str) -> bool:
    """Return True if another process holds the lock.

    The permission to read the file is enough. The check itself shares the lock with other checks for a moment.
    """
    try:
        with _descriptor(path, os.O_RDONLY) as descriptor:
            return not _acquired(descriptor, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def keep(descriptor: int) -> bool:
    """Lock an open file for as long as it is open, here or in a process that inherits it; False if it is locked.

    A check of another process (`is_locked`) does not stand in the way.
    """
    for _ in range(_TRIES):
        if _acquired(descriptor, fcntl.LOCK_EX):
            return True
        time.sleep(_TRY_SECONDS)
    return False


@contextlib.contextmanager
def _descriptor(path: str, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        # Unlocked explicitly: a process forked meanwhile has the descriptor, and with it the lock, as well.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _acquired(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
