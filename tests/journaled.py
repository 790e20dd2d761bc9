"""What tests of the journal share: an engine of a few lines, which asks what the real one asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio

from trio_conman._books.records import Answer, Recorder


async def run(journal: Recorder[Any], fn: Callable[..., Awaitable[Any]], *args: Any) -> tuple[Any, bool]:
    """What a task comes to: its value, and whether it was recalled."""
    records = journal._records
    key = records.key_of(args)
    while (value := records.claim(key)) in (Answer.READ, Answer.WAIT):
        if value is Answer.READ:
            await records.arrival(key)
        else:
            ended = trio.Event()
            records.follow(key, ended.set)
            await ended.wait()
    if value is not Answer.RUN:
        return value, True
    try:
        value = await fn(*args)
        ticket = records.keep(key, value)
    except BaseException:
        records.release(key)
        raise
    if ticket is not None:
        await records.committed(ticket)
    return value, False


class Memory(Recorder[Any]):
    """A journal that keeps what it is told in memory, and takes its time when it is told to."""

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        self._records = MemoryRecords({} if values is None else values)

    @property
    def records(self) -> MemoryRecords:
        return cast("MemoryRecords", self._records)


class MemoryRecords:
    """See `trio_conman._books.records.Records`."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.claims: dict[str, list[Callable[[], object]]] = {}
        self.calls: list[tuple[str, str]] = []
        # Seconds for each key until its value has been read, and for each commit, where they take any.
        self.reading: dict[str, float] = {}
        self.commit: float | None = None
        # What is wrong, by the name of what shall raise it.
        self.wrong: dict[str, Exception] = {}

    def enter(self) -> None:
        self._do("enter", "")

    def _do(self, what: str, key: str) -> None:
        self.calls.append((what, key))
        if what in self.wrong:
            raise self.wrong[what]

    def key_of(self, args: tuple[Any, ...]) -> str:
        if "key_of" in self.wrong:
            raise self.wrong["key_of"]
        return ",".join(map(str, args))

    def holds(self, key: str) -> bool:
        return key in self.values or key in self.reading

    def claim(self, key: str) -> Any:
        self._do("claim", key)
        if key in self.reading:
            return Answer.READ
        if key in self.values:
            return self.values[key]
        if key in self.claims:
            return Answer.WAIT
        self.claims[key] = []
        return Answer.RUN

    def keep(self, key: str, value: Any) -> int | None:
        self._do("keep", key)
        self.values[key] = value
        self._give_back(key)
        return None if self.commit is None else 1

    def release(self, key: str) -> None:
        self._do("release", key)
        self._give_back(key)

    def _give_back(self, key: str) -> None:
        for tell in self.claims.pop(key):
            tell()

    async def arrival(self, key: str) -> None:
        if key in self.reading:
            await trio.sleep(self.reading[key])
            self.reading.pop(key, None)

    def follow(self, key: str, tell: Callable[[], object]) -> None:
        self.claims[key].append(tell)

    async def committed(self, ticket: int) -> None:
        assert self.commit is not None
        await trio.sleep(self.commit)
        self._do("committed", str(ticket))


class Counting:
    """An async function that remembers its calls, and returns its arguments, or what it was given."""

    def __init__(self, *values: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.values = values

    async def __call__(self, *args: Any) -> Any:
        self.calls.append(args)
        return self.values[0] if self.values else [*args]
