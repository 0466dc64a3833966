"""The cloud on this machine carries out what it is given, for clients that use Google's own addresses."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from adaptation.io import object_store, storage
from adaptation.platforms.base import Job, JobFailed, JobRequest, JobState, Platform, Upload
from adaptation.platforms.connect import connect
from adaptation.platforms.rollout import put_in_service
from adaptation.platforms.vertex.client import VertexClient
from adaptation.platforms.vertex.config import Container, Retries, VertexConfig
from pipeline.rehearsal.cloud.emulated import Cloud
from tests.worlds.images import grey
from tests.worlds.processes import wait_until

ROOT = "gs://shop/adaptation"
RETRIES = Retries(
    request_timeout=300, attempts=2, backoff=0.05, poll_interval=0.05, operation_timeout=300, job_timeout=600
)
CONFIG = VertexConfig(
    name="shop",
    project="demo",
    location="europe-west4",
    root=ROOT,
    specs={"evaluation": f"{ROOT}/specs/evaluation.json"},
    container=Container("us-docker.pkg.dev/demo/serving"),
    retries=RETRIES,
)
BRIGHT, DARK = 255, 51
RUN_NAME = "{{$.pipeline_job_name}}"


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with Cloud(tmp_path_factory.mktemp("cloud"), "demo", "europe-west4", ["shop"]) as cloud, cloud.as_client():
        yield cloud


@pytest.fixture
def platform(emulated: Cloud) -> Platform:
    """Connect as a process of the deployment does; the config names no address."""
    return connect(CONFIG.to_json())


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """Return a function that saves a model that says `bright` or `dark` by mean brightness around a middle."""
    import tensorflow as tf

    def save(middle: float) -> Path:
        folder = tmp_path_factory.mktemp("model")
        module = tf.Module()
        module.middle = tf.Variable(middle)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def serve(image_bytes: Any) -> dict[str, Any]:
            def brightness(data: Any) -> Any:
                return tf.reduce_mean(
                    tf.cast(tf.io.decode_image(data, channels=1, expand_animations=False), tf.float32)
                )

            mean = tf.map_fn(brightness, image_bytes, fn_output_signature=tf.float32)
            return {"label": tf.where(mean > module.middle, "bright", "dark"), "confidence": mean / 255.0}

        module.serve = serve
        tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
        return folder

    return save


@pytest.fixture(scope="module")
def saved_model(saved_models: Callable[[float], Path]) -> Path:
    return saved_models(127.5)


def upload(platform: Platform, model: Path | None, key: str) -> str:
    """Register the model, copied into a bucket, as a version; return its number."""
    folder = f"{ROOT}/models/{key}"
    for file in storage.files_below(str(model)) if model else []:
        storage.write(storage.join(folder, file.name), storage.read(f"{model}/{file.name}"))
    if model is None:
        storage.write(f"{folder}/saved_model.pb", b"this is no model")
    return str(platform.registry.upload(Upload(folder, key, (1,), {}, folder, "run")).number)


def listed(folder: str, **images: bytes) -> str:
    """Write these images and return the URI of their file list."""
    for name, data in images.items():
        storage.write(f"{folder}/{name}.png", data)
    storage.write(f"{folder}.txt", "".join(f"{folder}/{name}.png\n" for name in images).encode())
    return f"{folder}.txt"


def lines(folder: str, kind: str) -> list[Any]:
    texts = [storage.read(storage.join(folder, file.name)) for file in storage.files(folder) if kind in file.name]
    return [json.loads(line) for text in texts for line in text.splitlines()]


# Batch predictions


def test_batch_prediction_uses_the_uploaded_model(emulated: Cloud, platform: Platform, saved_model: Path) -> None:
    version = upload(platform, saved_model, "predicting")
    images = listed("gs://shop/images", bright=grey(BRIGHT), dark=grey(DARK))
    folder = platform.predictor.predict(images, f"{ROOT}/predictions", version)
    assert folder.startswith(f"{ROOT}/predictions/prediction-shop-")
    assert lines(folder, "prediction.results") == [
        {"instance": "gs://shop/images/bright.png", "prediction": {"label": "bright", "confidence": pytest.approx(1)}},
        {"instance": "gs://shop/images/dark.png", "prediction": {"label": "dark", "confidence": pytest.approx(0.2)}},
    ]
    assert lines(folder, "prediction.errors_stats") == []
    assert emulated.proxy.refused == []


def test_invalid_or_missing_image_costs_only_its_own_prediction(platform: Platform, saved_model: Path) -> None:
    version = upload(platform, saved_model, "hurt")
    images = listed("gs://shop/hurt", bad=b"no image", bright=grey(BRIGHT), gone=b"")
    storage.remove("gs://shop/hurt/gone.png")
    folder = platform.predictor.predict(images, f"{ROOT}/predictions", version)
    errors = {line["instance"]: line["error"] for line in lines(folder, "prediction.errors_stats")}
    assert {instance: error["code"] for instance, error in errors.items()} == {
        "gs://shop/hurt/bad.png": 3,
        "gs://shop/hurt/gone.png": 5,
    }
    assert "Unknown image file format" in errors["gs://shop/hurt/bad.png"]["message"]
    assert [line["instance"] for line in lines(folder, "prediction.results")] == ["gs://shop/hurt/bright.png"]


def test_long_list_is_predicted_completely(platform: Platform, saved_model: Path) -> None:
    version = upload(platform, saved_model, "enduring")
    uri = "gs://shop/enduring/{}.png"
    storage.in_parallel(lambda number: storage.write(uri.format(number), grey(BRIGHT)), range(600))
    storage.write("gs://shop/enduring.txt", "\n".join(map(uri.format, range(600))).encode())
    folder = platform.predictor.predict("gs://shop/enduring.txt", f"{ROOT}/predictions", version)
    predicted = [line["instance"] for line in lines(folder, "prediction.results")]
    assert predicted == [uri.format(number) for number in range(600)]


def test_batch_prediction_without_a_saved_model_fails_with_the_cause(platform: Platform, saved_model: Path) -> None:
    version = upload(platform, saved_model, "lost")
    storage.remove_folder(f"{ROOT}/models/lost")
    images = listed("gs://shop/lost", bright=grey(BRIGHT))
    with pytest.raises(JobFailed, match=f"SavedModel file does not exist at: {ROOT}/models/lost"):
        platform.predictor.predict(images, f"{ROOT}/predictions", version)


def test_invalid_saved_model_fails_and_the_next_one_predicts(platform: Platform, saved_model: Path) -> None:
    broken, whole = upload(platform, None, "broken"), upload(platform, saved_model, "whole")
    images = listed("gs://shop/whole", bright=grey(BRIGHT))
    with pytest.raises(JobFailed, match="Cannot parse file"):
        platform.predictor.predict(images, f"{ROOT}/predictions", broken)
    assert lines(platform.predictor.predict(images, f"{ROOT}/predictions", whole), "prediction.results")


def test_model_that_no_session_can_serve_is_refused(platform: Platform, tmp_path: Path) -> None:
    """A Keras model saved like this loads with tf.saved_model.load alone; model servers cannot find its variables."""
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes: Any) -> dict[str, Any]:
        sizes = tf.cast(tf.strings.length(image_bytes), tf.float32)
        return {"label": tf.as_string(sizes), "confidence": model(sizes[:, tf.newaxis])[:, 0]}

    tf.saved_model.save(model, str(tmp_path), signatures={"serving_default": serve})
    assert "serving_default" in tf.saved_model.load(str(tmp_path)).signatures
    version = upload(platform, tmp_path, "unservable")
    images = listed("gs://shop/unservable", bright=grey(BRIGHT))
    with pytest.raises(JobFailed, match="Could not find variable"):
        platform.predictor.predict(images, f"{ROOT}/predictions", version)


# Endpoints


def test_endpoint_answers_with_the_serving_version(
    platform: Platform, saved_model: Path, saved_models: Callable[[float], Path]
) -> None:
    versions = [upload(platform, saved_model, "strict"), upload(platform, saved_models(10.0), "lenient")]
    for version, label in zip(versions, ("dark", "bright"), strict=True):
        put_in_service(platform.registry, platform.endpoint, platform.registry.find(version), "for a test")
        answer = predict({"image_bytes": {"b64": encoded(grey(DARK))}}, {"b64": encoded(grey(BRIGHT))})
        assert answer["modelVersionId"] == version
        assert [item["label"] for item in answer["predictions"]] == [label, "bright"]
        assert [item["confidence"] for item in answer["predictions"]] == [pytest.approx(0.2), pytest.approx(1)]


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({"image_bytes": {"b64": "no base64"}}, "is not an image"),
        ({"picture": {"b64": ""}}, "is not an image"),
        ("text", "is not an image"),
        ({"b64": "bm8gaW1hZ2U="}, "the model refuses the image: Unknown image file format"),
    ],
)
def test_invalid_image_is_refused_and_the_endpoint_continues(
    platform: Platform, saved_model: Path, instance: Any, message: str
) -> None:
    version = platform.registry.find(upload(platform, saved_model, "serving"))
    put_in_service(platform.registry, platform.endpoint, version, "for a test")
    refusal = answered(instance)
    assert (refusal.status_code, message in refusal.json()["error"]["message"]) == (400, True), refusal.text
    assert predict({"b64": encoded(grey(BRIGHT))})["predictions"][0]["label"] == "bright"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def answered(*instances: Any) -> requests.Response:
    """Return the answer of the endpoint's own address."""
    client = VertexClient(CONFIG)
    endpoint = client.named("endpoints", "shop")
    assert endpoint
    return requests.post(f"{CONFIG.url}/v1/{endpoint['name']}:predict", json={"instances": instances}, timeout=300)


