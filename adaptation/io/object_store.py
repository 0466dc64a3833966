"""Object stores: what they do otherwise than a disk, and what has to be made sure of on top of their clients.

`storage` is the one that calls this room, and the one that the others call. A path is `bucket/key`, without a scheme.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import fsspec
from fsspec import AbstractFileSystem

from adaptation.errors import AdaptationError

REQUESTS_IN_FLIGHT = 64
SECONDS_OF_SILENCE = 60
SECONDS_PER_REQUEST = 600
NAMES_PER_PAGE = 1000
_FIELDS = "items(name,size),prefixes,nextPageToken"
_MARK = "created-by"
_CLIENTS = ("aiohttp", "gcsfs", "google", "requests")
_P = ParamSpec("_P")
_R = TypeVar("_R")


class StorageFailed(AdaptationError, OSError):
    """An object store that could not be reached, or that failed; it may work again later."""


class StorageRefused(AdaptationError, PermissionError):
    """An object store that refuses a request, and will refuse it again."""


class NoBucket(AdaptationError, FileNotFoundError):
    """A bucket that is not there."""


def told(operation: Callable[Concatenate[str, _P], _R]) -> Callable[Concatenate[str, _P], _R]:
    """Puts what the client libraries raise, which have tried again by then, into errors of ours."""

    @functools.wraps(operation)
    def telling(uri: str, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _telling(uri):
            return operation(uri, *args, **kwargs)

    return telling


def told_one_by_one(
    operation: Callable[Concatenate[str, _P], Iterator[_R]],
) -> Callable[Concatenate[str, _P], Iterator[_R]]:
    """`told` for what is found while it is iterated over."""

    @functools.wraps(operation)
    def telling(uri: str, /, *args: _P.args, **kwargs: _P.kwargs) -> Iterator[_R]:
        with _telling(uri):
            yield from operation(uri, *args, **kwargs)

    return telling


def store(protocol: str) -> AbstractFileSystem:
    """The object store that URIs of a protocol name. Its listings are never stale, its requests have an end."""
    if protocol not in ("gs", "gcs"):
        return fsspec.filesystem(protocol)
    from aiohttp import ClientTimeout
    from gcsfs.core import GCSFileSystem  # the one that fsspec knows asks of each bucket first what kind it is

    timeout = ClientTimeout(total=SECONDS_PER_REQUEST, sock_connect=SECONDS_OF_SILENCE, sock_read=SECONDS_OF_SILENCE)
    return GCSFileSystem(use_listings_cache=False, requests_timeout=timeout)


def read_all(fs: AbstractFileSystem, uris: Sequence[str]) -> Iterator[bytes | OSError]:
    """The objects' contents in order, an OSError in the place of each that could not be read."""
    paths = [fs._strip_protocol(uri) for uri in uris]
    contents = fs.cat_ranges(paths, None, None, batch_size=REQUESTS_IN_FLIGHT, on_error="return")
    for uri, content in zip(uris, contents, strict=True):
        if not isinstance(content, Exception):
            yield content
        elif isinstance(error := _failure(uri, content), OSError):
            yield error
        else:
            raise error


