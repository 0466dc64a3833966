"""State that cannot be read is one error that names the file and the remedy, whatever command reads it.

A workspace is made by what writes it for real. Then each of its files in turn is damaged, and each command that reads
it is run in a copy of its own.
"""

from __future__ import annotations

import random
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from adaptation import codec
from adaptation.codec import UnreadableState
from adaptation.data.batches import Batch
from adaptation.data.reviews import Reviews
from adaptation.io import storage
from adaptation.platforms.base import JobRequest
from adaptation.platforms.local.jobs import REQUEST, run_recorded
from adaptation.progress import report
from adaptation.trigger import EVALUATION, Outcome, TriggerRecord, journal
from adaptation.watch import watch
from pipeline.cli.main import cli
from pipeline.jobs import trigger
from pipeline.workspace.initialise import initialise
from tests.worlds.workspace import World, collect, use_fake_jobs, use_real_jobs

OCTOBER = Batch(2021, 10)
JOB = "evaluation-2021-10-0001"
NEW_SPAN = "data/span-2/train/images.tfrecord"
LOOKS = ("plan", "evaluate")
READERS = {
    "data/span-1/manifest.json": (
        "spans list",
        "spans show span-1",
        "spans verify",
        "train",
        "review import {folder}/table.csv",
    ),
    "data/span-1/snapshot.json": ("spans verify",),
    "data/_claims/0001.json": ("spans list",),
    "data/_adopted/span-2.json": ("spans adopt span-2",),
    "collection/_evaluated/2021-10/*.json": (*LOOKS, "batches list"),
    "collection/_reviewed/2021-10/0001.json": ("review export -o {folder}/review", "review import {folder}/table.csv"),
    "triggers/2021-10/0001.json": LOOKS,
    f"jobs/{JOB}/request.json": LOOKS,
    f"jobs/{JOB}/state.json": LOOKS,
    f"jobs/{JOB}/result.json": LOOKS,
    f"jobs/{JOB}/usage.json": (),
    "registry/versions/1/version.json": ("models list", "rollback"),
    "registry/versions/2/version.json": ("models list", *LOOKS),
    "registry/champion/0001.json": ("rollback",),
    "registry/champion/0002.json": ("models list", "rollback", *LOOKS),
}
DAMAGES = {
    "half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "another shape": lambda data: b"{}",
    "garbage": lambda data: bytes((7 * byte + 129) % 256 for byte in data),
}
FURTHER = {
    "random": lambda data: random.Random(17).randbytes(len(data)),
    "deep": lambda data: b"[" * 100_000,
    "a newer version's": lambda data: re.sub(rb'"(state|outcome|pipeline)": ?"', rb'"\1": "newer ', data).replace(
        b"{", b'{"unknown to this version": [1],', 1
    ),
}
LOOKING = ("plan", "batches list", "spans list", "spans show span-1", "spans verify", "models list", "models history")
LOOKING_LONGER = ("report --json", "review export -o {output}", "doctor")  # they change nothing either
CASES = [
    (file, command, damage)
    for file, commands in READERS.items()
    for command in commands
    for damage in DAMAGES
    if not (file.endswith("result.json") and damage == "another shape")  # a job may conclude nothing
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with a file of each kind."""
    folder = tmp_path_factory.mktemp("damaged") / "workspace"
    use_fake_jobs()
    world = World.make(folder)
    collect(folder / "own", [f"{label}_{number}.png" for label in ("ship", "truck") for number in range(12)])
    initialise(folder, folder / "own")
    world.register(2)
    _evaluate(world)
    _adopt_half(world)
    (folder / "table.csv").write_text("path,label\n2021-10/ship_1.png,truck\n")
    yield folder
    use_real_jobs()


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """The workspace, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "workspace"))


