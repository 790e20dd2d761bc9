"""What the attempts of one manager take permits of, and where they wait for one."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from .rate import RateLimiter, Sleeper


@final
@attrs.define(eq=False, repr=False)
class Permits:
    """The part of a manager that knows its rate limiter.

    While the manager is paused, its attempts wait here and not in the queue of the limiter, which others may
    share; then they join that again, in their order.
    """

    limiter: RateLimiter
    # While the manager is paused, who waits, in order; those who sleep already with how to wake them.
    _held: OrderedDict[object, Sleeper | None] | None = attrs.field(default=None, init=False)
    _run: trio.lowlevel.TrioToken | None = attrs.field(default=None, init=False)

    @enable_ki_protection
    def open(self) -> None:
        """Use the limiter, until `close`.

        Raises:
            RuntimeError: another trio run uses it.
        """
        self.limiter._enter_run()
        self.limiter._users += 1
        self._run = self.limiter._run

    @enable_ki_protection
    def close(self) -> None:
        """Use the limiter no more."""
        # It may be another run's by now, if this one crashed, and this is the garbage collector's doing.
        if self.limiter._run is self._run:
            self.limiter._users -= 1

    def pause_for(self, seconds: float) -> None:
        """Give no permit for so many seconds, to anybody."""
        if seconds > 0:
            self.limiter.pause_for(seconds)

    def earliest(self) -> float:
        """When a permit can be had, at the earliest, by who asks for it from now on."""
        return self.limiter._due(len(self.limiter._expected))

    def join(self, key: object) -> None:
        """Stand in the queue, from which an attempt must `take`, `acquire`, or `leave`."""
        if self._held is None:
            self.limiter._queue[key] = self
        else:
            self._held[key] = None

    @enable_ki_protection
    def take(self, key: object, now: float) -> bool:
        """Take a permit if it is somebody's turn and one is due; no checkpoint."""
        return self._held is None and self.limiter._take(key, now)

    @enable_ki_protection
    async def acquire(self, key: object, latest: float = inf) -> float | None:
        """Wait for a permit, and take it.

        Returns:
            None; or, as soon as it is known that it would be due too late, when that is: on the effective
            deadline or after it, or after `latest`.
        """
        sleeper = Sleeper(trio.lowlevel.current_task(), latest=latest)
        try:
            while sleeper.too_late is None:
                # Cancelled in the very tick: then the permit is for the next one.
                await trio.lowlevel.checkpoint_if_cancelled()
                until = inf
                if self._held is not None:
                    self._held[key] = sleeper
                elif (now := trio.current_time()) <= latest and self.limiter._take(key, now):
                    break
                else:
                    sleeper.deadline = trio.current_effective_deadline()
                    until = self.limiter._wait(key, self, sleeper)
                if sleeper.too_late is None:
                    await sleeper.sleep(until)
        finally:
            self.leave(key)
        return sleeper.too_late

    def leave(self, key: object) -> None:
        """Leave the queue, if there."""
        if self._held is not None:
            self._held.pop(key, None)
        self.limiter._leave(key)

    @enable_ki_protection
    def hold(self) -> None:
        """Let nobody have a permit until `resume`."""
        if self._held is not None:
            return
        limiter = self.limiter
        waiting = [*limiter._expected.items(), *limiter._queue.items()]
        mine = [key for key, owner in waiting if owner is self]
        held = OrderedDict((key, limiter._sleepers.get(key)) for key in mine)
        # First what may fail, deep in a caller's stack: wake who will be the head.
        limiter._wake(next((key for key, owner in waiting if owner is not self), None))
        self._held = held
        for key in mine:
            limiter._expected.pop(key, None)
            limiter._queue.pop(key, None)
            limiter._sleepers.pop(key, None)

    @enable_ki_protection
    def resume(self) -> None:
        """End a pause: those who wait join the queue in their order."""
        if self._held is None:
            return
        for sleeper in self._held.values():
            if sleeper is not None:
                sleeper.wake()
        self.limiter._queue.update(dict.fromkeys(self._held, self))
        self._held = None
