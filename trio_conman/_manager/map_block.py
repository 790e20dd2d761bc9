"""The block of a map: what `ConMan.map` returns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from threading import get_ident
from types import TracebackType
from typing import Generic, TypeVar, final

from trio.lowlevel import enable_ki_protection

from trio_conman._base.checks import wrong_thread
from trio_conman._base.outcomes import Outcome
from trio_conman._base.stack import need_more_stack
from trio_conman._base.unentered import Unentered
from trio_conman._engine.block import Block
from trio_conman._engine.mapping import Mapping

T = TypeVar("T")


@final
class MapBlock(Unentered, Generic[T]):
    """An async context manager that opens a map, and closes it.

    No generator in the guise of one: what contextlib makes of these assigns the traceback of the user's
    exception, which may be frozen.
    """

    __slots__ = ("_block", "_new", "_open")

    _method = "ConMan.map"
    _use = "use 'async with cm.map(...) as outcomes:', and in it 'async for outcome in outcomes:'"

    def __init__(self, block: Block, mapping: Mapping[T]) -> None:
        super().__init__()
        self._block = block
        self._new: Mapping[T] | None = mapping
        self._open: Mapping[T] | None = None

    @enable_ki_protection
    async def __aenter__(self) -> AsyncIterator[Outcome[T]]:
        self._is_told = True
        if self._new is None:
            raise RuntimeError(f"ConMan.map() was entered twice: {self._use}, once for each call")
        if get_ident() != self._block.thread:
            raise wrong_thread("ConMan.map", "run(...) with an async function that opens the map")
        need_more_stack()
        mapping, self._new = self._new, None
        outcomes = mapping.enter()
        self._open = mapping
        return outcomes

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        mapping, self._open = self._open, None
        assert mapping is not None
        is_cut_off = self._is_cut_off(error)
        del error, traceback, self._block
        await mapping.leave(is_cut_off=is_cut_off)

    def _is_cut_off(self, error: BaseException | None) -> bool:
        """Whether somebody else than the consumer ends the map."""
        if error is not None and not isinstance(error, Exception | GeneratorExit):
            return True
        if self._block.runner.stopped is not None:
            return True
        return error is not None and self._block.without_own_end(error) is None
