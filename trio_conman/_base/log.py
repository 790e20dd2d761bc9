"""Where the library says what happens, and what is wrong with what it was handed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress

logger = logging.getLogger("trio_conman")


def log(
    level: int,
    text: str,
    *args: object,
    error: BaseException | None,
    extra: Mapping[str, object] | None = None,
) -> None:
    """Log a text, with the traceback of an error if there is one."""
    # An exception may be false, or refuse to say whether it is true: logging would take it for none.
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    logger.log(level, text, *args, exc_info=exc_info, extra=extra)


def log_fault(text: str, *args: object, error: BaseException | None = None) -> None:
    """Log what is wrong; what logging itself raises must not reach a task, or trio's loop."""
    with suppress(Exception):
        log(logging.ERROR, text, *args, error=error)
