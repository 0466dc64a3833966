"""The five notebooks, run top to bottom, in order, in one workspace, and one of them alone from an empty folder.

The stored outputs are checked as well: a reader who does not run the notebooks sees them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from adaptation.data.spans import Span
from adaptation.evaluation.accuracy import wilson_interval
from adaptation.platforms.base import JobState
from notebooks.execution import NOTEBOOKS, execute
from pipeline.workspace.workspace import Workspace

CLOUD_TAG = "google-cloud"
LARGEST = 300_000
PLACE_ON_A_MACHINE = re.compile(r"(?<![\w.:/<>-])/[\w.~-]+/[\w.~-]+|[A-Za-z]:\\\w|127\.0\.0\.1|localhost")
FIGURES = re.compile(r"before ([\d.]+), threshold ([\d.]+), after ([\d.]+)")


class Run:
    """Notebooks that are executed in a folder, in order, each when it is first requested."""

    def __init__(self, folder: Path, files: Sequence[Path] = NOTEBOOKS) -> None:
        self._folder = folder
        self._executing = zip([file.name[:2] for file in files], execute(folder, files), strict=True)
        self._executed: dict[str, NotebookNode] = {}

    def notebook(self, number: str) -> NotebookNode:
        """Return the notebook of that number, with its outputs."""
        while number not in self._executed:
            following = next(self._executing, None)
            assert following, "a notebook before it has failed"
            self._executed[following[0]] = following[1]
        return self._executed[number]

    def printed(self, number: str) -> str:
        """Return everything that the notebook printed."""
        return text_of(self.notebook(number))

    @property
    def workspace(self) -> Workspace:
        """The workspace after the notebooks executed so far."""
        return Workspace.open(self._folder / "workspace")


@pytest.fixture(scope="module", autouse=True)
def without_overrides() -> Iterator[None]:
    """Remove the environment variables that would override the notebooks' settings."""
    with pytest.MonkeyPatch.context() as patched:
        for name in [name for name in os.environ if name.upper().startswith("ADAPT_")]:
            patched.delenv(name)
        yield


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("notebooks"))


@pytest.fixture
def alone(tmp_path: Path) -> Run:
    """The fourth notebook, run from an empty folder."""
    return Run(tmp_path, NOTEBOOKS[3:4])


