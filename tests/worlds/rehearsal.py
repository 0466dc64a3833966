"""Compiled pipelines written by hand, whose containers run a few lines of Python and start at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.compiled.spec import Spec
from pipeline.rehearsal import Place, Rehearsal

# What a container has: `given`, its input; `leave`, which writes its output; `value`, a property of an input.
_PRELUDE = """
import json, os, sys, time
from pathlib import Path
given = json.loads(sys.argv[1])
parameters = given["inputs"]["parameterValues"]
def value(name, property):
    return given["inputs"]["artifacts"][name]["artifacts"][0]["metadata"][property]
def leave(**metadata):
    file = Path(given["outputs"]["outputFile"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"artifacts": {"made": {"artifacts": [{"metadata": metadata}]}}}))
"""
FILE = {"instanceSchema": "title: tfx.File\ntype: object\n"}
NAME = "shop"
RETRAIN = "inputs.artifacts['Decide'].artifacts[0].metadata['retrain'] == 1.0"


def container(code: str, driver: str = "") -> dict[str, Any]:
    """Return an executor that runs the code; a driver's code runs before it."""
    body: dict[str, Any] = {"image": "none", **_command(code)}
    if driver:
        body["lifecycle"] = {"preCacheCheck": _command(driver)}
    return {"container": body}


def task(
    executor: Mapping[str, Any],
    *,
    after: Iterable[str] = (),
    takes: Iterable[str] = (),
    parameters: Mapping[str, Any] | None = None,
    condition: str = "",
    always: bool = False,
    outputs: Iterable[str] = ("made",),
) -> dict[str, Any]:
    """Return a task: its executor, the tasks before it, and those whose output `made` is its input."""
    trigger = {"condition": condition} if condition else {}
    if always:
        trigger["strategy"] = "ALL_UPSTREAM_TASKS_COMPLETED"
    artifacts = {name: {"taskOutputArtifact": {"producerTask": name, "outputArtifactKey": "made"}} for name in takes}
    return {
        "executor": executor,
        "outputs": {name: {"artifactType": FILE} for name in outputs},
        "spec": {
            "dependentTasks": sorted({*after, *takes}),
            "inputs": {"artifacts": artifacts, "parameters": dict(parameters or {})},
            "triggerPolicy": trigger,
        },
    }


def constant(value: str | float) -> dict[str, Any]:
    """Return a parameter's value as it is compiled."""
    return {"runtimeValue": {"constant": value}}


def a_spec(
    root: Path, tasks: Mapping[str, Mapping[str, Any]], runtime: Mapping[str, Any] | None = None, name: str = NAME
) -> Spec:
    """Return a pipeline of these tasks; `runtime` are its runtime parameters with their values."""
    return Spec(
        {
            "displayName": name,
            "pipelineSpec": {
                "schemaVersion": "2.1.0",
                "pipelineInfo": {"name": name},
                "components": {
                    name: {"executorLabel": name, "outputDefinitions": {"artifacts": one["outputs"]}}
                    for name, one in tasks.items()
                },
                "deploymentSpec": {"executors": {name: one["executor"] for name, one in tasks.items()}},
                "root": {
                    "dag": {
                        "tasks": {
                            name: {"taskInfo": {"name": name}, "componentRef": {"name": name}, **one["spec"]}
                            for name, one in tasks.items()
                        }
                    },
                    "inputDefinitions": {
                        "parameters": {
                            name: {"parameterType": "STRING" if isinstance(value, str) else "NUMBER_INTEGER"}
                            for name, value in (runtime or {}).items()
                        }
                    },
                },
            },
            "runtimeConfig": {"gcsOutputDirectory": str(root / "outputs"), "parameterValues": dict(runtime or {})},
        }
    )


def a_place(folder: Path, **changes: Any) -> Place:
    """Return the place of the rehearsal."""
    return Place(folder / "rehearsal", **changes)


def states(rehearsal: Rehearsal) -> dict[str, str]:
    """Return the final state of each task."""
    return {name: str(report.state) for name, report in rehearsal.tasks.items()}


def metadata(rehearsal: Rehearsal, name: str) -> Mapping[str, Any]:
    """Return the properties of a task's output."""
    return rehearsal.output(name, "made").metadata


def decision(retrain: int) -> dict[str, dict[str, Any]]:
    """Return the tasks Decide, Span only if `retrain`, Trigger after Span, and Report in any case."""
    quiet = container("leave()")
    return {
        "Decide": task(container(f"leave(retrain={retrain})")),
        "Span": task(quiet, takes=["Decide"], condition=RETRAIN),
        "Trigger": task(quiet, takes=["Span"]),
        "Report": task(quiet, takes=["Decide"]),
    }


def holding(folder: Path) -> str:
    """Return a container's code that starts a child, reports it, and never ends."""
    return f"""
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path({str(folder)!r}, "pids.tmp").write_text(json.dumps([os.getpid(), child.pid]))
os.replace({str(folder / "pids.tmp")!r}, {str(folder / "pids")!r})
time.sleep(600)
"""


def _command(code: str) -> dict[str, Any]:
    return {"command": ["python", "-c", _PRELUDE + code], "args": ["{{$}}"]}
