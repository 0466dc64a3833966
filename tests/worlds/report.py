"""A workspace with a history: the real code writes everything in it, except for TFX's metadata; then it is dated.

2021-09-30  training on span 1           version 1
2021-10-31  evaluation of 2021-10        too low: span-2
2021-11-01  training on spans 1-2        version 2
2021-11-30  evaluation of 2021-11        good enough
2021-12-10  training on span 2 by hand   refused
2021-12-20  back to version 1
2021-12-31  evaluation of 2021-12        fails
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from adaptation import codec
from adaptation.data.batches import Batch, Snapshot
from adaptation.data.span_preparation import prepare
from adaptation.data.splits import Split
from adaptation.evaluation.accuracy import evaluate
from adaptation.evaluation.decision import Criterion, Rule, decide
from adaptation.evaluation.gate import Comparison, Outcome
from adaptation.evaluation.look import Profile, Reference, look
from adaptation.evaluation.looks import read_seen
from adaptation.evaluation.mix import Recall
from adaptation.evaluation.paired import Pairs
from adaptation.evaluation.prediction_results import ResultsWriter
from adaptation.events import FOLDER, Event, Reading
from adaptation.events import Kind as Announced
from adaptation.io import storage
from adaptation.io.journal import Journal
from adaptation.platforms.base import Job, JobRequest, JobState, Standing, Upload
from adaptation.platforms.local.jobs import USAGE
from adaptation.platforms.local.usage import Usage
from adaptation.platforms.rollout import put_in_service, roll_back
from adaptation.retraining import TRAINING
from adaptation.trigger import EVALUATION
from components import artifacts
from pipeline.jobs import trigger
from pipeline.workspace.initialise import initialise
from pipeline.workspace.settings_file import write_settings
from pipeline.workspace.workspace import Workspace
from tests.worlds.images import drawn, write
from tests.worlds.processes import wait_until
from tests.worlds.workspace import World

HOSTILE = "<i>dog&\"'"
EVIL = "<img src=x onerror=window.hacked=1>"
LABELS = ("cat", "ship", HOSTILE)
COLOURS = {"cat": (196, 120, 60), "ship": (40, 110, 180), HOSTILE: (90, 150, 80)}
REFERENCE = Reference(Profile.of(dict.fromkeys(LABELS, 100), [0.9] * 300), {"cat": Recall(300, 290)})
OCTOBER, NOVEMBER, DECEMBER = Batch(2021, 10), Batch(2021, 11), Batch(2021, 12)


@dataclass(frozen=True)
class Story:
    """The workspace in `folder`, in which the steps of the history leave their files."""

    folder: Path

    @property
    def workspace(self) -> Workspace:
        """The workspace, opened again."""
        return Workspace.open(self.folder)

    @property
    def world(self) -> World:
        """The world whose jobs end with the results that it sets."""
        return World(self.folder)

    def collect(self, folder: Path, count: int, first: int = 0) -> None:
        """Collect so many images of each label."""
        for label in LABELS:
            for number in range(first, first + count):
                extra = f"_{EVIL}" if label == HOSTILE and number % 5 == 0 else ""
                write(folder / f"{label}_{number:03d}{extra}.png", drawn(COLOURS[label], number))

    def train(self, job: str, time: str, comparison: Comparison) -> None:
        """What a training run leaves behind, from its verdict to the version that it deploys or refuses."""
        verdict = comparison.judge()
        blessing = self.folder / "pipelines" / TRAINING / job / "blessing"
        write(blessing / artifacts.VERDICT, codec.encode(verdict))
        write(blessing / artifacts.PAIRS, codec.encode(comparison))
        write(blessing / artifacts.FURTHER_METRICS, codec.encode({"top_3": 0.99}))
        tasks = [("SpanExampleGen", 50, {}), ("Trainer", 12_300, {}), ("ChampionGate", 40, {"blessing": blessing})]
        record(self.folder / "metadata" / "training.sqlite", job, time, tasks)
        self.date_job(job, time)
        model = self.folder / "made" / job
        write(model / "saved_model.pb", job.encode())
        platform, spans = self.workspace.platform, comparison.by_span
        metrics = {f"span-{span}": pairs.challenger / pairs.images for span, pairs in spans.items()} | {"top_3": 0.99}
        upload = Upload(str(model), job, tuple(spans), metrics, str(model), job, "0.1.0+abc123def456")
        version = platform.registry.upload(upload)
        self.date(f"registry/versions/{version.number}/version.json", created=time)
        if verdict.outcome is Outcome.DEPLOY:
            put_in_service(platform.registry, platform.endpoint, version, verdict.reason)
            self.date(f"registry/champion/{version.number:04d}.json", time=time)
        else:
            platform.registry.mark(version, Standing.REFUSED, verdict.reason)

    def evaluate(self, batch: Batch, time: str, wrong: int, training: str | None) -> str:
        """Write what an evaluation run leaves; so many images of each label are predicted as the next label."""
        workspace, job = self.workspace, f"evaluation-{batch}-0001"
        snapshot = workspace.batches.snapshot(batch)
        output = self.folder / "pipelines" / EVALUATION / job
        results = predict(snapshot, output, wrong)
        evaluation, seen = evaluate(snapshot, results, workspace.labels, 0.2), read_seen(snapshot, results)
        found = look(REFERENCE, seen.profile, str(batch))
        write(output / "look" / artifacts.LOOK, codec.encode(seen.record(snapshot, found, 1, "1-abc", job)))
        decision = replace(decide(evaluation, Criterion(0.9, Rule.POINT, 10)), look=found.reason, evidence=0.14)
        write(output / "metrics" / artifacts.EVALUATION, codec.encode(evaluation))
        write(output / "metrics" / artifacts.DECISION, codec.encode(decision))
        write(output / "file_list" / artifacts.SNAPSHOT, codec.encode(snapshot))
        self.world.conclude(EVALUATION, batch=str(batch), retrain=decision.retrain, training=training)
        trigger(workspace)
        self.date_job(job, time)
        self.date(f"triggers/{batch}/0001.json", time=time)
        tasks = [
            ("FileListGen", 30, {"file_list": output / "file_list"}),
            ("DriftDetector", 70, {"look": output / "look"}),
            ("PerformanceEvaluator", 1_250, {"metrics": output / "metrics"}),
        ]
        if training:
            write(
                output / "job" / artifacts.JOB, codec.encode(Job(training, TRAINING, {}, JobState.RUNNING, "", "", {}))
            )
            tasks.append(("PipelineTrigger", 20, {"job": output / "job"}))
        record(self.folder / "metadata" / "evaluation.sqlite", job, time, tasks)
        return job

    def date_job(self, job: str, time: str) -> None:
        """Date the job, after it has ended, to 90 seconds of a day in the past."""
        wait_until(lambda: self.workspace.jobs.get(job).state.ended)  # type: ignore[union-attr]
        self.date(f"jobs/{job}/request.json", created=time)
        self.date(f"jobs/{job}/state.json", time=time.replace("00:00+", "01:30+"))

    def date(self, path: str, **values: str) -> None:
        """Change times in a file."""
        file = self.folder / path
        file.write_text(json.dumps(json.loads(file.read_text()) | values))


def make_story(folder: Path) -> Story:
    """Write the whole history; jobs must be fake (`use_fake_jobs`)."""
    story = begin(folder)
    workspace, jobs = story.workspace, story.workspace.jobs
    story.world.conclude(TRAINING, deployed=True, spans="1", reason="version 1 is the champion")
    jobs.create(JobRequest("training-first", TRAINING, {"window": "1"}))
    story.train("training-first", "2021-09-30T10:00:00+00:00", compared(0, {1: Pairs(challenger_only=40)}))

    story.collect(folder / "collection" / "2021-10", 12, first=100)
    digest = "0123456789abcdef"
    story.world.conclude(TRAINING, deployed=True, spans="1-2", reason="version 2 is the champion")
    october = story.evaluate(OCTOBER, "2021-10-31T10:00:00+00:00", 5, f"training-span-2-{digest[:8]}-1")
    snapshot = workspace.batches.snapshot(OCTOBER)
    prepare(workspace.spans, snapshot, workspace.labels, Split(), max_skipped=0.2, shard_bytes=2**20, run=october)
    job = jobs.create(JobRequest(f"training-span-2-{digest[:8]}-1", TRAINING, {"window": "1-2"}))
    story.train(job.id, "2021-11-01T10:00:00+00:00", compared(1, {1: Pairs(40), 2: Pairs(5, 1, 20)}))
    workspace.batches.archive(snapshot)

    story.collect(folder / "collection" / "2021-11", 15, first=200)
    write(folder / "collection" / "2021-11" / f"zebra_{EVIL}.png", drawn(COLOURS["cat"], 7))
    story.evaluate(NOVEMBER, "2021-11-30T10:00:00+00:00", 1, None)

    story.world.conclude(TRAINING, deployed=False, spans="2", reason="the challenger was refused")
    jobs.create(JobRequest("training-refused", TRAINING, {"window": "2"}))
    story.train("training-refused", "2021-12-10T10:00:00+00:00", compared(2, {2: Pairs(5, 20, 1)}))

    roll_back(workspace.platform.registry, workspace.platform.endpoint)
    story.date("registry/champion/0003.json", time="2021-12-20T10:00:00+00:00")

    story.collect(folder / "collection" / "2021-12", 10, first=300)
    story.world.fail(EVALUATION)
    trigger(workspace)
    story.date_job("evaluation-2021-12-0001", "2021-12-31T10:00:00+00:00")
    for number, job in enumerate(sorted((folder / "jobs").iterdir()), start=1):
        write(job / USAGE, codec.encode(Usage(600.5 * number, 2**30, 1800.0)))
    announce(folder / "triggers")
    return story


def announce(records_root: Path) -> None:
    """Record two events, one with markup in its message."""
    events = (
        Event(
            Announced.RETRAINING, "october", "batch/2021-10", "2021-10-31T10:01:00+00:00", "accuracy 0.5833", number=1
        ),
        Event(
            Announced.UNDECIDED, "second", "version/3", "2021-12-10T10:01:00+00:00", f"undecided on {EVIL}", number=2
        ),
    )
    Journal(str(records_root / FOLDER), Reading).update(lambda _: Reading(events, count=2))


def begin(folder: Path) -> Story:
    """Write settings and span-1, for which two files were unusable."""
    World.make(folder)
    (folder / "adapt.toml").unlink()
    write_settings(folder / "adapt.toml", LABELS, {"collection.min_images": 10, "name": "zoo"})
    story, own = Story(folder), folder / "own"
    story.collect(own, 20)
    (own / "cat_900.png").write_bytes(b"")
    (own / f"ship_{EVIL}_901.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    initialise(folder, own)
    return story


def compared(champion: int, spans: Mapping[int, Pairs]) -> Comparison:
    """A comparison whose labels differ: each has one more image that both had wrong than the one before."""
    tests = {
        (span, label): pairs + Pairs(neither=number)
        for span, pairs in spans.items()
        for number, label in enumerate(LABELS)
    }
    return Comparison.of(champion, tests)


def predict(snapshot: Snapshot, output: Path, wrong: int) -> str:
    """Write predictions, so many of each label wrong, the last the most confident. Return their folder."""
    seen = dict.fromkeys(LABELS, 0)
    with ResultsWriter(str(output), "version-1", datetime.now(UTC)) as results:
        for image in snapshot.images:
            label = next((one for one in LABELS if image.name.startswith(one)), "cat")
            seen[label] += 1
            guess = LABELS[(LABELS.index(label) + 1) % len(LABELS)] if seen[label] <= wrong else label
            uri = storage.join(snapshot.root, image.name)
            results.prediction(uri, guess, 0.5 + seen[label] / 100 + LABELS.index(label) / 1000)
    return results.folder


def record(database: Path, job: str, time: str, tasks: list[tuple[str, int, dict[str, Path]]]) -> None:
    """Record a run in ML Metadata as TFX and `pipeline.local.runner` do.

    Args:
      database: The file.
      job: Id of the run's job.
      time: When it began.
      tasks: Name, milliseconds, and the folders of the outputs by their names.
    """
    database.parent.mkdir(exist_ok=True)
    connection = mlmd.ConnectionConfig()
    connection.sqlite.filename_uri = str(database)
    connection.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = MetadataStore(connection)
    types = {name: store.put_context_type(mlmd.ContextType(name=name)) for name in ("pipeline_run", "node")}
    run = mlmd.Context(type_id=types["pipeline_run"], name=time)
    run.custom_properties["job"].string_value = job
    begun = int(datetime.fromisoformat(time).timestamp() * 1000)
    [run_id] = store.put_contexts([run])
    moments = [("Context", begun, begun, run_id)]
    for name, milliseconds, outputs in tasks:
        execution = _execution(store, run_id, types["node"], name, outputs)
        moments.append(("Execution", begun, begun + milliseconds, execution))
    del store
    with sqlite3.connect(database) as sql:
        for table, created, updated, number in moments:
            changes = f"UPDATE {table} SET create_time_since_epoch = ?, last_update_time_since_epoch = ? WHERE id = ?"
            sql.execute(changes, (created, updated, number))


def _execution(store: MetadataStore, run: int, node_type: int, name: str, outputs: Mapping[str, Path]) -> int:
    node = mlmd.Context(type_id=node_type, name=f"zoo.{name}")
    known = store.get_context_by_type_and_name("node", node.name)
    node_id = known.id if known else store.put_contexts([node])[0]
    kind = store.put_execution_type(mlmd.ExecutionType(name=name))
    [execution] = store.put_executions([mlmd.Execution(type_id=kind, last_known_state=mlmd.Execution.State.COMPLETE)])
    store.put_attributions_and_associations(
        [], [mlmd.Association(execution_id=execution, context_id=one) for one in (run, node_id)]
    )
    for key, folder in outputs.items():
        artifact_type = store.put_artifact_type(mlmd.ArtifactType(name=key))
        [artifact] = store.put_artifacts([mlmd.Artifact(type_id=artifact_type, uri=str(folder))])
        event = mlmd.Event(artifact_id=artifact, execution_id=execution, type=mlmd.Event.OUTPUT)
        event.path.steps.add().key = key
        event.path.steps.add().index = 0
        store.put_events([event])
    return execution
