"""The command line: what each command shows, and what it says, and with which exit code, where something is wrong."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adaptation.data.span_adoption import adopt
from adaptation.data.spans import Span
from adaptation.platforms.base import JobState, Standing
from pipeline import jobs as starting
from pipeline.cli.main import cli
from tests.worlds.images import collect, contents
from tests.worlds.spans import published
from tests.worlds.workspace import LABELS, MONTH, World, plain, start, use_fake_jobs, use_real_jobs


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two classes, no image, no span, no model."""
    use_fake_jobs()
    yield World.make(tmp_path / "shop")
    use_real_jobs()


@pytest.fixture
def shop(world: World, tmp_path: Path) -> World:
    """The world with span-1 of 40 images, 15 images in 2021-10, and two versions of a model."""
    collect(tmp_path / "own", [f"{label}_{number}.png" for label in LABELS for number in range(20)])
    assert adapt(world, "init", "--images", str(tmp_path / "own")).exit_code == 0
    world.collect(15)
    world.register(2)
    return world


def adapt(world: World, *arguments: str) -> Result:
    """Run a command in the world's workspace."""
    return CliRunner().invoke(cli, [*arguments, "--workspace", str(world.folder)])


def rows(result: Result) -> list[list[str]]:
    """Return the rows of the table below its title and heads; cells are at least two spaces apart."""
    assert result.exit_code == 0, result.stderr
    return [[cell for cell in line.split("  ") if cell] for line in result.stdout.splitlines()[2:]]


def stripped(row: list[str]) -> list[str]:
    return [cell.strip() for cell in row]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "--widnow", "all"], "Did you mean '--window'?"),
        (["spans", "shwo"], "Did you mean 'show'?"),
        (["spans", "show"], "Missing argument 'SPAN'"),
        (["spans", "adopt"], "Missing argument 'SPAN'"),
        (["batches", "requeue"], "Missing argument 'BATCH'"),
        (["batches", "requeue", "2021-10", "2021-11"], "2021-11"),
        (["train", "--window"], "'--window' requires an argument"),
        (["init", "--images", "/no/such/folder"], "/no/such/folder"),
        (["init", "--images", __file__], __file__),
        (["init", "--limit", "3"], "3 is not in the range"),
        (["watch", "--interval", "0"], "0.0 is not in the range"),
        (["demo", "--workspace", __file__], __file__),
    ],
)
def test_wrong_usage_is_reported_with_exit_code_2(arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        (["train"], "SpanNotPublished", "adapt init"),
        (["evaluate"], "NoBatch", "like 2021-10"),
        (["evaluate", "--batch", "2021-13"], "InvalidBatch", "'2021-13' is no month"),
        (["spans", "show", "1"], "SpanNotPublished", "span-1"),
        (["spans", "verify", "span-x"], "InvalidSpan", "'span-x'"),
        (["spans", "adopt", "1"], "InvalidSpan", "train/"),
        (["batches", "requeue", "2021-10"], "NoBatch", "nothing of 2021-10 is archived"),
        (["rollback"], "NoSuchModel", "adapt models list"),
    ],
)
def test_command_in_an_empty_workspace_says_what_is_missing(
    world: World, command: list[str], error: str, message: str
) -> None:
    before = contents(world.folder)
    result = adapt(world, *command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"{error}: ")
    assert message in result.stderr
    assert contents(world.folder) == before


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        (["train", "--window", "1,7"], "SpanNotPublished", "span 7 of window 1,7"),
        (["train", "--window", "newest"], "InvalidWindow", "'newest'"),
        (["evaluate", "--batch", "2021-1"], "InvalidBatch", "'2021-1'"),
        (["evaluate", "--batch", "1999-01"], "NoBatch", "there: 2021-10"),
        (["spans", "show", "7"], "SpanNotPublished", "published: 1"),
        (["batches", "requeue", "2021-13"], "InvalidBatch", "'2021-13'"),
        (["init"], "AlreadyExists", "span-1"),
    ],
)
def test_invalid_request_is_refused_and_nothing_is_lost(
    shop: World, command: list[str], error: str, message: str
) -> None:
    before = contents(shop.folder)
    result = adapt(shop, *command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{error}: " in result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert contents(shop.folder) == before


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_debug_shows_the_traceback_wherever_it_is_put(world: World, place: int) -> None:
    arguments = ["spans", "show", "1", "--workspace", str(world.folder)]
    result = CliRunner().invoke(cli, [*arguments[:place], "--debug", *arguments[place:]])
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback") and "SpanNotPublished: span-1" in result.stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("a bug"), "RuntimeError: a bug\nThis is unexpected; --debug"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device\n"),
    ],
)
def test_errors_of_any_kind_are_one_message(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(starting, "planned", fail)
    result = adapt(world, "plan")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.stderr
    assert ("This is unexpected" in result.stderr) is isinstance(error, RuntimeError)


def test_init_reports_what_it_made_and_what_it_skipped(tmp_path: Path) -> None:
    collect(tmp_path / "own", [f"{label}/{number}.png" for label in ("cat [old]", "dog") for number in range(70)])
    for number in range(7):
        (tmp_path / "own" / "dog" / f"broken {number}.png").touch()
    collect(tmp_path / "own", ["1.webp", "dog/1.heic", "dog/@eaDir/1.jpg"])
    result = adapt(World(tmp_path / "shop"), "init", "--images", str(tmp_path / "own"), "--name", "pets")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"{tmp_path}/shop/adapt.toml: the settings, with every choice explained",
        "classes by folder: cat [old], dog",
        "  cat [old]: 70, as cat [old]/0.png",
        "  dog: 77, as dog/0.png",
        "passed over: 2 files that are no JPEG or PNG: 1 .heic (dog/1.heic), 1 .webp (1.webp); 1 of @eaDir "
        "(dog/@eaDir/1.jpg)",
        "span-1: 140 images, 7 skipped",
        *[f"  skipped dog/broken {number}.png: is empty" for number in range(5)],
        '  ... "adapt spans show 1" lists them all',
        f'Next: "adapt train -w {tmp_path}/shop"',
    ]
    assert str(tmp_path / "own") in result.stderr
    shown = adapt(World(tmp_path / "shop"), "spans", "show", "1")
    assert "cat [old]" in shown.stdout and "  skipped dog/broken 6.png: is empty" in shown.stdout


