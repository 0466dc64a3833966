"""One storage API over fsspec: local paths and `gs://` URIs alike.

A URI is a string: an absolute local path, or `gs://bucket/key`, taken literally: no character in it is a pattern. This
module has only what the other modules need: whole-file reads and writes that are atomic, an exclusive create, a move
that never overwrites, listings that are never stale, bulk reads with many requests in flight. Needs of object stores
alone are in `object_store`.

A write is seen whole or not at all, even if the process dies in the middle of it. Locally the bytes go to a hidden
neighbour that is flushed to disk and then renamed or linked into place; an object store does the same by itself. If the
store cannot be reached, requests are retried for a while, then `StorageFailed` is raised; `StorageRefused` if something
is not allowed.

A file system without hard links (exFAT, gcsfuse, some network drives) keeps these promises among the processes of one
machine: a lock takes the link's place.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from adaptation.io import locks, object_store
from adaptation.io.object_store import REQUESTS_IN_FLIGHT, translate_errors, translate_iterator_errors

TEMPORARY = ".tmp-"
LINKED_FOLDER, LOOP, NOT_A_FILE = "linked folder", "link to a folder above", "neither file nor folder"
_READ_BYTES = 2**20
# No link: the file system has none, the file has as many as it may, or it is another user's (fs.protected_hardlinks).
_NO_LINK = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_LOCAL = LocalFileSystem()
_T = TypeVar("_T")
_R = TypeVar("_R")


class File(NamedTuple):
    """A listed file. `name` is relative to the listed folder, `size` is in bytes."""

    name: str
    size: int


def join(base: str, *parts: str) -> str:
    """Join URI parts with single slashes.

    >>> join("gs://bucket/data/", "span-1", "train")
    'gs://bucket/data/span-1/train'
    """
    return "/".join([base.rstrip("/") if base != "/" else "", *(part.strip("/") for part in parts)])


def basename(uri: str) -> str:
    """Return the last part of a URI.

    >>> basename("gs://bucket/2021-10/airplane_1.jpg")
    'airplane_1.jpg'
    """
    return uri.rstrip("/").rsplit("/", 1)[-1]


def is_local(uri: str) -> bool:
    """Return True if the URI names a place on this machine's own file system."""
    return _protocol(uri) in LocalFileSystem.protocol


def absolute(uri: str) -> str:
    """Return the URI in a form that other processes can use: local paths made absolute, others unchanged."""
    return os.path.abspath(_open(uri)[1]) if is_local(uri) else uri.rstrip("/")


@translate_errors
def exists(uri: str) -> bool:
    """Return True if a file or a folder exists."""
    fs, path = _open(uri)
    return bool(fs.exists(path))


@translate_errors
def read(uri: str) -> bytes:
    """Return the content of a file.

    Raises:
      FileNotFoundError: The file does not exist.
    """
    fs, path = _open(uri)
    if isinstance(fs, LocalFileSystem):
        with open(path, "rb") as file:
            return file.read()
    return bytes(fs.cat_file(path))


def read_many(uris: Sequence[str], chunk: int = 4 * REQUESTS_IN_FLIGHT) -> Iterator[bytes | OSError]:
    """Yield the files' contents in the order of `uris`, an OSError in the place of each unreadable one.

    Holds at most `chunk` files in memory. On object storage their requests are in flight together.
    """
    for start in range(0, len(uris), chunk):
        part = uris[start : start + chunk]
        if is_local(part[0]):
            yield from map(_read_or_error, map(_path, part))
        else:
            yield from object_store.read_all(_open(part[0])[0], part)


@translate_errors
def write(uri: str, data: bytes) -> None:
    """Write the file, replacing an existing one.

    Failure: the old content, or none, is left; never a part of the new one.
    """
    fs, path = _open(uri)
    if isinstance(fs, LocalFileSystem):
        with _staged(path, data) as staged:
            os.replace(staged, path)
    else:
        fs.pipe_file(path, data)


@translate_errors
def create(uri: str, data: bytes) -> None:
    """Write the file only if it does not exist: of any number of callers exactly one succeeds.

    Raises:
      FileExistsError: The file exists already; it is left unchanged.
    """
    fs, path = _open(uri)
    if isinstance(fs, LocalFileSystem):
        with _staged(path, data) as staged:
            _name(staged, path)
    else:
        object_store.create(fs, path, data)


