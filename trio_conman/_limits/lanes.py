"""The order of those who need keys too: whoever lacks one is passed over, and keeps its place.

**Theory of operation.** Each who waits has a number, counted through all managers, and so a rank: first the
priority, then the number. The next one is whoever has the first rank of those whose keys may all be used.

Most never wait for a key. They stand in the *road*, in the order of their ranks, and when it is their turn
their keys can be used. Who turns out at the head of the road to lack a key is moved to a *lane*, of which
there is one for each combination of keys that somebody has lacked; whoever comes then stands there. So does
at once who lacks a key when a slot is there: who finds others in the road finds none. To move somebody costs
a sixth of what `start_soon` does.

A lane stands in the *bay* of the key that was found full when it had its turn. A bay whose key is full is
*parked* at that key, and costs nothing, however many lanes are in it: it is looked at again when a task of
the key has ended, or one more may run. The others have their turns by the ranks that their first lanes have.
Who waits takes nothing: a bay may be found to lack its key, which others have got since, when it has its
turn, and is parked then. So two managers that share keys do not keep any from each other.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any, Protocol, TypeAlias, final

import attrs

from trio_conman._books.handles import Slot

from .by_rank import NEVER, ByRank, Rank
from .keys import Key, Keys, forget, full_one
from .ranked import Ranked
from .rings import Rings

# Called with who waits and its slot, or None when the line is closed. Returns whether it has taken the slot.
Grant: TypeAlias = Callable[[Any, Slot | None], bool]

_numbers = count()


def _rank_of(waiter: Any) -> Rank:
    return -waiter._priority, waiter._number


class Serving(Protocol):
    """The line that lanes are part of."""

    def has_free(self) -> bool:
        """Whether a slot is there for somebody who has not waited."""
        ...

    def rank(self) -> Rank:
        """That of who can start next, or `NEVER`."""
        ...

    def alternates(self) -> bool:
        """Whether the next one may be before the one who has had the last turn."""
        ...

    def serve_one(self) -> None:
        """Grant a slot that is free; somebody can start."""
        ...

    def serve(self) -> None:
        """Grant what is free, as far as it goes."""
        ...


@final
@attrs.define(eq=False, repr=False)
class Lane:
    """Those who have the same keys."""

    keys: Keys
    bay: Bay = attrs.field(init=False)
    # Those who came from the road were there before the others.
    _early: Ranked[Grant] | None = attrs.field(default=None, init=False)
    _others: Ranked[Grant] = attrs.field(factory=Ranked, init=False)

    def first(self) -> Ranked[Grant]:
        """Where its head is; empty when all have gone."""
        early, others = self._early, self._others
        if early is None or not early.ready or (others.ready and others.priority > early.priority):
            return others
        return early

    def rank(self) -> Rank:
        """That of its head."""
        return _rank_of(next(iter(self.first().ready)))

    def join(self, waiter: Any, grant: Grant, *, is_early: bool) -> None:
        """Wait here."""
        if is_early:
            self._early = self._early or Ranked()
            self._early.join(waiter, grant)
        else:
            self._others.join(waiter, grant)

    def leave(self, waiter: Any) -> Grant | None:
        """Wait no more; what was to be called, for who did."""
        grant = self._others.leave(waiter)
        if grant is None and self._early is not None:
            grant = self._early.leave(waiter)
        return grant

    def waiters(self) -> list[Any]:
        """All, not in their order."""
        return self._others.waiters() + (self._early.waiters() if self._early is not None else [])


@final
@attrs.define(eq=False, repr=False)
class Bay:
    """Those lanes of a line that were found to lack one key."""

    key: Key
    owner: Lanes
    lanes: ByRank[Lane] = attrs.field(factory=ByRank, init=False)
    is_parked: bool = attrs.field(default=False, init=False)

    def rank(self) -> Rank:
        """That of its first lane; it goes with its last one."""
        return self.lanes.first()[:2]

    def park(self) -> None:
        """Wait until one more may run of the key."""
        self.is_parked = True
        self.key.park(self)
        self.owner.rings.suspect(self.key)

    def unpark(self) -> None:
        """One more may."""
        self.is_parked = False
        self.owner.offer(self)

    def stay(self) -> None:
        """None may, still."""
        self.owner.rings.suspect(self.key)


@final
@attrs.define(eq=False, repr=False)
class Lanes:
    """Like `Ranked`, for those who have their keys, or None, in ``_keys``, which count them as waiting.

    The number of each is in ``_number`` while he is here.
    """

    # Weak: it leads back here, and a manager that is dropped goes at once.
    line: weakref.ref[Serving]
    rings: Rings
    _road: Ranked[Grant] = attrs.field(factory=Ranked, init=False)
    _lanes: dict[Keys, Lane] = attrs.field(factory=dict, init=False)
    _bays: dict[Key, Bay] = attrs.field(factory=dict, init=False)
    # Those that are not parked.
    _open: ByRank[Bay] = attrs.field(factory=ByRank, init=False)
    # Where the next one is, from when it was found `ready` until `pop`.
    _next: Ranked[Grant] = attrs.field(factory=Ranked, init=False)
    _next_lane: Lane | None = attrs.field(default=None, init=False)

    @property
    def ready(self) -> bool:
        """Whether somebody waits for nothing but a slot, who is found.

        On the way who lacks a key is moved into a lane, and a lane into its bay, and bays are parked.
        """
        bays, road = self._open.entries, self._road
        while bays or road.ready:
            first = self._open.first() if bays else None
            if first is None or (road.ready and _rank_of(next(iter(road.ready))) < first):
                waiter = next(iter(road.ready))
                if waiter._keys is None or full_one(waiter._keys) is None:
                    self._next, self._next_lane = road, None
                    return True
                self._file(*road.pop(), is_early=True)
            elif (bay := first[-1]).key.running >= bay.key.most:
                self._open.drop(bay)
                bay.park()
            elif (key := full_one((lane := bay.lanes.top()[-1]).keys)) is None:
                self._next, self._next_lane = lane.first(), lane
                return True
            else:
                self._leave_bay(lane)
                self._enter_bay(lane, key)
        return False

    @property
    def priority(self) -> int:
        """That of the one who was found."""
        return self._next.priority

    def rank(self) -> Rank:
        """That of the one who was found."""
        return _rank_of(next(iter(self._next.ready)))

    def has_others(self, is_here: bool) -> bool:
        """Whether anybody waits for nothing but a slot, as far as is known, but who asks."""
        return bool(self._open.entries) or self._road.has_others(is_here)

    def join(self, waiter: Any, grant: Grant) -> None:
        """Wait, behind those of the same priority."""
        waiter._number = next(_numbers)
        keys = waiter._keys
        if keys is not None and (
            (self._lanes and keys in self._lanes) or (not self._road.ready and self._lacks_only(keys))
        ):
            self._file(waiter, grant, is_early=False)
        else:
            self._road.join(waiter, grant)

    def take_over(self, before: Ranked[Grant]) -> Lanes:
        """Those wait here from now on who waited there, in the same order; returns itself."""
        for waiter, grant in before.drain():
            self.join(waiter, grant)
        return self

    def _lacks_only(self, keys: Keys) -> bool:
        """Whether one of these is full, and a slot is there; who finds others in the road finds none."""
        line = self.line()
        return full_one(keys) is not None and line is not None and line.has_free()

    def leave(self, waiter: Any) -> Grant | None:
        """Wait no more, nor for its keys; what was to be called, for who did."""
        grant = self._take_out(waiter)
        if grant is not None:
            forget(waiter._keys)
        return grant

    def reorder(self, waiter: Any, priority: int) -> None:
        """Wait on with another priority, if he does, and have it in any case."""
        grant = self._take_out(waiter)
        waiter._priority = priority
        if grant is not None:
            self.join(waiter, grant)

    def pop(self) -> tuple[Any, Grant]:
        """Take out the one who was found; his keys count him as waiting until he holds them."""
        item = self._next.pop()
        if self._next_lane is not None:
            self._close_if_empty(self._next_lane)
        return item

    def waiters(self) -> list[Any]:
        """All, in their order."""
        waiting = chain(self._road.waiters(), *[lane.waiters() for lane in self._lanes.values()])
        return sorted(waiting, key=_rank_of)

    def drain(self) -> Iterator[tuple[Any, Grant]]:
        """Take out one after another."""
        for waiter in self.waiters():
            if (grant := self.leave(waiter)) is not None:
                yield waiter, grant

    def offer(self, bay: Bay) -> None:
        """A bay is parked no more."""
        self._open.put(bay, bay.lanes.top()[:2])

    def _file(self, waiter: Any, grant: Grant, *, is_early: bool) -> None:
        keys = waiter._keys
        lane = self._lanes.get(keys)
        if lane is not None:
            lane.join(waiter, grant, is_early=is_early)
            self._place(lane, _rank_of(waiter))
        else:
            key = full_one(keys)
            assert key is not None
            lane = self._lanes[keys] = Lane(keys)
            lane.join(waiter, grant, is_early=is_early)
            self._enter_bay(lane, key)

    def _enter_bay(self, lane: Lane, key: Key) -> None:
        bay = self._bays.get(key)
        if bay is None:
            bay = self._bays[key] = Bay(key, self)
            bay.park()
        lane.bay = bay
        self._place(lane, lane.rank())

    def _place(self, lane: Lane, rank: Rank) -> None:
        """Somebody has this rank in a lane."""
        bay = lane.bay
        bay.lanes.put(lane, rank)
        if not bay.is_parked:
            self._open.put(bay, rank)

    def _leave_bay(self, lane: Lane) -> None:
        bay = lane.bay
        bay.lanes.drop(lane)
        if not bay.lanes.entries:
            del self._bays[bay.key]
            self._open.drop(bay)
            if bay.is_parked:
                del bay.key.parked[bay]

    def _take_out(self, waiter: Any) -> Grant | None:
        grant = self._road.leave(waiter)
        if grant is None and (lane := self._lanes.get(waiter._keys)) is not None:
            grant = lane.leave(waiter)
            self._close_if_empty(lane)
        return grant

    def _close_if_empty(self, lane: Lane) -> None:
        if not lane.first().ready:
            del self._lanes[lane.keys]
            self._next_lane = None
            self._leave_bay(lane)


def lines_of(bays: Iterable[Bay]) -> list[Serving]:
    """The lines of some bays."""
    lines = dict.fromkeys(bay.owner.line() for bay in bays)
    return [line for line in lines if line is not None]


def serve_all(lines: Sequence[Serving]) -> None:
    """Serve some lines, one who waits after another: the first in rank of all, in whichever line."""
    turns = ByRank[Serving]()
    for line in lines:
        turns.put(line, line.rank())
    alternating = [line for line in lines if line.alternates()]
    while turns.entries and (first := turns.first())[:2] < NEVER:
        first[-1].serve_one()
        for line in alternating:
            turns.put(line, line.rank())
    for line in lines:
        line.serve()
