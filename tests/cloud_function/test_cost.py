"""Cost of a cold start: the function's module in a fresh process, compared with one of Google's clients."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.worlds.function import MAIN

ROUNDS = 3
UNWANTED = ("tensorflow", "tfx", "apache_beam", "kfp", "google.cloud.aiplatform", "polars", "numpy", "pandas")
FUNCTION = f"sys.path[:0] = [{str(MAIN.parent)!r}, {str(MAIN.parent.parent)!r}]; import main"
# All that a first call imports except the storage client: the platform and Vertex AI's libraries.
CONNECTED = """
import json, os
platform = {"platform": "vertex", "name": "ships", "project": "demo", "location": "us-central1", "root": "gs://b/r",
            "container": {"image": "i"}}
os.environ |= {"COLLECTION_ROOT": "gs://b/c", "RECORDS_ROOT": "gs://b/t", "PLATFORM": json.dumps(platform)}
main._deployment()
"""


def in_a_fresh_process(code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", f"import sys\n{code}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def cpu_seconds(statement: str) -> float:
    """Return the CPU seconds of a statement in a fresh process, which depend less on the machine's load."""
    timed = f"import time; begun = time.process_time(); {statement}; print(time.process_time() - begun)"
    return float(in_a_fresh_process(timed))


def test_cold_start_costs_at_most_twice_the_storage_client() -> None:
    rounds = [(cpu_seconds(FUNCTION), cpu_seconds("import google.cloud.storage")) for _ in range(ROUNDS)]
    function, client = (min(times) for times in zip(*rounds, strict=True))
    assert function <= 2 * client


@pytest.mark.parametrize("code", [FUNCTION, FUNCTION + CONNECTED], ids=["imported", "connected"])
def test_function_loads_no_heavy_module(code: str) -> None:
    assert in_a_fresh_process(f"{code}\nprint(*(name for name in {UNWANTED} if name in sys.modules))") == ""


def test_heavy_module_would_be_detected() -> None:
    assert (
        in_a_fresh_process(f"import polars\nprint(*(name for name in {UNWANTED} if name in sys.modules))") == "polars"
    )


def test_function_loads_only_its_own_package() -> None:
    ours = 'print(*sorted({name.split(".")[0] for name in sys.modules} & {"adaptation", "components", "emulators", '
    assert in_a_fresh_process(f'{FUNCTION + CONNECTED}\n{ours}"models", "pipeline", "tests"}}))') == "adaptation"
