"""Whom to notify: the configuration, without secrets; these come from the environment of the process that sends."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from adaptation.errors import AdaptationError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TOPIC = re.compile(r"projects/[a-z0-9.:-]+/topics/[A-Za-z][\w.~+%-]{2,254}")


class InvalidReceiver(AdaptationError, ValueError):
    """A receiver to which nothing may be sent; the message does not name it, because a URL may hold a secret."""


@dataclass(frozen=True)
class NotifyConfig:
    """The receivers of a deployment's events.

    Attributes:
      source: Name of the deployment.
      webhooks: URLs that get a POST.
      secret: Name of the environment variable with the secret that signs the POSTs; empty: they are not signed.
      pubsub: A topic of Pub/Sub, `projects/P/topics/T`; empty: none.
      command: A command of this machine and its arguments; empty: none.
      apprise: Name of the environment variable with URLs of apprise, which may hold secrets; empty: none.
    """

    source: str
    webhooks: tuple[str, ...] = ()
    secret: str = ""
    pubsub: str = ""
    command: tuple[str, ...] = ()
    apprise: str = ""


def check_webhook(url: str) -> str:
    """Return the URL of a webhook if events may be sent there.

    Raises:
      InvalidReceiver: It is neither https nor on this machine's loopback interface, has a user name or a fragment, or
        names a link-local address, where clouds keep the credentials of their machines.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidReceiver(f"should be a URL: {error}") from error
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise InvalidReceiver("should be https, or http on the loopback interface (127.0.0.1)")
    if not host or parts.username is not None or parts.fragment:
        raise InvalidReceiver("should have a host, and neither a user name nor a fragment")
    if not is_allowed(host):
        raise InvalidReceiver("should not name a link-local address")
    return url


def check_topic(topic: str) -> str:
    """Return the topic if it is a full resource name.

    Raises:
      InvalidReceiver: It is not.
    """
    if not _TOPIC.fullmatch(topic):
        raise InvalidReceiver("should be projects/PROJECT/topics/TOPIC")
    return topic


def is_allowed(host: str) -> bool:
    """Return False for the addresses that no receiver has: link-local, multicast, unspecified. Names are allowed."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return not (address.is_link_local or address.is_multicast or address.is_unspecified)
