"""Slots of a limiter that a manager shares, with other managers and with whoever else uses it."""

import math
import random
from collections import Counter
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, KeyedLimit, RetriableError, RetryConfig, TaskCancelledError


class Users:
    """Everybody who uses one limiter: when who had a token, and that never too many had one."""

    def __init__(self, tokens: float) -> None:
        self.limiter = trio.CapacityLimiter(tokens)
        self.running = 0
        self.starts: list[tuple[float, str]] = []

    async def job(self, name: str, seconds: float) -> None:
        self.starts.append((trio.current_time(), name))
        self.running += 1
        assert self.running <= self.limiter.total_tokens
        try:
            await trio.sleep(seconds)
        finally:
            self.running -= 1

    async def feed(self, cm: ConMan[None], name: str, count: int, seconds: float = 1) -> None:
        for _ in range(count):
            await cm.run(self.job, name, seconds)

    async def foreigner(self, name: str, count: int, seconds: float = 1) -> None:
        """Uses the limiter without a manager, and asks again as soon as it has given back."""
        for _ in range(count):
            async with self.limiter:
                await self.job(name, seconds)

    def by_time(self) -> dict[float, Counter[str]]:
        when: dict[float, Counter[str]] = {}
        for seconds, name in self.starts:
            when.setdefault(seconds, Counter())[name] += 1
        return when


async def test_an_idle_manager_keeps_nothing_of_a_given_limiter(autojump_clock: MockClock) -> None:
    users = Users(3)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, users.limiter) as cm:
        for _ in range(2):
            await users.feed(cm, "a", 5)
            assert users.limiter.borrowed_tokens == 3 - 1
            await cm.wait()
            await wait_all_tasks_blocked()
            assert users.limiter.borrowed_tokens == users.limiter.statistics().tasks_waiting == 0
    assert trio.current_time() == 4


async def test_waiters_that_have_left_do_not_wait_in_the_limiter(autojump_clock: MockClock) -> None:
    users = Users(2)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, users.limiter) as cm:
        nursery.start_soon(users.foreigner, "f", 1, 10)
        nursery.start_soon(users.foreigner, "g", 1, 10)
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            async with trio.open_nursery() as feeders:
                for _ in range(3):
                    feeders.start_soon(users.feed, cm, "a", 1)
        await wait_all_tasks_blocked()
        assert users.limiter.statistics().tasks_waiting == 0
        # Nor does one who left keep those who come later from waiting.
        await users.feed(cm, "b", 1)
    assert users.by_time() == {0: {"f": 1, "g": 1}, 10: {"b": 1}}


async def test_who_has_the_token_of_a_task_that_has_handed_it_in_does_not_wait_in_the_limiter_too(
    autojump_clock: MockClock,
) -> None:
    users = Users(1)

    async def hand_in() -> None:
        cm.start_soon(users.job, "b", 1)

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, users.limiter) as cm:
        cm.start_soon(hand_in)
        await wait_all_tasks_blocked()
        assert users.starts == [(0, "b")]
        assert users.limiter.borrowed_tokens == 1
        assert users.limiter.statistics().tasks_waiting == 0


async def test_a_retry_that_has_left_does_not_wait_in_the_limiter(autojump_clock: MockClock) -> None:
    async def fails() -> None:
        raise RetriableError("no", retry_config=RetryConfig.linear(initial_delay=1, jitter=False))

    users = Users(1)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, users.limiter) as cm:
        handle = await cm.run(fails)
        nursery.start_soon(users.foreigner, "f", 1, 9)
        await trio.sleep(2)
        assert users.limiter.statistics().tasks_waiting == 1
        handle.cancel()
        await wait_all_tasks_blocked()
        assert users.limiter.statistics().tasks_waiting == 0


async def test_managers_that_share_a_limiter_take_turns(autojump_clock: MockClock) -> None:
    users = Users(2)
    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, users.limiter, name="a") as a,
        ConMan[None].open(nursery, users.limiter, name="b") as b,
        trio.open_nursery() as feeders,
    ):
        feeders.start_soon(users.feed, a, "a", 10)
        feeders.start_soon(users.feed, b, "b", 10)
    assert users.by_time() == {float(second): {"a": 1, "b": 1} for second in range(10)}


async def test_slots_that_get_free_together_are_shared_out_evenly(autojump_clock: MockClock) -> None:
    users = Users(10)
    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, users.limiter, name="a") as a,
        ConMan[None].open(nursery, users.limiter, name="b") as b,
        trio.open_nursery() as feeders,
    ):
        await users.feed(a, "a", 10)
        for _ in range(10):
            feeders.start_soon(users.feed, a, "a", 1)
            feeders.start_soon(users.feed, b, "b", 1)
    assert users.by_time() == {0: {"a": 10}, 1: {"a": 5, "b": 5}, 2: {"a": 5, "b": 5}}


