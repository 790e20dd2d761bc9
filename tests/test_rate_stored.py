"""A rate limiter that goes on after a restart."""

import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.rated import manager, note
from trio_conman import RateLimiter
from trio_conman._base.texts import short


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The wall clock, which tests set."""
    clock = [1_800_000_000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    return clock


def restored(snapshot: dict[str, float]) -> RateLimiter:
    return RateLimiter.restore(json.loads(json.dumps(snapshot, allow_nan=False)))


def run(rate: RateLimiter, *permits: float) -> list[float]:
    """When so many permits can be had, one after the other, in a run of their own."""
    times: list[float] = []

    async def main() -> None:
        for each in permits:
            await rate.acquire(each)
            times.append(trio.current_time())

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return times


@pytest.mark.parametrize(
    "passed, times",
    [
        (0, [6, 7]),
        (2, [4, 5]),
        (6, [0, 1]),
        (8, [0, 0]),
        (1e9, [0, 0]),
        (-1, [6, 7]),  # the clock was set back
        (-1e9, [6, 7]),  # the clock was far ahead before
    ],
)
def test_what_is_owed_is_paid_off_by_the_wall_clock(
    passed: float, times: list[float], wall: list[float]
) -> None:
    rate = RateLimiter(1, burst=2)
    assert run(rate, 2, 4, 1) == [0, 2, 5]
    # The run is over, at 5; two permits were owed then.
    snapshot = rate.snapshot()
    assert snapshot == {
        "rate": 1.0,
        "per": 1.0,
        "burst": 2,
        "time": wall[0],
        "owed": 2.0,
        "paused_for": 0.0,
    }
    snapshot["owed"] = 7.0
    wall[0] += passed
    assert run(restored(snapshot), 1, 1) == times


def test_a_snapshot_in_the_middle_of_a_run_and_after_each(wall: list[float]) -> None:
    rate = RateLimiter(1, per=10, burst=1)
    for expected in ([0, 10], [10, 20], [10, 20]):
        assert run(rate, 1, 1) == expected
        rate = restored(rate.snapshot())
        # One that was not used yet says what it was told.
        assert rate.snapshot() == restored(rate.snapshot()).snapshot()
        rate.per, rate.burst = 10, 1


def test_pauses_and_what_the_service_has_said_go_on_too(wall: list[float]) -> None:
    rate = RateLimiter(1, burst=5)

    async def main() -> None:
        rate.pause_for(10)
        rate.observe(remaining=2, reset=30)
        rate.observe(remaining=3, reset=60)
        rate.observe(remaining=7, reset=1)
        await trio.sleep(4)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    snapshot = rate.snapshot()
    assert snapshot == {
        "rate": 1.0,
        "per": 1.0,
        "burst": 5,
        "time": wall[0],
        "owed": 0.0,
        "paused_for": 6.0,
        "left_0": 2.0,
        "for_0": 26.0,
        "left_1": 3.0,
        "for_1": 56.0,
    }
    wall[0] += 2
    assert run(restored(snapshot), *[1] * 4) == [4, 4, 24, 54]


@pytest.mark.parametrize("changes", [{"rate": 10}, {"per": 4}, {"rate": 3, "per": 0.5, "burst": 10}])
@pytest.mark.parametrize("passed", [8, -8])
def test_what_was_paid_off_before_another_rate_is_assigned_stays_so(
    changes: dict[str, float], passed: float, wall: list[float]
) -> None:
    snapshot = {"rate": 1.0, "per": 2.0, "burst": 10, "time": wall[0], "owed": 9.0, "paused_for": 20.0}
    rate = restored(snapshot | {"left_0": 3.0, "for_0": 5.0, "left_1": 4.0, "for_1": 30.0})
    wall[0] += passed
    before = rate.snapshot()
    for name, value in changes.items():
        setattr(rate, name, value)
    seconds, owed = (8, 5) if passed > 0 else (0, 9)
    said = {"left_0": 4, "for_0": 22} if passed > 0 else {"left_0": 3, "for_0": 5, "left_1": 4, "for_1": 30}
    times = {"time": before["time"] + seconds, "owed": owed, "paused_for": 20 - seconds}
    assert rate.snapshot() == {"rate": 1, "per": 2, "burst": 10} | changes | times | said
    wall[0] -= 2  # it does not come back twice when the clock is set back
    assert rate.statistics().paused_for == 20 - seconds


@pytest.mark.parametrize("paused", [0, 10])
def test_it_says_where_it_stands_before_the_first_run(paused: float, wall: list[float]) -> None:
    snapshot = {"rate": 1.0, "per": 2.0, "burst": 5, "time": wall[0], "owed": 7.0, "paused_for": paused}
    rate = restored(snapshot)
    wall[0] += 8
    statistics = rate.statistics()
    assert (statistics.available, statistics.paused_for) == ((0, 2) if paused else (2, 0))

    async def main() -> None:
        assert rate.statistics() == statistics

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_what_is_given_back_counts_for_what_the_service_has_said_before(wall: list[float]) -> None:
    snapshot = {"rate": 1.0, "per": 1.0, "burst": 5, "time": wall[0], "owed": 0.0, "paused_for": 0.0}
    rate = restored(snapshot | {"left_0": 2.0, "for_0": 30.0})
    times: list[float] = []

    async def main() -> None:
        for settled in (-1, 0, 0):
            await rate.acquire(2 if settled else 1)
            times.append(trio.current_time())
            rate.charge(settled)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert times == [0, 0, 30]


def test_of_a_window_that_slides_it_keeps_no_more_than_one_for_each_second(wall: list[float]) -> None:
    rate = RateLimiter.unlimited()

    async def main() -> None:
        for step in range(100):
            rate.observe(remaining=step // 2, reset=10 + step / 16)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    snapshot = rate.snapshot()
    assert len([key for key in snapshot if key.startswith("left_")]) == 7
    assert run(restored(snapshot), *[1] * 9) == [*[10.9375] * 8, 11.9375]


@pytest.mark.parametrize(
    "said, times",
    [
        (
            {"left_0": 3.0, "for_0": 56.0, "left_1": 2.0, "for_1": 26.0, "left_2": 2.5, "for_2": 20.0},
            [26, 56],
        ),
        # Within a second what is said later may be taken for the same.
        ({"left_0": 3.0, "for_0": 11.0, "left_1": 2.0, "for_1": 10.5}, [10.5, 11]),
    ],
)
def test_what_the_service_has_said_is_read_in_any_order(
    said: dict[str, float], times: list[float], wall: list[float]
) -> None:
    snapshot = {"rate": 1.0, "per": 1.0, "burst": 5, "time": wall[0], "owed": 0.0, "paused_for": 0.0}
    assert run(restored(snapshot | said), *[1] * 4) == [0, 0, *times]


def test_what_the_service_has_said_is_not_stored_when_it_is_over(wall: list[float]) -> None:
    rate = RateLimiter(1)

    async def main() -> None:
        rate.observe(remaining=2, reset=30)
        await trio.sleep(30)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert rate.snapshot() == {
        "rate": 1.0,
        "per": 1.0,
        "burst": 1,
        "time": wall[0],
        "owed": 0.0,
        "paused_for": 0.0,
    }


@pytest.mark.parametrize("passed, time", [(29.5, 0.5), (30, 0), (1e9, 0)])
def test_what_the_service_has_said_is_over_by_the_wall_clock(
    passed: float, time: float, wall: list[float]
) -> None:
    snapshot = {"time": wall[0], "owed": 0.0, "paused_for": 0.0, "left_0": 0.0, "for_0": 30.0}
    wall[0] += passed
    assert run(restored(snapshot), 1) == [time]


def test_where_more_was_taken_than_was_left_nothing_is(wall: list[float]) -> None:
    rate = RateLimiter.unlimited()

    async def main() -> None:
        rate.observe(remaining=1, reset=30)
        rate.charge(3)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    snapshot = rate.snapshot()
    assert snapshot == {"time": wall[0], "owed": 0.0, "paused_for": 0.0, "left_0": 0.0, "for_0": 30.0}
    assert run(restored(snapshot), 1) == [30]


def test_what_is_owed_is_paid_off_at_any_rate(wall: list[float]) -> None:
    stored = {"rate": 4.0, "per": 2.0, "burst": 2, "time": wall[0] - 2, "owed": 6.0, "paused_for": 0.0}
    assert run(restored(stored), 1, 1) == [0.5, 1]


def test_what_the_service_has_said_for_less_than_a_second_is_stored(wall: list[float]) -> None:
    rate = RateLimiter.unlimited()

    async def main() -> dict[str, float]:
        rate.observe(remaining=3, reset=0.5)
        return rate.snapshot()

    snapshot = trio.run(main, clock=MockClock())
    assert snapshot == {"time": wall[0], "owed": 0.0, "paused_for": 0.0, "left_0": 3.0, "for_0": 0.5}


def test_one_without_a_rate_stays_so(wall: list[float]) -> None:
    rate = RateLimiter.unlimited()

    async def main() -> None:
        rate.pause_for(5)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert rate.snapshot() == {"time": wall[0], "owed": 0.0, "paused_for": 5.0}
    again = restored(rate.snapshot())
    assert run(again, 100, 100) == [5, 5]
    assert again.statistics() == RateLimiter.unlimited().statistics()


def test_a_pause_that_is_over_when_the_rate_is_assigned_is_not_less_than_none(wall: list[float]) -> None:
    snapshot = RateLimiter(1).snapshot() | {"paused_for": 5.0}
    wall[0] += 8
    rate = restored(snapshot)
    rate.rate = 2
    assert rate.snapshot() == RateLimiter(2).snapshot()
    assert run(restored(rate.snapshot()), 1) == [0]


def test_to_look_at_one_before_there_is_a_run_changes_nothing(wall: list[float]) -> None:
    rate = restored(RateLimiter(1, burst=2).snapshot() | {"left_0": 0.0, "for_0": 30.0})
    assert rate.statistics().available == 0
    wall[0] += 30
    assert rate.statistics().available == 2


async def test_it_goes_on_amid_a_run(wall: list[float], autojump_clock: MockClock) -> None:
    await trio.sleep(100)
    rate = restored(RateLimiter(1, burst=2).snapshot() | {"owed": 9.0, "paused_for": 5.0})
    now = rate.statistics()
    assert (now.available, now.paused_for) == (-7, 5)
    await rate.acquire()
    assert trio.current_time() == 108


def test_the_cost_is_given_anew(autojump_clock: MockClock) -> None:
    record: list[Any] = []

    async def main() -> None:
        async with manager(RateLimiter.restore(RateLimiter(1).snapshot(), cost=3)) as cm:
            await cm.run(note, record, "a")
            await cm.run(note, record, "b")

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert record == [(0, "a"), (3, "b")]


@pytest.mark.parametrize("snapshot", [None, "{}", 3, [("rate", 1)]])
def test_what_is_no_snapshot_is_refused(snapshot: Any) -> None:
    with pytest.raises(TypeError, match=rf"^snapshot must be a mapping.*, not {re.escape(short(snapshot))}$"):
        RateLimiter.restore(snapshot)


@pytest.mark.parametrize("key", ["rate", "per", "burst", "time", "owed", "paused_for", "for_0"])
def test_a_snapshot_that_lacks_something_is_refused(key: str) -> None:
    snapshot = RateLimiter(1).snapshot() | {"left_0": 3, "for_0": 5}
    del snapshot[key]
    with pytest.raises(TypeError, match=rf"^snapshot must have the key '{key}', not only \["):
        RateLimiter.restore(snapshot)


@pytest.mark.parametrize("key", ["rate", "per", "burst", "time", "owed", "paused_for", "left_0", "for_0"])
@pytest.mark.parametrize("value", [None, "1", True, -1, math.nan, math.inf])
def test_a_value_in_a_snapshot_that_cannot_be_is_refused_by_name(key: str, value: Any) -> None:
    snapshot = RateLimiter(1).snapshot() | {"left_0": 3, "for_0": 5, key: value}
    with pytest.raises((TypeError, ValueError), match=rf"^snapshot\['{key}'\] must be "):
        RateLimiter.restore(snapshot)


PROGRAM = """
import json, sys, time
from pathlib import Path
import trio
from trio_conman import ConMan, RateLimiter

