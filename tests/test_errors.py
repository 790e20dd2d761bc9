"""The library's own exceptions: what they are, and that they travel between processes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import trio

from trio_conman import ConMan, ConManClosedError, RetriableError, RetryConfig, TaskCancelledError


def through_pickle(error: Any) -> Any:
    return pickle.loads(pickle.dumps(error))


ways = pytest.mark.parametrize(
    "way", [through_pickle, copy.copy, copy.deepcopy], ids=lambda way: way.__name__
)


async def closed_error() -> ConManClosedError:
    """The error of a manager that is closed, as its users meet it."""
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2, name="store") as cm:
        await cm.run(trio.sleep, 1)
    with pytest.raises(ConManClosedError) as caught:
        await cm.run(trio.sleep, 1)
    return caught.value


async def cancelled_error() -> TaskCancelledError:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        handle = await cm.run(trio.sleep_forever, name="fetch")
        handle.cancel("enough")
    with pytest.raises(TaskCancelledError) as caught:
        await handle.result()
    return caught.value


def test_a_closed_manager_is_a_closed_resource() -> None:
    assert issubclass(ConManClosedError, trio.ClosedResourceError)


@pytest.mark.parametrize("kind", [TaskCancelledError, RetriableError, ConManClosedError])
def test_each_is_an_exception_and_no_cancellation(kind: type[BaseException]) -> None:
    # `except Exception` must catch it, and trio must not take it for its own.
    assert issubclass(kind, Exception)
    assert not issubclass(kind, trio.Cancelled)


@ways
@pytest.mark.parametrize("kind", [TaskCancelledError, ConManClosedError])
def test_a_hand_made_error_is_copied_with_its_text(kind: type[Exception], way: Callable[[Any], Any]) -> None:
    error = kind("why it was")
    error.add_note("and a note")
    copied = way(error)
    assert (type(copied), copied.args, copied.__notes__) == (kind, ("why it was",), ["and a note"])


@ways
@pytest.mark.parametrize("get", [closed_error, cancelled_error])
async def test_an_error_that_the_library_raised_is_copied_with_its_text(
    autojump_clock: trio.testing.MockClock, get: Callable[[], Any], way: Callable[[Any], Any]
) -> None:
    error = await get()
    copied = way(error)
    assert (type(copied), str(copied)) == (type(error), str(error))


async def test_an_error_that_the_library_raised_says_whom_it_is_about(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert "'store'" in str(await closed_error())
    cancelled = str(await cancelled_error())
    assert "'fetch'" in cancelled
    assert cancelled.endswith("enough")


@ways
async def test_a_group_of_a_managers_errors_is_copied_whole(
    autojump_clock: trio.testing.MockClock, way: Callable[[Any], Any]
) -> None:
    async def fail() -> None:
        raise RetriableError("busy", retry_config=RetryConfig.none(max_attempts=1), retry_after=2)

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        await cm.run(fail)
        (await cm.run(trio.sleep_forever)).cancel()
    with pytest.raises(ExceptionGroup) as caught:
        cm.raise_errors()
    copied = way(caught.value)
    assert copied.message == caught.value.message
    assert sorted(map(repr, copied.exceptions)) == sorted(map(repr, caught.value.exceptions))
    (busy,) = (error for error in copied.exceptions if isinstance(error, RetriableError))
    assert (busy.retry_after, busy.retry_config) == (2, RetryConfig.none(max_attempts=1))
