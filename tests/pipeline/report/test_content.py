"""What is collected: of a workspace with a story, of an empty one, of a broken one, and of one on Google Cloud."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from adaptation import codec
from adaptation.data.batches import Snapshot, snapshot_folder
from adaptation.data.labels import Skipped
from adaptation.data.spans import Shard, Span, SpanStore
from adaptation.data.tfrecords import LabelledImage
from adaptation.evaluation.accuracy import ClassFigures, Evaluation, Mistake, wilson_interval
from adaptation.events import FOLDER, Outbox, Reading
from adaptation.events import Event as Announced
from adaptation.events import Kind as Happened
from adaptation.io import storage
from adaptation.io.journal import Journal
from adaptation.notify.delivery import Delivery
from adaptation.notify.receivers import receivers
from adaptation.platforms.base import Job, JobState, ModelVersion, Promotion, Standing, StandingRecord, Upload
from adaptation.platforms.rollout import put_in_service
from adaptation.retraining import TRAINING, Decision, decide
from adaptation.trigger import EVALUATION
from pipeline import cost
from pipeline.cli.main import cli
from pipeline.report import thumbnails
from pipeline.report.calculations import SKIPPED_EXAMPLES
from pipeline.report.chart import BOTTOM, TOP, StoryChart
from pipeline.report.collect import EVENTS, MISTAKES, SEEN, collect
from pipeline.report.content import Event, Facts, Kind, Picture
from pipeline.report.page import render
from pipeline.report.timeline import Sources, timeline
from pipeline.workspace.settings_file import write_settings
from pipeline.workspace.workspace import Workspace
from tests.worlds.cloud import MONTH, ROOT, Cloud, a_cloud, done, golden
from tests.worlds.images import contents, image
from tests.worlds.report import COLOURS, LABELS, Story, announce, begin
from tests.worlds.spans import unpublished as unpublished_span
from tests.worlds.workspace import World

NOVEMBER = "evaluation-2021-11-0001"
BLESSING = "pipelines/training/training-refused/blessing"
OUTPUTS = f"pipelines/evaluation/{NOVEMBER}"


@contextlib.contextmanager
def broken(story: Story, path: str, data: bytes | None) -> Iterator[None]:
    """Replace the file's content, or remove the file, while the context lasts."""
    file = next(iter(sorted(story.folder.glob(path))))
    before = file.read_bytes()
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    try:
        yield
    finally:
        file.write_bytes(before)


def colour(picture: Picture) -> tuple[int, ...]:
    """Return the picture's background colour, as its compression left it."""
    kind, _, content = picture.source.partition(";base64,")
    assert kind == "data:image/webp"
    with Image.open(io.BytesIO(base64.b64decode(content))) as opened:
        assert max(opened.size) <= thumbnails.LONGEST_SIDE
        return tuple(opened.convert("RGB").getpixel((38, 38)))


