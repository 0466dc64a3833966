"""`adapt review`: the exported table, its sheets as a browser reads them, and the imported labels."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from adaptation.data.batches import Batch
from adaptation.data.labelling import labelling
from adaptation.data.reviews import Reviews, read_review, with_reviews
from adaptation.data.span_preparation import prepare
from adaptation.data.splits import Split
from adaptation.data.waiting import keep_waiting
from adaptation.evaluation.prediction_results import ResultsWriter
from adaptation.trigger import Outcome
from pipeline.cli.main import cli
from pipeline.jobs import trigger
from pipeline.review.contact_sheet import write_sheets
from pipeline.review.export import export
from tests.worlds.cloud import ROOT, Cloud, a_cloud
from tests.worlds.images import collect, contents, image
from tests.worlds.workspace import MONTH, World

OCTOBER = Batch.parse(MONTH)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Twenty images in October: 10 ships and 10 trucks."""
    world = World.make(tmp_path / "shop")
    collect(folder(world), [f"{label}_{number}.png" for label in ("ship", "truck") for number in range(10)])
    return world


def folder(world: World) -> Path:
    return world.folder / "collection" / MONTH


def adapt(world: World, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["review", *arguments, "--workspace", str(world.folder)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr and "This is unexpected" not in result.stderr
    return result


def exported(world: World, output: Path, *options: str) -> list[dict[str, str]]:
    """Export and return the rows of the written table."""
    adapt(world, "export", "-o", str(output), *options)
    return rows_of(output)


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def filled_in(output: Path, labels: dict[str, str]) -> str:
    """Return the path of the table with other labels; images are named without batch and ending."""
    rows = rows_of(output)
    for row in rows:
        row["label"] = labels.get(Path(row["path"]).stem, row["label"])
    with (output / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(output / "labels.csv")


def predicted(world: World, answers: dict[str, float], when: int = 1, batch: str = MONTH, label: str = "ship") -> str:
    """Write the predictions of an evaluation: names without ending, with confidences; return their folder."""
    output = world.workspace.folder("pipelines", "evaluation", "BatchPredictionGen", "predictions", str(99 - when))
    with ResultsWriter(output, "version-1", datetime(2021, 11, when, tzinfo=UTC)) as results:
        for name, confidence in answers.items():
            results.prediction(str(world.folder / "collection" / batch / f"{name}.png"), label, confidence)
        results.error(str(world.folder / "collection" / batch / "truck_9.png"), 3, "could not be predicted")
    return results.folder


class Sheet(HTMLParser):
    """The images, captions, links and tags of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.images: list[tuple[str, str]] = []
        self.captions: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self._open = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.tags.append(tag)
        given = {name: value or "" for name, value in attributes}
        if tag == "img":
            self.images.append((given["alt"], given["src"]))
        if tag == "a":
            self.links.append(given["href"])
        if tag == "figcaption":
            self.captions.append("")

    def handle_data(self, data: str) -> None:
        if self._open in ("figcaption", "b", "br") and self.captions and data.strip():
            self.captions[-1] += data.strip() + "|"

    def handle_endtag(self, tag: str) -> None:
        if tag == "figcaption":
            self._open = ""
        elif tag == "b":
            self._open = "figcaption"


def test_table_has_every_image_with_its_present_label(world: World, tmp_path: Path) -> None:
    collect(folder(world), ["scan 7.png"])
    rows = exported(world, tmp_path / "review")
    expected = {f"{MONTH}/{label}_{number}.png": label for label in ("ship", "truck") for number in range(10)}
    assert {row["path"]: row["label"] for row in rows} == {**expected, f"{MONTH}/scan 7.png": ""}
    assert list(rows[0]) == ["path", "label"]


def test_newest_batch_is_exported_to_a_folder_of_its_name(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.collect(1, month="2021-11")
    world.collect(1, month="2021-09")
    monkeypatch.chdir(tmp_path)
    shown = adapt(world, "export")
    assert shown.stdout.splitlines() == [
        "review-2021-11/labels.csv: 1 images; 1 of 2021-11 are not reviewed",
        "review-2021-11/sheet-1.html",
    ]
    assert 'no evaluation has predicted 2021-11 yet; "adapt evaluate --batch 2021-11" does' in shown.stderr
    assert [row["path"] for row in rows_of(tmp_path / "review-2021-11")] == ["2021-11/ship_0.png"]


def test_predictions_of_the_last_evaluation_are_sorted_by_confidence(world: World, tmp_path: Path) -> None:
    predicted(world, {"truck_1": 0.2}, when=1)
    newest = predicted(world, {"truck_1": 0.9, "ship_2": 0.4, "ship_3": 0.71049}, when=2)
    predicted(world, {"truck_1": 0.1}, when=3, batch="2021-09")
    shown = adapt(world, "export", "-o", str(tmp_path / "review"))
    rows = rows_of(tmp_path / "review")
    assert [(row["path"], row["predicted"], row["confidence"]) for row in rows[-3:]] == [
        (f"{MONTH}/ship_2.png", "ship", "0.400"),
        (f"{MONTH}/ship_3.png", "ship", "0.710"),
        (f"{MONTH}/truck_1.png", "ship", "0.900"),
    ]
    assert {(row["predicted"], row["confidence"]) for row in rows[:-3]} == {("", "")}
    assert f"predictions: {newest}" in shown.stderr


def test_predictions_are_found_after_the_workspace_was_moved(world: World, tmp_path: Path) -> None:
    predicted(world, {"truck_1": 0.9})
    moved = World(world.folder.rename(tmp_path / "moved"))
    adapt(moved, "export", "-o", str(tmp_path / "review"))
    rows = {row["path"]: row["confidence"] for row in rows_of(tmp_path / "review")}
    assert rows[f"{MONTH}/truck_1.png"] == "0.900"


def test_blind_shows_neither_labels_nor_predictions(world: World, tmp_path: Path) -> None:
    predicted(world, {"truck_1": 0.9})
    rows = exported(world, tmp_path / "review", "--blind")
    assert all(row == {"path": row["path"], "label": ""} for row in rows) and len(rows) == 20
    assert {caption.split("|", 2)[2] for caption in Sheet(tmp_path / "review" / "sheet-1.html").captions} == {""}


def test_sample_is_part_of_a_larger_one_and_the_same_again(world: World, tmp_path: Path) -> None:
    names = [{row["path"] for row in exported(world, tmp_path / str(n), "--budget", str(n))} for n in (5, 8)]
    assert [len(found) for found in names] == [5, 8]
    assert names[0] < names[1]
    assert {Path(path).name.split("_")[0] for path in names[1]} == {"ship", "truck"}
    again = {row["path"] for row in exported(world, tmp_path / "again", "--budget", "5", "--blind")}
    assert again == names[0]


def test_sample_does_not_depend_on_confidences(world: World, tmp_path: Path) -> None:
    without = {row["path"] for row in exported(world, tmp_path / "without", "--budget", "6")}
    predicted(world, {f"{label}_{n}": n / 10 for label in ("ship", "truck") for n in range(10)})
    assert {row["path"] for row in exported(world, tmp_path / "with", "--budget", "6")} == without


def test_larger_budget_exports_only_what_is_not_reviewed(world: World, tmp_path: Path) -> None:
    first = exported(world, tmp_path / "first", "--budget", "12")
    adapt(world, "import", str(tmp_path / "first" / "labels.csv"))
    shown = adapt(world, "export", "-o", str(tmp_path / "next"), "--budget", "16")
    assert not {row["path"] for row in first} & {row["path"] for row in rows_of(tmp_path / "next")}
    assert shown.stdout.splitlines()[:2] == [
        f"{tmp_path / 'next' / 'labels.csv'}: 4 images; 8 of 2021-10 are not reviewed",
        "16 images are drawn, 12 of them are reviewed already",
    ]
    message = adapt(world, "export", "-o", str(tmp_path / "again"), "--budget", "12", code=1).stderr
    assert "all 12 drawn images of 2021-10 have a review. Draw more with a larger budget." in message


def test_draw_is_recorded_once_and_an_export_of_all_is_none(world: World, tmp_path: Path) -> None:
    exported(world, tmp_path / "all")
    assert Reviews(world.workspace.batches).draws(OCTOBER) == []
    names = [row["path"] for row in exported(world, tmp_path / "one", "--budget", "5", "--blind")]
    exported(world, tmp_path / "two", "--budget", "5")
    (draw,) = Reviews(world.workspace.batches).draws(OCTOBER)
    assert (draw.batch, draw.budget, draw.images) == (MONTH, 5, 20)
    images = [image.name for image in world.workspace.batches.images(OCTOBER)]
    assert [f"{MONTH}/{name}" for name in draw.of(images)] == names


def test_draw_leaves_images_of_spans_out(world: World, tmp_path: Path) -> None:
    workspace = world.workspace
    prepare(workspace.spans, workspace.batches.snapshot(OCTOBER), workspace.labels, Split(ratio=0.5))
    collect(folder(world), [f"ship_new_{number}.png" for number in range(5)])
    rows = exported(world, tmp_path / "review", "--budget", "20")
    assert sorted(row["path"] for row in rows) == [f"{MONTH}/ship_new_{number}.png" for number in range(5)]
    assert len(exported(world, tmp_path / "all")) == 25


def test_rows_of_a_draw_are_in_its_order_whatever_the_confidences(world: World, tmp_path: Path) -> None:
    predicted(world, {f"{label}_{n}": n / 10 for label in ("ship", "truck") for n in range(9)})
    names = [row["path"] for row in exported(world, tmp_path / "review", "--budget", "8")]
    assert names[:3] == [row["path"] for row in exported(world, tmp_path / "small", "--budget", "3")]


def test_formula_is_quoted_in_the_table_and_plain_after_the_import(tmp_path: Path) -> None:
    names = ("-1", "=HYPERLINK(A1)", "ship")
    world = World.make(tmp_path / "shop", names, labels__source="folder")
    collect(folder(world), [f"{name}/{number}.png" for name in names for number in range(2)])
    predicted(world, {"-1/0": 0.5}, label="@SUM(1+1)|cmd")
    rows = {row["path"]: row for row in exported(world, tmp_path / "review")}
    cells = [cell for row in rows.values() for cell in row.values()]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert rows[f"{MONTH}/-1/0.png"]["label"] == "'-1" and rows[f"{MONTH}/-1/0.png"]["predicted"] == "'@SUM(1+1)|cmd"
    adapt(world, "import", str(tmp_path / "review" / "labels.csv"))
    reviewed = {image.name: label for image, label in Reviews(world.workspace.batches).of(OCTOBER).items()}
    assert reviewed == {f"{name}/{number}.png": name for name in names for number in range(2)}


def test_formula_as_a_label_is_refused(world: World, tmp_path: Path) -> None:
    exported(world, tmp_path / "review")
    table = filled_in(tmp_path / "review", {"ship_1": '=HYPERLINK("http://a.example";"x")'})
    message = adapt(world, "import", table, code=1).stderr
    assert "is no label" in message
    assert Reviews(world.workspace.batches).of(OCTOBER) == {}


def test_label_studio_gets_tasks_with_images_and_predictions(world: World, tmp_path: Path) -> None:
    predicted(world, {"truck_1": 0.9})
    shown = adapt(world, "export", "-o", str(tmp_path / "review"), "--format", "label-studio").stdout
    tasks = {task["data"]["path"]: task for task in json.loads((tmp_path / "review" / "tasks.json").read_text())}
    assert len(tasks) == 20
    choice = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["ship"]}}
    task = tasks[f"{MONTH}/truck_1.png"]
    assert task["predictions"] == [{"model_version": "champion", "score": 0.9, "result": [choice]}]
    assert "predictions" not in tasks[f"{MONTH}/truck_2.png"]
    kind, _, data = task["data"]["image"].partition(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(data) == (folder(world) / "truck_1.png").read_bytes()
    page = ElementTree.parse(tmp_path / "review" / "label-studio.xml").getroot()
    assert [choice.get("value") for choice in page.iter("Choice")] == ["ship", "truck"]
    assert "label-studio.xml" in shown


def test_export_of_label_studio_is_imported(world: World, tmp_path: Path) -> None:
    adapt(world, "export", "-o", str(tmp_path / "review"), "--format", "label-studio", "--budget", "2", "--blind")
    done = json.loads((tmp_path / "review" / "tasks.json").read_text())
    chosen = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["truck"]}}
    done[0]["annotations"] = [{"id": 1, "was_cancelled": False, "result": [chosen]}]
    done[1]["annotations"] = []
    file = tmp_path / "project-1.json"
    file.write_text(json.dumps(done))
    assert "rows without a label: 1" in adapt(world, "import", str(file)).stdout
    reviewed = Reviews(world.workspace.batches).of(OCTOBER)
    assert {f"{MONTH}/{image.name}": label for image, label in reviewed.items()} == {done[0]["data"]["path"]: "truck"}


def test_table_that_may_be_filled_in_is_never_overwritten(world: World, tmp_path: Path) -> None:
    exported(world, tmp_path / "review")
    before = contents(tmp_path / "review")
    message = adapt(world, "export", "-o", str(tmp_path / "review"), "--blind", code=1).stderr
    assert "AlreadyExists" in message and "adapt review import" in message
    assert contents(tmp_path / "review") == before


def test_archived_batch_is_refused_with_the_command_that_requeues_it(world: World, tmp_path: Path) -> None:
    store = world.workspace.batches
    store.archive(store.snapshot(OCTOBER))
    message = adapt(world, "export", "--batch", MONTH, "-o", str(tmp_path / "review"), code=1).stderr
    assert '"adapt batches requeue 2021-10"' in message
    assert "NoBatch" in adapt(world, "export", "--batch", "2020-01", code=1).stderr


def test_sheet_shows_each_image_with_the_number_of_its_row(world: World, tmp_path: Path) -> None:
    predicted(world, {"truck_1": 0.9})
    rows = exported(world, tmp_path / "review")
    sheet = Sheet(tmp_path / "review" / "sheet-1.html")
    numbers = [caption.split("|")[:2] for caption in sheet.captions]
    assert numbers == [[str(number), row["path"]] for number, row in enumerate(rows, 2)]
    assert [alt for alt, _ in sheet.images] == [row["path"] for row in rows]
    assert sheet.captions[-1] == f"21|{MONTH}/truck_1.png|labelled truck, predicted ship (0.900)|"


def test_pictures_of_the_sheet_are_small_and_those_of_the_files(world: World, tmp_path: Path) -> None:
    Image.new("RGB", (900, 300), "red").save(folder(world) / "ship_red.PNG")
    Image.new("L", (20, 40), 0).save(folder(world) / "ship_black.jpeg")
    exported(world, tmp_path / "review")
    shown = {Path(alt).stem: opened(source) for alt, source in Sheet(tmp_path / "review" / "sheet-1.html").images}
    red, black = shown["ship_red"], shown["ship_black"]
    assert (red.size, black.size) == ((128, 43), (20, 40))
    assert red.getpixel((60, 20)) == pytest.approx((254, 0, 0), abs=3)
    assert black.getpixel((10, 10)) == (0, 0, 0)


def test_sheet_needs_no_network_or_script_and_escapes_names(world: World, tmp_path: Path) -> None:
    odd = "ship_<b onclick='x'>&amp;\".png"
    collect(folder(world), [odd])
    exported(world, tmp_path / "review")
    page = tmp_path / "review" / "sheet-1.html"
    sheet = Sheet(page)
    assert f"{MONTH}/{odd}" in [alt for alt, _ in sheet.images]
    assert any(caption.split("|")[1] == f"{MONTH}/{odd}" for caption in sheet.captions)
    assert sheet.tags.count("b") == len(sheet.captions) and "script" not in sheet.tags
    assert all(source.startswith("data:image/jpeg;base64,") for _, source in sheet.images)
    assert "http" not in page.read_text() and "url(" not in page.read_text()


def test_unreadable_image_is_listed_with_the_reason(world: World, tmp_path: Path) -> None:
    (folder(world) / "ship_cut.png").write_bytes(image(3)[:60])
    (folder(world) / "ship_empty.png").touch()
    exported(world, tmp_path / "review")
    page = (tmp_path / "review" / "sheet-1.html").read_text()
    assert "cut off</div>" in page and "is empty</div>" in page
    assert len(rows_of(tmp_path / "review")) == 22


def test_sheets_of_many_images_link_to_each_other(world: World, tmp_path: Path) -> None:
    from pipeline.review.contact_sheet import Picture

    file = folder(world) / "ship_1.png"
    pictures = [Picture(row, str(file), file.stat().st_size, f"{row}.png", "") for row in range(2, 9)]
    pages = write_sheets(tmp_path / "out", "October", pictures, per_page=3)
    sheets = [Sheet(page) for page in pages]
    assert [page.name for page in pages] == ["sheet-1.html", "sheet-2.html", "sheet-3.html"]
    assert [len(sheet.images) for sheet in sheets] == [3, 3, 1]
    assert [sheet.links for sheet in sheets] == [["sheet-2.html"], ["sheet-1.html", "sheet-3.html"], ["sheet-2.html"]]


def test_labels_of_an_imported_table_become_the_truth(world: World, tmp_path: Path) -> None:
    collect(folder(world), ["scan 7.png"])
    exported(world, tmp_path / "review")
    file = filled_in(tmp_path / "review", {"ship_1": "truck", "scan 7": "ship", "ship_2": ""})
    shown = adapt(world, "import", file).stdout.splitlines()
    assert shown == [
        '2021-10: 20 labels, 20 of them new; "adapt evaluate --batch 2021-10" measures',
        "rows without a label: 1",
    ]
    truth = with_reviews(world.workspace.labels, world.workspace.batches.snapshot(OCTOBER))
    assert [truth.of(f"{name}.png") for name in ("ship_1", "scan 7", "ship_2")] == ["truck", "ship", "ship"]


def test_importing_again_changes_nothing(world: World, tmp_path: Path) -> None:
    exported(world, tmp_path / "review")
    adapt(world, "import", str(tmp_path / "review" / "labels.csv"))
    before = contents(world.folder)
    assert "20 labels, 0 of them new" in adapt(world, "import", str(tmp_path / "review" / "labels.csv")).stdout
    assert contents(world.folder) == before


def test_table_with_one_wrong_row_is_refused_as_a_whole(world: World, tmp_path: Path) -> None:
    exported(world, tmp_path / "review")
    file = filled_in(tmp_path / "review", {"ship_1": "trcuk"})
    before = contents(world.folder)
    message = adapt(world, "import", file, code=1).stderr
    assert "InvalidLabels: nothing of" in message and "'trcuk' is no label. Did you mean 'truck'?" in message
    assert contents(world.folder) == before


def test_exported_table_shows_earlier_reviews(world: World, tmp_path: Path) -> None:
    exported(world, tmp_path / "first")
    adapt(world, "import", filled_in(tmp_path / "first", {"ship_1": "truck"}))
    labels = {row["path"]: row["label"] for row in exported(world, tmp_path / "second")}
    assert (labels[f"{MONTH}/ship_1.png"], labels[f"{MONTH}/ship_2.png"]) == ("truck", "ship")


def test_span_made_from_the_batch_is_named(world: World, tmp_path: Path) -> None:
    workspace = world.workspace
    prepare(workspace.spans, workspace.batches.snapshot(OCTOBER), workspace.labels, Split(ratio=0.5))
    exported(world, tmp_path / "review")
    shown = adapt(world, "import", str(tmp_path / "review" / "labels.csv")).stderr
    assert shown == "span-1, made from 2021-10, keeps the labels that it was published with\n"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with a_cloud(tmp_path / "cloud", monkeypatch) as cloud:
        cloud.collect(6)
        yield cloud


def test_batch_in_a_bucket_is_reviewed_like_one_on_a_disk(cloud: Cloud, tmp_path: Path) -> None:
    from adaptation.io import storage

    uri = f"gs://shop/collection/{MONTH}/bag_4.png"
    results = (
        f"{ROOT}/pipelines/evaluation/7/run/BatchPredictionGen_8/predictions/prediction-9-2021_11_01T00_00_00_000Z"
    )
    line = f'{{"instance": "{uri}", "prediction": {{"label": "hat", "confidence": 0.5}}}}\n'
    storage.write(f"{results}/prediction.results-00000-of-00001", line.encode())
    done = export(cloud.workspace, OCTOBER, tmp_path / "review")
    assert (done.images, done.open, done.predictions) == (6, 6, results)
    assert rows_of(tmp_path / "review")[-1] == {
        "path": f"{MONTH}/bag_4.png",
        "label": "bag",
        "predicted": "hat",
        "confidence": "0.500",
    }
    file = filled_in(tmp_path / "review", {"bag_4": "hat"})
    result = cloud.adapt("review", "import", file)
    assert "6 labels, 6 of them new" in result.stdout
    reviewed = Reviews(cloud.workspace.batches).of(OCTOBER)
    assert {image.name: label for image, label in reviewed.items()}["bag_4.png"] == "hat"


def test_import_continues_a_waiting_evaluation_on_vertex_ai_once(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first importer died before it looked: the next delivery of the function starts the job."""
    monkeypatch.setenv("ADAPT_LABELS__SOURCE", "review")
    cloud.publish_specs()
    cloud.register()
    workspace = cloud.workspace
    batches, labels = workspace.batches, workspace.labels
    snapshot = batches.snapshot(OCTOBER)
    batches.mark_evaluated(snapshot)
    keep_waiting(batches, snapshot, labelling(labels, snapshot, 0.05), "results", "1-abc", labels.to_json(), 0.05)
    assert trigger(workspace).plan.outcome is Outcome.WAITING
    export(workspace, OCTOBER, tmp_path / "review", budget=4)
    file = filled_in(tmp_path / "review", {f"bag_{number}": "bag" for number in range(6)})
    review = read_review(file, batches, labels.names)
    Reviews(batches).add(OCTOBER, review.labels[OCTOBER])
    assert trigger(workspace).plan.outcome is Outcome.START
    for _ in range(2):
        result = cloud.adapt("review", "import", file)
        assert result.exit_code == 0, result.output
    assert [job["name"].rpartition("/")[2] for job in cloud.jobs()] == ["shop-evaluation-2021-10-0001"]
    assert trigger(workspace).job is None


def opened(source: str) -> Image.Image:
    data = base64.b64decode(source.partition(",")[2])
    return Image.open(io.BytesIO(data))
