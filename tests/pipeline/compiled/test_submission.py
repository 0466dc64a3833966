"""Submission: the request and its address, the output, and what is refused before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from adaptation.io import storage
from emulators.kubeflow import KubeflowEmulator
from pipeline.compiled.submission import submission
from tests.worlds.cloud import PARENT, ROOT, Cloud, a_cloud, a_file, done, golden, refused

MONTH = "data_gcs_prefix=2021-10"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A cloud with both specs and two spans published."""
    with a_cloud(tmp_path / "shop", monkeypatch) as cloud:
        cloud.publish_specs()
        cloud.publish_spans(2)
        yield cloud


@pytest.fixture
def kubeflow() -> Iterator[KubeflowEmulator]:
    with KubeflowEmulator() as server:
        yield server


def values(cloud: Cloud) -> dict[str, Any]:
    """Return the parameters of the only job."""
    (job,) = cloud.jobs()
    return dict(job["runtimeConfig"].get("parameterValues", {}))


# Vertex AI


def test_published_spec_runs_with_the_given_parameters(cloud: Cloud) -> None:
    shown = done(cloud.adapt("submit", "evaluation", "--param", MONTH))
    (job,) = cloud.jobs()
    assert job["pipelineSpec"]["pipelineInfo"]["name"] == "shop-evaluation"
    assert values(cloud) == {"data_gcs_prefix": "2021-10"}
    run = job["name"].rpartition("/")[2]
    assert run.startswith("shop-evaluation-by-hand-")
    assert shown == (
        f"{run.removeprefix('shop-')}: https://console.cloud.google.com/vertex-ai/locations/europe-west4/"
        f"pipelines/runs/{run}?project=shop\n"
    )


def test_batch_may_be_named_as_in_other_commands(cloud: Cloud) -> None:
    done(cloud.adapt("submit", "evaluation", "--param", "batch=2021-10"))
    assert values(cloud) == {"data_gcs_prefix": "2021-10"}


def test_parameter_value_may_contain_an_equals_sign(cloud: Cloud) -> None:
    done(cloud.adapt("submit", "evaluation", "--param", "data_gcs_prefix=a=b"))
    assert values(cloud) == {"data_gcs_prefix": "a=b"}


@pytest.mark.parametrize(("options", "window"), [([], "1-2"), (["--window", "last:1"], "2")])
def test_training_gets_its_window_and_the_digest_of_its_content(cloud: Cloud, options: list[str], window: str) -> None:
    done(cloud.adapt("submit", "training", *options))
    given = values(cloud)
    assert (given["window"], len(given["digest"])) == (window, 64)
    assert given["digest"] == cloud.workspace.select(window).digest