async def test_the_longer_queue_gets_no_more_turns(autojump_clock: MockClock) -> None:
    users = Users(2)
    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, users.limiter, name="many") as many,
        ConMan[None].open(nursery, users.limiter, name="few") as few,
        trio.open_nursery() as feeders,
    ):
        await many.run(users.job, "long", 100)
        await many.run(users.job, "many", 1)
        for _ in range(20):
            feeders.start_soon(users.feed, many, "many", 1)
        await wait_all_tasks_blocked()
        feeders.start_soon(users.feed, few, "few", 5)
    order = [name for _, name in users.starts]
    # The envoy of the many was there first.
    assert order[:11] == ["long", "many", *["many", "few"] * 4, "many"]
    assert order[11:] == ["few", *["many"] * 15]
    assert [when for when, _ in users.starts[1:]] == list(range(26))


async def test_managers_and_foreign_users_of_a_limiter_take_turns(autojump_clock: MockClock) -> None:
    users = Users(2)
    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, users.limiter) as cm,
        trio.open_nursery() as feeders,
    ):
        feeders.start_soon(users.feed, cm, "managed", 12)
        feeders.start_soon(users.feed, cm, "managed", 12)
        await trio.sleep(0.5)
        feeders.start_soon(users.foreigner, "foreign", 12)
    turns = users.by_time()
    assert turns[0] == {"managed": 2}
    # From its first turn on the foreigner has one of the two each second; and then the manager has both.
    first = min(when for when, names in turns.items() if names["foreign"])
    assert first in (1, 2)
    assert all(turns[first + n] == {"managed": 1, "foreign": 1} for n in range(12))
    assert sum(names["managed"] for names in turns.values()) == 24
    assert trio.current_time() == 18


async def test_a_manager_gets_its_turn_among_many_foreign_users(autojump_clock: MockClock) -> None:
    users = Users(2)
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(users.foreigner, "foreign", 20)
        await trio.sleep(0.5)
        async with ConMan[None].open(nursery, users.limiter) as cm:
            await users.feed(cm, "managed", 5)
    turns = [when for when, name in users.starts if name == "managed"]
    # Behind the four that waited, and again behind those that are back from their turn.
    assert turns[0] == 3
    assert all(after - before <= 4 for before, after in pairwise(turns))


@pytest.mark.parametrize("by_manager", [True, False])
async def test_the_limit_of_a_shared_limiter_changes_for_all(
    by_manager: bool, autojump_clock: MockClock
) -> None:
    users = Users(2)

    def resize(cm: ConMan[None], limit: int) -> None:
        if by_manager:
            cm.limit = limit
        else:
            users.limiter.total_tokens = limit

    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, users.limiter) as a,
        ConMan[None].open(nursery, users.limiter) as b,
        trio.open_nursery() as feeders,
    ):
        await a.run(users.job, "a", 10)
        await b.run(users.job, "b", 10)
        for name, cm in (("a", a), ("b", b)):
            for _ in range(6):
                feeders.start_soon(users.feed, cm, name, 1, 10)
        await trio.sleep(1)
        resize(a, 6)
        assert a.limit == b.limit == b.statistics().limit == 6
        await trio.sleep(1)
        assert users.by_time() == {0: {"a": 1, "b": 1}, 1: {"a": 2, "b": 2}}
        # users.job would fail if it ran beside too many; those that run already do not look again.
        resize(b, 4)
    starts = {when: names.total() for when, names in users.by_time().items()}
    assert starts == {0: 2, 1: 4, 11: 4, 21: 4}
    assert a.errors() == b.errors() == []


async def test_nobody_overtakes_while_new_tokens_are_handed_over(autojump_clock: MockClock) -> None:
    users = Users(2)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, users.limiter) as cm:
        await users.feed(cm, "first", 2)
        for _ in range(3):
            nursery.start_soon(users.feed, cm, "waits", 1)
        await wait_all_tasks_blocked()
        # Of these three, one at most is on its way to the manager at any moment.
        users.limiter.total_tokens += 3
        for _ in range(10):
            with pytest.raises(trio.WouldBlock):
                cm.run_nowait(users.job, "overtakes", 1)
            await trio.lowlevel.checkpoint()
    assert users.by_time() == {0: {"first": 2, "waits": 3}}


