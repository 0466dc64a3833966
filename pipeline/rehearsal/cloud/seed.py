"""The start of a rehearsal in the emulated cloud: a deployment's buckets, filled from a workspace of this machine.

The local workspace is only read: its spans, batches, table of labels and champion are copied. The deployment is that of
the settings or, for a local workspace, one with the same settings and its own bucket.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adaptation.io import storage
from adaptation.platforms.base import ModelVersion, Upload
from adaptation.platforms.rollout import put_in_service
from adaptation.platforms.vertex.config import VERTEX, Retries, VertexSettings
from pipeline.compiled.publication import publish
from pipeline.rehearsal import Place
from pipeline.rehearsal.cloud.emulated import Cloud
from pipeline.workspace.settings import Section, Settings
from pipeline.workspace.vertex_settings import PIPELINES
from pipeline.workspace.workspace import Workspace

BUCKET = PROJECT = IMAGE = "rehearsal"
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Emulated:
    """A deployment in the emulated cloud.

    Attributes:
      workspace: Its workspace.
      place: Where its pipelines are rehearsed.
      refused: The refused requests so far, which were for other hosts.
    """

    workspace: Workspace
    place: Place
    refused: Sequence[str]


@contextmanager
def emulated(workspace: Workspace, source: Workspace, folder: Path, parallel: int = 2) -> Iterator[Emulated]:
    """Start the cloud with a deployment in it; this process is a client of it while the context lasts.

    Args:
      workspace: The deployment's, or a local one.
      source: A local workspace; the deployment starts with its content, and with both pipelines published.
      folder: Folder of this machine for logs and the record of runs; a new one, like the cloud.
      parallel: How many tasks of a pipeline run at the same time.
    """
    target = Workspace(in_cloud(workspace.settings))
    vertex = target.settings.vertex
    cloud = Cloud(folder, vertex.project, vertex.location, _buckets(target.settings), parallel=parallel)
    with cloud, cloud.as_client():
        place = Place(folder, environment=cloud.environment, parallel=parallel)
        seed(source, target)
        _publish(target.settings)
        yield Emulated(target, place, cloud.proxy.refused)


def in_cloud(settings: Settings) -> Settings:
    """Return the settings of a deployment on Google Cloud at Google's own addresses; a local one gets a bucket."""
    if settings.target.remote:
        vertex = replace(settings.vertex, api_endpoint="", credentials="default")
        return settings.model_copy(update={"vertex": vertex})
    root, file = f"gs://{BUCKET}", settings.labels.file
    return settings.model_copy(
        update={
            "data": _changed(settings.data, root=storage.join(root, "data")),
            "collection": _changed(settings.collection, root=storage.join(root, "collection")),
            "labels": _changed(settings.labels, file=storage.join(root, storage.basename(file)) if file else ""),
            "platform": _changed(settings.platform, kind=VERTEX),
            "vertex": VertexSettings(
                project=PROJECT,
                root=storage.join(root, "adaptation"),
                image=IMAGE,
                retries=Retries(poll_interval=POLL_SECONDS),
            ),
        }
    )


def seed(source: Workspace, target: Workspace) -> None:
    """Copy spans, batches and the table of labels; register the champion and serve it.

    Args:
      source: A local workspace.
      target: A deployment in the emulated cloud, of which this process is a client.
    """
    _copy_folder(source.settings.data.root, target.settings.data.root)
    _copy_folder(source.settings.collection.root, target.settings.collection.root)
    if source.settings.labels.file:
        storage.write(target.settings.labels.file, storage.read(source.settings.labels.file))
    if champion := source.platform.registry.champion():
        _serve(champion, target)


def _serve(champion: ModelVersion, target: Workspace) -> None:
    model, platform = storage.join(target.root, "seed", "model"), target.platform
    _copy_folder(champion.uri, model)
    upload = Upload(model, champion.key, champion.spans, champion.metrics, champion.source, champion.run)
    put_in_service(platform.registry, platform.endpoint, platform.registry.upload(upload), "the rehearsal's champion")


def _publish(settings: Settings) -> None:
    from pipeline.compiled.compilation import compile_pipeline

    for name in PIPELINES:
        publish(settings, name, compile_pipeline(settings, name))


def _buckets(settings: Settings) -> set[str]:
    places = (settings.data.root, settings.collection.root, settings.labels.file, settings.vertex.root)
    return {place.split("/")[2] for place in places if place.startswith("gs://")}


def _changed(section: Section, **values: Any) -> Section:
    return section.model_copy(update=values)


def _copy_folder(source: str, target: str) -> None:
    def copy(file: storage.File) -> None:
        storage.write(storage.join(target, file.name), storage.read(storage.join(source, file.name)))

    storage.in_parallel(copy, storage.files_below(source))
