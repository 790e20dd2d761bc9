"""The line in front of a manager: who waits for a slot, and how.

A task that `start_soon` has accepted, and a map, wait with a place in the queue and nothing else. A caller of
`run` is asleep in `sleep`, and a task that returns from a backoff in `reenter`. A task that waits for another
one of its key in the journal is *parked*: it stands beside the line until it is told to wait again.

*Deadlock.* Who waits inside of a managed task is noted in the `Rings` of the limiter; see there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeAlias, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.texts import SEE
from trio_conman._books.handles import Slot, TaskHandle

from .keys import forget, let_go, wait_again
from .lanes import Grant, Lanes
from .ranked import Ranked
from .tokens import Tokens

Start: TypeAlias = Callable[[TaskHandle[Any], Slot], None]


def _nothing() -> None:
    pass


@final
@attrs.define(eq=False, repr=False)
class Line(Tokens):
    """Those who wait for the slots of one manager, first come first served."""

    # Those who wait in `sleep`: their tasks are not accepted yet.
    sleepers: dict[TaskHandle[Any], trio.lowlevel.Task] = attrs.field(factory=dict, init=False)
    # Those who stand beside it, and those of them who wait for a slot again; `beside` are those who do not.
    parked: dict[TaskHandle[Any], Grant] = attrs.field(factory=dict, init=False)
    beside: set[TaskHandle[Any]] = attrs.field(factory=set, init=False)
    # Called when the limit has changed, by whoever shares it.
    resized: Callable[[], None] = attrs.field(default=_nothing, init=False)

    def close(self) -> None:
        """Grant nothing from here on, and tell so those who have not started."""
        self.closed = True
        self.rings.leave(self)
        self.resized = _nothing  # it leads back to whoever holds the line
        while self._spare:
            self.limiter.release_on_behalf_of(self._spare.pop())
        for waiter, grant in self._queue.drain():
            grant(waiter, None)
        for handle, grant in list(self.parked.items()):
            if self.leave(handle):  # else a hook has cancelled it
                grant(handle, None)
        self._mind_envoy()

    def join(self, waiter: Any, grant: Grant) -> None:
        """Wait for a slot, behind those of the same priority."""
        self._queue.join(waiter, grant)
        if self._envoy is not None:
            self._envoy.mind(self)

    def rejoin(self, waiter: Any) -> None:
        """Wait behind all of the same priority, if it does."""
        self._queue.reorder(waiter, waiter._priority)

    def leave(self, waiter: Any) -> bool:
        """Wait no more; whether it did."""
        waited = self._queue.leave(waiter) is not None
        if self.parked.pop(waiter, None) is not None:
            self._returning.leave(waiter)
            self.beside.discard(waiter)
            let_go(waiter._keys)
            waited = True
        self._mind_envoy()
        return waited

    def lacks_keys(self, handle: TaskHandle[Any]) -> bool:
        """See `Keyring.look_up`; False where there are no limits by key."""
        try:
            return self.keyring is not None and handle._keys is None and self.keyring.look_up(handle)
        finally:
            del self, handle  # where an error led to this frame

    def queued(self) -> list[TaskHandle[Any]]:
        """Who was accepted and has not started, when no map waits, and nobody sleeps."""
        # A sleeper that was cancelled, and has not woken yet, never was.
        return [*[each for each in self._queue.waiters() if each._index >= 0], *self.parked]

    def park(self, handle: TaskHandle[Any], grant: Grant) -> None:
        """Stand beside the line, without a slot, until `unpark`; its keys are kept for it."""
        self.parked[handle] = grant
        self.beside.add(handle)

    def unpark(self, handle: TaskHandle[Any]) -> None:
        """Wait for a slot, as in `reenter`; one that has left stays away."""
        if handle not in self.parked:
            return

        def granted(handle: TaskHandle[Any], slot: Slot | None) -> bool:
            let_go(handle._keys)
            return self.parked.pop(handle)(handle, slot)

        self.beside.discard(handle)
        self._come_back(handle)
        self._returning.join(handle, granted)
        self.rings.suspected = True  # a map may wait for it, which stood beside the line
        self.serve()

    @enable_ki_protection
    def reorder(self, handle: TaskHandle[Any], priority: int) -> None:
        """A task has another priority from here on: where it waits, and wherever it will."""
        returns = handle._backs_off or handle in self.parked
        (self._returning if returns else self._queue).reorder(handle, priority)
        self._mind_envoy()

    async def sleep(self, handle: TaskHandle[Any], start: Start, holder: TaskHandle[Any] | None) -> None:
        """Wait in the line, asleep, until `start` was called with the slot, or the line says no.

        Raises:
            RuntimeError: inside of the managed task `holder` this wait could never end.
        """
        is_deadlock = False

        def granted(handle: TaskHandle[Any], slot: Slot | None) -> bool:
            if handle not in self.sleepers:
                return False  # it was cancelled, and has not woken yet
            # First, as a hook may cancel it, or find a ring.
            trio.lowlevel.reschedule(self.sleepers.pop(handle))
            if slot is not None:
                start(handle, slot)
            return True

        def deadlocked() -> None:
            nonlocal is_deadlock
            is_deadlock = True
            self._wake(handle)

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            # Who cancels may be deep in a recursion: nothing is called here, the rest is done on waking.
            del self.sleepers[handle]
            return trio.lowlevel.Abort.SUCCEEDED

        self.sleepers[handle] = trio.lowlevel.current_task()
        is_inside = holder is not None
        may_wait = holder is None or self.rings.block(
            self, handle, holder, deadlocked, lambda: handle in self.sleepers, lambda: [handle._keys or ()]
        )
        del holder  # whose outcome may lead to this frame, by what is raised here
        if may_wait:
            self.join(handle, granted)
            try:
                await trio.lowlevel.wait_task_rescheduled(abort)
            except BaseException:
                self._queue.leave(handle)  # who was woken stands there no more
                raise
            finally:
                if is_inside:
                    self.rings.unblock(handle)
                if self._envoy is not None:
                    self._envoy.mind(self)
        else:
            del self.sleepers[handle]
            forget(handle._keys)
            is_deadlock = True
        if is_deadlock:
            raise self.deadlock("run() was called", "use start_soon(), which does not wait")

    def refuse_sleepers(self) -> None:
        """Wake those who sleep, with nothing granted."""
        for handle in list(self.sleepers):
            self._wake(handle)

    def _wake(self, handle: TaskHandle[Any]) -> None:
        self._queue.leave(handle)
        trio.lowlevel.reschedule(self.sleepers.pop(handle))

    @enable_ki_protection
    async def reenter(self, handle: TaskHandle[Any], granted: Callable[[Any], None] | None) -> None:
        """Wait for a slot, behind those of the same priority who returned earlier; its keys are kept.

        `granted` is called with it when it gets one, before anybody else does; not where one is there.
        """
        self._come_back(handle)
        if not (self._returning.ready or self.paused or self.closed):
            handle._slot = self._free() if handle._keys is None else self._free_with(handle._keys)
            if handle._slot is not None:
                return
        task: trio.lowlevel.Task | None = trio.lowlevel.current_task()

        def grant(handle: TaskHandle[Any], slot: Slot | None) -> bool:
            nonlocal task
            if task is None:
                return False  # as in sleep()
            handle._slot = slot
            if granted is not None:
                granted(handle)
            trio.lowlevel.reschedule(task)
            return True

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            nonlocal task
            task = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._returning.join(handle, grant)
        self._mind_envoy()
        if self.rings.suspected:  # who waits for it may have its keys
            self.rings.break_rings()
        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        finally:
            self._returning.leave(handle)
            self._mind_envoy()

    def _come_back(self, handle: TaskHandle[Any]) -> None:
        """Wait for its keys again; until somebody does, there is a queue without: to ask it costs less."""
        if handle._keys is not None:
            wait_again(handle._keys)
            if isinstance(self._returning, Ranked):
                self._returning = Lanes(weakref.ref(self), self.rings).take_over(self._returning)

    def deadlock(self, what: str, instead: str, *, is_short: bool = True) -> RuntimeError:
        """What to raise where a ring was closed; `is_short` says whether of slots or keys."""
        slot = "slot" if self.keyring is None else "slot, or all that a key allows,"
        if is_short:
            why = (
                f"while every {slot} is held by a task that itself waits for one, so that one gets free only "
                "when one of them gives up"
            )
        else:
            why = "for which its items wait in turn, so that neither would ever end"
        return RuntimeError(f"{what} inside a task of {self.name!r} {why}: {instead} {SEE}")
