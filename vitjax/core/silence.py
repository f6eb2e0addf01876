"""What dependencies report beside vitjax's own messages: settings of a process that vitjax starts.

A program that uses vitjax as a library decides itself what it is told.
"""

from __future__ import annotations

import logging
import warnings


def silence_pillow() -> None:
    """Silences what Pillow warns of and logs: damaged metadata, without the name of the file."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
