"""The receivers: each takes one event, within a time limit, or says why not.

A webhook gets a POST of a CloudEvent, signed as Standard Webhooks 1.0 describes (headers `webhook-id`,
`webhook-timestamp`, `webhook-signature`): HMAC-SHA256 over id, time and body. Redirects are not followed, link-local
addresses are never connected to, and no more than the beginning of a response is read.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from adaptation.errors import AdaptationError
from adaptation.events import NEEDS_A_PERSON, Event
from adaptation.notify.cloudevents import CONTENT_TYPE, to_cloudevent
from adaptation.notify.config import NotifyConfig, check_topic, check_webhook, is_allowed

if TYPE_CHECKING:
    import aiohttp

SECONDS = 10.0
EMULATOR = "PUBSUB_EMULATOR_HOST"  # Google's own variable
_SHOWN = 200
_SCOPE = "https://www.googleapis.com/auth/pubsub"


class NotDelivered(AdaptationError, OSError):
    """An event that a receiver did not take."""


class Receiver(Protocol):
    """Something that takes events.

    Attributes:
      name: For people and for the records of what was sent; without secrets.
    """

    @property
    def name(self) -> str:
        """Its name."""

    def send(self, event: Event) -> None:
        """Send an event; NotDelivered if it was not taken."""


def receivers(config: NotifyConfig) -> list[Receiver]:
    """Return the receivers of a configuration; nothing is sent or loaded."""
    found: list[Receiver] = [Webhook(url, config.secret, config.source) for url in config.webhooks]
    if config.pubsub:
        found.append(Topic(config.pubsub, config.source))
    if config.command:
        found.append(LocalCommand(config.command, config.source))
    if config.apprise:
        found.append(Apprise(config.apprise, config.source))
    return found


@dataclass(frozen=True)
class Webhook:
    """A URL that gets a signed POST."""

    url: str
    secret: str
    source: str

    @property
    def name(self) -> str:
        """The URL's host; a path may hold a secret, so a digest stands for it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''} {_digest(self.url)}"

    def send(self, event: Event) -> None:
        """Post the event; any answer of 2xx means that it was taken."""
        body = to_cloudevent(event, self.source)
        headers = {"Content-Type": f"{CONTENT_TYPE}; charset=utf-8", **self._signature(event.id, body)}
        posting = _post(check_webhook(self.url), headers, body)
        with ThreadPoolExecutor(1) as thread:  # the caller's may have an event loop of its own: a notebook's has
            status, text = thread.submit(asyncio.run, posting).result()
        if not 200 <= status < 300:
            raise NotDelivered(f"HTTP {status}: {text!r}")

    def _signature(self, id: str, body: bytes) -> Mapping[str, str]:
        if not self.secret:
            return {}
        return signature(_secret(self.secret), id, str(int(time.time())), body)


@dataclass(frozen=True)
class Topic:
    """A topic of Pub/Sub; the messages of a deployment have one ordering key.

    Source: Pub/Sub's REST reference, `projects.topics.publish`; CloudEvents' "Google Cloud Pub/Sub Protocol Binding".
    """

    topic: str
    source: str

    @property
    def name(self) -> str:
        """The topic."""
        return self.topic

    def send(self, event: Event) -> None:
        """Publish the event."""
        data = base64.b64encode(to_cloudevent(event, self.source)).decode()
        message = {"data": data, "attributes": {"content-type": CONTENT_TYPE}, "orderingKey": self.source}
        emulator = os.environ.get(EMULATOR, "")
        address = f"http://{emulator}" if emulator else "https://pubsub.googleapis.com"
        self._publish(f"{address}/v1/{check_topic(self.topic)}:publish", {"messages": [message]}, bool(emulator))

    def _publish(self, url: str, body: Mapping[str, Any], emulated: bool) -> None:
        import google.auth
        import google.auth.credentials
        import google.auth.exceptions
        import requests
        from google.auth.transport.requests import AuthorizedSession

        anonymous = google.auth.credentials.AnonymousCredentials
        try:
            credentials = anonymous() if emulated else google.auth.default(scopes=[_SCOPE])[0]  # type: ignore[no-untyped-call]
            with AuthorizedSession(credentials) as session:  # type: ignore[no-untyped-call]
                response: requests.Response = session.request(  # type: ignore[no-untyped-call]
                    "POST", url, json=body, timeout=SECONDS, max_allowed_time=SECONDS, allow_redirects=False
                )
        except (requests.RequestException, google.auth.exceptions.GoogleAuthError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}") from error
        if response.status_code != 200:
            raise NotDelivered(f"HTTP {response.status_code}: {response.text[:_SHOWN]!r}")


