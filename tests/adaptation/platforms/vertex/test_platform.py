"""Vertex AI as a platform, over the real wire: what fails is repeated safely or told, and nothing is made twice."""

from __future__ import annotations

import functools
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from adaptation import progress
from adaptation.data.batches import BatchStore
from adaptation.errors import AdaptationError
from adaptation.io import storage
from adaptation.platforms.base import JobRequest, JobState
from adaptation.platforms.connect import UnknownPlatform, connect
from adaptation.platforms.rollout import put_in_service, roll_back
from adaptation.platforms.vertex.client import (
    Ambiguous,
    NoAccess,
    OperationFailed,
    StillRunning,
    VertexChanged,
    VertexClient,
    VertexNotFound,
    VertexRefused,
    VertexUnreachable,
)
from adaptation.platforms.vertex.config import Container, InvalidConfig, Machine
from adaptation.platforms.vertex.consistency import find_orphans
from adaptation.platforms.vertex.endpoint import VertexEndpoint
from adaptation.platforms.vertex.jobs import InvalidJobId, InvalidSpec, NoSuchJob
from adaptation.platforms.vertex.predictor import EmptyFileList, PredictionFailed
from adaptation.platforms.vertex.registry import NoSuchModel
from adaptation.trigger import deliver as deliver_trigger
from adaptation.trigger import start_training
from emulators.http_server import Loopback, Reply, Request
from emulators.vertex import VertexEmulator
from tests.worlds.vertex import QUICK, ROOT, Vertex, a_config, a_spec, an_upload, object_storage, publish


@pytest.fixture(autouse=True)
def _gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with object_storage(monkeypatch):
        yield


@pytest.fixture
def vertex() -> Iterator[Vertex]:
    """Operations take some time, so that what is under way can be met."""
    with VertexEmulator(operation_seconds=0.02) as server:
        yield Vertex(server, a_config(server))


def a_request(job_id: str = "evaluation-2021-10-0001") -> JobRequest:
    return JobRequest(job_id, "evaluation", {"batch": "2021-10"})


def reported(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == progress.LOGGER.name]


# Requests


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 500}, {"status": 503}, {"drop": "before"}])
def test_what_fails_for_a_passing_reason_is_asked_for_again(vertex: Vertex, fault: dict[str, Any]) -> None:
    vertex.server.fail_next("GET .*/models", times=3, **fault)
    assert vertex.registry.versions() == []
    assert vertex.server.count("GET .*/models") == 4


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 500}, {"drop": "after"}])
def test_what_keeps_failing_is_told_after_a_bounded_number_of_attempts(vertex: Vertex, fault: dict[str, Any]) -> None:
    vertex.server.fail_next(times=100, **fault)
    with pytest.raises(VertexUnreachable, match="4 attempts") as error:
        vertex.registry.versions()
    assert vertex.server.count("") == 4
    assert isinstance(error.value, AdaptationError)
    assert isinstance(error.value, OSError)


def test_an_answer_that_does_not_come_is_not_waited_for_longer_than_allowed(vertex: Vertex) -> None:
    config = replace(vertex.config, patience=replace(QUICK, request=0.1))
    vertex.server.fail_next("GET .*/models", delay=1.0)
    assert Vertex(vertex.server, config).registry.versions() == []
    assert vertex.server.count("GET .*/models") == 2


def test_a_server_that_is_not_there_is_told(vertex: Vertex) -> None:
    config = replace(vertex.config, api_endpoint="http://127.0.0.1:9")
    with pytest.raises(VertexUnreachable, match=r"127\.0\.0\.1:9"):
        connect(config).registry.versions()


def test_an_address_that_is_none_is_told_at_once(vertex: Vertex) -> None:
    with pytest.raises(VertexRefused, match="api_endpoint"):
        connect(replace(vertex.config, api_endpoint="ftp://somewhere")).registry.versions()


def test_credentials_that_are_not_accepted_are_told(vertex: Vertex) -> None:
    vertex.server.fail_next("GET .*/models", status=401)
    with pytest.raises(NoAccess, match="gcloud auth"):
        vertex.registry.versions()


@pytest.mark.parametrize(("status", "kind"), [(403, NoAccess), (400, VertexRefused)])
def test_a_refusal_is_told_at_once_with_the_services_words(vertex: Vertex, status: int, kind: type[Exception]) -> None:
    vertex.server.fail_next("GET .*/models", status=status)
    with pytest.raises(kind, match=f"{status}.*this failure was asked for"):
        vertex.registry.versions()
    assert vertex.server.count("GET .*/models") == 1


def test_a_redirection_is_not_followed_as_if_it_were_an_answer(vertex: Vertex) -> None:
    class Redirecting(Loopback):
        def answer(self, request: Request) -> Reply:
            if request.method == "GET":
                return Reply.of_json(200, {"name": "something else"})
            return Reply(302, headers={"Location": self.url})

    with Redirecting() as elsewhere, pytest.raises(VertexUnreachable, match="302"):
        VertexClient(replace(vertex.config, api_endpoint=elsewhere.url)).change("POST", "anything", {})


def test_another_project_is_not_accessible(vertex: Vertex) -> None:
    with pytest.raises(NoAccess, match="elsewhere"):
        connect(replace(vertex.config, project="elsewhere")).registry.versions()


