"""The whole story over the wire: real clients, Google's own addresses, and nothing outside this machine.

A first model is trained and deployed. A month of images from a changed camera arrives in a bucket, and all that follows
follows by itself: the storage event, the function, the evaluation, the new span, the training, the new version. Each
fixture goes one step further and hands on what was there afterwards.
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud import storage as google_storage

from adaptation import codec
from adaptation.data.batches import Batch
from adaptation.data.spans import Manifest, Span
from adaptation.data.tfrecords import LabelledImage, unframe
from adaptation.evaluation.accuracy import Evaluation
from adaptation.evaluation.gate import Verdict
from adaptation.io import storage
from adaptation.platforms.base import Job, JobState, ModelVersion
from adaptation.retraining import TRAINING
from adaptation.trigger import EVALUATION
from components import artifacts
from emulators.http_server import HOST
from pipeline.rehearsal.cloud.emulated import Cloud
from pipeline.workspace.digit_images import changed_camera, write_digits
from pipeline.workspace.settings_file import write_settings
from pipeline.workspace.workspace import Workspace
from tests.story.conftest import LOCATION, PROJECT
from tests.worlds.processes import free_port, wait_until

ADAPT = str(Path(sys.executable).with_name("adapt"))
MONTH = Batch(2021, 10)
FIRST, DRIFTED = range(900), range(900, 1300)
SETTINGS = {
    "name": "story",
    "platform.kind": "vertex",
    "data.root": "gs://story-data/spans",
    "collection.root": "gs://story-collection/months",
    "collection.min_images": len(DRIFTED),  # so that the last image of the month is the one that starts its evaluation
    "vertex.project": PROJECT,
    "vertex.location": LOCATION,
    "vertex.root": "gs://story-pipelines/adaptation",
    "vertex.image": "registry.example/story",
    "vertex.retries.poll_interval": 0.5,
}


@dataclass(frozen=True)
class Held:
    """An image in a span."""

    name: str
    split: str
    label: str
    data: bytes


@dataclass(frozen=True)
class Answers:
    """Which version the endpoint answered with, and its share of right answers."""

    version: int
    right: float


@dataclass(frozen=True)
class Facts:
    """What is there after a step.

    Attributes:
      jobs: All pipeline jobs, oldest first.
      manifests: Of all spans, each verified.
      versions: Numbers of the model's versions.
      champion: The one in service.
      serving: The versions that the endpoint serves.
      images: How many the month has.
      archived: How many were moved out of it.
      answers: What the endpoint said of the newest span's held-out images.
    """

    jobs: tuple[Job, ...]
    manifests: tuple[Manifest, ...]
    versions: tuple[int, ...]
    champion: ModelVersion
    serving: tuple[int, ...]
    images: int
    archived: int
    answers: Answers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace's folder: a settings file, and nothing else."""
    folder = tmp_path_factory.mktemp("workspace")
    write_settings(folder / "adapt.toml", [str(digit) for digit in range(10)], SETTINGS)
    return folder


@pytest.fixture(scope="module")
def drifted_images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The month, by name."""
    folder = tmp_path_factory.mktemp("drifted")
    write_digits(folder, DRIFTED, changed_camera)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def first(emulated: Cloud, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Span-1 is made in a bucket, both pipelines are published, a first model is trained."""
    images = tmp_path_factory.mktemp("first")
    write_digits(images, FIRST)
    adapt(folder, "init", "--images", str(images))
    adapt(folder, "publish")
    adapt(folder, "train")
    return facts(folder)


