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
Who has waited for a key takes one at once too while no line has sent its envoy, as there is enough for all:
envoys would ask in no order, and too late.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._books.handles import Slot

from .by_rank import NEVER, Rank
from .envoy import Envoy
from .keyring import Keyring
from .keys import Keys, are_awaited, free, full_one, hold
from .lanes import Bay, Grant, Lanes, lines_of, serve_all
from .ranked import Ranked
from .rings import Rings, rings_of

Queue: TypeAlias = "Ranked[Grant] | Lanes"


@attrs.define(eq=False, repr=False)
class Tokens:
    """Hands the tokens of a limiter to the heads of two queues."""

    name: str
    limiter: trio.CapacityLimiter
    shared: bool
    keyring: Keyring | None = None
    nursery: trio.Nursery = attrs.field(init=False)
    paused: bool = attrs.field(default=False, init=False)
    rings: Rings = attrs.field(init=False)
    _returning: Queue = attrs.field(factory=Ranked, init=False)
    _queue: Queue = attrs.field(init=False)
    # Whether the next slot is for one who has not started, where one who returns waits too.
    _beginner_is_next: bool = attrs.field(default=False, init=False)
    _spare: list[Slot] = attrs.field(factory=list, init=False)
    _excess: int = attrs.field(default=0, init=False)
    _envoy: Envoy | None = attrs.field(init=False)  # of a limiter that was given
    closed: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.rings = rings_of(self.limiter) if self.shared else Rings(self.limiter)
        self._envoy = Envoy() if self.shared else None
        self._queue = Ranked() if self.keyring is None else Lanes(weakref.ref(self), self.rings)

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
        self.rings.tell_resized()  # first: what this starts comes after it
        self.serve()

    def grants(self) -> bool:
        """Whether it gives slots, as soon as there are some."""
        return not (self.paused or self.closed)

    def pause(self) -> None:
        """Grant nothing until `resume`."""
        self.paused = True
        self._mind_envoy()

    def resume(self, tell: Callable[[], None]) -> None:
        """Grant again; `tell` that it was paused, who may pause anew."""
        was_paused, self.paused = self.paused, False
        if was_paused:
            tell()
        self.rings.suspected = True  # who waits here may be in one now
        self.serve()

    def take(self, keys: Keys | None = None) -> Slot | None:
        """A slot for somebody who has not waited; None when others wait, or none is free.

        Where it is for a task it has the task's keys, and None is also where one of them is full.
        """
        # With keys it costs more to see who is next than whether a slot is there: has_free(), in fewer calls.
        if keys is not None and not (self._spare or self.limiter.total_tokens > self.limiter.borrowed_tokens):
            return None
        if self._queue.ready or self._returning.ready or self.paused or self.closed:
            return None
        return self._free() if keys is None else self._free_with(keys)

    def still_grants(self) -> bool:
        """Whether a slot that was granted a moment ago may still be used to start something."""
        return not (self.paused or (self.limiter.available_tokens < 0 if self.shared else self._excess))

    def may_keep(self, slot: Slot, in_line: bool) -> bool:
        """Whether a slot may be used again by who has it, and may be in the line; then it has no keys."""
        if self.shared or self.paused or self.closed or self._excess or self._returning.ready:
            return False
        if slot.keys is None:
            return not self._queue.has_others(in_line)
        if are_awaited(slot.keys) or self._queue.has_others(in_line):
            return False
        free(slot)
        return True

    def release(self, slot: Slot) -> None:
        """Give a slot back: to the head of the line, or for later."""
        if slot.keys is not None and (bays := free(slot)):
            self._release_among(slot, bays)
            return
        if self.shared or self.closed or self._excess:
            self._return(slot)
            if self.is_wanted() and self.limiter.available_tokens > 0 and not self.rings.has_several():
                self.limiter.acquire_on_behalf_of_nowait(slot)
                self.offer(slot)
                self._mind_envoy()
        elif not (self._queue.ready or self._returning.ready):
            self._spare.append(slot)  # nobody waits
        elif self.paused or not self._grant(slot):
            self._keep(slot)
        if self.rings.suspected:
            self.rings.break_rings()

    def pass_turn_back(self) -> None:
        """A place in the line that had its turn had nobody to start."""
        if self._returning.ready:
            self._beginner_is_next = True

    def _keep(self, slot: Slot) -> None:
        """Have a slot for later, unless the limiter is to have it: so it may be since it was offered."""
        if self.shared or self.closed or self._excess:
            self._return(slot)
        else:
            self._spare.append(slot)

    def _release_among(self, slot: Slot, bays: Sequence[Bay]) -> None:
        """Who has waited for a key of the slot has his turn by his rank, in whichever line he waits."""
        if not self.shared and len(bays) == 1 and bays[0].owner.line() is self:
            self.release(slot)  # one more at most can start
            self.is_wanted()  # who lacks the key now is parked
            self.rings.break_rings()
            return
        lines = lines_of(bays)  # now: who is told of a ring leaves his lane
        self._keep(slot)
        # Who lacked a slot too may stand here before those who lacked the key alone.
        serve_all([self, *[line for line in lines if line is not self]])

    def _return(self, slot: Slot) -> None:
        """Give a slot back to the limiter."""
        if self._excess:
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

    def has_waiters(self) -> bool:
        """Whether somebody waits for nothing but a slot."""
        return bool(self._queue.ready or self._returning.ready)

    def is_wanted(self) -> bool:
        """Whether somebody waits for nothing but a slot, and may have one."""
        return self.has_waiters() and self.grants()

    def _grant(self, slot: Slot) -> bool:
        """Offer a slot to the heads of the line, which leave it; somebody is ready. Whether one took it."""
        while True:
            was_next = self._beginner_is_next
            queue = self._next_queue() if self._returning.ready else self._queue  # a call less, mostly
            self._beginner_is_next = queue is self._returning
            waiter, grant = queue.pop()
            if waiter._keys is not None:
                hold(waiter._keys, slot)
            if grant(waiter, slot):
                return True
            self._beginner_is_next = was_next  # it was nobody's turn
            if slot.keys is not None:
                free(slot)  # nobody was parked there, as there was room for one more
            if not (self.is_wanted() and self.still_grants()):  # what was called has changed that
                return False

    def _next_queue(self) -> Queue:
        """The one whose head has the next slot; somebody is ready."""
        queue, returning = self._queue, self._returning
        if not returning.ready:
            return queue
        if not queue.ready:
            return returning
        if queue.priority == returning.priority:
            return queue if self._beginner_is_next else returning
        return queue if queue.priority > returning.priority else returning

    def serve(self) -> None:
        """Grant what is free, as far as it goes; of a shared limiter the envoy does."""
        while not self.shared and self.has_free() and self.is_wanted():
            self.serve_one()
        self._mind_envoy()
        self.rings.break_rings()

    def rank(self) -> Rank:
        """That of who has the next slot, if one is there for somebody, and nobody else asks for it."""
        if self.rings.take_turns() or not (self.has_free() and self.is_wanted()):
            return NEVER
        queue = self._next_queue()
        return queue.rank() if isinstance(queue, Lanes) else (-queue.priority, -1)  # that lacks no key

    def alternates(self) -> bool:
        """Whether two queues take turns, of which the next one may have the better rank."""
        return bool(self._returning.ready and self._queue.ready)

    def serve_one(self) -> None:
        """Grant a slot that is free; somebody is ready."""
        slot = self._free()
        assert slot is not None
        if not self._grant(slot):
            self._keep(slot)

    def _mind_envoy(self) -> None:
        if self._envoy is not None:
            self._envoy.mind(self)
