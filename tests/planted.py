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
        "            if handle not in self.sleepers:\n                return False",
        "            if handle not in self.sleepers:\n                return True",
    ),
    Bug(
        "a retry that is cancelled while it waits for its slot stays in the line",
        "_limits.line",
        "            if task is None:\n                return False",
        "            if task is None:\n                return True",
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
        "_limits.tokens",
        "            self.serve_one()\n        self._mind_envoy()",
        "            self.serve_one()\n            break\n        self._mind_envoy()",
    ),
    Bug(
        "a lowered limit is not heeded while tasks run",
        "_limits.tokens",
        "            self._excess = int(max(0, self.limiter.borrowed_tokens - limit))",
        "            self._excess = 0",
    ),
    Bug(
        "a pause does not hold back who comes new",
        "_limits.tokens",
        "if self._queue.ready or self._returning.ready or self.paused or self.closed:",
        "if self._queue.ready or self._returning.ready or self.closed:",
    ),
    Bug(
        "who comes new pushes in before those who wait",
        "_limits.tokens",
        "if self._queue.ready or self._returning.ready or self.paused or self.closed:",
        "if self.paused or self.closed:",
    ),
    Bug(
        "the last one to wait is served first",
        "_limits.ranked",
        "self.ready.popitem(last=False)",
        "self.ready.popitem(last=True)",
    ),
    Bug(
        "a slot that a map has no use for any more is lost",
        "_limits.tokens",
        "            if grant(waiter, slot):",
        "            if grant(waiter, slot) or True:",
    ),
    Bug(
        "the last of those who wait for each other is not told",
        "_limits.rings",
        "        return int(1 - free)",
        "        return 0",
    ),
    Bug(
        "who returns from a backoff goes before all who have not started",
        "_limits.tokens",
        "        if not queue.ready:\n            return returning\n",
        "        return returning\n",
    ),
    Bug(
        "who returns from a backoff waits behind all who have not started",
        "_limits.tokens",
        "        if not returning.ready:\n            return queue\n",
        "        if queue.ready or not returning.ready:\n            return queue\n",
    ),
    Bug(
        "the last one to return from a backoff is served first",
        "_limits.tokens",
        "            waiter, grant = queue.pop()",
        "            last = queue is self._returning\n"
        "            waiter, grant = queue.ready.popitem() if last else queue.pop()",
    ),
    Bug(
        "tasks back off without a slot beyond the limit",
        "_engine.execution",
        "len(self.without_slot) >= self.slots.limit",
        "len(self.without_slot) > 2 * self.slots.limit",
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
        "_engine.drawn",
        "stream.drawn - stream.taken < self._most",
        "stream.drawn - stream.taken <= self._most",
    ),
    Bug(
        "an ordered map gives what is there",
        "_engine.stream",
        "            self._indexed[handle._index] = handle._outcome",
        "            self._indexed[self.taken + len(self._indexed)] = handle._outcome",
    ),
    Bug(
        "a worker that finds no room keeps its slot",
        "_engine.drawn",
        "        self._drawing -= 1\n        self._line.release(slot)\n",
        "        self._drawing -= 1\n",
    ),
    Bug(
        "what a map has left is lost when it is cut off",
        "_engine.mapping",
        "            if is_cut_off or self._stream.is_stuck:\n",
        "            if False:\n",
    ),
    Bug(
        "a map that is left does not wait for its items",
        "_engine.mapping",
        "        while self._stream.unfinished or self._drawing:",
        "        while self._drawing:",
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
        "the token of a retry that is not made is lost",
        "_policy.budget",
        "            self._base += 1\n",
        "            pass\n",
    ),
    Bug(
        "a success earns no part of a token",
        "_policy.budget",
        "            self._refunds += 1\n",
        "            pass\n",
    ),
    Bug(
        "a shorter pause of the rate ends a longer one",
        "_limits.turns",
        "    longer = now + seconds - max(now, gate.meter.resume)\n    if longer > 0:",
        "    longer = seconds\n    if True:",
    ),
    Bug(
        "a pause of the rate tells nobody that it is too late now",
        "_limits.turns",
        "        gate.meter.resume = now + seconds\n        delay(gate, longer)",
        "        gate.meter.resume = now + seconds",
    ),
    Bug(
        "a permit that is due too late is waited for",
        "_limits.forecast",
        "        return due >= self.deadline or due > self.latest",
        "        return False",
    ),
    Bug(
        "a permit that is due in time is called too late",
        "_limits.forecast",
        "            if request.misses(request.due):",
        "            if request.misses(request.due + 1):",
    ),
    Bug(
        "who gives up waiting for a permit stays at the head",
        "_limits.turns",
        "        gate.queue.pop(key, None)\n    move_up(gates)",
        "        gate.queue.pop(key, None)",
    ),
    Bug(
        "a pause of the manager does not hold back who waits for the rate",
        "_limits.waiters",
        "        self._held = OrderedDict()\n        gate",
        "        return\n        gate",
    ),
    Bug(
        "after a pause the last one has the first permit",
        "_limits.waiters",
        "for key, ticket in self._held.items():",
        "for key, ticket in reversed(self._held.items()):",
    ),
    Bug(
        "a retry that a pause has held back starts beyond max_elapsed",
        "_limits.waiters",
        "if (now := trio.current_time()) > latest:",
        "if (now := trio.current_time()) > inf:",
    ),
    Bug(
        "who waits until no attempt runs is not woken",
        "_books.ledger",
        "        if self.calm is not None and not self.attempts():",
        "        if False:",
    ),
    Bug(
        "a task in the queue counts as an attempt that runs",
        "_books.ledger",
        " - finished - self.queued - self",
        " - finished - self",
    ),
    Bug(
        "an attempt that runs is not waited for",
        "_books.ledger",
        "        while self.attempts():\n",
        "        if self.attempts():\n",
    ),
    Bug(
        "a task that was cancelled when its submission was told starts",
        "_engine.execution",
        "if handle._cancelled is not None:\n                            break  # before",
        "if False:\n                            break  # before",
    ),
    Bug(
        "what a consumer has left by its own will is kept",
        "_engine.mapping",
        "            if is_cut_off or self._stream.is_stuck:\n",
        "            if True:\n",
    ),
    Bug(
        "the rate lets one more attempt start",
        "_limits.meter",
        "            room = cost - self.burst",
        "            room = cost - self.burst - 1",
    ),
    Bug(
        "who waits for all tasks is not woken",
        "_books.ledger",
        "if not (self.unfinished or self.coming) and self.idle:",
        "if False:",
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
        "                    except BaseException as error:\n                        by._drop(instrument",
        "                    except LookupError as error:\n                        by._drop(instrument",
    ),
    Bug(
        "a worker goes on in a scope that was cancelled",
        "_engine.execution",
        "if handle._cancelled is not None:\n                                break\n",
        "pass\n",
    ),
    Bug(
        "the deadline of a worker's last task hits the next one",
        "_engine.execution",
        "        elif worker.is_timed:\n            worker.set_deadline(inf)\n",
        "",
    ),
    Bug(
        "a worker that has nothing to do is lost",
        "_engine.pool",
        "        if self._live is not None:\n            self._idle.append(worker)\n",
        "",
    ),
    Bug(
        "a worker is hired twice",
        "_engine.pool",
        "            worker = self._idle.pop()\n            worker.handle = handle\n",
        "            worker = self._idle[-1]\n            worker.handle = handle\n",
    ),
    Bug(
        "a worker that takes another one's task does not give up its own",
        "_engine.pool",
        "            worker.handle, other.handle = first, own\n",
        "            worker.handle = first\n",
    ),
    Bug(
        "a worker that ends takes its task with it",
        "_engine.execution",
        "            self._finish(handle, outcome)\n        self.pool.gone(worker, handle)\n",
        "            pass\n        self.pool.gone(worker, handle)\n",
    ),
    Bug(
        "an idle worker is not dismissed",
        "_engine.pool",
        "            if worker.is_resting:\n                trio",
        "            if False:\n                trio",
    ),
    Bug(
        "a worker runs a task in the context of the one before",
        "_engine.pool",
        "        if not is_same(task.context, context):\n",
        "        if worker.is_ready and not is_same(task.context, context):\n",
    ),
    Bug(
        "a task that goes on after a timeout is cancelled by a scope that is spent",
        "_engine.execution",
        "            handle._scope = worker.scope  # it may be a new one\n",
        "",
    ),
    Bug(
        "one task more of a key runs than may",
        "_limits.keys",
        "        if key.running >= key.most:",
        "        if key.running > key.most:",
    ),
    Bug(
        "who waits for a key is not told when a task of it has ended",
        "_limits.keys",
        "        if key.parked:\n            is_awaited = True",
        "        if key.parked:\n            is_awaited = False",
    ),
    Bug(
        "a limit of a key that is raised starts nobody",
        "_limits.keyed",
        "        serve_all(lines_of(released(keys)))",
        "        released(keys)",
    ),
    Bug(
        "others wait behind somebody who lacks a key",
        "_limits.lanes",
        "                self._file(*road.pop(), is_early=True)",
        "                return False",
    ),
    Bug(
        "who lacked a key while a slot was there is not looked at again",
        "_limits.lanes",
        "        return full_one(keys) is not None and line is not None and line.has_free()",
        "        return False",
    ),
    Bug(
        "who was passed over waits behind those who came later",
        "_limits.lanes",
        "self._file(*road.pop(), is_early=True)",
        "self._file(*road.pop(), is_early=False)",
    ),
    Bug(
        "who gives up waiting still counts for its key",
        "_limits.lanes",
        "            forget(waiter._keys)\n        return grant",
        "            pass\n        return grant",
    ),
    Bug(
        "a retry comes back without its key",
        "_limits.line",
        "        self._come_back(handle)\n        if not",
        "        handle._keys = None\n        if not",
    ),
    Bug(
        "a key that tasks will come back under is forgotten",
        "_limits.keys",
        "if not (self.waiting or self.running or self.kept):",
        "if not (self.waiting or self.running):",
    ),
    Bug(
        "a key stays behind when its task is cancelled between two attempts",
        "_engine.execution",
        "        if lent:\n            let_go(handle._keys)",
        "        if lent and handle._slot is not None:\n            let_go(handle._keys)",
    ),
    Bug(
        "who comes back before one with a key does is forgotten",
        "_limits.line",
        "Lanes(weakref.ref(self), self.rings).take_over(self._returning)",
        "Lanes(weakref.ref(self), self.rings)",
    ),
    Bug(
        "run says that the manager is closed, as its task waits for another one of its key",
        "_manager.hall",
        "if handle._index < 0:  # it was not accepted",
        'if handle.state == "queued":',
    ),
    Bug(
        "a worker that goes on keeps the key of the task before",
        "_limits.tokens",
        "            return False\n        free(slot)",
        "            return False\n        slot.keys = None",
    ),
    Bug(
        "those who wait for each other by their keys are not told",
        "_limits.rings",
        "told = self._last_in_small_ring() if is_suspected else []",
        "told: list[_Wait] = []",
    ),
    Bug(
        "a retry that was cancelled before its first step begins",
        "_engine.execution",
        "            if handle._cancelled is not None:\n                return None  # it ends",
        "            if False:\n                return None  # it ends",
    ),
    Bug(
        "a map looks further ahead than it may",
        "_engine.mapping",
        "if self._lookahead is None else self._lookahead",
        "if self._lookahead is None else self._lookahead + 1",
    ),
    Bug(
        "an urgent task waits like the others",
        "_limits.ranked",
        "            self._queues[waiter._priority][waiter] = value",
        "            self.ready[waiter] = value",
    ),
    Bug(
        "the lowest priority comes first",
        "_limits.ranked",
        "        heappush(self._order, -priority)",
        "        heappush(self._order, priority)",
    ),
    Bug(
        "another priority moves nobody",
        "_limits.ranked",
        "        value = self.leave(waiter)\n        waiter._priority = priority",
        "        value = None\n        waiter._priority = priority",
    ),
    Bug(
        "another priority moves nobody who may have to wait for a key",
        "_limits.lanes",
        "        grant = self._take_out(waiter)\n        waiter._priority = priority",
        "        grant = None\n        waiter._priority = priority",
    ),
    Bug(
        "what is put into a journal while a group of records is written is lost",
        "_leaves.journal_table",
        "        for key in group:\n            del self.pending[key]\n",
        "        self.pending.clear()\n",
    ),
    Bug(
        "a record that is committed is not known of",
        "_leaves.journal_table",
        "        self.index.add([*group], range(start, self._last + 1))\n",
        "        pass\n",
    ),
    Bug(
        "records of a later run have the numbers of earlier ones",
        "_leaves.journal_store",
        "Table(info.id, content.index, last)",
        "Table(info.id, content.index, last - 1)",
    ),
    Bug(
        "a discarded section stays in the file",
        "_leaves.journal_store",
        "            self._table.is_dropped = self._ahead.is_dropped = True\n",
        "            self._ahead.is_dropped = True\n",
    ),
    Bug(
        "a durable journal recalls what is not on the disk",
        "_leaves.journal_store",
        "                if store.durable:  # else",
        "                if False:  # else",
    ),
    Bug(
        "two tasks of one key run at the same time",
        "_leaves.journal_store",
        "        if key in self._claims:\n            return Answer.WAIT\n",
        "",
    ),
    Bug(
        "who waits for another task of its key is not told when that has a value",
        "_leaves.journal_store",
        "        for tell in self._claims.pop(key) or ():\n            tell()\n        return ticket\n",
        "        self._claims.pop(key)\n        return ticket\n",
    ),
    Bug(
        "what was not there is not looked for again",
        "_leaves.journal_store",
        "            if numbers and numbers != found:\n",
        "            if numbers and found is None:\n",
    ),
    Bug(
        "a task succeeds when its value cannot be kept any more",
        "_leaves.journal_store",
        "        if store.is_ending:\n            store.check()\n        table = self._table\n",
        "        table = self._table\n",
    ),
    Bug(
        "who waits for the disk does not wait",
        "_leaves.journal_store",
        "        while self._committed < ticket:\n",
        "        while False:\n",
    ),
    Bug(
        "who waits for the disk waits for the group before",
        "_leaves.journal_writer",
        "        group = self._group + 1  #",
        "        group = self._group  #",
    ),
    Bug(
        "a task that failed keeps its key",
        "_engine.endings",
        "                release(handle)\n",
        "                pass\n",
    ),
    Bug(
        "a task that waits for another one of its key keeps its slot",
        "_engine.recalls",
        "            self.slots.release(slot)\n",
        "            pass\n",
    ),
    Bug(
        "what is recalled is not counted",
        "_engine.recalls",
        "            self.recalled += 1\n",
        "            pass\n",
    ),
]
