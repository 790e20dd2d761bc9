"""Who shares a limiter, and deadlocks that can be seen: every token is held by a task that waits for one.

**Theory of operation.** Who waits inside of a managed task says so with `block`, until `unblock`; the managed
task is the *holder*. When as many holders wait as tokens are borrowed, none will ever come back: a ring. The
last one that closed it is told. A ring can close when somebody begins to wait, when a token goes back while
the limit is lower than it was, when a limit is lowered, when a pause ends, and when a map whose consumer
sleeps joins its line: then whoever did that calls `break_rings`.

Keys make smaller rings, and so do tasks. Who waits for a key that is full waits for one of those who hold it;
who awaits a handle, for its task; who consumes a map, for those that run its items. So of all holders that
wait those are taken away, again and again, of whom a wait can end: because a key of it is not full, or is
held by somebody who has been taken away, or because a task runs that waits for nothing, or has been taken
away. Who is left then is in a ring, or waits for those that are, and is not told. That is looked for only
where such a ring is `suspected`: where somebody begins to wait, or is found to lack a key that all who hold
it wait inside of, and where what a map waits for has changed, or a pause ends.

All lines of a limiter have their waits here, those of several managers too. One that is paused is in no ring.
Nor is who waits for nothing any more since he, or a task without a slot that he waits for, was cancelled.
Deadlines are not looked at: nearly every task has one, and to wait for it in vain helps nobody.

The search stops at the first holder that may go on, and begins with it the next time. So it costs no more for
many waits than for few. Who begins to wait closes no small ring but one that he is in: so only those are
looked at whom he waits for, and whom these wait for, and so on. A ring that is there has been seen whole. So
all who have to go are told at once; but who has waited several times in one task may end the other waits by
that. So nobody else is told before they have woken, and then it is looked for anew.
"""

from __future__ import annotations

import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from threading import Lock
from typing import Any, Protocol, TypeAlias, TypeGuard, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.outlast import is_over
from trio_conman._base.texts import SEE
from trio_conman._books.handles import TaskHandle

from .keys import Key, Keys

# What a wait may need, to go on: a slot with some keys, or with none; or that a task ends.
Need: TypeAlias = "Keys | TaskHandle[Any]"


class Waiting(Protocol):
    """The line that somebody waits in."""

    name: str
    nursery: trio.Nursery
    # The tasks that wait for others of their key in the journal.
    beside: set[TaskHandle[Any]]

    def grants(self) -> bool:
        """Whether it gives slots, as soon as there are some."""
        ...

    def resized(self) -> None:
        """The limit has changed, by whoever shares it."""
        ...


@final
@attrs.frozen(eq=False, repr=False)
class _Wait:
    line: Waiting
    waiter: Any
    holder: TaskHandle[Any]
    tell: Callable[[], None]
    is_stuck: Callable[[], bool]
    needs: Callable[[], Iterable[Need]]

    def counts(self) -> bool:
        return self.line.grants() and self.is_stuck() and not any(map(_leaves, self.needs()))

    def is_for_slot(self) -> bool:
        """Whether it counts, and cannot end before a slot is free."""
        return self.counts() and not any(map(_has_slot, self.needs()))

    def lacks(self, holders: Collection[TaskHandle[Any]], held: Callable[[Key], int]) -> bool:
        """Whether it cannot end before one of these does, who hold so many of each key."""
        return all(
            need in holders if _has_slot(need) else bool(self._lacking(need, held)) for need in self.needs()
        )

    def awaited(self, held: Callable[[Key], int]) -> Iterator[TaskHandle[Any] | Key]:
        """The tasks that it waits for, and the keys that it lacks, for they are held so often."""
        for need in self.needs():
            if _has_slot(need):
                yield need
            else:
                yield from self._lacking(need, held)

    def _lacking(self, need: Need, held: Callable[[Key], int]) -> list[Key]:
        if not isinstance(need, TaskHandle):
            keys = need
        else:  # who waits beside the line may find a value there, and needs no keys
            keys = () if need in self.line.beside else need._keys or ()
        return [key for key in keys if key.running >= key.most and held(key) >= key.running]


