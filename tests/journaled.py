"""What tests of the journal share: an engine of a few lines, which asks what the real one asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

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


class Counting:
    """An async function that remembers its calls, and returns its arguments, or what it was given."""

    def __init__(self, *values: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.values = values

    async def __call__(self, *args: Any) -> Any:
        self.calls.append(args)
        return self.values[0] if self.values else [*args]
