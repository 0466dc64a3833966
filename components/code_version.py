"""The version of the code that a task runs, recorded in its outputs."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

DISTRIBUTION = "continuous-adaptation"
PACKAGES = ("adaptation", "components", "models", "pipeline")


@cache
def code_version(recipe: str = "") -> str:
    """Return the distribution's version and 12 hex digits of a digest over its packages' sources.

    The same sources give the same text wherever they are installed; changed ones give another, whether or not the
    version was raised.

    Args:
      recipe: The digest of the user's own code, if any: it follows, as in `0.1.0+3f9a1c02b7d4.0c1d2e3f4a5b`.
    """
    own = f"{version(DISTRIBUTION)}+{source_digest(Path(__file__).parents[1])[:12]}"
    return f"{own}.{recipe}" if recipe else own


def source_digest(root: Path) -> str:
    """Return the digest of the packages' Python files below a folder: their paths and contents (64 hex digits)."""
    digest = hashlib.sha256()
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()}\t{len(content)}\n".encode() + content)
    return digest.hexdigest()