@pytest.fixture(params=NOTEBOOKS, ids=lambda file: file.name)
def file(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def stored(file: Path) -> NotebookNode:
    return nbformat.read(file, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def text_of(notebook: NotebookNode) -> str:
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def shape(notebook: NotebookNode) -> list[list[str]]:
    """Return the kinds of outputs of each cell: printed text, pictures."""
    return [[output.get("name", "picture") for output in cell.outputs] for cell in code_cells(notebook)]


def pictures_in(notebook: NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def places_named(notebook: NotebookNode) -> list[str]:
    """Return what looks like a path or an address of a machine in any output but the pictures."""
    texts = [output.get("text", "") for output in outputs(notebook)]
    for output in outputs(notebook):
        texts += [text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")]
    return [match[0] for text in texts for match in PLACE_ON_A_MACHINE.finditer(text)]


# Executed


def test_notebooks_are_these_five() -> None:
    assert [file.stem for file in NOTEBOOKS] == [
        "01_data_preparation",
        "02_training_pipeline",
        "03_batch_evaluation_pipeline",
        "04_trigger",
        "05_the_whole_loop",
    ]


def test_notebook_runs_every_cell_and_shows_no_error_stream(in_order: Run, file: Path) -> None:
    notebook = in_order.notebook(file.name[:2])
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert {output.get("name", "picture") for output in outputs(notebook)} == {"stdout", "picture"}


def test_notebook_has_pictures(in_order: Run, file: Path) -> None:
    assert pictures_in(in_order.notebook(file.name[:2])) >= 1


def test_outputs_name_no_place_on_this_machine(in_order: Run, file: Path) -> None:
    assert places_named(in_order.notebook(file.name[:2])) == []


def test_first_notebook_reports_skipped_files_with_reasons(in_order: Run) -> None:
    printed = in_order.printed("01")
    assert "skipped 8_broken.png: cannot be decoded" in printed
    assert "skipped unknown.png: no label" in printed
    assert "notes.txt" not in printed
    assert "61 images of the classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in printed


def test_first_notebook_makes_the_same_span_in_a_bucket(in_order: Run) -> None:
    assert "gs://shop/data/span-1 has 800 images; the same content: True" in in_order.printed("01")


def test_second_notebook_deploys_the_model_that_it_trains(in_order: Run) -> None:
    assert "version 1 is serving, trained on spans (1,)\n" in in_order.printed("02")
    version = in_order.workspace.platform.registry.find("1")
    assert f"span-1: {version.metrics['span-1']:.3f}\n" in in_order.printed("02")


@pytest.mark.parametrize(("number", "parameter"), [("02", '"window": "1"'), ("03", '"data_gcs_prefix": "2021-08"')])
def test_job_on_google_cloud_is_shown_and_not_started(in_order: Run, number: str, parameter: str) -> None:
    printed = in_order.printed(number)
    assert "POST https://us-central1-aiplatform.googleapis.com/v1/projects/shop/" in printed
    assert parameter in printed


def test_third_notebook_shows_the_evaluation_and_keeps_the_champion(in_order: Run) -> None:
    correct, images, accuracy = re.findall(r"(\d+) of (\d+) right: accuracy ([\d.]+)", in_order.printed("03"))[0]
    interval = wilson_interval(int(correct), int(images))
    assert images == "200" and f"{int(correct) / 200:.3f}" == accuracy
    assert f"95 % interval {interval.low:.3f} to {interval.high:.3f}, threshold 0.9" in in_order.printed("03")
    assert "the champion stays" in in_order.printed("03")


def test_fourth_notebook_starts_one_evaluation_for_eight_deliveries(in_order: Run) -> None:
    assert "8 deliveries, 1 job: evaluation-2021-09-0001\n" in in_order.printed("04")
    outcomes = re.findall(r"^(\d+) images: ([a-z ]+), because", in_order.printed("04"), re.MULTILINE)
    assert outcomes == [("40", "not enough"), ("90", "not enough"), ("150", "start")]
    assert re.search(r"^nothing new: ", in_order.printed("04"), re.MULTILINE)


def test_fourth_notebook_shows_the_folder_of_the_function(in_order: Run) -> None:
    assert "# the folder that is deployed" in in_order.printed("04")


def test_last_notebook_shows_the_drop_and_the_recovery(in_order: Run) -> None:
    before, threshold, after = map(float, FIGURES.findall(in_order.printed("05"))[0])
    assert before < threshold <= after
    october, november = (
        job.result["accuracy"] for job in in_order.workspace.jobs.list() if job.id.startswith("evaluation-2021-1")
    )
    assert (before, after) == (round(october, 3), round(november, 3))


def test_last_notebook_names_what_differs_on_google_cloud(in_order: Run) -> None:
    assert "registry: LocalRegistry on one machine, VertexRegistry on Google Cloud" in in_order.printed("05")


def test_notebooks_do_not_repeat_the_steps_of_earlier_ones(in_order: Run) -> None:
    in_order.notebook("05")
    jobs = in_order.workspace.jobs.list()
    assert Counter((job.pipeline, job.state) for job in jobs) == {
        ("training", JobState.SUCCEEDED): 2,
        ("evaluation", JobState.SUCCEEDED): 4,
    }
    assert in_order.workspace.spans.spans() == [Span(1), Span(2)]
    assert [version.number for version in in_order.workspace.platform.registry.versions()] == [1, 2]


def test_notebook_alone_makes_what_it_needs(alone: Run) -> None:
    assert "8 deliveries, 1 job: evaluation-2021-09-0001\n" in alone.printed("04")
    assert [job.pipeline for job in alone.workspace.jobs.list()] == ["training", "evaluation"]
    assert [str(batch) for batch in alone.workspace.batches.batches()] == ["2021-09"]


# Stored


def test_stored_outputs_have_the_shape_of_new_ones(in_order: Run, file: Path, stored: NotebookNode) -> None:
    """Figures may differ between machines; the kinds of outputs may not."""
    assert shape(stored) == shape(in_order.notebook(file.name[:2]))


def test_stored_notebook_shows_outputs_without_running(stored: NotebookNode) -> None:
    assert pictures_in(stored) >= 1
    assert all(cell.outputs for cell in code_cells(stored) if "print(" in cell.source or "pictures." in cell.source)


def test_stored_notebook_is_small_and_names_no_machine(file: Path, stored: NotebookNode) -> None:
    assert file.stat().st_size < LARGEST
    assert places_named(stored) == []


def test_stored_notebook_keeps_only_the_outputs_of_a_run(stored: NotebookNode) -> None:
    assert set(stored.metadata) == {"kernelspec", "language_info"}
    assert dict(stored.metadata.language_info) == {"name": "python"}
    assert all(set(cell.metadata) <= {"tags"} for cell in stored.cells)


def test_first_lines_of_a_notebook_name_its_readers(stored: NotebookNode, file: Path) -> None:
    title, _, reader = stored.cells[0].source.splitlines()[:3]
    number, words = file.stem.split("_", 1)
    assert title == f"# {number} {words.replace('_', ' ').capitalize()}"
    assert re.match(r"For people who [a-z ]+\.", reader)


def test_notebook_is_short(stored: NotebookNode) -> None:
    assert 8 <= len(stored.cells) <= 15
    assert all(len(cell.source.splitlines()) <= 20 for cell in stored.cells)


def test_cells_for_google_cloud_are_marked(stored: NotebookNode) -> None:
    (heading,) = (place for place, cell in enumerate(stored.cells) if "## On Google Cloud" in cell.source.splitlines())
    after = [cell for cell in stored.cells[heading:] if cell.cell_type == "code"]
    marked = [cell for cell in stored.cells if CLOUD_TAG in cell.metadata.get("tags", [])]
    assert marked == after != []


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("log: /home/ann/notebooks/log.txt", True),
        ("'/tmp/x'", True),
        ("C:\\Users", True),
        ("http://127.0.0.1:4711", True),
        ("POST https://europe.googleapis.com/v1/projects/shop", False),
        ("gs://shop/data/span-1", False),
        ("workspace/specs/training.json, 1/2, and/or", False),
    ],
)
def test_places_on_a_machine_are_recognised(text: str, is_named: bool) -> None:
    output = nbformat.v4.new_output("stream", text=text)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    assert bool(places_named(notebook)) is is_named
