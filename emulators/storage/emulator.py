"""The object-storage emulator: the JSON API of Google Cloud Storage on the loopback interface, in memory.

The resources come from gcp-storage-emulator's handlers. This module adds the strictness of the service: each request's
preconditions are checked before it has any effect, listings come in pages, and so on. Unknown requests are refused with
501, never ignored. Clients find the emulator by `STORAGE_EMULATOR_HOST`, see `environment`.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from types import TracebackType

from aiohttp import web
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets, objects

from emulators.http_server import LoopbackServer, Request
from emulators.storage.batching import pack, unpack
from emulators.storage.calls import Call, Outcome
from emulators.storage.events import Deliveries
from emulators.storage.objects import Objects, Resource

_CANCELLED = 499
_ACCOUNT = {
    "type": "authorized_user",
    "token": "emulated",
    "expiry": "9999-12-31T00:00:00Z",
    **dict.fromkeys(("client_id", "client_secret", "refresh_token", "quota_project_id"), "emulated"),
}
_NOT_HERE = ("matchGlob", "versions", "softDeleted", "rewriteToken")
_BUCKET = r"/b/(?P<bucket_name>[^/]+)"
_OBJECT = r"/o/(?P<object_id>[^/]+)"
_TARGET = r"/o/(?P<dest_object_id>[^/]+)"
_PLAIN = r"/(?!(?:storage|upload|download|batch)/)(?P<bucket_name>[^/]+)/(?P<object_id>.+)"
_ELSEWHERE = r"/b/(?P<dest_bucket_name>[^/]+)" + _TARGET


class StorageEmulator(LoopbackServer):
    """Object storage, while its context lasts.

    >>> with StorageEmulator() as emulator:
    ...     emulator.create_bucket("images")
    """

    def __init__(self, latency: float = 0.0) -> None:
        super().__init__(latency)
        self.events = Deliveries()
        self._folder = tempfile.TemporaryDirectory(prefix="storage-emulator-")
        self._objects = Objects(self.events.finalized)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.events.close()
        self._folder.cleanup()

    def environment(self) -> dict[str, str]:
        """Environment variables that lead a process's clients here; not TensorFlow's (`tls_proxy`)."""
        account = Path(self._folder.name, "account.json")
        account.write_text(json.dumps(_ACCOUNT))
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(account),  # without any, Beam looks for some for half a minute
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it would query a service that is not emulated
        }

    def create_bucket(self, name: str) -> None:
        """Create a bucket.

        Raises:
          FileExistsError: The bucket exists.
        """
        self._objects.add_bucket(name)

    def subscribe(self, url: str, *, copies: int = 1) -> None:
        """Post an event to `url` for each object that is created or replaced from now on.

        Args:
          url: The address to post to. A response that is no success makes the event come again, a few times.
          copies: Number of copies of each event: delivery is at least once, and 2 makes it so.
        """
        self.events.subscribe(url, copies)

    def answer(self, request: Request) -> web.Response:
        """Return the response to a request of the JSON API, or to a plain GET of `/<bucket>/<object>`."""
        for method, pattern, respond in _ROUTES:
            match = pattern.fullmatch(request.url.path)
            if match and method == request.method and not request.query.keys() & set(_NOT_HERE):
                return self._checked(respond, Call(request, match.groupdict()))
        return self.error(HTTPStatus.NOT_IMPLEMENTED, f"not emulated: {request}")

    def _batch(self, call: Call) -> web.Response:
        requests = list(unpack(call.request))
        self.requests.extend(map(str, requests))
        return pack(map(self.answer, requests))

    def _checked(self, respond: _Respond, call: Call) -> web.Response:
        try:
            return respond(self, call)
        except NotFound:
            return self.error(HTTPStatus.NOT_FOUND, f"there is no {call.path}")
        except _Unmet as error:
            return self.error(HTTPStatus.PRECONDITION_FAILED, str(error))
        except (ValueError, KeyError) as error:
            return self.error(HTTPStatus.BAD_REQUEST, f"this request is not valid: {error!r}")

    def _layout(self, call: Call) -> web.Response:
        """Say that folders are prefixes of names here, which TensorFlow asks before it renames one.

        Source: buckets.getStorageLayout of the JSON API.
        """
        found = self._handled(buckets.get, call)
        if found.status != HTTPStatus.OK:
            return found
        layout = {"kind": "storage#storageLayout", "bucket": call.bucket, "hierarchicalNamespace": {"enabled": False}}
        return web.json_response(layout)

    def _list(self, call: Call) -> web.Response:
        page = self._objects.page(call.listing)
        token = {"nextPageToken": base64.urlsafe_b64encode(page.last.encode()).decode()} if page.last else {}
        found = {"items": page.items} if page.items else {}
        folders = {"prefixes": page.prefixes} if page.prefixes else {}
        return web.json_response({"kind": "storage#objects", **found, **folders, **token})

    def _get(self, call: Call) -> web.Response:
        resource = self._live(call)
        return self._download(call) if call.parameter("alt") == "media" else web.json_response(resource)

    def _download(self, call: Call) -> web.Response:
        resource = self._live(call)
        content: bytes = self._objects.get_file(call.bucket, call.name)
        headers = {
            "Content-Type": resource["contentType"] or "application/octet-stream",
            "ETag": resource["etag"],
            "X-Goog-Generation": resource["generation"],
            "X-Goog-Metageneration": resource["metageneration"],
            "X-Goog-Stored-Content-Length": resource["size"],
        }
        if call.range is None:
            hashes = f"crc32c={resource['crc32c']},md5={resource['md5Hash']}"
            return web.Response(body=content, headers=headers | {"X-Goog-Hash": hashes})
        start, end = _span(*call.range, len(content))
        if start >= len(content):
            return self.error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"{call.path} has {len(content)} bytes")
        placed = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
        return web.Response(status=HTTPStatus.PARTIAL_CONTENT, body=content[start:end], headers=headers | placed)

    def _delete(self, call: Call) -> web.Response:
        self._live(call)
        self._objects.delete_file(call.bucket, call.name)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def _patch(self, call: Call) -> web.Response:
        self._live(call)
        return self._handled(objects.patch, call)

    def _insert(self, call: Call) -> web.Response:
        if "upload_id" in call.query:
            return self._upload_part(call)
        self._require_target(call, call.bucket, call.uploaded_name)
        return self._handled(objects.insert, call)

    def _upload_part(self, call: Call) -> web.Response:
        upload = call.query["upload_id"][0]
        if ended := self._objects.ended_upload(upload):
            return web.json_response(ended)
        resource = self._objects.get_resumable_file_obj(upload)
        self._require_target(call, call.bucket, resource["name"])
        response = self._handled(objects.upload_partial, call)
        if response.status == objects.GoogleHTTPStatus.RESUME_INCOMPLETE:
            received = self._objects.get_resumable_byte_count(upload)
            return web.Response(
                status=response.status, headers={"Range": f"bytes=0-{received - 1}"} if received else {}
            )
        return response

    def _cancel_upload(self, call: Call) -> web.Response:
        self._objects.cancel_upload(call.query["upload_id"][0])
        return web.Response(status=_CANCELLED)

    def _copy(self, call: Call) -> web.Response:
        self._require_source_and_target(call, call.params["dest_bucket_name"])
        return self._handled(objects.copy, call)

    def _rewrite(self, call: Call) -> web.Response:
        self._require_source_and_target(call, call.params["dest_bucket_name"])
        return self._handled(objects.rewrite, call)

    def _move(self, call: Call) -> web.Response:
        call.params["dest_bucket_name"] = call.bucket
        if call.params["dest_object_id"] == call.name:
            raise ValueError("source and destination are the same")
        response = self._copy(call)
        self._objects.delete_file(call.bucket, call.name)
        return response

    def _compose(self, call: Call) -> web.Response:
        self._require_target(call, call.bucket, call.name)
        return self._handled(objects.compose, call)

    def _live(self, call: Call) -> Resource:
        """Return the object of a request, if the request's conditions hold for it."""
        resource = self._objects.find(call.bucket, call.name)
        if resource is None or call.parameter("generation") not in (None, resource["generation"]):
            raise NotFound
        _require(resource, call, "if")
        return resource

    def _require_source_and_target(self, call: Call, bucket: str) -> None:
        source = self._objects.find(call.bucket, call.name)
        if source is None or call.parameter("sourceGeneration") not in (None, source["generation"]):
            raise NotFound
        _require(source, call, "ifSource")
        self._require_target(call, bucket, call.params["dest_object_id"])

    def _require_target(self, call: Call, bucket: str, name: str) -> None:
        if bucket not in self._objects.buckets:
            raise NotFound
        _require(self._objects.find(bucket, name), call, "if")

    def _handled(self, handler: Callable[..., None], call: Call) -> web.Response:
        """Return the response of one of gcp-storage-emulator's handlers."""
        outcome = Outcome()
        handler(call, outcome, self._objects)
        if outcome.status >= HTTPStatus.BAD_REQUEST and not outcome.body:
            return self.error(outcome.status, f"{HTTPStatus(outcome.status).phrase}: {call.path}")
        return web.Response(status=int(outcome.status), body=outcome.body, headers=outcome.headers)