def test_what_is_not_there_is_told_or_is_none(vertex: Vertex) -> None:
    name = f"{vertex.config.parent}/models/boats"
    assert vertex.client.find(name) is None
    with pytest.raises(VertexNotFound, match="models/boats") as error:
        vertex.client.get(name)
    assert isinstance(error.value, LookupError)


def test_an_unknown_field_is_told_by_its_name(vertex: Vertex) -> None:
    with pytest.raises(VertexRefused, match="colour"):
        vertex.client.change("POST", f"{vertex.config.parent}/endpoints", {"displayName": "a", "colour": "red"})


def test_missing_credentials_are_told(vertex: Vertex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(NoAccess, match="gcloud auth"):
        connect(replace(vertex.config, credentials="default")).registry.versions()


def test_a_listing_is_read_to_its_last_page(vertex: Vertex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptation.platforms.vertex.client.PAGE_SIZE", 2)
    vertex.with_versions(5)
    assert [version.number for version in vertex.registry.versions()] == [1, 2, 3, 4, 5]
    assert vertex.server.count("listVersions.*pageToken") >= 2


def test_an_operation_that_ends_with_an_error_is_told(vertex: Vertex) -> None:
    vertex.server.fail_operations(message="the image cannot be pulled")
    with pytest.raises(OperationFailed, match="the image cannot be pulled"):
        vertex.registry.upload(an_upload())
    assert vertex.registry.versions() == []


def test_an_operation_that_does_not_end_is_told_by_its_name() -> None:
    with VertexEmulator(operation_seconds=60) as server:
        vertex = Vertex(server, a_config(server, patience=replace(QUICK, operation=0.05)))
        with pytest.raises(StillRunning, match=r"operations/1 has not ended within 0\.05 s"):
            vertex.registry.upload(an_upload())


# Configurations


def test_a_configuration_connects_the_same_as_its_text(vertex: Vertex) -> None:
    config = a_config(
        vertex.server,
        container=Container("image", "/predict", "/health", 8080, ("--a",)),
        serving=Machine("n1-standard-8", 2, 4, "NVIDIA_TESLA_T4", 1),
        labels={"team": "vision"},
    )
    platform = connect(config.to_json())
    registry = platform.registry
    assert registry._client.config == config  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change", [{"name": ""}, {"name": "Ships"}, {"name": "-a"}, {"model": "a_b"}, {"endpoint": "1"}]
)
def test_names_that_vertex_ai_would_refuse_are_refused(vertex: Vertex, change: dict[str, str]) -> None:
    with pytest.raises(InvalidConfig, match="cannot be used on Vertex AI"):
        replace(vertex.config, **change)


@pytest.mark.parametrize(
    "change", [{"colour": "red"}, {"credentials": "none"}, {"container": {}}, {"serving": {"a": 1}}]
)
def test_a_text_with_what_no_configuration_has_is_refused(vertex: Vertex, change: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(vertex.config.to_json()), **change})
    with pytest.raises(UnknownPlatform):
        connect(text)


def test_connecting_sends_nothing(vertex: Vertex) -> None:
    connect(vertex.config)
    assert vertex.server.count("") == 0


def test_without_an_address_it_is_the_locations_own(vertex: Vertex) -> None:
    assert replace(vertex.config, api_endpoint="").url == "https://us-central1-aiplatform.googleapis.com"


# Jobs


def test_a_job_is_sent_with_all_that_the_settings_say(vertex: Vertex) -> None:
    publish()
    config = replace(
        vertex.config,
        service_account="runner@demo.iam.gserviceaccount.com",
        network="projects/1/global/networks/inner",
        labels={"team": "vision"},
        encryption_key="projects/demo/locations/us-central1/keyRings/r/cryptoKeys/k",
        caching=False,
    )
    connect(config).jobs.create(a_request())
    job = vertex.client.get(f"{config.parent}/pipelineJobs/ships-evaluation-2021-10-0001")
    assert job["serviceAccount"] == config.service_account
    assert job["network"] == config.network
    assert job["encryptionSpec"] == {"kmsKeyName": config.encryption_key}
    assert job["labels"] == {
        "tfx_version": "1-21-0",
        "team": "vision",
        "continuous-adaptation": "ships",
        "adaptation-pipeline": "evaluation",
    }
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"].values()
    assert [task["cachingOptions"] for task in tasks] == [{"enableCache": False}] * 2
    assert job["runtimeConfig"]["parameterValues"] == {"data_gcs_prefix": "2021-10"}
    assert job["runtimeConfig"]["gcsOutputDirectory"] == f"{ROOT}/out"


def test_caching_stays_as_it_was_compiled_where_it_is_allowed(vertex: Vertex) -> None:
    publish()
    tasks = vertex.jobs.body(a_request())["pipelineSpec"]["root"]["dag"]["tasks"].values()
    assert [task["cachingOptions"] for task in tasks] == [{"enableCache": True}] * 2
    assert vertex.server.count("") == 0


def test_parameters_compiled_in_stay_where_the_request_names_no_others(vertex: Vertex) -> None:
    publish(spec=a_spec(parameters={"data_gcs_prefix": "", "threshold": "0.9"}))
    values = vertex.jobs.body(a_request())["runtimeConfig"]["parameterValues"]
    assert values == {"data_gcs_prefix": "2021-10", "threshold": "0.9"}


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 500}, {"drop": "before"}, {"drop": "after"}])
def test_a_job_is_created_once_over_any_failure(vertex: Vertex, fault: dict[str, Any]) -> None:
    publish()
    vertex.server.fail_next("POST .*pipelineJobs", times=2, **fault)
    assert vertex.jobs.create(a_request()).id == "evaluation-2021-10-0001"
    assert [job.id for job in vertex.jobs.list()] == ["evaluation-2021-10-0001"]