@translate_errors
def move(source: str, target: str) -> None:
    """Move one file without ever overwriting another; between disks by a copy.

    Failure: cut off half-way, the file is at both places, with the same content; moving it again raises
    FileExistsError. On object storage, if the response was lost, either error may be raised although the file has been
    moved.

    Raises:
      FileExistsError: `target` exists.
      FileNotFoundError: `source` does not exist.
    """
    fs, path = _open(source)
    _, new_path = _open(target)
    if not isinstance(fs, LocalFileSystem):
        object_store.move(fs, path, new_path)
    elif _named(path, new_path):
        os.unlink(path)


@translate_errors
def link(source: str, target: str) -> None:
    """Make `target` the same immutable file as `source` without moving its bytes through this process.

    A hard link on one disk, a server-side copy on object storage, a plain copy between disks. Repeating it is safe.
    """
    fs, path = _open(source)
    _, new_path = _open(target)
    if not isinstance(fs, LocalFileSystem):
        fs.cp_file(path, new_path)
        return
    os.makedirs(os.path.dirname(new_path), exist_ok=True)
    try:
        os.link(path, new_path)
    except FileExistsError:
        return
    except OSError:
        write(target, read(source))


@translate_errors
def remove(uri: str) -> None:
    """Remove a file; a missing one is no error."""
    _remove(*_open(uri))


@translate_errors
def remove_folder(uri: str) -> None:
    """Remove a folder with its content, unfinished writes too; a missing one is no error.

    Files that others write at the same time may stay.
    """
    fs, path = _open(uri)
    if isinstance(fs, LocalFileSystem):
        shutil.rmtree(path, ignore_errors=True)
    else:
        in_parallel(lambda item: _remove(fs, item["name"]), object_store.objects_below(fs, path))


@translate_errors
def folders(uri: str, start: str = "", end: str = "") -> list[str]:
    """Return the names of the folders directly inside, sorted; none if the folder itself is missing.

    Args:
      uri: The folder.
      start: The first name to return.
      end: The name to stop before; "" for no end. Names outside cost no page of a listing.
    """
    fs, path = _open(uri)
    if isinstance(fs, LocalFileSystem):
        found = (entry.name for entry in _entries(path) if entry.is_dir())
    else:
        items = object_store.children(fs, path, start, end)
        found = (basename(item["name"]) for item in items if item["type"] == "directory")
    return sorted(name for name in found if start <= name and (not end or name < end))


@translate_errors
def files(uri: str) -> list[File]:
    """Return the files directly inside, sorted by name, without unfinished writes; none if the folder is missing."""
    fs, path = _open(uri)
    if isinstance(fs, LocalFileSystem):
        return _sorted(_local_files(path))
    return _sorted(_remote_files(object_store.children(fs, path), path))


def files_below(uri: str) -> list[File]:
    """Return the files inside at any depth, sorted by name relative to `uri`, without unfinished writes.

    A symbolic link to a file counts as the file; linked folders are not entered.
    """
    return _sorted(iter_files_below(uri))


@translate_iterator_errors
def iter_files_below(
    uri: str, pass_over: Callable[[str, str], None] | None = None, follow: bool = False
) -> Iterator[File]:
    """Yield the files that `files_below` returns, in any order, listed on demand.

    Stopping early saves what is not yet listed: on object storage, pages of up to 1,000 names.

    Args:
      uri: The folder.
      pass_over: Called with the name of everything else that is not entered or no file (a link to nothing, a socket
        ...), and with what it is: one of the constants of this module.
      follow: Whether to enter linked folders, except those that lead back to a folder around them.
    """
    fs, path = _open(uri)
    if isinstance(fs, LocalFileSystem):
        yield from _local_files_below(path, "", pass_over or (lambda name, kind: None), follow, ())
    else:
        yield from _remote_files(object_store.objects_below(fs, path), path)


@contextlib.contextmanager
def locked(uri: str) -> Iterator[None]:
    """Lock out the other processes of this machine while the context lasts; wait for the lock.

    The system releases the lock when the process ends, however it ends. Object storage has no such lock: there this
    does nothing.
    """
    fs, path = _open(uri)
    if not isinstance(fs, LocalFileSystem):
        yield
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with locks.locked(path):
        yield


