"""What the tasks of one manager count for."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, final

import attrs
import trio

from trio_conman._books.handles import TaskHandle

from .asking import ask
from .keyed import KeyedLimit
from .keys import Keys, forget, full_one, hold


@final
@attrs.define(eq=False, repr=False)
class Keyring:
    """The part of a manager that knows its limits by key."""

    limits: tuple[KeyedLimit, ...]

    def open(self, undo: ExitStack) -> None:
        """Use the limits, until that is undone.

        Raises:
            RuntimeError: another trio run uses one of them.
        """
        run = trio.lowlevel.current_trio_token()
        for limit in self.limits:
            limit._open()
            undo.callback(limit._close, run)

    def enlist(self, handle: TaskHandle[Any]) -> None:
        """A task waits, with its keys from here on; who does not join a line must `forget` them.

        One that will be recalled has none.

        Raises:
            Exception: they cannot be told.
        """
        keys: Keys = ()
        args, records = handle._args, handle._terms.records
        try:
            if records is not None and handle._claimed is None and records.holds(records.key_of(args)):
                return
            for limit in self.limits:
                keys += limit._enter(ask(limit, limit._fn, args))
            handle._keys = keys
        except BaseException:  # a Ctrl-C, too
            forget(keys)
            raise
        finally:
            del self, handle, args  # where an error led to this frame

    def look_up(self, handle: TaskHandle[Any]) -> bool:
        """A task that was to be recalled, and is not, has keys from here on, and its slot has them.

        Returns whether one of them was full: then it has to put the slot back.
        """
        try:
            self.enlist(handle)
            keys, slot = handle._keys, handle._slot
            assert slot is not None
            is_full = full_one(keys) is not None
            hold(keys, slot)
            return is_full
        finally:
            del self, handle  # as above
