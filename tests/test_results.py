"""`handle.result()`, called again and again: the error is the same, and no more than it was."""

from __future__ import annotations

import gc
import traceback
import weakref
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Failure, TaskHandle


class Big:
    """What a caller has in its frame."""


async def fail_deep(error: Exception) -> None:
    await trio.sleep(1)
    raise error


async def outer(error: Exception) -> None:
    await fail_deep(error)


@attrs.frozen
class FrozenError(Exception):
    text: str


async def failed(error: Exception) -> TaskHandle[None]:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        return await cm.run(outer, error)


def frames(error: BaseException) -> list[str]:
    return [each.name for each in traceback.extract_tb(error.__traceback__)]


async def ask(handle: TaskHandle[Any], callers: list[weakref.ref[Big]]) -> BaseException:
    big = Big()
    callers.append(weakref.ref(big))
    try:
        await handle.result()
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("error", [ValueError("no"), FrozenError("no")])
async def test_each_call_raises_it_with_the_traceback_of_the_tasks_end(
    error: Exception, autojump_clock: MockClock
) -> None:
    handle = await failed(error)
    assert frames(error) == ["outer", "fail_deep"]
    callers: list[weakref.ref[Big]] = []
    for _ in range(1000):
        assert await ask(handle, callers) is error
        assert frames(error) == ["ask", "result", "outer", "fail_deep"]
    # The last one's frame is where it was caught; those before are gone.
    assert [caller() is not None for caller in callers] == [False] * 999 + [True]
    gc.collect()


async def test_many_callers_at_once_see_their_own_frames_only(autojump_clock: MockClock) -> None:
    seen: list[list[str]] = []

    async def first(handle: TaskHandle[None]) -> None:
        try:
            await handle.result()
        except ValueError as error:
            seen.append(frames(error))

    async def second(handle: TaskHandle[None]) -> None:
        try:
            await handle.result()
        except ValueError as error:
            seen.append(frames(error))

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        handle = await cm.run(outer, ValueError("no"))
        for caller in (first, second):
            nursery.start_soon(caller, handle)
    assert sorted(seen) == [
        ["first", "result", "outer", "fail_deep"],
        ["second", "result", "outer", "fail_deep"],
    ]


async def test_what_a_user_raises_is_the_users_affair(autojump_clock: MockClock) -> None:
    handle = await failed(ValueError("no"))
    assert isinstance(handle.outcome, Failure)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^no$"):
            raise handle.outcome.error
    assert len(frames(handle.outcome.error)) == 4
    with pytest.raises(ValueError, match=r"^no$") as caught:
        await handle.result()
    assert [each.name for each in caught.traceback][-3:] == ["result", "outer", "fail_deep"]


async def test_a_task_that_was_cancelled_has_an_error_without_frames(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        handle = await cm.run(trio.sleep_forever)
        handle.cancel()
    callers: list[weakref.ref[Big]] = []
    for _ in range(3):
        assert frames(await ask(handle, callers)) == ["ask", "result"]
