"""Timeline: the evaluations, trainings and promotions of a workspace as events, from its jobs and their records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from adaptation.evaluation.accuracy import Evaluation
from adaptation.evaluation.decision import Decision
from adaptation.platforms.base import Job, JobState, ModelVersion, Promotion, StandingRecord
from adaptation.trigger import EVALUATION
from pipeline.report.content import Event, Kind

BY_HAND = "started by hand"


@dataclass(frozen=True)
class Sources:
    """The values that the events are made from.

    Attributes:
      jobs: The pipeline runs, oldest first.
      evaluations: What evaluations have measured, by job.
      decisions: What was decided on it, by job.
      trainings: The training that an evaluation has started, by the evaluation's job.
      triggers: The reason why an evaluation was started, by job.
      promotions: The promotions, the first first.
      versions: The registered versions.
      standings: The standings that hold, by number of version.
    """

    jobs: Sequence[Job] = ()
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    trainings: Mapping[str, str] = field(default_factory=dict)
    triggers: Mapping[str, str] = field(default_factory=dict)
    promotions: Sequence[Promotion] = ()
    versions: Sequence[ModelVersion] = ()
    standings: Mapping[int, StandingRecord] = field(default_factory=dict)

    def cause_of(self, training: str) -> str:
        """Return the evaluation that started a training; empty if a person did."""
        return next((job for job, started in self.trainings.items() if started == training), "")

    def reason_of(self, evaluation: str) -> str:
        """Return the reason of an evaluation's decision; empty if it is unknown."""
        decision = self.decisions.get(evaluation)
        return decision.reason if decision else ""

    def version_of(self, run: str) -> ModelVersion | None:
        """Return the version that a run made."""
        return next((version for version in self.versions if version.run == run), None)

    def was_champion(self, version: ModelVersion | None) -> bool:
        """Return True if the version has ever been promoted."""
        return version is not None and any(promotion.version == version.number for promotion in self.promotions)

    def standing_of(self, version: ModelVersion | None) -> str:
        """Return the standing of a version; empty if it has none, as every champion."""
        record = self.standings.get(version.number) if version else None
        return str(record.standing) if record else ""

    def serving(self, moment: str) -> int | None:
        """Return the version that was serving at a moment, or None if there was none or it is unknown."""
        if not moment:
            return None
        before = [one.version for one in self.promotions if one.time and _time(one.time) <= _time(moment)]
        return before[-1] if before else None


def timeline(sources: Sources) -> list[Event]:
    """Return all events, the first first."""
    jobs = [(_evaluation if job.pipeline == EVALUATION else _training)(sources, job) for job in sources.jobs]
    return sorted([*jobs, *_promotions(sources)], key=lambda event: event.time and _time(event.time).isoformat())


def _evaluation(sources: Sources, job: Job) -> Event:
    measured, decision = sources.evaluations.get(job.id), sources.decisions.get(job.id)
    return Event(
        kind=Kind.EVALUATION,
        time=job.created,
        subject=measured.batch if measured else str(job.parameters.get("batch", "")),
        job=job.id,
        outcome=_outcome(job, decision.outcome if decision else "evaluated"),
        reason=job.message or sources.reason_of(job.id),
        cause=sources.triggers.get(job.id, ""),
        images=measured.images if measured else None,
        correct=measured.correct if measured else None,
        accuracy=measured.accuracy if measured else None,
        low=measured.interval.low if measured else None,
        high=measured.interval.high if measured else None,
        version=sources.serving(job.created),
        serving=sources.serving(job.ended or job.created),
        seconds=_seconds(job),
        evidence=decision.evidence if decision else None,
        look=decision.look if decision else "",
    )


def _training(sources: Sources, job: Job) -> Event:
    made, evaluation = sources.version_of(job.id), sources.cause_of(job.id)
    return Event(
        kind=Kind.TRAINING,
        time=job.created,
        subject=str(job.result.get("spans") or job.parameters.get("window", "")),
        job=job.id,
        outcome=_outcome(job, sources.standing_of(made) or _verdict(job, sources.was_champion(made))),
        reason=job.message or str(job.result.get("reason", "")),
        cause=f"started by {evaluation}" if evaluation else BY_HAND,
        version=made.number if made else None,
        serving=sources.serving(job.ended or job.created),
        seconds=_seconds(job),
    )


def _verdict(job: Job, promoted: bool) -> str:
    """Return the outcome for a challenger; a job on Google Cloud does not report it unless the version was promoted."""
    if job.result.get("deployed", promoted):
        return "deployed"
    if "deployed" not in job.result:
        return "ended"
    standing = str(job.result.get("standing", "refused"))
    return {"candidate": "undecided", "waiting for approval": "waiting"}.get(standing, standing)


def _promotions(sources: Sources) -> Iterable[Event]:
    """Yield the promotions by no listed training: going back to an earlier version."""
    trained = {version.number for job in sources.jobs if (version := sources.version_of(job.id))}
    seen: set[int] = set()
    for one in sources.promotions:
        if one.time and (one.version in seen or one.version not in trained):
            yield Event(
                kind=Kind.PROMOTION,
                time=one.time,
                subject=f"version {one.version}",
                job="",
                outcome="promoted",
                reason=one.reason,
                version=one.version,
                serving=one.version,
            )
        seen.add(one.version)


def _outcome(job: Job, success: str) -> str:
    return success if job.state is JobState.SUCCEEDED else str(job.state).lower()


def _seconds(job: Job) -> float | None:
    if not job.created or not job.ended:
        return None
    return round((_time(job.ended) - _time(job.created)).total_seconds(), 3)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
