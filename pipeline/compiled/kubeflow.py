"""Kubeflow Pipelines: the same spec, submitted with the kfp client.

Kubeflow takes the `pipelineSpec` part alone, as YAML (source: kfp's `load_component_from_file`, which refuses the whole
job); the rest of the job goes into the request for the run.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from adaptation.errors import AdaptationError
from pipeline.compiled.spec import Spec

REQUEST_SECONDS = (10, 60)  # timeouts to connect and for the response


def package(spec: Spec, folder: Path) -> Path:
    """Write the pipeline as Kubeflow's YAML below a folder; return the file."""
    file = folder / f"{spec.name}.yaml"
    file.write_text(yaml.safe_dump(spec.pipeline, sort_keys=True))
    return file


def request(spec: Spec, host: str) -> dict[str, Any]:
    """Return `submit`'s request. The client adds only the id of the experiment, `Default`, from the server."""
    body = {
        "display_name": spec.job["displayName"],
        "pipeline_spec": spec.pipeline,
        "runtime_config": {"parameters": dict(spec.parameters), "pipeline_root": _root(spec)},
    }
    return {"method": "POST", "url": f"{host.rstrip('/')}/apis/v2beta1/runs", "body": body}


def submit(spec: Spec, host: str) -> str:
    """Start a run on a Kubeflow Pipelines backend; return the address of the run's page.

    Args:
      spec: The job: the pipeline, the values of its runtime parameters, its name and where the outputs go.
      host: Address of the backend's API.

    Raises:
      AdaptationError: It does not answer, or refuses.

    Failure: the run was started or not; look for its name. Nothing is sent twice.
    """
    with tempfile.TemporaryDirectory() as folder, _errors_translated(host, spec.job["displayName"]):
        started = _client(host).create_run_from_pipeline_package(
            str(package(spec, Path(folder))),
            arguments=dict(spec.parameters),
            run_name=spec.job["displayName"],
            pipeline_root=_root(spec),
        )
        if not started.run_id:
            raise ValueError("the answer names no run")
    return f"{host.rstrip('/')}/#/runs/details/{started.run_id}"


def _root(spec: Spec) -> str:
    return str(spec.job["runtimeConfig"]["gcsOutputDirectory"])


def _client(host: str) -> Any:
    """Return a client with a timeout; by default it waits for ever, and retries a wrong address five times."""
    import kfp

    class Client(kfp.Client):  # type: ignore[misc]
        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            return self._healthz_api.healthz_service_get_healthz(_request_timeout=REQUEST_SECONDS)

    client = Client(host=host)
    rest = client._run_api.api_client.rest_client
    send = rest.request
    rest.request = lambda *args, **options: send(*args, **{**options, "_request_timeout": REQUEST_SECONDS})
    return client


@contextlib.contextmanager
def _errors_translated(host: str, run: str) -> Iterator[None]:
    """Turn the client's errors into this package's own; hide what it prints and warns of by itself."""
    import kfp_server_api  # type: ignore[import-untyped]
    import urllib3

    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    except kfp_server_api.ApiException as error:
        raise AdaptationError(f"{host} refused the run {run}: HTTP {error.status} {_reason(error)}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise AdaptationError(
            f"{host} does not answer: {error}. Check --host; if the connection was lost, "
            f"look first for {run} among its runs."
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise AdaptationError(f"{host} does not answer as Kubeflow Pipelines does: {error}. Check --host.") from error


def _reason(error: Any) -> str:
    """Return the server's message, or the beginning of a page that is not its own."""
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, TypeError, KeyError):
        return f"{error.reason}: {str(error.body)[:200]!r}"
