"""What a cold start costs: the function's module in a fresh process, held against one of Google's clients alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.worlds.function import MAIN

ROUNDS = 3
UNWANTED = ("tensorflow", "tfx", "apache_beam", "kfp", "google.cloud.aiplatform", "polars", "numpy", "pandas")
FUNCTION = f"sys.path[:0] = [{str(MAIN.parent)!r}, {str(MAIN.parent.parent)!r}]; import main"
# All that a first call imports, but for what reaches storage: the platform, and the libraries that speak to Vertex AI.
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
    """What a statement costs a fresh process, in seconds of the processor: what else the machine does counts less."""
    timed = f"import time; begun = time.process_time(); {statement}; print(time.process_time() - begun)"
    return float(in_a_fresh_process(timed))


def test_a_cold_start_costs_at_most_twice_what_the_storage_client_does() -> None:
    rounds = [(cpu_seconds(FUNCTION), cpu_seconds("import google.cloud.storage")) for _ in range(ROUNDS)]
    function, client = (min(times) for times in zip(*rounds, strict=True))
    assert function <= 2 * client


@pytest.mark.parametrize("code", [FUNCTION, FUNCTION + CONNECTED], ids=["imported", "connected"])
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert in_a_fresh_process(f"{code}\nprint(*(name for name in {UNWANTED} if name in sys.modules))") == ""


def test_what_is_heavy_would_be_seen() -> None:
    assert (
        in_a_fresh_process(f"import polars\nprint(*(name for name in {UNWANTED} if name in sys.modules))") == "polars"
    )


def test_it_is_the_function_alone_that_was_loaded() -> None:
    ours = 'print(*sorted({name.split(".")[0] for name in sys.modules} & {"adaptation", "components", "emulators", '
    assert in_a_fresh_process(f'{FUNCTION + CONNECTED}\n{ours}"models", "pipeline", "tests"}}))') == "adaptation"