def test_two_deployments_in_one_project_have_jobs_of_their_own(vertex: Vertex) -> None:
    publish()
    other = Vertex(vertex.server, replace(vertex.config, name="ships-test"))
    vertex.jobs.create(a_request())
    assert other.jobs.get("evaluation-2021-10-0001") is None
    other.jobs.create(a_request())
    other.jobs.create(a_request("evaluation-2021-10-0002"))
    assert [job.id for job in vertex.jobs.list()] == ["evaluation-2021-10-0001"]
    assert [job.id for job in other.jobs.list()] == ["evaluation-2021-10-0001", "evaluation-2021-10-0002"]


def test_a_job_that_is_there_needs_no_specification(vertex: Vertex) -> None:
    publish()
    vertex.jobs.create(a_request())
    storage.remove(f"{ROOT}/specs/evaluation.json")
    assert vertex.jobs.create(a_request()).id == "evaluation-2021-10-0001"
    assert vertex.server.count("POST") == 1


def test_a_job_that_somebody_cloned_is_not_listed(vertex: Vertex) -> None:
    publish()
    vertex.jobs.create(a_request())
    vertex.client.change(
        "POST", f"{vertex.config.parent}/pipelineJobs", vertex.jobs.body(a_request()), pipelineJobId="clone"
    )
    assert [job.id for job in vertex.jobs.list()] == ["evaluation-2021-10-0001"]


def test_a_job_that_vertex_ai_has_but_not_started_counts_as_running(vertex: Vertex) -> None:
    publish()
    assert vertex.jobs.create(a_request()).state is JobState.RUNNING


def test_a_failed_job_says_why_and_where_to_look(vertex: Vertex) -> None:
    publish()
    vertex.server.fail_jobs(message="task First failed")
    vertex.jobs.create(a_request())
    assert list(vertex.jobs.follow("evaluation-2021-10-0001"))[-1] == "evaluation-2021-10-0001: FAILED"
    job = vertex.jobs.get("evaluation-2021-10-0001")
    assert job is not None
    assert (job.state, job.message) == (JobState.FAILED, "task First failed")
    assert "us-central1/pipelines/runs/ships-evaluation-2021-10-0001?project=demo" in job.link


def test_a_cancelled_job_has_failed(vertex: Vertex) -> None:
    publish()
    vertex.server.hang_jobs()
    vertex.jobs.create(a_request())
    name = f"{vertex.config.parent}/pipelineJobs/ships-evaluation-2021-10-0001"
    vertex.client.change("POST", f"{name}:cancel")
    job = vertex.jobs.get("evaluation-2021-10-0001")
    assert job is not None
    assert (job.state, "cancelled" in job.message) == (JobState.FAILED, True)


def test_how_long_tasks_took_is_told_of_those_that_have_ended(vertex: Vertex) -> None:
    publish()
    job = vertex.jobs.create(a_request())
    assert vertex.jobs.tasks(job.id) == ()
    list(vertex.jobs.follow(job.id))
    first, last = vertex.jobs.tasks(job.id)
    assert (first.name, last.name, first.state, last.state) == ("First", "Last", "succeeded", "succeeded")
    assert first.started <= last.started
    assert 0 < first.seconds < 600
    with pytest.raises(NoSuchJob):
        vertex.jobs.tasks("another")


def test_following_a_job_tells_the_states_of_its_tasks_and_then_its_own(vertex: Vertex) -> None:
    publish()
    vertex.jobs.create(a_request())
    told = list(vertex.jobs.follow("evaluation-2021-10-0001"))
    assert told[:3] == ["First: RUNNING", "Last: RUNNING", "evaluation-2021-10-0001: RUNNING"]
    assert told[-1] == "evaluation-2021-10-0001: SUCCEEDED"
    with pytest.raises(NoSuchJob):
        list(vertex.jobs.follow("evaluation-2021-10-0002"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, "adapt publish"),
        ("{", "no JSON"),
        ("[]", "no compiled pipeline"),
        (json.dumps(a_spec(parameters={"window": ""})), "no parameter data_gcs_prefix"),
        (
            json.dumps({**a_spec(parameters={"data_gcs_prefix": "", "window": ""}), "runtimeConfig": {}}),
            "no value: window",
        ),
    ],
)
def test_a_specification_that_does_not_fit_is_refused_before_anything_is_sent(
    vertex: Vertex, spec: str | None, message: str
) -> None:
    if spec is not None:
        storage.write(f"{ROOT}/specs/evaluation.json", spec.encode())
    with pytest.raises(InvalidSpec, match=message):
        vertex.jobs.create(a_request())
    assert vertex.server.count("POST") == 0


def test_a_pipeline_without_a_specification_is_refused(vertex: Vertex) -> None:
    with pytest.raises(InvalidSpec, match="'cleaning'.*evaluation, training"):
        vertex.jobs.create(JobRequest("cleaning-1", "cleaning", {}))