async def test_the_end_of_a_manager_frees_its_slots_for_the_others(autojump_clock: MockClock) -> None:
    users = Users(2)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, users.limiter) as stays:
        async with trio.open_nursery() as feeders:
            async with ConMan[None].open(nursery, users.limiter) as goes:
                await users.feed(goes, "goes", 2, math.inf)
                feeders.start_soon(users.feed, stays, "stays", 3, 2)
                await trio.sleep(3)
                goes.cancel()
            assert trio.current_time() == 3
    assert users.by_time() == {0: {"goes": 2}, 3: {"stays": 2}, 5: {"stays": 1}}


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("limit", [1, 2])
async def test_a_manager_whose_tasks_wait_for_a_key_has_its_turns(
    limit: int, autojump_clock: MockClock
) -> None:
    """When its key is free again it is not overtaken by who has just had a slot."""
    users = Users(limit)
    keys = KeyedLimit(1, key=lambda *_: 0)
    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, users.limiter, per_key=keys) as keyed,
        ConMan[None].open(nursery, users.limiter) as plain,
    ):
        for _ in range(20):
            keyed.start_soon(users.job, "keyed", 1)
            plain.start_soon(users.job, "plain", 1)
    names = ["keyed", "plain"]
    had = {name: sum(users.by_time()[time].get(name, 0) for time in range(10)) for name in names}
    assert abs(had["keyed"] - had["plain"]) <= limit


@pytest.mark.parametrize("seed", range(10))
async def test_any_number_of_users_share_a_limiter_in_peace(seed: int, autojump_clock: MockClock) -> None:
    rng, users = random.Random(seed), Users(3)

    async def impatient(cm: ConMan[None], patience: float) -> None:
        with trio.move_on_after(patience):
            await users.feed(cm, "impatient", 3)

    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, users.limiter) as a,
        ConMan[None].open(nursery, users.limiter) as b,
        trio.open_nursery() as feeders,
    ):
        for _ in range(150):
            cm = rng.choice([a, b])
            match rng.randrange(6):
                case 0:
                    users.limiter.total_tokens += 1
                case 1:
                    feeders.start_soon(users.foreigner, "foreign", rng.randrange(4), rng.randrange(1, 4))
                case 2:
                    feeders.start_soon(users.feed, cm, "managed", rng.randrange(4), rng.randrange(1, 4))
                case 3:
                    feeders.start_soon(impatient, cm, rng.randrange(1, 6))
                case 4:
                    (await cm.run(users.job, "cancelled", 9)).cancel()
                case _:
                    await trio.sleep(rng.randrange(1, 3))
            await wait_all_tasks_blocked()
            free = users.limiter.available_tokens
            assert free == 0 or a.statistics().waiting == b.statistics().waiting == 0
    for cm in (a, b):
        assert {type(error) for error in cm.errors()} <= {TaskCancelledError}
    assert users.limiter.borrowed_tokens == users.limiter.statistics().tasks_waiting == 0


async def test_a_token_that_is_on_its_way_when_the_limit_drops_starts_nothing(
    autojump_clock: MockClock,
) -> None:
    limiter = trio.CapacityLimiter(2)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limiter) as cm:
        for _ in range(4):
            cm.start_soon(trio.sleep, 10)
        await trio.sleep(1)
        cm.limit = 3
        cm.limit = 2
        await trio.sleep(1)
        assert (cm.statistics().running, limiter.borrowed_tokens) == (2, 2)
    assert trio.current_time() == 20


async def test_when_nobody_waits_for_a_slot_nobody_waits_in_the_limiter(autojump_clock: MockClock) -> None:
    limiter = trio.CapacityLimiter(1)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limiter) as cm:
        for waiting in (1, 1, 0, 0):  # in the limiter; the first one runs, and three are in the line
            if not cm.statistics().submitted:
                for _ in range(3):
                    cm.start_soon(trio.sleep, 1)
            await trio.sleep(0.9)
            assert limiter.statistics().tasks_waiting == waiting


class Turns(trio.abc.Instrument):
    """Counts those of trio's loop."""

    count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_tokens_that_come_back_together_are_used_again_together(autojump_clock: MockClock) -> None:
    """Where nobody else waits for them: not one in each turn of trio's loop."""
    turns = Turns()
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, trio.CapacityLimiter(10)) as cm:
        for _ in range(100):
            cm.start_soon(trio.sleep, 1)
        trio.lowlevel.add_instrument(turns)
        await cm.wait()
        trio.lowlevel.remove_instrument(turns)
    assert trio.current_time() == 10
    assert turns.count <= 50
