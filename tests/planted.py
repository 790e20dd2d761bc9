"""Bugs to be planted in the core, each of which the simulation must find.

A bug is a text of one module and what takes its place.
"""

from __future__ import annotations

from pathlib import Path

import attrs


@attrs.frozen
class Bug:
    """One mistake that somebody might make."""

    name: str
    module: str
    right: str
    wrong: str

    def path(self, package: Path) -> Path:
        """Where the module is."""
        return package.joinpath(*self.module.split(".")).with_suffix(".py")


BUGS = [
    Bug(
        "a wait in run that is cancelled stays in the line, and takes a slot with it",
        "_limits.line",
        "            self._forget(handle)\n            return trio.lowlevel.Abort.SUCCEEDED",
        "            return trio.lowlevel.Abort.SUCCEEDED",
    ),
    Bug(
        "a retry that is cancelled while it waits for its slot stays in the line",
        "_limits.line",
        "            self.leave(handle)\n            return trio.lowlevel.Abort.SUCCEEDED",
        "            return trio.lowlevel.Abort.SUCCEEDED",
    ),
    Bug(
        "the slot of a task that is done is not given back",
        "_books.ledger",
        "            self.slots.release(slot)\n        self.unfinished",
        "            self.slots.release(slot) if handle.retries == 0 else None\n        self.unfinished",
    ),
    Bug(
        "a task that ends when it is cancelled has no outcome",
        "_engine.execution",
        "        if handle is not None:\n            self._finish",
        "        if handle is not None and travels is None:\n            self._finish",
    ),
    Bug(
        "a result of the tick of a cancellation is dropped",
        "_engine.endings",
        "        if outcome is None:\n            outcome = self._cut_short",
        "        if outcome is None or self.stopped is not None:\n            outcome = self._cut_short",
    ),
    Bug(
        "one retry more than max_attempts",
        "_policy.decision",
        "retries >= plan.config.max_attempts",
        "retries > plan.config.max_attempts",
    ),
    Bug(
        "a delay that is drawn may be longer than the whole one",
        "_policy.backoff",
        "        if 0.0 <= drawn <= delay:\n            return drawn",
        "        if 0.0 <= drawn <= delay:\n            return drawn * 1.5",
    ),
    Bug(
        "a limit that is raised wakes one waiter only",
        "_limits.line",
        "            self.release(slot)\n        self._mind_envoy()",
        "            self.release(slot)\n            break\n        self._mind_envoy()",
    ),
    Bug(
        "a lowered limit is not heeded while tasks run",
        "_limits.line",
        "            self._excess = int(max(0, self.limiter.borrowed_tokens - limit))",
        "            self._excess = 0",
    ),
    Bug(
        "a pause does not hold back who comes new",
        "_limits.line",
        "        if self._queue or self._returning or self.paused or self._closed:\n            return None",
        "        if self._queue or self._returning or self._closed:\n            return None",
    ),
    Bug(
        "who comes new pushes in before those who wait",
        "_limits.line",
        "        if self._queue or self._returning or self.paused or self._closed:\n            return None",
        "        if self.paused or self._closed:\n            return None",
    ),
    Bug(
        "the last one to wait is served first",
        "_limits.line",
        "queue.popitem(last=False)\n        return grant",
        "queue.popitem(last=True)\n        return grant",
    ),
    Bug(
        "tasks back off without a slot beyond the limit",
        "_engine.execution",
        "self.without_slot >= self.slots.limit",
        "self.without_slot > 2 * self.slots.limit",
    ),
    Bug(
        "a slow consumer does not hold up the tasks",
        "_books.collector",
        "        return not self._forwarding",
        "        return True",
    ),
    Bug(
        "what the channel did not take is lost",
        "_books.collector",
        "        left = batch + self._underway\n",
        "        left = batch[1:] + self._underway\n",
    ),
    Bug(
        "outcomes that are underway are kept twice",
        "_books.collector",
        "            self._keep(self._underway)\n            self._underway.clear()",
        "            self._keep(self._underway)",
    ),
    Bug(
        "a map draws one item more than it may",
        "_engine.mapping",
        "return room - self._stream.drawn",
        "return room + 1 - self._stream.drawn",
    ),
    Bug(
        "an ordered map gives what is there",
        "_engine.stream",
        "            self._indexed[handle._index] = handle._outcome",
        "            self._indexed[self.taken + len(self._indexed)] = handle._outcome",
    ),
    Bug(
        "a worker that finds no room keeps its slot",
        "_engine.mapping",
        "                self._idle[worker] = None\n                self._line.release(slot)\n",
        "                self._idle[worker] = None\n",
    ),
    Bug(
        "what a map has left is lost when it is cut off",
        "_engine.mapping",
        "            if is_cut_off:\n",
        "            if False:\n",
    ),
    Bug(
        "a map that is left does not wait for its items",
        "_engine.mapping",
        "        while self._living:\n            await self._ended.park()",
        "        pass",
    ),
    Bug(
        "an attempt that has timed out is retried without a config",
        "_policy.decision",
        "        if config is None:\n            return spent",
        "        config = config or _DEFAULT",
    ),
    Bug(
        "a budget is never spent",
        "_policy.budget",
        "        if self._remaining() < 1:",
        "        if False:",
    ),
    Bug(
        "the rate lets one more attempt start",
        "_limits.meter",
        "if now < start + owed * per / rate or",
        "if now < start + (owed - 1) * per / rate or",
    ),
    Bug(
        "who waits for all tasks is not woken",
        "_books.ledger",
        "        self.unfinished -= 1\n        if not (self.unfinished or self.coming):\n",
        "        self.unfinished -= 1\n        if False:\n",
    ),
    Bug(
        "too many errors are one more",
        "_engine.endings",
        "len(self.errors) > self.max_errors",
        "len(self.errors) > self.max_errors + 1",
    ),
    Bug(
        "an instrument that raises takes the task with it",
        "_books.instruments",
        "            except BaseException as error:\n                self._drop(instrument",
        "            except LookupError as error:\n                self._drop(instrument",
    ),
]
