"""What is asked from inside of a manager's own tasks, which it may have to wait for in turn."""

from __future__ import annotations

from functools import partial
from typing import Any, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._books.handles import Ending, TaskHandle, sleep_among
from trio_conman._limits.line import Line
from trio_conman._limits.rings import await_error

from .pool import Pool


@final
@attrs.define(eq=False, repr=False)
class Inside:
    """Knows which task of a manager runs here, or has started what does."""

    line: Line
    pool: Pool
    # Trio tasks that work for what was opened inside of a managed task, or outside of all (None).
    stand_ins: dict[trio.lowlevel.Task, TaskHandle[Any] | None] = attrs.field(factory=dict, init=False)

    def holder(self) -> TaskHandle[Any] | None:
        """The task that does; None outside of all."""
        task = self._own_task()
        if task is None:
            return None
        return self.stand_ins[task] if task in self.stand_ins else self.pool.handle_of(task)

    def _own_task(self) -> trio.lowlevel.Task | None:
        """The trio task that does: that of a worker, or of the source of a map."""
        task = trio.lowlevel.current_task()
        while (nursery := task.parent_nursery) is not None:
            if nursery is self.pool.nursery:
                return task
            task = nursery.parent_task
        return None

    def refuse(self, method: str, instead: str, *, source_may: bool = False) -> None:
        """Raise when called from inside a managed task or the source of a map: it would wait for itself."""
        task = self._own_task()
        if task is not None and not (source_may and self.stand_ins.get(task, task) is None):
            what = "the source of a map" if task in self.stand_ins else "a task"
            where = f"inside {what} of {self.line.name!r}, which would wait for itself"
            raise RuntimeError(f"{method}() was called from {where}: {instead}")

    @enable_ki_protection
    async def attend(self, handle: TaskHandle[Any], ending: Ending) -> None:
        """Wait until a task has ended, as `ending` tells.

        Raises:
            RuntimeError: inside of a task of the manager this wait could never end.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        line, holder, task = self.line, self.holder(), trio.lowlevel.current_task()
        sleepers = ending.sleepers
        if holder is None:
            await sleep_among(sleepers)
            return

        def is_stuck() -> bool:
            return task in sleepers and handle._outcome is None

        sleepers[task] = None
        tell = partial(ending.wake, task)
        try:
            if line.rings.block(line, task, holder, tell, is_stuck, lambda: [handle]):
                await sleep_among(sleepers)
        finally:
            sleepers.pop(task, None)
            line.rings.unblock(task)
            del holder  # whose outcome may lead to this frame, by what is raised here
        if handle._outcome is None:
            raise await_error(line.name)
