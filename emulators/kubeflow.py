"""An emulator of the Kubeflow Pipelines API, v2beta1, on the loopback interface: the part that starts runs.

Source: the backend's api/v2beta1/*.proto. A run's pipeline is checked against the PipelineSpec message and its declared
parameters; nothing is run.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from aiohttp import web
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from emulators.http_server import LoopbackServer, Request

_API = "/apis/v2beta1/"
_SCHEMA = re.compile(r"2\.1(\.\d+)?")
_INVALID, _UNKNOWN = 3, 5  # google.rpc.Code


class KubeflowEmulator(LoopbackServer):
    """A backend of one user.

    Attributes:
      experiments: The experiments, oldest first.
      runs: The runs, oldest first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.experiments: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []

    def error(self, status: int, message: str) -> web.Response:
        """Return an error in the backend's form."""
        return web.json_response({"error": message, "code": _INVALID, "message": message, "details": []}, status=status)

    def answer(self, request: Request) -> web.Response:
        """Return the response to a request."""
        match f"{request.method} {request.url.path.removeprefix(_API)}":
            case "GET healthz":
                return web.json_response({"multi_user": False})
            case "GET experiments":
                return self._found(json.loads(request.query["filter"][0]))
            case "POST experiments":
                return web.json_response(self._added(self.experiments, "experiment_id", json.loads(request.body)))
            case "POST runs":
                return self._run(json.loads(request.body))
        return web.json_response(
            {"error": "Not Found", "code": _UNKNOWN, "message": "Not Found", "details": []}, status=404
        )

    def _found(self, wanted: dict[str, Any]) -> web.Response:
        (predicate,) = wanted["predicates"]
        name = predicate["stringValue"]
        found = [experiment for experiment in self.experiments if experiment["display_name"] == name]
        return web.json_response({"experiments": found, "total_size": len(found)})

    def _run(self, run: dict[str, Any]) -> web.Response:
        if fault := self._fault_of(run):
            return self.error(400, f"Invalid input error: {fault}")
        return web.json_response(self._added(self.runs, "run_id", {**run, "state": "PENDING"}))

    def _fault_of(self, run: dict[str, Any]) -> str:
        if run.get("experiment_id") not in [experiment["experiment_id"] for experiment in self.experiments]:
            return f"there is no experiment {run.get('experiment_id')}"
        try:
            spec = json_format.ParseDict(run["pipeline_spec"], PipelineSpec())
        except json_format.ParseError as error:
            return f"the pipeline spec is invalid: {error}"
        if not _SCHEMA.fullmatch(spec.schema_version):
            return f"the schema version is {spec.schema_version!r}, not 2.1"
        declared, given = set(spec.root.input_definitions.parameters), set(run["runtime_config"]["parameters"])
        return f"parameters {sorted(declared)} are declared, {sorted(given)} given" if given != declared else ""

    def _added(self, to: list[dict[str, Any]], key: str, item: dict[str, Any]) -> dict[str, Any]:
        to.append({**item, key: str(uuid.uuid4())})
        return to[-1]
