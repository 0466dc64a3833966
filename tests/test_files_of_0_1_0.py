"""Files that version 0.1.0 wrote (its own bytes, in `files-of-0.1.0`) are read and keep their content.

They belong to one workspace: two spans, an evaluation that led to a training, a champion that was rolled back.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adaptation import codec
from adaptation.data.batches import Batch, BatchStore, Snapshot
from adaptation.data.labels import Labels
from adaptation.data.reviews import Reviews
from adaptation.data.spans import Manifest, Span, SpanStore
from adaptation.evaluation.accuracy import Evaluation
from adaptation.evaluation.decision import Decision, Outcome
from adaptation.evaluation.gate import Outcome as GateOutcome
from adaptation.evaluation.gate import Verdict
from adaptation.io.storage import File
from adaptation.platforms.base import Job, JobState, ModelVersion
from adaptation.platforms.local import LocalJobs, LocalRegistry
from adaptation.trigger import journal
from pipeline.compiled.publication import Entry
from pipeline.rehearsal.executions import Execution, Metadata

FILES = Path(__file__).parent / "files-of-0.1.0"
OUTPUTS = FILES / "outputs"
OCTOBER, NOVEMBER = Batch(2021, 10), Batch(2021, 11)
VALUES = [
    ("evaluation.json", Evaluation),
    ("decision.json", Decision),
    ("snapshot.json", Snapshot),
    ("job.json", Job),
    ("version.json", ModelVersion),
    ("index/0001.json", Entry),
    ("executions/0002.json", Execution),
]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a copy of the folder that may be changed."""
    return Path(shutil.copytree(FILES, tmp_path / "zoo"))


@pytest.mark.parametrize(("name", "kind"), VALUES, ids=lambda value: str(value))
def test_value_of_0_1_0_keeps_its_content(name: str, kind: type[Any]) -> None:
    written = (OUTPUTS / name).read_bytes()
    assert_kept(json.loads(codec.encode(codec.decode(written, kind, name))), json.loads(written))


def test_manifest_of_0_1_0_keeps_digest_and_content() -> None:
    written = (FILES / "data" / "span-2" / "manifest.json").read_bytes()
    manifest = Manifest.from_json(written, "manifest.json")
    assert manifest.digest == "142b47a5282b7c305655521ac1e66ef7c64959af342b9ec8dcf53687c99ce4f5"
    assert json.loads(manifest.to_json()) == json.loads(written)


def test_labels_of_0_1_0_keep_their_text() -> None:
    text = (OUTPUTS / "labels.txt").read_text()
    assert Labels.from_json(text).to_json() == text


def test_outputs_of_0_1_0_keep_their_content() -> None:
    evaluation = codec.read(str(OUTPUTS / "evaluation.json"), Evaluation)
    assert (evaluation.batch, evaluation.images, sum(map(sum, evaluation.confusion))) == ("2021-10", 36, 36)
    assert codec.read(str(OUTPUTS / "decision.json"), Decision).outcome is Outcome.RETRAIN
    verdict = Verdict.from_json((OUTPUTS / "verdict.json").read_bytes(), "verdict.json")
    assert (verdict.outcome, verdict.rules) == (GateOutcome.DEPLOY, ()) and "span-2" in verdict.reason
    [done] = Metadata(str(OUTPUTS / "executions")).executions("digits-training")
    assert done.outputs["model"][0].metadata == {"accuracy": 0.5, "images": 12, "name": "x"}


def test_spans_of_0_1_0_keep_their_numbers_and_images(workspace: Path) -> None:
    store = SpanStore(str(workspace / "data"))
    snapshot = store.snapshot(Span(2))
    assert snapshot is not None and store.manifest(Span(2)).key == snapshot.key
    assert store.claim(snapshot.key) == Span(2)
    assert store.claim("another") == Span(3)


def test_collection_of_0_1_0_is_evaluated_and_reviewed_as_it_was(workspace: Path) -> None:
    batches = BatchStore(str(workspace / "collection"))
    assert len(batches.evaluated(OCTOBER)) == 36
    reviewed = Reviews(batches).of(NOVEMBER)
    assert sorted(reviewed.values()) == ["cat", "ship"]
    assert Reviews(batches).add(NOVEMBER, dict.fromkeys(reviewed, "cat")) == 1
    assert Reviews(batches).add(NOVEMBER, {File("cat_1.png", 7): "ship"} | dict.fromkeys(reviewed, "cat")) == 1


def test_jobs_of_0_1_0_keep_their_states(workspace: Path) -> None:
    jobs = LocalJobs(str(workspace / "jobs"), ("false",))
    done, failed = jobs.list()
    assert (done.state, done.result["retrain"], done.parameters) == (JobState.SUCCEEDED, True, {"batch": "2021-10"})
    assert (failed.state, failed.message) == (JobState.FAILED, "OSError: the disk is full")
    assert list(jobs.follow(done.id))[0] == "Trainer (1 of 2)"


def test_registry_of_0_1_0_has_its_champion_and_accepts_promotions(workspace: Path) -> None:
    registry = LocalRegistry(str(workspace / "registry"))
    first, second = registry.versions()
    assert registry.find() == first
    assert (second.spans, second.metrics["span-2"], second.code) == ((1, 2), 0.95, "0.1.0+abc123def456")
    registry.promote(second, "again")
    assert [promotion.version for promotion in registry.promotions()] == [1, 2, 1, 2]


def test_trigger_records_of_0_1_0_are_read(workspace: Path) -> None:
    [record] = journal(str(workspace / "triggers"), OCTOBER).records()
    assert (record.number, record.value.job, record.value.images) == (1, "evaluation-2021-10-0001", 10)


def assert_kept(now: Any, before: Any) -> None:
    """Check that nothing of a JSON value is lost or changed; fields that came later may be there besides."""
    if isinstance(before, dict):
        assert before.keys() <= now.keys()
        for name, value in before.items():
            assert_kept(now[name], value)
    elif isinstance(before, list):
        assert len(now) == len(before)
        for one, other in zip(now, before, strict=True):
            assert_kept(one, other)
    else:
        assert now == before
