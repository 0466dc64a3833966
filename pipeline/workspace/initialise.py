"""Bootstrap: a folder of images becomes a workspace with settings and a first span."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path

from adaptation.data.batches import Snapshot, snapshot_folder
from adaptation.data.labels import Labels, UnknownLabel
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import Manifest
from adaptation.data.splits import Split, test_share
from adaptation.errors import AdaptationError, AlreadyExists
from adaptation.io import storage
from pipeline.workspace.classes import find_classes
from pipeline.workspace.digit_images import write_digits
from pipeline.workspace.settings import Settings
from pipeline.workspace.settings_file import InvalidSettings, locate_settings, write_settings
from pipeline.workspace.workspace import Workspace

FIRST_BATCH = "bootstrap"
DIGITS = "digits"


def initialise(
    path: Path, images: Path | None = None, limit: int | None = None, overrides: Mapping[str, object] | None = None
) -> tuple[Workspace, Manifest]:
    """Make the workspace: its settings and its first span.

    Args:
      path: The workspace's folder, or its settings file.
      images: A folder with a folder a class, or with files named `<class>_<anything>`; None: scikit-learn's digits.
        It is only read.
      limit: How many images to take, evenly over the classes; None: all.
      overrides: Settings by dotted key.

    Failure: interrupted at any point, the next call finishes. An existing settings file is used as it is.

    Raises:
      AlreadyExists: The workspace has spans.
      InvalidSettings: The existing settings differ from `overrides`, or are invalid, or `overrides` are; no file is
        made then.
      NoBatch, InvalidLabels: There are no images, fewer than two classes of them, or the names leave a doubt.
      TooManySkipped, InvalidSpan: Too few of the images can be used.
    """
    file = locate_settings(path)
    if file.exists():
        _check(Workspace.open(file), overrides or {})
    snapshot = snapshot_folder(str(images or _digits(file.parent)), FIRST_BATCH, follow=True)
    workspace = Workspace.open(file) if file.exists() else _new_workspace(file, snapshot, overrides or {})
    return workspace, _first_span(workspace, _limited(snapshot, workspace.labels, limit) if limit else snapshot)


def _check(workspace: Workspace, overrides: Mapping[str, object]) -> None:
    settings = workspace.settings
    if spans := workspace.spans.spans():
        raise AlreadyExists(
            f"there are spans below {settings.data.root} already (newest: {spans[-1]}). "
            "Name another folder with --workspace."
        )
    for key, value in overrides.items():
        if value != (present := _value(settings, key)):
            raise InvalidSettings(
                f"{settings.file} exists and has {key} = {present!r}, not {value!r}. "
                "Edit or remove it, or name another folder with --workspace."
            )


def _value(settings: Settings, key: str) -> object:
    value: object = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _new_workspace(file: Path, snapshot: Snapshot, overrides: Mapping[str, object]) -> Workspace:
    pattern, class_folder = (str(overrides.get(f"labels.{key}", "")) for key in ("pattern", "class_folder"))
    classes = find_classes(snapshot, pattern, class_folder)
    write_settings(file, classes.names, {"labels.source": classes.source, **overrides})
    try:
        workspace = Workspace.open(file)
        _check(workspace, overrides)
    except AdaptationError:  # invalid overrides: the file must not block a retry
        file.unlink()
        raise
    return workspace


def _digits(folder: Path) -> Path:
    write_digits(folder / DIGITS)
    return folder / DIGITS


def _limited(snapshot: Snapshot, labels: Labels, limit: int) -> Snapshot:
    """Return always the same images: by the hash of their names, one of each class in turn."""
    by_class: dict[str, list[storage.File]] = defaultdict(list)
    for image in sorted(snapshot.images, key=lambda image: hashlib.sha256(image.name.encode()).digest()):
        by_class[_label(labels, image.name)].append(image)
    in_turn = (image for images in zip_longest(*by_class.values()) for image in images if image)
    return replace(snapshot, images=tuple(sorted(islice(in_turn, limit))))


def _label(labels: Labels, name: str) -> str:
    try:
        return labels.of(name)
    except UnknownLabel:
        return ""


def _first_span(workspace: Workspace, snapshot: Snapshot) -> Manifest:
    """Make span-1; its number is claimed for the bootstrap, so that a retry with other images gets the same."""
    settings = workspace.settings
    return prepare(
        workspace.spans,
        snapshot,
        workspace.labels,
        Split(settings.data.seed, test_share(len(snapshot.images), settings.data.test_ratio)),
        shard_bytes=settings.data.shard_megabytes * 2**20,
        max_skipped=settings.labels.max_skipped,
        run="adapt init",
        key=FIRST_BATCH,
    )
