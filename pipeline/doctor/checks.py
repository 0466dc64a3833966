"""Checks: each looks at one thing and says what is wrong with it; they are carried out side by side, none for long.

What there is to look at is in `machine` and `google_cloud`; which of them are wanted, in `examine`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from adaptation.errors import AdaptationError, described

SECONDS = 15.0


class Severity(StrEnum):
    """BROKEN: something will not work. WARNING: it may not, or not as it should."""

    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """A problem: what is wrong, the value, and how to fix it."""

    severity: Severity
    text: str


@dataclass(frozen=True)
class Check:
    """A look at one thing. An error that it raises becomes a finding.

    Attributes:
      name: What is looked at.
      look: Finds what is wrong with it.
      seconds: It may take this long.
      remote: Whether it asks another machine.
    """

    name: str
    look: Callable[[], Iterable[Finding]]
    seconds: float = SECONDS
    remote: bool = False


@dataclass(frozen=True)
class Result:
    """What a check has found; nothing where all is in order."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> bool:
        """Whether something will not work."""
        return any(finding.severity is Severity.BROKEN for finding in self.findings)


def warning(text: str) -> Finding:
    """A finding that something may not work."""
    return Finding(Severity.WARNING, text)


def broken(text: str) -> Finding:
    """A finding that something will not work."""
    return Finding(Severity.BROKEN, text)


def carry_out(checks: Sequence[Check]) -> Iterator[Result]:
    """The checks' results in order, all of which begin now. One that takes too long is not waited for."""
    began = time.monotonic()
    running = [(check, _begin(check)) for check in checks]
    for check, answer in running:
        try:
            findings = answer.get(timeout=max(0.0, began + check.seconds - time.monotonic()))
        except queue.Empty:
            findings = (_late(check),)
        yield Result(check.name, findings)


def _late(check: Check) -> Finding:
    late = f"no answer within {check.seconds:g} s."
    if check.remote:
        return broken(f"{late} Look at the network and its proxy, then try again.")
    return warning(f"{late} This machine is busy, or its disk is slow. Try again when it is idle.")


def _begin(check: Check) -> queue.SimpleQueue[tuple[Finding, ...]]:
    """Where the findings will be. The thread is a daemon: one that hangs does not keep the process."""
    answer: queue.SimpleQueue[tuple[Finding, ...]] = queue.SimpleQueue()
    threading.Thread(target=lambda: answer.put(_findings(check)), name=check.name, daemon=True).start()
    return answer


def _findings(check: Check) -> tuple[Finding, ...]:
    try:
        return tuple(check.look())
    except AdaptationError as error:
        return (broken(str(error)),)
    except Exception as error:
        return (broken(f"it could not be looked at: {described(error)}"),)
