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
be served, one trio task, the envoy, waits in the limiter for each head of the line, so that all who share it
have their turn; else it is recalled, and what it was granted meanwhile goes back. A token that nobody waits
for there is taken again at once, unless other lines use the limiter, each with one envoy for all who wait.

*Deadlock.* Who waits inside of a managed task is noted in the `Rings` of the limiter; see there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._books.handles import Slot, TaskHandle

from .envoy import Envoy
from .keyring import Keyring
from .keys import Keys, are_awaited, forget, free, full_one, hold, let_go, wait_again
from .lanes import Grant, Lane, Lanes, lines_of, serve_all
from .ranked import Ranked
from .rings import Rings, deadlock_error, rings_of

Start: TypeAlias = Callable[[TaskHandle[Any], Slot], None]
Queue: TypeAlias = "Ranked[Grant] | Lanes"


def _nothing(*_: object) -> Any:
    return ()


@final
@attrs.define(eq=False, repr=False)
class Line:
    """Hands the tokens of a limiter to those who wait, first come first served."""

    name: str
    limiter: trio.CapacityLimiter
    shared: bool
    keyring: Keyring | None = None
    nursery: trio.Nursery = attrs.field(init=False)
    paused: bool = attrs.field(default=False, init=False)
    # Those who wait in `sleep`: their tasks are not accepted yet.
    sleepers: dict[TaskHandle[Any], trio.lowlevel.Task] = attrs.field(factory=dict, init=False)
    # Those who stand beside it, and those of them who wait for a slot again.
    parked: dict[TaskHandle[Any], Grant] = attrs.field(factory=dict, init=False)
    # Called when the limit has changed, by whoever shares it.
    resized: Callable[[], None] = attrs.field(default=_nothing, init=False)
    # The keys that a managed task holds.
    keys_of: Callable[[trio.lowlevel.Task], Keys] = attrs.field(default=_nothing, init=False)
    rings: Rings = attrs.field(init=False)
    _returning: Queue = attrs.field(factory=Ranked, init=False)
    _queue: Queue = attrs.field(init=False)
    # Whether the next slot is for one who has not started, where one who returns waits too.
    _beginner_is_next: bool = attrs.field(default=False, init=False)
    _spare: list[Slot] = attrs.field(factory=list, init=False)
    _excess: int = attrs.field(default=0, init=False)
    _envoy: Envoy | None = attrs.field(init=False)  # of a limiter that was given
    _closed: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.rings = rings_of(self.limiter) if self.shared else Rings(self.limiter)
        self._envoy = Envoy() if self.shared else None
        self._queue = Ranked() if self.keyring is None else Lanes(weakref.ref(self))

    def enter_run(self) -> None:
        """From here on the limiter is in use in this trio run.

        Raises:
            RuntimeError: a manager of another trio run that has not ended is open on it.
        """
        self.rings.enter(self)

    @property
    def limit(self) -> int | float:
        return self.limiter.total_tokens

    @limit.setter
    @enable_ki_protection
    def limit(self, limit: int | float) -> None:
        self.limiter.total_tokens = limit
        if not self.shared:
            while self._spare and self.limiter.available_tokens < 0:
                self.limiter.release_on_behalf_of(self._spare.pop())
            self._excess = int(max(0, self.limiter.borrowed_tokens - limit))
        self.serve()
        self.rings.tell_resized()

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
        self.serve()

    def close(self) -> None:
        """Grant nothing from here on, and tell so those who have not started."""
        self._closed = True
        self.rings.leave(self)
        self.resized = self.keys_of = _nothing  # they lead back to whoever holds the line
        while self._spare:
            self.limiter.release_on_behalf_of(self._spare.pop())
        for waiter, grant in self._queue.drain():
            grant(waiter, None)
        for handle, grant in list(self.parked.items()):
            if self.leave(handle):  # else a hook has cancelled it
                grant(handle, None)
        self._mind_envoy()

    def take(self, keys: Keys | None = None) -> Slot | None:
        """A slot for somebody who has not waited; None when others wait, or none is free.

        Where it is for a task it has the task's keys, and None is also where one of them is full.
        """
        if keys is not None and not self.has_free():  # with keys it costs more to see who is next
            return None
        if self._queue.ready or self._returning.ready or self.paused or self._closed:
            return None
        return self._free() if keys is None else self._free_with(keys)

    def join(self, waiter: Any, grant: Grant) -> None:
        """Wait for a slot, behind those of the same priority."""
        self._queue.join(waiter, grant)
        if self._envoy is not None:
            self._envoy.mind(self)

    def leave(self, waiter: Any) -> bool:
        """Wait no more; whether it did."""
        waited = self._queue.leave(waiter) is not None
        if self.parked.pop(waiter, None) is not None:
            self._returning.leave(waiter)
            let_go(waiter._keys)
            waited = True
        self._mind_envoy()
        return waited

    def lacks_keys(self, handle: TaskHandle[Any]) -> bool:
        """See `Keyring.look_up`; False where there are no limits by key."""
        return self.keyring is not None and handle._keys is None and self.keyring.look_up(handle)

    def queued(self) -> list[TaskHandle[Any]]:
        """Who was accepted and has not started, when no map waits, and nobody sleeps."""
        # A sleeper that was cancelled, and has not woken yet, never was.
        return [*[each for each in self._queue.waiters() if each._index >= 0], *self.parked]

    def park(self, handle: TaskHandle[Any], grant: Grant) -> None:
        """Stand beside the line, without a slot, until `unpark`; its keys are kept for it."""
        self.parked[handle] = grant

    @enable_ki_protection
    def unpark(self, handle: TaskHandle[Any]) -> None:
        """Wait for a slot, as in `reenter`; one that has left stays away."""
        if handle not in self.parked:
            return

        def granted(handle: TaskHandle[Any], slot: Slot | None) -> bool:
            let_go(handle._keys)
            return self.parked.pop(handle)(handle, slot)

        self._come_back(handle)
        self._returning.join(handle, granted)
        self.serve()

    @enable_ki_protection
    def reorder(self, handle: TaskHandle[Any], priority: int) -> None:
        """A task has another priority from here on: where it waits, and wherever it will."""
        returns = handle._state == "backing_off" or handle in self.parked
        (self._returning if returns else self._queue).reorder(handle, priority)
        self._mind_envoy()

    async def sleep(self, handle: TaskHandle[Any], start: Start, holder: trio.lowlevel.Task | None) -> None:
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
        if holder is None or self.rings.block(
            self, handle, holder, deadlocked, lambda: handle in self.sleepers, lambda: [handle._keys or ()]
        ):
            self.join(handle, granted)
            try:
                await trio.lowlevel.wait_task_rescheduled(abort)
            except BaseException:
                self._queue.leave(handle)  # who was woken stands there no more
                raise
            finally:
                if holder is not None:
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
    async def reenter(self, handle: TaskHandle[Any]) -> None:
        """Wait for a slot, behind those of the same priority who returned earlier; its keys are kept."""
        self._come_back(handle)
        if not (self._returning.ready or self.paused or self._closed):
            handle._slot = self._free() if handle._keys is None else self._free_with(handle._keys)
            if handle._slot is not None:
                return
        task: trio.lowlevel.Task | None = trio.lowlevel.current_task()

        def grant(handle: TaskHandle[Any], slot: Slot | None) -> bool:
            nonlocal task
            if task is None:
                return False  # as in sleep()
            handle._slot = slot
            trio.lowlevel.reschedule(task)
            return True

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            nonlocal task
            task = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._returning.join(handle, grant)
        self._mind_envoy()
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
                self._returning = Lanes(weakref.ref(self)).take_over(self._returning)

    def still_grants(self) -> bool:
        """Whether a slot that was granted a moment ago may still be used to start something."""
        return not (self.paused or (self.limiter.available_tokens < 0 if self.shared else self._excess))

    def may_keep(self, slot: Slot | None, own_places: int) -> bool:
        """Whether a slot may be used again by who has so many places in the line; then it has no keys."""
        assert slot is not None
        if self.shared or self.paused or self._closed or self._excess or self._returning.ready:
            return False
        if slot.keys is None:
            return self._queue.no_more_than(own_places)
        if are_awaited(slot.keys) or not self._queue.no_more_than(own_places):
            return False
        free(slot)
        return True

    def release(self, slot: Slot) -> None:
        """Give a slot back: to the head of the line, or for later."""
        if slot.keys is not None:
            if lanes := free(slot):
                self._release_among(slot, lanes)
                return
            if self.rings.held:  # now by fewer than before, where the limit of a key was lowered
                self.rings.break_rings()
        if self.shared or self._closed or self._excess:
            self._return(slot)
            if self.is_wanted() and self.limiter.available_tokens > 0 and not self.rings.has_several():
                self.limiter.acquire_on_behalf_of_nowait(slot)
                self.offer(slot)
                self._mind_envoy()
        elif self.paused or not self._grant(slot):
            self._spare.append(slot)

    def _release_among(self, slot: Slot, lanes: Sequence[Lane]) -> None:
        """Who has waited for a key of the slot has his turn by his rank, in whichever line he waits."""
        if len(lanes) == 1 and lanes[0].owner.line() is self:
            self.release(slot)  # one more at most can start
            self.is_wanted()  # who lacks the key now is parked
            self._mind_envoy()
            self.rings.break_rings()
            return
        lines = lines_of(lanes)  # now: who is told of a ring leaves his lane
        if self.shared or self._closed or self._excess:
            self._return(slot)
        else:
            self._spare.append(slot)
        serve_all(lines, last=self)

    def _return(self, slot: Slot) -> None:
        """Give a slot back to the limiter."""
        if not (self.shared or self._closed):
            self._excess -= 1
        self.limiter.release_on_behalf_of(slot)
        self.rings.break_rings()

    def offer(self, slot: Slot) -> None:
        """A slot of the limiter is there; since it was asked for the limit may be lower, or all have left."""
        if not (self.is_wanted() and self.still_grants() and self._grant(slot)):
            self._return(slot)

    def _free_with(self, keys: Keys) -> Slot | None:
        slot = None if full_one(keys) is not None else self._free()
        if slot is not None:
            hold(keys, slot)
        return slot

    def has_free(self) -> bool:
        """Whether there is a slot that nobody has."""
        return bool(self._spare) or self.limiter.available_tokens > 0

    def _free(self) -> Slot | None:
        if self._spare:
            return self._spare.pop()
        # Nobody waits in a limiter that has tokens: it gives them to whom they fit.
        if self.limiter.available_tokens > 0:
            slot = Slot(self.name)
            self.limiter.acquire_on_behalf_of_nowait(slot)
            return slot
        return None

    def is_wanted(self) -> bool:
        """Whether somebody waits for nothing but a slot, and may have one."""
        return bool(self._returning.ready or self._queue.ready) and self.grants()

    def _grant(self, slot: Slot) -> bool:
        """Offer a slot to the heads of the line, which leave it; whether one took it."""
        while True:
            queue = self._queue
            if self._returning.ready and not (queue.ready and self._beginner_is_before()):
                queue = self._returning
                self._beginner_is_next = True
            elif queue.ready:
                self._beginner_is_next = False
            else:
                return False
            waiter, grant = queue.pop()
            if waiter._keys is not None:
                hold(waiter._keys, slot)
            if grant(waiter, slot):
                return True
            if slot.keys is not None:
                free(slot)  # nobody was parked there, as there was room for one more

    def _beginner_is_before(self) -> bool:
        queue, returning = self._queue, self._returning
        if queue.priority == returning.priority:
            return self._beginner_is_next
        return queue.priority > returning.priority

    def serve(self) -> None:
        """Grant what is free, as far as it goes; of a shared limiter the envoy does."""
        while not self.shared and self.has_free() and self.is_wanted():
            slot = self._free()
            assert slot is not None
            self.release(slot)
        self._mind_envoy()
        self.rings.break_rings()

    def _mind_envoy(self) -> None:
        if self._envoy is not None:
            self._envoy.mind(self)

    def deadlock(self, what: str, instead: str) -> RuntimeError:
        """What to raise where a ring was closed."""
        return deadlock_error(self.name, what, instead, has_keys=self.keyring is not None)