@pytest.mark.parametrize("job_id", ["", "../x", "a/b", "-a", "A", "a.b", "é", "a" * 123])
def test_a_text_that_could_lead_elsewhere_names_no_job(vertex: Vertex, job_id: str) -> None:
    publish()
    with pytest.raises(InvalidJobId):
        vertex.jobs.create(JobRequest(job_id, "evaluation", {}))
    with pytest.raises(InvalidJobId):
        vertex.jobs.get(job_id)
    assert vertex.server.count("") == 0


# The registry


def test_a_version_is_uploaded_with_what_the_settings_say(vertex: Vertex) -> None:
    config = replace(
        vertex.config,
        container=Container("image", "/v1/models/m:predict", "/v1/models/m", 8501, ("--batching",)),
        encryption_key="projects/demo/locations/us-central1/keyRings/r/cryptoKeys/k",
        service_account="runner@demo.iam.gserviceaccount.com",
    )
    connect(config).registry.upload(an_upload())
    model = vertex.client.get(f"{config.parent}/models/ships@1")
    assert model["containerSpec"] == {
        "imageUri": "image",
        "predictRoute": "/v1/models/m:predict",
        "healthRoute": "/v1/models/m",
        "ports": [{"containerPort": 8501}],
        "args": ["--batching"],
    }
    assert (model["artifactUri"], model["displayName"]) == (f"{ROOT}/models/run-1", "ships")
    assert model["encryptionSpec"] == {"kmsKeyName": config.encryption_key}
    assert model["labels"] == {"continuous-adaptation": "ships"}


def test_all_versions_are_versions_of_one_model(vertex: Vertex) -> None:
    vertex.with_versions(3)
    models = list(vertex.client.list(f"{vertex.config.parent}/models", "models"))
    assert [model["displayName"] for model in models] == ["ships"]


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 503}, {"drop": "before"}, {"drop": "after"}])
@pytest.mark.parametrize("before", [0, 1])
def test_an_upload_makes_one_version_over_any_failure(vertex: Vertex, fault: dict[str, Any], before: int) -> None:
    vertex.with_versions(before)
    vertex.server.fail_next("POST .*:upload", times=2, **fault)
    version = vertex.registry.upload(an_upload("new"))
    assert (version.number, version.key) == (before + 1, "new")
    assert len(vertex.registry.versions()) == before + 1


def test_a_request_whose_answer_was_lost_is_not_sent_again(vertex: Vertex) -> None:
    vertex.with_versions(1)
    vertex.server.fail_next("POST .*:upload", drop="after")
    vertex.registry.upload(an_upload("new"))
    assert vertex.server.count("POST .*:upload") == 2  # the first version's and this one


def test_a_model_of_two_display_names_is_refused_and_both_are_named(vertex: Vertex) -> None:
    vertex.with_versions(1)
    body = {"modelId": "other", "model": {"displayName": "ships", "containerSpec": {"imageUri": "image"}}}
    vertex.client.wait(vertex.client.send(f"{vertex.config.parent}/models:upload", body))
    for ask in (vertex.registry.find, vertex.registry.versions, lambda: vertex.registry.upload(an_upload("new"))):
        with pytest.raises(Ambiguous, match="models/other and .*models/ships"):
            ask()


def test_an_endpoint_of_two_display_names_is_refused(vertex: Vertex) -> None:
    vertex.with_versions(1)
    for endpoint in ("one", "two"):
        body = {"displayName": "ships"}
        vertex.client.wait(vertex.client.send(f"{vertex.config.parent}/endpoints", body, endpointId=endpoint))
    with pytest.raises(Ambiguous, match="endpoints/one and .*endpoints/two"):
        vertex.endpoint.deploy(vertex.version(1))


def test_a_version_that_somebody_else_uploaded_can_be_the_champion(vertex: Vertex) -> None:
    model = {"displayName": "ships", "containerSpec": {"imageUri": "image"}, "artifactUri": "gs://elsewhere/model"}
    body = {"model": {**model, "versionDescription": "by hand"}}
    vertex.client.wait(vertex.client.send(f"{vertex.config.parent}/models:upload", body))
    vertex.registry.promote(vertex.version(1), "because")
    champion = vertex.registry.find()
    assert (champion.number, champion.uri, champion.key) == (1, "gs://elsewhere/model", "")
    assert vertex.registry.upload(an_upload()).number == 2


def test_the_reason_of_a_promotion_is_kept_with_the_version(vertex: Vertex) -> None:
    vertex.with_versions(2)
    for number, reason in ((1, "first"), (2, "better"), (1, "rolled back")):
        vertex.registry.promote(vertex.version(number), reason)
    description = vertex.client.get(f"{vertex.config.parent}/models/ships@1")["versionDescription"]
    assert json.loads(description)["promotions"] == {"1": "first", "3": "rolled back"}
    assert vertex.version(1).key == "run-1"


def test_promoting_the_champion_again_changes_nothing(vertex: Vertex) -> None:
    vertex.with_versions(1)
    for _ in range(3):
        vertex.registry.promote(vertex.version(1), "because")
    assert vertex.server.count("PATCH|mergeVersionAliases") == 2


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": "before"}, {"drop": "after"}])
def test_a_promotion_counts_once_over_any_failure(vertex: Vertex, fault: dict[str, Any]) -> None:
    vertex.with_versions(2)
    vertex.registry.promote(vertex.version(1), "first")
    vertex.server.fail_next("POST .*mergeVersionAliases", times=2, **fault)
    vertex.registry.promote(vertex.version(2), "better")
    assert vertex.registry.find().number == 2
    assert vertex.client.get(f"{vertex.config.parent}/models/ships@2")["versionAliases"] == ["champion", "champion-2"]


