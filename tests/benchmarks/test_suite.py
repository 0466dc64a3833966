"""Which benchmarks are run side by side, and in which order they are told."""

from __future__ import annotations

import threading

import pytest

from benchmarks import suite


def test_those_that_wait_run_side_by_side_and_all_are_told_in_the_order_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(len(suite.WAITING))

    def run_apart(name: str) -> suite.Report:
        if name in suite.WAITING:
            together.wait(timeout=60)
        return suite.Report((), name)

    monkeypatch.setattr(suite, "_run_apart", run_apart)
    assert [report.remark for report in suite.run_all(list(suite.MODULES))] == list(suite.MODULES)
    assert [report.remark for report in suite.run_all(["listing"])] == ["listing"]
