"""One turn of the loop under `labels.source = "review"`, with the real TFX: from new images to a new champion.

Each fixture goes one step further with the same workspace, the drifted batch of the demo, and 50 drawn labels.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adaptation.data.reviews import Reviews
from adaptation.data.spans import Span
from adaptation.data.waiting import waiting_of
from adaptation.evaluation.decisions import Decided
from adaptation.evaluation.look_records import last_look
from adaptation.io import storage
from adaptation.io.journal import Journal
from adaptation.trigger import Outcome
from pipeline.demo import DRIFTED, FIRST_SPAN
from pipeline.jobs import planned
from pipeline.workspace.digit_images import COUNT, changed_camera, write_digits
from pipeline.workspace.initialise import initialise
from pipeline.workspace.workspace import Workspace

ADAPT = str(Path(sys.executable).with_name("adapt"))
BUDGET = 50


def adapt(folder: Path, *arguments: str) -> str:
    """Run the command in the folder of the workspace; return what it prints."""
    done = subprocess.run([ADAPT, *arguments], cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def decisions(workspace: Workspace) -> list[Decided]:
    journal = Journal(storage.join(workspace.batches.root, "_decisions"), Decided)
    return [record.value for record in journal.records()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first champion, and the drifted batch, which nobody has labelled."""
    folder = tmp_path_factory.mktemp("review")
    order = [int(index) for index in np.random.default_rng(0).permutation(COUNT)]
    write_digits(folder / "images", order[:FIRST_SPAN])
    workspace, _ = initialise(folder, folder / "images", overrides={"gate.floor": 0.5})
    settings = folder / "adapt.toml"
    settings.write_text(settings.read_text().replace('source = "prefix"', 'source = "review"'))
    adapt(folder, "train")
    write_digits(Path(workspace.batches.folder(DRIFTED)), order[FIRST_SPAN:], changed_camera)
    return folder


@pytest.fixture(scope="module")
def waiting(folder: Path) -> Workspace:
    """The batch is predicted, and waits."""
    output = adapt(folder, "evaluate")
    assert "797 images of 2021-10 wait for labels; 2021-10 seems different" in " ".join(output.split())
    return Workspace.open(folder)


def test_batch_without_labels_waits_with_the_result_of_the_look(waiting: Workspace) -> None:
    (decided,) = decisions(waiting)
    assert (decided.images, decided.outcome, decided.retrain) == (0, "waiting for labels", False)
    look = last_look(waiting.batches, DRIFTED)
    assert look is not None and look.look.outcome == "look"
    assert look.look.reason in decided.reason
    assert waiting.spans.spans() == [Span(1)]


@pytest.fixture(scope="module")
def reviewed(waiting: Workspace, folder: Path) -> str:
    """Fifty images are drawn, labelled and imported: the evaluation goes on, and the training that it decides on."""
    assert planned(waiting)[1].outcome is Outcome.WAITING
    adapt(folder, "review", "export", "--budget", str(BUDGET), "-o", "review")
    table = folder / "review" / "labels.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == BUDGET and {row["label"] for row in rows} == {""}
    for row in rows:
        row["label"] = Path(row["path"]).name.partition("_")[0]
    drawn = {Path(row["path"]).name for row in rows}
    picked = next(image.name for image in waiting.batches.images(DRIFTED) if image.name not in drawn)
    rows.append({**rows[0], "path": f"{DRIFTED}/{picked}", "label": picked.partition("_")[0]})
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return adapt(folder, "review", "import", str(table))


def test_fifty_labels_of_the_demos_drifted_batch_decide_on_a_retraining(waiting: Workspace, reviewed: str) -> None:
    _, decided = decisions(waiting)
    assert decided.retrain and decided.images == BUDGET, decided.reason
    assert "evidence 100 %" in decided.reason
    assert "50 of 797 images were drawn and labelled: the accuracy of all of 2021-10 is 0." in decided.reason


def test_continued_evaluation_uses_the_stored_predictions(waiting: Workspace, reviewed: str) -> None:
    files = storage.files_below(waiting.folder("pipelines", "evaluation"))
    folders = {Path(file.name).parent.name for file in files if "prediction.results" in file.name}
    assert len(folders) == 1
    kept = waiting_of(waiting.batches, DRIFTED)
    assert kept is not None and kept.counted == BUDGET


def test_labelled_images_alone_become_the_span(waiting: Workspace, reviewed: str) -> None:
    names = {image.name for image in Reviews(waiting.batches).of(DRIFTED)}
    made = {image.name for image in waiting.spans.images_of(str(DRIFTED))}
    assert made <= names and len(made) == waiting.spans.verify(Span(2)).images >= BUDGET


def test_new_champion_is_in_service_and_nothing_is_left_to_do(waiting: Workspace, reviewed: str) -> None:
    assert waiting.platform.registry.find().number == 2, reviewed
    assert planned(waiting)[1].outcome is Outcome.NOTHING_NEW
    jobs = [job.id for job in waiting.jobs.list() if job.pipeline == "evaluation"]
    assert len(jobs) == 2 and "2021-10-0002" in " ".join(jobs)


def test_import_again_starts_nothing(waiting: Workspace, reviewed: str, folder: Path) -> None:
    output = adapt(folder, "review", "import", "review/labels.csv")
    assert "51 labels, 0 of them new" in output and "no new images" in output
    assert len(waiting.jobs.list()) == 4
