"""Progress of long work, as one line of text a step: `report("epoch 3/10, accuracy 0.93")`.

Whoever works reports; whoever runs the work decides who hears it, by a handler on the logger. A job shows the last line
beside the task that is running.
"""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("adaptation.progress")


def report(message: str) -> None:
    """Tells how far the work is."""
    LOGGER.info(message)
