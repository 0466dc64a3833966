"""`python -m benchmarks [NAME ...]`: measures the speed, or what is named, shows the table and writes the figures."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.report import show, write
from benchmarks.suite import BY_NAME_ONLY, MODULES, run_all

FIGURES = Path("build", "bench.json")


def main() -> None:
    """Measure, show, write; exit with 1 if something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(MODULES)}")
    names = parser.parse_args().names or [name for name in MODULES if name not in BY_NAME_ONLY]
    if unknown := [name for name in names if name not in MODULES]:
        parser.error(f"there is no benchmark {unknown[0]!r}. Name one of {', '.join(MODULES)}.")
    reports = run_all(names)
    show(reports)
    write(reports, FIGURES)
    if any(figure.failure for report in reports for figure in report.figures):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