file, log, most = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def opened():
    if file.exists():
        return RateLimiter.restore(json.loads(file.read_text()))
    return RateLimiter(10, per=86400, burst=20)

def save(rate):
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(rate.snapshot()))
    beside.replace(file)

async def main():
    rate = opened()

    async def call(index):
        save(rate)
        with log.open("a") as calls:
            calls.write("call\\n")
        print(index, flush=True)
        if index == most:
            time.sleep(60)  # until it is killed; all of it, lest another call is saved and not made

    async with trio.open_nursery() as nursery, ConMan.open(nursery, 3, rate=rate, timeout=5) as cm:
        for index in range(100):
            await cm.run(call, index, task_timeout=2)

trio.run(main)
"""


def test_a_daily_quota_over_three_runs_of_a_program_one_of_them_killed(tmp_path: Path) -> None:
    file, log = tmp_path / "quota.json", tmp_path / "log"
    command = [sys.executable, "-c", PROGRAM, str(file), str(log)]
    calls: list[int] = []
    with subprocess.Popen([*command, "7"], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line == "7\n":
                first.send_signal(signal.SIGKILL)
                break
    assert first.returncode == -signal.SIGKILL
    calls.append(log.read_text().count("call"))
    for _ in range(2):
        subprocess.run([*command, "-1"], check=True, timeout=60, stdout=subprocess.PIPE)
        calls.append(log.read_text().count("call"))
    # Those of the first run that were under way are counted too.
    assert calls == [8, 20, 20]
