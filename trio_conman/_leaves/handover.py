"""Hands calls to an executor whose ``submit`` may block: in a thread, one by one, in order."""

from __future__ import annotations

import concurrent.futures
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import TypeAlias, final
from weakref import ref

import trio

from .executor_kinds import is_quick

Submit: TypeAlias = Callable[[], None]


@final
class Handover:
    """The calls that are on their way to one executor; a thread lives while there are some."""

    __slots__ = ("_busy", "_lock", "_waiting", "executor")

    def __init__(self, executor: concurrent.futures.Executor) -> None:
        self.executor: ref[concurrent.futures.Executor] = ref(executor)
        self._lock = Lock()
        self._waiting: OrderedDict[Submit, None] = OrderedDict()  # a line that can be left from its midst
        self._busy = False

    def is_idle(self) -> bool:
        """Whether all that was put in has reached the executor."""
        return not self._busy

    def put(self, submit: Submit) -> None:
        """Call `submit`, which raises nothing, after those before it; RuntimeError if there is no thread."""
        with self._lock:
            if not self._busy:
                trio.lowlevel.start_thread_soon(self._run, lambda ended: ended.unwrap(), "trio_conman submit")
                self._busy = True
            self._waiting[submit] = None

    def take_back(self, submit: Submit) -> bool:
        """Forget a call; False when its turn has come already."""
        with self._lock:
            return self._waiting.pop(submit, self) is None

    def _run(self) -> None:
        while (submit := self._next()) is not None:
            submit()

    def _next(self) -> Submit | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popitem(last=False)[0]
            self._busy = False
            return None


# By the id of the executor, as one may be equal to another, or have no hash. None until there is one, so that
# a quick call need not look for its own.
_handovers: trio.lowlevel.RunVar[dict[int, Handover] | None] = trio.lowlevel.RunVar(
    "trio_conman.executors", None
)


def handover_to(executor: concurrent.futures.Executor, in_thread: bool | None) -> Handover | None:
    """Where a call waits for its turn, or None if it need not, as the caller or the executor says."""
    if in_thread is False:
        return None
    handovers = _handovers.get()
    handover = None if handovers is None else handovers.get(id(executor))
    if handover is not None and handover.executor() is not executor:
        handover = None  # that was another one, which is gone
    if in_thread or not is_quick(executor):
        return handover or _new(executor, handovers or {})
    # What is quick must not overtake what has not been: the first call of a pool starts its processes.
    return None if handover is None or handover.is_idle() else handover


def _new(executor: concurrent.futures.Executor, handovers: dict[int, Handover]) -> Handover:
    handover = Handover(executor)
    kept = {key: each for key, each in handovers.items() if each.executor() is not None}
    _handovers.set({**kept, id(executor): handover})
    return handover
