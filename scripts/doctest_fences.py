"""A Griffe extension: the site shows the examples in docstrings as code, which Markdown would take for quotations."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


class DoctestFences(Extension):
    """An extension that fences every example that is not indented."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Change the docstring of a module, class, function or attribute that was read."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
