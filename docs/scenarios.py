"""What the timelines of the docs show: each is a real run of the library, on a virtual clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import trio
from trio.testing import MockClock

from trio_conman import (
    ConMan,
    Failure,
    Instrument,
    Outcome,
    RetriableError,
    RetryConfig,
    StopReason,
    TaskHandle,
)

SAID = {
    "waiting": "waits",
    "running": "runs",
    "sleeping": "sleeps in its slot",
    "backing off": "backs off",
    "ready": "is ready, not yet taken",
}


@attrs.define
class Row:
    """What happened to one task."""

    name: str
    spans: list[tuple[str, float, float]] = attrs.Factory(list)  # state, from, to
    # success, failure, cancelled or unknown; when; the reason of a failure
    end: tuple[str, float, str] | None = None
    state: str = "waiting"
    since: float = 0.0

    def becomes(self, state: str, now: float) -> None:
        if now > self.since:
            self.spans.append((self.state, self.since, now))
        self.state, self.since = state, now

    def __str__(self) -> str:
        told = [f"{SAID[state]} {since:g}-{until:g}" for state, since, until in self.spans]
        if self.end is not None:
            kind, when, reason = self.end
            told.append(f"{kind} at {when:g}" + f" ({reason})" * bool(reason))
        return f"{self.name}: {', '.join(told)}"


class Timeline(Instrument):
    """Notes what happens to the tasks of a manager, each by its name or its only argument."""

    def __init__(self) -> None:
        self.start = trio.current_time()
        self.rows: dict[str, Row] = {}
        self.moments: list[tuple[float, str]] = []

    def now(self) -> float:
        return round(trio.current_time() - self.start, 3)

    def moment(self, text: str) -> None:
        """Note something that happens to all of them."""
        self.moments.append((self.now(), text))

    def taken(self, outcome: Outcome[Any]) -> None:
        """Note that the consumer has got it."""
        self.row(outcome).becomes("taken", self.now())

    def row(self, task: TaskHandle[Any] | Outcome[Any]) -> Row:
        return self.named(str(*task.args) or task.name)

    def named(self, name: str) -> Row:
        return self.rows.setdefault(name, Row(name, since=self.now()))

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        self.row(handle)

    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        self.row(handle).becomes("running", self.now())

    def retry_scheduled(self, handle: TaskHandle[Any], error: Exception, delay: float) -> None:
        self.row(handle).becomes("backing off", self.now())

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        row, now = self.row(handle), self.now()
        row.becomes("ready", now)
        if not isinstance(outcome, Failure):
            row.end = ("success", now, "")
        elif outcome.reason is StopReason.CANCELLED:
            row.end = ("cancelled", now, "")
        else:
            row.end = ("failure", now, outcome.reason.name)


def job(seconds: float, fails: int = 0) -> Callable[[], Awaitable[None]]:
    """A task that takes so long, and so many times asks for a retry."""
    left = iter(range(fails))

    async def run() -> None:
        await trio.sleep(seconds)
        if next(left, None) is not None:
            raise RetriableError("busy")

    return run


def waits(seconds: float, **fields: Any) -> RetryConfig:
    """Retries after that many seconds."""
    return RetryConfig(initial_delay=seconds, backoff_factor=1, max_delay=seconds, jitter=False, **fields)


def pages() -> dict[str, Callable[[], Awaitable[None]]]:
    """Two that are busy at first, three that are there, and one that hangs.

    No two events are at one time: which of them came first would be for trio to choose.
    """
    return {
        "home": job(1, fails=1),
        "news": job(1.5, fails=1),
        "shop": job(2.25),
        "blog": job(1),
        "jobs": job(1.5),
        "help": job(99),
    }


async def by_hand(timeline: Timeline) -> None:
    limiter, work = trio.CapacityLimiter(2), pages()

    async def fetch(name: str, page: Callable[[], Awaitable[None]]) -> None:
        row = timeline.named(name)
        try:
            while row.end is None:
                row.becomes("running", timeline.now())
                try:
                    await page()
                    row.end = ("success", timeline.now(), "")
                except RetriableError:
                    row.becomes("sleeping", timeline.now())
                    await trio.sleep(2)
        finally:
            row.becomes("done", timeline.now())
            limiter.release_on_behalf_of(name)

    with trio.move_on_after(7):
        async with trio.open_nursery() as nursery:
            for name in work:
                timeline.named(name)
            for name, page in work.items():
                await limiter.acquire_on_behalf_of(name)
                nursery.start_soon(fetch, name, page)
    timeline.moment("timeout")
    for row in timeline.rows.values():
        row.end = row.end or ("unknown", timeline.now(), "")


async def with_a_manager(timeline: Timeline) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(
            nursery, limit=2, retry=waits(2), timeout=7, instruments=[timeline]
        ) as cm:
            for name, page in pages().items():
                cm.start_soon(page, name=name)
        timeline.moment("timeout")


async def slots(timeline: Timeline, *, hold_slot: bool = False) -> None:
    retry = waits(3, hold_slot=hold_slot)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit=2, retry=retry, instruments=[timeline]) as cm:
            cm.start_soon(job(1, fails=1), name="a")
            cm.start_soon(job(5), name="b")
            cm.start_soon(job(2), name="c")
            cm.start_soon(job(2.5), name="d")
            cm.start_soon(job(1), name="e")


async def deadlines(timeline: Timeline) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit=4, timeout=6, instruments=[timeline]) as cm:
            cm.start_soon(job(9), name="attempt", attempt_timeout=2)
            cm.start_soon(job(9), name="retried", attempt_timeout=1.5, task_timeout=5, retry=waits(0.5))
            cm.start_soon(job(9), name="manager")
            cm.start_soon(job(1, fails=9), name="too late", retry=waits(5))
        timeline.moment("timeout")


async def cancellation(timeline: Timeline) -> None:
    async def clean_up() -> None:
        try:
            await trio.sleep(9)
        finally:
            with trio.move_on_after(9, shield=True):
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit=3, retry=waits(4), instruments=[timeline]) as cm:
            cm.start_soon(job(2), name="done")
            cm.start_soon(job(1, fails=1), name="backing off")
            cm.start_soon(clean_up, name="cleaning up")
            cm.start_soon(job(9), name="running")
            cm.start_soon(job(9), name="running too")
            cm.start_soon(job(9), name="queued")
            await trio.sleep(4)
            timeline.moment("cm.cancel()")
            cm.cancel()
        timeline.moment("the block ends")


async def order(timeline: Timeline, *, ordered: bool) -> None:
    seconds = {"item 0": 4.0, "item 1": 1.0, "item 2": 1.5, "item 3": 0.5, "item 4": 1.0, "item 5": 1.0}

    async def fetch(item: str) -> None:
        await trio.sleep(seconds[item])

    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, limit=2, instruments=[timeline]) as cm,
        cm.map(fetch, seconds, ordered=ordered) as outcomes,
    ):
        async for outcome in outcomes:
            timeline.taken(outcome)


async def backpressure(timeline: Timeline) -> None:
    send, receive = trio.open_memory_channel[Outcome[None]](0)

    async def consume() -> None:
        async for outcome in receive:
            timeline.taken(outcome)
            await trio.sleep(1.5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        async with ConMan[None].open(nursery, limit=2, send_to=send, instruments=[timeline]) as cm:
            for number in range(1, 7):
                await cm.run(job(1 + number * 0.1), name=f"task {number}")


SCENARIOS: dict[str, Callable[[Timeline], Awaitable[None]]] = {
    "by_hand": by_hand,
    "with_a_manager": with_a_manager,
    "slots": slots,
    "hold_slot": partial(slots, hold_slot=True),
    "deadlines": deadlines,
    "cancellation": cancellation,
    "completion_order": partial(order, ordered=False),
    "submission_order": partial(order, ordered=True),
    "backpressure": backpressure,
}


def run(scenario: str) -> Timeline:
    """What happens in a scenario."""

    async def main() -> Timeline:
        timeline = Timeline()
        await SCENARIOS[scenario](timeline)
        return timeline

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def told(timeline: Timeline) -> tuple[str, ...]:
    """What it shows, as text."""
    return (*map(str, timeline.rows.values()), *(f"{text} at {when:g}" for when, text in timeline.moments))
