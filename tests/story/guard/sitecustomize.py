"""Keep Python processes on the loopback interface: what would leave it is refused, and recorded.

Python imports this module by its name if its folder is on PYTHONPATH. NETWORK_RECORD names the file that gets a line
for each attempt. Requests of TensorFlow's own HTTP client are left to the TLS proxy.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Any

VARIABLE = "NETWORK_RECORD"
_CONNECTING = ("socket.connect", "socket.sendto", "socket.sendmsg")
_LOOKING_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


def watch() -> None:
    """Refuse and record from now on, while NETWORK_RECORD is set."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    record = os.environ.get(VARIABLE)
    if record and (place := _place(event, arguments)) and not _is_here(place):
        with open(record, "a") as file:
            file.write(f"{event} {place} by {' '.join(sys.orig_argv)[:300]!r}\n")
        raise PermissionError(f"{event} {place}: nothing outside the loopback interface may be contacted here")


def _place(event: str, arguments: tuple[Any, ...]) -> str:
    """Return the requested host, or an empty text."""
    if event in _LOOKING_UP:
        return _text(arguments[0])
    if event in _CONNECTING and isinstance(arguments[1], tuple):
        return _text(arguments[1][0])
    return ""


def _text(host: Any) -> str:
    return host.decode() if isinstance(host, bytes) else str(host or "")


def _is_here(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


if os.environ.get(VARIABLE):
    watch()