def test_init_takes_the_answers_to_what_it_asks(tmp_path: Path) -> None:
    collect(tmp_path / "own", [f"{name}/2021/{number}.png" for name in ("cat", "dog") for number in range(20)])
    command = ("init", "--images", str(tmp_path / "own"))
    asked = adapt(World(tmp_path / "shop"), *command)
    assert (
        asked.exit_code == 1
        and "is the class of cat/2021/0.png cat or 2021? Say it with --class-folder" in asked.stderr
    )
    answered = adapt(World(tmp_path / "shop"), *command, "--class-folder", "first")
    assert answered.exit_code == 0 and "classes by folder: cat, dog" in answered.stdout
    by_pattern = adapt(World(tmp_path / "other"), *command, "--pattern", "(?P<label>cat|dog)/")
    assert by_pattern.exit_code == 0 and "classes by pattern: cat, dog" in by_pattern.stdout


@pytest.mark.parametrize("command", ["init", "doctor", "plan"])
def test_workspace_whose_path_is_a_pattern_is_refused(tmp_path: Path, command: str) -> None:
    world = World(tmp_path / "shop [1]")
    if command != "init":
        world.folder.mkdir()
        (world.folder / "adapt.toml").write_text('labels.names = ["cat", "dog"]\n')
    collect(tmp_path / "own", [f"{label}_{number}.png" for label in LABELS for number in range(3)])
    result = adapt(world, command, *(("--images", str(tmp_path / "own")) if command == "init" else ()))
    assert result.exit_code == 1
    assert f"platform.root = '{world.folder}': should have none of the characters [ ]" in result.output
    assert command != "init" or not contents(world.folder)


