"""The whole loop, for real: `adapt` as users have it, installed outside the clone, with the real TFX, on real images.

Each fixture goes one step further with the same workspace and hands on what was there afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptation import codec
from adaptation.data.batches import Batch
from adaptation.data.spans import Manifest, Span
from adaptation.data.tfrecords import LabelledImage, unframe
from adaptation.evaluation.gate import Comparison
from adaptation.platforms.base import Job, JobState, ModelVersion
from adaptation.trigger import Outcome
from pipeline.jobs import planned
from pipeline.report.collect import collect
from pipeline.report.content import Kind
from pipeline.run_history import newest_durations
from pipeline.workspace.digit_images import write_digits
from pipeline.workspace.workspace import Workspace
from tests.worlds.processes import wait_until

DRIFTED, DECEMBER = Batch(2021, 10), Batch(2021, 12)


@dataclass(frozen=True)
class Facts:
    """The state after a step."""

    code: int
    output: str
    progress: str
    champion: ModelVersion
    versions: tuple[int, ...]
    serving: tuple[int, ...]
    images: dict[str, int]
    archived: dict[str, int]
    manifests: tuple[Manifest, ...]
    jobs: tuple[Job, ...]

    @property
    def compared(self) -> Comparison:
        """The newest comparison at the gate."""
        training = Path(self.champion.uri).parents[3] / "pipelines" / "training"
        newest = max((training / "ChampionGate" / "blessing").iterdir(), key=lambda folder: int(folder.name))
        return codec.read(str(newest / "pairs.json"), Comparison)


def start(adapt: Path, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    """Start the command in its own folder, with settings from the environment."""
    return subprocess.Popen(
        [adapt, *arguments],
        cwd=adapt.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **{f"ADAPT_{name}": value for name, value in settings.items()}},
    )


def facts(process: subprocess.Popen[str], folder: Path) -> Facts:
    """Wait for the process and return the state after it."""
    output, progress = process.communicate(timeout=600)
    workspace = Workspace.open(folder)
    batches, platform = workspace.batches, workspace.platform
    return Facts(
        code=process.returncode,
        output=output,
        progress=progress,
        champion=platform.registry.find(),
        versions=tuple(version.number for version in platform.registry.versions()),
        serving=tuple(platform.endpoint.serving()),
        images={str(batch): len(batches.images(batch)) for batch in batches.batches()},
        archived={str(batch): len(batches.archived(batch)) for batch in (DRIFTED, DECEMBER)},
        manifests=tuple(workspace.spans.verify(span) for span in workspace.spans.spans()),
        jobs=tuple(workspace.jobs.list()),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop") / "demo"


@pytest.fixture(scope="module")
def demo(installed: Path, folder: Path) -> Facts:
    """`adapt demo --json`."""
    return facts(start(installed, "demo", "--workspace", str(folder), "--json"), folder)


@pytest.fixture(scope="module")
def refused(installed: Path, folder: Path, demo: Facts) -> Facts:
    """December's images lie on their side; the challenger learns next to nothing; one image comes late.

    ImportExampleGen ingests the spans this time, and the model is the user's own, from a module beside the settings.
    """
    del demo
    workspace = Workspace.open(folder)
    december = Path(workspace.batches.folder(DECEMBER))
    write_digits(december, range(120), lambda scan, seed: scan.rotate(90))
    (folder / "shop").mkdir()
    (folder / "shop" / "small.py").write_text("from models.recipes.digits import recipe as recipe\n")
    evaluation = start(
        installed,
        "evaluate",
        "--workspace",
        str(folder),
        MODEL__LEARNING_RATE="1e-9",
        TRAINING__INGESTION="import",
        MODEL__EPOCHS="2",
        MODEL__NAME="shop.small",
    )
    wait_until(lambda: "PerformanceEvaluator" in "".join(messages(folder, "evaluation-2021-12-0001")))
    Image.fromarray(np.full((32, 32), 77, np.uint8)).save(december / "7_late.png")
    return facts(evaluation, folder)


@pytest.fixture(scope="module")
def after_rollback(installed: Path, folder: Path, refused: Facts) -> Facts:
    """Back to version 1, and from its weights to a version 4 that is hardly another model."""
    del refused
    rollback = facts(start(installed, "rollback", "--workspace", str(folder)), folder)
    assert (rollback.code, rollback.champion.number, rollback.serving) == (0, 1, (1,))
    return facts(
        start(
            installed,
            "train",
            "-w",
            str(folder),
            "--window",
            "1",
            MODEL__WARM_START="true",
            MODEL__EPOCHS="1",
            MODEL__LEARNING_RATE="1e-6",
        ),
        folder,
    )


@pytest.fixture(scope="module")
def unlabelled(installed: Path, folder: Path, after_rollback: Facts) -> Facts:
    """A batch of images whose names have no known label."""
    del after_rollback
    january = Path(Workspace.open(folder).batches.folder(Batch(2022, 1)))
    write_digits(january, range(40))
    for image in sorted(january.iterdir()):
        image.rename(january / f"scan{image.name}")
    return facts(start(installed, "evaluate", "--workspace", str(folder), "--batch", "2022-01"), folder)


def test_first_champion_fails_on_the_drifted_batch_and_is_replaced(demo: Facts) -> None:
    result = figures(demo)
    assert result["accuracy_span1_before"] >= 0.95
    assert result["accuracy_drifted_before"] < 0.8
    assert result["retrained"] is True
    assert (result["spans"], result["champion_version"]) == ("1-2", 2)


def test_drifted_batch_seems_different_before_its_labels_are_read(demo: Facts) -> None:
    drifted, again = (one.result["look"] for one in demo.jobs if "evaluation" in one.id)
    assert "2021-10 seems different: the mean confidence has fallen" in drifted
    assert "2021-11 seems like the test images" in again


def test_adapted_champion_predicts_both_batches_well(demo: Facts) -> None:
    result = figures(demo)
    assert result["accuracy_span1_after"] >= 0.93
    assert result["accuracy_drifted_after"] >= 0.93


def test_output_is_one_json_object_and_other_lines_are_in_named_logs(demo: Facts) -> None:
    assert set(figures(demo)) == {
        "accuracy_span1_before",
        "accuracy_drifted_before",
        "retrained",
        "spans",
        "accuracy_span1_after",
        "accuracy_drifted_after",
        "champion_version",
        "by_span",
        "by_label",
        "seconds",
    }
    assert "absl" not in demo.progress
    assert all(job.link in demo.progress and "absl" in Path(job.link).read_text() for job in demo.jobs)


def test_digits_of_the_drifted_batch_are_in_span_2_once_and_in_no_other(demo: Facts, folder: Path) -> None:
    spans = [set(images_of(folder, manifest)) for manifest in demo.manifests]
    assert [len(names) for names in spans] == [1000, 797]
    assert not spans[0] & spans[1]
    assert demo.images["2021-10"] == 0
    assert demo.archived["2021-10"] == 797


def test_champion_serves_alone_and_names_its_spans(demo: Facts) -> None:
    assert (demo.champion.number, demo.versions, demo.serving) == (2, (1, 2), (2,))
    assert demo.champion.spans == (1, 2)
    pairs = demo.compared.by_span[2]
    assert demo.champion.metrics["span-2"] == pytest.approx(pairs.challenger / pairs.images)


def test_gate_compares_with_the_champion_on_every_span(demo: Facts) -> None:
    result, compared = figures(demo), demo.compared
    pairs = compared.by_span[1]
    assert pairs.champion / pairs.images == pytest.approx(result["accuracy_span1_before"])
    assert (compared.champion, set(compared.by_span)) == (1, {1, 2})
    assert result["by_span"] == {str(span): asdict(one) for span, one in compared.by_span.items()}


def test_demo_runs_four_jobs(demo: Facts) -> None:
    pipelines = [(job.pipeline, job.state) for job in demo.jobs]
    names = ["training", "evaluation", "training", "evaluation"]
    assert pipelines == [(name, JobState.SUCCEEDED) for name in names]


def test_jobs_of_the_demo_share_one_import_of_tfx(demo: Facts, refused: Facts, folder: Path) -> None:
    importing = [job.id for job in refused.jobs if "starting TFX" in "".join(messages(folder, job.id))]
    assert importing == [job.id for job in refused.jobs[len(demo.jobs) :]] != []


def test_trigger_has_nothing_left_to_do(demo: Facts, folder: Path) -> None:
    del demo
    assert planned(Workspace.open(folder))[1].outcome in (Outcome.NOTHING_NEW, Outcome.NOT_ENOUGH)


def test_report_of_the_demo_has_its_figures(demo: Facts, folder: Path) -> None:
    accuracy = figures(demo)["accuracy_drifted_after"]
    assert f'data-fact="summary.accuracy">{accuracy:.3f}</data>' in (folder / "report.html").read_text()


def test_refused_challenger_leaves_the_champion_serving_with_a_reason(refused: Facts) -> None:
    assert refused.code == 3
    assert "version 3 was refused: " in refused.output
    assert "on the older spans the challenger is not shown not to be worse by more than 0.02" in refused.output
    assert (refused.champion.number, refused.versions, refused.serving) == (2, (1, 2, 3), (2,))


def test_version_names_the_job_that_made_it(demo: Facts) -> None:
    assert demo.champion.run == demo.jobs[2].id
    assert demo.manifests[1].run == demo.jobs[1].id


def test_own_recipe_beside_the_settings_is_trained(refused: Facts) -> None:
    assert "training shop.small on" in refused.progress


def test_import_example_gen_ingests_the_same_spans(refused: Facts) -> None:
    tested = {manifest.span: manifest.images_in("test") for manifest in refused.manifests}
    assert {span: pairs.images for span, pairs in refused.compared.by_span.items()} == tested


def test_late_image_is_neither_archived_nor_lost(refused: Facts, folder: Path) -> None:
    december = Workspace.open(folder).batches.images(DECEMBER)
    assert [image.name for image in december] == ["7_late.png"]
    assert refused.archived["2021-12"] == 120
    assert "7_late.png" not in set(images_of(folder, refused.manifests[2]))


def test_late_image_counts_for_the_next_trigger(refused: Facts, folder: Path) -> None:
    del refused
    state, plan = planned(Workspace.open(folder))
    assert (state.batch, state.new, plan.outcome) == (DECEMBER, 1, Outcome.NOT_ENOUGH)


def test_challenger_after_a_rollback_meets_the_serving_champion(after_rollback: Facts, folder: Path) -> None:
    first = Workspace.open(folder).platform.registry.find("1")
    assert (after_rollback.code, after_rollback.champion.number, after_rollback.serving) == (4, 1, (1,))
    pairs = after_rollback.compared.by_span[1]
    assert after_rollback.compared.champion == 1
    assert pairs.champion / pairs.images == pytest.approx(first.metrics["span-1"])


def test_challenger_that_is_no_better_stays_a_candidate(after_rollback: Facts, folder: Path) -> None:
    candidate = Workspace.open(folder).platform.registry.candidate()
    assert candidate is not None and (candidate.number, candidate.champion) == (4, 1)
    assert "version 4 is a candidate: up to 1000 further labelled images decide" in after_rollback.output


def test_warm_start_continues_from_the_champion(after_rollback: Facts) -> None:
    pairs = after_rollback.compared.by_span[1]
    assert pairs.challenger / pairs.images > 0.9
    assert "epoch 1/1" in after_rollback.progress


def test_batch_without_known_labels_fails_with_examples_and_stays(unlabelled: Facts, folder: Path) -> None:
    assert unlabelled.code == 1
    assert "TooManySkipped: 40 of 40 images were skipped" in unlabelled.progress
    assert "no label by its name's prefix" in unlabelled.progress
    assert "Traceback" not in unlabelled.progress
    assert unlabelled.images["2022-01"] == 40
    assert planned(Workspace.open(folder))[1].outcome is Outcome.RETRY


def test_report_shows_the_whole_loop(unlabelled: Facts, folder: Path) -> None:
    del unlabelled
    report = collect(Workspace.open(folder))
    assert report.missing == ()
    assert report.comparison is not None and len(report.comparison.labels) == 10
    outcomes = [event.outcome for event in report.events if event.kind is not Kind.EVALUATION]
    assert outcomes == ["deployed", "deployed", "refused", "promoted", "candidate"]


def test_durations_of_all_tasks_are_recorded(unlabelled: Facts, folder: Path) -> None:
    del unlabelled
    durations = newest_durations(Workspace.open(folder))
    assert set(durations["evaluation"]) >= {"FileListGen", "BatchPredictionGen", "SpanPreparator", "PipelineTrigger"}
    assert durations["training"]["Trainer"] > 0


def figures(step: Facts) -> dict[str, Any]:
    assert step.code == 0, step.progress
    return dict(json.loads(step.output))


def messages(folder: Path, job: str) -> list[str]:
    file = folder / "jobs" / job / "progress.jsonl"
    return file.read_text().splitlines() if file.exists() else []


def images_of(folder: Path, manifest: Manifest) -> Iterator[str]:
    spans = Workspace.open(folder).spans
    for shard in manifest.shards:
        uri = spans.shard_uri(Span(manifest.span), shard)
        for data in unframe(Path(uri).read_bytes(), uri):
            yield LabelledImage.parse(data).id
