"""The Cloud Function: whatever calls it, a schedule or news of an image, it makes one delivery to the trigger.

    on_request    HTTP: Cloud Scheduler's POST, whatever is in it, and the envelopes that Pub/Sub pushes
    on_event      CloudEvents from Eventarc: an object was finalized, a message was published

News of something that is no image of a month of the collection is passed over without a request to anybody. A message
is news of an object if it is one of Cloud Storage's notifications; any other is as good as the schedule.

Nobody is authenticated here. The platform does that: deployed without unauthenticated access, the function is called
with an OIDC token of an account that may invoke it, or not at all.

A caller is made to come again only where that helps:

    what came of it                                    schedule  events, messages  log
    a delivery, whatever it led to                     200       200               INFO; WARNING for "give up"
    nothing, it was passed over                        -         200               DEBUG
    it is not to be understood                         405       200               WARNING
    a passing failure: no answer, 429, 5xx             503       503               WARNING
    no champion, no specification, no permission,      500       200               ERROR
      a setting that is wrong: a person has to mend it
    a defect                                           500       500               a traceback

`405` is for other methods than POST. What a person has to mend is not mended by coming again, and no event is missed
for it: the next delivery, whoever makes it, looks at all that has arrived. What is no CloudEvent at all does not come
as far as this module: functions-framework refuses it.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flask
import functions_framework

from adaptation.data.batches import BatchStore
from adaptation.errors import AdaptationError
from adaptation.io.object_store import StorageFailed
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
PASSING = (ConnectionError, TimeoutError, StorageFailed)
_BUCKET = re.compile(r"gs://[^/]+(/.*)?")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_TRACE = re.compile(r"\b[0-9a-f]{32}\b")
_CONNECTING = threading.Lock()


class InvalidEnvironment(AdaptationError, ValueError):
    """Environment variables that the function cannot work with."""


class Malformed(AdaptationError, ValueError):
    """An event or a message that is none of those that the function knows."""


@dataclass(frozen=True)
class Deployment:
    """What the function works on.

    Attributes:
      batches: The collected images.
      records_root: URI of the folder of the trigger's journals.
      min_images: New images that are worth an evaluation.
      platform: Where the evaluations run.
    """

    batches: BatchStore
    records_root: str
    min_images: int
    platform: Platform

    @classmethod
    def connect(cls, environment: Mapping[str, str]) -> Deployment:
        """The deployment that the environment variables describe. Nothing is sent.

        Raises:
          InvalidEnvironment: With everything that is wrong with them.
        """
        wrong = [line for check in _CHECKS for line in check(environment)]
        if wrong:
            raise InvalidEnvironment(f"the environment of the function is wrong: {'; '.join(wrong)}. Deploy it again.")
        return cls(
            batches=BatchStore(environment["COLLECTION_ROOT"]),
            records_root=environment["RECORDS_ROOT"],
            min_images=int(environment.get("MIN_IMAGES", MIN_IMAGES)),
            platform=_platform(environment["PLATFORM"]),
        )

    def deliver(self) -> Delivery:
        """Makes one delivery; errors as for `trigger.tick`."""
        return tick(self.platform, self.batches, self.records_root, self.min_images)


@functions_framework.http
def on_request(request: flask.Request) -> tuple[str, int]:
    """The schedule's POST, or a message that Pub/Sub pushes; see above for the answers."""
    if request.method != "POST":
        return "POST is what calls for a delivery\n", 405
    envelope = _envelope(request.get_data())
    if envelope is None:
        return _answer(lambda batches: True, failed=500)
    return _answer(lambda batches: _message_calls(envelope["message"], batches))


@functions_framework.cloud_event
def on_event(event: CloudEvent) -> None:
    """An object was finalized, or a message was published; see above for the answers."""
    text, status = _answer(lambda batches: _event_calls(event, batches))
    if status != 200:
        flask.abort(status, text)


