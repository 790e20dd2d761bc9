"""An async source of a map, drawn from and closed in a trio task of its own.

**Theory of operation.** A *feeder* draws from an async source, closes it, and does both inside its scope, so
that scopes and nurseries which the source holds open while it yields are nested in that one. Whoever ends the
drawing must not break this nesting. While the feeder is inside of the source, waiting for an item, its scope
is cancelled, and that unwinds the source. While the source stands at a ``yield``, and the feeder rests until
there is room, it is told to stop and closes the source, which is cancelled then only where its surroundings
are: as if the consumer iterated over it itself.

A feeder that rests is not cancelled in any case. What cancels it together with its manager has told it to
stop; and what cancels a scope of the source's own is for the source, which learns of it when it goes on.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, final

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from trio_conman._base.outlast import stay
from trio_conman._base.stack import need_more_stack
from trio_conman._base.tracebacks import foreign

from .endings import interrupt_in, unhide
from .pool import AT_ONCE
from .source import close

_NOTHING: Any = object()


async def _ended(closing: Awaitable[object]) -> None:
    """Close an async source, which may hold a nursery open: that puts what ends it into a group."""
    rest: BaseException | None = None
    try:
        await closing
    except BaseExceptionGroup as group:
        _, rest = group.split(GeneratorExit)
    if rest is not None:
        try:
            raise rest
        finally:
            del rest


@final
class Feeder:
    """Draws one item, waits until it was taken and there is room for another one, and draws that."""

    def __init__(
        self, items: AsyncIterable[Any], room: Callable[[], float], stocked: Callable[[], None]
    ) -> None:
        self._scope = trio.CancelScope()
        self._items = items
        self._iterator = aiter(items)
        self._room = room
        self._stocked = stocked
        self._item: Any = _NOTHING
        self._stopped = False
        self._at_once = 0  # items drawn since it rested
        # Whether it waits for the source, which can be interrupted then.
        self._inside = False
        self._sleeper: trio.lowlevel.Task | None = None
        self._closed = False
        self._interrupt: BaseException | None = None
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
        if self._sleeper is not None and self._may_go_on():
            self._rouse()

    def stop(self, reason: str) -> None:
        """Draw no more."""
        self._stopped = True
        if self._inside:
            self._scope.cancel(reason=reason)
        elif self._sleeper is not None:
            self._rouse()

    def interrupt(self, error: BaseException) -> None:
        """Stop with an error that is no Exception: whoever asked for the key of an item is not to get it."""
        self._interrupt = error
        self.stop("the key of an item was interrupted")

    def _rouse(self) -> None:
        assert self._sleeper is not None
        trio.lowlevel.reschedule(self._sleeper)
        self._sleeper = None

    @disable_ki_protection
    async def draw(self, exhausted: Callable[[Exception | None], None]) -> None:
        """Draw items until there are no more, or it is told to stop, and close the source.

        `exhausted` is called in between, with what the source raised. What is no Exception leaves from here:
        the consumer may not take it for an end of the source. What it raises because it is stopped or closed
        is kept for `raise_close_error`.
        """
        is_told = False
        try:
            with self._scope:
                error = await self._draw_all()
                is_told = True
                exhausted(error)
                del error
                await self._close()
        except Exception as exc:
            # What the scope has left of a group, or says of one that the source has left open in it.
            if (interrupt := unhide(exc)) is not None:
                self._interrupt = interrupt
            elif is_told or self._stopped:
                self._close_error = foreign(exc)
            else:
                exhausted(foreign(exc))
        except BaseException as exc:
            self._travel(self._keep(exc))
        finally:
            try:
                # When it was interrupted the source has nothing open, and ends its business in peace.
                await self._close()
            except BaseException as exc:
                self._travel(exc)
            interrupt, self._interrupt = self._interrupt, None
            if interrupt is not None:
                try:
                    raise interrupt
                finally:
                    del interrupt

    async def _draw_all(self) -> Exception | None:
        try:
            need_more_stack()  # once: each item finds the same room here
            while not self._stopped:
                self._inside = True
                self._item = await anext(self._iterator)
                self._inside = False
                self._stocked()
                if self._at_once < AT_ONCE and self._may_go_on():
                    self._at_once += 1
                else:
                    await self._rest()
        except StopAsyncIteration:
            self._inside = False
        except Exception as error:
            self._inside = False
            if not self._stopped:
                return foreign(error)
            self._close_error = foreign(error)
        return None

    def _may_go_on(self) -> bool:
        """Whether the item was taken, and there is room for another one."""
        return not self.has_item() and self._room() > 0

    @enable_ki_protection
    async def _rest(self) -> None:
        """Let others have a turn; or wait until it may go on, or nothing more is to be drawn."""
        self._at_once = 0
        if self._may_go_on():
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif not self._stopped:
            self._sleeper = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(stay)

    async def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        items, iterator = self._items, self._iterator
        rest: BaseException | None = None
        try:
            try:
                if inspect.isasyncgen(iterator):
                    await _ended(iterator.aclose())
            finally:
                if not inspect.isasyncgen(items):
                    await _ended(close(items))
        except (Exception, BaseExceptionGroup) as error:
            rest = self._keep(error)
        finally:
            del self._items, self._iterator, items, iterator  # an error of theirs may lead here
        if rest is not None:
            try:
                raise rest
            finally:
                del rest

    def _travel(self, error: BaseException | None) -> None:
        """What is to leave in the end: an interrupt before a cancellation, and of two the first."""
        if interrupt_in(self._interrupt) is None:
            self._interrupt = error

    def _keep(self, error: BaseException) -> BaseException | None:
        """Keep the errors that a closing or cancelled source has raised; what of that travels on."""
        rest: BaseException | None = None
        errors: BaseException | None = error
        if isinstance(error, BaseExceptionGroup) and not isinstance(error, Exception):
            rest, errors = error.split(trio.Cancelled)
        if not isinstance(errors, Exception):
            return error
        self._close_error = foreign(errors)
        return rest

    def raise_close_error(self) -> None:
        """Raise what the closing raised, if it did."""
        error, self._close_error = self._close_error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