def test_training_that_imports_gets_the_configuration_of_its_window(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPT_TRAINING__INGESTION", "import")
    for kind in ("local", "vertex"):  # the compiled spec does not depend on it
        monkeypatch.setenv("ADAPT_PLATFORM__KIND", kind)
        planned = submission(cloud.settings, "training", None, {}, "1")
        assert set(planned.request.parameters) == {"input-config", "output-config"}


def test_parameters_of_a_training_replace_its_window(cloud: Cloud) -> None:
    done(cloud.adapt("submit", "training", "--param", "window=2", "--param", "digest=abc"))
    assert values(cloud) == {"window": "2", "digest": "abc"}


def test_local_file_runs_instead_of_the_published_spec(cloud: Cloud, tmp_path: Path) -> None:
    spec = golden(labels={"made": "here"})
    done(cloud.adapt("submit", "evaluation", "--spec", a_file(tmp_path, spec)))
    (job,) = cloud.jobs()
    assert job["labels"]["made"] == "here"


def test_submitting_twice_starts_two_jobs(cloud: Cloud) -> None:
    for _ in range(2):
        done(cloud.adapt("submit", "evaluation"))
    assert len(cloud.jobs()) == 2


def test_dry_run_prints_what_would_be_sent_and_sends_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__SERVICE_ACCOUNT", "runner@shop.iam.gserviceaccount.com")
    monkeypatch.setattr("pipeline.compiled.submission.by_hand", lambda pipeline: f"{pipeline}-by-hand-1")
    sent = capture(monkeypatch)
    shown = json.loads(done(cloud.adapt("submit", "evaluation", "--param", MONTH, "--dry-run")))
    assert len(cloud.vertex.requests) == 0
    done(cloud.adapt("submit", "evaluation", "--param", MONTH))
    assert shown == sent[-1]
    assert shown["url"] == f"{cloud.vertex.url}/v1/{PARENT}/pipelineJobs?pipelineJobId=shop-evaluation-by-hand-1"
    assert shown["body"]["serviceAccount"] == "runner@shop.iam.gserviceaccount.com"


def test_waiting_shows_the_states_of_tasks_until_the_job_has_ended(cloud: Cloud) -> None:
    result = cloud.adapt("submit", "evaluation", "--wait")
    assert done(result).count("\n") == 1
    shown = [line.split("s  ", 1)[1] for line in result.stderr.splitlines() if "s  " in line]
    for state in ("RUNNING", "SUCCEEDED"):
        assert f"FileListGen: {state}" in shown
    assert shown[-1].endswith(": SUCCEEDED")


def test_failed_job_ends_the_waiting_with_the_message_and_a_link(cloud: Cloud) -> None:
    cloud.vertex.fail_jobs(message="the quota is used up")
    result = cloud.adapt("submit", "evaluation", "--wait")
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("JobFailed: evaluation-by-hand-")
    assert "the quota is used up" in last
    assert "https://console.cloud.google.com/" in last


def test_job_that_will_fail_counts_as_started_without_waiting(cloud: Cloud) -> None:
    cloud.vertex.fail_jobs()
    done(cloud.adapt("submit", "evaluation"))


@pytest.mark.parametrize("fault", [{"status": 503}, {"drop": "after"}, {"drop": "before"}])
def test_lost_request_is_retried_and_starts_one_job(cloud: Cloud, fault: dict[str, Any]) -> None:
    cloud.vertex.fail_next("POST", **fault)
    done(cloud.adapt("submit", "evaluation"))
    assert len(cloud.jobs()) == 1


def test_unreachable_service_is_named(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__API_ENDPOINT", "http://127.0.0.1:9")
    assert "127.0.0.1:9" in refused(cloud.adapt("submit", "evaluation"))


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_submit_without_a_published_spec_says_how_to_publish_one(cloud: Cloud, options: list[str]) -> None:
    storage.remove(f"{ROOT}/specs/evaluation/latest.json")
    message = refused(cloud.adapt("submit", "evaluation", *options))
    assert f'{ROOT}/specs/evaluation/latest.json. Run "adapt publish" first.' in message
    assert cloud.submitted == 0


def test_parameter_that_the_pipeline_lacks_is_refused(cloud: Cloud) -> None:
    assert "has no parameter month" in refused(cloud.adapt("submit", "evaluation", "--param", "month=2021-10"))
    assert cloud.submitted == 0


def test_window_without_a_span_is_refused(cloud: Cloud) -> None:
    assert "span 7 of window 7 is not published" in refused(cloud.adapt("submit", "training", "--window", "7"))
    assert cloud.submitted == 0


@pytest.mark.parametrize(("text", "message"), [("{}", "not a compiled pipeline"), ("no json", "cannot be read")])
def test_file_that_is_no_spec_is_refused(cloud: Cloud, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "spec.json").write_text(text)
    assert message in refused(cloud.adapt("submit", "evaluation", "--spec", str(tmp_path / "spec.json")))
    assert cloud.submitted == 0


def test_file_of_the_other_pipeline_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    file = a_file(tmp_path, golden("training"))
    message = refused(cloud.adapt("submit", "evaluation", "--spec", file))
    assert f"{file} is the pipeline shop-training, not shop-evaluation" in message
    assert cloud.submitted == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument '{training|evaluation}'"),
        (["trainig"], "'trainig' is not one of 'training', 'evaluation'"),
        (["all"], "'all' is not one of"),
        (["training", "--dryrun"], "Did you mean '--dry-run'?"),
        (["training", "--param", "window"], "'window' is not of the form NAME=VALUE"),
        (["training", "--param", "=2"], "'=2' is not of the form NAME=VALUE"),
        (["training", "--param", "window=1", "--param", "window=2"], "window is given more than once"),
        (["training", "--param", "window=1", "--window", "2"], "exclude each other"),
        (["evaluation", "--window", "2"], "--param data_gcs_prefix=2021-10"),
        (["evaluation", "--spec", "/no/such/file"], "/no/such/file"),
        (["evaluation", "--platform", "kubeflw"], "'kubeflw' is not one of"),
        (["evaluation", "--platform", "kubeflow"], "needs --host"),
        (["evaluation", "--platform", "kubeflow", "--host", "localhost:8888"], "like http://localhost:8888"),
        (["evaluation", "--platform", "kubeflow", "--host", "http://localhost:1", "--wait"], "--platform vertex"),
        (["evaluation", "--host", "http://localhost:1"], "--platform kubeflow"),
    ],
)
def test_wrong_usage_is_reported_with_exit_code_2(cloud: Cloud, arguments: list[str], message: str) -> None:
    assert message in " ".join(refused(cloud.adapt("submit", *arguments), code=2).split())
    assert cloud.submitted == 0


