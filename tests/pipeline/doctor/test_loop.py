"""The doctor on the loop: rules that decide on noise, and trainings that were given up or wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptation import retraining
from adaptation.io.journal import Journal
from adaptation.platforms.base import JobRequest
from adaptation.retraining import TRAINING, TrainingRecord
from pipeline.doctor.loop import rule_findings, training_findings
from tests.worlds.workspace import World


@pytest.mark.parametrize(("rule", "count"), [("evidence", 0), ("drop", 0), ("point", 1), ("wilson", 1)])
def test_rules_that_decide_on_noise_are_named(rule: str, count: int) -> None:
    found = list(rule_findings(rule))
    assert len(found) == count
    assert all(f'evaluation.rule = "{rule}"' in finding.text and '"evidence"' in finding.text for finding in found)


def test_training_that_failed_by_hand_is_named_with_its_log(tmp_path: Path) -> None:
    world = World.make(tmp_path / "shop")
    assert list(training_findings(world.workspace)) == []
    platform = world.workspace.platform
    world.fail(TRAINING)
    job = retraining.start_by_hand(
        world.workspace.triggers, platform.jobs, platform.registry, JobRequest("training-1", TRAINING, {})
    )
    list(platform.jobs.follow(job.id))
    (finding,) = training_findings(world.workspace)
    assert "training-1 failed" in finding.text and job.link in finding.text and "adapt train" in finding.text


def test_training_without_a_job_waits_for_a_delivery(tmp_path: Path) -> None:
    world = World.make(tmp_path / "shop")
    journal = Journal(f"{world.workspace.triggers}/trainings", TrainingRecord)
    journal.append(TrainingRecord(None, "training-1", 1), after=0)
    (finding,) = training_findings(world.workspace)
    assert "training-1 was recorded" in finding.text and "adapt watch" in finding.text
