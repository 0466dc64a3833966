"""Object stores: what they do otherwise than a disk, and what has to be made sure of on top of their clients.

`storage` is the one that calls this room, and the one that the others call. A path is `bucket/key`, without a scheme.
"""

from __future__ import annotations

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
_MARK = "created-by"
_CLIENTS = ("aiohttp", "gcsfs", "google", "requests")
_P = ParamSpec("_P")
_R = TypeVar("_R")


class StorageFailed(AdaptationError, OSError):
    """An object store that could not be reached, or that refused."""


def told(operation: Callable[Concatenate[str, _P], _R]) -> Callable[Concatenate[str, _P], _R]:
    """Puts what the client libraries raise, which have tried again by then, into one error of ours."""

    @functools.wraps(operation)
    def telling(uri: str, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return operation(uri, *args, **kwargs)
        except Exception as error:
            failure = _failure(uri, error)
            if failure is error:
                raise
            raise failure from error

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


def find(fs: AbstractFileSystem, path: str) -> dict[str, dict[str, Any]]:
    """All objects inside a folder, by path; for the slash, those of its namesakes (`2021-10_old`) are not listed."""
    found: dict[str, dict[str, Any]] = fs.find(path.rstrip("/") + "/", detail=True)
    return found


def _failure(uri: str, error: Exception) -> Exception:
    """An error of ours in the place of one of the clients' own; others stay."""
    is_late = isinstance(error, TimeoutError) and error.errno is None  # not one that the operating system reports
    if not is_late and type(error).__module__.split(".")[0] not in _CLIENTS:
        return error
    return StorageFailed(
        f"{uri}: the object store could not be reached, or refused ({str(error) or type(error).__name__}). "
        "Check the network and the credentials, then run it again."
    )


def _mark(fs: AbstractFileSystem, path: str) -> str | None:
    try:
        metadata: dict[str, str] = fs.info(path).get("metadata", {})
    except FileNotFoundError:
        return None
    return metadata.get(_MARK)
