"""What a listing does not take is counted and named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptation import codec
from adaptation.data.batches import Batch, BatchStore, NoBatch, Snapshot, is_image, snapshot_folder
from adaptation.data.passed_over import PassedOver, Sieve
from adaptation.io.storage import join
from tests.worlds.images import collect, write

OCTOBER = Batch(2021, 10)
STRANGERS = {
    "@eaDir": "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
    "__MACOSX": "__MACOSX/cat/1.jpg",
    ".ipynb_checkpoints": "cat/.ipynb_checkpoints/1-checkpoint.png",
    "._*": "cat/._1.jpg",
    "Thumbs.db": "cat/Thumbs.db",
    ".DS_Store": ".DS_Store",
    "desktop.ini": "cat/desktop.ini",
}
OTHERS = {
    ".webp": "cat/1.WEBP",
    ".heic": "cat/1.heic",
    ".bmp": "1.bmp",
    ".tif": "1.tif",
    ".gif": "1.gif",
    "other": "LICENSE",
    "hidden": "cat/.old/1.jpg",
    "unreadable name": "cat/line\nbreak.jpg",
}


@pytest.mark.parametrize(("kind", "name"), (STRANGERS | OTHERS).items())
def test_listing_counts_what_it_does_not_take(root: str, kind: str, name: str) -> None:
    folder = BatchStore(root).folder(OCTOBER)
    collect(folder, ["cat/1.jpg"])
    write(join(folder, name), b"any")
    snapshot = BatchStore(root).snapshot(OCTOBER)
    assert snapshot.names == ("cat/1.jpg",)
    assert snapshot.passed_over.counts == {kind: 1} == BatchStore(root).passed_over(OCTOBER).counts
    assert snapshot.passed_over.examples[kind][0].strip("'").replace("\\n", "\n") == name
    assert BatchStore(root).images(OCTOBER) == snapshot.images


def test_camera_formats_are_counted_together(root: str) -> None:
    for name in ("1.webp", "2.webp", "3.webp", "4.webp", "5.heic"):
        write(join(root, name), b"any")
    with pytest.raises(NoBatch, match=r"no images .*; passed over: 5 files that are no JPEG or PNG: 4 .webp \(\d.webp"):
        snapshot_folder(root, "any")


def test_folder_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    collect(tmp_path, ["cat/1.jpg"])
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/1.jpg")).write_bytes(b"any")
    passed_over = snapshot_folder(str(tmp_path), "any").passed_over
    assert str(passed_over) == "passed over: 1 with a name that is no text of one line ('caf\\udce9/1.jpg')"
    assert codec.decode(codec.encode(passed_over), PassedOver, "test") == passed_over


def test_linked_folders_of_a_batch_are_named_and_not_entered(tmp_path: Path) -> None:
    collect(tmp_path / "2021-10", ["cat/1.jpg"])
    collect(tmp_path / "elsewhere", ["2.jpg"])
    (tmp_path / "2021-10" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "2021-10" / "3.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "2021-10" / "4.jpg")
    snapshot = BatchStore(str(tmp_path)).snapshot(OCTOBER)
    assert snapshot.names == ("cat/1.jpg",)
    assert snapshot.passed_over.counts == {"linked folder": 1, "neither file nor folder": 2}
    assert "1 linked folders, not entered (dog)" in str(snapshot.passed_over)


def test_linked_folders_are_followed_and_loops_found(tmp_path: Path) -> None:
    collect(tmp_path / "images", ["cat/1.jpg"])
    collect(tmp_path / "elsewhere", ["2.jpg"])
    (tmp_path / "images" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "cat" / "loop").symlink_to(tmp_path / "images")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "images" / "dog")
    snapshot = snapshot_folder(str(tmp_path / "images"), "any", follow=True)
    assert snapshot.names == ("cat/1.jpg", "dog/2.jpg")
    assert snapshot.passed_over.counts == {"link to a folder above": 2}


def test_what_was_passed_over_does_not_change_a_snapshot(tmp_path: Path) -> None:
    collect(tmp_path, ["cat/1.jpg"])
    before = snapshot_folder(str(tmp_path), "any")
    (tmp_path / "1.webp").touch()
    after = snapshot_folder(str(tmp_path), "any")
    assert before == after and before.key == after.key and before.passed_over != after.passed_over
    assert codec.decode(codec.encode(after), Snapshot, "test").passed_over == after.passed_over


def test_examples_and_kinds_are_few_however_many_files_there_are() -> None:
    sieve = Sieve()
    for number in range(10_000):
        sieve.add(f"{number}.x{number}")
    assert sum(sieve.passed_over.counts.values()) == 10_000
    assert len(sieve.passed_over.counts) <= 41
    assert max(map(len, sieve.passed_over.examples.values())) == 3


@pytest.mark.parametrize("name", ["@eaDirs/1.jpg", "x@eaDir/1.jpg", "a._b.jpg", "__MACOSX.jpg", "Thumbs.db.jpg"])
def test_names_that_only_resemble_strangers_are_images(name: str) -> None:
    assert is_image(name)
