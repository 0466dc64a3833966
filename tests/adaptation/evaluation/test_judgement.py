"""Judgement: what a champion's log adds to the figures of one batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptation.data.batches import BatchStore, Snapshot
from adaptation.errors import AdaptationError
from adaptation.evaluation.decision import Criterion, Decision
from adaptation.evaluation.evidence import Block
from adaptation.evaluation.judgement import judge
from adaptation.evaluation.log import FOLDER, EvaluationLog, version_id
from adaptation.evaluation.mix import Recall
from adaptation.io import storage
from adaptation.platforms.base import ModelVersion
from tests.worlds.results import LABELS, folder_of, predicted

ROLLBACK = '"adapt rollback"'


def version(number: int, compared_with: int | None = 1) -> ModelVersion:
    own = {name: Recall(1000, 980) for name in LABELS.names}
    return ModelVersion(number, "", f"key-{number}", (1,), {}, "", "", "", champion=compared_with, recalls=own)


def judged(root: Path, batch: str, images: int, answer: str, champion: ModelVersion | None) -> Decision:
    """Judge a batch of cars to all of which a model gives the same answer."""
    names = [f"car_{number:03d}.jpg" for number in range(images)]
    snapshot = Snapshot(batch, f"{root}/{batch}", tuple(storage.File(name, 1) for name in names))
    results = folder_of("".join(predicted(name, answer, root=snapshot.root) for name in names))
    return judge(snapshot, results, LABELS, champion, Criterion(), 0.05, f"evaluation-{batch}").decision


def blocks(root: Path, champion: ModelVersion) -> list[Block]:
    return EvaluationLog(BatchStore(str(root)), version_id(champion.number, champion.key)).blocks()


def test_judgement_counts_an_image_once_for_a_champion(tmp_path: Path) -> None:
    for images in (40, 40, 70):
        judged(tmp_path, "2021-10", images, "car", version(2))
    assert blocks(tmp_path, version(2)) == [Block("2021-10", 40, 40), Block("2021-10", 30, 30)]
    assert blocks(tmp_path, version(3)) == []


def test_judgement_rests_on_the_earlier_images_too(tmp_path: Path) -> None:
    alone = judged(tmp_path / "alone", "2021-11", 40, "ship", version(2))
    judged(tmp_path, "2021-11", 38, "ship", version(2))
    after = judged(tmp_path, "2021-11", 40, "ship", version(2))
    assert after.evidence == alone.evidence and after.retrain


def test_judgement_of_predictions_from_elsewhere_has_no_log(tmp_path: Path) -> None:
    assert judged(tmp_path, "2021-10", 40, "ship", None).retrain
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize(("champion", "proposed"), [(version(2), True), (version(1, 0), False), (None, False)])
def test_judgement_proposes_a_rollback_to_the_first_batch_under_a_champion(
    tmp_path: Path, champion: ModelVersion | None, proposed: bool
) -> None:
    assert (ROLLBACK in judged(tmp_path, "2021-10", 40, "ship", champion).reason) is proposed


def test_judgement_proposes_no_rollback_from_the_second_batch_on(tmp_path: Path) -> None:
    judged(tmp_path, "2021-10", 40, "car", version(2))
    assert ROLLBACK not in judged(tmp_path, "2021-11", 40, "ship", version(2)).reason


def test_judgement_that_fails_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(AdaptationError, match="unknown"):
        judged(tmp_path, "2021-10", 40, "unknown", version(2))
    assert blocks(tmp_path, version(2)) == []
