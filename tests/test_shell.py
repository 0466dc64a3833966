"""No module composes a command as text for a shell."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SOURCES = [
    path
    for name in ("adaptation", "cloud_function", "components", "models", "pipeline")
    for path in (PROJECT / name).rglob("*.py")
]
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}


def shells_in(source: str) -> list[str]:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    by_name = [ast.unparse(call.func) for call in calls if ast.unparse(call.func) in SHELLS]
    return by_name + [ast.unparse(call) for call in calls if any(word.arg == "shell" for word in call.keywords)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_modules_call_no_shell(path: Path) -> None:
    assert shells_in(path.read_text()) == []


def test_shell_call_would_be_found() -> None:
    assert shells_in("import os, subprocess\nos.system('ls ' + x)\nsubprocess.run(x, shell=True)") != []
