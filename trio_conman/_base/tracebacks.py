"""Errors as those who handed something in are to see them."""

from __future__ import annotations

from types import TracebackType


def foreign(error: Exception) -> Exception:
    """An error without the traceback entries that lead to frames of this package, and what they hold."""
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_FOLDER):
        traceback = traceback.tb_next
    return Exception.with_traceback(error, traceback)


# As its code has it, wherever that was compiled. Globals would not do: those of a script have no package.
_FOLDER = foreign.__code__.co_filename.rpartition("_base")[0]
