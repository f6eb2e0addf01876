"""Figures that results do not depend on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def optional(what: str, say: Callable[[str], object] | None = None) -> Iterator[None]:
    """Turns an error of the figure that is drawn inside into a warning with its reason.

    An error of the file system, such as a full disk or a folder that cannot be written, is raised.

    Args:
        what: the figure, such as its file.
        say: receives the warning; None logs it.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        text = f"{what} cannot be drawn: {type(error).__name__}: {error}"
        if say is None:
            _log.warning("%s", text)
        else:
            say(f"warning: {text}")