@dataclass(frozen=True)
class LocalCommand:
    """A command of this machine, which gets the event on its standard input."""

    command: tuple[str, ...]
    source: str

    @property
    def name(self) -> str:
        """The program; arguments may hold secrets, so a digest stands for them."""
        return f"{os.path.basename(self.command[0])} {_digest(repr(self.command))}"

    def send(self, event: Event) -> None:
        """Run the command, without a shell; exit code 0 means that the event was taken.

        What it prints is not read; after the time limit it is killed with all that it started.
        """
        try:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise NotDelivered(f"the command cannot be run: {error}") from error
        try:
            process.communicate(to_cloudevent(event, self.source), SECONDS)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise NotDelivered(f"the command did not end within {SECONDS:g} s") from error
        if process.returncode:
            raise NotDelivered(f"the command ended with exit code {process.returncode}")


@dataclass(frozen=True)
class Apprise:
    """Everything that apprise reaches: chats, mail, telephones."""

    variable: str
    source: str

    @property
    def name(self) -> str:
        """The variable with the URLs."""
        return f"apprise {self.variable}"

    def send(self, event: Event) -> None:
        """Send the event's sentence to all URLs of the variable; all must take it."""
        try:
            import apprise
        except ImportError as error:
            raise NotDelivered('apprise is not installed: pip install "continuous-adaptation[notify]"') from error
        target = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
        if not target.add(_secret(self.variable).split()):
            raise NotDelivered(f"a URL in {self.variable} is none that apprise knows")
        warning = apprise.NotifyType.WARNING if event.kind in NEEDS_A_PERSON else apprise.NotifyType.INFO
        if not target.notify(event.message, title=f"{self.source}: {event.kind}", notify_type=warning):
            raise NotDelivered("apprise could not send it to every URL")


def signature(secret: str, id: str, timestamp: str, body: bytes) -> Mapping[str, str]:
    """Return the headers that sign a POST, after Standard Webhooks 1.0.

    Args:
      secret: Any text, or `whsec_` and the key in base64.
      id: The event's id.
      timestamp: Seconds since 1970.
      body: The body.
    """
    prefix, _, encoded = secret.partition("whsec_")
    key = base64.b64decode(encoded) if encoded and not prefix else secret.encode()
    signed = hmac.new(key, b".".join((id.encode(), timestamp.encode(), body)), hashlib.sha256).digest()
    return {
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


async def _post(url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    """Return the status and the beginning of the response; all together within the time limit.

    Raises:
      NotDelivered: There was no response.
    """
    import aiohttp

    local = urlsplit(url).scheme == "http"  # a proxy does not reach this machine's own interface
    connector = aiohttp.TCPConnector(resolver=_resolver())
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=not local) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            return response.status, (await response.content.read(_SHOWN)).decode(errors="replace")
    except TimeoutError as error:
        raise NotDelivered(f"no answer within {SECONDS:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NotDelivered(f"{type(error).__name__}: {error}".replace(url, "the URL")) from error


def _resolver() -> aiohttp.abc.AbstractResolver:
    """Return a resolver that leaves out the addresses that no receiver has."""
    import aiohttp

    class Resolver(aiohttp.ThreadedResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[aiohttp.abc.ResolveResult]:
            found = [one for one in await super().resolve(host, port, family) if is_allowed(one["host"])]
            if not found:
                raise OSError(f"{host} has no address that a receiver may have")
            return found

    return Resolver()


def _secret(variable: str) -> str:
    if not (value := os.environ.get(variable, "")):
        raise NotDelivered(f"the environment variable {variable} is not set where this process runs")
    return value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