def test_an_alias_that_was_moved_by_hand_counts_as_the_last_promotion(vertex: Vertex) -> None:
    vertex.with_versions(3)
    for number in (1, 2):
        vertex.registry.promote(vertex.version(number), "because")
    name = f"{vertex.config.parent}/models/ships@3:mergeVersionAliases"
    vertex.client.change("POST", name, {"versionAliases": ["champion"]})
    assert vertex.registry.predecessor().number == 2


def test_concurrent_first_uploads_make_one_model_with_a_version_each(vertex: Vertex) -> None:
    uploads = [an_upload(f"run-{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda upload: vertex.registry.upload(upload), uploads))
    assert len(list(vertex.client.list(f"{vertex.config.parent}/models", "models"))) == 1
    assert sorted(version.key for version in vertex.registry.versions()) == [upload.key for upload in uploads]


def test_concurrent_uploads_of_one_key_leave_one_version(vertex: Vertex) -> None:
    vertex.with_versions(1)
    upload = an_upload("new")
    with ThreadPoolExecutor(4) as pool:
        numbers = set(pool.map(lambda _: vertex.registry.upload(upload).number, range(4)))
    assert numbers == {2}
    assert [version.number for version in vertex.registry.versions()] == [1, 2]


def test_an_upload_that_comes_second_takes_its_version_back(vertex: Vertex, monkeypatch: pytest.MonkeyPatch) -> None:
    vertex.with_versions(1)
    upload = an_upload("new")
    monkeypatch.setattr(VertexClient, "_sent", at_write(1, before=lambda: vertex.registry.upload(upload)))
    assert vertex.registry.upload(upload).number == 2
    assert vertex.server.count("POST .*:upload") == 3
    assert [version.number for version in vertex.registry.versions()] == [1, 2]


# The predictor


def a_file_list(*names: str) -> str:
    uri = f"{ROOT}/list.txt"
    storage.write(uri, "".join(f"gs://bucket/2021-10/{name}\n" for name in names).encode())
    return uri


@pytest.fixture
def serving(vertex: Vertex) -> Vertex:
    """A champion, version 1, and a version 2 beside it."""
    vertex.with_versions(2).registry.promote(vertex.version(1), "because")
    return vertex


def predict(vertex: Vertex, model: str = "champion", *names: str) -> str:
    return vertex.platform.predictor.predict(a_file_list(*(names or ("a.jpg",))), f"{ROOT}/out", model)


def predictions(vertex: Vertex) -> list[dict[str, Any]]:
    listed = vertex.client.list(f"{vertex.config.parent}/batchPredictionJobs", "batchPredictionJobs")
    return sorted(listed, key=lambda job: str(job["createTime"]))


def test_the_folder_of_the_results_is_the_one_that_the_service_reports(serving: Vertex) -> None:
    assert predict(serving) == predictions(serving)[0]["outputInfo"]["gcsOutputDirectory"]


def test_a_file_list_is_predicted_by_the_version_that_was_named(serving: Vertex) -> None:
    predict(serving), predict(serving, "2")
    jobs = predictions(serving)
    assert [job["model"].rpartition("/")[2] for job in jobs] == ["ships@1", "ships@2"]
    assert jobs[0]["inputConfig"] == {"instancesFormat": "file-list", "gcsSource": {"uris": [f"{ROOT}/list.txt"]}}
    assert jobs[0]["outputConfig"]["predictionsFormat"] == "jsonl"
    assert jobs[0]["dedicatedResources"]["startingReplicaCount"] == 1


def test_without_a_champion_nothing_is_predicted(vertex: Vertex) -> None:
    vertex.with_versions(1)
    with pytest.raises(NoSuchModel):
        predict(vertex)
    assert predictions(vertex) == []


def test_an_empty_file_list_is_refused(serving: Vertex) -> None:
    storage.write(f"{ROOT}/empty.txt", b"\n")
    with pytest.raises(EmptyFileList, match="empty.txt"):
        serving.platform.predictor.predict(f"{ROOT}/empty.txt", ROOT)


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 503}, {"drop": "before"}, {"drop": "after"}])
def test_one_prediction_is_started_over_any_failure(serving: Vertex, fault: dict[str, Any]) -> None:
    serving.server.fail_next("POST .*batchPredictionJobs", times=2, **fault)
    predict(serving)
    assert len(predictions(serving)) == 1


def test_a_prediction_that_was_left_alone_is_taken_up_again(serving: Vertex) -> None:
    serving.server.hang_jobs()
    impatient = Vertex(serving.server, replace(serving.config, patience=replace(QUICK, job=0.05)))
    for _ in range(2):
        with pytest.raises(StillRunning, match=r"console\.cloud\.google\.com.*batch-predictions"):
            predict(impatient)
    assert len(predictions(serving)) == 1


def test_another_list_is_another_prediction(serving: Vertex) -> None:
    assert predict(serving, "champion", "a.jpg") != predict(serving, "champion", "a.jpg", "b.jpg")
    assert len(predictions(serving)) == 2