def _evaluate(world: World) -> None:
    """Evaluate a batch, archive part of it, let more images arrive, and review an image."""
    world.collect(12)
    workspace = world.workspace
    snapshot = workspace.batches.snapshot(OCTOBER)
    record = TriggerRecord(JOB, 1, len(snapshot.images), snapshot.digest, "2021-10-31T10:00:00+00:00", "12 new images")
    journal(workspace.triggers, OCTOBER).append(record, after=0)
    request = {"id": JOB, "pipeline": EVALUATION, "parameters": {}, "created": "2021-10-31T10:00:00+00:00"}
    storage.write(str(world.folder / "jobs" / JOB / REQUEST), codec.encode(request))
    run_recorded(str(world.folder / "jobs" / JOB), _work)
    workspace.batches.mark_evaluated(snapshot)
    workspace.batches.archive(snapshot)
    world.collect(12, first=1)
    Reviews(workspace.batches).add(OCTOBER, {workspace.batches.images(OCTOBER)[0]: "truck"})


def _work(request: JobRequest) -> dict[str, bool]:
    report(f"working on {request.id}")
    return {"retrain": False}


def _adopt_half(world: World) -> None:
    """Leave a span from elsewhere whose adoption was interrupted."""
    storage.write(str(world.folder / NEW_SPAN), b"")
    storage.write(str(world.folder / "data/_adopted/span-2.json"), codec.encode(["train/images.tfrecord"]))


def damaged(folder: Path, pattern: str, damage: str) -> Path:
    """Damage the file and return it."""
    [file] = folder.glob(pattern)
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    return file


@pytest.mark.parametrize(("pattern", "command", "damage"), CASES)
def test_damaged_file_is_named_with_a_remedy(copy: Path, pattern: str, command: str, damage: str) -> None:
    file = damaged(copy, pattern, damage)
    words = command.format(folder=copy).split()
    result = CliRunner().invoke(cli, [*words, "-w", str(copy)], prog_name="adapt")
    assert result.exit_code == 1, result.output
    assert f"UnreadableState: {file} cannot be read: " in result.stderr
    assert "Restore it" in result.stderr
    assert "Traceback" not in result.output and "This is unexpected" not in result.output


@pytest.mark.parametrize("command", sorted({command for commands in READERS.values() for command in commands}))
def test_workspace_that_is_whole_is_read(copy: Path, command: str) -> None:
    words = command.format(folder=copy).split()
    result = CliRunner().invoke(cli, [*words, "-w", str(copy)], prog_name="adapt")
    assert "UnreadableState" not in result.output


