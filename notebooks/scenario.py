"""What the notebooks share: the scans and the batches, and the steps that all of them need.

Everything is in the folder `workspace` beside the notebooks. A step of an earlier notebook is not repeated, so each
notebook runs from an empty folder, and after any other. `pictures` draws the pictures.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from adaptation.data.batches import Batch, Snapshot
from adaptation.data.labels import Labels
from adaptation.errors import AlreadyExists
from adaptation.platforms.base import Job, JobFailed, JobState, ModelVersion
from pipeline.jobs import start_training
from pipeline.report.content import Picture
from pipeline.report.thumbnails import collected
from pipeline.workspace.digit_images import COUNT, Camera, changed_camera, first_camera, write_digits
from pipeline.workspace.initialise import initialise
from pipeline.workspace.settings_file import locate_settings, write_settings
from pipeline.workspace.workspace import Workspace

WORKSPACE = Path("workspace")
IMAGES = WORKSPACE / "images"
CLOUD = WORKSPACE / "cloud.toml"
OVERRIDES = {"gate.floor": 0.9}
CLOUD_OVERRIDES = {
    "data.root": "gs://shop/data",
    "collection.root": "gs://shop/collection",
    "platform.kind": "vertex",
    "vertex.project": "shop",
    "vertex.root": "gs://shop/adaptation",
    "vertex.image": "us-docker.pkg.dev/shop/images/adaptation:1",
    "vertex.service_account": "pipelines@shop.iam.gserviceaccount.com",
}
SAMPLE = 24
_RARELY = 25
_ORDER = tuple(int(index) for index in np.random.default_rng(0).permutation(COUNT))


class CommandFailed(RuntimeError):
    """A command that ended with another exit code than 0."""


@dataclass(frozen=True)
class Month:
    """A batch of images: which of the scans arrive in it, and the camera that they come from."""

    batch: Batch
    scans: tuple[int, ...]
    camera: Camera


def second_camera_on_trial(scan: Image.Image, index: int) -> Image.Image:
    """Return the first camera's image, for every 25th scan the changed camera's."""
    camera = first_camera if index % _RARELY else changed_camera
    return camera(scan, index)


FIRST_SCANS = _ORDER[:800]
AUGUST = Month(Batch(2021, 8), _ORDER[800:1000], second_camera_on_trial)
SEPTEMBER = Month(Batch(2021, 9), _ORDER[1000:1150], first_camera)
OCTOBER = Month(Batch(2021, 10), _ORDER[1150:1550], changed_camera)
NOVEMBER = Month(Batch(2021, 11), _ORDER[1550:], changed_camera)


def first_span() -> Workspace:
    """Return the workspace, with at least span-1: 800 scans by the first camera."""
    if locate_settings(WORKSPACE).exists() and (workspace := Workspace.open(WORKSPACE)).spans.spans():
        return workspace
    write_digits(IMAGES, FIRST_SCANS)
    return initialise(WORKSPACE, IMAGES, overrides=OVERRIDES)[0]


def champion(workspace: Workspace) -> ModelVersion:
    """Return the serving version; train one if there is none."""
    registry = workspace.platform.registry
    if registry.champion() is None:
        follow(workspace, start_training(workspace).id)
    return registry.find()


def arrive(workspace: Workspace, month: Month, count: int | None = None) -> Snapshot:
    """Collect the first `count` images of a batch, or all of them; skip a batch that is archived.

    Returns:
      The batch's images, collected or archived.
    """
    batches, folder = workspace.batches, workspace.batches.folder(month.batch)
    if not batches.archived(month.batch):
        write_digits(Path(folder), month.scans[:count], month.camera)
    return Snapshot(str(month.batch), folder, batches.images(month.batch) or batches.archived(month.batch))


def sample(snapshot: Snapshot, labels: Labels) -> list[Picture]:
    """Return some of the images, evenly over their names and so over their classes."""
    names = snapshot.names[:: max(1, len(snapshot.names) // SAMPLE)][:SAMPLE]
    found = (collected(snapshot, name, labels.of(name)) for name in names)
    return [picture for picture in found if picture]


def follow(workspace: Workspace, job_id: str) -> Job:
    """Print a job's progress from its first message until it has ended.

    Raises:
      JobFailed: It failed.
    """
    for message in workspace.jobs.follow(job_id):
        print(message, flush=True)
    job = workspace.jobs.get(job_id)
    if job is None or job.state is JobState.FAILED:
        raise JobFailed(f"{job_id} failed: {job.message if job else 'no record of it'}")
    return job


def adapt(command: str) -> str:
    """Return what an `adapt` command prints, run as in a terminal.

    Raises:
      CommandFailed: Its exit code was not 0.
    """
    program = Path(sys.executable).with_name("adapt")
    environment = {**os.environ, "FORCE_COLOR": ""}  # a kernel sets it, for colour codes
    done = subprocess.run([program, *shlex.split(command)], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise CommandFailed(f"adapt {command} ended with exit code {done.returncode}:\n{done.stderr}")
    return done.stdout


def cloud_settings(workspace: Workspace) -> Path:
    """Write a settings file for Google Cloud in the workspace: the same classes, and the folders in a bucket."""
    try:
        return write_settings(CLOUD, workspace.settings.labels.names, CLOUD_OVERRIDES)
    except AlreadyExists:
        return CLOUD