def _has_slot(need: Need) -> TypeGuard[TaskHandle[Any]]:
    """Whether that is a task which has a slot."""
    return isinstance(need, TaskHandle) and need._slot is not None


def _leaves(need: Need) -> bool:
    """Whether that is a task which ends without a slot: it was cancelled, and has not woken yet."""
    return isinstance(need, TaskHandle) and need._slot is None and need._cancelled is not None


@final
@attrs.define(eq=False, repr=False)
class Rings:
    """The lines that lend the tokens of one limiter, and the waits in them."""

    limiter: trio.CapacityLimiter
    # Those of open managers, by the token of their trio run.
    _lines: dict[trio.lowlevel.TrioToken, weakref.WeakSet[Waiting]] = attrs.field(factory=dict, init=False)
    # Those whose envoys ask the limiter for slots.
    asking: weakref.WeakSet[object] = attrs.field(factory=weakref.WeakSet, init=False)
    _waits: OrderedDict[Any, _Wait] = attrs.field(factory=OrderedDict, init=False)
    # Those that may go on, as far as is known, come first.
    _holders: OrderedDict[TaskHandle[Any], dict[Any, _Wait]] = attrs.field(factory=OrderedDict, init=False)
    # The keys of each, and who of them holds each key.
    _keys: dict[TaskHandle[Any], Keys] = attrs.field(factory=dict, init=False)
    held: dict[Key, dict[TaskHandle[Any], None]] = attrs.field(factory=dict, init=False)
    # Whether a ring of keys, or of tasks, may have closed since one was looked for.
    suspected: bool = attrs.field(default=False, init=False)
    # Whether somebody was told of a ring, and may not have woken.
    _is_told: bool = attrs.field(default=False, init=False)

    def enter(self, line: Waiting) -> None:
        """A line lends tokens from here on, until it leaves or its trio run is over.

        Raises:
            RuntimeError: one of another trio run does, and would be taken down; nothing has changed.
        """
        own = trio.lowlevel.current_trio_token()
        with _lock:
            for token in self._lines.keys() - {own}:
                lines = list(self._lines[token])
                if lines and not is_over(token):
                    raise RuntimeError(
                        f"limit is a CapacityLimiter that manager {lines[0].name!r} of another trio run uses "
                        "just now: ConMan.open() needs one of its own for each run"
                    )
                for other in lines:  # their run has crashed
                    self._leave(other)
                del self._lines[token]
                self._is_told = False
            self._lines.setdefault(own, weakref.WeakSet()).add(line)

    def leave(self, line: Waiting) -> None:
        """A line lends nothing any more."""
        with _lock:
            self._leave(line)

    def _leave(self, line: Waiting) -> None:
        for lines in self._lines.values():
            lines.discard(line)
        self.asking.discard(line)
        for wait in [wait for wait in self._waits.values() if wait.line is line]:
            self.unblock(wait.waiter)

    def has_several(self) -> bool:
        """Whether more than one line lends tokens."""
        return sum(map(len, self._lines.values())) > 1

    def take_turns(self) -> bool:
        """Whether several lines lend tokens, and an envoy asks for some: then each sends its own."""
        return bool(self.asking) and self.has_several()

    def tell_resized(self) -> None:
        """The limit has changed: each line looks what follows."""
        for line in [line for lines in self._lines.values() for line in lines]:
            line.resized()

    def block(
        self,
        line: Waiting,
        waiter: Any,
        holder: TaskHandle[Any],
        tell: Callable[[], None],
        is_stuck: Callable[[], bool],
        needs: Callable[[], Iterable[Need]],
    ) -> bool:
        """Note that `waiter`, a task in the line or a trio task, waits inside of the managed task `holder`.

        That counts until `unblock` while `is_stuck`: as long as it cannot end without a slot, nor without
        one of those that it `needs`. Returns whether it was noted: not when this would close a ring. Where
        that closes later, `tell` is called.
        """
        wait = _Wait(line, waiter, holder, tell, is_stuck, needs)
        if holder not in self._holders and holder._slot is not None and holder._slot.keys:
            self._keys[holder] = holder._slot.keys
            for held in holder._slot.keys:
                self.held.setdefault(held, {})[holder] = None
        self._waits[waiter] = self._holders.setdefault(holder, {})[waiter] = wait
        if self._too_many() or self._closes_ring(wait):
            self.unblock(waiter)
            return False
        return True

    def unblock(self, waiter: Any) -> None:
        """`waiter` waits no more."""
        wait = self._waits.pop(waiter, None)
        if wait is not None:
            waits = self._holders[wait.holder]
            del waits[waiter]
            if not waits:
                del self._holders[wait.holder]
                for held in self._keys.pop(wait.holder, ()):
                    del self.held[held][wait.holder]
                    if not self.held[held]:
                        del self.held[held]

    def has_waits(self) -> bool:
        """Whether anybody waits inside of a task."""
        return bool(self._waits)

    def suspect(self, key: Key) -> None:
        """Who waits for a key lacks it."""
        if self.held and self._held_by_all(key) >= key.running:
            self.suspected = True

    def look_at(self, waiter: Any) -> None:
        """What `waiter` waits for has changed, if it waits."""
        wait = self._waits.get(waiter)
        if wait is not None and wait.lacks(self._holders, self._held_by_all):
            self.suspected = True
        if self.suspected:
            self.break_rings()

    def break_rings(self) -> None:
        """Tell the last ones of those who wait for each other, where that is so."""
        if self._is_told:
            return  # whether more have to go is seen when these have woken
        # First those of a small ring: their slots may be all that the others wait for.
        is_suspected, self.suspected = self.suspected, False
        told = self._last_in_small_ring() if is_suspected else []
        if not told and self._holders and (too_many := self._too_many()):
            # Who may have enough of a task that has a slot goes on when that is told.
            told = self._last(too_many, _Wait.is_for_slot) or self._last(too_many, _Wait.counts)
        if told:
            told[0].line.nursery.start_soon(self._look_again)
            self._is_told = True
        for wait in told:
            self.unblock(wait.waiter)
            wait.tell()

    @enable_ki_protection
    async def _look_again(self) -> None:
        """Those who were told have woken, and with them who waited beside them in the same tasks goes on."""
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._is_told, self.suspected = False, True
        self.break_rings()

    def _too_many(self) -> int:
        """How many of those in a ring have to go before a token is free; 0 where there is no ring."""
        free = self.limiter.available_tokens
        if free > 0 or len(self._holders) < self.limiter.borrowed_tokens:
            return 0
        for holder, waits in self._holders.items():
            if not any(wait.counts() for wait in waits.values()):
                self._holders.move_to_end(holder, last=False)
                return 0
        return int(1 - free)

    def _last(self, count: int, is_meant: Callable[[_Wait], bool]) -> list[_Wait]:
        """The last waits, of different holders, without which so many holders go on."""
        behind: dict[TaskHandle[Any], list[TaskHandle[Any]]] = {}
        for wait in self._waits.values():
            for need in wait.needs():
                if isinstance(need, TaskHandle):
                    behind.setdefault(need, []).append(wait.holder)
        last: list[_Wait] = []
        gone: set[TaskHandle[Any]] = set()
        for wait in reversed(self._waits.values()):
            if len(gone) >= count:
                break
            if wait.holder not in gone and is_meant(wait):
                last.append(wait)
                going = [wait.holder]
                while going:  # with all who have enough of that
                    holder = going.pop()
                    gone.add(holder)
                    going += [each for each in behind.get(holder, ()) if each not in gone]
        return last

    def _closes_ring(self, wait: _Wait) -> bool:
        """Whether one who begins to wait is in a small ring, which he has closed then."""
        if not (self._is_awaited(wait.holder) and wait.lacks(self._holders, self._held_by_all)):
            return False
        behind = self._behind(wait.holder, set(), self._holders, self._held_by_all)
        return wait.holder in behind and wait.holder in self._small_ring(reversed(behind))[0]

    def _is_awaited(self, holder: TaskHandle[Any]) -> bool:
        """Whether anybody who waits here may wait for its end, or for a key that it has."""
        sleepers = () if holder._done is None else holder._done.sleepers
        return (
            holder._terms.is_watched
            or any(task in self._waits for task in sleepers)
            or any(key.waiting or key.kept for key in self._keys.get(holder, ()))
        )

    def _last_in_small_ring(self) -> list[_Wait]:
        """The last of those who wait for each other, if some do; not one who waits only for them."""
        order: list[TaskHandle[Any]] = []
        seen: set[TaskHandle[Any] | Key] = set()
        for holder in self._holders:
            order += reversed(self._behind(holder, seen, self._holders, self._held_by_all))
        ring, held = self._small_ring(order)
        for wait in reversed(self._waits.values()) if ring else ():
            is_stuck = wait.counts() and wait.lacks(ring, held)
            if is_stuck and wait.holder in self._behind(wait.holder, set(), ring, held):
                return [wait]
        return []

    def _behind(
        self,
        holder: TaskHandle[Any],
        seen: set[TaskHandle[Any] | Key],
        holders: Collection[TaskHandle[Any]],
        held: Callable[[Key], int],
    ) -> list[TaskHandle[Any]]:
        """Those of some holders whom one waits for, whom they wait for, and so on, that were not seen yet."""
        behind = []
        todo = self._awaited(holder, holders, held)
        while todo:
            each = todo.pop()
            if each not in seen:
                seen.add(each)
                if isinstance(each, Key):
                    todo += self.held.get(each, ())
                else:
                    behind.append(each)
                    todo += self._awaited(each, holders, held)
        return behind

    def _awaited(
        self, holder: TaskHandle[Any], holders: Collection[TaskHandle[Any]], held: Callable[[Key], int]
    ) -> list[TaskHandle[Any] | Key]:
        waits = self._holders[holder].values()
        return [
            each
            for wait in waits
            if wait.counts() and wait.lacks(holders, held)
            for each in wait.awaited(held)
        ]

    def _small_ring(
        self, order: Iterable[TaskHandle[Any]]
    ) -> tuple[dict[TaskHandle[Any], None], Callable[[Key], int]]:
        """Those of some holders that wait for each other, and how many of them hold a key.

        Who waits for another one comes after that one: then all that can go on are found at once.
        """
        ring = dict.fromkeys(order)
        held = Counter(key for holder in ring for key in self._keys.get(holder, ()))
        left = 0
        while left != len(ring):
            left = len(ring)
            for holder in list(ring):
                if not self._awaited(holder, ring, held.__getitem__):
                    del ring[holder]
                    held.subtract(self._keys.get(holder, ()))
        return ring, held.__getitem__

    def _held_by_all(self, key: Key) -> int:
        return len(self.held.get(key, ()))


# By the id of the limiter, since those who share one know nothing of each other. Weak: an entry
# goes when the last line of the limiter does, and before the limiter itself, which the lines hold.
_shared: weakref.WeakValueDictionary[int, Rings] = weakref.WeakValueDictionary()
# Two trio runs may open managers at once, in two threads.
_lock = Lock()


def rings_of(limiter: trio.CapacityLimiter) -> Rings:
    """What all lines of a limiter that may be shared have in common."""
    with _lock:
        rings = _shared.get(id(limiter))
        if rings is None:
            rings = _shared[id(limiter)] = Rings(limiter)
        return rings


def await_error(manager: str) -> RuntimeError:
    """What to raise where a ring was closed by who awaits a handle."""
    return RuntimeError(
        f"a handle was awaited inside a task of {manager!r} for which its own task waits in turn, for a "
        "slot, a key, or its end, so that neither would ever end: await it outside of the tasks, or give the "
        f"inner work a manager of its own {SEE}"
    )
