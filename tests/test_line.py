"""Slots: who gets the next one, with a limiter of the manager's own and with one that was given."""

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, Failure, KeyedLimit, RetriableError, RetryConfig, StopReason, TaskHandle
from trio_conman._books.handles import DONE, Slot, new_handle
from trio_conman._limits.keyring import Keyring
from trio_conman._limits.line import Line

Limit: TypeAlias = int | float | trio.CapacityLimiter
MakeLimit: TypeAlias = Callable[[int], Limit]


def own(tokens: int) -> Limit:
    return tokens


def given(tokens: int) -> Limit:
    return trio.CapacityLimiter(tokens)


each_kind = pytest.mark.parametrize("limit_of", [own, given])


class Log:
    """When which task started; and the tasks that write it."""

    def __init__(self) -> None:
        self.entries: list[tuple[float, str]] = []
        self.failed: set[str] = set()

    def __call__(self, entry: str) -> None:
        self.entries.append((trio.current_time(), entry))

    def starts(self) -> Counter[float]:
        return Counter(when for when, _ in self.entries)

    async def job(self, name: str, seconds: float) -> None:
        self(name)
        await trio.sleep(seconds)

    async def flaky(self, name: str, seconds: float, delay: float) -> None:
        """Fail once, and be run again `delay` seconds later."""
        again = name in self.failed
        self(f"{name} again" if again else name)
        await trio.sleep(seconds)
        if not again:
            self.failed.add(name)
            config = RetryConfig(initial_delay=delay, max_delay=delay, max_attempts=1, jitter=False)
            raise RetriableError(f"{name} failed", retry_config=config)

    async def submit(
        self, cm: ConMan[None], name: str, seconds: float, scope: trio.CancelScope | None = None
    ) -> None:
        """Submit a job, unless `scope` is cancelled before it has a slot."""
        with scope or trio.CancelScope():
            await cm.run(self.job, name, seconds)
            return
        self(f"{name} gives up")


@pytest.fixture
def log() -> Log:
    return Log()


@each_kind
async def test_a_slot_is_passed_on_as_soon_as_it_is_free(
    limit_of: MakeLimit, autojump_clock: MockClock, log: Log
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(4)) as cm:
        for index, seconds in enumerate([10, 6, 4, 1, 1, 1]):
            await cm.run(log.job, str(index), seconds)
    assert log.entries == [(0, "0"), (0, "1"), (0, "2"), (0, "3"), (1, "4"), (2, "5")]
    assert [outcome.index for outcome in cm.outcomes()] == [3, 4, 5, 2, 1, 0]
    assert trio.current_time() == 10


@each_kind
async def test_first_come_first_served(limit_of: MakeLimit, autojump_clock: MockClock, log: Log) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        await cm.run(log.job, "long", 20)
        await cm.run(log.job, "0", 1)
        for number in range(1, 20):
            nursery.start_soon(log.submit, cm, str(number), 1)
            await wait_all_tasks_blocked()
        assert cm.statistics().waiting == 19
    assert log.entries == [(0, "long"), *((number, str(number)) for number in range(20))]
    assert [outcome.waited for outcome in sorted(cm.outcomes(), key=lambda o: o.index)] == [0, *range(20)]


@each_kind
async def test_run_nowait_overtakes_nobody(limit_of: MakeLimit, autojump_clock: MockClock, log: Log) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        await cm.run(log.job, "first", 1)
        await cm.run(log.job, "long", 10)
        nursery.start_soon(log.submit, cm, "waits", 1)
        # On the tick on which a slot gets free, and those after it.
        await trio.sleep(1)
        for _ in range(5):
            with pytest.raises(trio.WouldBlock):
                cm.run_nowait(log.job, "overtakes", 1)
            await trio.lowlevel.checkpoint()
    assert log.entries == [(0, "first"), (0, "long"), (1, "waits")]