def in_parallel(task: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Return `task` of every item, in order, with many requests in flight."""
    with ThreadPoolExecutor(REQUESTS_IN_FLIGHT) as pool:
        return list(pool.map(task, items))


@contextlib.contextmanager
def collector_at_rest() -> Iterator[None]:
    """Switch this process's garbage collector off while very many lasting objects are made at once.

    It would search them again and again and find no garbage. Importing TFX takes a third longer with it, reading a list
    of a million files several times as long.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _open(uri: str) -> tuple[AbstractFileSystem, str]:
    if is_local(uri):
        return _LOCAL, _path(uri)
    fs = object_store.store(_protocol(uri))
    return fs, fs._strip_protocol(uri)


def _path(uri: str) -> str:
    """Return the path of a local URI; a path is returned unchanged and quickly, because there are very many."""
    is_path = uri.startswith("/") and not uri.endswith("/")
    return uri if is_path else str(_LOCAL._strip_protocol(uri))


def _protocol(uri: str) -> str:
    return uri.partition("://")[0] if "://" in uri else "file"


def _named(path: str, new_path: str) -> bool:
    """Give a file a second name that is free; return False if it has lost its first one by that."""
    while True:
        os.makedirs(os.path.dirname(new_path), exist_ok=True)
        try:
            return _name(path, new_path)
        except FileNotFoundError:  # the system also reports it for a file that is just being replaced
            if not os.path.lexists(path):
                raise
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            create(new_path, read(path))
            return True


def _name(path: str, new_path: str) -> bool:
    """Do as `_named`, once, on one disk."""
    try:
        os.link(path, new_path)
        return True
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
    with locks.locked(os.path.join(os.path.dirname(new_path), f"{TEMPORARY}lock")):
        if os.path.lexists(new_path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_path)
        os.rename(path, new_path)
        return False


def _read_or_error(path: str) -> bytes | OSError:
    """Read with the system's calls: Python's file objects would take half of a small file's time."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return b"".join(iter(partial(os.read, descriptor, _READ_BYTES), b""))
        finally:
            os.close(descriptor)
    except OSError as error:
        return error


def _remove(fs: AbstractFileSystem, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def _remote_files(items: Iterable[dict[str, Any]], path: str) -> Iterator[File]:
    """Yield the listed files; some tools make folders as objects whose names end with a slash."""
    prefix = path.rstrip("/") + "/"
    found = (item for item in items if item["type"] == "file" and not item["name"].endswith("/"))
    listed = (File(item["name"].removeprefix(prefix), int(item["size"])) for item in found)
    return (file for file in listed if not _is_unfinished(file.name))


def _sorted(files: Iterable[File]) -> list[File]:
    with collector_at_rest():
        return sorted(files, key=itemgetter(0))  # by name: many times as fast as comparing files


def _local_files(folder: str) -> Iterator[File]:
    """Yield the files directly inside."""
    return (File(entry.name, size) for entry in _entries(folder) if (size := _size(entry)) is not None)


def _local_files_below(
    folder: str, place: str, pass_over: Callable[[str, str], None], follow: bool, above: tuple[str, ...]
) -> Iterator[File]:
    """Yield the files at any depth.

    Args:
      folder: The path.
      place: Its path in the listed one, with a slash at its end.
      pass_over: As for `iter_files_below`.
      follow: Likewise.
      above: The true paths of the folders around it; found out only if `follow` is set.
    """
    inside, around = [], (*above, os.path.realpath(folder)) if follow else ()
    for entry in _entries(folder):
        if (size := _size(entry)) is not None:
            yield File(place + entry.name, size)
        elif entry.is_dir(follow_symlinks=False):
            inside.append(entry.name)
        elif not entry.name.startswith(TEMPORARY):
            if (kind := _kind_of_odd(entry, os.path.join(folder, entry.name), follow, around)) is None:
                inside.append(entry.name)
            else:
                pass_over(place + entry.name, kind)
    for name in inside:
        yield from _local_files_below(os.path.join(folder, name), f"{place}{name}/", pass_over, follow, around)


def _kind_of_odd(entry: os.DirEntry[str], path: str, follow: bool, around: tuple[str, ...]) -> str | None:
    """Return what an entry is that is neither a file nor a folder of its own; None for a linked folder to enter."""
    if not entry.is_dir():
        return NOT_A_FILE
    if not follow:
        return LINKED_FOLDER
    return LOOP if os.path.realpath(path) in around else None


def _size(entry: os.DirEntry[str]) -> int | None:
    """Return the entry's size if it is a file and no unfinished write, else None."""
    if entry.name.startswith(TEMPORARY) or not entry.is_file():
        return None
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return None


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder; none if it is missing.

    The folder is opened once: else the system would resolve its whole path again for the size of every file.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        with os.scandir(descriptor) as entries:
            yield from entries
    finally:
        os.close(descriptor)


def _is_unfinished(name: str) -> bool:
    return TEMPORARY in name and basename(name).startswith(TEMPORARY)


@contextlib.contextmanager
def _staged(path: str, data: bytes) -> Iterator[str]:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    staged = os.path.join(folder, f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        with open(staged, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield staged
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)
