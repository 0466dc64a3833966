"""Imports: neither the domain nor the command line loads TensorFlow, TFX, Beam, kfp or a cloud client."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import adaptation

HEAVY = ("tensorflow", "tfx", "apache_beam", "kfp", "google.cloud.aiplatform")
DOMAIN = ["adaptation", *(module.name for module in pkgutil.walk_packages(adaptation.__path__, "adaptation."))]
HELP = """
import sys
sys.argv = ["adapt", "--help"]
from pipeline.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code
"""


def loaded_by(code: str) -> list[str]:
    """Return the heavy modules that a fresh process has loaded after it has run the code."""
    script = f"{code}\nimport sys\nprint('loaded:', *(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].removeprefix("loaded:").split()


@pytest.mark.parametrize("module", [*DOMAIN, "pipeline.workspace.settings", "pipeline.cli.main"])
def test_importing_adaptation_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(f"import {module}") == []


def test_command_help_loads_nothing_heavy() -> None:
    assert loaded_by(HELP) == []


def test_heavy_import_would_be_detected() -> None:
    assert loaded_by("import kfp") == ["kfp"]
