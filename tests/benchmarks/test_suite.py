"""Benchmarks' suite: which ones run concurrently, and the order of their reports."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext

import pytest

from benchmarks import suite


def test_waiting_benchmarks_run_together_and_reports_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(len(suite.WAITING))

    def run_apart(name: str) -> suite.Report:
        if name in suite.WAITING:
            together.wait(timeout=60)
        return suite.Report((), name)

    monkeypatch.setattr(suite, "_run_apart", run_apart)
    monkeypatch.setattr(suite, "shared_images", nullcontext)
    assert [report.remark for report in suite.run_all(list(suite.MODULES))] == list(suite.MODULES)
    assert [report.remark for report in suite.run_all(["listing"])] == ["listing"]


def test_images_are_shared_by_several_benchmarks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    sharing: list[bool] = []

    @contextmanager
    def shared_images() -> Iterator[None]:
        sharing.append(True)
        yield
        sharing.clear()

    monkeypatch.setattr(suite, "shared_images", shared_images)
    monkeypatch.setattr(suite, "_run_apart", lambda name: suite.Report((), f"{name} {bool(sharing)}"))
    assert [one.remark for one in suite.run_all(["inputs", "listing"])] == ["inputs True", "listing True"]
    assert [one.remark for one in suite.run_all(["inputs"])] == ["inputs False"]


def test_benchmark_that_fails_is_reported_and_the_others_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_apart(name: str) -> suite.Report:
        if name == "inputs":
            raise BrokenProcessPool("a process was killed")
        return suite.Report((), name)

    monkeypatch.setattr(suite, "_run_apart", run_apart)
    monkeypatch.setattr(suite, "shared_images", nullcontext)
    failed, other = suite.run_all(["inputs", "listing"])
    assert [(one.subject, one.failure) for one in failed.figures] == [
        ("inputs", "BrokenProcessPool: a process was killed")
    ]
    assert other.remark == "listing"