@pytest.mark.parametrize("pattern", READERS)
def test_looking_at_damaged_state_never_ends_in_a_traceback(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    """A command that needs the file names it and fails; one that does not need it does its work."""
    monkeypatch.setattr("pipeline.doctor.examine.machine_checks", lambda folder: [])  # they take a second each
    [file] = copy.glob(pattern)
    content = file.read_bytes()
    for damage, change in {**DAMAGES, **FURTHER}.items():
        file.write_bytes(change(content))
        for command in (*LOOKING, *(LOOKING_LONGER if damage == "half" else ())):
            words = command.format(output=tmp_path / "review").split()
            result = CliRunner().invoke(cli, [*words, "-w", str(copy)], prog_name="adapt")
            case = f"{damage}, {command}: {result.output}"
            assert result.exit_code in (0, 1), case
            assert result.exit_code == 0 or file.name in result.output, case
            assert "Traceback" not in result.output and "This is unexpected" not in result.output, case


def test_doctor_names_every_damaged_file(copy: Path) -> None:
    files = [file for pattern in READERS for file in copy.glob(pattern)]
    for file in files:
        file.write_bytes(b"[")
    result = CliRunner().invoke(cli, ["doctor", "-w", str(copy)], prog_name="adapt")
    assert result.exit_code == 1
    assert [str(file) for file in files if f"{file} cannot be read" not in result.output] == []


def test_doctor_moves_damaged_files_away_after_asking_and_deletes_nothing(copy: Path) -> None:
    file = damaged(copy, "triggers/2021-10/0001.json", "half")
    version = damaged(copy, "registry/versions/1/version.json", "garbage")
    before = sorted(path.read_bytes() for path in copy.rglob("*") if path.is_file())
    refused = CliRunner().invoke(cli, ["doctor", "--repair", "-w", str(copy)], input="n\n", prog_name="adapt")
    assert refused.exit_code == 1 and file.exists() and version.exists()
    result = CliRunner().invoke(cli, ["doctor", "--repair", "-w", str(copy)], input="y\n", prog_name="adapt")
    assert f"{file} cannot be read" in result.output and f"{version} cannot be read" in result.output
    assert not file.exists() and not version.parent.exists()
    [moved] = copy.glob("quarantine/*/triggers/2021-10/0001.json")
    assert moved.exists() and [*copy.glob("quarantine/*/registry/versions/1/version.json")]
    assert sorted(path.read_bytes() for path in copy.rglob("*") if path.is_file()) == before
    assert "cannot be read" not in CliRunner().invoke(cli, ["doctor", "-w", str(copy)], prog_name="adapt").output
    again = CliRunner().invoke(cli, ["doctor", "--repair", "-w", str(copy)], prog_name="adapt")
    assert "no file is damaged" in again.output


@pytest.mark.parametrize("pattern", ["triggers/2021-10/0001.json", f"jobs/{JOB}/state.json"])
def test_delivery_goes_on_with_a_newer_batch_and_reports_the_damage(copy: Path, pattern: str) -> None:
    file = damaged(copy, pattern, "another shape")
    World(copy).collect(12, month="2021-11", first=100)
    delivery = trigger(World(copy).workspace)
    assert (str(delivery.plan.batch), delivery.plan.outcome) == ("2021-11", Outcome.START)
    [reason] = delivery.damaged
    assert reason.startswith(f"{file} cannot be read: ")
    lines: list[str] = []
    stop = threading.Event()
    watch(lambda: delivery, 0.01, stop, lambda line: (lines.append(line), stop.set()))
    assert f"goes on without what is damaged: {file}" in lines[0]


def test_delivery_goes_on_without_a_damaged_training(copy: Path) -> None:
    file = copy / "triggers" / "trainings" / "0001.json"
    file.parent.mkdir()
    file.write_bytes(b"{")
    delivery = trigger(World(copy).workspace)
    assert delivery.plan.batch == OCTOBER
    [reason] = delivery.damaged
    assert reason.startswith(f"{file} cannot be read: ")


def test_damaged_state_of_a_job_does_not_repeat_its_evaluation(copy: Path) -> None:
    damaged(copy, f"jobs/{JOB}/state.json", "another shape")
    with pytest.raises(UnreadableState, match="state.json"):
        trigger(World(copy).workspace)
    assert not (copy / "jobs" / JOB / "log.txt").exists()


def test_last_job_that_failed_is_a_warning_of_the_doctor(copy: Path) -> None:
    failed = '{"state": "FAILED", "message": "ValueError: no luck", "time": "2021-10-31T10:00:00+00:00"}'
    (copy / "jobs" / JOB / "state.json").write_text(failed)
    result = CliRunner().invoke(cli, ["doctor", "-w", str(copy)], prog_name="adapt")
    assert f"warning  the last jobs: {JOB} has failed: ValueError: no luck. See " in result.output


def test_readers_cover_every_state_file_of_the_workspace(whole: Path) -> None:
    tried = {file for pattern in READERS for file in whole.glob(pattern)}
    others = {whole / "control"}
    state = {file for file in whole.rglob("*.json") if not others & set(file.parents)}
    assert state == tried


@pytest.mark.parametrize("damage", DAMAGES)
def test_watch_names_a_damaged_record_and_continues(copy: Path, damage: str) -> None:
    file, content = copy / "triggers/2021-10/0001.json", (copy / "triggers/2021-10/0001.json").read_bytes()
    damaged(copy, "triggers/2021-10/0001.json", damage)
    lines: list[str] = []
    stop = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        file.write_bytes(content)
        if len(lines) == 2:
            stop.set()

    workspace = World(copy).workspace
    with pytest.raises(UnreadableState):
        trigger(workspace)
    watch(lambda: trigger(workspace), 0.01, stop, say)
    assert lines[0].startswith(f"could not look: {file} cannot be read: ")
    assert lines[1].startswith("2021-10: ")


def test_job_whose_progress_is_damaged_is_named(copy: Path) -> None:
    file = damaged(copy, f"jobs/{JOB}/progress.jsonl", "half")
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(UnreadableState, match=f"^{file} cannot be read: "):
        list(World(copy).workspace.jobs.follow(JOB))
