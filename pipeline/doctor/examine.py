"""The doctor: problems of the machine, the settings and what they refer to. It leaves everything as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from adaptation.io import storage
from pipeline.cautions import cautions
from pipeline.doctor.checks import Check, Finding, Result, broken, carry_out, warning
from pipeline.doctor.file_system import file_system_checks
from pipeline.doctor.google_cloud import cloud_checks, credentials_check
from pipeline.doctor.loop import loop_checks
from pipeline.doctor.machine import machine_checks
from pipeline.doctor.state import state_checks
from pipeline.user_code import prepare
from pipeline.workspace.settings import Settings
from pipeline.workspace.settings_file import (
    LAST_LINE,
    InvalidSettings,
    NoSettings,
    is_whole,
    locate_settings,
    service_variables,
)
from pipeline.workspace.workspace import Workspace

LEAST_TEST_IMAGES = 100
RECIPE_SECONDS = 60.0  # a recipe that imports TensorFlow at its top takes a while


def examine(path: Path) -> Iterator[Result]:
    """Examine a workspace, check by check. Checks that depend on something broken are skipped.

    Args:
      path: The workspace's folder, or its settings file; it need not exist.
    """
    yield from carry_out(machine_checks(locate_settings(path).parent))
    try:
        workspace = Workspace.open(path)
        remote = workspace.config.remote  # which needs all that the platform does
    except NoSettings as error:
        yield Result("settings", (warning(str(error)),))
    except InvalidSettings as error:
        yield Result("settings", (broken(str(error)),))
    else:
        yield Result("settings", tuple(_settings_findings(locate_settings(path))))
        yield from carry_out([Check("recipe", lambda: _recipe_findings(workspace.settings), RECIPE_SECONDS)])
        yield from _on_vertex(workspace) if remote else _on_this_machine(workspace)


def _settings_findings(file: Path) -> Iterator[Finding]:
    if not is_whole(file):
        yield warning(
            f'{file} does not end with the line "{LAST_LINE}". If the end is missing, restore it: what is missing has '
            "its default now. If it is all there, as in a file of 0.1.0 or of your own, add the line."
        )
    if names := service_variables():
        yield warning(
            f"{', '.join(names)} are no settings: Kubernetes sets them for a service named adapt. They are ignored; "
            "enableServiceLinks: false in the pod's spec leaves them out."
        )


def _on_vertex(workspace: Workspace) -> Iterator[Result]:
    (credentials,) = carry_out([replace(credentials_check(workspace.settings), remote=True)])
    yield credentials
    if not credentials.broken:
        checks = [*_label_checks(workspace.settings), *cloud_checks(workspace), *loop_checks(workspace)]
        yield from _judging([replace(check, remote=True) for check in checks], workspace)


def _on_this_machine(workspace: Workspace) -> Iterator[Result]:
    serving = Check("serving model", lambda: _service_findings(workspace))
    checks = [
        *file_system_checks(workspace),
        *state_checks(workspace),
        *_label_checks(workspace.settings),
        serving,
        *loop_checks(workspace),
    ]
    return _judging(checks, workspace)


def _judging(checks: Sequence[Check], workspace: Workspace) -> Iterator[Result]:
    """The checks, and where they find nothing broken those of what the gate decides by."""
    broken_ones = []
    for result in carry_out(checks):
        broken_ones += [result] if result.broken else []
        yield result
    if not broken_ones:
        yield from carry_out(
            [
                Check("test images", lambda: _test_image_findings(workspace)),
                Check("champion", lambda: _champion_findings(workspace)),
            ]
        )


def _champion_findings(workspace: Workspace) -> Iterator[Finding]:
    return map(warning, cautions(workspace.settings, workspace.platform.registry.champion()))


def _recipe_findings(settings: Settings) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        prepare(settings, folder)
    yield from ()


def _test_image_findings(workspace: Workspace) -> Iterator[Finding]:
    for newest in workspace.spans.manifests(workspace.spans.spans()[-1:]):
        if (images := newest.images_in("test")) < LEAST_TEST_IMAGES:
            yield warning(
                f"span-{newest.span} has {images} test images: with fewer than {LEAST_TEST_IMAGES} most challengers "
                "stay undecided. Collect more images before an evaluation, or raise data.test_ratio."
            )


def _label_checks(settings: Settings) -> list[Check]:
    file = settings.labels.file
    return [Check("labels", lambda: _label_findings(file))] if file else []


def _label_findings(file: str) -> Iterator[Finding]:
    if not storage.exists(file):
        yield broken(f"the table of labels {file} is missing. Put it there, or change labels.file.")


def _service_findings(workspace: Workspace) -> Iterator[Finding]:
    platform = workspace.platform
    champion, serving = platform.registry.champion(), list(platform.endpoint.serving())
    expected = [champion.number] if champion else []
    if serving == expected:
        return
    served = ", ".join(f"version {number}" for number in serving) or "nothing"
    named = f"version {champion.number}" if champion else "no version"
    yield broken(f'{served} is served, but {named} is the champion. Run "adapt train", or "adapt rollback".')