_Respond = Callable[[StorageEmulator, Call], web.Response]


class _Unmet(Exception):
    """A precondition that does not hold."""


def _require(resource: Resource | None, call: Call, prefix: str) -> None:
    """Check a request's conditions, `ifGenerationMatch` and the like, against an object; 0 means that it is missing."""
    for kind in ("Generation", "Metageneration"):
        there = int(resource[kind.lower()]) if resource else 0
        wanted, unwanted = call.parameter(f"{prefix}{kind}Match"), call.parameter(f"{prefix}{kind}NotMatch")
        if wanted is not None and int(wanted) != there:
            raise _Unmet(f"{prefix}{kind}Match is {wanted}, the object's {kind.lower()} {there}")
        if unwanted is not None and int(unwanted) == there:
            raise _Unmet(f"{prefix}{kind}NotMatch is {unwanted}, and so is the object's {kind.lower()}")


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    """Return start and end of a range of bytes; without a first byte it is that many from the end."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _handled_by(handler: Callable[..., None]) -> _Respond:
    return lambda emulator, call: emulator._handled(handler, call)


def _route(method: str, pattern: str, respond: _Respond) -> tuple[str, re.Pattern[str], _Respond]:
    return method, re.compile(pattern), respond


_API, _UPLOAD, _DOWNLOAD = "/storage/v1", "/upload/storage/v1", "/download/storage/v1"
_ROUTES = (
    _route("GET", _API + _BUCKET + "/o", StorageEmulator._list),
    _route("GET", _API + _BUCKET + _OBJECT, StorageEmulator._get),
    _route("GET", _DOWNLOAD + _BUCKET + _OBJECT, StorageEmulator._download),
    _route("POST", _UPLOAD + _BUCKET + "/o", StorageEmulator._insert),
    _route("PUT", _UPLOAD + _BUCKET + "/o", StorageEmulator._upload_part),
    _route("DELETE", _UPLOAD + _BUCKET + "/o", StorageEmulator._cancel_upload),
    _route("DELETE", _API + _BUCKET + _OBJECT, StorageEmulator._delete),
    _route("PATCH", _API + _BUCKET + _OBJECT, StorageEmulator._patch),
    _route("POST", _API + _BUCKET + _OBJECT + "/moveTo" + _TARGET, StorageEmulator._move),
    _route("POST", _API + _BUCKET + _OBJECT + "/copyTo" + _ELSEWHERE, StorageEmulator._copy),
    _route("POST", _API + _BUCKET + _OBJECT + "/rewriteTo" + _ELSEWHERE, StorageEmulator._rewrite),
    _route("POST", _API + _BUCKET + _OBJECT + "/compose", StorageEmulator._compose),
    _route("POST", "/batch/storage/v1", StorageEmulator._batch),
    _route("GET", _API + "/b", _handled_by(buckets.ls)),
    _route("POST", _API + "/b", _handled_by(buckets.insert)),
    _route("GET", _API + _BUCKET, _handled_by(buckets.get)),
    _route("PATCH", _API + _BUCKET, _handled_by(buckets.patch)),
    _route("DELETE", _API + _BUCKET, _handled_by(buckets.delete)),
    _route("GET", _API + _BUCKET + "/storageLayout", StorageEmulator._layout),
    _route("GET", _API + _BUCKET + "/iam/testPermissions", _handled_by(buckets.test_iam_permissions)),
    _route("GET", _PLAIN, StorageEmulator._download),
)
