"""Retries run through a manager: who has the slot of a task that backs off."""

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import manager
from tests.retried import Flaky, doubling, every, group
from trio_conman import ConMan, RetriableError, RetryConfig, TaskHandle


async def parked(cm: ConMan[Any]) -> TaskHandle[Any]:
    """Occupies one slot, until it is cancelled."""
    handle: TaskHandle[Any] = await cm.run(trio.sleep_forever)
    return handle


@pytest.mark.parametrize("hold_slot, start_of_other", [(False, 0), (True, 10)])
async def test_a_task_that_backs_off_gives_its_slot_to_others_unless_it_holds_it(
    autojump_clock: MockClock, hold_slot: bool, start_of_other: float
) -> None:
    flaky, other = Flaky(RetriableError("no")), Flaky(seconds=1)
    async with manager() as cm:
        park = await parked(cm)
        await cm.run(flaky, retry=every(10, hold_slot=hold_slot))
        await cm.run(other)
        await trio.sleep_until(20)
        park.cancel()
    assert flaky.calls == [0, 10]
    assert other.calls == [start_of_other]


async def test_one_error_in_a_group_that_holds_the_slot_is_enough(autojump_clock: MockClock) -> None:
    configs = every(10), every(1, hold_slot=True)
    flaky = Flaky(group(*(RetriableError("no", retry_config=config) for config in configs)))
    other = Flaky()
    async with manager() as cm:
        park = await parked(cm)
        await cm.run(flaky)
        await cm.run(other)
        park.cancel()
    assert flaky.calls == [0, 10]
    assert other.calls == [10]


@pytest.mark.parametrize(
    "config",
    [
        RetryConfig.none(max_attempts=2),
        doubling(initial_delay=0, max_attempts=2),
        every(9, max_attempts=2, retry_on=lambda _: 0),
        every(9, max_attempts=2, retry_on=lambda _: 0.0),
    ],
)
async def test_a_delay_of_zero_keeps_the_slot(autojump_clock: MockClock, config: RetryConfig) -> None:
    error = RetriableError if config.retry_on is None else ValueError
    flaky, other = Flaky(lambda: error("no"), forever=True, seconds=1), Flaky()
    async with manager() as cm:
        park = await parked(cm)
        await cm.run(flaky, retry=config)
        await cm.run(other)
        park.cancel()
    assert flaky.calls == [0, 1, 2]
    assert other.calls == [3]


