"""The root of this package's exceptions. Each room defines its own, beside the code that raises them.

A class exists only where callers tell it from others; the message says the rest. Every exception derives from
`AdaptationError` and from the built-in that it means, so that a caller may catch either. Its message says what was
wrong, the value, and what to do next.
"""

from __future__ import annotations


class AdaptationError(Exception):
    """Something that the user can mend; a command line shows it as one message, without a traceback."""


class AlreadyExists(AdaptationError, FileExistsError):
    """Something is where a new thing was to be made; it is left as it is."""
