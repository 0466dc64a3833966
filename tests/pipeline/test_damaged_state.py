"""State that cannot be read is one error that names the file and the remedy, whatever command reads it.

A workspace is made by what writes it for real. Then each of its files in turn is damaged, and each command that reads
it is run in a copy of its own.
"""

from __future__ import annotations

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
from adaptation.trigger import EVALUATION, TriggerRecord, journal
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
