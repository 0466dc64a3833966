"""Checks of the state of a workspace: each small file is read once; what is broken can be moved out of the way."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from adaptation import codec, retraining
from adaptation.data import reviews, spans
from adaptation.errors import AdaptationError
from adaptation.evaluation import decisions, log, look_records
from adaptation.evaluation.gate import Comparison
from adaptation.io import storage
from adaptation.platforms.base import Job, JobState
from adaptation.platforms.local import jobs, registry
from adaptation.retraining import TrainingRecord
from adaptation.trigger import TriggerRecord
from pipeline.doctor.checks import Check, Finding, broken, warning
from pipeline.workspace.workspace import Workspace

QUARANTINE = "quarantine"
_SECONDS = 60.0
_SHOWN = 20
_MONTH = "[0-9][0-9][0-9][0-9]-[0-9][0-9]"
_IN_DATA = {**spans.STATE_FILES, "_adopted/*.json": list[str]}
_IN_COLLECTION = {
    "_evaluated/*/*.json": list[storage.File],
    **reviews.STATE_FILES,
    f"{log.FOLDER}/*/*.json": log.Counted,
    f"{log.FOLDER}/*/images/*.json": frozenset[storage.File],
    f"{log.FOLDER}/*/candidates/*/*.json": log.Compared,
    f"{log.FOLDER}/*/candidates/*/images/*.json": frozenset[storage.File],
    f"{decisions.FOLDER}/*.json": decisions.Decided,
    f"{look_records.FOLDER}/*/*.json": look_records.LookRecord,
}
_IN_TRIGGERS = {f"{retraining.FOLDER}/*.json": TrainingRecord, f"{_MONTH}/*.json": TriggerRecord}
_IN_REGISTRY = {**registry.STATE_FILES, "versions/*/pairs.json": Comparison}


class Damage(NamedTuple):
    """A file that cannot be read, and why, as a sentence with a remedy."""

    uri: str
    reason: str


def state_checks(workspace: Workspace) -> list[Check]:
    """Return the checks of the state's files, and of how the last jobs ended."""
    return [
        Check("state", lambda: _state_findings(workspace), _SECONDS),
        Check("the last jobs", lambda: _job_findings(workspace.jobs.list()), _SECONDS),
    ]


def damaged(workspace: Workspace) -> Iterator[Damage]:
    """Read each state file of a workspace, and yield those that cannot be read."""
    settings = workspace.settings
    kinds = {
        settings.data.root: _IN_DATA,
        settings.collection.root: _IN_COLLECTION,
        workspace.triggers: _IN_TRIGGERS,
        workspace.folder("jobs"): jobs.STATE_FILES,
        workspace.folder("registry"): _IN_REGISTRY,
    }
    for root, patterns in kinds.items():
        for pattern, kind in patterns.items():
            for uri in _matching(root, pattern.split("/")):
                yield from _damage(uri, kind)


def quarantine(workspace: Workspace, found: list[Damage]) -> str:
    """Move damaged files below the workspace's `quarantine/`, in folders like those that they were in; delete nothing.

    A version of the model is moved with its folder.

    Returns:
      The folder that they are in now.

    Failure: each file is at its old place or at the new one; repeat it.
    """
    folder = workspace.folder(QUARANTINE, f"{datetime.now(UTC):%Y%m%dT%H%M%S}")
    for damage in found:
        is_version = storage.basename(damage.uri) == registry.VERSION
        source = os.path.dirname(damage.uri) if is_version else damage.uri
        target = Path(folder, os.path.relpath(source, workspace.root).replace("../", ""))
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(source):
            os.rename(source, target)
    return folder


def _state_findings(workspace: Workspace) -> Iterator[Finding]:
    found = list(damaged(workspace))
    yield from (broken(damage.reason) for damage in found[:_SHOWN])
    if len(found) > _SHOWN:
        yield broken(f"{len(found) - _SHOWN} more files cannot be read.")
    if found:
        yield warning('if there is no copy of them, "adapt doctor --repair" moves such files away, after asking')


def _job_findings(found: Iterable[Job]) -> Iterator[Finding]:
    """Warn of the pipelines whose newest job has failed."""
    newest = {job.pipeline: job for job in found}
    for job in newest.values():
        if job.state is JobState.FAILED:
            yield warning(f"{job.id} has failed: {job.message}. See {job.link}.")


def _damage(uri: str, kind: Any) -> Iterator[Damage]:
    try:
        if kind is spans.Manifest:
            spans.Manifest.from_json(storage.read(uri), uri)
        else:
            codec.read(uri, kind)
    except FileNotFoundError:  # it was moved meanwhile
        return
    except AdaptationError as error:
        yield Damage(uri, str(error))
    except OSError as error:
        yield Damage(uri, f"{uri} cannot be read: {error.strerror or error}.")


def _matching(root: str, parts: list[str]) -> Iterator[str]:
    """Yield the files that a pattern names below a root; only the folders on the way are listed."""
    first, *rest = parts
    if not rest:
        names = [file.name for file in storage.files(root)]
        return (storage.join(root, name) for name in names if fnmatchcase(name, first))
    names = storage.folders(root) if any(character in first for character in "*[") else [first]
    below = (storage.join(root, name) for name in names if fnmatchcase(name, first))
    return chain.from_iterable(_matching(folder, rest) for folder in below)