def test_a_failed_prediction_says_why_and_where_to_look_and_can_be_repeated(serving: Vertex) -> None:
    serving.server.fail_jobs(message="the model cannot be loaded")
    with pytest.raises(PredictionFailed, match=r"failed: the model cannot be loaded.*console\.cloud\.google\.com"):
        predict(serving)
    assert predict(serving)
    assert len(predictions(serving)) == 2


def test_a_prediction_that_failed_is_not_taken_for_the_one_whose_request_was_lost(serving: Vertex) -> None:
    serving.server.fail_jobs()
    with pytest.raises(PredictionFailed):
        predict(serving)
    serving.server.fail_next("POST .*batchPredictionJobs", drop="before")
    assert predict(serving)


def test_the_progress_of_a_prediction_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", progress.LOGGER.name)
    ready = threading.Event()

    def hook(job: dict[str, Any], folder: str) -> int:
        ready.wait(5)
        return 2

    with VertexEmulator(on_batch_prediction=hook) as server:
        vertex = Vertex(server, a_config(server)).with_versions(1)
        vertex.registry.promote(vertex.version(1), "because")
        threading.Timer(0.1, ready.set).start()
        predict(vertex, "champion", "a.jpg", "b.jpg")
    assert reported(caplog)[-2:] == ["batch prediction of 2 images: running", "predicted 2 of 2"]


# The endpoint


def test_a_version_is_deployed_as_the_settings_say(vertex: Vertex) -> None:
    config = replace(
        vertex.with_versions(1).config,
        serving=Machine("n1-standard-8", 2, 4, "NVIDIA_TESLA_T4", 1),
        service_account="runner@demo.iam.gserviceaccount.com",
    )
    connect(config).endpoint.deploy(vertex.version(1))
    (deployed,) = vertex.client.get(f"{config.parent}/endpoints/ships")["deployedModels"]
    assert deployed["dedicatedResources"] == {
        "machineSpec": {
            "machineType": "n1-standard-8",
            "acceleratorType": "NVIDIA_TESLA_T4",
            "acceleratorCount": 1,
        },
        "minReplicaCount": 2,
        "maxReplicaCount": 4,
    }
    assert deployed["serviceAccount"] == config.service_account


def test_the_old_version_serves_until_the_new_one_does(vertex: Vertex) -> None:
    vertex.with_versions(2).endpoint.deploy(vertex.version(1))
    seen = []

    class Watched(VertexClient):
        def _sent(self, *request: Any) -> Any:
            answer = super()._sent(*request)
            seen.append(vertex.split())
            return answer

    VertexEndpoint(Watched(vertex.config), vertex.registry).deploy(vertex.version(2))
    steps = [split for split, before in zip(seen, [None, *seen], strict=False) if split != before]
    assert steps == [{1: 100}, {1: 100, 2: 0}, {1: 0, 2: 100}, {2: 100}]


def test_a_deployment_that_fails_leaves_the_old_version_serving(vertex: Vertex) -> None:
    vertex.with_versions(2).endpoint.deploy(vertex.version(1))
    vertex.server.fail_operations(message="no machines left")
    with pytest.raises(OperationFailed, match="no machines left"):
        vertex.endpoint.deploy(vertex.version(2))
    assert vertex.split() == {1: 100}


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 503}, {"drop": "before"}, {"drop": "after"}])
@pytest.mark.parametrize("request_", [r"POST .*/endpoints\?", ":deployModel", "PATCH", ":undeployModel"])
def test_a_deployment_happens_once_over_any_failure(vertex: Vertex, request_: str, fault: dict[str, Any]) -> None:
    vertex.with_versions(2)
    vertex.server.fail_next(request_, times=2, **fault)
    for number in (1, 2):
        vertex.endpoint.deploy(vertex.version(number))
        assert vertex.split() == {number: 100}
        assert vertex.deployed() == 1
    assert len(list(vertex.client.list(f"{vertex.config.parent}/endpoints", "endpoints"))) == 1


def test_a_deployment_whose_answer_was_lost_is_not_sent_again(vertex: Vertex) -> None:
    vertex.with_versions(1)
    vertex.server.fail_next(":deployModel", drop="after")
    vertex.endpoint.deploy(vertex.version(1))
    assert vertex.server.count(":deployModel") == 1


@pytest.mark.parametrize("exclusive", [False, True])
def test_deployments_at_the_same_time_end_with_one_version_and_all_the_traffic(exclusive: bool) -> None:
    with VertexEmulator(operation_seconds=0.02, exclusive=exclusive) as server:
        vertex = Vertex(server, a_config(server, patience=replace(QUICK, attempts=12))).with_versions(3)
        for _ in range(4):
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda number: vertex.endpoint.deploy(vertex.version(number)), (2, 3)))
            assert sorted(vertex.split().values()) == [100]
            assert vertex.deployed() == 1
            vertex.endpoint.deploy(vertex.version(1))


def test_deployments_of_one_version_at_the_same_time_leave_it_once(vertex: Vertex) -> None:
    vertex.with_versions(1)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: vertex.endpoint.deploy(vertex.version(1)), range(3)))
    assert vertex.split() == {1: 100}
    assert vertex.deployed() == 1


ENDPOINT = "projects/demo/locations/us-central1/endpoints/ships"


def deploy_idle(vertex: Vertex, number: int) -> str:
    """Deploys a version without giving it traffic; returns the deployed model's id."""
    return vertex.endpoint._send(ENDPOINT, number)


