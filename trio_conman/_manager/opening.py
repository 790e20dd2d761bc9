"""The block of a manager: what `ConMan.open` returns."""

from __future__ import annotations

from types import TracebackType
from typing import Generic, TypeVar, final

from trio.lowlevel import enable_ki_protection

from trio_conman._base.unentered import Unentered
from trio_conman._engine.block import Block

M = TypeVar("M")


@final
class Opening(Unentered, Generic[M]):
    """What `ConMan.open` returns: the block of a manager, to be entered by ``async with``."""

    __slots__ = ("_block", "_manager", "_yields")

    _method = "ConMan.open"
    _use = "use 'async with ConMan.open(nursery) as cm:'"

    def __init__(self, manager: M, block: Block) -> None:
        super().__init__()
        self._manager = manager
        self._yields = type(manager)
        self._block = block

    @enable_ki_protection
    async def __aenter__(self) -> M:
        self._is_told = True
        await self._block.enter()
        return self._manager

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        # The references of a frame that an error's traceback leads to keep what they refer to.
        block = self._block
        del self, kind, traceback
        try:
            return await block.exit(error)
        finally:
            del block, error
