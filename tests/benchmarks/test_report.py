"""Benchmarks' report: the format of the figures, the source of the images, the names of the benchmarks."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import images
from benchmarks.report import show, write
from benchmarks.runner import Figure
from benchmarks.suite import MODULES, Report

CLEAR = Figure("listing a batch", "original", 6.25, 0.5, "at least 5", True)
FAILED = Figure("demo", "floor", None, 0.0, "at most 1.3", None, "TimeoutExpired: after 900 seconds")
NOISY = Figure("starts", "floor", None, 0.4, "at most 1.3", None)


def test_figures_are_written_one_object_each(tmp_path: Path) -> None:
    file = tmp_path / "build" / "bench.json"
    write([Report((CLEAR,), ""), Report((NOISY,), "")], file)
    first, second = json.loads(file.read_text())
    assert list(first) == ["subject", "against", "ratio", "spread", "reach", "ok", "failure"]
    assert first == {**first, "subject": "listing a batch", "ratio": 6.25, "ok": True}
    assert (second["ratio"], second["ok"]) == (None, None)


def test_table_names_the_input_and_figures_that_are_too_noisy(capsys: pytest.CaptureFixture[str]) -> None:
    show([Report((CLEAR,), "200,000 files"), Report((NOISY,), "")])
    shown = capsys.readouterr().out
    assert "6.25" in shown
    assert "listing a batch: 200,000 files" in shown
    assert "too noisy" in shown


def test_table_says_why_a_subject_was_not_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "run_all", lambda names: [Report((FAILED, FAILED), ""), Report((CLEAR,), "")])
    monkeypatch.setattr(command, "FIGURES", tmp_path / "bench.json")
    monkeypatch.setattr("sys.argv", ["bench"])
    with pytest.raises(SystemExit, match="1"):
        command.main()
    shown = capsys.readouterr().out
    assert shown.count("demo was not measured: TimeoutExpired: after 900 seconds") == 1
    assert "6.25" in shown and len(json.loads((tmp_path / "bench.json").read_text())) == 3


def test_benchmark_names_are_the_files_with_subjects() -> None:
    folder = Path(images.__file__).parent
    with_subjects = {file.stem for file in folder.glob("*.py") if "def bench(" in file.read_text()}
    assert with_subjects == set(MODULES.values())


def test_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "speed"])
    with pytest.raises(SystemExit):
        command.main()
    assert "there is no benchmark 'speed'" in capsys.readouterr().err


# Images


def test_images_are_generated_without_an_archive(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.tar.gz"
    images.write_images(tmp_path / "images", 25, [nowhere])
    files = sorted((tmp_path / "images").rglob("*.jpg"))
    assert images.source(25, [nowhere]) == "generated images"
    assert len({file.read_bytes() for file in files}) == 25
    assert {Image.open(file).size for file in files} == {(32, 32)}
    assert {file.parent.name for file in files} == set(images.CLASSES)


@pytest.mark.parametrize(("count", "of_each"), [(20, 2), (40, 4), (60, 6)])
def test_images_come_from_the_archives_evenly_over_the_classes(tmp_path: Path, count: int, of_each: int) -> None:
    archives = [tmp_path / f"{split}.tar.gz" for split in ("train", "test")]
    for archive in archives:
        with tarfile.open(archive, "w:gz") as files:
            for label in images.CLASSES:
                for number in range(4):
                    member = tarfile.TarInfo(f"{archive.name.split('.')[0]}/{label}/{number:04d}.jpg")
                    member.size = 3
                    files.addfile(member, io.BytesIO(b"abc"))
    images.write_images(tmp_path / "images", count, archives)
    assert images.source(count, archives) == "CIFAR-10"
    assert [len(list((tmp_path / "images" / label).iterdir())) for label in images.CLASSES] == [of_each] * 10


def test_more_images_than_the_archives_have_are_generated(tmp_path: Path) -> None:
    (tmp_path / "images.tar.gz").touch()
    assert images.source(60_000, [tmp_path / "images.tar.gz"]) == "CIFAR-10"
    assert images.source(60_001, [tmp_path / "images.tar.gz"]) == "generated images"


def test_shared_images_are_read_evenly_over_the_classes(tmp_path: Path) -> None:
    with images.shared_images(60, [tmp_path / "nowhere.tar.gz"]):
        few, all_there_are = (images.some_images(tmp_path / "own", count) for count in (20, 60))
        found = dict(images.collected(tmp_path / "own", 20))
    assert not (tmp_path / "own").exists()
    assert [sum(name.startswith(f"{label}/") for name in few.names) for label in images.CLASSES] == [2] * 10
    assert set(found) == set(few.names) < set(all_there_are.names)
    assert found["ship/00000.jpg"] == images.photograph(images.CLASSES.index("ship"), images.SIZE)
    assert not Path(few.root).exists()
    own = images.some_images(tmp_path / "own", 20)
    assert (own.root, len(own.images)) == (str(tmp_path / "own"), 20)


def test_same_number_is_the_same_photograph() -> None:
    assert images.photograph(3, 224) == images.photograph(3, 224) != images.photograph(4, 224)
