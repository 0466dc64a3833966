"""The root of this package's exceptions. Each room defines its own, beside the code that raises them.

Every exception derives from `AdaptationError` and from the built-in that it means, so that a caller may catch either.
Its message says what was wrong, the value, and what to do next.
"""

from __future__ import annotations


class AdaptationError(Exception):
    """Something that the user can mend; a command line shows it as one message, without a traceback."""
