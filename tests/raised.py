"""What the tests of errors and of cancelled tasks share."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn
from weakref import WeakSet

import trio

from trio_conman import ConMan, RetryConfig, TaskHandle

ANYTHING = RetryConfig.none(max_attempts=3, retry_on=Exception)
EVERY_SECOND = RetryConfig.linear(max_attempts=9, initial_delay=1, backoff_factor=0, retry_on=Exception)


class LeavesTheBlockError(Exception):
    """What the body of a block is left by."""


WAYS = ["handle", "manager", "scope", "outer", "nursery", "body"]


@asynccontextmanager
async def stage(**options: Any) -> AsyncIterator[tuple[ConMan[Any], Callable[..., None]]]:
    """A manager, and a function that cancels its tasks in one of the ways there are."""
    with trio.CancelScope() as outer:
        async with trio.open_nursery() as nursery:
            with suppress(LeavesTheBlockError):
                async with ConMan[Any].open(nursery, **options) as cm:

                    def end(how: str, *handles: TaskHandle[Any], reason: str | None = None) -> None:
                        match how:
                            case "handle":
                                for handle in handles:
                                    handle.cancel(reason)
                            case "manager":
                                cm.cancel(reason)
                            case "scope":
                                cm.cancel_scope.cancel()
                            case "outer":
                                outer.cancel()
                            case "nursery":
                                nursery.cancel_scope.cancel()
                            case "body":
                                raise LeavesTheBlockError

                    yield cm, end
    assert outer.cancelled_caught == outer.cancel_called


class Raising:
    """Raises what `error` makes, in each call, and counts the calls."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        self.error = error
        self.calls = 0

    async def __call__(self) -> NoReturn:
        self.calls += 1
        await trio.lowlevel.checkpoint()
        raise self.error()


class OddError(Exception):
    """One that a weak reference may lead to."""


class OwnErrors:
    """Raises errors, also in place of a cancellation, and knows which of them are alive."""

    def __init__(self) -> None:
        self.alive = WeakSet[OddError]()

    async def fail(self) -> NoReturn:
        """Raise one."""
        error = OddError()
        self.alive.add(error)
        try:
            raise error
        finally:
            del error

    async def fail_late(self, *_: object) -> None:
        """Raise one when cancelled."""
        try:
            await trio.sleep_forever()
        finally:
            await self.fail()
