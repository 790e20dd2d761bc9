"""What becomes of outcomes: batches, reports, and a graceful end."""

import signal
from collections.abc import AsyncIterator, Iterable
from typing import Any, assert_type

import trio

from trio_conman import ConMan, Outcome
from trio_conman.batches import in_batches
from trio_conman.reports import Tally, summarize
from trio_conman.signals import shutdown_on_signal


async def length(text: str) -> int:
    return len(text)


async def batches(cm: ConMan[str], receive: trio.MemoryReceiveChannel[Outcome[str]]) -> None:
    async with cm.map(length, ["a"]) as outcomes, in_batches(outcomes, 50, seconds=1) as batches:
        assert_type(batches.rest, list[Outcome[int]])
        lists: AsyncIterator[list[Outcome[int]]] = batches
        async for batch in lists:
            assert_type(batch, list[Outcome[int]])
    async with in_batches(receive, 50) as received:
        assert_type(await anext(received), list[Outcome[str]])


async def reports(cm: ConMan[str], some: Iterable[Outcome[Any]]) -> None:
    assert_type(summarize(cm.outcomes()), str)
    summarize(some, total=100)
    tally = Tally(total=None)
    for outcome in cm.outcomes():
        tally.add(outcome)
    assert_type(tally.failed, int)
    assert_type(tally.recalled + tally.cancelled, int)
    print(tally)


async def signals(cm: ConMan[str]) -> int:
    assert_type(await cm.shutdown(), None)
    await cm.shutdown(3, queued="drop")
    await cm.shutdown(queued="run")
    async with shutdown_on_signal(cm):
        pass
    async with shutdown_on_signal(cm, grace=3, queued="drop", signals=[signal.SIGTERM, 2]) as came:
        assert_type(came, list[signal.Signals])
    return 128 + came[0] if came else 0
