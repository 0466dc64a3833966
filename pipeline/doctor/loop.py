"""Checks of the loop itself: rules that decide on noise, and trainings that nobody will retry."""

from __future__ import annotations

from collections.abc import Iterator

from adaptation import retraining
from pipeline.doctor.checks import Check, Finding, warning
from pipeline.workspace.workspace import Workspace

_ONE_LOOK = ("point", "wilson")


def loop_checks(workspace: Workspace) -> list[Check]:
    """Return the checks of the evaluation rule and of the last training."""
    return [
        Check("the rule of the evaluation", lambda: rule_findings(workspace.settings.evaluation.rule)),
        Check("the last training", lambda: training_findings(workspace)),
    ]


def rule_findings(rule: str) -> Iterator[Finding]:
    """Warn of rules whose error rate grows with every look."""
    if rule in _ONE_LOOK:
        yield warning(
            f'evaluation.rule = "{rule}" looks at each batch alone and sooner or later retrains a good model on noise '
            '(docs/judgement.md has the figures). Set "evidence", the default since 0.2.0.'
        )


def training_findings(workspace: Workspace) -> Iterator[Finding]:
    """Warn of a training that was given up, or that waits for a delivery."""
    platform = workspace.platform
    if advice := retraining.look(workspace.triggers, platform.jobs, platform.registry).advice:
        yield warning(advice)
