"""`python -m benchmarks [NAME ...]`: measures all or the named benchmarks, shows the table and writes the figures."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.report import show, write
from benchmarks.suite import MODULES, run_all

FIGURES = Path("build", "bench.json")


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(MODULES)}; else all of them")
    names = parser.parse_args().names or list(MODULES)
    if unknown := [name for name in names if name not in MODULES]:
        parser.error(f"there is no benchmark {unknown[0]!r}. Name one of {', '.join(MODULES)}.")
    reports = run_all(names)
    show(reports)
    write(reports, FIGURES)


if __name__ == "__main__":
    main()