def test_plan_names_files_that_are_no_images_of_the_batch(shop: World) -> None:
    collect(shop.folder / "collection" / MONTH, ["cat/1.webp"])
    assert "files    passed over: 1 files that are no JPEG or PNG: 1 .webp (cat/1.webp)" in adapt(shop, "plan").stdout


def test_spans_are_listed_with_their_numbers_to_the_right(shop: World, tmp_path: Path) -> None:
    shutil.copytree(shop.folder / "data" / "span-1", shop.folder / "data" / "span-10")
    (shop.folder / "data" / "span-10" / "manifest.json").unlink()
    result = adapt(shop, "spans", "list")
    manifest = shop.workspace.spans.manifest(Span(1))
    split = [str(manifest.images_in(name)) for name in ("train", "test")]
    assert stripped(rows(result)[0])[:5] == ["span-1", "bootstrap", *split, manifest.digest[:12]]
    _, heads, row, adoptable = result.stdout.splitlines()
    assert row[: heads.index("train") + 5].endswith(f" {split[0]}")
    assert adoptable == 'span-10 has no manifest; "adapt spans adopt span-10" verifies and signs it'


def test_span_is_shown_with_its_classes_and_files(shop: World) -> None:
    manifest = shop.workspace.spans.manifest(Span(1))
    result = adapt(shop, "spans", "show", "span-1")
    counts = {name: [str(manifest.counts[split][name]) for split in ("train", "test")] for name in LABELS}
    assert [stripped(row) for row in rows(result)[:2]] == [["ship", *counts["ship"]], ["truck", *counts["truck"]]]
    assert all(shard.path in result.stdout and str(shard.size) in result.stdout for shard in manifest.shards)
    assert manifest.digest in result.stdout


def test_verify_decode_names_what_trainings_leave_out(shop: World) -> None:
    published(shop.workspace.spans, images=1)
    assert adapt(shop, "spans", "verify").exit_code == 0
    result = adapt(shop, "spans", "verify", "--decode")
    assert result.exit_code == 1
    assert "  0 is no JPEG or PNG image" in result.output
    assert "2 images cannot be decoded; trainings leave them out" in result.output


def test_verify_names_every_damaged_span_and_continues(shop: World) -> None:
    store = shop.workspace.spans
    for number in (2, 3):
        shutil.copytree(store.folder(Span(1)), store.folder(Span(number)))
        (Path(store.folder(Span(number))) / "manifest.json").unlink()
        (Path(store.folder(Span(number))) / "snapshot.json").unlink()
        adopt(store, Span(number), LABELS)
    shard = Path(store.shard_uri(Span(2), store.manifest(Span(2)).shards[0]))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    result = adapt(shop, "spans", "verify")
    assert result.exit_code == 1
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["span-1", "span-3"]
    assert result.stderr.startswith("CorruptSpan: span-2 ")
    assert adapt(shop, "spans", "verify", "1", "span-3").exit_code == 0


def test_folder_from_elsewhere_is_adopted(shop: World) -> None:
    data = shop.folder / "data"
    for split in ("train", "test"):
        shutil.copytree(data / "span-1" / split, data / "span-4" / split)
    result = adapt(shop, "spans", "adopt", "4")
    assert result.stdout.startswith("span-4: 40 images, digest ")
    assert adapt(shop, "spans", "verify", "span-4").exit_code == 0


def test_batches_are_listed_with_new_and_archived_images(shop: World) -> None:
    store = shop.workspace.batches
    first = store.snapshot(store.newest())
    store.mark_evaluated(first)
    shop.collect(5, first=15)
    assert [stripped(row) for row in rows(adapt(shop, "batches", "list"))] == [["2021-10", "20", "5", "0"]]
    store.archive(first)
    assert [stripped(row) for row in rows(adapt(shop, "batches", "list"))] == [["2021-10", "5", "5", "15"]]
    assert adapt(shop, "batches", "requeue", "2021-10").stdout == "2021-10: 15 images are back\n"
    assert [stripped(row) for row in rows(adapt(shop, "batches", "list"))] == [["2021-10", "20", "5", "0"]]


