"""Who gets the next slot.

**Theory of operation.** A slot is a token of a `trio.CapacityLimiter`, borrowed on behalf of a `Slot` object.
Who waits for one has a place in one of two queues: tasks that return from a backoff, and all that have not
started. While both have somebody, they take turns: so retries neither wait behind a long line, nor starve it.

What must always hold:

- While somebody waits, no slot is spare, unless the line is paused or closed.
- Slots go to the heads of the queues only; `take` is for those who find nobody waiting.
- A paused line grants nothing. A closed one never will: a slot that comes back goes to the limiter.

*A limiter of our own* is asked by nobody else. Its tokens are kept between tasks, in `_spare`, and a slot
that is released with somebody waiting is passed on: to ask the limiter each time costs more than all the rest
here. After the limit was lowered, `_excess` tokens go back to it first.

*A limiter that was given* may be shared. Each slot goes back to it. Exactly while somebody waits here who may
be served, one trio task, the envoy, waits in the limiter for the head of the line, again and again, so that
all who share it have their turn; else it is recalled, and what it was granted meanwhile goes back.

*Deadlock.* Who waits inside of a managed task is noted in the `Rings` of the limiter; see there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.stack import need_stack
from trio_conman._base.texts import SEE
from trio_conman._books.handles import Slot, TaskHandle

from .rings import Rings, rings_of

# Called with a key and its slot, or None when the line is closed. Returns whether it has taken the slot.
Grant: TypeAlias = Callable[[Any, Slot | None], bool]
Start: TypeAlias = Callable[[TaskHandle[Any], Slot], None]


def _nothing() -> None:
    pass


@final
@attrs.define(eq=False, repr=False)
class Line:
    """Hands the tokens of a limiter to those who wait, first come first served."""

    name: str
    limiter: trio.CapacityLimiter
    shared: bool
    nursery: trio.Nursery = attrs.field(init=False)
    paused: bool = attrs.field(default=False, init=False)
    # Those who wait in `sleep`: their tasks are not accepted yet.
    sleepers: dict[TaskHandle[Any], trio.lowlevel.Task] = attrs.field(factory=dict, init=False)
    # Those who stand beside it, and those of them who wait for a slot again.
    parked: dict[TaskHandle[Any], Grant] = attrs.field(factory=dict, init=False)

    # Called when the limit has changed, by whoever shares it.
    on_resize: Callable[[], None] = attrs.field(default=_nothing, init=False)

    _rings: Rings = attrs.field(init=False)
    _returning: OrderedDict[Any, Grant] = attrs.field(factory=OrderedDict, init=False)
    _queue: OrderedDict[Any, Grant] = attrs.field(factory=OrderedDict, init=False)
    # Whether the next slot is for one who has not started, where one who returns waits too.
    _beginner_is_next: bool = attrs.field(default=False, init=False)
    _spare: list[Slot] = attrs.field(factory=list, init=False)
    _excess: int = attrs.field(default=0, init=False)
    _envoy: trio.CancelScope | None = attrs.field(default=None, init=False)
    _closed: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._rings = rings_of(self.limiter) if self.shared else Rings(self.limiter)

    def enter_run(self) -> None:
        """From here on the limiter is in use in this trio run.

        Raises:
            RuntimeError: a manager of another trio run that has not ended is open on it.
        """
        self._rings.enter(self)

    @property
    def limit(self) -> int | float:
        return self.limiter.total_tokens

    @limit.setter
    def limit(self, limit: int | float) -> None:
        self._resize(limit)

    @enable_ki_protection
    def _resize(self, limit: int | float) -> None:
        self.limiter.total_tokens = limit
        if not self.shared:
            while self._spare and self.limiter.available_tokens < 0:
                self.limiter.release_on_behalf_of(self._spare.pop())
            self._excess = int(max(0, self.limiter.borrowed_tokens - limit))
        self._serve()
        self._rings.tell_resized()

    @enable_ki_protection
    def resized(self) -> None:
        """The limit has changed, by whoever shares it."""
        self.on_resize()

    def grants(self) -> bool:
        """Whether it gives slots, as soon as there are some."""
        return not (self.paused or self._closed)

    @enable_ki_protection
    def pause(self) -> None:
        """Grant nothing until `resume`."""
        self.paused = True
        self._mind_envoy()

    @enable_ki_protection
    def resume(self) -> None:
        """Grant again."""
        self.paused = False
        self._serve()

    def close(self) -> None:
        """Grant nothing from here on, and tell so those who have not started."""
        self._closed = True
        self._rings.leave(self)
        self.on_resize = _nothing  # it leads back to whoever holds the line
        while self._spare:
            self.limiter.release_on_behalf_of(self._spare.pop())
        while self._queue:
            key, grant = self._queue.popitem(last=False)
            grant(key, None)
        for handle, grant in list(self.parked.items()):
            self.leave(handle)
            grant(handle, None)
        self._mind_envoy()

    def take(self) -> Slot | None:
        """A slot for somebody who has not waited; None when others wait, or none is free.

        Raises:
            RecursionError: there is no room on the stack for what follows; nothing has changed.
        """
        need_stack()
        if self._queue or self._returning or self.paused or self._closed:
            return None
        return self._free()

    def join(self, key: Any, grant: Grant) -> None:
        """Wait for a slot, at the tail."""
        self._queue[key] = grant
        self._mind_envoy()

    def leave(self, key: Any) -> bool:
        """Wait no more; whether it did."""
        waited = self._queue.pop(key, None) is not None
        if self.parked.pop(key, None) is not None:
            self._returning.pop(key, None)
            waited = True
        self._mind_envoy()
        return waited

    def park(self, handle: TaskHandle[Any], grant: Grant) -> None:
        """Stand beside the line, without a slot, until `unpark`."""
        self.parked[handle] = grant

    @enable_ki_protection
    def unpark(self, handle: TaskHandle[Any]) -> None:
        """Wait for a slot, behind those who returned earlier; one that has left stays away."""
        if handle not in self.parked:
            return

        def granted(handle: TaskHandle[Any], slot: Slot | None) -> bool:
            return self.parked.pop(handle)(handle, slot)

        self._returning[handle] = granted
        self._serve()

    async def sleep(self, handle: TaskHandle[Any], start: Start, holder: trio.lowlevel.Task | None) -> None:
        """Wait at the tail, asleep, until `start` was called with the slot, or the line says no.

        Raises:
            RuntimeError: inside of the managed task `holder` this wait could never end.
        """
        is_deadlock = False

        def granted(handle: TaskHandle[Any], slot: Slot | None) -> bool:
            if slot is not None:
                start(handle, slot)
            self._wake(handle)
            return True

        def deadlocked() -> None:
            nonlocal is_deadlock
            is_deadlock = True
            self._wake(handle)

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            # Who cancels may be deep in a recursion: nothing is called here, the rest is done on waking.
            del self.sleepers[handle], self._queue[handle]
            return trio.lowlevel.Abort.SUCCEEDED

        self.sleepers[handle] = trio.lowlevel.current_task()
        if holder is None or self.block(handle, holder, deadlocked, lambda: handle in self.sleepers):
            self.join(handle, granted)
            try:
                await trio.lowlevel.wait_task_rescheduled(abort)
            finally:
                self.unblock(handle)
                self._mind_envoy()
        else:
            del self.sleepers[handle]
            is_deadlock = True
        if is_deadlock:
            raise self.deadlock("run() was called", "use start_soon(), which does not wait")

    def refuse_sleepers(self) -> None:
        """Wake those who sleep, with nothing granted."""
        for handle in list(self.sleepers):
            self._wake(handle)

    def _wake(self, handle: TaskHandle[Any]) -> None:
        self._queue.pop(handle, None)
        trio.lowlevel.reschedule(self.sleepers.pop(handle))

    @enable_ki_protection
    async def reenter(self, handle: TaskHandle[Any]) -> None:
        """Wait for a slot, behind those who returned earlier."""
        if not (self._returning or self.paused or self._closed):
            handle._slot = self._free()
            if handle._slot is not None:
                return
        task = trio.lowlevel.current_task()

        def grant(handle: TaskHandle[Any], slot: Slot | None) -> bool:
            handle._slot = slot
            trio.lowlevel.reschedule(task)
            return True

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            del self._returning[handle]  # and no calls, as in sleep()
            return trio.lowlevel.Abort.SUCCEEDED

        self._returning[handle] = grant
        self._mind_envoy()
        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        finally:
            self._mind_envoy()

    def still_grants(self) -> bool:
        """Whether a slot that was granted a moment ago may still be used to start something."""
        return not (self.paused or (self.limiter.available_tokens < 0 if self.shared else self._excess))

    def may_keep(self, own_places: int) -> bool:
        """Whether a slot may be used again by somebody with so many places at the tail."""
        if self.shared or self.paused or self._closed or self._excess or self._returning:
            return False
        return len(self._queue) <= own_places

    def release(self, slot: Slot) -> None:
        """Give a slot back: to the head of the line, or for later."""
        while not (self.shared or self._closed or self._excess):
            if self.paused or not (self._returning or self._queue):
                self._spare.append(slot)
                return
            if self._grant(slot):
                return
        if not (self.shared or self._closed):
            self._excess -= 1
        self.limiter.release_on_behalf_of(slot)
        self.break_rings()

    def _free(self) -> Slot | None:
        if self._spare:
            return self._spare.pop()
        # Nobody waits in a limiter that has tokens: it gives them to whom they fit.
        if self.limiter.available_tokens > 0:
            slot = Slot(self.name)
            self.limiter.acquire_on_behalf_of_nowait(slot)
            return slot
        return None

    def _is_wanted(self) -> bool:
        return bool(self._returning or self._queue) and self.grants()

    def _grant(self, slot: Slot) -> bool:
        """Offer a slot to the head of the line, which leaves it; whether that took it."""
        queue = self._queue
        if self._returning and not (queue and self._beginner_is_next):
            queue = self._returning
        self._beginner_is_next = queue is self._returning
        key, grant = queue.popitem(last=False)
        return grant(key, slot)

    def _serve(self) -> None:
        """Grant what is free, as far as it goes; of a shared limiter the envoy does."""
        while not self.shared and self._is_wanted():
            slot = self._free()
            if slot is None:
                break
            self.release(slot)
        self._mind_envoy()
        self.break_rings()

    # Deadlock

    def block(
        self,
        key: Any,
        holder: trio.lowlevel.Task,
        tell: Callable[[], None],
        is_stuck: Callable[[], bool],
    ) -> bool:
        """See `Rings.block`."""
        return self._rings.block(self, key, holder, tell, is_stuck)

    def unblock(self, key: Any) -> None:
        """`key` is waited for no more."""
        self._rings.unblock(key)

    def break_rings(self) -> None:
        """Tell the last ones of those who wait for each other, where that is so."""
        self._rings.break_rings()

    def deadlock(self, what: str, instead: str) -> RuntimeError:
        """What to raise where a ring was closed."""
        return RuntimeError(
            f"{what} inside a task of {self.name!r} while every slot is held by a task that itself waits for "
            f"one, so that one gets free only when one of them gives up: {instead} {SEE}"
        )

    # The envoy

    def _mind_envoy(self) -> None:
        if not self.shared:
            return
        if self._envoy is None and self._is_wanted():
            scope = trio.CancelScope()
            self.nursery.start_soon(self._wait_in_limiter, scope, name=f"envoy of {self.name}")
            self._envoy = scope
        elif self._envoy is not None and not self._is_wanted():
            self._envoy.cancel(reason="nobody waits for a slot any more")
            self._envoy = None

    @enable_ki_protection
    async def _wait_in_limiter(self, scope: trio.CancelScope) -> None:
        with scope:
            while self._envoy is scope:
                slot = Slot(self.name)
                await self.limiter.acquire_on_behalf_of(slot)
                # Since the limiter gave the token, the limit may have been lowered, or all may have left.
                wanted = self._envoy is scope and self._is_wanted() and self.still_grants()
                if not (wanted and self._grant(slot)):
                    self.release(slot)
                self._mind_envoy()