def is_like(colour: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(abs(one - two) < 30 for one, two in zip(colour, other, strict=True))


# A workspace with a story


def test_events_are_in_the_order_of_time(facts: Facts) -> None:
    events = [(event.time[:10], event.kind.value, event.outcome, event.serving) for event in facts.events]
    assert events == [
        ("2021-09-30", "training", "deployed", 1),
        ("2021-10-31", "evaluation", "retrain", 1),
        ("2021-11-01", "training", "deployed", 2),
        ("2021-11-30", "evaluation", "keep", 2),
        ("2021-12-10", "training", "refused", 2),
        ("2021-12-20", "promotion", "promoted", 1),
        ("2021-12-31", "evaluation", "failed", 1),
    ]


def test_facts_of_a_whole_workspace_have_nothing_missing(facts: Facts) -> None:
    assert (facts.missing, facts.next_steps) == ((), ())


def test_lineage_of_a_champion_names_the_evaluation_that_caused_it(story: Story) -> None:
    """Before the roll-back the champion was version 2."""
    with broken(story, "registry/champion/0003.json", None):
        lineage = collect(story.workspace).lineage
    assert lineage and (lineage.version, lineage.evaluation) == (2, "evaluation-2021-10-0001")
    assert "accuracy 0.5833" in lineage.evidence
    assert [(origin.span, origin.batch, origin.run) for origin in lineage.spans] == [
        (1, "bootstrap", "adapt init"),
        (2, "2021-10", "evaluation-2021-10-0001"),
    ]
    assert lineage.code == "0.1.0+abc123def456"


def test_samples_show_every_label_of_a_span_in_its_own_colour(facts: Facts) -> None:
    for span in facts.spans:
        assert len(span.samples) == thumbnails.SAMPLES
        assert {sample.label for sample in span.samples} == set(LABELS)
        assert all(is_like(colour(sample), COLOURS[sample.label]) for sample in span.samples)


def test_moved_workspace_has_the_same_report(story: Story, facts: Facts, tmp_path: Path) -> None:
    moved = Story(story.folder.rename(tmp_path / "moved"))
    try:
        found = collect(moved.workspace)
    finally:
        moved.folder.rename(story.folder)
    assert found.evaluation is not None and found.evaluation.mistakes
    assert (found.events, found.evaluation, found.comparison) == (facts.events, facts.evaluation, facts.comparison)
    assert found.missing == facts.missing


def test_mistakes_have_their_images(facts: Facts) -> None:
    assert facts.evaluation is not None
    shown = [one.picture for one in facts.evaluation.mistakes]
    assert len(shown) == 3
    assert all(one and is_like(colour(one), COLOURS[one.label]) for one in shown)


def test_last_look_has_typical_and_strangest_images(facts: Facts) -> None:
    look = facts.look
    assert look and (look.batch, look.outcome, look.span) == ("2021-11", "look", 1)
    assert "the mean confidence has fallen from 0.90" in look.reason
    assert len(look.typical) == len(look.strangest) == 8
    assert all(one.picture for one in (*look.typical, *look.strangest))
    assert [one.confidence for one in look.strangest] == sorted(one.confidence for one in look.strangest)


def test_images_of_an_archived_batch_are_found_in_the_archive(story: Story) -> None:
    assert not list((story.folder / "collection" / "2021-10").glob("*.png"))
    with broken(story, f"{OUTPUTS}/metrics/evaluation.json", b"?"):
        evaluation = collect(story.workspace).evaluation
    assert evaluation and evaluation.batch == "2021-10" and len(evaluation.mistakes) == MISTAKES
    assert all(one.picture and is_like(colour(one.picture), COLOURS[one.truth]) for one in evaluation.mistakes)


def test_collecting_changes_nothing(story: Story) -> None:
    before = contents(story.folder)
    collect(story.workspace)
    assert contents(story.folder) == before


def test_page_is_made_of_the_facts_alone_and_json_holds_them_all(facts: Facts) -> None:
    assert codec.decode(codec.encode(facts), Facts, "the report") == facts
    assert render(facts) == render(facts)


def test_events_are_shown_with_the_receivers_that_miss_them(tmp_path: Path) -> None:
    workspace = Workspace.open(write_settings(tmp_path / "adapt.toml", LABELS, {"notify.command": ["false"]}))
    announce(tmp_path / "triggers")
    configured = receivers(workspace.notification)
    Delivery(Outbox(workspace.triggers), configured).begin()
    event = Announced(Happened.WAITING, "third", "version/4", "2021-12-11T10:00:00+00:00", "approve it", number=3)
    Journal(storage.join(workspace.triggers, FOLDER), Reading).append(Reading((event,), count=3), after=1)
    before = contents(tmp_path)
    shown = [(one.kind, one.subject, one.undelivered) for one in collect(workspace).news]
    assert shown == [
        ("challenger: waiting for approval", "version/4", configured[0].name),
        ("challenger: undecided", "version/3", ""),
        ("retraining: decided", "batch/2021-10", ""),
    ]
    assert contents(tmp_path) == before


def test_energy_is_the_sum_of_all_jobs_by_the_factors_of_the_prices(story: Story) -> None:
    prices = story.folder / "prices.toml"
    packaged = Path(cost.__file__).with_name("prices.toml").read_text()
    prices.write_text(packaged.replace("watts_per_cpu = 4.0", "watts_per_cpu = 10.0"))
    try:
        found = collect(story.workspace).energy
    finally:
        prices.unlink()
    assert found and (found.count, found.watts_per_cpu) == (6, 10.0)
    assert found.kwh == pytest.approx((600.5 * 21 * 10 + 6 * 1800) / 3_600_000)
    assert found.kwh == pytest.approx(sum(one.kwh for one in found.jobs))


# Bounds


def test_collecting_never_lists_images_and_reads_few(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[tuple[str, str]] = []
    for name in ("files", "files_below", "folders", "read"):
        original = getattr(storage, name)
        monkeypatch.setattr(
            storage, name, lambda uri, name=name, original=original: touched.append((name, uri)) or original(uri)
        )
    collect(story.workspace)
    collected = [name for name, uri in touched if uri.startswith(f"{story.folder}/collection")]
    assert set(collected) == {"read"} and len(collected) <= MISTAKES + 2 * SEEN
    assert not [uri for name, uri in touched if name == "read" and uri.endswith(".tfrecord")]


def test_large_evaluation_is_shown_in_part(story: Story) -> None:
    with broken(story, f"{OUTPUTS}/metrics/evaluation.json", codec.encode(large_evaluation())):
        facts = collect(story.workspace)
    assert facts.evaluation is not None
    assert (facts.evaluation.matrix, len(facts.evaluation.worst), len(facts.evaluation.confusions)) == ((), 10, 10)
    assert len(facts.evaluation.mistakes) == MISTAKES
    assert [(one.count, len(one.examples)) for one in facts.skipped][0] == (5000, SKIPPED_EXAMPLES)
    assert len(render(facts)) < 300_000


def large_evaluation() -> Evaluation:
    names = tuple(f"class-{number}" for number in range(30))
    confusion = tuple(tuple(9 if row == column else row + column for column in range(30)) for row in range(30))
    images = sum(map(sum, confusion))
    return Evaluation(
        batch="2021-11",
        images=images,
        correct=270,
        accuracy=270 / images,
        interval=wilson_interval(270, images),
        classes=tuple(ClassFigures(name, 50, 9, 9 / (50 + n), 0.5, 0.5) for n, name in enumerate(names)),
        label_names=names,
        confusion=confusion,
        skipped=tuple(Skipped(f"{number}.png", "is empty") for number in range(5000)),
        mistakes=tuple(Mistake(f"{number}.png", names[0], names[1], 0.5) for number in range(20)),
    )


def test_samples_read_only_the_beginning_of_a_file(tmp_path: Path) -> None:
    store, span = SpanStore(str(tmp_path)), Span(1)
    pixels = image("large", size=(200, 200))
    record = LabelledImage(pixels, 0, "cat_1.png", 1).to_record()
    content = record * 20
    shard = Shard.of("train", "00000-of-00001", content, 20)
    manifest = unpublished_span(store, span, "key")
    storage.write(store.shard_uri(span, shard), content)
    manifest = type(manifest)(**{**vars(manifest), "shards": (shard,)})
    assert len(thumbnails.samples(store, manifest)) == thumbnails.HEAD // len(record) < thumbnails.SAMPLES


def test_long_story_has_its_own_width() -> None:
    chart = StoryChart.of([an_event(Kind.EVALUATION, 0.9)] * EVENTS, 0.9)
    places = [point.x for point in chart.points]
    assert places == sorted(places) and 0 < places[0] < places[-1] < 100
    assert chart.least_width == 70 * EVENTS


# Pictures


def test_image_archived_under_a_number_is_distinguished_from_others(tmp_path: Path) -> None:
    batch, archive = tmp_path / "2021-10", tmp_path / "2021-10_old"
    snapshot = taken(batch, "cat_1.png", "mine")
    archive.mkdir()
    (batch / "cat_1.png").rename(archive / "cat_1~3.png")
    (batch / "cat_1.png").write_bytes(image("a newcomer", size=(9, 9)))
    (archive / "cat_1.png").write_bytes(image("an older one", size=(8, 8)))
    (archive / "cat_1~2.png").write_bytes(image("another one", size=(7, 7)))
    found = thumbnails.collected(snapshot, "cat_1.png", "cat")
    assert found == thumbnails.picture((archive / "cat_1~3.png").read_bytes(), "cat_1.png", "cat")
    (archive / "cat_1~3.png").unlink()
    assert thumbnails.collected(snapshot, "cat_1.png", "cat") is None


def taken(folder: Path, name: str, seed: str) -> Snapshot:
    """Return the snapshot of a folder with one image."""
    folder.mkdir()
    (folder / name).write_bytes(image(seed, size=(20, 20)))
    return snapshot_folder(str(folder), folder.name)


@pytest.mark.parametrize("data", [b"", b"no image", image(1)[:60]])
def test_unreadable_image_has_no_picture(data: bytes) -> None:
    assert thumbnails.picture(data, "cat_1.png", "cat") is None


def test_large_image_is_scaled_down_and_keeps_its_shape(tmp_path: Path) -> None:
    found = thumbnails.picture(image(1, size=(400, 200)), "cat_1.png", "cat")
    assert found is not None and len(found.source) < 20_000
    with Image.open(io.BytesIO(base64.b64decode(found.source.partition(",")[2]))) as opened:
        assert opened.size == (96, 48)


# The chart


def an_event(kind: Kind, accuracy: float | None = None, serving: int | None = None) -> Event:
    low, high = (None, None) if accuracy is None else (accuracy - 0.05, min(1.0, accuracy + 0.05))
    return Event(kind, "2021", "2021-10", "job", "keep", "", accuracy=accuracy, low=low, high=high, serving=serving)


def test_chart_goes_from_below_the_lowest_interval_up_to_1() -> None:
    chart = StoryChart.of([an_event(Kind.EVALUATION, 0.62), an_event(Kind.EVALUATION, 1.0)], 0.9)
    assert [label for label, _ in chart.ticks] == ["1.0", "0.9", "0.8", "0.7", "0.6", "0.5"]
    assert (chart.ticks[0][1], chart.ticks[-1][1]) == (TOP, BOTTOM)
    assert chart.points[1].y == TOP
    assert chart.points[0].high < chart.points[0].y < chart.points[0].low < BOTTOM  # type: ignore[operator]
    assert TOP < chart.threshold < chart.points[0].y  # type: ignore[operator]


def test_chart_joins_only_evaluations_with_a_figure() -> None:
    first, last = an_event(Kind.EVALUATION, 0.9), an_event(Kind.EVALUATION, 0.8)
    chart = StoryChart.of([first, an_event(Kind.TRAINING), an_event(Kind.EVALUATION), last], 0.9)
    assert [(one.index, other.index) for one, other in chart.joins] == [(0, 3)]
    assert [point.y is None for point in chart.points] == [False, True, True, False]


def test_band_lasts_as_long_as_its_version_serves() -> None:
    events = [an_event(Kind.TRAINING, serving=serving) for serving in (None, 1, 1, 2, 1)]
    bands = [(band.index, band.x, band.width) for band in StoryChart.of(events, 0.9).bands]
    assert bands == [(1, 20.0, 40.0), (3, 60.0, 20.0), (4, 80.0, 20.0)]


# Little or no data


def test_empty_workspace_says_what_to_do_first(tmp_path: Path) -> None:
    facts = collect(World.make(tmp_path / "empty").workspace)
    assert facts.missing == () and facts.events == facts.spans == facts.runs == ()
    assert "adapt init" in facts.next_steps[0]
    page = render(facts)
    assert "No event is recorded yet" in page and "estimate" not in page
    assert "What to do next" in page and "No span is published yet" in page
    assert "adapt init" in page and "<svg height" not in page


def test_next_step_is_to_train_a_span_and_to_evaluate_a_champion(tmp_path: Path) -> None:
    story = begin(tmp_path / "zoo")
    assert "adapt train" in collect(story.workspace).next_steps[0]
    story.world.register()
    steps = collect(story.workspace).next_steps
    assert f"{tmp_path}/zoo/collection/2021-10" in steps[0] and "adapt evaluate" in steps[1]


def test_training_that_was_decided_and_has_not_begun_is_the_next_step(tmp_path: Path) -> None:
    story = begin(tmp_path / "zoo")
    story.world.register()
    workspace = story.workspace
    decide(workspace.triggers, Decision(1, "evaluation-2021-10-0001", 1, workspace.spans.root, "all", "spans"))
    (step,) = collect(workspace).next_steps
    assert step.startswith("The training on span-1, decided by evaluation-2021-10-0001, has not begun")
    assert '"adapt watch"' in step


# Broken parts

BROKEN = {
    "a manifest": ("data/span-2/manifest.json", b"{}", "The manifest of span-2 could not be read: UnreadableState"),
    "a file of a span": (
        "data/span-1/test/*.tfrecord",
        None,
        "The samples of span-1 could not be read: FileNotFoundError",
    ),
    "an evaluation": (f"{OUTPUTS}/metrics/evaluation.json", b"{", f"evaluation.json of {NOVEMBER} could not be read"),
    "an evaluation that is away": (f"{OUTPUTS}/metrics/evaluation.json", None, f"evaluation.json of {NOVEMBER} could"),
    "a decision": (f"{OUTPUTS}/metrics/decision.json", b"\xff", f"decision.json of {NOVEMBER} could not be read"),
    "a snapshot": (f"{OUTPUTS}/file_list/snapshot.json", b"[]", f"snapshot.json of {NOVEMBER} could not be read"),
    "a verdict": (
        f"{BLESSING}/verdict.json",
        b"1",
        "verdict.json of training-refused",
    ),
    "a comparison": (f"{BLESSING}/pairs.json", b"[]", "pairs.json of training-ref"),
    "a comparison that is away": (f"{BLESSING}/pairs.json", None, "has not kept on which images"),
    "ML Metadata": ("metadata/training.sqlite", b"no database", "The record of the training runs could not be read"),
    "ML Metadata that is away": (
        "metadata/evaluation.sqlite",
        None,
        f"was not found: evaluation-2021-10-0001, {NOVEMBER}",
    ),
    "a version": ("registry/versions/2/version.json", b"{", "The versions of the model could not be read"),
    "a promotion": ("registry/champion/0002.json", b"{}", "The history of champions could not be read"),
    "the champion": ("registry/champion/0003.json", b"{", "The champion could not be read"),
    "a job": ("jobs/training-first/request.json", b"{", "The list of jobs could not be read"),
    "an event": ("triggers/events/0001.json", b"{", "The events could not be read: UnreadableState"),
    "the energy of a job": (
        "jobs/training-first/usage.json",
        b"{",
        "The energy of the jobs could not be read: UnreadableState",
    ),
    "a trigger's record": (
        "triggers/2021-10/0001.json",
        b"{}",
        "The trigger's records could not be read: UnreadableState",
    ),
}


@pytest.mark.parametrize("part", BROKEN)
def test_broken_part_is_named_and_the_rest_is_shown(story: Story, part: str) -> None:
    path, data, expected = BROKEN[part]
    with broken(story, path, data):
        facts = collect(story.workspace)
    assert any(expected in line for line in facts.missing), facts.missing
    page = render(facts)
    assert "Not on this page" in page and "span-" in page
    assert len(facts.spans) == (1 if part == "a manifest" else 2)


def test_deleted_image_is_reported_in_its_place(story: Story, facts: Facts) -> None:
    assert facts.evaluation is not None
    with broken(story, f"collection/2021-11/{facts.evaluation.mistakes[2].name}", None):
        now = collect(story.workspace)
    assert now.evaluation and [one.picture is None for one in now.evaluation.mistakes] == [False, False, True]
    assert "the image does not exist any more" in render(now)


# The command


def test_command_replaces_an_earlier_page_and_leaves_nothing_else(story: Story, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    for _ in range(2):
        made = CliRunner().invoke(cli, ["report", "-w", str(story.folder), "-o", str(page)])
        assert (made.exit_code, made.stdout) == (0, f"{page}: 7 events, 2 spans; open it in a browser\n")
    assert [file.name for file in page.parent.iterdir()] == ["page.html"]
    assert page.read_text().startswith("<!DOCTYPE html>") and page.read_text().rstrip().endswith("</html>")


def test_command_with_json_writes_no_page(story: Story, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    printed = CliRunner().invoke(cli, ["report", "--json", "-w", str(story.folder), "-o", str(page)])
    assert json.loads(printed.stdout)["summary"]["champion"] == 1
    assert not page.exists()


def test_command_refuses_a_folder_without_a_workspace(tmp_path: Path) -> None:
    refused = CliRunner().invoke(cli, ["report", "-w", str(tmp_path)])
    assert refused.exit_code == 1 and "NoSettings" in refused.stderr
    assert list(tmp_path.iterdir()) == []


# Google Cloud


def test_report_on_google_cloud_comes_from_storage_and_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story: Story
) -> None:
    with a_cloud(tmp_path / "shop", monkeypatch) as shop:
        shop.publish_specs()
        shop.publish_spans(2)
        shop.register(2)
        shop.collect(150)
        done(shop.adapt("evaluate"))
        done(shop.adapt("train"))
        evaluation, training = sorted(job["name"].rpartition("/")[2] for job in shop.jobs())
        deployed_by(shop, training)
        output = f"{ROOT}/pipelines/{EVALUATION}/123456/{evaluation}"
        started = Job(training.removeprefix(f"{shop.settings.name}-"), TRAINING, {}, JobState.RUNNING, "", "", {})
        storage.write(f"{output}/PipelineTrigger_8/job/job.json", codec.encode(started))
        for name in ("metrics/evaluation.json", "metrics/decision.json", "file_list/snapshot.json"):
            data = (story.folder / OUTPUTS / name).read_bytes()
            storage.write(f"{output}/Task_7/{name}", data)
        facts = json.loads(done(shop.adapt("report", "--json")))
        page = tmp_path / "report.html"
        done(shop.adapt("report", "-o", str(page)))
    assert (facts["platform"], facts["summary"]["champion"], facts["summary"]["spans"]) == ("vertex", 3, 2)
    assert facts["evaluation"]["correct"] == 42
    events = [event for event in facts["events"] if event["kind"] != "promotion"]
    assert [event["kind"] for event in events] == ["evaluation", "training"]
    assert events[0]["cause"] == "requested: 150 images, 150 of them new"
    assert (events[1]["version"], events[1]["outcome"]) == (3, "deployed")
    assert f"started by {facts['lineage']['evaluation']}" == events[1]["cause"]
    assert (facts["lineage"]["reason"], facts["lineage"]["run"]) == ("because", started.id)
    tasks = {run["pipeline"]: {task["name"] for task in run["tasks"]} for run in facts["runs"]}
    assert tasks == {name: set(golden(name).tasks) for name in (EVALUATION, TRAINING)}
    assert MONTH in facts["lineage"]["evaluation"] and "Vertex AI, as of" in page.read_text()


def deployed_by(shop: Cloud, run: str) -> None:
    """Deploy a version that a job made."""
    model = f"{ROOT}/made/{run}"
    storage.write(f"{model}/saved_model.pb", b"model")
    platform = shop.workspace.platform
    version = platform.registry.upload(Upload(model, run, (1, 2), {}, model, run))
    put_in_service(platform.registry, platform.endpoint, version, "because")


# The story, from its sources alone


def test_evaluation_measures_the_version_that_served_when_it_began() -> None:
    times = [f"2021-10-{day:02d}T00:00:00+00:00" for day in (1, 2, 3, 4)]
    job = Job("evaluation-2021-10-0001", EVALUATION, {}, JobState.SUCCEEDED, "", "", {}, times[1], times[3])
    promotions = [Promotion(1, "first", times[0]), Promotion(2, "second", times[2])]
    event = next(event for event in timeline(Sources([job], promotions=promotions)) if event.kind is Kind.EVALUATION)
    assert (event.version, event.serving, event.seconds) == (1, 2, 172_800.0)


def test_outcome_of_a_training_is_the_standing_of_its_version_once_it_has_one() -> None:
    job = Job("training-1", TRAINING, {}, JobState.SUCCEEDED, "", "", {"deployed": False, "outcome": "undecided"})
    made = ModelVersion(1, "", "", (), {}, "", "training-1", "")
    record = StandingRecord(1, Standing.REJECTED, "too slow", "")
    (event,) = timeline(Sources([job], versions=[made], standings={1: record}))
    assert event.outcome == "rejected"


@pytest.mark.parametrize(
    ("result", "version", "outcome"),
    [
        ({"deployed": True}, 0, "deployed"),
        ({"deployed": False}, 0, "refused"),
        ({"deployed": False, "standing": "refused"}, 0, "refused"),
        ({"deployed": False, "standing": "candidate"}, 0, "undecided"),
        ({"deployed": False, "standing": "waiting for approval"}, 0, "waiting"),
        ({}, 1, "deployed"),
        ({}, 2, "ended"),
        ({}, 0, "ended"),
    ],
)
def test_outcome_of_a_challenger_is_shown_as_far_as_recorded(
    result: dict[str, Any], version: int, outcome: str
) -> None:
    job = Job("training-1", TRAINING, {}, JobState.SUCCEEDED, "", "", result)
    made = [ModelVersion(version, "", "", (), {}, "", "training-1", "")] if version else []
    events = [one for one in timeline(Sources([job], versions=made, promotions=[Promotion(1, "", "")])) if one.job]
    assert [event.outcome for event in events] == [outcome]
