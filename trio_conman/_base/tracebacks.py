"""Errors as those who handed something in are to see them."""

from __future__ import annotations

from types import TracebackType

# As the code of its modules has it. Their globals would not do: a script's have no package, or None.
_FOLDER = __file__.rpartition("_base")[0]


def foreign(error: Exception) -> Exception:
    """An error without the traceback entries that lead to frames of this package, and what they hold."""
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_FOLDER):
        traceback = traceback.tb_next
    return Exception.with_traceback(error, traceback)
