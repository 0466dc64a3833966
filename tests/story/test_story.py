"""The whole story over the wire: real clients, Google's own addresses, and nothing outside this machine.

A first model is trained and deployed. A batch of images from a changed camera arrives in a bucket, and all else
follows by itself: the storage event, the function, the evaluation, the new span, the training, the new version. Each
fixture takes one more step and returns the state after it.
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
from adaptation.evaluation.gate import Comparison
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
    "collection.min_images": len(DRIFTED),  # so that the last image of the batch starts its evaluation
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
    """The version that the endpoint answered with, and its share of right answers."""

    version: int
    right: float


@dataclass(frozen=True)
class Facts:
    """The state after a step.

    Attributes:
      jobs: All pipeline jobs, oldest first.
      manifests: The manifests of all spans, each verified.
      versions: Numbers of the model's versions.
      champion: The version that has the alias.
      serving: The versions that the endpoint serves.
      images: Number of images in the batch.
      archived: Number of images moved out of the batch.
      answers: The endpoint's answers to the newest span's held-out images.
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
    """The images of the batch by name."""
    folder = tmp_path_factory.mktemp("drifted")
    write_digits(folder, DRIFTED, changed_camera)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def first(emulated: Cloud, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Make span-1 in a bucket, publish both pipelines, train a first model."""
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
    """The batch arrives. From here on all follows by itself: first the evaluation."""
    del function
    upload(drifted_images)
    emulated.objects.events.wait(900)
    await_jobs(folder, EVALUATION)
    return facts(folder)


@pytest.fixture(scope="module")
def adapted(folder: Path, evaluated: Facts) -> Facts:
    """Then the training."""
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


def test_first_model_is_version_1_and_the_endpoint_answers_with_it(first: Facts) -> None:
    assert [(job.pipeline, job.state) for job in first.jobs] == [("training", JobState.SUCCEEDED)]
    assert [manifest.images for manifest in first.manifests] == [len(FIRST)]
    assert (first.versions, first.champion.number, first.serving) == ((1,), 1, (1,))
    assert first.answers.version == 1
    assert first.answers.right >= 0.9


def test_evaluation_started_by_the_function_is_below_the_threshold(evaluated: Facts, folder: Path) -> None:
    evaluation = evaluated.jobs[1]
    assert (evaluation.id, evaluation.state) == ("evaluation-2021-10-0001", JobState.SUCCEEDED), evaluation.message
    measured = codec.decode(newest(Workspace.open(folder), EVALUATION, artifacts.EVALUATION), Evaluation, "newest")
    assert (measured.batch, measured.images) == (str(MONTH), len(DRIFTED))
    assert measured.accuracy is not None
    assert measured.accuracy < 0.9


def test_drifted_batch_becomes_span_2(evaluated: Facts, folder: Path, drifted_images: dict[str, bytes]) -> None:
    assert [manifest.span for manifest in evaluated.manifests] == [1, 2]
    span = images_of(Workspace.open(folder), evaluated.manifests[1])
    assert {image.name: image.data for image in span} == drifted_images


def test_version_1_serves_until_a_better_one_is_deployed(evaluated: Facts) -> None:
    assert (evaluated.versions, evaluated.serving, evaluated.answers.version) == ((1,), (1,), 1)
    assert evaluated.answers.right < 0.8


def test_drifted_batch_is_archived_after_the_training(adapted: Facts) -> None:
    assert (adapted.images, adapted.archived) == (0, len(DRIFTED))


def test_challenger_of_the_evaluation_meets_the_champion_at_the_gate(
    adapted: Facts, first: Facts, folder: Path
) -> None:
    training = adapted.jobs[2]
    assert training.id.startswith("training-span-2-")
    assert training.state is JobState.SUCCEEDED, training.message
    pairs = codec.decode(newest(Workspace.open(folder), TRAINING, artifacts.PAIRS), Comparison, "newest")
    assert (pairs.champion, set(pairs.by_span)) == (1, {1, 2})
    on_first = pairs.by_span[1]
    assert on_first.champion / on_first.images == pytest.approx(first.champion.metrics["span-1"])


def test_version_2_serves_alone_and_is_right_about_the_changed_camera(adapted: Facts) -> None:
    assert (adapted.versions, adapted.champion.number, adapted.serving) == ((1, 2), 2, (2,))
    assert adapted.champion.spans == (1, 2)
    assert adapted.answers.version == 2
    assert adapted.answers.right >= 0.8


def test_doubled_events_start_one_evaluation_and_one_training(emulated: Cloud, adapted: Facts) -> None:
    assert [job.pipeline for job in adapted.jobs] == [TRAINING, EVALUATION, TRAINING]
    assert emulated.objects.events.failed == []


def test_repeated_images_start_nothing(emulated: Cloud, adapted: Facts, again: Facts) -> None:
    assert (again.jobs, again.versions, again.serving) == (adapted.jobs, adapted.versions, adapted.serving)
    assert again.images == len(DRIFTED)
    assert emulated.objects.events.failed == []


def test_story_contacts_nothing_outside_the_loopback_interface(emulated: Cloud, again: Facts, attempts: Path) -> None:
    del again
    assert attempts.read_text() == ""
    assert emulated.proxy.refused == []


def adapt(folder: Path, *arguments: str) -> None:
    """Run a command in the workspace, in another process whose environment is that of a client of the cloud."""
    command = [ADAPT, *arguments, "--workspace", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def facts(folder: Path) -> Facts:
    """Return the state as a new process sees it."""
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
    """Wait until all started jobs of a pipeline have ended."""
    jobs = Workspace.open(folder).jobs
    wait_until(lambda: all(job.state.ended for job in jobs.list() if job.pipeline == pipeline), 1800)


def ask(images: Sequence[Held]) -> Answers:
    """Return the endpoint's answers to images with known labels, requested through the SDK."""
    aiplatform.init(project=PROJECT, location=LOCATION, api_transport="rest", credentials=AnonymousCredentials())
    (endpoint,) = aiplatform.Endpoint.list(filter='display_name="story"')
    instances = [{"image_bytes": {"b64": base64.b64encode(image.data).decode()}} for image in images]
    answer = endpoint.predict(instances=instances)
    labels = [prediction["label"] for prediction in answer.predictions]
    right = sum(label == image.label for label, image in zip(labels, images, strict=True))
    return Answers(int(answer.model_version_id), right / len(images))


def images_of(workspace: Workspace, manifest: Manifest) -> Iterator[Held]:
    for shard in manifest.shards:
        uri = workspace.spans.shard_uri(Span(manifest.span), shard)
        for record in map(LabelledImage.parse, unframe(storage.read(uri), uri)):
            yield Held(record.id, shard.split, manifest.labels[record.label], record.image)


def newest(workspace: Workspace, pipeline: str, name: str) -> bytes:
    """Return the file of that name that a job of the pipeline wrote last."""
    folder = workspace.folder("pipelines", pipeline)
    found = [file.name for file in storage.files_below(folder) if storage.basename(file.name) == name]
    return storage.read(storage.join(folder, found[-1]))


def upload(images: Mapping[str, bytes]) -> None:
    """Put images into the batch as a collecting camera does."""
    bucket = google_storage.Client(PROJECT, AnonymousCredentials()).bucket("story-collection")
    for name, data in images.items():
        bucket.blob(f"months/{MONTH}/{name}").upload_from_string(data, "image/png")


def answers_at(port: int) -> bool:
    """Return whether anything listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
