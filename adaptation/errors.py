"""The root of this package's exceptions. Each package defines its own, beside the code that raises them.

A class exists only where a caller catches it; it derives from `AdaptationError` and from the built-in that it means, so
that a caller may catch either. The message says what was wrong, the value, and what to do next.
"""

from __future__ import annotations


class AdaptationError(Exception):
    """An error that the user can fix; a command line shows it as one message, without a traceback."""


class AlreadyExists(AdaptationError, FileExistsError):
    """The target of a creation exists already; it is left unchanged."""


def described(error: BaseException) -> str:
    """Return an error as text: its kind and its message."""
    kind = "Error" if type(error) is AdaptationError else type(error).__name__
    return f"{kind}: {error}"
