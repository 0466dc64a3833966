"""A pool of processes and threads for work on very many items, few of which are in memory at a time.

Work in Python itself is shared with other processes of this machine. They are plain Python processes that talk over
pipes, so that any process may start them, whatever threads and libraries it holds (a fork may not), and import no more
than their task needs (the standard library's would import the program that started them, perhaps all of TFX). Libraries
that release Python's lock need only threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, TypeVar

from adaptation.errors import AdaptationError

_SERVE = "import sys; sys.path[:] = {path!r}; from adaptation.io.process_pool import serve; serve()"
_LENGTH = struct.Struct("<Q")
_PIPE_BYTES = 2**20  # a worker continues while its result waits
_T = TypeVar("_T")
_R = TypeVar("_R")


def share(task: Callable[[_T], _R], items: Sequence[_T], workers: int) -> list[_R]:
    """Return `task` of every item, in order, computed by this process and its workers.

    Args:
      task: A function that can be pickled: one of a module, or a `functools.partial` of one.
      items: The task's arguments; each process takes the next one when it is ready, so that none waits for another.
      workers: The number of workers; no more than idle processors are started.

    Raises:
      Exception: An error of the task, here or in a worker.
      AdaptationError: A worker was ended from outside.
    """
    todo, done = deque(enumerate(items)), dict[int, _R]()
    helpers = min(workers, processors() - 1)
    if helpers < 1:
        return [task(item) for item in items]
    with ThreadPoolExecutor(helpers) as pool:
        try:
            helping = [pool.submit(_help, task, todo, done) for _ in range(helpers)]
            _work(task, todo, done)
        finally:
            todo.clear()  # also after an error here
        for helper in helping:
            helper.result()
    return [done[number] for number in range(len(items))]


def ahead(task: Callable[[_T], _R], items: Iterable[_T], threads: int) -> Iterator[_R]:
    """Yield `task` of each item, in order, while so many threads of this process compute the next ones.

    An item is taken from `items` only when a thread is free for it: at most `threads` of them wait, run or are done but
    not yet consumed, besides the one whose result is awaited. So memory is bounded by them.

    Raises:
      Exception: An error of the task, in its item's place.
    """
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[_R]] = deque()
        for item in items:
            under_way.append(pool.submit(task, item))
            if len(under_way) > threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve() -> None:
    """Run a worker: receive a task, then items; send back each result. End with the input."""
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what a task prints must not mix with its results
    task = _receive(incoming)
    with contextlib.suppress(EOFError):
        while True:
            _send(outgoing, _outcome(task, _receive(incoming)))


def _work(task: Callable[[Any], Any], todo: deque[tuple[int, Any]], done: dict[int, Any]) -> None:
    for number, item in _taken(todo):
        done[number] = task(item)


def _help(task: Callable[[Any], Any], todo: deque[tuple[int, Any]], done: dict[int, Any]) -> None:
    """Have a worker do the work left. It has the next item before its last result is read."""
    try:
        with _worker(task) as (results, items):
            _feed(items, results, todo, done)
    except BaseException:
        todo.clear()  # nobody begins another item
        raise


def _feed(items: IO[bytes], results: IO[bytes], todo: deque[tuple[int, Any]], done: dict[int, Any]) -> None:
    """Give a worker one item ahead, but none so large that both sides could block on each other."""
    sent: deque[int] = deque()
    room = _room(items)
    for number, item in _taken(todo):
        message = _packed(item)
        while len(sent) > (1 if len(message) <= room else 0):
            done[sent.popleft()] = _result(results)
        _write(items, message)
        sent.append(number)
    for number in sent:
        done[number] = _result(results)


def _taken(todo: deque[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    while True:
        try:
            yield todo.popleft()
        except IndexError:
            return


@contextlib.contextmanager
def _worker(task: Callable[[Any], Any]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    command = (sys.executable, "-c", _SERVE.format(path=sys.path))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        for pipe in (process.stdin, process.stdout):
            _widen(pipe)
        try:
            _send(process.stdin, task)
            yield process.stdout, process.stdin
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise AdaptationError(
                "a process that helped has ended in the middle of its work; if memory ran out, give it more. "
                "Run it again."
            ) from error
        finally:
            process.kill()


def _widen(pipe: IO[bytes]) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # on Linux
        with contextlib.suppress(PermissionError):  # the user has too many pipes: they stay as they are
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _room(pipe: IO[bytes]) -> int:
    """Return how many bytes may wait in a pipe; 0 if the system does not say."""
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else 0


def _result(results: IO[bytes]) -> Any:
    result, error = _receive(results)
    if error:
        raise error
    return result


def _send(pipe: IO[bytes], value: Any) -> None:
    _write(pipe, _packed(value))


def _packed(value: Any) -> bytes:
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


def _write(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(message)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    """Receive a value in two reads: while this process works, each read costs a turn of Python's global lock."""
    head = pipe.read(_LENGTH.size)
    if not head:
        raise EOFError
    return pickle.loads(pipe.read(*_LENGTH.unpack(head)))


def _outcome(task: Callable[[Any], Any], item: Any) -> tuple[Any, Exception | None]:
    try:
        return task(item), None
    except Exception as error:
        return None, error