def predict(*instances: Any) -> dict[str, Any]:
    answer = answered(*instances)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


# Pipeline jobs


def test_pipeline_job_is_rehearsed_and_shows_the_states_of_its_tasks(emulated: Cloud, platform: Platform) -> None:
    publish(First=wrote("gs://shop/done", "first"), Last=after("First", wrote("gs://shop/done", "last")))
    job = ended(platform, "evaluation-1")
    assert (job.state, states("evaluation-1")) == (JobState.SUCCEEDED, {"First": "SUCCEEDED", "Last": "SUCCEEDED"})
    assert storage.read("gs://shop/done/last") == b"by shop-evaluation-1"
    assert emulated.proxy.refused == []


def test_failed_job_names_the_task_and_the_end_of_its_log(platform: Platform) -> None:
    publish(
        First=python("print('the disk is full'); raise SystemExit(7)"), Last=after("First", python("print('never')"))
    )
    job = ended(platform, "evaluation-2")
    assert (job.state, states("evaluation-2")) == (JobState.FAILED, {"First": "FAILED", "Last": "NOT_TRIGGERED"})
    assert "First failed after" in job.message
    assert "exit code 7" in job.message
    assert "the disk is full" in job.message


def test_job_of_a_broken_spec_fails_with_the_reason(platform: Platform) -> None:
    publish(First=after("Nobody", python("print('never')")))
    job = ended(platform, "evaluation-3")
    assert (job.state, states("evaluation-3")) == (JobState.FAILED, {"First": "NOT_TRIGGERED"})
    assert "First depends on Nobody, which is not in the pipeline" in job.message


