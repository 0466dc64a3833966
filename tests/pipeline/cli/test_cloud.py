"""The command line on Google Cloud: compile, publish, and the other commands there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adaptation.io import storage
from emulators.kubeflow import KubeflowEmulator
from pipeline.cli.main import cli
from pipeline.compiled.spec import BrokenSpec, Spec
from pipeline.workspace.settings_file import write_settings
from tests.worlds.cloud import LABELS, MONTH, ROOT, Cloud, a_cloud, done, golden, refused
from tests.worlds.images import contents
from tests.worlds.processes import wait_until

ADAPT = [sys.executable, "-c", "from pipeline.cli.main import main; main()"]


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with a_cloud(tmp_path / "shop", monkeypatch) as cloud:
        yield cloud


@pytest.fixture
def shop(cloud: Cloud) -> Cloud:
    """The cloud with both specs published, two spans, two versions and a batch of 120 images."""
    cloud.publish_specs()
    cloud.publish_spans(2)
    cloud.register(2)
    cloud.collect(120)
    return cloud


def latest(pipeline: str) -> Spec:
    return Spec.from_json(storage.read(f"{ROOT}/specs/{pipeline}/latest.json"))


# Compile


def test_compile_writes_the_specs_and_sends_no_request(cloud: Cloud, tmp_path: Path) -> None:
    before = len(cloud.objects.requests)
    result = cloud.adapt("compile", "all", "--output", str(tmp_path / "new" / "folder"))
    lines = done(result).splitlines()
    assert result.stderr == "compiling training and evaluation\n"
    for name, line in zip(("training", "evaluation"), lines, strict=True):
        file = tmp_path / "new" / "folder" / f"{name}.json"
        spec = Spec.from_json(file.read_bytes())
        assert line == f"{file}: {len(spec.tasks)} tasks, digest {spec.digest[:12]}"
    assert (len(cloud.objects.requests), len(cloud.vertex.requests)) == (before, 0)


def test_compile_writes_only_the_named_pipeline(cloud: Cloud, tmp_path: Path) -> None:
    done(cloud.adapt("compile", "evaluation", "--output", str(tmp_path / "out")))
    assert set(contents(tmp_path / "out")) == {"evaluation.json"}


def test_compile_writes_no_spec_if_one_is_broken(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_evaluation(monkeypatch)
    old = golden("training").to_json()
    (tmp_path / "training.json").write_bytes(old)
    result = cloud.adapt("compile", "all", "--output", str(tmp_path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "shop-evaluation is broken" in result.stderr
    assert (tmp_path / "training.json").read_bytes() == old
    assert not (tmp_path / "evaluation.json").exists()


def test_compile_names_a_folder_that_cannot_be_written_to(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = cloud.adapt("compile", "evaluation", "--output", str(tmp_path / "file" / "below"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "file" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compile"], "Missing argument '{training|evaluation|all}'"),
        (["compile", "trainig"], "'trainig' is not one of 'training', 'evaluation', 'all'"),
        (["compile", "all", "--outptu", "x"], "Did you mean '--output'?"),
        (["compile", "all", "--output", __file__], __file__),
        (["publish", "evalution"], "'evalution' is not one of"),
        (["publsh"], "Did you mean 'publish'?"),
        (["sumbit", "training"], "Did you mean 'submit'?"),
    ],
)
def test_wrong_usage_is_reported_with_exit_code_2(arguments: list[str], message: str) -> None:
    assert message in " ".join(refused(CliRunner().invoke(cli, arguments), code=2).split())


@pytest.mark.parametrize("command", [["compile", "all"], ["publish"], ["submit", "training"]])
def test_local_workspace_is_refused_with_all_missing_settings(tmp_path: Path, command: list[str]) -> None:
    write_settings(tmp_path / "adapt.toml", LABELS, {"labels.source": "file", "labels.file": "labels.csv"})
    first, *faults = refused(CliRunner().invoke(cli, [*command, "--workspace", str(tmp_path)])).splitlines()
    assert first == f"InvalidSettings: {tmp_path}/adapt.toml is incomplete for Google Cloud. Fix:"
    wanted = ["vertex.project", "vertex.root", "vertex.image", "data.root", "collection.root", "labels.file"]
    assert [line.split()[0] for line in faults] == wanted
    assert f"data.root = '{tmp_path}/data' is not in a bucket; it should start with gs://" in faults[3]


def test_root_in_another_store_is_refused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__ROOT", "s3://shop/adaptation")
    assert "vertex.root = 's3://shop/adaptation'" in refused(cloud.adapt("compile", "all"))


def test_name_that_vertex_ai_does_not_take_is_refused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_NAME", "2ships")
    assert "'2ships' cannot be used on Vertex AI" in refused(cloud.adapt("compile", "all"))


# Publish


def test_publish_makes_both_compiled_specs_the_latest(cloud: Cloud) -> None:
    lines = done(cloud.adapt("publish")).splitlines()
    for name, line in zip(("training", "evaluation"), lines, strict=True):
        uri = f"{ROOT}/specs/{name}/{latest(name).digest}.json"
        assert storage.read(uri) == latest(name).to_json()
        assert line == f"{name}: {uri} is the latest now"
    assert cloud.vertex.url in latest("training").to_json().decode()
    assert done(cloud.adapt("publish")).splitlines() == [f"{line}; it existed before" for line in lines]


def test_publish_writes_only_the_named_pipeline(cloud: Cloud) -> None:
    done(cloud.adapt("publish", "evaluation"))
    assert storage.folders(f"{ROOT}/specs") == ["evaluation"]


def test_publish_writes_no_spec_if_one_is_broken(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    break_evaluation(monkeypatch)
    assert cloud.adapt("publish").exit_code == 1
    assert storage.folders(ROOT) == []


def test_submit_takes_the_published_spec(cloud: Cloud) -> None:
    done(cloud.adapt("publish", "evaluation"))
    done(cloud.adapt("submit", "evaluation", "--wait"))
    (job,) = cloud.jobs()
    assert set(job["pipelineSpec"]["root"]["dag"]["tasks"]) == set(golden().tasks)


# The other commands


def test_train_starts_a_job_and_names_where_its_result_is(shop: Cloud) -> None:
    shown = done(shop.adapt("train", "--window", "2"))
    (job,) = shop.jobs()
    name = job["name"].rpartition("/")[2]
    assert job["runtimeConfig"]["parameterValues"]["window"] == "2"
    assert shown == (
        f"{name.removeprefix('shop-')} has ended; https://console.cloud.google.com/vertex-ai/locations/europe-west4/"
        f'pipelines/runs/{name}?project=shop shows what it concluded, "adapt models list" the champion\n'
    )


def test_evaluate_starts_a_job_of_the_newest_batch(shop: Cloud) -> None:
    result = shop.adapt("evaluate")
    assert f"evaluation-{MONTH}-0001 has ended" in done(result)
    assert f"{MONTH}: requested: 120 images, 120 of them new" in result.stderr
    assert shop.jobs()[0]["runtimeConfig"]["parameterValues"] == {"data_gcs_prefix": MONTH}


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_failed_job_is_reported_with_the_services_message_and_a_link(shop: Cloud, command: str) -> None:
    shop.vertex.fail_jobs(message="the quota is used up")
    result = shop.adapt(command)
    last = result.stderr.splitlines()[-1]
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the quota is used up" in last
    assert "https://console.cloud.google.com/" in last


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_command_without_a_published_spec_says_how_to_publish_one(shop: Cloud, command: str) -> None:
    storage.remove_folder(f"{ROOT}/specs")
    result = shop.adapt(command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'Run "adapt publish" first' in result.stderr.splitlines()[-1]
    assert shop.submitted == 0


def test_evaluation_starts_after_its_missing_spec_is_published(shop: Cloud) -> None:
    storage.remove_folder(f"{ROOT}/specs")
    assert shop.adapt("evaluate").exit_code == 1
    shop.publish_specs()
    done(shop.adapt("evaluate"))
    assert [job["displayName"] for job in shop.jobs()] == [f"shop-evaluation-{MONTH}-0001"]


def test_evaluate_without_a_champion_starts_nothing(cloud: Cloud) -> None:
    cloud.publish_specs()
    cloud.collect(3)
    message = refused(cloud.adapt("evaluate"))
    assert "champion" in message
    assert cloud.submitted == 0
    assert "There is no champion" in done(cloud.adapt("plan"))


def test_window_without_a_span_starts_nothing(shop: Cloud) -> None:
    assert "span 7" in refused(shop.adapt("train", "--window", "7"))
    assert shop.submitted == 0


def test_plan_shows_what_the_trigger_would_do_and_does_nothing(shop: Cloud) -> None:
    shown = done(shop.adapt("plan"))
    assert f"job      evaluation-{MONTH}-0001" in shown
    assert "start: 120 new images" in shown
    assert shop.submitted == 0
    assert storage.folders(f"{ROOT}/triggers") == []


def test_lists_show_the_buckets_and_the_registry(shop: Cloud) -> None:
    assert [line.split()[0] for line in done(shop.adapt("spans", "list")).splitlines()[2:]] == ["span-1", "span-2"]
    assert done(shop.adapt("batches", "list")).splitlines()[2].split() == [MONTH, "120", "120", "0"]
    first, second = done(shop.adapt("models", "list")).splitlines()[2:]
    assert first.split()[:3] == ["1", "1", "span-1:"]
    assert second.split()[:4] == ["2", "champion", "1-2", "span-1:"]


def test_rollback_serves_the_version_before(shop: Cloud) -> None:
    assert done(shop.adapt("rollback")) == "version 1 is the champion again\n"
    platform = shop.workspace.platform
    assert platform.registry.find().number == 1
    assert platform.endpoint.serving() == [1]
    assert "no version was serving before" in refused(shop.adapt("rollback"))


def test_watch_starts_one_evaluation_and_ends_with_a_signal(shop: Cloud) -> None:
    shop.vertex.hang_jobs()
    process = start("watch", "--interval", "0.2", "--workspace", str(shop.folder))
    wait_until(lambda: shop.vertex.count("GET .*pipelineJobs/") > 3)
    process.send_signal(signal.SIGTERM)
    shown, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    assert shown.startswith(f"{MONTH}: start: 100 or more new images")
    assert "https://console.cloud.google.com/" in shown
    assert [job["displayName"] for job in shop.jobs()] == [f"shop-evaluation-{MONTH}-0001"]


def test_interrupted_submit_says_that_the_job_continues(shop: Cloud) -> None:
    shop.vertex.hang_jobs()
    process = start("submit", "evaluation", "--wait", "--workspace", str(shop.folder))
    wait_until(lambda: shop.vertex.count("GET .*pipelineJobs/") > 2)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "keeps running" in complaints
    assert "Traceback" not in complaints


@pytest.mark.parametrize("command", [["models", "list"], ["rollback"], ["plan"], ["train"], ["evaluate"]])
def test_unreachable_service_is_named(shop: Cloud, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__API_ENDPOINT", "http://127.0.0.1:9")
    result = shop.adapt(*command)
    assert result.exit_code == 1
    assert "127.0.0.1:9" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["train"], ["evaluate"], ["plan"], ["models", "list"], ["rollback"]])
def test_incomplete_settings_end_every_command_that_needs_the_service(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__PROJECT", "")
    cloud.publish_spans()
    cloud.collect(1)
    assert "vertex.project is missing" in refused(cloud.adapt(*command))


def test_watch_ends_at_once_with_incomplete_settings(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPT_VERTEX__PROJECT", "")
    process = start("watch", "--workspace", str(cloud.folder))
    try:
        _, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "vertex.project is missing" in complaints


def test_submit_to_kubeflow_prints_only_the_address_of_the_run(shop: Cloud) -> None:
    with KubeflowEmulator() as server:
        options = ["--platform", "kubeflow", "--host", server.url, "--workspace", str(shop.folder)]
        shown, complaints = start("submit", "evaluation", *options).communicate(timeout=60)
        assert (shown, complaints) == (f"{server.url}/#/runs/details/{server.runs[0]['run_id']}\n", "")


def break_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the evaluation's spec be broken, and the training's not."""
    from pipeline.compiled import compilation

    compiled = compilation.compile_pipeline

    def broken(settings: Any, name: str) -> Spec:
        if name == "evaluation":
            raise BrokenSpec("shop-evaluation is broken and was not written")
        return compiled(settings, name)

    monkeypatch.setattr(compilation, "compile_pipeline", broken)


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start `adapt` in another process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(
        [*ADAPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    )
