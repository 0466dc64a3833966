"""Notification of a workspace's events: after a job, by the watch, and by commands. It never fails what it follows."""

from __future__ import annotations

import threading
from pathlib import Path

from adaptation.notify.delivery import Undelivered, notify
from adaptation.progress import report
from pipeline.workspace.workspace import Workspace


def notify_now(workspace: Workspace, *, at_once: bool = False) -> list[Undelivered]:
    """Collect and send the events of a workspace, and return what could not be sent; errors are reported, not raised.

    Args:
      workspace: The workspace.
      at_once: Do not wait for the end of the pause after a failure.
    """
    try:
        return notify(workspace.sources, workspace.notification, at_once=at_once)
    except Exception as error:  # whatever it is, the work that this follows is done, and the next call sends
        report(f"events were not sent: {type(error).__name__}: {error}")
        return []


def notify_after(settings: str | Path) -> None:
    """Notify after a job of the workspace that has these settings, which may have become unreadable meanwhile."""
    try:
        workspace = Workspace.open(settings)
    except Exception as error:
        return report(f"events were not sent: {type(error).__name__}: {error}")
    notify_now(workspace)


class Background:
    """Notification beside repeated work: one at a time, in a thread of its own."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._thread: threading.Thread | None = None

    def notify(self) -> None:
        """Begin to notify unless the last call has not ended yet."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=notify_now, args=(self._workspace,), daemon=True)
            self._thread.start()