@each_kind
async def test_a_cancelled_waiter_takes_no_slot_with_it(
    limit_of: MakeLimit, autojump_clock: MockClock, log: Log
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        long = await cm.run(log.job, "long", math.inf)
        await cm.run(log.job, "a", 2)
        await log.submit(cm, "b", 1, trio.move_on_after(1))
        await log.submit(cm, "c", 1)
        await trio.sleep(1)
        long.cancel()
        await cm.wait()
        assert cm.statistics().submitted == 3
    assert log.entries == [(0, "long"), (0, "a"), (1, "b gives up"), (2, "c")]
    assert trio.current_time() == 3


@each_kind
async def test_a_waiter_that_leaves_the_middle_of_the_line_disturbs_nobody(
    limit_of: MakeLimit, autojump_clock: MockClock, log: Log
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        await cm.run(log.job, "long", 10)
        await cm.run(log.job, "a", 3)
        for number in range(6):
            # Those with an odd number lose patience, the last in line first.
            patience = 6 - number if number % 2 else math.inf
            nursery.start_soon(log.submit, cm, str(number), 1, trio.move_on_after(patience / 3))
            await wait_all_tasks_blocked()
    gave_up = [(1 / 3, "5 gives up"), (1, "3 gives up"), (5 / 3, "1 gives up")]
    assert log.entries == [(0, "long"), (0, "a"), *gave_up, (3, "0"), (4, "2"), (5, "4")]


@each_kind
async def test_a_waiter_cancelled_as_its_slot_gets_free_runs_once_or_not_at_all(
    limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async def cancel(scope: trio.CancelScope, ticks: int) -> None:
        await trio.sleep(1)
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    endings: set[str] = set()
    for round_number in range(100):
        log, scope, start = Log(), trio.CancelScope(), trio.current_time()
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
            await cm.run(log.job, "long", 5)
            await cm.run(log.job, "a", 1)
            nursery.start_soon(cancel, scope, round_number % 5)
            nursery.start_soon(log.submit, cm, "b", 1, scope)
            await wait_all_tasks_blocked()
            nursery.start_soon(log.submit, cm, "c", 1)
        when = {name: seconds - start for seconds, name in log.entries}
        (b,) = {"b", "b gives up"} & set(when)
        assert when == {"long": 0, "a": 0, b: 1, "c": 2 if b == "b" else 1}
        assert len(log.entries) == 4
        assert trio.current_time() - start == 5
        endings.add(b)
    assert endings == {"b", "b gives up"}


@each_kind
async def test_a_task_back_from_its_backoff_goes_before_those_that_have_not_started(
    limit_of: MakeLimit, autojump_clock: MockClock, log: Log
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        await cm.run(log.job, "long", 20)
        await cm.run(log.flaky, "a", 1, 2)
        for name in "bcd":
            nursery.start_soon(log.submit, cm, name, 5)
            await wait_all_tasks_blocked()
        await trio.sleep(4)
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(log.job, "overtakes", 1)
    assert log.entries == [(0, "long"), (0, "a"), (1, "b"), (6, "a again"), (7, "c"), (12, "d")]


@each_kind
async def test_tasks_back_from_their_backoff_are_served_in_the_order_of_their_return(
    limit_of: MakeLimit, autojump_clock: MockClock, log: Log
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        await cm.run(log.job, "long", 20)
        await cm.run(log.flaky, "a", 1, 6)  # back at 7
        await cm.run(log.flaky, "b", 1, 4)  # back at 6
        nursery.start_soon(log.submit, cm, "c", 8)
        await wait_all_tasks_blocked()
        nursery.start_soon(log.submit, cm, "d", 1)
    assert log.entries == [
        (0, "long"),
        (0, "a"),
        (1, "b"),
        (2, "c"),
        (10, "b again"),
        (11, "d"),  # their turn and that of the line
        (12, "a again"),
    ]


@each_kind
async def test_a_task_cancelled_at_the_head_of_the_line_leaves_it(
    limit_of: MakeLimit, autojump_clock: MockClock, log: Log
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        await cm.run(log.job, "long", 20)
        flaky = await cm.run(log.flaky, "a", 1, 1)
        await cm.run(log.job, "b", 5)
        nursery.start_soon(log.submit, cm, "c", 1)
        await trio.sleep_until(4)
        assert flaky.state == "backing_off"
        assert cm.statistics().backing_off == 1
        flaky.cancel()
        outcome = await flaky.wait()
        assert trio.current_time() == 4
        assert isinstance(outcome, Failure)
        assert (str(outcome.error), outcome.reason) == ("a failed", StopReason.CANCELLED)
    assert log.entries == [(0, "long"), (0, "a"), (1, "b"), (6, "c")]


@each_kind
async def test_lowering_the_limit_ends_nobody_and_starts_nobody_too_early(
    limit_of: MakeLimit, autojump_clock: MockClock, log: Log
) -> None:
    async def feed(cm: ConMan[None]) -> None:
        for number in range(8):
            await cm.run(log.job, str(number), 2 if number < 4 else 1)

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(4)) as cm:
        nursery.start_soon(feed, cm)
        await trio.sleep(0.5)
        cm.limit = 3
        await trio.sleep(0.5)
        cm.limit = 2
        assert cm.limit == 2
        assert cm.statistics().running == 4
        await trio.sleep(2.5)
    assert log.starts() == {0: 4, 2: 2, 3: 2}
    assert len(cm.outputs()) == 8
    assert trio.current_time() == 4


@each_kind
async def test_raising_the_limit_starts_at_once_as_many_as_fit(
    limit_of: MakeLimit, autojump_clock: MockClock, log: Log
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        for number in range(6):
            nursery.start_soon(log.submit, cm, str(number), 10)
        await trio.sleep(1)
        cm.limit = 4
        await trio.sleep(1)
        assert log.starts() == {0: 2, 1: 2}
    assert log.starts() == {0: 2, 1: 2, 10: 2}


@each_kind
async def test_the_limit_may_become_infinite_and_finite_again(
    limit_of: MakeLimit, autojump_clock: MockClock, log: Log
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        for number in range(7):
            nursery.start_soon(log.submit, cm, str(number), 10)
        await trio.sleep(1)
        cm.limit = math.inf
        await trio.sleep(1)
        assert cm.statistics().limit == math.inf
        cm.limit = 3
        for number in range(7):
            nursery.start_soon(log.submit, cm, str(number), 10)
        await wait_all_tasks_blocked()
    assert log.starts() == {0: 2, 1: 5, 11: 3, 21: 3, 31: 1}


@each_kind
async def test_a_limit_raised_and_lowered_at_once_has_started_who_fitted(
    limit_of: MakeLimit, autojump_clock: MockClock, log: Log
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        for number in range(6):
            nursery.start_soon(log.submit, cm, str(number), 10)
        await trio.sleep(1)
        for limit in (3, 2, 4, 2):
            cm.limit = limit
            # A given limiter hands its tokens over by way of a trio task.
            await wait_all_tasks_blocked()
    assert log.starts() == {0: 2, 1: 2, 11: 2}


@each_kind
async def test_the_limit_of_an_idle_manager_can_be_changed(
    limit_of: MakeLimit, autojump_clock: MockClock, log: Log
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(5)) as cm:
        for at, limit in enumerate([5, 3, 4, 2, 6]):
            cm.limit = limit
            for number in range(10):
                nursery.start_soon(log.submit, cm, str(number), 10)
            await wait_all_tasks_blocked()
            assert log.starts()[trio.current_time()] == limit, at
            await cm.wait()


@each_kind
async def test_a_task_may_change_the_limit(limit_of: MakeLimit, autojump_clock: MockClock, log: Log) -> None:
    async def raise_limit(cm: ConMan[None]) -> None:
        await trio.sleep(1)
        cm.limit += 2
        await trio.sleep(9)

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        await cm.run(raise_limit, cm)
        for number in range(4):
            await cm.run(log.job, str(number), 10)
    assert log.starts() == {0: 1, 1: 2, 10: 1}


@each_kind
@pytest.mark.parametrize("seed", range(10))
async def test_nobody_waits_while_a_slot_is_free(
    limit_of: MakeLimit, seed: int, autojump_clock: MockClock
) -> None:
    rng, log = random.Random(seed), Log()
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(4)) as cm:
        for number in range(200):
            match rng.randrange(10):
                case 0:
                    cm.limit = rng.choice([2, 3, 4, 8, 20])
                case 1:
                    await cm.run(log.flaky, str(number), rng.randrange(1, 5), rng.randrange(1, 9))
                case 2 | 3:
                    scope = trio.move_on_after(rng.randrange(1, 9))
                    nursery.start_soon(log.submit, cm, str(number), rng.randrange(1, 9), scope)
                case 4 | 5 | 6:
                    nursery.start_soon(log.submit, cm, str(number), rng.randrange(1, 9))
                case 7:
                    (await cm.run(log.job, str(number), 9)).cancel()
                case _:
                    await trio.sleep(rng.randrange(1, 4))
            await wait_all_tasks_blocked()
            now = cm.statistics()
            assert now.waiting == 0 or now.running + now.backing_off >= now.limit
    gave_up = sum(entry.endswith("gives up") for _, entry in log.entries)
    assert gave_up
    assert cm.statistics().submitted + gave_up <= 200


def test_who_borrows_a_token_says_for_which_manager() -> None:
    assert repr(Slot("fetcher")) == "<a slot of fetcher>"


@pytest.mark.parametrize("where", ["queue", "lane", "beside"])
def test_who_leaves_a_line_while_it_is_closed_is_told_nothing(where: str) -> None:
    def tell(handle: TaskHandle[Any], slot: Slot | None) -> bool:
        told.append((handle.name, slot))
        line.leave(second)
        return False

    told: list[tuple[str, Slot | None]] = []
    limit = KeyedLimit(1, key=str)
    line = Line("one", trio.CapacityLimiter(2), False, None if where == "queue" else Keyring((limit,)))
    first, second = handles = [new_handle(name, (), trio.sleep, DONE, 0.0) for name in ("first", "second")]
    for handle in handles:
        if where == "beside":
            line.park(handle, tell)
        else:
            handle._keys = None if where == "queue" else limit._enter("a")
            line.join(handle, tell)
    line.close()
    assert told == [(first.name, None)]
    assert line.queued() == []