def test_models_are_listed_and_rolled_back(shop: World) -> None:
    listed = [stripped(row)[:-1] for row in rows(adapt(shop, "models", "list"))]
    assert listed == [
        ["1", "1", "span-1: 0.901", "span-1: 0.901"],
        ["2", "champion", "1-2", "span-1: 0.901", "span-2: 0.902"],
    ]
    assert adapt(shop, "rollback").stdout == "version 1 is the champion again\n"
    assert stripped(rows(adapt(shop, "models", "list"))[0])[1] == "champion"
    assert shop.workspace.platform.endpoint.serving() == [1]


def test_rollback_without_a_predecessor_changes_nothing(shop: World) -> None:
    adapt(shop, "rollback")
    result = adapt(shop, "rollback")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("NoSuchModel: no version was serving before this one")
    assert shop.workspace.platform.registry.find().number == 1
    assert shop.workspace.platform.endpoint.serving() == [1]


def test_models_are_approved_rejected_and_their_history_is_shown(shop: World) -> None:
    registry = shop.workspace.platform.registry
    registry.promote(registry.find("1"), "made for a test")
    registry.mark(registry.find("2"), Standing.WAITING, "better by 3 points")
    assert [stripped(row)[1] for row in rows(adapt(shop, "models", "list"))] == ["champion", "waiting for approval"]
    assert adapt(shop, "models", "approve", "2").stdout == "version 2 is the champion\n"
    rejected = adapt(shop, "models", "reject", "1", "--reason", "too slow")
    assert (rejected.exit_code, "Error: version 1 is not pending" in rejected.stderr) == (1, True)
    events = json.loads(adapt(shop, "models", "history", "--json").stdout)
    assert [(one["version"], one["standing"]) for one in events[-2:]] == [(2, "waiting for approval"), (2, "champion")]
    assert events[-1]["reason"] == "approved: better by 3 points"
    assert len(rows(adapt(shop, "models", "history"))) == len(events)


@pytest.mark.parametrize("listing", ["spans", "batches", "models"])
def test_empty_list_says_none(world: World, listing: str) -> None:
    result = adapt(world, listing, "list")
    assert result.exit_code == 0
    assert result.stdout.endswith(": none\n")


def test_plan_shows_what_would_be_done_and_why(shop: World) -> None:
    result = adapt(shop, "plan")
    digest = shop.workspace.batches.snapshot(shop.workspace.batches.newest()).digest[:12]
    assert [line.split(maxsplit=1) for line in result.stdout.splitlines()] == [
        ["batch", "2021-10"],
        ["images", "15, of which 15 are new"],
        ["digest", digest],
        ["job", "evaluation-2021-10-0001"],
        ["outcome", "start: 15 new images (10 are enough)"],
    ]
    assert shop.job_ids == []


def test_plan_of_power_without_a_batch_asks_for_a_number(tmp_path: Path) -> None:
    refused = adapt(World.make(tmp_path / "empty"), "plan", "--power")
    assert refused.exit_code == 2 and "--images 1000" in refused.output


def test_plan_of_power_shows_the_batches_until_a_fall_is_seen(shop: World) -> None:
    lines = adapt(shop, "plan", "--power", "--images", "1000").stdout.splitlines()
    assert "With 1000 labelled images a batch and the threshold 0.9, a fall is seen after:" in lines
    accuracies = [line.split()[0] for line in lines[-4:]]
    halves = [int(line.split()[1].replace(",", "")) for line in lines[-4:]]
    assert accuracies == ["0.88", "0.85", "0.80", "0.70"] and halves == sorted(halves, reverse=True)


def test_plan_of_an_empty_workspace_names_what_is_missing(world: World) -> None:
    result = adapt(world, "plan")
    assert result.exit_code == 0
    assert "outcome  no batch: there is no batch yet" in result.stdout
    assert "no champion" in result.stdout and "adapt train" in result.stdout


def test_training_shows_its_progress_and_prints_its_result(shop: World) -> None:
    result = adapt(shop, "train")
    assert (result.exit_code, result.stdout) == (0, "version 1 is the champion\n")
    (job,) = shop.workspace.jobs.list()
    assert f"job {job.id}, log: {job.link}" in result.stderr
    steps = [line.split(" s  ")[1] for line in result.stderr.splitlines() if " s  " in line]
    assert steps == ["Trainer (1 of 2)", "epoch 1/1, accuracy 0.50 (eval 0.50)", "Evaluator (2 of 2)"]


