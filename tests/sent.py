"""What the tests of `send_to` share: tasks, a channel for their outcomes, and who reads it."""

from typing import Any, TypeAlias

import trio

from trio_conman import Outcome

Send: TypeAlias = trio.MemorySendChannel[Outcome[int]]
Receive: TypeAlias = trio.MemoryReceiveChannel[Outcome[int]]


async def job(value: int, seconds: float = 0) -> int:
    await trio.sleep(seconds)
    return value


def channel(size: float = 0) -> tuple[Send, Receive]:
    return trio.open_memory_channel[Outcome[int]](size)


def indices(outcomes: list[Outcome[int]]) -> list[int]:
    return [outcome.index for outcome in outcomes]


async def read(receive: Receive, record: list[Any], every: float = 0) -> None:
    """Take outcomes, one every so many seconds; record when which one came."""
    await trio.sleep(every)
    async for outcome in receive:
        record.append((trio.current_time(), outcome.index))
        await trio.sleep(every)