# Beginning and end


def test_environment_is_restored_when_the_context_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "elsewhere")
    before, connection = dict(os.environ), object_store.store("gs")
    cloud = Cloud(tmp_path, "demo", "here", ["b"])
    with pytest.raises(ValueError, match="in the middle"), cloud, cloud.as_client():
        within = object_store.store("gs")
        raise ValueError("in the middle")
    assert dict(os.environ) == before
    assert len({id(connection), id(within), id(object_store.store("gs"))}) == 3  # none is used with others' credentials


def test_cloud_within_another_does_not_see_its_objects(emulated: Cloud, tmp_path: Path) -> None:
    storage.write("gs://shop/object", b"of the outer one")
    with Cloud(tmp_path, "demo", "here", ["shop"]) as inner, inner.as_client():
        assert not storage.exists("gs://shop/object")
    assert storage.read("gs://shop/object") == b"of the outer one"


def test_exception_leaves_no_process_behind(tmp_path: Path, saved_model: Path) -> None:
    before, started = children(), tmp_path / "started"
    cloud = Cloud(tmp_path / "cloud", "demo", "europe-west4", ["shop"])
    with pytest.raises(ValueError, match="in the middle"), cloud, cloud.as_client():
        platform = connect(CONFIG.to_json())
        publish(First=python(f"open({str(started)!r}, 'w'); import time; time.sleep(600)"))
        platform.jobs.create(JobRequest("evaluation-1", "evaluation"))
        version = platform.registry.find(upload(platform, saved_model, "left"))
        put_in_service(platform.registry, platform.endpoint, version, "for a test")
        predict({"b64": encoded(grey(BRIGHT))})
        wait_until(started.exists)
        assert len(children() - before) == 2
        raise ValueError("in the middle")
    assert children() == before