@pytest.mark.parametrize(
    ("standing", "code"), [("refused", 3), ("dropped", 3), ("candidate", 4), ("waiting for approval", 0)]
)
def test_outcomes_of_a_training_have_their_own_exit_codes(shop: World, standing: str, code: int) -> None:
    shop.conclude("training", reason="version 2 did something", deployed=False, standing=standing)
    result = adapt(shop, "train")
    assert (result.exit_code, result.stdout) == (code, "version 2 did something\n")


def test_training_shows_on_which_images_the_models_differ(shop: World) -> None:
    counts = {"both": 41, "champion_only": 2, "challenger_only": 33, "neither": 5}
    shop.conclude("training", reason="it is better", by_span={"1": counts}, by_label={"cat": counts, "dog": counts})
    lines = [line.split() for line in adapt(shop, "train").stdout.splitlines()]
    assert ["1", "41", "2", "33", "5"] in lines and ["dog", "41", "2", "33", "5"] in lines
    assert ["span", "both", "right", "only", "champion", "only", "challenger", "both", "wrong"] in lines


def test_failed_training_shows_the_reason_and_its_log(shop: World) -> None:
    shop.fail("training")
    result = adapt(shop, "train")
    (job,) = shop.workspace.jobs.list()
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"JobFailed: {job.id} failed: OSError: the disk is full. Its log: {job.link}" in result.stderr
    assert "Traceback" in Path(job.link).read_text()


def test_evaluation_that_triggers_nothing_ends_with_its_reason(shop: World) -> None:
    result = adapt(shop, "evaluate", "--batch", "2021-10")
    assert (result.exit_code, result.stdout) == (0, "accuracy 0.95 is not below 0.9\n")
    assert "15 images, 15 of them new" in result.stderr
    assert shop.job_ids == ["evaluation-2021-10-0001"]


@pytest.mark.parametrize(("deployed", "code"), [(True, 0), (False, 3)])
def test_evaluation_is_followed_into_the_training_that_it_triggers(shop: World, deployed: bool, code: int) -> None:
    training = starting.start_training(shop.workspace)
    shop.conclude("training", reason="the gate has decided", deployed=deployed)
    shop.conclude("evaluation", reason="accuracy 0.50 is below 0.9", training=training.id)
    result = adapt(shop, "evaluate")
    assert (result.exit_code, result.stdout) == (code, "accuracy 0.50 is below 0.9\nthe gate has decided\n")


def test_ctrl_c_leaves_the_job_running_and_names_its_log(shop: World) -> None:
    shop.hold()
    process = start("evaluate", "--workspace", str(shop.folder))
    job = "evaluation-2021-10-0001"
    assert process.stderr and any("Trainer" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    output, progress = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert f"{job} keeps running. Its log: {shop.folder}/jobs/{job}/log.txt\n" in progress
    assert "Traceback" not in progress
    shop.release()
    assert [one.state for one in shop.workspace.jobs.list()] == [JobState.SUCCEEDED]


def test_terminal_replaces_epochs_and_keeps_components(shop: World) -> None:
    terminal, stderr = pty.openpty()
    process = start("train", "--workspace", str(shop.folder), terminal=stderr)
    output, _ = process.communicate(timeout=60)
    os.close(stderr)
    shown = read_all(terminal)
    stays = [line.strip() for line in plain(shown).splitlines() if " s  " in line]
    assert [line.split(" s  ")[1] for line in stays] == ["Trainer (1 of 2)", "Evaluator (2 of 2)"]
    assert output == "version 1 is the champion\n"


def read_all(terminal: int) -> str:
    """What was printed on a terminal whose other end is closed."""
    data = b""
    while True:
        try:
            data += os.read(terminal, 4096)
        except OSError:  # this is how a terminal ends
            os.close(terminal)
            return data.decode()
