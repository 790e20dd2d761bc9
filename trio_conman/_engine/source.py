"""The source of a map: what can be one, and a plain iterable, drawn from in the trio tasks of the workers."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable
from contextvars import Context
from operator import length_hint
from typing import Any, Final, TypeGuard, final

from trio.lowlevel import disable_ki_protection

from trio_conman._base.texts import short

# Iterators that tell exactly how many items are left.
_COUNTED: Final[tuple[type, ...]] = tuple(type(iter(each)) for each in ([0], (0,), range(1)))


def _special(items: object, name: str) -> object:
    """A special method as Python looks it up, in the type; False without one, None if that is said there."""
    return next((vars(kind)[name] for kind in type(items).__mro__ if name in vars(kind)), False)


def is_async(items: object) -> TypeGuard[AsyncIterable[Any]]:
    """Whether a map iterates over `items` in the async way."""
    return bool(_special(items, "__aiter__"))


def check_items(items: object) -> None:
    """Raise what `ConMan.map` raises when there is no way to iterate over `items`."""
    way = _special(items, "__iter__")
    if way is False:
        way = _special(items, "__getitem__")  # the old protocol
    if not (way or is_async(items)):
        raise TypeError(f"items must be an iterable or an async iterable, not {short(items)}")


@final
class SyncSource:
    """An iterable, and the context that all of it runs in."""

    @disable_ki_protection
    def __init__(self, items: Any, context: Context) -> None:
        self._items = items
        self._context = context
        self._iterator = iter(items)

    @disable_ki_protection
    def draw(self) -> Any:
        """The next item, or StopIteration."""
        return self._context.run(next, self._iterator)

    def is_over(self) -> bool:
        """Whether nothing is left, as far as that can be told without drawing."""
        return type(self._iterator) in _COUNTED and not length_hint(self._iterator)

    def blame(self) -> None:
        """Raise, because the source has left a cancel scope open in the trio task that drew from it."""
        text = (
            "items left a cancel scope open: an iterable is drawn from in several trio tasks, so it must not "
            "yield inside of a cancel scope; make it an async generator, which is drawn from in a single one"
        )
        try:
            self._close_generator()  # where it has entered its scopes, it leaves them too
        except Exception as error:
            raise RuntimeError(text) from error
        raise RuntimeError(text)

    @disable_ki_protection
    def _close_generator(self) -> None:
        if inspect.isgenerator(self._iterator):
            self._context.run(self._iterator.close)

    async def close(self) -> None:
        """Close the iterator, if it is a generator, and what it came from."""
        try:
            try:
                self._close_generator()
            finally:
                await close(self._items)
        finally:
            del self._items, self._iterator  # an error of theirs may lead here


@disable_ki_protection
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
