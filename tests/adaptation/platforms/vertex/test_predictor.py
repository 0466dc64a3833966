"""Batch prediction on Vertex AI: one per file list over any failure, and where its results are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adaptation import progress
from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.platforms.base import JobFailed, NoSuchModel
from adaptation.platforms.vertex.client import StillRunning
from emulators.vertex import VertexEmulator
from tests.worlds.processes import wait_until
from tests.worlds.vertex import QUICK, ROOT, Vertex, a_config


def reported(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == progress.LOGGER.name]


def a_file_list(*names: str) -> str:
    uri = f"{ROOT}/list.txt"
    storage.write(uri, "".join(f"gs://bucket/2021-10/{name}\n" for name in names).encode())
    return uri


@pytest.fixture
def serving(vertex: Vertex) -> Vertex:
    """Deploy version 1 as the champion and upload version 2."""
    vertex.with_versions(2).registry.promote(vertex.version(1), "because")
    return vertex


def predict(vertex: Vertex, model: str = "champion", *names: str) -> str:
    return vertex.platform.predictor.predict(a_file_list(*(names or ("a.jpg",))), f"{ROOT}/out", model)


def predictions(vertex: Vertex) -> list[dict[str, Any]]:
    listed = vertex.client.list(f"{vertex.config.parent}/batchPredictionJobs", "batchPredictionJobs")
    return sorted(listed, key=lambda job: str(job["createTime"]))


def test_results_folder_is_the_one_that_the_service_reports(serving: Vertex) -> None:
    assert predict(serving) == predictions(serving)[0]["outputInfo"]["gcsOutputDirectory"]


def test_file_list_is_predicted_by_the_version_that_was_named(serving: Vertex) -> None:
    predict(serving), predict(serving, "2")
    jobs = predictions(serving)
    assert [job["model"].rpartition("/")[2] for job in jobs] == ["ships@1", "ships@2"]
    assert jobs[0]["inputConfig"] == {"instancesFormat": "file-list", "gcsSource": {"uris": [f"{ROOT}/list.txt"]}}
    assert jobs[0]["outputConfig"]["predictionsFormat"] == "jsonl"
    assert jobs[0]["dedicatedResources"]["startingReplicaCount"] == 1


def test_predictor_without_a_champion_starts_nothing(vertex: Vertex) -> None:
    vertex.with_versions(1)
    with pytest.raises(NoSuchModel):
        predict(vertex)
    assert predictions(vertex) == []


def test_empty_file_list_is_refused(serving: Vertex) -> None:
    storage.write(f"{ROOT}/empty.txt", b"\n")
    with pytest.raises(AdaptationError, match="empty.txt"):
        serving.platform.predictor.predict(f"{ROOT}/empty.txt", ROOT)


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 503}, {"drop": "before"}, {"drop": "after"}])
def test_prediction_is_started_once_over_any_failure(serving: Vertex, fault: dict[str, Any]) -> None:
    serving.server.fail_next("POST .*batchPredictionJobs", times=2, **fault)
    predict(serving)
    assert len(predictions(serving)) == 1


def test_prediction_that_exceeded_its_timeout_is_resumed(serving: Vertex) -> None:
    serving.server.hang_jobs()
    impatient = Vertex(serving.server, replace(serving.config, retries=replace(QUICK, job_timeout=0.05)))
    for _ in range(2):
        with pytest.raises(StillRunning, match=r"console\.cloud\.google\.com.*batch-predictions"):
            predict(impatient)
    assert len(predictions(serving)) == 1


def test_another_list_is_another_prediction(serving: Vertex) -> None:
    assert predict(serving, "champion", "a.jpg") != predict(serving, "champion", "a.jpg", "b.jpg")
    assert len(predictions(serving)) == 2


def test_failed_prediction_has_message_and_link_and_can_be_repeated(serving: Vertex) -> None:
    serving.server.fail_jobs(message="the model cannot be loaded")
    with pytest.raises(JobFailed, match=r"failed: the model cannot be loaded.*console\.cloud\.google\.com"):
        predict(serving)
    assert predict(serving)
    assert len(predictions(serving)) == 2


def test_failed_prediction_is_not_mistaken_for_a_lost_request(serving: Vertex) -> None:
    serving.server.fail_jobs()
    with pytest.raises(JobFailed, match="batch prediction failed"):
        predict(serving)
    serving.server.fail_next("POST .*batchPredictionJobs", drop="before")
    assert predict(serving)


def test_progress_of_a_prediction_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", progress.LOGGER.name)
    running = "batch prediction of 2 images: running"

    def hook(job: dict[str, Any], folder: str) -> int:
        wait_until(lambda: running in reported(caplog))
        return 2

    with VertexEmulator(on_batch_prediction=hook) as server:
        vertex = Vertex(server, a_config(server)).with_versions(1)
        vertex.registry.promote(vertex.version(1), "because")
        predict(vertex, "champion", "a.jpg", "b.jpg")
    assert reported(caplog)[-2:] == [running, "predicted 2 of 2"]
