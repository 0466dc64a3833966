"""Object stores: their differences from a disk, and the guarantees added on top of their clients.

Only `storage` calls this module; the others call `storage`. A path is `bucket/key`, without a scheme.
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
    """An object store that could not be reached, or that failed; a retry may succeed later."""


class StorageRefused(AdaptationError, PermissionError):
    """An object store that refuses a request, and will refuse a retry."""


class NoBucket(AdaptationError, FileNotFoundError):
    """A bucket that does not exist."""


def translate_errors(operation: Callable[Concatenate[str, _P], _R]) -> Callable[Concatenate[str, _P], _R]:
    """Replace the errors of the client libraries, which have retried by then, by ours."""

    @functools.wraps(operation)
    def translating(uri: str, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _translated(uri):
            return operation(uri, *args, **kwargs)

    return translating


def translate_iterator_errors(
    operation: Callable[Concatenate[str, _P], Iterator[_R]],
) -> Callable[Concatenate[str, _P], Iterator[_R]]:
    """Do the same as `translate_errors` for an operation that yields."""

    @functools.wraps(operation)
    def translating(uri: str, /, *args: _P.args, **kwargs: _P.kwargs) -> Iterator[_R]:
        with _translated(uri):
            yield from operation(uri, *args, **kwargs)

    return translating


def store(protocol: str) -> AbstractFileSystem:
    """Return the object store of a protocol. Its listings are never stale, its requests have timeouts."""
    if protocol not in ("gs", "gcs"):
        return fsspec.filesystem(protocol)
    from aiohttp import ClientTimeout
    from gcsfs.core import GCSFileSystem  # fsspec's own choice first asks each bucket for its kind

    timeout = ClientTimeout(total=SECONDS_PER_REQUEST, sock_connect=SECONDS_OF_SILENCE, sock_read=SECONDS_OF_SILENCE)
    return GCSFileSystem(use_listings_cache=False, requests_timeout=timeout)


def read_all(fs: AbstractFileSystem, uris: Sequence[str]) -> Iterator[bytes | OSError]:
    """Yield the objects' contents in order, an OSError in the place of each unreadable one."""
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
    """Create an object if there is none.

    It carries a mark, in case the response is lost: the retry then recognizes its own object.

    Raises:
      FileExistsError: Another caller's object exists.
    """
    mark = uuid.uuid4().hex
    try:
        fs.pipe_file(path, data, mode="create", metadata={_MARK: mark})
    except FileExistsError:
        if _mark(fs, path) != mark:
            raise


def move(fs: AbstractFileSystem, path: str, new_path: str) -> None:
    """Move an object without overwriting; within a bucket by one request, which cannot be cut off half-way.

    Raises:
      FileExistsError: The target exists.
      FileNotFoundError: The source does not exist.
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
    """Yield the objects inside a folder at any depth, in the order of their names, as fsspec describes them.

    Pages of up to 1,000 names are requested one by one, as iteration needs them. The slash excludes the objects of
    folders whose names continue this one (`2021-10_old`).
    """
    folder = path.rstrip("/") + "/"
    if not _has_pages(fs):
        yield from fs.find(folder, detail=True).values()
        return
    for page in _pages(fs, folder):
        yield from _objects(page, folder)


def children(fs: AbstractFileSystem, path: str, start: str = "", end: str = "") -> Iterator[dict[str, Any]]:
    """Yield the objects and folders directly inside a folder, as fsspec describes them.

    With pages, as for `objects_below`, no page has the content of the folders, nor names before `start` or from `end`
    on.
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
    """Yield a listing page by page, see `objects.list` of the JSON API; a listing of gcsfs cannot be stopped early."""
    bucket, _, prefix = folder.partition("/")
    query = {"prefix": prefix, "delimiter": delimiter, "startOffset": start and prefix + start}
    query |= {"endOffset": end and prefix + end, "maxResults": str(NAMES_PER_PAGE), "fields": _FIELDS}
    token = ""
    while True:
        sent = {name: value for name, value in {**query, "pageToken": token}.items() if value}
        try:
            page: dict[str, Any] = fs.call("GET", "b/{}/o", bucket, json_out=True, **sent)
        except FileNotFoundError as error:
            raise NoBucket(f"there is no bucket {bucket!r}. Create it, or fix the URI.") from error
        yield page
        token = page.get("nextPageToken", "")
        if not token:
            return


def _objects(page: dict[str, Any], folder: str) -> Iterator[dict[str, Any]]:
    bucket = folder.partition("/")[0]
    for item in page.get("items", ()):
        yield {"name": f"{bucket}/{item['name']}", "size": int(item["size"]), "type": "file"}


@contextlib.contextmanager
def _translated(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        failure = _failure(uri, error)
        if failure is error:
            raise
        raise failure from error


def _failure(uri: str, error: Exception) -> Exception:
    """Return our error in place of a client's own; other errors stay."""
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
    """Return True if the service refused for good; for some refusals gcsfs has no class of its own."""
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