def undeploy(vertex: Vertex, number: int) -> None:
    """What another deployment does when it takes a version out."""
    for deployed in requests.get(f"{vertex.server.url}/v1/{ENDPOINT}", timeout=60).json()["deployedModels"]:
        if deployed["modelVersionId"] == str(number):
            raw(vertex, "POST", ":undeployModel", {"deployedModelId": deployed["id"]})


def raw(vertex: Vertex, method: str, path: str, body: Any) -> None:
    requests.request(method, f"{vertex.server.url}/v1/{ENDPOINT}{path}", json=body, timeout=60).raise_for_status()


@pytest.fixture
def immediate() -> Iterator[Vertex]:
    """Operations are done at once; version 1 serves, 2 and 3 are there."""
    with VertexEmulator() as server:
        vertex = Vertex(server, a_config(server)).with_versions(3)
        vertex.endpoint.deploy(vertex.version(1))
        yield vertex


@pytest.mark.parametrize("moment", [{"write": 1, "when": "after"}, {"write": 2, "when": "before"}])
def test_a_version_that_another_takes_out_before_it_serves_is_deployed_again(
    immediate: Vertex, monkeypatch: pytest.MonkeyPatch, moment: dict[str, Any]
) -> None:
    taken_out = {moment["when"]: lambda: undeploy(immediate, 2)}
    monkeypatch.setattr(VertexClient, "_sent", at_write(moment["write"], **taken_out))
    immediate.endpoint.deploy(immediate.version(2))
    assert immediate.split() == {2: 100}


