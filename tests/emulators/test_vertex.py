"""Vertex AI emulator: as Google's client libraries see it, and the ways in which it can be made to fail."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud import aiplatform_v1 as v1

from emulators.vertex import VertexEmulator
from tests.worlds.vertex import Vertex, a_config, a_spec, an_upload, object_storage

PARENT = "projects/demo/locations/us-central1"
NUMBERED = "projects/123456789012/locations/us-central1"
AN_IMAGE = {"instances": [{"image_bytes": {"b64": "aa"}}]}
JOB = {**a_spec(parameters={}), "displayName": "job"}


@pytest.fixture
def server() -> Iterator[VertexEmulator]:
    with VertexEmulator() as server:
        use(server)
        yield server


def use(server: VertexEmulator) -> None:
    """Point the SDK to the server."""
    aiplatform.init(
        project="demo",
        location="us-central1",
        api_endpoint=server.url,
        api_transport="rest",
        credentials=AnonymousCredentials(),
    )


def call(server: VertexEmulator, method: str, path: str, body: Any = None, **query: str) -> requests.Response:
    return requests.request(method, f"{server.url}/v1/{PARENT}/{path}", json=body, params=query, timeout=60)


def done(response: requests.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    value: dict[str, Any] = response.json()
    return value


def refusal(response: requests.Response) -> tuple[int, str, str]:
    error = response.json()["error"]
    assert error["code"] == response.status_code
    return response.status_code, error["status"], error["message"]


def a_model(name: str = "ships", **options: Any) -> aiplatform.Model:
    return aiplatform.Model.upload(
        display_name=name, artifact_uri="gs://b/model", serving_container_image_uri="image", **options
    )


def an_endpoint(server: VertexEmulator, *split: int) -> tuple[str, list[str]]:
    """Deploy a version for each share of the traffic. Return the endpoint's path and the deployed models' ids."""
    done(call(server, "POST", "endpoints", {"displayName": "ships"}, endpointId="ships"))
    ids = [deployed(server) for _ in split]
    shares = dict(zip(ids, split, strict=True))
    done(call(server, "PATCH", "endpoints/ships", {"trafficSplit": shares}, updateMask="trafficSplit"))
    return "endpoints/ships", ids


def deployed(server: VertexEmulator, **request: Any) -> str:
    model = {
        "model": f"{PARENT}/models/ships",
        "dedicatedResources": {"machineSpec": {"machineType": "n1-standard-4"}, "minReplicaCount": 1},
    }
    body = {"deployedModel": model, **request}
    operation = done(call(server, "POST", "endpoints/ships:deployModel", body))
    return str(operation["response"]["deployedModel"]["id"])


def a_prediction(**changes: Any) -> dict[str, Any]:
    body = {
        "displayName": "batch",
        "model": f"{PARENT}/models/ships",
        "inputConfig": {"instancesFormat": "file-list", "gcsSource": {"uris": ["gs://b/list.txt"]}},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://b/out"}},
        "dedicatedResources": {"machineSpec": {"machineType": "n1-standard-4"}, "startingReplicaCount": 1},
    }
    return {**body, **changes}


def wait_for(look: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not look():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)


# Models


def test_sdk_uploads_versions_of_one_model_and_finds_them_by_alias(server: VertexEmulator) -> None:
    first = a_model(model_id="ships")
    second = a_model(parent_model=first.resource_name, is_default_version=False, version_aliases=["champion"])
    assert (first.resource_name, first.version_id) == (f"{NUMBERED}/models/ships", "1")
    assert (first.version_aliases, second.version_aliases) == (["default"], ["champion"])
    assert aiplatform.Model(f"{first.resource_name}@champion").version_id == "2"
    assert [model.version_id for model in aiplatform.Model.list(filter='display_name="ships"')] == ["1"]
    assert aiplatform.Model.list(filter='display_name="boats"') == []
    assert [version.version_id for version in first.versioning_registry.list_versions()] == ["2", "1"]


def test_alias_is_on_one_version_and_moves(server: VertexEmulator) -> None:
    first = a_model(model_id="ships")
    second = a_model(parent_model=first.resource_name, is_default_version=False)
    for version in ("1", "2"):
        first.versioning_registry.add_version_aliases(["champion"], version)
    assert first.versioning_registry.get_version_info("champion").version_id == second.version_id
    first.versioning_registry.remove_version_aliases(["champion"], "2")
    with pytest.raises(exceptions.NotFound):
        first.versioning_registry.get_version_info("champion")


def test_version_is_deleted_unless_it_is_the_default_or_deployed(server: VertexEmulator) -> None:
    model = a_model(model_id="ships")
    a_model(parent_model=model.resource_name, is_default_version=False)
    with pytest.raises(exceptions.BadRequest):
        model.versioning_registry.delete_version("1")
    model.versioning_registry.delete_version("2")
    third = a_model(parent_model=model.resource_name, is_default_version=False)
    assert third.version_id == "3"
    an_endpoint(server, 100)
    assert refusal(call(server, "DELETE", "models/ships"))[:2] == (400, "FAILED_PRECONDITION")


def test_sdk_sees_what_the_platform_has_uploaded_and_deployed(
    server: VertexEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_storage(monkeypatch):
        vertex = Vertex(server, a_config(server)).with_versions(2)
        vertex.registry.promote(vertex.version(2), "because")
        vertex.endpoint.deploy(vertex.version(2))
        (model,) = aiplatform.Model.list(filter='display_name="ships"')
        champion = aiplatform.Model("ships", version="champion")
        assert (model.versioning_registry.get_version_info("champion").version_id, champion.uri) == (
            "2",
            an_upload("run-2").model,
        )
    (endpoint,) = aiplatform.Endpoint.list(filter='display_name="ships"')
    assert [deployed.model_version_id for deployed in endpoint.list_models()] == ["2"]
    assert list(endpoint.traffic_split.values()) == [100]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "model.displayName"),
        ({"model": {"displayName": "ships"}}, "containerSpec.imageUri"),
        ({"model": {"displayName": "ships", "containerSpec": {"imageUri": "i"}, "colour": 1}}, "colour"),
        ({"model": {"displayName": "ships", "containerSpec": {"imageUri": "i"}, "artifactUri": "/m"}}, "artifact URI"),
        ({"modelId": "1a", "model": {"displayName": "ships", "containerSpec": {"imageUri": "i"}}}, "model id"),
    ],
)
def test_upload_that_lacks_or_invents_something_is_refused(
    server: VertexEmulator, body: dict[str, Any], message: str
) -> None:
    assert re.search(message, refusal(call(server, "POST", "models:upload", body))[2])


def test_refused_field_is_named_in_the_details(server: VertexEmulator) -> None:
    error = call(server, "POST", "endpoints", {"displayName": "a", "colour": 1}).json()["error"]
    assert error["status"] == "INVALID_ARGUMENT"
    assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert error["details"][0]["fieldViolations"][0]["field"] == "colour"


def test_description_of_a_version_changes_for_that_version_alone(server: VertexEmulator) -> None:
    model = a_model(model_id="ships")
    a_model(parent_model=model.resource_name, is_default_version=False)
    change = {"versionDescription": "better"}
    done(call(server, "PATCH", "models/ships@2", change, updateMask="versionDescription"))
    assert "versionDescription" not in done(call(server, "GET", "models/ships@1"))
    assert done(call(server, "GET", "models/ships@2"))["versionDescription"] == "better"
    for path, mask in (("models/ships", "versionDescription"), ("models/ships@2", "displayName")):
        assert refusal(call(server, "PATCH", path, change, updateMask=mask))[1] == "FAILED_PRECONDITION"


def test_description_is_changed_with_the_present_etag_alone(server: VertexEmulator) -> None:
    a_model(model_id="ships")
    read = done(call(server, "GET", "models/ships@1"))["etag"]
    change = {"versionDescription": "better", "etag": read}
    done(call(server, "PATCH", "models/ships@1", change, updateMask="versionDescription"))
    response = call(server, "PATCH", "models/ships@1", change, updateMask="versionDescription")
    assert refusal(response)[:2] == (409, "ABORTED")
    done(call(server, "PATCH", "models/ships@1", change | {"etag": ""}, updateMask="versionDescription"))


# Endpoints


def test_sdk_deploys_splits_the_traffic_predicts_and_undeploys() -> None:
    asked: list[tuple[str, list[Any]]] = []

    def predict(version: str, instances: list[Any]) -> list[Any]:
        asked.append((version, instances))
        return [{"label": "ship"} for _ in instances]

    with VertexEmulator(on_predict=predict) as server:
        use(server)
        model, endpoint = a_model(model_id="ships"), aiplatform.Endpoint.create("ships")
        endpoint.deploy(model, machine_type="n1-standard-4", traffic_percentage=100)
        assert endpoint.predict(instances=[{"b64": "aa"}]).predictions == [{"label": "ship"}]
        assert asked == [(f"{NUMBERED}/models/ships@1", [{"b64": "aa"}])]
        endpoint.undeploy_all()
        with pytest.raises(exceptions.BadRequest):
            endpoint.predict(instances=[{"b64": "aa"}])
        endpoint.delete()
        assert aiplatform.Endpoint.list() == []


def test_slow_prediction_does_not_block_other_requests() -> None:
    asked, allowed = threading.Event(), threading.Event()

    def predict(model: str, instances: list[Any]) -> list[Any]:
        asked.set()
        assert allowed.wait(60)
        return ["late"]

    with VertexEmulator(on_predict=predict) as server, ThreadPoolExecutor(1) as pool:
        use(server)
        a_model(model_id="ships")
        path, _ = an_endpoint(server, 100)
        late = pool.submit(
            lambda: requests.post(f"{server.url}/v1/{PARENT}/{path}:predict", json=AN_IMAGE, timeout=120)
        )
        assert asked.wait(60)
        assert done(call(server, "GET", path))["name"] == f"{NUMBERED}/{path}"
        allowed.set()
        assert done(late.result())["predictions"] == ["late"]


def test_prediction_that_the_hook_refuses_is_a_client_error() -> None:
    def predict(model: str, instances: list[Any]) -> list[Any]:
        raise ValueError("no image")

    with VertexEmulator(on_predict=predict) as server:
        use(server)
        a_model(model_id="ships")
        path, _ = an_endpoint(server, 100)
        assert refusal(call(server, "POST", f"{path}:predict", AN_IMAGE)) == (400, "INVALID_ARGUMENT", "no image")


def test_each_deployment_makes_one_more_deployed_model(server: VertexEmulator) -> None:
    a_model(model_id="ships")
    path, ids = an_endpoint(server, 40, 60)
    assert len(set(ids)) == 2
    endpoint = done(call(server, "GET", path))
    assert endpoint["trafficSplit"] == dict(zip(ids, (40, 60), strict=True))
    assert [item["modelVersionId"] for item in endpoint["deployedModels"]] == ["1", "1"]


def test_predictions_follow_the_split(server: VertexEmulator) -> None:
    a_model(model_id="ships")
    path, ids = an_endpoint(server, 25, 75)
    answers = [done(call(server, "POST", f"{path}:predict", {"instances": [1]})) for _ in range(100)]
    assert [sum(answer["deployedModelId"] == key for answer in answers) for key in ids] == [25, 75]


@pytest.mark.parametrize("split", [{"5000": 99}, {"5000": 150, "5001": -50}, {"7": 100}])
def test_traffic_adds_up_to_100_over_what_is_deployed(server: VertexEmulator, split: dict[str, int]) -> None:
    a_model(model_id="ships")
    path, _ = an_endpoint(server, 40, 60)
    response = call(server, "PATCH", path, {"trafficSplit": split}, updateMask="trafficSplit")
    assert refusal(response)[:2] == (400, "INVALID_ARGUMENT")


def test_change_with_an_old_etag_is_refused(server: VertexEmulator) -> None:
    a_model(model_id="ships")
    path, ids = an_endpoint(server, 40, 60)
    old = done(call(server, "GET", path))["etag"]
    change = {"trafficSplit": {ids[0]: 100}, "etag": old}
    done(call(server, "PATCH", path, change, updateMask="traffic_split"))
    assert refusal(call(server, "PATCH", path, change, updateMask="trafficSplit"))[:2] == (409, "ABORTED")


def test_model_with_traffic_is_not_undeployed_unless_it_is_the_last(server: VertexEmulator) -> None:
    a_model(model_id="ships")
    path, (first, second) = an_endpoint(server, 0, 100)
    response = call(server, "POST", f"{path}:undeployModel", {"deployedModelId": second})
    assert refusal(response)[:2] == (400, "FAILED_PRECONDITION")
    for gone in (first, second):
        done(call(server, "POST", f"{path}:undeployModel", {"deployedModelId": gone}))
    endpoint = done(call(server, "GET", path))
    assert (endpoint["deployedModels"], endpoint["trafficSplit"]) == ([], {})
    assert refusal(call(server, "POST", f"{path}:undeployModel", {"deployedModelId": second}))[0] == 404


def test_traffic_may_be_moved_by_deploying_and_by_undeploying(server: VertexEmulator) -> None:
    a_model(model_id="ships")
    path, (first,) = an_endpoint(server, 100)
    second = deployed(server, trafficSplit={"0": 30, first: 70})
    assert done(call(server, "GET", path))["trafficSplit"] == {second: 30, first: 70}
    done(call(server, "POST", f"{path}:undeployModel", {"deployedModelId": first, "trafficSplit": {second: 100}}))
    assert done(call(server, "GET", path))["trafficSplit"] == {second: 100}


# Pipeline jobs


def test_sdk_creates_gets_lists_and_cancels_pipeline_jobs(server: VertexEmulator) -> None:
    service = v1.PipelineServiceClient(
        credentials=AnonymousCredentials(), client_options={"api_endpoint": server.url}, transport="rest"
    )
    server.hang_jobs()
    request = {"parent": PARENT, "pipeline_job": v1.PipelineJob.from_json(json.dumps(JOB)), "pipeline_job_id": "job-1"}
    assert service.create_pipeline_job(request).state is v1.PipelineState.PIPELINE_STATE_PENDING
    with pytest.raises(exceptions.Conflict):
        service.create_pipeline_job(request)
    (job,) = aiplatform.PipelineJob.list()
    assert job.resource_name == f"{NUMBERED}/pipelineJobs/job-1"
    job.cancel()
    assert aiplatform.PipelineJob.get(job.resource_name).state is v1.PipelineState.PIPELINE_STATE_CANCELLED


def test_job_advances_each_time_it_is_read(server: VertexEmulator) -> None:
    done(call(server, "POST", "pipelineJobs", JOB, pipelineJobId="job-1"))
    jobs = [done(call(server, "GET", "pipelineJobs/job-1")) for _ in range(3)]
    assert [job["state"] for job in jobs] == [f"PIPELINE_STATE_{s}" for s in ("RUNNING", "SUCCEEDED", "SUCCEEDED")]
    tasks = jobs[-1]["jobDetail"]["taskDetails"]
    assert [(task["taskName"], task["state"]) for task in tasks] == [("First", "SUCCEEDED"), ("Last", "SUCCEEDED")]


def test_jobs_can_be_made_to_fail_or_to_run_for_ever(server: VertexEmulator) -> None:
    server.fail_jobs(message="no luck")
    server.hang_jobs()
    for job_id in ("failing", "hanging", "usual"):
        done(call(server, "POST", "pipelineJobs", JOB, pipelineJobId=job_id))
    looks = {job_id: done_after(server, f"pipelineJobs/{job_id}", 6) for job_id in ("failing", "hanging", "usual")}
    assert (looks["failing"]["state"], looks["failing"]["error"]["message"]) == ("PIPELINE_STATE_FAILED", "no luck")
    assert looks["hanging"]["state"] == "PIPELINE_STATE_RUNNING"
    assert looks["usual"]["state"] == "PIPELINE_STATE_SUCCEEDED"


def done_after(server: VertexEmulator, path: str, looks: int) -> dict[str, Any]:
    return [done(call(server, "GET", path)) for _ in range(looks)][-1]


def test_hook_runs_the_job_and_its_exception_fails_it() -> None:
    allowed = threading.Event()

    def run(job: dict[str, Any]) -> None:
        allowed.wait(5)
        if job["displayName"] == "bad":
            raise ValueError("the data is gone")

    with VertexEmulator(on_pipeline_job=run) as server:
        for name in ("good", "bad"):
            done(call(server, "POST", "pipelineJobs", {**JOB, "displayName": name}, pipelineJobId=name))
        wait_for(lambda: state(server, "good") == "RUNNING")
        allowed.set()
        wait_for(lambda: state(server, "good") == "SUCCEEDED" and state(server, "bad") == "FAILED")
        error = done(call(server, "GET", "pipelineJobs/bad"))["error"]
    assert error["message"] == "ValueError: the data is gone"


@pytest.mark.parametrize(("ending", "last"), [("SUCCEEDED", "SUCCEEDED"), ("FAILED", "NOT_TRIGGERED")])
def test_hook_sets_task_states_and_other_tasks_follow_the_job(ending: str, last: str) -> None:
    started, allowed = threading.Event(), threading.Event()

    def run(job: dict[str, Any]) -> None:
        server.set_task_state(job["name"], "First", "RUNNING")
        started.set()
        allowed.wait(60)
        server.set_task_state(job["name"], "First", "SKIPPED")
        if ending == "FAILED":
            raise ValueError("the data is gone")

    with VertexEmulator(on_pipeline_job=run) as server:
        done(call(server, "POST", "pipelineJobs", JOB, pipelineJobId="job"))
        assert started.wait(60)
        assert tasks(server, "job") == {"First": "RUNNING", "Last": "PENDING"}
        allowed.set()
        wait_for(lambda: state(server, "job") == ending)
        assert tasks(server, "job") == {"First": "SKIPPED", "Last": last}


def test_hook_cannot_change_tasks_of_a_cancelled_job() -> None:
    allowed, ended = threading.Event(), threading.Event()

    def run(job: dict[str, Any]) -> None:
        allowed.wait(60)
        server.set_task_state(job["name"], "First", "SUCCEEDED")
        ended.set()

    with VertexEmulator(on_pipeline_job=run) as server:
        done(call(server, "POST", "pipelineJobs", JOB, pipelineJobId="job"))
        done(call(server, "POST", "pipelineJobs/job:cancel"))
        allowed.set()
        assert ended.wait(60)
        assert tasks(server, "job") == {"First": "CANCELLED", "Last": "CANCELLED"}


def tasks(server: VertexEmulator, job_id: str) -> dict[str, str]:
    details = done(call(server, "GET", f"pipelineJobs/{job_id}"))["jobDetail"]["taskDetails"]
    return {task["taskName"]: task["state"] for task in details}


def state(server: VertexEmulator, job_id: str) -> str:
    return str(done(call(server, "GET", f"pipelineJobs/{job_id}"))["state"]).removeprefix("PIPELINE_STATE_")


@pytest.mark.parametrize(
    ("change", "job_id", "message"),
    [
        ({"pipelineSpec": {}}, "job", "pipelineSpec"),
        ({"runtimeConfig": {}}, "job", "gcsOutputDirectory"),
        ({"runtimeConfig": {"gcsOutputDirectory": "/out"}}, "job", "Cloud Storage"),
        ({"runtimeConfig": {"gcsOutputDirectory": "gs://b", "parameterValues": {"x": 1}}}, "job", "no parameter"),
        ({"colour": "red"}, "job", "colour"),
        ({}, "Job", "pipeline job id"),
        ({}, "1", "pipeline job id"),
    ],
)
def test_invalid_pipeline_job_is_refused(
    server: VertexEmulator, change: dict[str, Any], job_id: str, message: str
) -> None:
    response = call(server, "POST", "pipelineJobs", {**JOB, **change}, pipelineJobId=job_id)
    assert refusal(response)[0] == 400
    assert message in refusal(response)[2]


def test_listings_come_in_pages_newest_first_and_by_label(server: VertexEmulator) -> None:
    for number in range(5):
        job = {**JOB, "labels": {"kind": "even" if number % 2 == 0 else "odd"}}
        done(call(server, "POST", "pipelineJobs", job, pipelineJobId=f"job-{number}"))
    query = {"filter": 'labels.kind="even"', "pageSize": "2"}
    first = done(call(server, "GET", "pipelineJobs", **query))
    rest = done(call(server, "GET", "pipelineJobs", **query, pageToken=first["nextPageToken"]))
    names = [job["name"].rpartition("/")[2] for page in (first, rest) for job in page["pipelineJobs"]]
    assert names == ["job-4", "job-2", "job-0"]
    assert "nextPageToken" not in rest
    assert refusal(call(server, "GET", "pipelineJobs", filter="what is this"))[0] == 400


# Batch predictions


def test_sdk_predicts_in_batch_and_gets_the_folder_of_the_results() -> None:
    given: list[tuple[str, str]] = []

    def predict(job: dict[str, Any], folder: str) -> int:
        given.append((job["inputConfig"]["gcsSource"]["uris"][0], folder))
        return 7

    with VertexEmulator(on_batch_prediction=predict) as server:
        use(server)
        job = a_model(model_id="ships").batch_predict(
            job_display_name="batch",
            gcs_source="gs://b/list.txt",
            instances_format="file-list",
            gcs_destination_prefix="gs://b/out",
            machine_type="n1-standard-4",
            starting_replica_count=1,
            sync=False,
        )
        job.wait_for_resource_creation()
        wait_for(lambda: aiplatform.BatchPredictionJob(job.resource_name).state is v1.JobState.JOB_STATE_SUCCEEDED)
        ended = aiplatform.BatchPredictionJob(job.resource_name)
    assert given == [("gs://b/list.txt", ended.output_info.gcs_output_directory)]
    assert re.fullmatch(r"gs://b/out/prediction-ships-\d{4}_.*Z", ended.output_info.gcs_output_directory)
    assert ended.completion_stats.successful_count == 7


def test_same_request_starts_another_prediction_of_the_same_name(server: VertexEmulator) -> None:
    a_model(model_id="ships")
    names = {done(call(server, "POST", "batchPredictionJobs", a_prediction()))["name"] for _ in range(2)}
    assert len(names) == 2
    listed = done(call(server, "GET", "batchPredictionJobs", filter='display_name="batch"'))
    assert {job["name"] for job in listed["batchPredictionJobs"]} == names


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": f"{PARENT}/models/boats"}, 404),
        ({"model": f"{PARENT}/models/ships@9"}, 404),
        ({"displayName": ""}, 400),
        ({"inputConfig": {"instancesFormat": "files", "gcsSource": {"uris": ["gs://b/a"]}}}, 400),
        ({"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["/a"]}}}, 400),
        ({"dedicatedResources": {"machineSpec": {"machineType": "n1-standard-4"}}}, 400),
        ({"instances": 1}, 400),
    ],
)
def test_invalid_prediction_is_refused(server: VertexEmulator, change: dict[str, Any], status: int) -> None:
    a_model(model_id="ships")
    assert refusal(call(server, "POST", "batchPredictionJobs", a_prediction(**change)))[0] == status


# Operations, faults, limits


def test_operation_has_its_effect_when_it_is_done() -> None:
    with VertexEmulator(operation_seconds=0.1) as server:
        operation = done(call(server, "POST", "endpoints", {"displayName": "a"}, endpointId="ships"))
        assert "done" not in operation
        assert refusal(call(server, "GET", "endpoints/ships"))[0] == 404
        listed = done(call(server, "GET", "endpoints/ships/operations"))["operations"]
        assert [item["name"] for item in listed] == [operation["name"]]
        path = operation["name"].removeprefix(f"{NUMBERED}/")
        wait_for(lambda: bool(done(call(server, "GET", path)).get("done")))
        assert done(call(server, "GET", "endpoints/ships"))["displayName"] == "a"


def test_operations_can_be_made_to_fail_without_effect(server: VertexEmulator) -> None:
    server.fail_operations(message="no luck")
    operation = done(call(server, "POST", "endpoints", {"displayName": "a"}, endpointId="ships"))
    assert (operation["done"], operation["error"]) == (True, {"code": 13, "message": "no luck"})
    assert refusal(call(server, "GET", "endpoints/ships"))[0] == 404


def test_second_operation_is_refused_if_exclusive() -> None:
    with VertexEmulator(operation_seconds=5, exclusive=True) as server:
        done(call(server, "POST", "endpoints", {"displayName": "a"}, endpointId="ships"))
        response = call(server, "POST", "endpoints", {"displayName": "a"}, endpointId="ships")
        assert refusal(response)[1] == "FAILED_PRECONDITION"
        assert "other operations running" in refusal(response)[2]


def test_fault_has_the_response_of_the_service(server: VertexEmulator) -> None:
    server.fail_next("GET .*models", status=429)
    assert refusal(call(server, "GET", "models"))[:2] == (429, "RESOURCE_EXHAUSTED")
    assert done(call(server, "GET", "models")) == {"models": []}


def test_connection_is_dropped_before_or_after_the_effect(server: VertexEmulator) -> None:
    for drop, job_id in (("before", "one"), ("after", "two")):
        server.fail_next("POST", drop=drop)  # type: ignore[arg-type]
        with pytest.raises(requests.ConnectionError):
            call(server, "POST", "pipelineJobs", JOB, pipelineJobId=job_id)
    assert call(server, "GET", "pipelineJobs/one").status_code == 404
    assert call(server, "GET", "pipelineJobs/two").status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("projects/else/locations/us-central1/models", 403),
        ("projects/demo/locations/europe-west1/models", 400),
        (f"{PARENT}/featurestores", 404),
        (f"{PARENT}/models/boats", 404),
        ("nothing", 404),
    ],
)
def test_unknown_places_and_resources_are_refused(server: VertexEmulator, path: str, status: int) -> None:
    assert refusal(requests.get(f"{server.url}/v1/{path}", timeout=60))[0] == status


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_body_that_is_no_json_object_is_refused(server: VertexEmulator, body: bytes) -> None:
    assert refusal(requests.post(f"{server.url}/v1/{PARENT}/endpoints", data=body, timeout=60))[0] == 400


def test_resources_above_the_limit_are_refused(server: VertexEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emulators.vertex.messages.MOST_RESOURCES", 1)
    answers = [call(server, "POST", "pipelineJobs", JOB, pipelineJobId=name).status_code for name in ("a", "b")]
    assert answers == [200, 429]
