"""Deadlocks that can be seen: every token of a limiter is held by a task that itself waits for one.

**Theory of operation.** Who waits inside of a managed task says so with `block`, until `unblock`; the managed
task is the *holder*. When as many holders wait as tokens are borrowed, none will ever come back: a ring. The
last one that closed it is told. A ring can close when somebody begins to wait, when a token goes back while
the limit is lower than it was, when a limit is lowered, when a pause ends, and when a map whose consumer
sleeps joins its line: then whoever did that calls `break_rings`.

All lines of a limiter have their waits here, those of several managers too. One that is paused is in no ring.

The search stops at the first holder that may go on, and begins with it the next time. So it costs no more for
many waits than for few.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol, final

import attrs
import trio


class Waiting(Protocol):
    """The line that somebody waits in."""

    name: str
    limiter: trio.CapacityLimiter

    def token(self) -> trio.lowlevel.TrioToken | None:
        """That of the trio run in which it grants; None before and after."""
        ...

    def grants(self) -> bool:
        """Whether it gives slots, as soon as there are some."""
        ...

    def resized(self) -> None:
        """The limit has changed, by whoever shares it."""
        ...

    def spare(self) -> int:
        """How many tokens it keeps that nobody uses."""
        ...


@final
@attrs.frozen(eq=False, repr=False)
class _Wait:
    line: Waiting
    holder: trio.lowlevel.Task
    tell: Callable[[], None]
    is_stuck: Callable[[], bool]

    def counts(self) -> bool:
        return self.line.grants() and self.is_stuck()


@final
@attrs.define(eq=False, repr=False)
class Rings:
    """The waits of one limiter, and the lines that lend its tokens."""

    lines: weakref.WeakSet[Waiting] = attrs.field(factory=weakref.WeakSet, init=False)
    _waits: OrderedDict[Any, _Wait] = attrs.field(factory=OrderedDict, init=False)
    # Those that may go on come first.
    _holders: OrderedDict[trio.lowlevel.Task, dict[Any, _Wait]] = attrs.field(factory=OrderedDict, init=False)

    def block(
        self,
        line: Waiting,
        key: Any,
        holder: trio.lowlevel.Task,
        tell: Callable[[], None],
        is_stuck: Callable[[], bool],
    ) -> bool:
        """Note that `key` is waited for inside of the managed task `holder`, until `unblock`.

        It counts while `is_stuck`: as long as it cannot end without a slot. Returns whether it was noted: not
        when this would close a ring. Where it closes later, `tell` is called.
        """
        self._waits[key] = self._holders.setdefault(holder, {})[key] = _Wait(line, holder, tell, is_stuck)
        if self._is_ring(line):
            self.unblock(key)
            return False
        return True

    def unblock(self, key: Any) -> None:
        """`key` is waited for no more."""
        wait = self._waits.pop(key, None)
        if wait is not None:
            waits = self._holders[wait.holder]
            del waits[key]
            if not waits:
                del self._holders[wait.holder]

    def break_rings(self, line: Waiting) -> None:
        """Tell the last one of those who wait for each other, where that is so."""
        while self._holders and self._is_ring(line):
            key, wait = next((key, wait) for key, wait in reversed(self._waits.items()) if wait.counts())
            self.unblock(key)
            wait.tell()

    def _is_ring(self, line: Waiting) -> bool:
        limiter = line.limiter
        held = limiter.borrowed_tokens - line.spare()
        if not self._holders or len(self._holders) < held or limiter.available_tokens > 0:
            return False
        for holder, waits in self._holders.items():
            if not any(wait.counts() for wait in waits.values()):
                self._holders.move_to_end(holder, last=False)
                return False
        return True


# By limiter, since those who share one know nothing of each other. Weak: a limiter that is gone takes its
# entry along, and nothing here keeps a line.
_shared: weakref.WeakKeyDictionary[trio.CapacityLimiter, Rings] = weakref.WeakKeyDictionary()


def rings_of(limiter: trio.CapacityLimiter) -> Rings:
    """What all lines of a limiter that may be shared have in common."""
    return _shared.setdefault(limiter, Rings())
