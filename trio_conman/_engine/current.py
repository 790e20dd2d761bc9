"""Which managed task runs here."""

from __future__ import annotations

from typing import Any

import trio

from trio_conman._books.handles import TaskHandle

from .pool import WORKERS


def current_task() -> TaskHandle[Any] | None:
    """The managed task that runs here, or has started what does; may be called anywhere.

    In its first attempt its ``retries`` is 0, in the next one 1. What a map draws its items from is no part
    of a task of that map's manager.

    Returns:
        the handle of the task, of the innermost one where managers are nested; None outside of all, in
        another thread, and outside of trio.
    """
    if not trio.lowlevel.in_trio_task():
        return None
    workers = WORKERS.get({})
    task: trio.lowlevel.Task | None = trio.lowlevel.current_task() if workers else None
    while task is not None:
        worker = workers.get(task)
        if worker is not None and worker.handle is not None:
            return worker.handle
        nursery = task.parent_nursery
        task = None if nursery is None else nursery.parent_task
    return None
