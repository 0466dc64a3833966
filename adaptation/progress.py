"""Progress of long work, as one line of text a step: `report("epoch 3/10, accuracy 0.93")`.

The worker reports; the program that runs the work adds a handler to the logger. A job shows the last line beside the
running task.
"""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("adaptation.progress")


def report(message: str) -> None:
    """Report how far the work is."""
    LOGGER.info(message)