def test_who_takes_out_the_old_version_never_empties_the_endpoint(
    immediate: Vertex, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = deploy_idle(immediate, 3)

    def other_deployment() -> None:
        raw(immediate, "PATCH", "?updateMask=trafficSplit", {"trafficSplit": {third: 100}})
        undeploy(immediate, 1)

    monkeypatch.setattr(VertexClient, "_sent", at_write(1, before=other_deployment))
    immediate.endpoint.deploy(immediate.version(1))
    assert immediate.split() == {3: 100}


def test_of_two_deployed_models_of_a_version_the_one_that_serves_stays(immediate: Vertex) -> None:
    second = deploy_idle(immediate, 1)
    raw(immediate, "PATCH", "?updateMask=trafficSplit", {"trafficSplit": {second: 100}})
    immediate.endpoint.deploy(immediate.version(1))
    assert immediate.client.get(ENDPOINT)["trafficSplit"] == {second: 100}
    assert immediate.deployed() == 1


def test_an_endpoint_that_others_keep_changing_is_told(vertex: Vertex) -> None:
    vertex.with_versions(1)
    vertex.server.fail_next("PATCH", times=100, status=409)
    with pytest.raises(VertexChanged):
        vertex.endpoint.deploy(vertex.version(1))
    assert vertex.server.count("PATCH") < 20


# Cut off anywhere, and hit by a failure anywhere


WRITES = "POST|PATCH|DELETE"


class Killed(BaseException):
    """The process is gone."""


def at_write(number: int, *, before: Callable[[], object] = int, after: Callable[[], object] = int) -> Any:
    """`VertexClient._sent`, with something that happens at its write of that number; what only reads is not counted."""
    original, writes = VertexClient._sent, itertools.count(1)

    def sending(self: VertexClient, method: str, *request: Any) -> Any:
        now = method != "GET" and next(writes) == number
        if now:
            before()
        answer = original(self, method, *request)
        if now:
            after()
        return answer

    return sending


def serve(vertex: Vertex, number: int) -> None:
    platform = vertex.platform
    put_in_service(platform.registry, platform.endpoint, platform.registry.find(str(number)), "because")


def deliver(vertex: Vertex) -> None:
    """What the end of a training does: upload, deploy, move traffic and alias."""
    platform = vertex.platform
    version = platform.registry.upload(an_upload("new"))
    put_in_service(platform.registry, platform.endpoint, version, "because")


def serving_one(vertex: Vertex) -> None:
    vertex.with_versions(1)
    serve(vertex, 1)


def serving_two_after_one(vertex: Vertex) -> None:
    vertex.with_versions(2)
    serve(vertex, 1), serve(vertex, 2)


def assert_one_in_service(vertex: Vertex, number: int, versions: int) -> None:
    assert vertex.registry.find().number == number
    assert vertex.split() == {number: 100}
    assert vertex.deployed() == 1
    assert len(vertex.registry.versions()) == versions
    assert find_orphans(vertex.registry, vertex.endpoint) == []


def kill(vertex: Vertex, number: int, action: Callable[[Vertex], object]) -> None:
    """Kills the action right after its write of that number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VertexClient, "_sent", at_write(number, after=_kill))
        with pytest.raises(Killed):
            action(vertex)


def _kill() -> None:
    raise Killed


def go_back(vertex: Vertex) -> int:
    platform = vertex.platform
    return roll_back(platform.registry, platform.endpoint).number


def writes(action: Callable[[Vertex], object], prepare: Callable[[Vertex], object]) -> Iterator[tuple[int, Vertex]]:
    """A prepared world for each write that the action makes, with the number of the write."""
    with VertexEmulator() as server:
        vertex = Vertex(server, a_config(server))
        prepare(vertex)
        before = server.count(WRITES)
        action(vertex)
        made = server.count(WRITES) - before
    assert made > 4
    for number in range(1, made + 1):
        with VertexEmulator() as server:
            vertex = Vertex(server, a_config(server))
            prepare(vertex)
            yield number, vertex


def test_a_delivery_killed_anywhere_keeps_a_version_serving_and_is_finished_by_the_next() -> None:
    for number, vertex in writes(deliver, serving_one):
        kill(vertex, number, deliver)
        assert sum(vertex.split().values()) == 100
        assert vertex.registry.champion() is not None
        deliver(vertex)
        assert_one_in_service(vertex, 2, versions=2)


def test_what_a_killed_delivery_had_under_way_is_waited_for_and_not_begun_again() -> None:
    for write, begun in enumerate((":upload", r"/endpoints\?", ":deployModel"), 1):
        with VertexEmulator(operation_seconds=0.2) as server:
            vertex = Vertex(server, a_config(server))
            kill(vertex, write, deliver)
            deliver(vertex)
            assert server.count(f"POST .*{begun}") == 1
            assert_one_in_service(vertex, 1, versions=1)


def test_a_roll_back_after_a_delivery_that_was_killed_anywhere_leaves_nothing_behind() -> None:
    for number, vertex in writes(deliver, serving_two_after_one):
        kill(vertex, number, deliver)
        champion, versions = vertex.registry.find().number, len(vertex.registry.versions())
        assert go_back(vertex) == champion - 1
        assert_one_in_service(vertex, champion - 1, versions)


def test_a_roll_back_killed_anywhere_goes_to_the_same_version_when_repeated() -> None:
    for number, vertex in writes(go_back, serving_two_after_one):
        kill(vertex, number, go_back)
        if vertex.registry.find().number == 2:  # else it was complete, and this would be another one
            go_back(vertex)
        assert_one_in_service(vertex, 1, versions=2)


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_delivery_that_loses_any_one_connection_ends_as_if_it_had_not(drop: Any) -> None:
    for number, vertex in writes(deliver, serving_one):
        lose = at_write(number, before=functools.partial(vertex.server.fail_next, drop=drop))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(VertexClient, "_sent", lose)
            deliver(vertex)
        assert_one_in_service(vertex, 2, versions=2)


# Orphans


def test_a_version_deployed_without_traffic_is_named(vertex: Vertex) -> None:
    serving_two_after_one(vertex)
    vertex.with_versions(1)
    vertex.server.fail_next("PATCH .*endpoints", times=100, status=400)
    with pytest.raises(VertexRefused):
        vertex.endpoint.deploy(vertex.version(3))
    (orphan,) = find_orphans(vertex.registry, vertex.endpoint)
    assert "version 3 is deployed without traffic" in orphan


def test_a_version_that_serves_without_being_the_champion_is_named(vertex: Vertex) -> None:
    vertex.with_versions(1).endpoint.deploy(vertex.version(1))
    assert "no version is the champion" in find_orphans(vertex.registry, vertex.endpoint)[0]


def test_a_champion_that_nothing_serves_is_named(vertex: Vertex) -> None:
    vertex.with_versions(1).registry.promote(vertex.version(1), "because")
    assert "nothing serves" in find_orphans(vertex.registry, vertex.endpoint)[0]


def test_versions_made_twice_are_named(vertex: Vertex) -> None:
    vertex.with_versions(1)
    parent = f"{vertex.config.parent}/models/ships"
    body = {"parentModel": parent, "model": vertex.registry._body(an_upload("run-1"))}
    vertex.client.wait(vertex.client.send(f"{vertex.config.parent}/models:upload", body))
    assert "versions 1, 2 were made from the same run" in find_orphans(vertex.registry, vertex.endpoint)[0]


def test_where_all_is_in_order_or_nothing_is_there_no_orphan_is_named(vertex: Vertex) -> None:
    assert find_orphans(vertex.registry, vertex.endpoint) == []
    serving_two_after_one(vertex)
    assert find_orphans(vertex.registry, vertex.endpoint) == []


# The trigger


def test_any_number_of_deliveries_start_one_evaluation(vertex: Vertex) -> None:
    publish()
    batches = BatchStore(f"{ROOT}/collection")
    for number in range(4):
        storage.write(f"{ROOT}/collection/2021-10/ship_{number}.jpg", b"image")
    with ThreadPoolExecutor(4) as pool:
        vertex.server.hang_jobs()
        list(pool.map(lambda _: deliver_trigger(batches, f"{ROOT}/triggers", vertex.jobs, 3), range(6)))
    (job,) = vertex.jobs.list()
    assert (job.id, job.pipeline, job.parameters) == ("evaluation-2021-10-0001", "evaluation", {"batch": "2021-10"})


def test_a_training_that_failed_is_started_again_under_another_id(vertex: Vertex) -> None:
    publish("training", a_spec("training", {"window": "all", "digest": ""}))
    vertex.server.fail_jobs()
    parameters = {"window": "1-2", "digest": "0123456789"}
    ids = []
    for _ in range(3):
        job = start_training(vertex.jobs, 2, "0123456789", parameters)
        list(vertex.jobs.follow(job.id))
        ids.append(job.id)
    assert ids == ["training-span-2-01234567-1", "training-span-2-01234567-2", "training-span-2-01234567-2"]
    assert len(vertex.jobs.list()) == 2
