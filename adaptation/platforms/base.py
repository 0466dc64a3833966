"""The four things that a platform does for the pipelines: Jobs, Predictor, Registry, Endpoint.

Only values and protocols live here. `local` implements them with folders and this machine's processes, `vertex` with
Vertex AI.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from adaptation.errors import AdaptationError
from adaptation.evaluation.mix import Recall
from adaptation.io import storage

CHAMPION = "champion"
SAVED_MODEL = "saved_model.pb"  # that marks a folder as a SavedModel


class InvalidJob(AdaptationError, ValueError):
    """A job that cannot be created: its id, its pipeline or its parameters."""


class NoSuchJob(AdaptationError, LookupError):
    """An id under which no job was created."""


class JobFailed(AdaptationError, RuntimeError):
    """A job that could not be started, or did not get to its end."""


class NoSuchModel(AdaptationError, LookupError):
    """A model or a version that is not in the registry."""


class JobState(StrEnum):
    """The state of a job. PENDING: recorded, and not known to run."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        """Return True if the job will never change again."""
        return self in (JobState.SUCCEEDED, JobState.FAILED)


@dataclass(frozen=True)
class JobRequest:
    """A pipeline run to start. `id` names it for ever: the same id is the same job, however often it is created."""

    id: str
    pipeline: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A job as it stands. `link` is where a person looks (a log file, a console page), `result` what it concluded.

    `created` and `ended` are ISO 8601, UTC; `ended` is empty until it has, and where nobody saw its end.
    """

    id: str
    pipeline: str
    parameters: Mapping[str, str]
    state: JobState
    message: str
    link: str
    result: Mapping[str, Any]
    created: str = ""
    ended: str = ""


@dataclass(frozen=True)
class ModelVersion:
    """An immutable version in the registry.

    Attributes:
      number: 1, 2, 3 ...
      uri: Folder of the SavedModel.
      key: What the version was made from; uploading the same key again returns the same version.
      spans: Numbers of the spans that it was trained on.
      metrics: Accuracy by span, e.g. {"span-1": 0.98}, and further metrics on all test images by their names.
      source: URI of the model in the pipeline run that made it.
      run: Name of the pipeline run that made it.
      created: ISO 8601, UTC.
      code: Version of the code that made it; empty if unknown.
      champion: Number of the version that it was compared with, 0 if there was none; None if unknown.
      recalls: What it predicted correctly on the test splits of its spans, by class; empty if unknown.
      comparison: URI of the file with the counts that its verdict rests on, an `adaptation.evaluation.gate.Comparison`;
        empty if there is none.
      reference: URI of the file with what it predicts on its test splits, an `adaptation.evaluation.look.Reference`;
        likewise.
    """

    number: int
    uri: str
    key: str
    spans: tuple[int, ...]
    metrics: Mapping[str, float]
    source: str
    run: str
    created: str
    code: str = ""
    champion: int | None = None
    recalls: Mapping[str, Recall] = field(default_factory=dict)
    comparison: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Promotion:
    """A version that became the champion.

    Attributes:
      version: Its number.
      reason: Why.
      time: ISO 8601, UTC; empty if unknown.
      number: 1, 2, 3 ... in the order of the promotions; a promotion never changes its number.
    """

    version: int
    reason: str
    time: str
    number: int = 0


class Standing(StrEnum):
    """What was decided about a version that is not the champion. A promotion ends every standing of its version."""

    CANDIDATE = "candidate"  # undecided: it is compared with the champion on further labelled images
    WAITING = "waiting for approval"
    REFUSED = "refused"
    DROPPED = "dropped"
    REJECTED = "rejected"


@dataclass(frozen=True)
class StandingRecord:
    """One decision about a version.

    Attributes:
      version: The version's number.
      standing: What it is from now on.
      reason: Why, in a sentence.
      time: ISO 8601, UTC.
      promotions: Number of the last promotion before it, 0 if there was none: the order that clocks cannot change.
    """

    version: int
    standing: Standing
    reason: str
    time: str
    promotions: int = 0


@dataclass(frozen=True)
class Upload:
    """A model to register: `model` is the folder of its SavedModel; the other fields become those of `ModelVersion`."""

    model: str
    key: str
    spans: tuple[int, ...]
    metrics: Mapping[str, float]
    source: str
    run: str
    code: str = ""
    champion: int | None = None
    recalls: Mapping[str, Recall] = field(default_factory=dict)
    comparison: str = ""
    reference: str = ""