def create(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    """Makes an object if there is none.

    It is marked, for where the answer is lost on the way: the request that is sent again then finds its own object.

    Raises:
      FileExistsError: There is one of somebody else's.
    """
    mark = uuid.uuid4().hex
    try:
        fs.pipe_file(path, data, mode="create", metadata={_MARK: mark})
    except FileExistsError:
        if _mark(fs, path) != mark:
            raise


def move(fs: AbstractFileSystem, path: str, new_path: str) -> None:
    """Moves an object where there is none; within a bucket by one request, which cannot be cut off half-way.

    Raises:
      FileExistsError: There is one.
      FileNotFoundError: There is none to move.
    """
    (bucket, _, key), (new_bucket, _, new_key) = path.partition("/"), new_path.partition("/")
    if hasattr(fs, "call") and bucket == new_bucket:  # the `mv_file` of gcsfs would overwrite
        fs.call("POST", "b/{}/o/{}/moveTo/o/{}", bucket, key, new_key, ifGenerationMatch="0")
    elif fs.exists(new_path):
        raise FileExistsError(new_path)
    else:
        fs.cp_file(path, new_path)
        fs.rm_file(path)


def objects_below(fs: AbstractFileSystem, path: str) -> Iterator[dict[str, Any]]:
    """The objects inside a folder at any depth, in the order of their names, as fsspec describes them.

    Pages of up to 1,000 names are requested one by one, as far as they are iterated over. For the slash, the objects of
    the folder's namesakes (`2021-10_old`) are not listed.
    """
    folder = path.rstrip("/") + "/"
    if not _has_pages(fs):
        yield from fs.find(folder, detail=True).values()
        return
    for page in _pages(fs, folder):
        yield from _objects(page, folder)


def children(fs: AbstractFileSystem, path: str, start: str = "", end: str = "") -> Iterator[dict[str, Any]]:
    """The objects and folders directly inside a folder, as fsspec describes them.

    Where there are pages, as for `objects_below`, what is in the folders is on none of them, nor is what comes before
    the name `start`, or from `end` on.
    """
    folder = path.rstrip("/") + "/"
    if not _has_pages(fs):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            yield from (item for item in fs.ls(path, detail=True) if item["name"].startswith(folder))
        return
    bucket = folder.partition("/")[0]
    for page in _pages(fs, folder, delimiter="/", start=start, end=end):
        yield from _objects(page, folder)
        yield from ({"name": f"{bucket}/{name}", "type": "directory"} for name in page.get("prefixes", ()))


def _has_pages(fs: AbstractFileSystem) -> bool:
    return hasattr(fs, "call")


def _pages(
    fs: AbstractFileSystem, folder: str, *, delimiter: str = "", start: str = "", end: str = ""
) -> Iterator[dict[str, Any]]:
    """A listing page by page, see `objects.list` of the JSON API. The listings of gcsfs cannot be left early."""
    bucket, _, prefix = folder.partition("/")
    query = {"prefix": prefix, "delimiter": delimiter, "startOffset": start and prefix + start}
    query |= {"endOffset": end and prefix + end, "maxResults": str(NAMES_PER_PAGE), "fields": _FIELDS}
    token = ""
    while True:
        sent = {name: value for name, value in {**query, "pageToken": token}.items() if value}
        try:
            page: dict[str, Any] = fs.call("GET", "b/{}/o", bucket, json_out=True, **sent)
        except FileNotFoundError as error:
            raise NoBucket(f"there is no bucket {bucket!r}. Make it, or mend the URI.") from error
        yield page
        token = page.get("nextPageToken", "")
        if not token:
            return


def _objects(page: dict[str, Any], folder: str) -> Iterator[dict[str, Any]]:
    bucket = folder.partition("/")[0]
    for item in page.get("items", ()):
        yield {"name": f"{bucket}/{item['name']}", "size": int(item["size"]), "type": "file"}


@contextlib.contextmanager
def _telling(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        failure = _failure(uri, error)
        if failure is error:
            raise
        raise failure from error


def _failure(uri: str, error: Exception) -> Exception:
    """An error of ours in the place of one of the clients' own; others stay."""
    if _is_refusal(error):
        return StorageRefused(
            f"{uri}: the object store refuses it ({' '.join(str(error).split())}). "
            "Check the name of the bucket, the credentials and the roles of the account."
        )
    is_late = isinstance(error, TimeoutError) and error.errno is None  # not one that the operating system reports
    if not is_late and type(error).__module__.split(".")[0] not in _CLIENTS:
        return error
    return StorageFailed(
        f"{uri}: the object store could not be reached, or failed ({str(error) or type(error).__name__}). "
        "Check the network and the credentials, then run it again."
    )


def _is_refusal(error: Exception) -> bool:
    """Whether gcsfs was answered that it will not do, now or later; for some of these it has no class of its own."""
    code = getattr(error, "code", None)
    if isinstance(code, int):
        return 400 <= code < 500 and code not in (408, 429)
    return type(error) in (OSError, ValueError) and str(error).startswith(("Forbidden: ", "Bad Request: "))


def _mark(fs: AbstractFileSystem, path: str) -> str | None:
    try:
        metadata: dict[str, str] = fs.info(path).get("metadata", {})
    except FileNotFoundError:
        return None
    return metadata.get(_MARK)