@pytest.fixture(scope="module")
def function(emulated: Cloud, folder: Path, first: Facts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Cloud Function, to which object storage sends each event twice; its log."""
    del first
    workspace = Workspace.open(folder)
    source = Path(__file__).parents[2] / "cloud_function" / "main.py"
    log = tmp_path_factory.mktemp("function") / "log.txt"
    port = free_port()
    command = [sys.executable, "-m", "functions_framework", "--target", "on_event", "--signature-type", "cloudevent"]
    environment = {
        "COLLECTION_ROOT": workspace.batches.root,
        "RECORDS_ROOT": workspace.triggers,
        "MIN_IMAGES": str(len(DRIFTED)),
        "PLATFORM": workspace.config.to_json(),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--source", str(source), "--host", HOST, "--port", str(port)],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: process.poll() is not None or answers_at(port), 300)
        assert process.poll() is None, log.read_text()
        emulated.objects.subscribe(f"http://{HOST}:{port}/", copies=2)
        yield log
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it has workers
        process.wait(60)


@pytest.fixture(scope="module")
def evaluated(emulated: Cloud, folder: Path, function: Path, drifted_images: dict[str, bytes]) -> Facts:
    """The month arrives. From here on all comes by itself: first its evaluation."""
    del function
    upload(drifted_images)
    emulated.objects.events.wait(900)
    await_jobs(folder, EVALUATION)
    return facts(folder)


@pytest.fixture(scope="module")
def adapted(folder: Path, evaluated: Facts) -> Facts:
    """And then the training."""
    del evaluated
    await_jobs(folder, TRAINING)
    return facts(folder)


@pytest.fixture(scope="module")
def again(emulated: Cloud, folder: Path, adapted: Facts, drifted_images: dict[str, bytes]) -> Facts:
    """The same images arrive once more, and with them their events."""
    del adapted
    upload(drifted_images)
    emulated.objects.events.wait(900)
    return facts(folder)


def test_the_first_model_is_version_1_and_the_endpoint_answers_with_it(first: Facts) -> None:
    assert [(job.pipeline, job.state) for job in first.jobs] == [("training", JobState.SUCCEEDED)]
    assert [manifest.images for manifest in first.manifests] == [len(FIRST)]
    assert (first.versions, first.champion.number, first.serving) == ((1,), 1, (1,))
    assert first.answers.version == 1
    assert first.answers.right >= 0.9


def test_the_evaluation_that_the_function_started_found_the_model_wanting(evaluated: Facts, folder: Path) -> None:
    evaluation = evaluated.jobs[1]
    assert (evaluation.id, evaluation.state) == ("evaluation-2021-10-0001", JobState.SUCCEEDED), evaluation.message
    measured = codec.decode(newest(Workspace.open(folder), EVALUATION, artifacts.EVALUATION), Evaluation, "newest")
    assert (measured.batch, measured.images) == (str(MONTH), len(DRIFTED))
    assert measured.accuracy is not None
    assert measured.accuracy < 0.9


def test_the_month_has_become_span_2(evaluated: Facts, folder: Path, drifted_images: dict[str, bytes]) -> None:
    assert [manifest.span for manifest in evaluated.manifests] == [1, 2]
    span = images_of(Workspace.open(folder), evaluated.manifests[1])
    assert {image.name: image.data for image in span} == drifted_images


def test_version_1_serves_on_until_there_is_a_better_one(evaluated: Facts) -> None:
    assert (evaluated.versions, evaluated.serving, evaluated.answers.version) == ((1,), (1,), 1)
    assert evaluated.answers.right < 0.8


def test_the_month_is_archived_once_it_has_been_learnt(adapted: Facts) -> None:
    assert (adapted.images, adapted.archived) == (0, len(DRIFTED))


def test_the_training_that_the_evaluation_started_met_the_champion_at_the_gate(
    adapted: Facts, first: Facts, folder: Path
) -> None:
    training = adapted.jobs[2]
    assert training.id.startswith("training-span-2-")
    assert training.state is JobState.SUCCEEDED, training.message
    verdict = codec.decode(newest(Workspace.open(folder), TRAINING, artifacts.VERDICT), Verdict, "newest")
    assert set(verdict.challenger) == set(verdict.champion) == {1, 2}
    assert verdict.champion[1].accuracy == pytest.approx(first.champion.metrics["span-1"])


def test_version_2_serves_alone_and_is_right_about_the_changed_camera(adapted: Facts) -> None:
    assert (adapted.versions, adapted.champion.number, adapted.serving) == ((1, 2), 2, (2,))
    assert adapted.champion.spans == (1, 2)
    assert adapted.answers.version == 2
    assert adapted.answers.right >= 0.8


def test_each_event_came_twice_and_started_one_evaluation_with_one_training(emulated: Cloud, adapted: Facts) -> None:
    assert [job.pipeline for job in adapted.jobs] == [TRAINING, EVALUATION, TRAINING]
    assert emulated.objects.events.failed == []


def test_the_same_images_again_start_nothing(emulated: Cloud, adapted: Facts, again: Facts) -> None:
    assert (again.jobs, again.versions, again.serving) == (adapted.jobs, adapted.versions, adapted.serving)
    assert again.images == len(DRIFTED)
    assert emulated.objects.events.failed == []


def test_nothing_outside_the_loopback_interface_was_asked_for(emulated: Cloud, again: Facts, attempts: Path) -> None:
    del again
    assert attempts.read_text() == ""
    assert emulated.proxy.refused == []


def adapt(folder: Path, *arguments: str) -> None:
    """Runs a command in the workspace, in a process of its own; its environment is that of a client of the cloud."""
    command = [ADAPT, *arguments, "--workspace", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def facts(folder: Path) -> Facts:
    """Looks around, as a new process would."""
    workspace = Workspace.open(folder)
    platform, manifests = workspace.platform, [workspace.spans.verify(span) for span in workspace.spans.spans()]
    return Facts(
        jobs=tuple(workspace.jobs.list()),
        manifests=tuple(manifests),
        versions=tuple(version.number for version in platform.registry.versions()),
        champion=platform.registry.find(),
        serving=tuple(platform.endpoint.serving()),
        images=len(workspace.batches.images(MONTH)),
        archived=len(workspace.batches.archived(MONTH)),
        answers=ask([image for image in images_of(workspace, manifests[-1]) if image.split == "test"]),
    )


def await_jobs(folder: Path, pipeline: str) -> None:
    """Waits until those of a pipeline that have been started have ended."""
    jobs = Workspace.open(folder).jobs
    wait_until(lambda: all(job.state.ended for job in jobs.list() if job.pipeline == pipeline), 1800)


def ask(images: Sequence[Held]) -> Answers:
    """What the endpoint says of images whose labels are known, asked as the SDK's users ask."""
    aiplatform.init(project=PROJECT, location=LOCATION, api_transport="rest", credentials=AnonymousCredentials())
    (endpoint,) = aiplatform.Endpoint.list(filter='display_name="story"')
    instances = [{"image_bytes": {"b64": base64.b64encode(image.data).decode()}} for image in images]
    answer = endpoint.predict(instances=instances)
    said = [prediction["label"] for prediction in answer.predictions]
    right = sum(label == image.label for label, image in zip(said, images, strict=True))
    return Answers(int(answer.model_version_id), right / len(images))


def images_of(workspace: Workspace, manifest: Manifest) -> Iterator[Held]:
    for shard in manifest.shards:
        uri = workspace.spans.shard_uri(Span(manifest.span), shard)
        for record in map(LabelledImage.parse, unframe(storage.read(uri), uri)):
            yield Held(record.id, shard.split, manifest.labels[record.label], record.image)


def newest(workspace: Workspace, pipeline: str, name: str) -> bytes:
    """The file of that name which a run of the pipeline wrote last."""
    folder = workspace.folder("pipelines", pipeline)
    found = [file.name for file in storage.files_below(folder) if storage.basename(file.name) == name]
    return storage.read(storage.join(folder, found[-1]))


def upload(images: Mapping[str, bytes]) -> None:
    """Puts images into the month, as whoever collects them does."""
    bucket = google_storage.Client(PROJECT, AnonymousCredentials()).bucket("story-collection")
    for name, data in images.items():
        bucket.blob(f"months/{MONTH}/{name}").upload_from_string(data, "image/png")


def answers_at(port: int) -> bool:
    """Whether anything listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