async def test_tasks_back_from_their_backoff_and_those_in_the_line_take_turns(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def job(name: str, seconds: float) -> None:
        record.append((name, trio.current_time()))
        await trio.sleep(seconds)

    async def flaky(name: str, delay: float) -> None:
        again = name in [each for each, _ in record]
        record.append((name, trio.current_time()))
        if not again:
            raise RetriableError("no", retry_config=every(delay))

    async with manager() as cm, trio.open_nursery() as callers:
        park = await parked(cm)
        await cm.run(flaky, "late", 3)
        await cm.run(flaky, "early", 2)
        await cm.run(job, "long", 5)
        for name in ("first", "second"):
            callers.start_soon(cm.run, job, name, 1)
            await wait_all_tasks_blocked()
        await trio.sleep_until(10)
        park.cancel()
    assert record == [
        ("late", 0),
        ("early", 0),
        ("long", 0),
        ("early", 5),
        ("first", 5),
        ("late", 6),
        ("second", 6),
    ]


@pytest.mark.parametrize("limit", [3, 300])
async def test_no_more_tasks_than_the_limit_back_off_without_a_slot(
    limit: int, autojump_clock: MockClock
) -> None:
    tasks = [Flaky(RetriableError("no")) for _ in range(2 * limit + 1)]

    async def feed() -> None:
        for task in tasks:
            await cm.run(task, retry=every(10))

    async with manager(limit) as cm, trio.open_nursery() as callers:
        callers.start_soon(feed)
        await trio.sleep(5)
        statistics = cm.statistics()
        # As many as the limit gave their slots back to as many that keep them: the last one waits.
        assert (statistics.backing_off, statistics.running, statistics.waiting) == (2 * limit, 0, 1)
        assert [len(task.calls) for task in tasks] == [1] * 2 * limit + [0]
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(trio.sleep, 0)
    assert [task.calls for task in tasks] == [[0, 10]] * 2 * limit + [[10, 20]]
    assert cm.outputs() == ["done"] * len(tasks)


async def test_a_task_keeps_its_slot_when_more_than_a_lowered_limit_are_without(
    autojump_clock: MockClock,
) -> None:
    early = [Flaky(RetriableError("no")) for _ in range(4)]
    late = Flaky(RetriableError("no"), seconds=2)
    async with manager(4) as cm:
        for task in early:
            await cm.run(task, retry=every(10))
        parks = [await parked(cm) for _ in range(3)]
        await cm.run(late, retry=every(1))
        await trio.sleep(1)
        cm.limit = 2
        await trio.sleep_until(20)
        for park in parks:
            park.cancel()
    assert late.calls == [0, 3]
    assert [task.calls for task in early] == [[0, 20]] * 4


async def test_a_task_may_give_its_slot_back_again_when_another_has_taken_one_again(
    autojump_clock: MockClock,
) -> None:
    async def run(cm: ConMan[Any], delay: float) -> Flaky:
        task = Flaky(RetriableError("no"), seconds=0)
        await cm.run(task, retry=every(delay))
        return task

    async with manager() as cm:
        park = await parked(cm)
        tasks = [await run(cm, delay) for delay in (4, 20, 30)]  # the third keeps its slot: two are without
        park.cancel()
        await trio.sleep(5)  # the first is done
        tasks.append(await run(cm, 40))  # in the slot that was parked; gives it back
        tasks.append(Flaky())
        await cm.run(tasks[-1])
    assert [task.calls for task in tasks] == [[0, 4], [0, 20], [0, 30], [5, 45], [5]]


async def test_without_a_limit_all_back_off_without_a_slot(autojump_clock: MockClock) -> None:
    tasks = [Flaky(RetriableError("no")) for _ in range(50)]
    async with manager(math.inf, retry=every(10)) as cm:
        for task in tasks:
            await cm.run(task)
        await trio.sleep(5)
        assert (cm.statistics().backing_off, cm.statistics().running) == (50, 0)
    assert [task.calls for task in tasks] == [[0, 10]] * 50


async def test_a_lowered_limit_holds_for_those_that_come_back(autojump_clock: MockClock) -> None:
    tasks = [Flaky(RetriableError("no"), seconds=2) for _ in range(4)]
    async with manager(4, retry=every(10)) as cm:
        for task in tasks:
            await cm.run(task)
        await trio.sleep(5)
        cm.limit = 2
    assert [task.calls[0] for task in tasks] == [0] * 4
    assert sorted(task.calls[1] for task in tasks) == [12, 12, 14, 14]


async def test_a_raised_limit_serves_those_that_wait_to_come_back_first(autojump_clock: MockClock) -> None:
    flaky, other = Flaky(RetriableError("no")), Flaky(seconds=1)
    async with manager() as cm, trio.open_nursery() as callers:
        await cm.run(trio.sleep, 20)
        await cm.run(flaky, retry=every(1))
        await cm.run(trio.sleep, 20)
        callers.start_soon(cm.run, other)
        await trio.sleep(5)
        cm.limit = 3
    assert flaky.calls == [0, 5]
    assert other.calls == [5]


async def test_a_slot_that_comes_as_one_that_waits_for_it_is_cancelled_is_the_next_ones(
    autojump_clock: MockClock,
) -> None:
    flaky, other = Flaky(RetriableError("no")), Flaky()
    async with manager() as cm:
        park = await parked(cm)
        handle = await cm.run(flaky, retry=every(1))
        parks = [park, await parked(cm)]
        cm.start_soon(other)
        await trio.sleep(2)
        handle.cancel()
        cm.limit = 3
        await trio.sleep(3)
        for park in parks:
            park.cancel()
    assert (flaky.calls, other.calls) == ([0], [2])
