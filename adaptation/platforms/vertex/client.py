"""REST calls to Vertex AI with a timeout, a bounded number of retries, and readable errors.

A request that fails with a transient error (429, 5xx, a lost connection) may have taken effect all the same. So only a
request that can be repeated without harm is retried blindly; one that creates something is sent again only after
checking what exists: see `VertexClient.once`. The other files interpret the resources.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from adaptation import codec
from adaptation.errors import AdaptationError
from adaptation.platforms.vertex.config import VertexConfig
from adaptation.platforms.vertex.resources import Answer, Page, Resource, Version

if TYPE_CHECKING:
    import requests

Json = dict[str, Any]
_T = TypeVar("_T")

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
CONNECT_SECONDS = 10
PAGE_SIZE = 100
MOST_PAGES = 1000
_PASSING = (408, 429, 500, 502, 503, 504)
_CHANGED = (409, 412)
_CHANGED_CODES = (6, 10)  # google.rpc.Code: ALREADY_EXISTS, ABORTED
_PRECONDITION = "FAILED_PRECONDITION"  # with HTTP 400: among others, while another change is in progress


class VertexUnreachable(AdaptationError, ConnectionError):
    """Vertex AI did not respond, or responded with transient errors, at every attempt."""


class VertexRefused(AdaptationError, ValueError):
    """Vertex AI refused a request."""


class VertexNotFound(VertexRefused, LookupError):
    """Vertex AI has no such resource."""


class VertexChanged(VertexRefused):
    """A resource exists already, has changed since it was read, or is in a state that does not allow the request."""


class NoAccess(AdaptationError, PermissionError):
    """There are no credentials, or they do not allow a request."""


class Ambiguous(AdaptationError, LookupError):
    """Several resources have the display name by which one was looked up."""


class OperationFailed(AdaptationError, RuntimeError):
    """An operation ended with an error."""


class StillRunning(AdaptationError, TimeoutError):
    """The wait has timed out; what was waited for goes on."""


@dataclass(frozen=True)
class _Request:
    method: str
    name: str
    kind: type[object]  # of the answer
    body: Mapping[str, Any] | None
    query: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.name}"


class _Transient(Exception):
    """A failure that may not come again. The effect of the request is unknown."""


class VertexClient:
    """Requests to one project and location."""

    def __init__(self, config: VertexConfig) -> None:
        """Store the configuration; credentials are looked up at the first request."""
        self.config = config

    def get(self, name: str, **query: str) -> Json:
        """Return the resource of that name.

        Raises:
          VertexNotFound: The resource does not exist.
          VertexUnreachable, VertexRefused, NoAccess: As for every request.
          UnreadableState: The response is none that Vertex AI gives; it names the request. As for every request, too.
        """
        return self._repeated(_Request("GET", name, Version if "@" in name else Resource, None, query))

    def find(self, name: str) -> Json | None:
        """Return the resource of that name, or None."""
        try:
            return self.get(name)
        except VertexNotFound:
            return None

    def list(self, name: str, field: str, **query: str) -> Iterator[Json]:
        """Yield all items of a listing, page by page, in the service's order.

        Raises:
          UnreadableState: The listing has no end, or a response is none; as for every request.
        """
        token = ""
        for _ in range(MOST_PAGES):
            query |= {"pageSize": str(PAGE_SIZE), "pageToken": token}
            page = self._repeated(_Request("GET", name, Page, None, query))
            yield from page.get(field, [])
            before, token = token, page.get("nextPageToken", "")
            if not token:
                return
            if token == before:
                raise codec.UnreadableState(
                    f"GET {name} cannot be read: page {token!r} is followed by itself. {_STRANGE}"
                )
        raise codec.UnreadableState(f"GET {name} cannot be read: it has more than {MOST_PAGES} pages. {_STRANGE}")

    def named(self, collection: str, display_name: str) -> Json | None:
        """Return the resource of a collection (`models`, `endpoints`) with this display name, or None.

        Raises:
          Ambiguous: More than one resource has it.
        """
        query = f'display_name="{display_name}"'
        found = list(self.list(f"{self.config.parent}/{collection}", collection, filter=query))
        if len(found) > 1:
            names = " and ".join(sorted(item["name"] for item in found))
            raise Ambiguous(
                f"{len(found)} {collection} have the display name {display_name!r}: {names}. "
                "Rename or delete all but the right one."
            )
        return found[0] if found else None

    def change(self, method: str, name: str, body: Mapping[str, Any] | None = None, **query: str) -> Json:
        """Send a change that has the same effect when it is repeated."""
        return self._repeated(_Request(method, name, _kind(name), body, query))

    def send(self, name: str, body: Mapping[str, Any], **query: str) -> Json:
        """Send a request that would have two effects if repeated: once. To be called within `once`."""
        return self._sent(_Request("POST", name, _kind(name), body, query))

    def once(self, make: Callable[[], _T], look: Callable[[], _T | None]) -> _T:
        """Make something unless it exists; exactly once, over failures whose effect is unknown.

        Args:
          make: Makes it, with one `send`.
          look: Returns the existing one, or None; called before each attempt. If making takes time, it must wait for
            running operations, even those of others: see `settle`.

        Raises:
          VertexUnreachable: All attempts failed.
          VertexChanged: All attempts met something in the way.
        """
        for pause in self._pauses():
            if (made := look()) is not None:
                return made
            try:
                return make()
            except (_Transient, VertexChanged) as error:
                failure = error
            time.sleep(pause)
        raise self._given_up(failure)

    def wait(self, operation: Json, *wanted: str) -> Json:
        """Return the response of an operation, once it is done.

        Args:
          operation: The operation.
          wanted: The fields that the response must have.

        Raises:
          UnreadableState: The response lacks one of them.
          OperationFailed: The operation ended with an error.
          VertexChanged: Another operation on the resource was faster.
          StillRunning: It timed out; it goes on.
        """
        name = operation.get("name", "")
        if not name:
            raise codec.UnreadableState(f"an operation cannot be read: it has no name. {_STRANGE}")

        def done() -> Json | None:
            nonlocal operation
            operation = operation if operation.get("done") else self.get(name)
            return operation if operation.get("done") else None

        ended = self.wait_until(done, self.config.retries.operation_timeout, f"operation {name}")
        if error := ended.get("error"):
            kind = VertexChanged if error.get("code") in _CHANGED_CODES else OperationFailed
            raise kind(f"operation {name} failed: {error.get('message', error)}")
        response = dict(ended.get("response") or {})
        if missing := [field for field in wanted if not response.get(field)]:
            raise codec.UnreadableState(f"operation {name} cannot be read: it has no {', '.join(missing)}. {_STRANGE}")
        return response

    def settle(self, name: str) -> None:
        """Wait until no operation is running on a resource, whatever started it and however it ends."""
        try:
            running = [item for item in self.list(f"{name}/operations", "operations") if not item.get("done")]
        except VertexNotFound:
            return
        for operation in running:
            try:
                self.wait(operation)
            except (OperationFailed, VertexRefused):
                continue

    def wait_until(self, look: Callable[[], _T | None], seconds: float, what: str) -> _T:
        """Return the result of `look` as soon as it is not None.

        Raises:
          StillRunning: It found nothing within the timeout.
        """
        until = time.monotonic() + seconds
        while (found := look()) is None:
            if time.monotonic() >= until:
                raise StillRunning(
                    f"{what} has not ended within {seconds:g} s; it goes on. Look there, and repeat this when it has."
                )
            time.sleep(self.config.retries.poll_interval)
        return found

    @cached_property
    def _session(self) -> requests.Session:
        import google.auth
        import google.auth.credentials
        from google.auth.transport.requests import AuthorizedSession

        if self.config.credentials == "anonymous":
            anonymous = google.auth.credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]
            return AuthorizedSession(anonymous)  # type: ignore[no-untyped-call]
        credentials, _ = google.auth.default(scopes=[SCOPE])
        return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]

    def _repeated(self, request: _Request) -> Json:
        for pause in self._pauses():
            try:
                return self._sent(request)
            except _Transient as error:
                failure = error
            time.sleep(pause)
        raise self._given_up(failure)

    def _pauses(self) -> Iterator[float]:
        """Yield a random pause for each attempt, so that many callers do not retry at the same moment."""
        retries = self.config.retries
        for attempt in range(retries.attempts):
            longest = min(retries.backoff * 2**attempt, retries.max_backoff)
            yield longest * random.uniform(0.5, 1) if attempt + 1 < retries.attempts else 0.0

    def _given_up(self, failure: Exception) -> Exception:
        if isinstance(failure, VertexChanged):
            return failure
        attempts = f"{self.config.retries.attempts} attempts at {self.config.url}"
        return VertexUnreachable(f"{attempts} failed, last: {failure}. Repeat it later: begun work will be found.")

    def _sent(self, request: _Request) -> Json:
        import google.auth.exceptions
        import requests

        try:
            response = self._session.request(
                request.method,
                f"{self.config.url}/v1/{request.name}",
                json=request.body,
                params={key: value for key, value in request.query.items() if value},
                timeout=(CONNECT_SECONDS, self.config.retries.request_timeout),
                allow_redirects=False,
            )
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise VertexRefused(f"{self.config.url!r} is no address: {error}. Fix api_endpoint.") from error
        except (requests.RequestException, google.auth.exceptions.TransportError) as error:
            raise _Transient(f"{request}: {error}") from error
        except google.auth.exceptions.GoogleAuthError as error:
            if error.retryable:
                raise _Transient(f"{request}: {error}") from error
            raise NoAccess(f"no credentials that Vertex AI takes: {str(error).rstrip('.')}. {_LOG_IN}") from error
        answer = _answer(str(request), response)
        codec.check(answer, request.kind, str(request), remedy=_STRANGE)
        return answer


def _kind(name: str) -> type[object]:
    """Return what a change returns: `.../pipelineJobs` a resource, `...:cancel` nothing."""
    return Answer if ":" in name.rpartition("/")[2] else Resource


_STRANGE = "Check api_endpoint, and what is between this machine and Vertex AI."
_LOG_IN = 'Run "gcloud auth application-default login", or give the process a service account.'


def _answer(request: str, response: requests.Response) -> Json:
    try:
        value = response.json()
    except (ValueError, RecursionError) as error:  # a proxy's page, or a response that was cut off
        raise _Transient(f"{request}: HTTP {response.status_code}, and no JSON: {response.text[:200]!r}") from error
    if response.status_code == 200 and isinstance(value, dict):
        return value
    raise _failure(request, response.status_code, value)


def _failure(request: str, code: int, value: Any) -> Exception:
    status, message = _error(value)
    text = f"{request}: HTTP {code} {status}: {message}"
    if code in _PASSING:
        return _Transient(text)
    if code in (401, 403):
        return NoAccess(f"Vertex AI does not allow {text}. Check the roles of the account. {_LOG_IN}")
    if code == 404:
        return VertexNotFound(f"Vertex AI does not have it: {text}")
    if code in _CHANGED or status == _PRECONDITION:
        return VertexChanged(f"Vertex AI refused {text}")
    return VertexRefused(f"Vertex AI refused {text}")


def _error(value: Any) -> tuple[str, str]:
    """Return status and message of an error, with the fields that its details name."""
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return "", str(value)[:200]
    violations = [
        violation for detail in _objects(error, "details") for violation in _objects(detail, "fieldViolations")
    ]
    fields = ", ".join(sorted({str(violation.get("field", "")) for violation in violations} - {""}))
    message = str(error.get("message", ""))
    return str(error.get("status", "")), f"{message} (field: {fields})" if fields else message


def _objects(value: Json, field: str) -> list[Json]:
    """Return the objects in a list of an error, whose shape nobody promises."""
    found = value.get(field)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
