"""The command `adapt`: each of its commands opens the workspace, calls one function and shows the result.

Nothing is imported before a command needs it, so that help and usage errors appear at once.
"""

from __future__ import annotations

import click

from pipeline.cli.batches import batches
from pipeline.cli.cloud import compile_command, publish, submit
from pipeline.cli.cost import cost
from pipeline.cli.doctor import doctor
from pipeline.cli.function import function
from pipeline.cli.loop import demo, evaluate, init, plan, train, watch
from pipeline.cli.models import models, rollback
from pipeline.cli.rehearsal import rehearse
from pipeline.cli.report import report
from pipeline.cli.review import review
from pipeline.cli.settings import settings
from pipeline.cli.shell import Shell
from pipeline.cli.spans import spans
from pipeline.cli.status import notify, status

LOOP = (init, train, evaluate, plan, watch, demo)
STATE = (status, spans, batches, models, rollback, review, report, cost, notify)
PLACES = (compile_command, publish, submit, rehearse, function, doctor, settings)


@click.group(cls=Shell, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="continuous-adaptation")
def cli() -> None:
    """Notice when a deployed image classifier meets changed data, retrain it and redeploy it.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the gate refused the challenger, 4 it is undecided about it (in both
    cases the champion keeps serving), 5 the status needs a person, 130 interrupted.
    """


for command in (*LOOP, *STATE, *PLACES):
    cli.add_command(command)


def main() -> None:
    """Run the command line."""
    cli(prog_name="adapt")
