"""An async source of a map, iterated over and closed by one and the same trio task."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextvars import Context
from typing import Any, final

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

_NOTHING: Any = object()


@disable_ki_protection
def iterate(items: Iterable[Any]) -> Iterator[Any]:
    """Begin to draw."""
    return iter(items)


@disable_ki_protection
async def close_drawn(iterator: Iterator[Any], items: object, context: Context) -> None:
    """Close what a map has drawn from, if it is a generator, and what it was given."""
    if inspect.isgenerator(iterator):
        context.run(iterator.close)
    await close(items)


async def close(items: object) -> None:
    """Close what a map was given, if it has ``aclose``; a file, say, is left alone."""
    aclose = getattr(items, "aclose", None)
    if aclose is not None:
        await aclose()


def presentable(error: Exception) -> Exception:
    """What the consumer of a map gets when its source raised `error`."""
    if isinstance(error, StopAsyncIteration):
        # As it is it would end the consumer's loop as if all were well.
        substitute = RuntimeError("items raised StopAsyncIteration")
        substitute.__cause__ = error
        return substitute
    return error


@final
class Feeder:
    """Draws one item, waits until it was taken and there is room for another one, and draws that."""

    def __init__(
        self, items: AsyncIterable[Any], room: Callable[[], float], stocked: Callable[[], None]
    ) -> None:
        self.scope = trio.CancelScope()
        self._items = items
        self._iterator = aiter(items)
        self._room = room
        self._stocked = stocked
        self._item: Any = _NOTHING
        self._sleeper: trio.lowlevel.Task | None = None
        self._close_error: Exception | None = None

    def has_item(self) -> bool:
        """Whether an item waits to be taken."""
        return self._item is not _NOTHING

    def take(self) -> Any:
        """The item."""
        item, self._item = self._item, _NOTHING
        return item

    def wake(self) -> None:
        """Draw again, if that can be."""
        if self._sleeper is not None and not self.has_item() and self._room() > 0:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None

    async def draw(self, exhausted: Callable[[Feeder, Exception | None], None]) -> None:
        """Draw items until there are no more, or `scope` is cancelled, and close the source.

        `exhausted` is called in between, with what the source raised. An error of the closing is kept for
        `raise_close_error`.
        """
        error: Exception | None = None
        try:
            error = await self._draw_all()
        finally:
            exhausted(self, error)
            del error
            await self._close()

    async def _draw_all(self) -> Exception | None:
        try:
            with self.scope:
                async for item in self._iterator:
                    self._item = item
                    del item  # or it would be kept alive until the next one comes
                    self._stocked()
                    await self._rest()
        except Exception as error:
            return error
        return None

    @enable_ki_protection
    async def _rest(self) -> None:
        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def _close(self) -> None:
        try:
            if inspect.isasyncgen(self._iterator):
                await self._iterator.aclose()
            if not inspect.isasyncgen(self._items):
                await close(self._items)
        except Exception as error:
            self._close_error = error

    def raise_close_error(self) -> None:
        """Raise what the closing raised, if it did."""
        error, self._close_error = self._close_error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