CALLED_ONCE = """
import os, sys
from pathlib import Path
from pipeline.rehearsal.cloud.model_server import ModelServer, ServingFailed
from tests.pipeline.rehearsal.cloud.test_emulated import children
folder = Path(sys.argv[1])
try:
    ModelServer(folder / "log.txt", {}).predict(str(folder / "no model"), [])
except ServingFailed:
    print(*children(), flush=True)
    input()
"""


def test_serving_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CALLED_ONCE, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout
        (serving,) = process.stdout.readline().split()
        assert is_running(int(serving))
        process.kill()
    wait_until(lambda: not is_running(int(serving)))


def python(code: str, *before: str) -> dict[str, Any]:
    """Return a task that runs lines of Python after the tasks `before` have ended."""
    return {"code": code, "before": before}


def after(before: str, task: dict[str, Any]) -> dict[str, Any]:
    return {**task, "before": (before,)}


def wrote(folder: str, name: str) -> dict[str, Any]:
    """Return a task that writes the job's name as TensorFlow does, at Google's own address."""
    return python(
        "import sys, tensorflow as tf\n"
        f"with tf.io.gfile.GFile({folder!r} + '/' + {name!r}, 'w') as file: file.write('by ' + sys.argv[1])"
    )


def publish(**tasks: dict[str, Any]) -> None:
    """Publish a spec of these tasks as the deployment's evaluation."""
    executors = {
        name: {"container": {"image": "none", "command": ["python", "-c", task["code"]], "args": [RUN_NAME]}}
        for name, task in tasks.items()
    }
    spec = {
        "displayName": "evaluation",
        "pipelineSpec": {
            "pipelineInfo": {"name": "shop-evaluation"},
            "schemaVersion": "2.1.0",
            "deploymentSpec": {"executors": executors},
            "components": {name: {"executorLabel": name} for name in tasks},
            "root": {"dag": {"tasks": {name: a_task(name, task["before"]) for name, task in tasks.items()}}},
        },
        "runtimeConfig": {"gcsOutputDirectory": f"{ROOT}/out"},
    }
    storage.write(CONFIG.specs["evaluation"], json.dumps(spec).encode())


def a_task(name: str, before: Sequence[str]) -> dict[str, Any]:
    return {"taskInfo": {"name": name}, "componentRef": {"name": name}, "dependentTasks": list(before)}


def ended(platform: Platform, job_id: str) -> Job:
    """Start a job, wait for its end and return it."""
    platform.jobs.create(JobRequest(job_id, "evaluation"))
    wait_until(lambda: found(platform, job_id).state.ended)
    return found(platform, job_id)


def found(platform: Platform, job_id: str) -> Job:
    job = platform.jobs.get(job_id)
    assert job
    return job


def states(job_id: str) -> dict[str, str]:
    """Return the states of the job's tasks, as Vertex AI reports them."""
    job = VertexClient(CONFIG).get(f"{CONFIG.parent}/pipelineJobs/shop-{job_id}")
    return {task["taskName"]: task["state"] for task in job["jobDetail"]["taskDetails"]}


def children() -> set[int]:
    """Return the running processes that this one has started."""
    found = set()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            if folder.name.isdecimal() and (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(
                os.getpid()
            ):
                found.add(int(folder.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
