"""A thread that draws, so that nobody waits for what is drawn on."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread
from typing import final


@final
class Pen:
    """Does what it is handed, one job at a time, in a thread that ends with the last.

    The thread is a daemon: one that is stuck in a write must not keep the program from ending. A job does not
    raise.
    """

    def __init__(self) -> None:
        self.idle = Event()
        self.idle.set()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="trio_conman progress", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its last job is still to be done."""
        return self._thread.is_alive()

    def offer(self, job: Callable[[], None]) -> bool:
        """Have a job done, unless another one is in hand; return at once whether it will be done."""
        if not self.idle.is_set():
            return False
        self.idle.clear()
        self._jobs.put(job)
        return True

    def finish(self, job: Callable[[], None], patience: float) -> None:
        """Have the last job done after the one in hand, and wait for it, but no longer than `patience`."""
        self._jobs.put(job)
        self._jobs.put(None)
        self._thread.join(patience)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # what it holds must not live until the next one
            self.idle.set()
