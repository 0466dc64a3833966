"""Locks between the processes of one machine. What they guard is not known here.

The operating system holds them for a process and takes them back when it ends, however it ends: a lock that can be had
says that nobody alive has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Holds the lock on a file while the context lasts; waits for it. The file is made where there is none."""
    with _descriptor(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_if_free(path: str) -> Iterator[bool]:
    """Like `locked`, but never waits: gives False, without the lock, where another has it."""
    with _descriptor(path) as descriptor:
        yield _acquired(descriptor)


def is_locked(path: str) -> bool:
    """Whether somebody holds the lock. For the moment that it takes to look, the lock is not to be had."""
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
        # Not left to the closing: a process forked meanwhile has the descriptor, and with it the lock, as well.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
