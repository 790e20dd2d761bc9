"""The keys that tasks count for, while they are in use."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, final

import attrs

from trio_conman._books.handles import Slot


class Parked(Protocol):
    """Who waits until one more may run of a key."""

    def unpark(self) -> None:
        """That is so."""
        ...

    def stay(self) -> None:
        """That is not so yet, though one has ended, or another limit holds."""
        ...


# At nearly all keys, which need no dict for it. Nothing is ever put in.
_NOBODY: dict[Parked, None] = {}


@final
@attrs.define(eq=False, repr=False)
class Key:
    """A value that tasks count for, and how many of them, from the first one to the last."""

    # Where it is known by its value as long as anybody counts for it.
    home: dict[Hashable, Keys]
    value: Hashable
    # How many may run.
    most: int
    running: int = 0
    waiting: int = 0
    # Those that will wait again: for them it stays, so that its value need not be looked up anew.
    kept: int = 0
    # The bays of lanes that wait until one more may run, in whichever managers.
    parked: dict[Parked, None] = _NOBODY

    def park(self, bay: Parked) -> None:
        """Here a bay waits."""
        if not self.parked:
            self.parked = {}
        self.parked[bay] = None

    def drop(self) -> None:
        """Somebody does not count for it any more; the last one leaves nothing behind."""
        if not (self.waiting or self.running or self.kept):
            try:  # noqa: SIM105  # suppress() costs more than all the rest
                del self.home[self.value]
            except Exception:  # what the value's own methods raise
                pass


# Those of one task.
Keys: TypeAlias = tuple[Key, ...]


def full_one(keys: Keys) -> Key | None:
    """The first of them that no more tasks may run of."""
    for key in keys:
        if key.running >= key.most:
            return key
    return None


def are_awaited(keys: Keys) -> bool:
    """Whether anybody is parked at one of them."""
    for key in keys:  # noqa: SIM110  # a generator for any() costs more than the whole, once for each task
        if key.parked:
            return True
    return False


def hold(keys: Keys, slot: Slot) -> None:
    """One who waited runs, and its slot has its keys."""
    for key in keys:
        key.waiting -= 1
        key.running += 1
    slot.keys = keys


def may_hold(keys: Keys | None, slot: Slot) -> bool:
    """Whether one who waits finds none of them full: then he runs, and his slot has them."""
    if keys is not None:
        if full_one(keys) is not None:
            return False
        hold(keys, slot)
    return True


def forget(keys: Keys | None) -> None:
    """One waits no more, where it has keys."""
    for key in keys or ():
        key.waiting -= 1
        key.drop()


def keep(keys: Keys | None) -> None:
    """One whose turn is over will wait again, until `let_go`, where it has keys."""
    for key in keys or ():
        key.kept += 1


def wait_again(keys: Keys) -> None:
    """One for whom they were kept waits."""
    for key in keys:
        key.waiting += 1


def let_go(keys: Keys | None) -> None:
    """One for whom they were kept has had another turn, or will not wait again."""
    for key in keys or ():
        key.kept -= 1
        key.drop()


def free(slot: Slot) -> Sequence[Any]:
    """One runs no more: its slot has no keys from here on.

    Returns who was parked at one of them.
    """
    keys: Keys = slot.keys
    slot.keys = None
    is_awaited = False
    for key in keys:
        key.running -= 1
        if key.parked:
            is_awaited = True
        elif not (key.waiting or key.running):
            key.drop()
    return released(keys) if is_awaited else ()


def released(keys: Iterable[Key]) -> Sequence[Any]:
    """More may run of these keys than before, maybe: who has waited for that is parked no more.

    Returns who was parked at one of them.
    """
    found: list[Parked] = []
    for key in keys:
        if key.parked:
            bays = list(key.parked)
            found += bays
            may_run = key.running < key.most
            if may_run:
                key.parked.clear()
            for bay in bays:
                if may_run:
                    bay.unpark()
                else:
                    bay.stay()
    return found
