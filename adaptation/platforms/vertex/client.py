"""REST calls to Vertex AI that end: each has a time limit, is repeated a bounded number of times, and fails in words.

A request that fails for a passing reason (429, 5xx, a lost connection) may have taken effect all the same. So one that
can be repeated without harm is repeated, and one that creates something is sent again only after a look at what is
there: see `VertexClient.once`. What the resources mean is the other files' matter.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from adaptation.errors import AdaptationError
from adaptation.platforms.vertex.config import VertexConfig

if TYPE_CHECKING:
    import requests

Json = dict[str, Any]
_T = TypeVar("_T")

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
CONNECT_SECONDS = 10
PAGE_SIZE = 100
_PASSING = (408, 429, 500, 502, 503, 504)
_CHANGED = (409, 412)
_CHANGED_CODES = (6, 10)  # google.rpc.Code: ALREADY_EXISTS, ABORTED
_NOT_NOW = "FAILED_PRECONDITION"  # with HTTP 400: among others, where another change is under way


class VertexUnreachable(AdaptationError, ConnectionError):
    """Vertex AI did not answer, or only that it cannot now, as often as it was asked."""


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
    """Something takes longer than it was to be waited for; it goes on."""


class _Passing(Exception):
    """A failure that may not come again. Whether the request has had its effect is unknown."""


class VertexClient:
    """Requests to one project and location."""

    def __init__(self, config: VertexConfig) -> None:
        """Nothing is sent, and no credentials are looked for, before the first request."""
        self.config = config

    def get(self, name: str, **query: str) -> Json:
        """The resource of that name, or what a method that only reads answers.

        Raises:
          VertexNotFound: There is none.
          VertexUnreachable, VertexRefused, NoAccess: As for every request.
        """
        return self._repeated("GET", name, None, query)

    def find(self, name: str) -> Json | None:
        """The resource of that name, or None."""
        try:
            return self.get(name)
        except VertexNotFound:
            return None

    def list(self, name: str, field: str, **query: str) -> Iterator[Json]:
        """All items of a listing, page by page, in the service's order."""
        token = ""
        while True:
            page = self.get(name, **query, pageSize=str(PAGE_SIZE), pageToken=token)
            yield from page.get(field, [])
            token = page.get("nextPageToken", "")
            if not token:
                return

    def named(self, collection: str, display_name: str) -> Json | None:
        """The one resource of a collection (`models`, `endpoints`) that has a display name; None where none has.

        Raises:
          Ambiguous: More than one has.
        """
        query = f'display_name="{display_name}"'
        found = list(self.list(f"{self.config.parent}/{collection}", collection, filter=query))
        if len(found) > 1:
            names = " and ".join(sorted(item["name"] for item in found))
            raise Ambiguous(
                f"{len(found)} {collection} have the display name {display_name!r}: {names}. "
                "Rename or delete all but the one that is meant."
            )
        return found[0] if found else None

    def change(self, method: str, name: str, body: Mapping[str, Any] | None = None, **query: str) -> Json:
        """Sends a change that has the same effect when it comes twice."""
        return self._repeated(method, name, body, query)

    def send(self, name: str, body: Mapping[str, Any], **query: str) -> Json:
        """Sends what would have two effects if it came twice: once. To be called within `once`."""
        return self._sent("POST", name, body, query)

    def once(self, make: Callable[[], _T], look: Callable[[], _T | None]) -> _T:
        """Makes something unless it is there; exactly once, over failures that leave it unknown whether it was made.

        Args:
          make: Makes it, with one `send`.
          look: Tells what is there, or None; asked before each attempt. Where making takes time, it must wait for what
            is under way, whoever began it: see `settle`.

        Raises:
          VertexUnreachable: It failed as often as it may be tried.
          VertexChanged: Something is in its way, as often.
        """
        for pause in self._pauses():
            if (made := look()) is not None:
                return made
            try:
                return make()
            except (_Passing, VertexChanged) as error:
                failure = error
            time.sleep(pause)
        raise self._given_up(failure)

    def wait(self, operation: Json) -> Json:
        """The response of an operation, once it is done.

        Raises:
          OperationFailed: It ended with an error.
          VertexChanged: Another operation on the resource was faster.
          StillRunning: It has not ended in time; it goes on.
        """
        name = operation["name"]

        def done() -> Json | None:
            nonlocal operation
            operation = operation if operation.get("done") else self.get(name)
            return operation if operation.get("done") else None

        ended = self.wait_until(done, self.config.retries.operation_timeout, f"operation {name}")
        if error := ended.get("error"):
            kind = VertexChanged if error.get("code") in _CHANGED_CODES else OperationFailed
            raise kind(f"operation {name} failed: {error.get('message', error)}")
        return dict(ended.get("response", {}))

    def settle(self, name: str) -> None:
        """Waits until no operation is under way on a resource, whoever started it and however it ends."""
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
        """What `look` finds, as soon as it does.

        Raises:
          StillRunning: It has found nothing in time.
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

    def _repeated(self, method: str, name: str, body: Mapping[str, Any] | None, query: Mapping[str, str]) -> Json:
        for pause in self._pauses():
            try:
                return self._sent(method, name, body, query)
            except _Passing as error:
                failure = error
            time.sleep(pause)
        raise self._given_up(failure)

    def _pauses(self) -> Iterator[float]:
        """A pause an attempt. They differ from caller to caller, so that many do not come back at the same moment."""
        retries = self.config.retries
        for attempt in range(retries.attempts):
            longest = min(retries.backoff * 2**attempt, retries.max_backoff)
            yield longest * random.uniform(0.5, 1) if attempt + 1 < retries.attempts else 0.0

    def _given_up(self, failure: Exception) -> Exception:
        if isinstance(failure, VertexChanged):
            return failure
        attempts = f"{self.config.retries.attempts} attempts at {self.config.url}"
        return VertexUnreachable(f"{attempts} failed, last: {failure}. Repeat it later: what was begun will be found.")

    def _sent(self, method: str, name: str, body: Mapping[str, Any] | None, query: Mapping[str, str]) -> Json:
        import google.auth.exceptions
        import requests

        try:
            response = self._session.request(
                method,
                f"{self.config.url}/v1/{name}",
                json=body,
                params={key: value for key, value in query.items() if value},
                timeout=(CONNECT_SECONDS, self.config.retries.request_timeout),
                allow_redirects=False,
            )
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise VertexRefused(f"{self.config.url!r} is no address: {error}. Mend api_endpoint.") from error
        except (requests.RequestException, google.auth.exceptions.TransportError) as error:
            raise _Passing(f"{method} {name}: {error}") from error
        except google.auth.exceptions.GoogleAuthError as error:
            if error.retryable:
                raise _Passing(f"{method} {name}: {error}") from error
            raise NoAccess(f"no credentials that Vertex AI takes: {str(error).rstrip('.')}. {_LOG_IN}") from error
        return _answer(f"{method} {name}", response)


_LOG_IN = 'Run "gcloud auth application-default login", or give the process a service account.'


def _answer(request: str, response: requests.Response) -> Json:
    try:
        value = response.json()
    except ValueError as error:  # a proxy's page, or an answer that was cut off
        raise _Passing(f"{request}: HTTP {response.status_code}, and no JSON: {response.text[:200]!r}") from error
    if response.status_code == 200 and isinstance(value, dict):
        return value
    raise _failure(request, response.status_code, value)


def _failure(request: str, code: int, value: Any) -> Exception:
    status, message = _error(value)
    text = f"{request}: HTTP {code} {status}: {message}"
    if code in _PASSING:
        return _Passing(text)
    if code in (401, 403):
        return NoAccess(f"Vertex AI does not allow {text}. Check the roles of the account. {_LOG_IN}")
    if code == 404:
        return VertexNotFound(f"Vertex AI has it not: {text}")
    if code in _CHANGED or status == _NOT_NOW:
        return VertexChanged(f"Vertex AI refused {text}")
    return VertexRefused(f"Vertex AI refused {text}")


def _error(value: Any) -> tuple[str, str]:
    """Status and message of an error, with the fields that its details name."""
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return "", str(value)[:200]
    details = (detail for detail in error.get("details", []) if isinstance(detail, dict))
    violations = [violation for detail in details for violation in detail.get("fieldViolations", [])]
    fields = ", ".join(sorted({violation.get("field", "") for violation in violations} - {""}))
    message = str(error.get("message", ""))
    return str(error.get("status", "")), f"{message} (field: {fields})" if fields else message
