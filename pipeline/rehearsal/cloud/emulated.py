"""The cloud on this machine: object storage, Vertex AI and Google's own addresses for them, started together.

Vertex AI does its work: pipeline jobs are rehearsed, batch predictions predict and a deployed endpoint answers, in
processes that find the emulators at Google's addresses. `seed` fills it for a rehearsal.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from emulators.storage.emulator import StorageEmulator
from emulators.tls_proxy import STORAGE_HOSTS, TlsProxy, vertex_host
from emulators.vertex import VertexEmulator
from pipeline.compiled.spec import Spec
from pipeline.rehearsal import Place, TaskReport, TaskState, rehearse
from pipeline.rehearsal.cloud.model_server import ModelServer
from pipeline.rehearsal.processes import Processes

_STATES = {  # of a task, if Vertex AI has another name: google.cloud.aiplatform.v1.PipelineTaskDetail
    TaskState.NOT_STARTED: "NOT_TRIGGERED",
    TaskState.CACHED: "SUCCEEDED",
}


class Cloud:
    """The cloud, while its context lasts; what still runs at its end is stopped.

    Args:
      folder: Folder of this machine for logs and the record of all pipeline runs.
      project: Id of the project.
      location: The only location.
      buckets: The buckets to start with, all empty.
      environment: Additional environment variables of its processes.
      parallel: How many tasks of a pipeline run at the same time.

    Attributes:
      objects: Object storage.
      vertex: Vertex AI.
      proxy: Routes Google's own addresses to them.
      environment: Environment variables that direct a process's clients here.
    """

    objects: StorageEmulator
    vertex: VertexEmulator
    proxy: TlsProxy
    environment: Mapping[str, str]

    def __init__(
        self,
        folder: Path,
        project: str,
        location: str,
        buckets: Iterable[str],
        *,
        environment: Mapping[str, str] | None = None,
        parallel: int = 2,
    ) -> None:
        self._folder, self._project, self._location, self._parallel = folder, project, location, parallel
        self._buckets, self._more = sorted(set(buckets)), environment or {}
        self._processes = Processes()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self.objects = stack.enter_context(StorageEmulator())
            self.vertex = stack.enter_context(
                VertexEmulator(
                    self._project,
                    self._location,
                    on_pipeline_job=self._run_pipeline,
                    on_batch_prediction=self._predict_files,
                    on_predict=self._predict,
                )
            )
            hosts = {**dict.fromkeys(STORAGE_HOSTS, self.objects.url), vertex_host(self._location): self.vertex.url}
            self.proxy = stack.enter_context(TlsProxy(hosts))
            self.environment = {**self.objects.environment(), **self.proxy.environment(), **self._more}
            for bucket in self._buckets:
                self.objects.create_bucket(bucket)
            self._models = ModelServer(self._folder / "serving.log", self.environment)
            stack.callback(self._models.close)
            stack.callback(self._processes.stop)
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @contextmanager
    def as_client(self) -> Iterator[None]:
        """Make this process a client of it too, while the context lasts."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        _forget_connections()
        try:
            yield
        finally:
            for name, value in before.items():
                _restore(name, value)
            _forget_connections()

    def _run_pipeline(self, job: dict[str, Any]) -> None:
        def on_change(report: TaskReport) -> None:
            self.vertex.set_task_state(job["name"], report.name, _STATES.get(report.state, report.state))

        place = Place(self._folder, environment=self.environment, parallel=self._parallel)
        name = job["name"].rpartition("/")[2]
        rehearse(Spec(job), place, run=name, on_change=on_change, processes=self._processes).check()

    def _predict_files(self, job: dict[str, Any], folder: str) -> int:
        (file_list,) = job["inputConfig"]["gcsSource"]["uris"]
        return self._models.predict_files(self._artifact(job["model"]), file_list, folder)

    def _predict(self, version: str, instances: Sequence[Any]) -> list[Any]:
        return self._models.predict(self._artifact(version), instances)

    def _artifact(self, version: str) -> str:
        return str(self.vertex.model_version(version)["artifactUri"])


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _forget_connections() -> None:
    """Clear the object storage client's cache of connections, which keep their credentials."""
    from gcsfs.core import GCSFileSystem

    GCSFileSystem.clear_instance_cache()
