"""Pipeline jobs: the request, one job per id over any failure, states and progress."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from adaptation.codec import UnreadableState
from adaptation.data.batches import BatchStore
from adaptation.io import storage
from adaptation.platforms.base import InvalidJob, JobRequest, JobState, NoSuchJob
from adaptation.platforms.connect import connect
from adaptation.trigger import deliver as deliver_trigger
from tests.worlds.vertex import ROOT, Vertex, a_spec, publish


def a_request(job_id: str = "evaluation-2021-10-0001") -> JobRequest:
    return JobRequest(job_id, "evaluation", {"batch": "2021-10"})


def test_job_is_created_with_all_settings(vertex: Vertex) -> None:
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


def test_caching_that_is_allowed_stays_as_compiled(vertex: Vertex) -> None:
    publish()
    allowed = replace(vertex, config=replace(vertex.config, caching=True))
    tasks = allowed.jobs.body(a_request())["pipelineSpec"]["root"]["dag"]["tasks"].values()
    assert [task["cachingOptions"] for task in tasks] == [{"enableCache": True}] * 2
    assert vertex.server.count("") == 0


def test_compiled_parameters_stay_unless_the_request_names_others(vertex: Vertex) -> None:
    publish(spec=a_spec(parameters={"data_gcs_prefix": "", "threshold": "0.9"}))
    values = vertex.jobs.body(a_request())["runtimeConfig"]["parameterValues"]
    assert values == {"data_gcs_prefix": "2021-10", "threshold": "0.9"}


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 500}, {"drop": "before"}, {"drop": "after"}])
def test_job_is_created_once_over_any_failure(vertex: Vertex, fault: dict[str, Any]) -> None:
    publish()
    vertex.server.fail_next("POST .*pipelineJobs", times=2, **fault)
    assert vertex.jobs.create(a_request()).id == "evaluation-2021-10-0001"
    assert [job.id for job in vertex.jobs.list()] == ["evaluation-2021-10-0001"]


def test_deployments_in_one_project_have_separate_jobs(vertex: Vertex) -> None:
    publish()
    other = Vertex(vertex.server, replace(vertex.config, name="ships-test"))
    vertex.jobs.create(a_request())
    assert other.jobs.get("evaluation-2021-10-0001") is None
    other.jobs.create(a_request())
    other.jobs.create(a_request("evaluation-2021-10-0002"))
    assert [job.id for job in vertex.jobs.list()] == ["evaluation-2021-10-0001"]
    assert [job.id for job in other.jobs.list()] == ["evaluation-2021-10-0001", "evaluation-2021-10-0002"]


def test_job_that_exists_needs_no_spec(vertex: Vertex) -> None:
    publish()
    vertex.jobs.create(a_request())
    storage.remove(f"{ROOT}/specs/evaluation.json")
    assert vertex.jobs.create(a_request()).id == "evaluation-2021-10-0001"
    assert vertex.server.count("POST") == 1


def test_cloned_job_is_not_listed(vertex: Vertex) -> None:
    publish()
    vertex.jobs.create(a_request())
    vertex.client.change(
        "POST", f"{vertex.config.parent}/pipelineJobs", vertex.jobs.body(a_request()), pipelineJobId="clone"
    )
    assert [job.id for job in vertex.jobs.list()] == ["evaluation-2021-10-0001"]


def test_job_that_has_not_started_counts_as_running(vertex: Vertex) -> None:
    publish()
    assert vertex.jobs.create(a_request()).state is JobState.RUNNING


def test_failed_job_has_its_message_and_link(vertex: Vertex) -> None:
    publish()
    vertex.server.fail_jobs(message="task First failed")
    vertex.jobs.create(a_request())
    assert list(vertex.jobs.follow("evaluation-2021-10-0001"))[-1] == "evaluation-2021-10-0001: FAILED"
    job = vertex.jobs.get("evaluation-2021-10-0001")
    assert job is not None
    assert (job.state, job.message) == (JobState.FAILED, "task First failed")
    assert "us-central1/pipelines/runs/ships-evaluation-2021-10-0001?project=demo" in job.link


def test_cancelled_job_counts_as_failed(vertex: Vertex) -> None:
    publish()
    vertex.server.hang_jobs()
    vertex.jobs.create(a_request())
    name = f"{vertex.config.parent}/pipelineJobs/ships-evaluation-2021-10-0001"
    vertex.client.change("POST", f"{name}:cancel")
    job = vertex.jobs.get("evaluation-2021-10-0001")
    assert job is not None
    assert (job.state, "cancelled" in job.message) == (JobState.FAILED, True)


def test_ended_tasks_have_durations(vertex: Vertex) -> None:
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


def test_follow_yields_the_states_of_the_tasks_and_then_the_jobs(vertex: Vertex) -> None:
    publish()
    vertex.jobs.create(a_request())
    followed = list(vertex.jobs.follow("evaluation-2021-10-0001"))
    assert followed[:3] == ["First: RUNNING", "Last: RUNNING", "evaluation-2021-10-0001: RUNNING"]
    assert followed[-1] == "evaluation-2021-10-0001: SUCCEEDED"
    with pytest.raises(NoSuchJob):
        list(vertex.jobs.follow("evaluation-2021-10-0002"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, "adapt publish"),
        ("{}", "no compiled pipeline"),
        (json.dumps(a_spec(parameters={"window": ""})), "no parameter data_gcs_prefix"),
        (
            json.dumps({**a_spec(parameters={"data_gcs_prefix": "", "window": ""}), "runtimeConfig": {}}),
            "no value: window",
        ),
    ],
)
def test_invalid_spec_is_refused_before_anything_is_sent(vertex: Vertex, spec: str | None, message: str) -> None:
    if spec is not None:
        storage.write(f"{ROOT}/specs/evaluation.json", spec.encode())
    with pytest.raises(InvalidJob, match=message):
        vertex.jobs.create(a_request())
    assert vertex.server.count("POST") == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "no json"])
def test_unreadable_spec_is_named_before_anything_is_sent(vertex: Vertex, text: str) -> None:
    storage.write(f"{ROOT}/specs/evaluation.json", text.encode())
    with pytest.raises(UnreadableState, match=r"specs/evaluation.json cannot be read: .* publish it again"):
        vertex.jobs.create(a_request())
    assert vertex.server.count("POST") == 0


def test_pipeline_without_a_spec_is_refused(vertex: Vertex) -> None:
    with pytest.raises(InvalidJob, match="specs/cleaning/latest.json"):
        vertex.jobs.create(JobRequest("cleaning-1", "cleaning", {}))


@pytest.mark.parametrize("job_id", ["", "../x", "a/b", "-a", "A", "a.b", "é", "a" * 123])
def test_job_id_that_could_lead_elsewhere_is_refused(vertex: Vertex, job_id: str) -> None:
    publish()
    with pytest.raises(InvalidJob, match="cannot name a job"):
        vertex.jobs.create(JobRequest(job_id, "evaluation", {}))
    with pytest.raises(InvalidJob, match="cannot name a job"):
        vertex.jobs.get(job_id)
    assert vertex.server.count("") == 0


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
