"""The notebooks' scenario: which camera sees which scans, and steps taken once. Jobs are `World`'s fast ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from adaptation.platforms.base import JobFailed, JobRequest
from notebooks import scenario
from pipeline.workspace.digit_images import COUNT, changed_camera, first_camera
from pipeline.workspace.settings_file import load
from pipeline.workspace.workspace import Workspace
from tests.worlds.images import contents
from tests.worlds.workspace import World, use_fake_jobs, use_real_jobs

MONTHS = (scenario.AUGUST, scenario.SEPTEMBER, scenario.OCTOBER, scenario.NOVEMBER)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the notebooks; span-1 is small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scenario, "FIRST_SCANS", scenario.FIRST_SCANS[:60])
    return tmp_path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    use_fake_jobs()
    yield World.make(tmp_path)
    use_real_jobs()


def names(workspace: Workspace, month: scenario.Month) -> list[str]:
    return [image.name for image in workspace.batches.images(month.batch)]


def test_scans_are_all_seen_only_once() -> None:
    seen = [*scenario.FIRST_SCANS, *(scan for month in MONTHS for scan in month.scans)]
    assert sorted(seen) == list(range(COUNT))


def test_months_are_in_the_order_of_the_notebooks() -> None:
    assert [str(month.batch) for month in MONTHS] == ["2021-08", "2021-09", "2021-10", "2021-11"]


def test_second_camera_sees_few_scans_of_august() -> None:
    scan = Image.linear_gradient("L").resize((32, 32))
    seen = [scenario.AUGUST.camera(scan, index) for index in scenario.AUGUST.scans]
    changed = [index for index, picture in zip(scenario.AUGUST.scans, seen, strict=True) if differ(picture, scan)]
    assert changed == [index for index in scenario.AUGUST.scans if index % 25 == 0]
    assert 0 < len(changed) < 0.1 * len(scenario.AUGUST.scans)


def differ(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one, other).getbbox() is not None


def test_months_after_august_have_one_camera_each() -> None:
    assert scenario.SEPTEMBER.camera is first_camera
    assert scenario.OCTOBER.camera is scenario.NOVEMBER.camera is changed_camera


def test_first_span_is_made_once(folder: Path) -> None:
    first = scenario.first_span()
    before = contents(folder)
    assert first.spans.manifest(first.spans.spans()[0]).images == 60
    assert first.settings.gate.floor == 0.9
    again = scenario.first_span()
    assert again.spans.spans() == first.spans.spans() and contents(folder) == before


def test_first_span_that_was_interrupted_is_finished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.workspace.initialise.prepare", cut)
        with pytest.raises(KeyboardInterrupt):
            scenario.first_span()
    assert (folder / "workspace" / "adapt.toml").exists()
    assert len(scenario.first_span().spans.spans()) == 1


def cut(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_images_arrive_in_portions(world: World) -> None:
    assert len(scenario.arrive(world.workspace, scenario.SEPTEMBER, 40).images) == 40
    snapshot = scenario.arrive(world.workspace, scenario.SEPTEMBER)
    assert len(snapshot.images) == len(scenario.SEPTEMBER.scans)
    assert list(snapshot.names) == names(world.workspace, scenario.SEPTEMBER)


def test_archived_month_does_not_arrive_again(world: World) -> None:
    batches = world.workspace.batches
    scenario.arrive(world.workspace, scenario.SEPTEMBER, 40)
    batches.archive(batches.snapshot(scenario.SEPTEMBER.batch))
    snapshot = scenario.arrive(world.workspace, scenario.SEPTEMBER)
    assert names(world.workspace, scenario.SEPTEMBER) == []
    assert len(snapshot.images) == 40


def test_sample_has_images_of_all_classes_with_labels(folder: Path) -> None:
    workspace = scenario.first_span()
    shown = scenario.sample(scenario.arrive(workspace, scenario.OCTOBER), workspace.labels)
    assert len(shown) == scenario.SAMPLE
    assert {picture.label for picture in shown} == set("0123456789")
    assert all(picture.name.startswith(picture.label) for picture in shown)


def test_sample_of_archived_images_is_the_same(folder: Path) -> None:
    workspace = scenario.first_span()
    before = scenario.sample(scenario.arrive(workspace, scenario.SEPTEMBER, 40), workspace.labels)
    workspace.batches.archive(workspace.batches.snapshot(scenario.SEPTEMBER.batch))
    assert scenario.sample(scenario.arrive(workspace, scenario.SEPTEMBER), workspace.labels) == before != []


def test_sample_of_a_small_month_is_the_whole_month(folder: Path) -> None:
    workspace = scenario.first_span()
    assert len(scenario.sample(scenario.arrive(workspace, scenario.SEPTEMBER, 10), workspace.labels)) == 10


def test_champion_that_exists_is_used(world: World) -> None:
    world.register(2)
    assert scenario.champion(world.workspace).number == 2
    assert world.job_ids == []


def test_job_is_followed_to_its_end(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.workspace.jobs.create(JobRequest("training-1", "training"))
    job = scenario.follow(world.workspace, "training-1")
    assert job.result["reason"] == "version 1 is the champion"
    assert capsys.readouterr().out.splitlines()[0] == "Trainer (1 of 2)"


def test_failed_job_fails_the_cell(world: World) -> None:
    world.fail("training")
    world.workspace.jobs.create(JobRequest("training-1", "training"))
    with pytest.raises(JobFailed, match="training-1 failed: OSError: the disk is full"):
        scenario.follow(world.workspace, "training-1")


def test_command_output_has_no_colour_codes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.collect(3)
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = scenario.adapt(f"batches list -w {world.folder}").splitlines()
    assert [line.split() for line in lines] == [
        ["Batches"],
        ["batch", "images", "new", "archived"],
        ["2021-10", "3", "3", "0"],
    ]


def test_failed_command_fails_the_cell_with_its_message(world: World) -> None:
    with pytest.raises(scenario.CommandFailed, match="spans show 4 .* exit code 1:\nSpanNotPublished: span-4"):
        scenario.adapt(f"spans show 4 -w {world.folder}")


def test_settings_for_google_cloud_are_valid(folder: Path) -> None:
    workspace = scenario.first_span()
    settings = load(scenario.cloud_settings(workspace))
    assert (settings.platform.kind, settings.data.root) == ("vertex", "gs://shop/data")
    assert settings.labels.names == workspace.settings.labels.names
    assert scenario.cloud_settings(workspace).resolve() == settings.file
