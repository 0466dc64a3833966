"""The Cloud Function: each call, by a schedule or an event about an image, makes one delivery to the trigger.

    on_request    HTTP: Cloud Scheduler's POST, with any body, and the envelopes that Pub/Sub pushes
    on_event      CloudEvents from Eventarc: an object was finalized, a message was published

Events about anything but an image of a batch are skipped without any further request. A message is about an object if
it is one of Cloud Storage's notifications; any other counts as a call by the schedule.

The function authenticates nobody. The platform does: deployed without unauthenticated access, the function is called
with an OIDC token of an account that may invoke it, or not at all.

A caller is asked to retry only if that helps:

    result                                             schedule  events, messages  log
    a delivery, whatever its outcome                   200       200               INFO; WARNING for "give up";
                                                                                   ERROR if some state is damaged
    skipped                                            -         200               DEBUG
    the request is not understood                      405       200               WARNING
    its body is larger than 1 MiB                      413       413               WARNING
    a transient error: no response, 429, 5xx           503       503               WARNING
    no champion, spec or permission, a wrong setting:  500       200               ERROR
      a person has to fix it
    a defect                                           500       500               a traceback

`405` is for other methods than POST. A retry does not fix what a person has to fix, and no event is lost by it: the
next delivery looks at all that has arrived. A request that is no CloudEvent does not reach this module:
functions-framework refuses it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flask
import functions_framework
from werkzeug.exceptions import RequestEntityTooLarge

from adaptation import codec
from adaptation.data.batches import BatchStore
from adaptation.errors import AdaptationError
from adaptation.events import Sources
from adaptation.io.object_store import StorageFailed
from adaptation.notify.config import NotifyConfig
from adaptation.notify.delivery import notify
from adaptation.retraining import Step
from adaptation.trigger import Delivery, Outcome, tick

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

    from adaptation.platforms.base import Platform

FINALIZED = "google.cloud.storage.object.v1.finalized"
PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
MIN_IMAGES = "100"
LONGEST_NAME = 1024  # no object's name is longer
LONGEST_MESSAGE = 4096
LARGEST_BODY = 2**20  # bytes; a notification has a few thousand
TRANSIENT = (ConnectionError, TimeoutError, StorageFailed)
_BUCKET = re.compile(r"gs://[^/]+(/.*)?")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_TRACE = re.compile(r"\b[0-9a-f]{32}\b")
_CONNECTING = threading.Lock()


class Malformed(AdaptationError, ValueError):
    """An event or a message of an unknown form."""


@dataclass(frozen=True)
class Deployment:
    """The deployment that the function works on.

    Attributes:
      batches: The collected images.
      records_root: URI of the folder of the trigger's journals.
      min_images: New images that are worth an evaluation.
      platform: The platform that runs the evaluations.
      notification: Whom to notify of events; None: nobody.
    """

    batches: BatchStore
    records_root: str
    min_images: int
    platform: Platform
    notification: NotifyConfig | None = None

    @classmethod
    def connect(cls, environment: Mapping[str, str]) -> Deployment:
        """Return the deployment that the environment variables describe. Nothing is sent.

        Raises:
          AdaptationError: Some are wrong; the message lists all faults.
        """
        wrong = [line for check in _CHECKS for line in check(environment)]
        if wrong:
            raise AdaptationError(f"the environment of the function is wrong: {'; '.join(wrong)}. Deploy it again.")
        return cls(
            batches=BatchStore(environment["COLLECTION_ROOT"]),
            records_root=environment["RECORDS_ROOT"],
            min_images=int(environment.get("MIN_IMAGES", MIN_IMAGES)),
            platform=_platform(environment["PLATFORM"]),
            notification=_notification(environment.get("NOTIFY", "")),
        )

    def deliver(self) -> Delivery:
        """Make one delivery, then send what is new; errors as for `trigger.tick`."""
        try:
            return tick(self.platform, self.batches, self.records_root, self.min_images)
        finally:
            self._notify()

    def _notify(self) -> None:
        """Send the events that are new or wait. What fails is logged, and sent by a later delivery."""
        if self.notification is None:
            return
        sources = Sources(self.batches, self.records_root, self.platform.jobs, self.platform.registry)
        try:
            for left in notify(sources, self.notification):
                _log("WARNING", f"{left.events} events are not delivered to {left.receiver}: {left.error}")
        except Exception as error:  # the delivery counts, whatever happens to its news
            _log("WARNING", f"events were not sent: {type(error).__name__}: {error}")


def _limit_bodies(app: flask.Flask) -> None:
    """Refuse large bodies: no caller sends one, and the instance's memory is small."""
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.before_request(_refuse_large_body)


