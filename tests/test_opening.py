"""The block of a manager as an async context manager: how it is entered, and which errors pass it."""

from __future__ import annotations

import dataclasses
import gc
import random
import traceback
import weakref
from typing import Any

import attrs
import pytest
import trio

from trio_conman import AdaptiveLimit, ConMan, ConManClosedError, Failure


@dataclasses.dataclass(frozen=True)
class FrozenDataError(Exception):
    text: str


@attrs.frozen
class FrozenAttrsError(Exception):
    text: str


@pytest.mark.parametrize(
    "error", [KeyError("x"), FrozenDataError("x"), FrozenAttrsError("x"), ConManClosedError("another's")]
)
async def test_an_error_of_the_body_passes_as_it_is(error: Exception) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(type(error)) as caught:
            async with ConMan[Any].open(nursery, 2):
                raise error
    assert caught.value is error
    assert error.__context__ is None
    # No frame of the library in between.
    assert [each.name for each in traceback.extract_tb(error.__traceback__)] == [
        "test_an_error_of_the_body_passes_as_it_is"
    ]


async def test_a_block_is_entered_once() -> None:
    async with trio.open_nursery() as nursery:
        opening = ConMan[Any].open(nursery, 2)
        async with opening as cm:
            await cm.run(trio.sleep, 0)
            with pytest.raises(
                RuntimeError, match=r"^ConMan\.open\(\) was entered twice; every 'async with' needs"
            ):
                await opening.__aenter__()
        with pytest.raises(RuntimeError, match=r"^ConMan\.open\(\) was entered twice"):
            async with opening:
                raise AssertionError
    assert len(cm.outcomes()) == 1


async def test_a_nursery_that_is_closed_leaves_no_channel_open() -> None:
    async with trio.open_nursery() as nursery:
        pass
    send, receive = trio.open_memory_channel[Any](0)
    with pytest.raises(RuntimeError, match=r"[Nn]ursery is closed"):
        async with ConMan[Any].open(nursery, 2, send_to=send):
            raise AssertionError
    with pytest.raises(trio.EndOfChannel):
        await receive.receive()


async def test_a_cancelled_opening_leaves_no_channel_open() -> None:
    send, receive = trio.open_memory_channel[Any](0)
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.cancel()
        async with ConMan[Any].open(nursery, 2, send_to=send):
            await trio.sleep_forever()
    with pytest.raises(trio.EndOfChannel):
        await receive.receive()


async def test_a_limit_that_is_in_use_leaves_no_channel_open() -> None:
    limit = AdaptiveLimit()
    send, receive = trio.open_memory_channel[Any](0)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit):
        with pytest.raises(RuntimeError, match="uses just now"):
            async with ConMan[Any].open(nursery, limit, send_to=send):
                raise AssertionError
        with pytest.raises(trio.EndOfChannel):
            receive.receive_nowait()


async def test_a_limit_that_another_run_uses_leaves_no_channel_open() -> None:
    limit = trio.CapacityLimiter(2)
    send, receive = trio.open_memory_channel[Any](0)

    async def elsewhere() -> None:
        async with trio.open_nursery() as nursery:
            with pytest.raises(RuntimeError, match="of another trio run uses just now"):
                async with ConMan[Any].open(nursery, limit, send_to=send):
                    raise AssertionError

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit):
        await trio.to_thread.run_sync(trio.run, elsewhere)
        with pytest.raises(trio.EndOfChannel):
            receive.receive_nowait()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("end", ["normal", "error", "cancel", "refused"])
async def test_a_manager_that_has_ended_is_freed_when_it_is_dropped(end: str) -> None:
    errors: list[KeyError] = []
    managers: list[ConMan[Any]] = []

    async def use(nursery: trio.Nursery) -> weakref.ref[Any]:
        try:
            async with ConMan[Any].open(nursery, 2, max_errors=100) as cm:
                managers.append(cm)
                await cm.run(trio.sleep, 0)
                if end == "error":
                    raise KeyError
                if end == "cancel":
                    cm.cancel()
                if end == "refused":
                    await cm.shutdown()
                    await cm.run(trio.sleep, 0)
        except KeyError as error:
            errors.append(error)
        return weakref.ref(managers.pop())

    async with trio.open_nursery() as nursery:
        reference = await use(nursery)
        if errors:
            errors[0].__traceback__ = None  # it leads to the frame that has the manager
        await trio.testing.wait_all_tasks_blocked()
        assert reference() is None
    gc.collect()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("limit", [2, AdaptiveLimit()])
async def test_a_manager_whose_opening_was_cancelled_is_freed_when_it_is_dropped(limit: Any) -> None:
    async def use(rng: random.Random) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                scope.cancel()
                async with ConMan[Any].open(nursery, limit, rng=rng):
                    raise AssertionError

    rng = random.Random()
    await use(rng)
    reference = weakref.ref(rng)  # which the manager has
    del rng
    assert reference() is None


async def test_an_error_that_is_kept_does_not_keep_its_manager() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2) as cm:
            await cm.run(trio.sleep, 0)
        with pytest.raises(ConManClosedError) as caught:
            cm.start_soon(trio.sleep, 0)
        error = caught.value.with_traceback(None)
        block = weakref.ref(cm)
        del caught, cm
        gc.collect()
        assert block() is None
    assert error._owner is not None


class Error(Exception):
    """One that weak references can be made to."""


async def fail(_: object = None) -> None:
    raise Error


@pytest.mark.usefixtures("no_collector")
async def test_errors_that_max_errors_counts_are_not_kept_beyond_the_block() -> None:
    kept: list[weakref.ref[Exception]] = []
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, max_errors=100) as cm:
            async with cm.map(fail, range(10)) as outcomes:
                async for outcome in outcomes:
                    assert isinstance(outcome, Failure)
                    kept.append(weakref.ref(outcome.error))
                del outcome
    assert [each() for each in kept] == [None] * 10
    assert cm.statistics().failed == 10
