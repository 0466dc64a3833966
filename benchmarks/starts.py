"""The start time of commands, compared with the import of exactly the modules that they load."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from adaptation.io import storage
from benchmarks.object_storage import object_storage
from benchmarks.runner import Baseline, Bench, Subject, at_most, timed
from emulators.vertex import VertexEmulator

ADAPT = "from pipeline.cli.main import main; main()"
FUNCTION = "import cloud_function.main"
OURS = ("adaptation", "cloud_function", "components", "models", "pipeline")
PROJECT, LOCATION = "bench", "europe-west4"
SETTINGS = """
name = "bench"
[data]
root = "gs://bench/data"
[collection]
root = "gs://bench/collection"
[labels]
names = ["ship", "truck"]
[model]
name = "cifar"
[platform]
kind = "vertex"
[vertex]
project = "{project}"
location = "{location}"
root = "gs://bench/adaptation"
image = "europe-docker.pkg.dev/bench/adaptation/tasks:1"
api_endpoint = "{endpoint}"
credentials = "anonymous"
"""


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Start commands in a workspace on Google Cloud, emulated."""
    with object_storage(latency=0) as bucket, VertexEmulator(PROJECT, LOCATION) as vertex:
        settings = SETTINGS.format(project=PROJECT, location=LOCATION, endpoint=vertex.url)
        (folder / "adapt.toml").write_text(settings)
        compiled = (ADAPT, "compile", "evaluation", "--output", str(folder), "--workspace", str(folder))
        compiling = _subject(folder, "adapt compile", compiled, rounds=2, warm_up=False)  # it has compiled by then
        spec = (folder / "evaluation.json").read_bytes()
        storage.write(storage.join(bucket, "adaptation/specs/evaluation/latest.json"), spec)
        yield Bench(
            (
                _subject(folder, "adapt --help", (ADAPT, "--help")),
                _subject(folder, "import of the function", (FUNCTION,)),
                compiling,
                _subject(
                    folder,
                    "adapt submit",
                    (ADAPT, "submit", "evaluation", "--param", "data_gcs_prefix=2021-10", "--workspace", str(folder)),
                ),
            ),
            "each start a process of its own, compiled bytecode in place",
        )


def start(command: Sequence[str], *options: str) -> str:
    """Run Python code with arguments; return its standard error."""
    arguments = [sys.executable, "-P", *options, "-c", *command]
    run = subprocess.run(arguments, env=_environment(), capture_output=True, text=True, timeout=300)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {run.stderr}")
    return run.stderr


def imports_of(command: Sequence[str]) -> str:
    """Return code that only imports the libraries' modules that the command imports, in that order."""
    lines = [line for line in start(command, "-X", "importtime").splitlines() if line.startswith("import time:")]
    names = [line.rpartition("|")[2].strip() for line in lines[1:]]
    wanted = [name for name in names if name.split(".")[0] not in OURS and name.replace(".", "").isidentifier()]
    return "\n".join(["import contextlib, importlib", f"for name in {wanted}:", _IMPORT])


_IMPORT = "    with contextlib.suppress(Exception):\n        importlib.import_module(name)"


def _subject(folder: Path, name: str, command: Sequence[str], rounds: int = 3, warm_up: bool = True) -> Subject:
    file = folder / f"{name}.py"  # the names are too many for a command line
    file.write_text(imports_of(command))
    bare = (f"import runpy; runpy.run_path({str(file)!r})",)
    floor = Baseline("floor: the bare imports", timed(lambda: start(bare)), at_most(1.3))
    return Subject(name, timed(lambda: start(command)), (floor,), rounds, warm_up)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
