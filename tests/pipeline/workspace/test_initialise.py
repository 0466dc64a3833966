"""From a folder of images to a workspace: classes, limit, what is skipped, and what an interruption leaves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from adaptation.data import span_preparation
from adaptation.data.batches import NoBatch
from adaptation.data.label_tables import InvalidLabels
from adaptation.data.labels import TooManySkipped
from adaptation.data.spans import Manifest, Span
from adaptation.errors import AlreadyExists
from pipeline.workspace.initialise import initialise
from pipeline.workspace.settings_file import InvalidSettings
from pipeline.workspace.workspace import Workspace
from tests.worlds.images import collect, contents, image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """60 images of two classes."""
    collect(tmp_path / "images", [f"{label}/{number}.png" for label in ("ship", "truck") for number in range(30)])
    return tmp_path / "images"


def names_in(workspace: Workspace) -> tuple[str, ...]:
    """Return the names of the images that span-1 was made from."""
    made_from = workspace.spans.snapshot(Span(1))
    assert made_from
    return made_from.names


def per_class(manifest: Manifest) -> dict[str, int]:
    return {label: sum(manifest.counts[split][label] for split in manifest.counts) for label in manifest.labels}


def test_folder_of_all_kinds_of_images_becomes_span_1(tmp_path: Path) -> None:
    collect(tmp_path / "own", [f"traffic light/{number}.JPG" for number in range(20)])
    collect(tmp_path / "own", [f"ship/{number} of 20.png" for number in range(20)])
    (tmp_path / "own" / "ship" / "colour.PNG").write_bytes(image(1))
    (tmp_path / "own" / "ship" / "colour.jpeg").write_bytes(image(2, "JPEG"))
    (tmp_path / "own" / "ship" / "read me.txt").write_text("about ships")
    before = contents(tmp_path / "own")
    workspace, manifest = initialise(tmp_path / "shop", tmp_path / "own")
    assert per_class(manifest) == {"ship": 22, "traffic light": 20}
    assert (manifest.span, manifest.skipped) == (1, ())
    assert (workspace.settings.labels.source, workspace.settings.labels.names) == ("folder", manifest.labels)
    assert workspace.spans.verify(Span(1)).images == 42
    assert contents(tmp_path / "own") == before


def test_damaged_files_are_skipped_with_reasons(tmp_path: Path, images: Path) -> None:
    (images / "ship" / "cut.png").write_bytes(image(3)[:60])
    (images / "truck" / "empty.jpg").touch()
    manifest = initialise(tmp_path / "shop", images)[1]
    assert manifest.images == 60
    assert [one.name for one in manifest.skipped] == ["ship/cut.png", "truck/empty.jpg"]
    assert "cut off" in manifest.skipped[0].reason and "empty" in manifest.skipped[1].reason


@pytest.mark.parametrize(
    ("names", "fault"), [(["ship/1.png", "ship/2.png"], "one class, ship"), (["a.png", "b.png"], "no class")]
)
def test_folder_with_fewer_than_two_classes_is_refused(tmp_path: Path, names: list[str], fault: str) -> None:
    collect(tmp_path / "own", names)
    with pytest.raises(InvalidLabels, match=fault):
        initialise(tmp_path / "shop", tmp_path / "own")
    assert not (tmp_path / "shop").exists()


def test_linked_class_folder_is_a_class(tmp_path: Path, images: Path) -> None:
    (images / "truck").rename(tmp_path / "elsewhere")
    (images / "truck").symlink_to(tmp_path / "elsewhere")
    (images / "truck" / "again").symlink_to(images)
    workspace, manifest = initialise(tmp_path / "shop", images)
    assert per_class(manifest) == {"ship": 30, "truck": 30}
    made_from = workspace.spans.snapshot(Span(1))
    assert made_from and made_from.passed_over.examples == {"link to a folder above": ("truck/again",)}


def test_pattern_and_class_folder_become_settings(tmp_path: Path, images: Path) -> None:
    collect(tmp_path / "deep", [f"{label}/2021/{number}.png" for label in ("cat", "dog") for number in range(10)])
    with pytest.raises(InvalidLabels, match="is the class of cat/2021/0.png cat or 2021"):
        initialise(tmp_path / "shop", tmp_path / "deep")
    workspace, manifest = initialise(tmp_path / "shop", tmp_path / "deep", overrides={"labels.class_folder": "first"})
    assert (workspace.settings.labels.class_folder, per_class(manifest)) == ("first", {"cat": 10, "dog": 10})
    pattern = r"(?P<label>\d)\.png$"
    workspace, _ = initialise(tmp_path / "digits", images, overrides={"labels.pattern": pattern})
    assert (workspace.settings.labels.source, workspace.settings.labels.pattern) == ("pattern", pattern)
    assert workspace.settings.labels.names == tuple("0123456789")


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "1.heic").touch()
    with pytest.raises(NoBatch, match="own has no images .* no JPEG or PNG: 1 .heic"):
        initialise(tmp_path / "shop", tmp_path / "own")
    assert not (tmp_path / "shop").exists()


def test_image_beside_the_class_folders_is_skipped(tmp_path: Path, images: Path) -> None:
    collect(images, ["overview_1.png"])
    manifest = initialise(tmp_path / "shop", images)[1]
    assert per_class(manifest) == {"ship": 30, "truck": 30}
    assert [one.name for one in manifest.skipped] == ["overview_1.png"]


def test_limit_is_even_over_classes_and_takes_the_same_images_always(tmp_path: Path, images: Path) -> None:
    collect(images, [f"tank/{number}.png" for number in range(100)])
    first, again = (names_in(initialise(tmp_path / name, images, limit=30)[0]) for name in ("a", "b"))
    assert first == again
    assert Counter(name.split("/")[0] for name in first) == {"ship": 10, "truck": 10, "tank": 10}


def test_limit_that_a_small_class_cannot_fill_is_filled_by_the_others(tmp_path: Path, images: Path) -> None:
    collect(images, [f"tank/{number}.png" for number in range(3)])
    names = names_in(initialise(tmp_path / "shop", images, limit=33)[0])
    assert Counter(name.split("/")[0] for name in names) == {"ship": 15, "truck": 15, "tank": 3}


def test_limit_above_the_number_of_images_takes_all(tmp_path: Path, images: Path) -> None:
    assert initialise(tmp_path / "shop", images, limit=1000)[1].images == 60


def test_workspace_with_spans_is_unchanged(tmp_path: Path, images: Path) -> None:
    initialise(tmp_path / "shop", images)
    before = contents(tmp_path / "shop")
    with pytest.raises(AlreadyExists, match="span-1"):
        initialise(tmp_path / "shop", limit=20)
    assert contents(tmp_path / "shop") == before


def test_spans_without_settings_are_unchanged(tmp_path: Path, images: Path) -> None:
    initialise(tmp_path / "shop", images)
    (tmp_path / "shop" / "adapt.toml").unlink()
    before = contents(tmp_path / "shop")
    with pytest.raises(AlreadyExists, match="span-1"):
        initialise(tmp_path / "shop", images)
    assert contents(tmp_path / "shop") == before


def test_interrupted_initialisation_is_finished_by_the_next_call(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(span_preparation, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            initialise(tmp_path / "shop", images, overrides={"name": "shop"})
    settings = (tmp_path / "shop" / "adapt.toml").read_text()
    workspace, manifest = initialise(tmp_path / "shop", images, overrides={"name": "shop"})
    assert (manifest.span, manifest.images) == (1, 60)
    assert workspace.settings.file.read_text() == settings
    assert workspace.spans.verify(Span(1)) == manifest


def test_images_that_had_to_be_fixed_first_still_become_span_1(tmp_path: Path, images: Path) -> None:
    broken = [images / "ship" / f"broken {number}.png" for number in range(10)]
    for file in broken:
        file.touch()
    with pytest.raises(TooManySkipped, match="broken"):
        initialise(tmp_path / "shop", images)
    for file in broken:
        file.unlink()
    workspace, manifest = initialise(tmp_path / "shop", images)
    assert (manifest.span, manifest.images) == (1, 60)
    assert workspace.spans.verify(Span(1)) == manifest


def test_existing_settings_are_used(tmp_path: Path, images: Path) -> None:
    collect(images, [f"tank/{number}.png" for number in range(2)])
    (tmp_path / "shop").mkdir()
    text = '[labels]\nnames = ["truck", "ship"]\nsource = "folder"\n'
    (tmp_path / "shop" / "adapt.toml").write_text(text)
    manifest = initialise(tmp_path / "shop", images)[1]
    assert manifest.labels == ("truck", "ship")
    assert [one.name for one in manifest.skipped] == ["tank/0.png", "tank/1.png"]


def test_existing_settings_are_not_overridden_silently(tmp_path: Path, images: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "adapt.toml").write_text('[labels]\nnames = ["ship", "truck"]\nsource = "folder"\n')
    with pytest.raises(InvalidSettings, match="model.name = 'digits', not 'cifar'"):
        initialise(tmp_path / "shop", images, overrides={"model.name": "cifar"})
    assert initialise(tmp_path / "shop", images, overrides={"model.name": "digits"})[1].images == 60


def test_invalid_setting_leaves_no_file_behind(tmp_path: Path, images: Path) -> None:
    with pytest.raises(InvalidSettings, match="Bad_Name"):
        initialise(tmp_path / "shop", images, overrides={"name": "Bad_Name"})
    assert contents(tmp_path / "shop") == {}
    assert initialise(tmp_path / "shop", images, overrides={"name": "good-name"})[1].span == 1


def test_settings_file_may_have_another_name(tmp_path: Path, images: Path) -> None:
    workspace, _ = initialise(tmp_path / "shop" / "staging.toml", images)
    assert workspace.settings.file == tmp_path / "shop" / "staging.toml"
    assert (tmp_path / "shop" / "data" / "span-1" / "manifest.json").exists()


def test_digits_are_used_without_images_and_other_folders_are_unchanged(tmp_path: Path) -> None:
    collect(tmp_path / "shop" / "images", ["ship_1.png", "truck_1.png"])
    manifest = initialise(tmp_path / "shop", limit=50)[1]
    assert per_class(manifest) == {str(digit): 5 for digit in range(10)}
    assert len(contents(tmp_path / "shop" / "images")) == 2


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