def _answer(calls_for_it: Callable[[BatchStore], bool], failed: int = 200) -> tuple[str, int]:
    """Makes a delivery if one is called for, logs what came of it, and answers.

    Args:
      calls_for_it: Decides whether one is; may raise Malformed.
      failed: The status where a person has to mend something.
    """
    try:
        deployment = _deployment()
        if not calls_for_it(deployment.batches):
            return _told("DEBUG", "passed over: no image of a month of the collection", 200)
        return _told_of(deployment.deliver())
    except Malformed as error:
        return _told("WARNING", str(error), 200)
    except PASSING as error:
        return _told("WARNING", f"{error} The delivery is to be made again.", 503)
    except (AdaptationError, OSError) as error:
        return _told("ERROR", str(error), failed)


def _deployment() -> Deployment:
    """The one deployment of this process; all threads share its connections."""
    with _CONNECTING:
        return _connected()


@functools.cache
def _connected() -> Deployment:
    return Deployment.connect(os.environ)


def _envelope(body: bytes) -> dict[str, Any] | None:
    """The envelope in which Pub/Sub pushes a message; None where the body is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.keys() >= {"message", "subscription"} else None


def _event_calls(event: CloudEvent, batches: BatchStore) -> bool:
    kind, data = event["type"], event.data
    if kind == FINALIZED and isinstance(data, dict):
        return _is_image(data.get("bucket"), data.get("name"), batches)
    if kind == PUBLISHED and isinstance(data, dict):
        return _message_calls(data.get("message"), batches)
    raise Malformed(f"an event of the type {kind!r} with {_shown(data)} is none that is known here.")


def _message_calls(message: object, batches: BatchStore) -> bool:
    """Whether a message of Pub/Sub's calls for a delivery: news of an image, or no news of an object at all."""
    if not isinstance(message, dict) or not isinstance(attributes := message.get("attributes") or {}, dict):
        raise Malformed(f"{_shown(message)} is no message of Pub/Sub's.")
    if "objectId" not in attributes:
        return True
    is_new = attributes.get("eventType") == "OBJECT_FINALIZE"
    return is_new and _is_image(attributes.get("bucketId"), attributes["objectId"], batches)


def _is_image(bucket: object, name: object, batches: BatchStore) -> bool:
    """Whether an object is an image of a month, by its name; whether it is there is not asked."""
    if not isinstance(bucket, str) or not isinstance(name, str):
        raise Malformed(f"{_shown(bucket)} and {_shown(name)} are no bucket and no name of an object.")
    can_be = "/" not in bucket and len(name) <= LONGEST_NAME
    return can_be and batches.batch_of(f"gs://{bucket}/{name}") is not None


def _told_of(delivery: Delivery) -> tuple[str, int]:
    planned, job, training = delivery.plan, delivery.job, delivery.training
    given_up = planned.outcome is Outcome.GIVE_UP or training.step is Step.GIVE_UP
    return _told(
        "WARNING" if given_up else "INFO",
        f"{planned.outcome}: {planned.reason}" + (f"; {training.step}: {training.reason}" if training.is_open else ""),
        200,
        batch=str(planned.batch or ""),
        outcome=str(planned.outcome),
        job=job.id if job else planned.job_id,
        link=job.link if job else "",
    )


def _told(severity: str, message: str, status: int, **fields: str) -> tuple[str, int]:
    """Logs a line as Cloud Logging reads it from the standard output, and answers with the same message."""
    message = message[:LONGEST_MESSAGE]
    line = {"severity": severity, "message": message} | {name: value for name, value in fields.items() if value}
    print(json.dumps(line | _trace()) + "\n", end="", flush=True)  # as one write: others log at the same time
    return f"{message}\n", status


def _trace() -> dict[str, str]:
    """The field that joins a line with its request in Cloud Logging."""
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
        raise InvalidEnvironment("it describes one machine, and the function runs on Google Cloud")
    return config.connect()


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


_CHECKS = (_check_roots, _check_min_images, _check_platform)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."
