"""The client of the soak: managers that have all kinds of work and of trouble, and books of it.

    python -m tests.soak.client PORT SECONDS

It works in rounds. In each it opens managers and connections anew, and closes them all; between two of them
it has nothing to do, and there it is measured. It prints "ready", and works until a line comes on its
standard input, the number of signals that it was sent, after so many SECONDS. Then it prints its
books, and ends with 1 if something is wrong:

- After a quarter of the time, for warming up, its memory may grow by less than 5 %, and its descriptors and
  trio tasks must be as many in the end as then.
- Every accepted task has one outcome, and the managers' statistics say so too. The outcomes that a manager
  kept and those that it delivered are as many as its tasks.
- Attempts: as many as the instrument was told of, as the statistics say (tasks that came to start, and
  retries), and as there were calls of the work.
- Requests: each attempt sends one or, cancelled early, none. A request counts as sent when its head was
  written. The server counts it when it has received it, whatever it does then: both numbers must be equal.
- Connections: when a round has ended, each entry of the client's pool is idle or closed.
- Keys: when a round has ended nobody counts for any.
- Journal: what it has recalled are as many as the tasks that say so, and each value is the right one.
- Telemetry: as many spans have ended, and as many durations were measured, as tasks have ended.
- Answers: the server's, by what it did, are at least those that the client has seen; what the client has not
  seen are exactly the requests that it gave up, by a timeout or a cancellation.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.soak.books import Books, Sample
from tests.soak.observers import Telemetry, progress
from trio_conman import (
    AdaptiveLimit,
    ConMan,
    Instrument,
    KeyedLimit,
    Outcome,
    RateLimiter,
    RetriableError,
    RetryBudget,
    RetryConfig,
    Success,
    parse_retry_after,
)
from trio_conman.executors import run_in_executor
from trio_conman.journal import Journal, open_journal

ROUND = 6.0  # seconds
FORKSERVER = multiprocessing.get_context("forkserver")
RETRY = RetryConfig(max_attempts=4, initial_delay=0.02, max_delay=0.5)
KEYS = 7


def burn(number: int) -> int:
    """The work of a process."""
    return sum(range(number * 1000))


def key_of(*args: Any) -> int:
    """By the number of a task, its last argument."""
    return int(args[-1]) % KEYS


def cost_of(*args: Any) -> int:
    return 1 + int(args[-1]) % 3


def ghosts(http: httpx.AsyncClient) -> list[Any]:
    """What the pool of a client without requests holds that is of no use, and does not leave either."""
    pool: Any = vars(http)["_transport"]._pool  # there is no public way to it
    return [each for each in pool.connections if not (each.is_idle() or each.is_closed())]


class Client:
    def __init__(self, port: str, seconds: float, journal: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.seconds = seconds
        self.journal = journal
        self.chance = random.Random(11)
        self.http, self.pool = Books(), Books()
        self.telemetry = Telemetry()
        self.observers: list[Instrument] = [self.telemetry.instrument]
        self.adaptive = AdaptiveLimit(maximum=30)
        self.signals: Counter[str] = Counter()
        self.killed = 0
        self.sent_signals: int | None = None
        self.quiet: list[Sample] = []
        self.busy: list[Sample] = []
        self.open: set[ConMan[Any]] = set()
        self.paused = False
        # The managers of a round that keep outcomes, and how many of theirs were delivered instead.
        self.keeping: list[tuple[ConMan[Any], Counter[str]]] = []

    # The work

    async def get(self, http: httpx.AsyncClient, _: int) -> int:
        """One attempt at one request."""
        seen = self.http.seen
        seen["calls"] += 1
        sent = False
        kind = "given up"

        async def trace(event: str, info: dict[str, Any]) -> None:
            nonlocal sent
            if event == "http11.send_request_headers.complete":
                seen["sent"] += 1
                sent = True

        try:
            response = await http.get(f"{self.url}/", extensions={"trace": trace})
            if response.status_code == 503:
                kind = "busy"
                after = parse_retry_after(response.headers["Retry-After"])
                raise RetriableError("busy", retry_after=after)
            kind = "answered"
            return len(response.content)
        except httpx.TransportError as error:
            kind = "broken"
            raise RetriableError(error) from None
        finally:
            seen[kind if sent else "not sent"] += 1

    @contextlib.asynccontextmanager
    async def manager(
        self, books: Books, limit: int | AdaptiveLimit, **options: Any
    ) -> AsyncIterator[ConMan[Any]]:
        async with trio.open_nursery() as nursery:
            block = ConMan[Any].open(nursery, limit, instruments=[books, *self.observers], **options)
            cm = None
            try:
                async with block as cm:
                    self.open.add(cm)
                    yield cm
            finally:
                if cm is not None:
                    self.open.discard(cm)
                    books.close(cm)

    async def dispatch(self, http: httpx.AsyncClient, options: dict[str, Any]) -> None:
        """Tasks one by one, some of them cancelled, while the limits change."""
        async with self.manager(self.http, 20, **options) as cm:
            self.keeping.append((cm, Counter()))
            for number in range(sys.maxsize):
                handle = await cm.run(self.get, http, number)
                if number % 50 == 0:
                    handle.cancel("at random")
                if number % 20 == 0:
                    cm.limit = self.chance.randint(2, 30)
                    options["per_key"].limits[number % KEYS] = self.chance.randint(1, 6)
                if number % 30 == 0:
                    cm.start_soon(self.get, http, number, name="added")

    async def queue(self, http: httpx.AsyncClient, options: dict[str, Any]) -> None:
        """Many tasks at once, as many of which run as the service bears, some of them before others."""
        async with self.manager(self.http, self.adaptive, **options) as cm:
            self.keeping.append((cm, Counter()))
            for number in range(100):
                handle = cm.start_soon(self.get, http, number, priority=number % 3)
                if number % 10 == 0:
                    handle.priority = 5
            await cm.wait()

    async def record(self, http: httpx.AsyncClient, journal: Journal, options: dict[str, Any]) -> None:
        """Tasks whose values are kept: the next time those are known."""

        async def value(number: int) -> int:
            await self.get(http, number)
            return number

        async with self.manager(self.http, 10, journal=journal, **options) as cm:
            async with cm.map(value, range(1000)) as outcomes:
                async for outcome in outcomes:
                    if isinstance(outcome, Success):
                        self.http.check("a task, and its value", outcome.index, outcome.value)

    async def stream(self, http: httpx.AsyncClient, options: dict[str, Any]) -> None:
        """A short-lived manager with a map that is read to its end, or left."""
        count = self.chance.randint(1, 60)
        async with self.manager(self.http, 10, **options) as cm:
            ordered = self.chance.random() < 0.5
            async with cm.map(partial(self.get, http), range(40), ordered=ordered) as outcomes:
                taken = 0
                async for _ in outcomes:
                    taken += 1
                    if taken == count:
                        break
        self.http.seen["maps left"] += taken < 40

    async def deliver(self, http: httpx.AsyncClient, options: dict[str, Any]) -> None:
        """Outcomes that a slow consumer takes."""
        send, receive = trio.open_memory_channel[Outcome[Any]](0)
        delivered: Counter[str] = Counter()

        async def consume() -> None:
            async with receive:
                async for _ in receive:
                    delivered["taken"] += 1
                    await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume)
            async with self.manager(self.http, 5, send_to=send, **options) as cm:
                self.keeping.append((cm, delivered))
                for number in range(60):
                    await cm.run(self.get, http, number)

    async def compute(self) -> None:
        """Work for processes, one of which is killed now and then; it is retried on a fresh pool."""
        pools = [ProcessPoolExecutor(2, mp_context=FORKSERVER)]

        async def task(number: int) -> int:
            self.pool.seen["calls"] += 1
            pool = pools[-1]
            try:
                return await run_in_executor(pool, burn, number, abandon_on_cancel=True)
            except BrokenExecutor as error:
                if pool is pools[-1]:
                    pools.append(ProcessPoolExecutor(2, mp_context=FORKSERVER))
                raise RetriableError(error) from None

        try:
            async with self.manager(self.pool, 4, retry=RetryConfig.none(max_attempts=9)) as cm:
                for number in range(sys.maxsize):
                    await cm.run(task, number % 100)
                    if number % 150 == 100:
                        for process in multiprocessing.active_children()[:1]:
                            os.kill(process.pid or 0, signal.SIGKILL)
                            self.killed += 1
                    await trio.sleep(0.005)
        finally:
            for pool in pools:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(pool.shutdown)

    # The rounds

    async def round(self) -> None:
        """Everything at once, for a while; what ends early begins anew."""
        keys = KeyedLimit(4, key=key_of)
        options: dict[str, Any] = {
            "rate": (RateLimiter(150, burst=10), RateLimiter(320, burst=30, cost=cost_of)),
            "per_key": keys,
            "retry": RETRY,
            "retry_budget": RetryBudget(20, 0.3),
            "attempt_timeout": 0.5,
            "task_timeout": 3,
        }
        end = trio.current_time() + ROUND

        async def again(work: Callable[[], Awaitable[None]]) -> None:
            while trio.current_time() < end:
                with trio.move_on_at(end):
                    await work()

        # More than the managers' limits together: a request that waits for one, and is given up, would leave
        # an entry in the pool that never connects.
        limits = httpx.Limits(max_connections=100)
        async with (
            open_journal(self.journal) as journal,
            httpx.AsyncClient(timeout=None, trust_env=False, limits=limits) as http,
        ):
            with progress() as display:
                self.observers.append(display)
                async with trio.open_nursery() as nursery:
                    for work in (self.dispatch, self.queue, self.stream, self.deliver):
                        nursery.start_soon(again, partial(work, http, options))
                    nursery.start_soon(again, partial(self.record, http, journal, options))
                    nursery.start_soon(again, self.compute)
                self.observers.pop()
            self.http.check("entries of the pool that nobody uses", len(ghosts(http)), 0)
            self.http.check("keys that tasks count for", len(keys.statistics()), 0)
            if len(self.quiet) % 5 == 4:
                await journal.discard("")
            told = journal.statistics()
        self.http.seen["recalled"] += told.recalled
        self.http.seen["stored"] += told.stored
        for cm, delivered in self.keeping:
            self.http.seen["outcomes kept"] += len(cm.outcomes())
            self.http.seen["outcomes delivered"] += delivered["taken"]
            kept = len(cm.outcomes()) + delivered["taken"]
            self.http.check("tasks, and outcomes kept or delivered", cm.statistics().submitted, kept)
        self.keeping.clear()

    async def watch(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGUSR1, signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                self.signals[signal.Signals(number).name] += 1
                self.paused = not self.paused if number == signal.SIGUSR1 else False
                async with trio.open_nursery() as nursery:
                    for cm in list(self.open):
                        match number:
                            case signal.SIGINT:
                                cm.cancel("interrupted")
                            case signal.SIGTERM:
                                nursery.start_soon(cm.shutdown, 0.5)
                            case _ if self.paused:
                                cm.pause()
                            case _:
                                cm.resume()

    async def sample(self) -> None:
        while True:
            await trio.sleep(2)
            self.busy.append(Sample.now())

    async def listen(self) -> None:
        line = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        self.sent_signals = int(line)
        await trio.sleep_forever()  # as long as the others, who are counted

    async def work(self) -> None:
        self.start = trio.current_time()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.watch)
            nursery.start_soon(self.sample)
            nursery.start_soon(self.listen)
            print("ready", flush=True)
            while self.sent_signals is None:
                with trio.fail_after(10 * ROUND):
                    await self.round()
                await trio.sleep(0.3)  # for what closes in the background, threads perhaps
                self.quiet.append(Sample.now(collect=True))
            await self.conclude()
            nursery.cancel_scope.cancel()

    # The books

    async def server_books(self) -> Counter[str]:
        """What the server has counted, when it has nothing left to count."""
        last: Counter[str] = Counter()
        async with httpx.AsyncClient(trust_env=False) as http:
            while True:
                books: Counter[str] = Counter((await http.get(f"{self.url}/books")).json())
                if books == last:
                    return books
                last = books
                await trio.sleep(0.5)

    async def conclude(self) -> None:
        """Print the books, and end with the status that they give."""
        server = await self.server_books()
        descriptors = server.pop("descriptors")
        warm = next(each for each in self.quiet if each.time - self.start >= self.seconds / 4)
        last, seen = self.quiet[-1], self.http.seen
        self.http.check("recalled", seen["recalled"], self.http.statistics["recalled"])
        ended = self.http.told["finished"] + self.pool.told["finished"]
        self.http.check("tasks ended, and told of", ended, self.telemetry.spans, self.telemetry.measured())
        faults = [*self.http.balance("requests"), *self.pool.balance("processes")]
        faults += self.compare(server, warm, last)
        print(f"{len(self.quiet)} rounds; {sum(self.signals.values())} signals: {dict(self.signals)}")
        print(f"{'':12}{'MiB':>8}{'descriptors':>14}{'tasks':>8}{'objects':>10}")
        quarters = {f"{25 * n} %": self.quiet[n * (len(self.quiet) - 1) // 4] for n in range(5)}
        for name, sample in {
            **quarters,
            "warm": warm,
            "last": last,
            "busiest": Sample.most(self.busy),
        }.items():
            print(f"{name:12}{sample}")
        for name, books in (("requests", self.http), ("processes", self.pool)):
            print(f"{name}:")
            print("  told      ", dict(books.told))
            print("  statistics", dict(books.statistics))
            print("  seen      ", dict(books.seen))
        print(f"  processes killed: {self.killed}")
        print("adaptive limit:", self.adaptive.statistics())
        print(f"telemetry: {self.telemetry.spans} spans")
        print(f"server, with {descriptors} descriptors:")
        print("  received  ", server.total(), dict(server))
        print("sent by the client", seen["sent"])
        print("\n".join(["wrong:", *faults] if faults else ["all agree"]), flush=True)
        self.failed = bool(faults)

    def compare(self, server: Counter[str], warm: Sample, last: Sample) -> Iterator[str]:
        """What grew, and where client and server do not agree."""
        if last.memory >= 1.05 * warm.memory:
            yield f"memory: {warm.memory} bytes, then {last.memory}"
        if last.descriptors != warm.descriptors:
            yield f"descriptors: {warm.descriptors}, then {last.descriptors}"
        if last.tasks != warm.tasks:
            yield f"trio tasks: {warm.tasks}, then {last.tasks}"
        if self.signals.total() != self.sent_signals:
            yield f"signals: {self.sent_signals} sent, {self.signals.total()} received"
        seen = self.http.seen
        if server.total() != seen["sent"]:
            yield f"requests: {seen['sent']} sent, {server.total()} received"
        if seen["calls"] != seen["sent"] + seen["not sent"]:
            yield f"requests: {seen['calls']} calls, {seen['sent']} sent, {seen['not sent']} not sent"
        did = {
            "answered": server["ok"] + server["slow"],
            "busy": server["busy"],
            "broken": server["drop"] + server["cut"],
        }
        for kind, count in did.items():
            if seen[kind] > count:
                yield f"{kind}: {seen[kind]} seen by the client, {count} by the server"
        missed = server.total() - sum(seen[kind] for kind in did)
        if missed != seen["given up"]:
            yield f"not seen by the client: {missed}, of which it gave up {seen['given up']}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        client = Client(sys.argv[1], float(sys.argv[2]), Path(folder, "values"))
        trio.run(client.work)
    sys.exit(client.failed)