class Jobs(Protocol):
    """Pipeline runs."""

    def create(self, request: JobRequest) -> Job:
        """Starts the job once; a job of that id that is there already is returned as it stands."""

    def get(self, job_id: str) -> Job | None:
        """Return the job, or None if none of that id was created."""

    def follow(self, job_id: str) -> Iterator[str]:
        """Yield the job's messages from the first on, until it has ended; LookupError if there is no such job."""

    def list(self) -> Sequence[Job]:
        """Return all jobs, oldest first."""


class Predictor(Protocol):
    """Batch prediction."""

    def predict(self, file_list: str, output: str, model: str = CHAMPION) -> str:
        """Predicts the images named in a file list.

        Args:
          file_list: URI of a text file, one image URI a line.
          output: Folder under which a `prediction-<model>-<timestamp>` folder is made.
          model: `champion` or a version number.

        Returns:
          The folder with the results, in Vertex AI's layout.
        """


class Registry(Protocol):
    """One model's versions, one of which is the champion."""

    def upload(self, upload: Upload) -> ModelVersion:
        """Make a new version; repeated with the same key, return the existing version."""

    def versions(self) -> Sequence[ModelVersion]:
        """Return all versions, oldest first."""

    def find(self, model: str = CHAMPION) -> ModelVersion:
        """Return the version that `champion` or a number names; LookupError if there is none."""

    def champion(self) -> ModelVersion | None:
        """Return the serving version, or None before the first."""

    def promote(self, version: ModelVersion, reason: str) -> None:
        """Make the version the champion; do nothing if it is."""

    def promotions(self) -> Sequence[Promotion]:
        """Return the promotions, the first first; going back to an earlier version counts as well."""

    def predecessor(self) -> ModelVersion:
        """Return the champion before the serving version; LookupError if there was none."""

    def mark(self, version: ModelVersion, standing: Standing, reason: str) -> None:
        """Record the standing of a version; does nothing if that is its standing already, or if it is the champion.

        There is one candidate: marking one as such marks an earlier one as dropped.
        """

    def standings(self) -> Sequence[StandingRecord]:
        """Return all standings that were recorded, the newest last; see `current_standings` for those that hold."""

    def candidate(self) -> ModelVersion | None:
        """Return the newest version whose standing is `candidate`, or None."""


class Endpoint(Protocol):
    """The endpoint that serves the champion."""

    def deploy(self, version: ModelVersion) -> None:
        """Serves this version, and no other once it serves; repeating it is safe."""

    def serving(self) -> Sequence[int]:
        """Return the numbers of the versions that are being served."""


@dataclass(frozen=True)
class Platform:
    """The four together."""

    jobs: Jobs
    predictor: Predictor
    registry: Registry
    endpoint: Endpoint


def check_saved_model(folder: str) -> None:
    """Check that a folder holds a SavedModel.

    Raises:
      NoSuchModel: It does not.
    """
    if not storage.exists(storage.join(folder, SAVED_MODEL)):
        raise NoSuchModel(f"{folder} holds no SavedModel ({SAVED_MODEL} is missing). Name a folder that was exported.")


def predecessor_in(history: Iterable[int]) -> int | None:
    """Return the champion before the serving version, as a browser's back button would find it.

    >>> predecessor_in([1, 2, 3, 2])
    1

    Args:
      history: The numbers of the champions, one a promotion, the first first.

    Returns:
      Its number; None where there was none. Going back again never leads forward to what was gone back from.
    """
    trail = trail_of(history)
    return trail[-2] if len(trail) > 1 else None


def trail_of(history: Iterable[int]) -> list[int]:
    """Return the champions that one can go back to, the serving one last; see `predecessor_in`.

    >>> trail_of([1, 2, 3, 2])
    [1, 2]
    """
    trail: list[int] = []
    for number in history:
        trail = [*trail[: trail.index(number)], number] if number in trail else [*trail, number]
    return trail


def current_standings(
    records: Iterable[StandingRecord], promotions: Iterable[Promotion]
) -> Mapping[int, StandingRecord]:
    """Return the standings that hold, by the version's number: the last of each that was not promoted since.

    Args:
      records: A registry's `standings()`.
      promotions: Its `promotions()`.
    """
    promoted = {promotion.version: promotion.number for promotion in promotions}
    last = {record.version: record for record in records}
    return {number: record for number, record in sorted(last.items()) if promoted.get(number, 0) <= record.promotions}


def standings_of(registry: Registry) -> Mapping[int, StandingRecord]:
    """Return the standings that hold in a registry, see `current_standings`."""
    return current_standings(registry.standings(), registry.promotions())


def candidates_in(current: Mapping[int, StandingRecord]) -> list[int]:
    """Return the numbers of the candidates among the standings that hold; more than one only while one is replaced."""
    return [number for number, record in current.items() if record.standing is Standing.CANDIDATE]
