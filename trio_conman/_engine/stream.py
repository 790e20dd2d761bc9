"""The outcomes of a map, as its consumer takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from threading import get_ident
from typing import Any, Generic, TypeVar, final
from weakref import WeakKeyDictionary, WeakSet

import trio
from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from trio_conman._base.checks import wrong_thread
from trio_conman._base.outcomes import Outcome
from trio_conman._books.handles import TaskHandle, sleep_among
from trio_conman._limits.rings import Need

from .block import Block
from .pool import AT_ONCE
from .source import presentable

T = TypeVar("T")


@final
class Stream(Generic[T]):
    """What the consumer of a map iterates over.

    It calls `tell_taken` when it has taken an outcome, and `look_for_end` before it waits though it has taken
    all that was drawn. `needs_slots` tells whether the next one cannot come without a slot, and what it
    `needs` beside that. When the map was left it leads nowhere any more, for its consumer may keep it.
    """

    __slots__ = (
        "__weakref__",
        "_block",
        "_completed",
        "_consumers",
        "_error",
        "_indexed",
        "_look_for_end",
        "_needs",
        "_needs_slots",
        "_next_turn",
        "_ordered",
        "_sleepers",
        "_tell_taken",
        "_thread",
        "at_once",
        "drawn",
        "ended",
        "is_dropped",
        "is_left",
        "is_stuck",
        "more",
        "refused",
        "taken",
        "waits",
    )

    def __init__(
        self,
        block: Block,
        *,
        ordered: bool,
        tell_taken: Callable[[], None],
        look_for_end: Callable[[], None],
        needs_slots: Callable[[], bool],
        needs: Callable[[], Iterable[Need]],
    ) -> None:
        self.drawn = 0  # items
        self.taken = 0  # outcomes
        self.more = True  # whether another one may be drawn
        self.refused = False  # the manager accepts nothing new
        self.is_left = False
        self.is_dropped = False  # nothing leads anywhere any more
        self.is_stuck = False  # its consumer was told that it could never end
        self.waits = False  # for those who had no room, who wake the consumer in their next turn
        self.ended = trio.lowlevel.ParkingLot()  # who waits until the last item has ended
        self._block = block
        self._thread = block.thread
        self._ordered = ordered
        self._tell_taken = tell_taken
        self._look_for_end = look_for_end
        self._needs_slots = needs_slots
        self._needs = needs
        # The outcomes that were not taken: in the order of completion, or else by index.
        self._completed: deque[Outcome[T]] = deque()
        self._indexed: dict[int, Outcome[T]] = {}
        # The trio task that has opened it, and others that are known to iterate over it, each with the
        # nurseries that it had open before, which lead to it. Weak: there may be one for each outcome.
        self._consumers: WeakKeyDictionary[trio.lowlevel.Task, WeakSet[trio.Nursery]] = WeakKeyDictionary()
        self._add_consumer(trio.lowlevel.current_task())
        self._error: Exception | None = None
        self._sleepers: dict[trio.lowlevel.Task, None] = {}
        # How many may be taken before others have a turn, and how many are taken when that is so. No less
        # than there are workers, which have had a turn each, and need the room.
        self.at_once = AT_ONCE
        self._next_turn = AT_ONCE

    @property
    def unfinished(self) -> int:
        """How many items are drawn and have no outcome yet."""
        return self.drawn - self.taken - len(self._completed) - len(self._indexed)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to take, nor ever will be."""
        return not self.more and self.taken == self.drawn

    def is_consumed_by(self, task: trio.lowlevel.Task) -> bool:
        """Whether that trio task is a consumer, or one that a consumer will wait for before it takes more."""
        nursery = None
        while nursery in self._consumers.get(task, (nursery,)):
            nursery = task.parent_nursery
            if nursery is None:
                return False
            task = nursery.parent_task
        return True

    def _add_consumer(self, task: trio.lowlevel.Task) -> None:
        if get_ident() != self._thread:
            raise wrong_thread("ConMan.map", "run(...) with an async function that iterates")
        if task not in self._consumers:
            self._consumers[task] = WeakSet(task.child_nurseries)

    def __aiter__(self) -> AsyncIterator[Outcome[T]]:
        self._add_consumer(trio.lowlevel.current_task())
        return self

    @enable_ki_protection
    async def __anext__(self) -> Outcome[T]:
        while True:
            if self.taken < self._next_turn:
                await checkpoint_if_cancelled()
            else:
                if self.waits:
                    await sleep_among(self._sleepers)
                else:
                    await trio.lowlevel.checkpoint()
                self._next_turn = self.taken + self.at_once
            if self._ordered:
                outcome = self._indexed.pop(self.taken, None)
            else:
                outcome = self._completed.popleft() if self._completed else None
            if outcome is not None:
                self.taken += 1
                try:
                    self._tell_taken()
                except BaseException:  # no room on the stack to start a worker
                    self.put_back([outcome])
                    raise
                return outcome
            if self.taken == self.drawn and self.more:
                self._look_for_end()
            if self.is_empty:
                self._raise_end()
            await self._sleep()
            self._next_turn = self.taken + self.at_once

    def put_back(self, outcomes: list[Outcome[T]], end: Exception | None = None) -> None:
        """The outcomes that were taken last are not wanted after all, nor is what was raised behind them."""
        if not (self.more or self.unfinished):  # what others have put back may be there
            self._error = self._error or end
        self.taken -= len(outcomes)
        if self._ordered:
            self._indexed = dict(enumerate(outcomes, self.taken)) | self._indexed
        else:
            self._completed.extendleft(reversed(outcomes))
        self.wake()  # another consumer may wait for them

    def _raise_end(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise presentable(error)
            finally:
                del error
        if self.refused:
            raise self._block.closed_error()
        raise StopAsyncIteration

    async def _sleep(self) -> None:
        line, holder = self._block.line, self._block.inside.holder()
        task = trio.lowlevel.current_task()
        self._add_consumer(task)
        is_deadlock = False

        def is_stuck() -> bool:
            return task in self._sleepers and self._needs_slots()

        def tell() -> None:
            nonlocal is_deadlock
            is_deadlock = True
            self.wake()

        self._sleepers[task] = None
        may_wait = holder is None or line.rings.block(line, task, holder, tell, is_stuck, self._needs)
        del holder  # whose outcome may lead to this frame, by what is raised here
        if may_wait:
            try:
                await sleep_among(self._sleepers)
            finally:
                line.rings.unblock(task)
        else:
            del self._sleepers[task]
            is_deadlock = True
        if is_deadlock:
            self.is_stuck = True
            is_short = line.keyring is not None or not line.has_free()
            own = "give the inner work a manager of its own"
            raise line.deadlock("a map was consumed", own, is_short=is_short)

    def sleepers(self) -> list[trio.lowlevel.Task]:
        """The consumers that sleep."""
        return list(self._sleepers)

    def wake(self) -> None:
        """Let the consumers that sleep have a turn, after those who have been woken by now."""
        self.waits = False
        for task in self._sleepers:
            trio.lowlevel.reschedule(task)
        self._sleepers.clear()

    def put(self, handle: TaskHandle[Any]) -> bool:
        """An item has its outcome, which has arrived."""
        assert handle._outcome is not None
        if self._ordered:
            self._indexed[handle._index] = handle._outcome
        else:
            self._completed.append(handle._outcome)
        if self._sleepers and not self.waits and (not self._ordered or handle._index == self.taken):
            self.wake()
        if self.is_left and not self.unfinished:
            self.ended.unpark_all()
        return True

    def end(self, error: Exception | None) -> None:
        """Nothing more is drawn, because of an error of the source, or without one."""
        self.more = False
        self._error = self._error or error
        if self.is_empty:
            self.wake()

    def drop(self) -> list[Outcome[T]]:
        """The map was left: what was not taken, in completion order, counts as taken."""
        left = [*self._completed, *self._indexed.values()]
        self._completed.clear()
        self._indexed.clear()
        self._consumers.clear()
        self.taken = self.drawn
        self.refused = False
        self._error = None
        self.is_dropped = True
        del self._block, self._tell_taken, self._look_for_end, self._needs_slots, self._needs
        return left
