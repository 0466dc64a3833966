"""Jobs as recorded folders, each run by one process of this machine that outlives its creator.

    jobs/<id>/request.json     the request; it makes the job exist
              state.json       RUNNING, SUCCEEDED or FAILED; PENDING jobs have none
              result.json      the result of the work
              progress.jsonl   the reports of `adaptation.progress`, a line a step
              usage.json       CPU time, memory and GPU energy that the work took
              log.txt          everything that the process printed; locked from its start on
              lock             held by the process from the beginning of its work on, as long as it lives

`LocalJobs` creates, watches and lists; the process itself calls `run_recorded`. The work is defined by its caller.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import IO, Any, TypeVar

import msgspec

from adaptation import codec, progress
from adaptation.errors import described
from adaptation.io import storage
from adaptation.io.locks import is_locked, keep, locked_if_free
from adaptation.platforms.base import InvalidJob, Job, JobFailed, JobRequest, JobState, NoSuchJob
from adaptation.platforms.local import forkserver
from adaptation.platforms.local.usage import Usage, measure

REQUEST, STATE, RESULT, USAGE = "request.json", "state.json", "result.json", "usage.json"
PROGRESS, LOG, LOCK = "progress.jsonl", "log.txt", "lock"
POLL_SECONDS = 0.05
START_SECONDS = 30.0
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LONGEST_MESSAGE = 1000  # on a full disk, so that the record fits into one block
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class _Request(JobRequest):
    created: str


@dataclass(frozen=True)
class _Status:
    state: JobState
    message: str = ""
    time: str = ""


STATE_FILES: Mapping[str, Any] = {
    f"*/{REQUEST}": _Request,
    f"*/{STATE}": _Status,
    f"*/{RESULT}": dict[str, Any],
    f"*/{USAGE}": Usage,
}


class LocalJobs:
    """Jobs in subfolders, run by a command of this machine."""

    def __init__(self, folder: str, command: tuple[str, ...]) -> None:
        """Open the jobs; the folder need not exist.

        Args:
          folder: Parent of the jobs' folders.
          command: Program and arguments; with a job's folder as the last argument it must call `run_recorded`.
        """
        self.folder = storage.absolute(folder)
        self.command = command

    def create(self, request: JobRequest) -> Job:
        """Start the job once; return an existing job of that id unchanged.

        It counts as running from the start of its process on, however long that takes until the work begins.

        Failure: cut off before its process was started, the job is PENDING; creating it again starts it.

        Raises:
          InvalidJob: The id is not made of a-z, 0-9 and `-`.
          JobFailed: The command cannot be run.
        """
        folder = self._folder(request.id)
        with contextlib.suppress(FileExistsError):
            recorded = _Request(request.id, request.pipeline, request.parameters, created=_now())
            storage.create(storage.join(folder, REQUEST), codec.encode(recorded))
        if _status(folder).state is JobState.PENDING and not is_locked(storage.join(folder, LOCK)):
            self._start(folder)
        return _job(folder)

    def get(self, job_id: str) -> Job | None:
        """Return the job, or None if it was never created. A job whose process was killed is FAILED."""
        folder = self._folder(job_id)
        return _job(folder) if storage.exists(storage.join(folder, REQUEST)) else None

    def list(self) -> list[Job]:
        """Return all jobs, oldest first."""
        folders = (storage.join(self.folder, name) for name in storage.folders(self.folder) if _ID.fullmatch(name))
        created = [_job(folder) for folder in folders if storage.exists(storage.join(folder, REQUEST))]
        return sorted(created, key=lambda job: job.created)

    def usage(self, job_id: str) -> Usage | None:
        """Return what a job used, or None before its end and for jobs of earlier versions."""
        return _read(storage.join(self._folder(job_id), USAGE), Usage)

    def follow(self, job_id: str) -> Iterator[str]:
        """Yield the job's progress messages from the first on, as they come, until it has ended.

        A job whose process died before it began, with no other process waiting for it, is started again.

        Raises:
          NoSuchJob: No job of that id was created.
        """
        shown, started = 0, time.monotonic()
        while True:
            job = self._existing(job_id)
            if job.state is JobState.PENDING and time.monotonic() - started > START_SECONDS:
                self.create(JobRequest(job.id, job.pipeline, job.parameters))
                started = time.monotonic()
            messages = _messages(self._folder(job_id))
            yield from messages[shown:]
            shown = len(messages)
            if job.state.ended:
                return
            time.sleep(POLL_SECONDS)

    def _existing(self, job_id: str) -> Job:
        job = self.get(job_id)
        if job is None:
            known = ", ".join(job.id for job in self.list()[-5:]) or "none"
            raise NoSuchJob(f"there is no job {job_id} below {self.folder} (newest: {known}).")
        return job

    def _folder(self, job_id: str) -> str:
        if not _ID.fullmatch(job_id):
            raise InvalidJob(f"{job_id!r} cannot name a job. Use up to 128 of a-z, 0-9 and -, the first not a -.")
        return storage.join(self.folder, job_id)

    def _start(self, folder: str) -> None:
        with open(storage.join(folder, LOG), "ab") as log:
            if not keep(log.fileno()):  # the process that another call has started keeps it, as its output
                return
            try:
                process = _started([*self.command, folder], log)
            except OSError as error:
                raise JobFailed(f"{folder} was not started: {error}. Fix that and create it again.") from error
        threading.Thread(target=_attend, args=(process, folder), daemon=True).start()


def run_recorded(folder: str, work: Callable[[JobRequest], Any]) -> None:
    """Run a job's work in this process and record its course, unless the job was started before.

    Args:
      folder: The job's folder.
      work: Gets the request; its result, a dataclass or a mapping, becomes the job's. An exception makes the job
        FAILED.
    """
    # If the lock is taken, try again until the state has changed: another process may hold it only for a check
    # (is_locked), or was killed before it recorded that it runs the job.
    while _recorded(folder).state is JobState.PENDING:
        with locked_if_free(storage.join(folder, LOCK)) as mine:
            if mine and _recorded(folder).state is JobState.PENDING:
                _run(folder, work)
        time.sleep(POLL_SECONDS / 10)


def _run(folder: str, work: Callable[[JobRequest], Any]) -> None:
    _record(folder, _Status(JobState.RUNNING))
    try:
        with _recorded_usage(folder), _recorded_progress(folder):
            result = work(_request(folder))
        storage.write(storage.join(folder, RESULT), codec.encode(dict(msgspec.to_builtins(result)), indent=0))
    except BaseException as error:
        with contextlib.suppress(OSError):  # the log's disk may be full
            traceback.print_exc()
        _record(folder, _Status(JobState.FAILED, described(error)))
        if not isinstance(error, Exception):
            raise
    else:
        _record(folder, _Status(JobState.SUCCEEDED))


@contextlib.contextmanager
def _recorded_usage(folder: str) -> Iterator[None]:
    used = measure()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the figures are no reason for a job to fail
            storage.write(storage.join(folder, USAGE), codec.encode(used(), indent=0))


@contextlib.contextmanager
def _recorded_progress(folder: str) -> Iterator[None]:
    handler = logging.FileHandler(storage.join(folder, PROGRESS), encoding="utf-8")
    handler.setFormatter(_JsonLine())
    progress.LOGGER.addHandler(handler)
    progress.LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        progress.LOGGER.removeHandler(handler)
        handler.close()


@dataclass(frozen=True)
class _Progress:
    time: str
    message: str


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return codec.encode(_Progress(_now(), record.getMessage()), indent=0).decode()


def _started(command: list[str], log: IO[bytes]) -> forkserver.Forked | subprocess.Popen[bytes]:
    return forkserver.start(command, log) or subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )


def _attend(process: forkserver.Forked | subprocess.Popen[bytes], folder: str) -> None:
    """Wait for the process; if it ended without starting the job, no other will, and the job has failed."""
    process.wait()
    with contextlib.suppress(OSError), locked_if_free(storage.join(folder, LOCK)) as alone:
        if alone and _recorded(folder).state is JobState.PENDING:
            message = f"the process ended before it began; {storage.join(folder, LOG)} may say why"
            _record(folder, _Status(JobState.FAILED, message))


def _job(folder: str) -> Job:
    request, status = _request(folder), _status(folder)
    return Job(
        id=request.id,
        pipeline=request.pipeline,
        parameters=request.parameters,
        state=status.state,
        message=status.message,
        link=storage.join(folder, LOG),
        result=_read(storage.join(folder, RESULT), dict[str, Any]) or {},
        created=request.created,
        ended=status.time if status.state.ended else "",
    )


def _status(folder: str) -> _Status:
    """Return the recorded status, corrected if the process has not come to its work, or died without a record."""
    status = _recorded(folder)
    if status.state is JobState.PENDING and is_locked(storage.join(folder, LOG)):
        return _Status(JobState.RUNNING, "its process is starting")
    if status.state is not JobState.RUNNING or is_locked(storage.join(folder, LOCK)):
        return status
    status = _recorded(folder)  # the process may have ended normally between the two checks
    if status.state is not JobState.RUNNING:
        return status
    return _Status(JobState.FAILED, f"the process was killed; the end of {storage.join(folder, LOG)} may say why")


def _recorded(folder: str) -> _Status:
    return _read(storage.join(folder, STATE), _Status) or _Status(JobState.PENDING)


def _record(folder: str, status: _Status) -> None:
    message = status.message.encode(errors="backslashreplace").decode()  # an error may name a file that is no text
    state, recorded = storage.join(folder, STATE), _Status(status.state, message, _now())
    try:
        storage.write(state, codec.encode(recorded, indent=0))
    except OSError as error:
        if error.errno not in _FULL or not os.path.exists(state):
            raise
        _write_over(state, codec.encode(replace(recorded, message=message[:_LONGEST_MESSAGE]), indent=0))


def _write_over(path: str, data: bytes) -> None:
    """Write into the block that a small file has already: a full disk has no other."""
    with open(path, "r+b") as file:
        file.write(data.ljust(os.path.getsize(path)))


def _request(folder: str) -> _Request:
    return codec.read(storage.join(folder, REQUEST), _Request)


def _messages(folder: str) -> list[str]:
    file = storage.join(folder, PROGRESS)
    try:
        lines = storage.read(file).split(b"\n")
    except FileNotFoundError:
        return []
    return [codec.decode(line, _Progress, file).message for line in lines[:-1]]  # the last may be half written


def _read(path: str, kind: type[_T]) -> _T | None:
    try:
        return codec.read(path, kind)
    except FileNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
