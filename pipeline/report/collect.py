"""Collects the facts of a report from where they are kept.

    spans            their manifests, and the beginnings of a few of their files for the samples
    evaluations      look.json, evaluation.json, decision.json, snapshot.json of the pipelines' runs; see `run_history`
    comparison       verdict.json and comparison.json, likewise
    timeline, lineage  the jobs, the trigger's records, the registry with its promotions
    tasks            ML Metadata on one machine, Vertex AI's own times on Google Cloud
    events           the outbox and the receivers' progress; see `adaptation.events` and `adaptation.notify`
    energy           usage.json of the jobs of this machine; see `pipeline.energy`

A part that is missing or broken is reported and does not block the others. Nothing is written. What is
computed from what was read is in `calculations` and `timeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TypeVar

from adaptation import codec, retraining, trigger
from adaptation.data.batches import BatchStore, Snapshot
from adaptation.data.spans import Manifest
from adaptation.errors import described
from adaptation.evaluation.accuracy import Evaluation, Mistake
from adaptation.evaluation.decision import Decision
from adaptation.evaluation.gate import Comparison, Verdict
from adaptation.evaluation.look_records import LookRecord
from adaptation.events import Outbox
from adaptation.io import storage
from adaptation.notify.delivery import Delivery
from adaptation.notify.receivers import receivers
from adaptation.platforms.base import Job, JobState, ModelVersion, standings_of
from adaptation.retraining import TRAINING
from adaptation.trigger import EVALUATION
from components import artifacts
from pipeline.cost import load_prices, prices_file
from pipeline.energy import measured_jobs
from pipeline.report import calculations, thumbnails
from pipeline.report.content import (
    ComparisonFacts,
    EnergyFacts,
    EvaluationFacts,
    Facts,
    LookFacts,
    MistakeFacts,
    NewsFacts,
    Picture,
    Rules,
    RunFacts,
    SeenFacts,
    SpanFacts,
)
from pipeline.report.timeline import Sources, timeline
from pipeline.run_history import Run, recorded_runs, timed_by_service
from pipeline.workspace.workspace import Workspace

EVENTS = 60
SPANS = 12
RUNS = 6
MISTAKES = 12
SEEN = 8
NEWS = 50
MEASURED = 20
_T = TypeVar("_T")


def collect(workspace: Workspace) -> Facts:
    """Return the facts of a workspace as they are now; reading them changes nothing."""
    return _Collection(workspace).facts()


@dataclass
class _Collection:
    """One collection of facts, with the list of what was missing."""

    workspace: Workspace
    missing: list[str] = field(default_factory=list)

    def facts(self) -> Facts:
        manifests, champion = self._manifests(), self._champion()
        runs = {name: self._runs(name) for name in (TRAINING, EVALUATION)}
        sources = self._sources(runs[EVALUATION])
        self._note_lost(sources, [*runs[TRAINING], *runs[EVALUATION]])
        events = timeline(sources)
        return Facts(
            name=self.workspace.settings.name,
            platform=self.workspace.settings.platform.kind,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            rules=self._rules(),
            summary=calculations.summary(manifests, events, champion),
            events=tuple(events[-EVENTS:]),
            spans=tuple(map(self._span, manifests[-SPANS:])),
            look=self._last_look(sources, runs[EVALUATION]),
            evaluation=self._last_evaluation(sources, runs[EVALUATION]),
            comparison=self._comparison(sources, runs[TRAINING]),
            lineage=calculations.lineage(champion, sources, manifests) if champion else None,
            skipped=calculations.skipped(manifests, sources),
            runs=self._newest_runs([*runs[TRAINING], *runs[EVALUATION]], sources.jobs),
            news=self._read("The events", self._news) or (),
            energy=self._read("The energy of the jobs", self._energy),
            missing=tuple(dict.fromkeys(self.missing)),
            next_steps=self._unfinished_training()
            or calculations.next_steps(manifests, sources, self.workspace.batches.root),
        )

    def _unfinished_training(self) -> tuple[str, ...]:
        """What to do for a decided training that has not come to its end."""
        platform = self.workspace.platform
        looking = partial(retraining.look, self.workspace.triggers, platform.jobs, platform.registry)
        training = self._read("The decided training", looking)
        return (f"{training.advice[:1].upper()}{training.advice[1:]}",) if training and training.advice else ()

    def _read(self, what: str, reading: Callable[[], _T]) -> _T | None:
        """Return what was read, or None with a note: the page must show when something is broken, too."""
        try:
            return reading()
        except Exception as error:
            self.missing.append(f"{what} could not be read: {described(error)}")
            return None

    def _file(self, job: str, files: Mapping[str, str], name: str, kind: type[_T]) -> _T | None:
        """Return the file of that name that a job's run has written, or None."""
        if name not in files:
            return None
        return self._read(f"{name} of {job}", lambda: codec.read(files[name], kind))

    def _rules(self) -> Rules:
        evaluation, gate = self.workspace.settings.evaluation, self.workspace.settings.gate
        return Rules(evaluation.threshold, evaluation.rule, evaluation.min_images, gate.floor, gate.margin)

    def _manifests(self) -> list[Manifest]:
        store = self.workspace.spans
        spans = self._read("The list of spans", store.spans) or []
        found = (self._read(f"The manifest of {span}", partial(store.manifest, span)) for span in spans)
        return [manifest for manifest in found if manifest]

    def _span(self, manifest: Manifest) -> SpanFacts:
        reading = partial(thumbnails.samples, self.workspace.spans, manifest)
        return calculations.span(manifest, self._read(f"The samples of span-{manifest.span}", reading) or ())

    def _champion(self) -> ModelVersion | None:
        champion = self._read("The champion", lambda: self.workspace.platform.registry.champion())
        return self._named(champion) if champion else None

    def _named(self, version: ModelVersion) -> ModelVersion:
        """Return the version with its run named like the job; Vertex AI puts the deployment's name before that."""
        return replace(version, run=version.run.removeprefix(self.workspace.config.run_prefix))

    def _runs(self, pipeline: str) -> list[Run]:
        return self._read(f"The record of the {pipeline} runs", partial(recorded_runs, self.workspace, pipeline)) or []

    def _newest_runs(self, runs: Sequence[Run], jobs: Sequence[Job]) -> tuple[RunFacts, ...]:
        settings = self.workspace.settings
        timed = [run for run in runs if run.tasks]
        if settings.target.remote:
            timed = self._read("The times of the tasks", partial(timed_by_service, settings, jobs[-RUNS:])) or []
        newest = sorted(timed, key=lambda run: run.started, reverse=True)[:RUNS]
        return tuple(RunFacts(run.job, run.pipeline, run.started, run.seconds, run.tasks) for run in newest)

    def _news(self) -> tuple[NewsFacts, ...]:
        outbox = Outbox(self.workspace.triggers)
        taken = self._read("What receivers have taken", partial(self._taken, outbox)) or {}
        return tuple(
            calculations.news(event, [receiver for receiver, number in taken.items() if number < event.number])
            for event in islice(outbox.newest_first(), NEWS)
        )

    def _taken(self, outbox: Outbox) -> dict[str, int]:
        """Return the number of the last event that each receiver has taken, for those that have not taken all."""
        count = outbox.count()
        undelivered = Delivery(outbox, receivers(self.workspace.notification)).undelivered()
        return {one.receiver: count - one.events for one in undelivered}

    def _energy(self) -> EnergyFacts | None:
        factors = load_prices(prices_file(None, self.workspace.settings.file)).energy
        return calculations.used(measured_jobs(self.workspace), factors, MEASURED)

    def _sources(self, runs: Sequence[Run]) -> Sources:
        """Return the values that the timeline is made from; `runs` are those of evaluations."""
        platform = self._read("The platform", lambda: self.workspace.platform)
        if platform is None:
            return Sources()
        jobs = (self._read("The list of jobs", lambda: list(platform.jobs.list())) or [])[-EVENTS:]
        versions = self._read("The versions of the model", lambda: list(platform.registry.versions())) or []
        listed = {job.id for job in jobs}
        files = {run.job: run.files for run in runs if run.job in listed}
        started = self._by_job(files, artifacts.JOB, Job)
        return Sources(
            jobs=jobs,
            evaluations=self._by_job(files, artifacts.EVALUATION, Evaluation),
            decisions=self._by_job(files, artifacts.DECISION, Decision),
            trainings={job: training.id for job, training in started.items()},
            triggers=self._read("The trigger's records", self._triggers) or {},
            promotions=self._read("The history of champions", lambda: list(platform.registry.promotions())) or [],
            versions=[self._named(version) for version in versions],
            standings=self._read("The standings of the versions", lambda: standings_of(platform.registry)) or {},
        )

    def _by_job(self, runs: Mapping[str, Mapping[str, str]], name: str, kind: type[_T]) -> dict[str, _T]:
        found = {job: self._file(job, files, name, kind) for job, files in runs.items()}
        return {job: value for job, value in found.items() if value is not None}

    def _triggers(self) -> dict[str, str]:
        """Return the reasons of the newest evaluations, by job."""
        root = self.workspace.triggers
        journals = (trigger.journal(root, batch) for batch in BatchStore(root).batches()[-EVENTS:])
        return {record.value.job: record.value.reason for journal in journals for record in journal.records()}

    def _note_lost(self, sources: Sources, runs: Sequence[Run]) -> None:
        recorded = {run.job for run in runs}
        ended = [job.id for job in sources.jobs if job.state is JobState.SUCCEEDED]
        if lost := [job for job in ended if job not in recorded]:
            self.missing.append(f"What these runs wrote was not found: {', '.join(lost)}.")

    def _last_evaluation(self, sources: Sources, runs: Sequence[Run]) -> EvaluationFacts | None:
        job = next((job.id for job in reversed(sources.jobs) if job.id in sources.evaluations), None)
        if job is None:
            return None
        files = next(run.files for run in runs if run.job == job)
        snapshot = self._here(self._file(job, files, artifacts.SNAPSHOT, Snapshot))
        evaluation = sources.evaluations[job]
        mistakes = tuple(self._mistake(one, snapshot) for one in evaluation.mistakes[:MISTAKES])
        return calculations.evaluation(job, evaluation, sources.reason_of(job), mistakes)

    def _last_look(self, sources: Sources, runs: Sequence[Run]) -> LookFacts | None:
        files = {run.job: run.files for run in runs if artifacts.LOOK in run.files}
        job = next((job.id for job in reversed(sources.jobs) if job.id in files), None)
        record = self._written(job, files[job], artifacts.LOOK, LookRecord) if job else None
        if job is None or record is None:
            return None
        snapshot = self._here(self._file(job, files[job], artifacts.SNAPSHOT, Snapshot))
        typical, strangest = (
            tuple(SeenFacts(one.name, one.label, one.confidence, self._image(snapshot, one.name)) for one in images)
            for images in (record.typical[:SEEN], record.strangest[:SEEN])
        )
        version = next((one for one in sources.versions if one.number == record.version), None)
        return calculations.look(job, record, version, typical, strangest)

    def _here(self, snapshot: Snapshot | None) -> Snapshot | None:
        """Return the snapshot with its batch's folder of today: the workspace may have been moved since."""
        return snapshot and replace(snapshot, root=storage.join(self.workspace.batches.root, snapshot.batch))

    def _mistake(self, one: Mistake, snapshot: Snapshot | None) -> MistakeFacts:
        return MistakeFacts(
            one.name, one.truth, one.predicted, one.confidence, self._image(snapshot, one.name, one.truth)
        )

    def _image(self, snapshot: Snapshot | None, name: str, label: str = "") -> Picture | None:
        if snapshot is None:
            return None
        return self._read(f"The image {name}", partial(thumbnails.collected, snapshot, name, label))

    def _comparison(self, sources: Sources, runs: Sequence[Run]) -> ComparisonFacts | None:
        files = {run.job: run.files for run in runs if artifacts.VERDICT in run.files}
        job = next((job.id for job in reversed(sources.jobs) if job.id in files), None)
        verdict = self._verdict(job, files[job]) if job else None
        if job is None or verdict is None:
            return None
        pairs = self._written(job, files[job], artifacts.PAIRS, Comparison)
        if pairs is None:
            self.missing.append(f"{job} has not kept on which images the models differ.")
        metrics = self._written(job, files[job], artifacts.FURTHER_METRICS, dict[str, float])
        champion = next((one for one in sources.versions if pairs and one.number == pairs.champion), None)
        return calculations.comparison(job, verdict, pairs, metrics or {}, champion)

    def _verdict(self, job: str, files: Mapping[str, str]) -> Verdict | None:
        uri = files[artifacts.VERDICT]
        return self._read(f"{artifacts.VERDICT} of {job}", lambda: Verdict.from_json(storage.read(uri), uri))

    def _written(self, job: str, files: Mapping[str, str], name: str, kind: type[_T]) -> _T | None:
        """Return the file, if it exists; runs of 0.1.0 have not written all."""
        return self._file(job, files, name, kind) if storage.exists(files.get(name, "")) else None