# Kubeflow


def to_kubeflow(cloud: Cloud, server: KubeflowEmulator, *arguments: str) -> Result:
    return cloud.adapt("submit", *arguments, "--platform", "kubeflow", "--host", f"{server.url}/")


def test_kubeflow_gets_the_same_pipeline_and_values(cloud: Cloud, kubeflow: KubeflowEmulator) -> None:
    shown = done(to_kubeflow(cloud, kubeflow, "evaluation", "--param", "batch=2021-10"))
    (run,) = kubeflow.runs
    assert shown == f"{kubeflow.url}/#/runs/details/{run['run_id']}\n"
    assert run["display_name"].startswith("shop-evaluation-by-hand-")
    assert run["runtime_config"] == {
        "parameters": {"data_gcs_prefix": "2021-10"},
        "pipeline_root": f"{ROOT}/pipelines/evaluation",
    }
    sent = json_format.ParseDict(run["pipeline_spec"], PipelineSpec())
    assert set(sent.root.dag.tasks) == set(golden().tasks)
    assert not any(task.caching_options.enable_cache for task in sent.root.dag.tasks.values())
    assert cloud.submitted == 0


def test_kubeflow_caches_if_the_settings_say_so(
    cloud: Cloud, kubeflow: KubeflowEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write(f"{ROOT}/specs/evaluation/latest.json", with_caching(golden().job))
    monkeypatch.setenv("ADAPT_VERTEX__CACHING", "true")
    done(to_kubeflow(cloud, kubeflow, "evaluation"))
    tasks = kubeflow.runs[0]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert all(task["cachingOptions"]["enableCache"] for task in tasks.values())


def test_kubeflow_trains_on_a_window_from_a_file(cloud: Cloud, kubeflow: KubeflowEmulator, tmp_path: Path) -> None:
    file = a_file(tmp_path, golden("training"))
    done(to_kubeflow(cloud, kubeflow, "training", "--spec", file, "--window", "1"))
    selection = cloud.workspace.select("1")
    given = kubeflow.runs[0]["runtime_config"]["parameters"]
    assert given == {"window": "1", "digest": selection.digest}


def test_second_run_goes_to_the_same_experiment(cloud: Cloud, kubeflow: KubeflowEmulator) -> None:
    for _ in range(2):
        done(to_kubeflow(cloud, kubeflow, "evaluation"))
    assert len(kubeflow.experiments) == 1
    assert len({run["experiment_id"] for run in kubeflow.runs}) == 1


def test_dry_run_for_kubeflow_prints_the_run_and_sends_nothing(
    cloud: Cloud, kubeflow: KubeflowEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.compiled.submission.by_hand", lambda pipeline: f"{pipeline}-by-hand-1")
    shown = json.loads(done(to_kubeflow(cloud, kubeflow, "evaluation", "--param", MONTH, "--dry-run")))
    assert len(kubeflow.requests) == 0
    done(to_kubeflow(cloud, kubeflow, "evaluation", "--param", MONTH))
    (run,) = kubeflow.runs
    assert shown["url"] == f"{kubeflow.url}/apis/v2beta1/runs"
    for field in ("display_name", "runtime_config"):
        assert shown["body"][field] == run[field]
    printed, sent = (json_format.ParseDict(body["pipeline_spec"], PipelineSpec()) for body in (shown["body"], run))
    assert printed == sent


def test_unreachable_kubeflow_is_named(cloud: Cloud) -> None:
    result = cloud.adapt("submit", "evaluation", "--platform", "kubeflow", "--host", "http://127.0.0.1:9")
    message = refused(result)
    assert message.startswith("Error: http://127.0.0.1:9 does not answer")
    assert "Check --host" in message


@pytest.mark.parametrize("method", ["healthz", "GET .*experiments", "POST .*experiments", "runs"])
@pytest.mark.parametrize("status", [403, 500])
def test_kubeflow_refusal_is_reported_with_its_message(
    cloud: Cloud, kubeflow: KubeflowEmulator, method: str, status: int
) -> None:
    kubeflow.fail_next(method, status=status)
    message = refused(to_kubeflow(cloud, kubeflow, "evaluation"))
    assert message.count("\n") == 1
    assert f"HTTP {status} this failure was requested" in message
    assert kubeflow.runs == []


def test_lost_answer_of_kubeflow_is_reported_and_not_retried(cloud: Cloud, kubeflow: KubeflowEmulator) -> None:
    kubeflow.fail_next("POST .*runs", drop="after")
    message = refused(to_kubeflow(cloud, kubeflow, "evaluation"))
    (run,) = kubeflow.runs
    assert f"look first for {run['display_name']} among its runs" in message


def test_kubeflow_that_never_answers_is_given_up(
    cloud: Cloud, kubeflow: KubeflowEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.compiled.kubeflow.REQUEST_SECONDS", (0.2, 0.2))
    kubeflow.fail_next("POST .*runs", delay=1)
    assert "does not answer" in refused(to_kubeflow(cloud, kubeflow, "evaluation"))
    kubeflow.recover()
    kubeflow.fail_next("healthz", times=9, delay=1)
    assert "does not answer" in refused(to_kubeflow(cloud, kubeflow, "evaluation"))


def test_server_that_is_not_kubeflow_is_reported(cloud: Cloud) -> None:
    result = cloud.adapt("submit", "evaluation", "--platform", "kubeflow", "--host", cloud.vertex.url)
    assert "HTTP 404" in refused(result)


def test_kubeflow_gets_no_request_without_a_spec(cloud: Cloud, kubeflow: KubeflowEmulator) -> None:
    storage.remove(f"{ROOT}/specs/evaluation/latest.json")
    assert 'Run "adapt publish" first' in refused(to_kubeflow(cloud, kubeflow, "evaluation"))
    assert len(kubeflow.requests) == 0


def test_kubeflow_gets_no_request_with_an_unknown_parameter(cloud: Cloud, kubeflow: KubeflowEmulator) -> None:
    assert "has no parameter month" in refused(to_kubeflow(cloud, kubeflow, "evaluation", "--param", "month=1"))
    assert len(kubeflow.requests) == 0


def capture(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return a list that records every request from now on, as it is sent."""
    import requests

    sent: list[dict[str, Any]] = []
    prepare = requests.Session.prepare_request

    def recording(session: requests.Session, request: requests.Request) -> requests.PreparedRequest:
        prepared = prepare(session, request)
        body = json.loads(prepared.body) if prepared.body else None
        sent.append({"method": prepared.method, "url": prepared.url, "body": body})
        return prepared

    monkeypatch.setattr(requests.Session, "prepare_request", recording)
    return sent


def with_caching(job: Any) -> bytes:
    text = json.dumps(job)
    for task in (changed := json.loads(text))["pipelineSpec"]["root"]["dag"]["tasks"].values():
        task["cachingOptions"] = {"enableCache": True}
    return json.dumps(changed).encode()
