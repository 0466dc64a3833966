"""Batch prediction on Vertex AI: one job a file list, found again by its name, and waited for.

`adaptation.evaluation.prediction_results` reads the results.
"""

from __future__ import annotations

import hashlib

from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.platforms.base import CHAMPION, JobFailed
from adaptation.platforms.vertex.client import Json, VertexClient
from adaptation.platforms.vertex.registry import VertexRegistry
from adaptation.progress import report

_ENDED_WITH_RESULTS = ("SUCCEEDED", "PARTIALLY_SUCCEEDED")
_ENDED = (*_ENDED_WITH_RESULTS, "FAILED", "CANCELLED", "EXPIRED")


class VertexPredictor:
    """Predicts with the versions of a registry."""

    def __init__(self, client: VertexClient, registry: VertexRegistry) -> None:
        self._client, self._config, self._registry = client, client.config, registry
        self._jobs = f"{self._config.parent}/batchPredictionJobs"

    def predict(self, file_list: str, output: str, model: str = CHAMPION) -> str:
        """Predict the images named in a file list.

        Args:
          file_list: URI of a text file, one image URI a line.
          output: `gs://` folder under which Vertex AI makes a `prediction-<model>-<timestamp>` folder.
          model: `champion` or a version number; resolved once, at the start.

        Returns:
          The folder with the results. If only some images were predicted, it has the errors of the others.

        Raises:
          AdaptationError: The file names no image.
          LookupError: The version does not exist.
          JobFailed: The job failed.
          StillRunning: The job has timed out; repeating this waits for the same job.

        Failure: repeat it. A running or succeeded job for the same list, version and output is reused.
        """
        lines = storage.read(file_list)
        images = sum(bool(line.strip()) for line in lines.split(b"\n"))
        if not images:
            raise AdaptationError(f"{file_list} names no image. Put images into the batch before it is evaluated.")
        version = self._registry.resource(self._registry.find(model).number)
        digest = hashlib.sha256(b"\n".join([version.encode(), output.encode(), lines])).hexdigest()
        return self._results(self._ended(self._start(file_list, output, version, digest), images))

    def _start(self, file_list: str, output: str, version: str, digest: str) -> Json:
        name = f"{self._config.name}-{digest[:32]}"
        before = self._named(name)
        for job in before:
            if _state(job) not in _ENDED or _state(job) in _ENDED_WITH_RESULTS:
                return job
        known = {job["name"] for job in before}
        body = self._body(name, file_list, output, version)
        return self._client.once(lambda: self._client.send(self._jobs, body), lambda: self._new(name, known))

    def _named(self, name: str) -> list[Json]:
        """Return the jobs of that display name, newest first."""
        found = self._client.list(self._jobs, "batchPredictionJobs", filter=f'display_name="{name}"')
        return sorted(found, key=lambda job: str(job.get("createTime", "")), reverse=True)

    def _new(self, name: str, known: set[str]) -> Json | None:
        return next((job for job in self._named(name) if job["name"] not in known), None)

    def _body(self, name: str, file_list: str, output: str, version: str) -> Json:
        config = self._config
        return {
            "displayName": name,
            "model": version,
            "inputConfig": {"instancesFormat": "file-list", "gcsSource": {"uris": [file_list]}},
            "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": output}},
            "dedicatedResources": config.prediction.resources,
            "labels": config.all_labels,
            **config.encryption,
            **config.identity,
        }

    def _ended(self, job: Json, images: int) -> Json:
        reported = ""

        def look() -> Json | None:
            nonlocal reported
            found = self._client.get(job["name"])
            if (message := _progress(found, images)) != reported:
                report(message)
                reported = message
            return found if _state(found) in _ENDED else None

        return self._client.wait_until(look, self._config.retries.job_timeout, f"batch prediction {self._link(job)}")

    def _results(self, job: Json) -> str:
        folder = job.get("outputInfo", {}).get("gcsOutputDirectory", "")
        if _state(job) in _ENDED_WITH_RESULTS and folder:
            return str(folder)
        message = job.get("error", {}).get("message") or "the service gives no reason"
        raise JobFailed(f"batch prediction {_state(job).lower()}: {message}. See {self._link(job)}")

    def _link(self, job: Json) -> str:
        number = job["name"].rpartition("/")[2]
        config = self._config
        place = f"locations/{config.location}/batch-predictions/{number}?project={config.project}"
        return f"https://console.cloud.google.com/vertex-ai/{place}"


def _state(job: Json) -> str:
    return str(job.get("state", "")).removeprefix("JOB_STATE_")


def _progress(job: Json, images: int) -> str:
    done = int(job.get("completionStats", {}).get("successfulCount", 0))
    if done:
        return f"predicted {done:,} of {images:,}"
    return f"batch prediction of {images:,} images: {_state(job).lower()}"