def _refuse_large_body() -> tuple[str, int] | None:
    try:
        flask.request.get_data()
    except RequestEntityTooLarge:
        flask.request.environ.update(
            {"wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}
        )  # the framework reads it again
        with contextlib.suppress(KeyError):
            del flask.request.stream
        return _response("WARNING", f"refused: the body is larger than {LARGEST_BODY:,} bytes", 413)
    return None


if flask.has_app_context():  # functions-framework loads this file within that of its application
    _limit_bodies(flask.current_app)


@functions_framework.http
def on_request(request: flask.Request) -> tuple[str, int]:
    """Answer the schedule's POST, or a message that Pub/Sub pushes; see above for the responses."""
    if request.method != "POST":
        return "use POST to request a delivery\n", 405
    envelope = _envelope(request.get_data())
    if envelope is None:
        return _answer(lambda batches: True, failed=500)
    return _answer(lambda batches: _is_relevant_message(envelope["message"], batches))


@functions_framework.cloud_event
def on_event(event: CloudEvent) -> None:
    """Answer an event: an object was finalized, or a message was published; see above for the responses."""
    text, status = _answer(lambda batches: _is_relevant_event(event, batches))
    if status != 200:
        flask.abort(status, text)


def _answer(is_relevant: Callable[[BatchStore], bool], failed: int = 200) -> tuple[str, int]:
    """Make a delivery if the call is relevant, log the result, and respond.

    Args:
      is_relevant: Decides whether it is; may raise Malformed.
      failed: The status of an error that a person has to fix.
    """
    try:
        deployment = _deployment()
        if not is_relevant(deployment.batches):
            return _response("DEBUG", "skipped: not an image of a batch", 200)
        return _delivery_response(deployment.deliver())
    except Malformed as error:
        return _response("WARNING", str(error), 200)
    except TRANSIENT as error:
        return _response("WARNING", f"{error} Retry the delivery.", 503)
    except (AdaptationError, OSError) as error:
        return _response("ERROR", str(error), failed)


def _deployment() -> Deployment:
    """Return the one deployment of this process; all threads share its connections."""
    with _CONNECTING:
        return _connected()


@functools.cache
def _connected() -> Deployment:
    return Deployment.connect(os.environ)


def _envelope(body: bytes) -> dict[str, Any] | None:
    """Return the envelope in which Pub/Sub pushes a message, or None if the body is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.keys() >= {"message", "subscription"} else None


def _is_relevant_event(event: CloudEvent, batches: BatchStore) -> bool:
    kind, data = event["type"], event.data
    if kind == FINALIZED and isinstance(data, dict):
        return _is_image(data.get("bucket"), data.get("name"), batches)
    if kind == PUBLISHED and isinstance(data, dict):
        return _is_relevant_message(data.get("message"), batches)
    raise Malformed(f"an event of the type {kind!r} with {_shown(data)} is of no known form.")


def _is_relevant_message(message: object, batches: BatchStore) -> bool:
    """Return True if a message of Pub/Sub asks for a delivery: it is about an image, or not about an object."""
    if not isinstance(message, dict) or not isinstance(attributes := message.get("attributes") or {}, dict):
        raise Malformed(f"{_shown(message)} is no message of Pub/Sub's.")
    if "objectId" not in attributes:
        return True
    is_new = attributes.get("eventType") == "OBJECT_FINALIZE"
    return is_new and _is_image(attributes.get("bucketId"), attributes["objectId"], batches)


def _is_image(bucket: object, name: object, batches: BatchStore) -> bool:
    """Return True if an object is an image of a batch, by its name; its existence is not checked."""
    if not isinstance(bucket, str) or not isinstance(name, str):
        raise Malformed(f"{_shown(bucket)} and {_shown(name)} are no bucket and no name of an object.")
    can_be = "/" not in bucket and len(name) <= LONGEST_NAME
    return can_be and batches.batch_of(f"gs://{bucket}/{name}") is not None


def _delivery_response(delivery: Delivery) -> tuple[str, int]:
    planned, job, training = delivery.plan, delivery.job, delivery.training
    given_up = planned.outcome is Outcome.GIVE_UP or training.step is Step.GIVE_UP
    return _response(
        "ERROR" if delivery.damaged else "WARNING" if given_up else "INFO",
        f"{planned.outcome}: {planned.reason}"
        + (f"; {training.step}: {training.reason}" if training.is_open else "")
        + "".join(f"; goes on without what is damaged: {text}" for text in delivery.damaged),
        200,
        batch=str(planned.batch or ""),
        outcome=str(planned.outcome),
        job=job.id if job else planned.job_id,
        link=job.link if job else "",
    )


def _response(severity: str, message: str, status: int, **fields: str) -> tuple[str, int]:
    """Log a line in Cloud Logging's format on the standard output, and return the same message as the response."""
    _log(severity, message, **fields)
    return f"{message[:LONGEST_MESSAGE]}\n", status


def _log(severity: str, message: str, **fields: str) -> None:
    message = message[:LONGEST_MESSAGE]
    line = {"severity": severity, "message": message} | {name: value for name, value in fields.items() if value}
    print(json.dumps(line | _trace()) + "\n", end="", flush=True)  # as one write: others log at the same time


def _trace() -> dict[str, str]:
    """Return the field that joins a line with its request in Cloud Logging."""
    headers = flask.request.headers
    found = _TRACE.search(headers.get("X-Cloud-Trace-Context", "") or headers.get("traceparent", ""))
    project = _project(os.environ.get("PLATFORM", ""))
    return {"logging.googleapis.com/trace": f"projects/{project}/traces/{found[0]}"} if found and project else {}


@functools.cache
def _project(platform: str) -> str:
    try:
        return str(json.loads(platform)["project"])
    except (ValueError, TypeError, KeyError):
        return ""


def _platform(text: str) -> Platform:
    from adaptation.platforms.connect import parse

    config = parse(text)
    if not config.remote:
        raise AdaptationError("it describes one machine, and the function runs on Google Cloud")
    return config.connect()


def _notification(text: str) -> NotifyConfig | None:
    return codec.decode(text, NotifyConfig, "NOTIFY", remedy="Deploy the function again.") if text else None


def _check_notification(environment: Mapping[str, str]) -> list[str]:
    try:
        _notification(environment.get("NOTIFY", ""))
    except AdaptationError as error:
        return [str(error).rstrip(".")]
    return []


def _check_roots(environment: Mapping[str, str]) -> list[str]:
    roots = {name: environment.get(name, "") for name in ("COLLECTION_ROOT", "RECORDS_ROOT")}
    return [f"{name} is {uri!r}, not a gs:// folder" for name, uri in roots.items() if not _BUCKET.fullmatch(uri)]


def _check_min_images(environment: Mapping[str, str]) -> list[str]:
    text = environment.get("MIN_IMAGES", MIN_IMAGES)
    return [] if _COUNT.fullmatch(text) else [f"MIN_IMAGES is {text!r}, not a number from 1 on"]


def _check_platform(environment: Mapping[str, str]) -> list[str]:
    try:
        _platform(environment.get("PLATFORM", ""))
    except AdaptationError as error:
        return [f"PLATFORM cannot be used: {str(error).rstrip('.')}"]
    return []


_CHECKS = (_check_roots, _check_min_images, _check_platform, _check_notification)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."
