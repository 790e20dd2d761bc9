"""max_errors: when more tasks have failed than that, the rest is cancelled."""

# ruff: noqa: PT012
# What raises in these tests is a whole block, at its end.

import math
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.raised import OwnErrors
from trio_conman import (
    ConMan,
    ConManClosedError,
    Failure,
    RateLimiter,
    RetriableError,
    RetryConfig,
    StopReason,
)


async def fails(error: Exception, seconds: float) -> None:
    await trio.sleep(seconds)
    raise error


async def fails_when_cancelled(error: Exception) -> None:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        raise error from None


async def starts(record: list[Any], name: str = "started") -> None:
    record.append((name, trio.current_time()))
    await trio.sleep(9)


def reasons(cm: ConMan[Any]) -> list[StopReason | None]:
    return [o.reason if isinstance(o, Failure) else None for o in cm.outcomes()]


ERRORS = [ValueError("a"), KeyError("b"), OSError("c"), IndexError("d")]


@pytest.mark.parametrize("in_body", [True, False])
@pytest.mark.parametrize("allowed", [0, 1, 2])
async def test_one_more_than_allowed_ends_all(allowed: int, in_body: bool, autojump_clock: MockClock) -> None:
    message = rf"^{allowed + 1} of 6 tasks of 'batch' failed$"
    with pytest.RaisesGroup(
        pytest.RaisesGroup(*(type(error) for error in ERRORS[: allowed + 1]), match=message)
    ) as caught:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 9, name="batch", max_errors=allowed) as cm:
                # Not in the order of their submission.
                for n, error in reversed(list(enumerate(ERRORS))):
                    cm.start_soon(fails, error, n + 1)
                cm.start_soon(trio.sleep, 0.5)
                cm.start_soon(trio.sleep, 50)
                if in_body:
                    await trio.sleep_forever()
                # Else the block is being left when it happens.
    assert trio.current_time() == allowed + 1
    # The errors themselves, in completion order.
    assert list(caught.value.exceptions[0].exceptions) == ERRORS[: allowed + 1]
    assert reasons(cm) == [None] + [StopReason.ERROR] * (allowed + 1) + [StopReason.CANCELLED] * (4 - allowed)
    assert cm.errors()[: allowed + 1] == ERRORS[: allowed + 1]
    assert str(cm.errors()[-1]).endswith(f"cancelled: more than {allowed} tasks of 'batch' failed")
    assert not cm.cancel_scope.cancel_called
    assert not cm.timed_out


@pytest.mark.parametrize("allowed", [4, None])
async def test_as_many_as_allowed_are_collected(allowed: int | None, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 9, max_errors=allowed) as cm:
            for n, error in enumerate(ERRORS):
                cm.start_soon(fails, error, n)
    assert cm.errors() == ERRORS


@pytest.mark.parametrize("shared", [False, True])
async def test_nothing_starts_after_the_error_that_was_too_much(
    shared: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def waits_in_run(cm: ConMan[None]) -> None:
        with pytest.raises(
            ConManClosedError,
            match=r"more than 0 tasks of 'conman' failed \(see .What",
        ):
            await cm.run(starts, record)
        record.append(("refused", trio.current_time()))

    with pytest.RaisesGroup(pytest.RaisesGroup(ValueError, match=r"^1 of 3 tasks of 'conman' failed$")):
        async with trio.open_nursery() as nursery:
            limit = trio.CapacityLimiter(2) if shared else 2
            async with ConMan[None].open(nursery, limit, max_errors=0) as cm:
                cm.start_soon(fails, ERRORS[0], 1)
                cm.start_soon(trio.sleep, 50)
                # The slot that the failed task gives back is for neither of these.
                cm.start_soon(starts, record)
                nursery.start_soon(waits_in_run, cm)
                await trio.sleep_forever()
    assert record == [("refused", 1)]
    assert cm.errors()[0] is ERRORS[0]
    assert [outcome.index for outcome in cm.outcomes()] == [0, 2, 1]


async def test_cancelled_tasks_do_not_count(autojump_clock: MockClock) -> None:
    async def flaky() -> None:
        raise RetriableError(ERRORS[0])

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 3, max_errors=0) as cm:
        config = RetryConfig.linear(initial_delay=50, max_delay=50)
        backing_off = cm.start_soon(flaky, retry=config)
        running = [cm.start_soon(trio.sleep, 50) for _ in range(3)]
        queued = cm.start_soon(trio.sleep, 50)
        await trio.sleep(1)
        assert [each.state for each in (backing_off, *running, queued)] == [
            "backing_off",
            *["running"] * 3,
            "queued",
        ]
        for handle in (queued, running[0], backing_off):
            handle.cancel()
        # Its last real error, but it was a cancellation that ended it.
        outcome = await backing_off.wait()
        assert isinstance(outcome, Failure)
        assert (outcome.error, outcome.reason) == (ERRORS[0], StopReason.CANCELLED)
    assert cm.statistics().cancelled == cm.statistics().failed == 3


async def test_attempts_that_are_retried_do_not_count(autojump_clock: MockClock) -> None:
    calls: list[float] = []

    async def flaky() -> None:
        calls.append(trio.current_time())
        if len(calls) < 4:
            raise RetriableError("again", retry_config=RetryConfig.linear(initial_delay=1, max_delay=1))

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2, max_errors=0) as cm:
        await cm.run(flaky)
    assert calls == [0, 1, 2, 3]
    assert cm.errors() == []


@pytest.mark.parametrize("option", ["attempt_timeout", "task_timeout"])
async def test_timeouts_count(option: str, autojump_clock: MockClock) -> None:
    options: dict[str, Any] = {option: 2}
    with pytest.RaisesGroup(pytest.RaisesGroup(trio.TooSlowError)):
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 9, max_errors=0, **options) as cm:
                await cm.run(trio.sleep, 50)
                await trio.sleep_forever()
    assert trio.current_time() == 2


async def test_items_that_have_no_time_left_count(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(pytest.RaisesGroup(trio.TooSlowError)):
        async with trio.open_nursery() as nursery:
            async with (
                ConMan[None].open(nursery, 2, rate=RateLimiter(1), timeout=9.5, max_errors=0) as cm,
                cm.map(trio.sleep, [0.5] * 100) as outcomes,
            ):
                async for _ in outcomes:
                    pass
    assert trio.current_time() == 8.5
    assert not cm.timed_out


async def test_errors_while_the_rest_is_cancelled_are_in_the_group(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(
        pytest.RaisesGroup(ValueError, KeyError, match=r"^2 of 3 tasks of 'conman' failed$")
    ):
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 9, max_errors=0) as cm:
                cm.start_soon(fails, ERRORS[0], 1)
                cm.start_soon(fails_when_cancelled, ERRORS[1])
                cm.start_soon(trio.sleep, 50)
    assert set(reasons(cm)) == {StopReason.ERROR, StopReason.CANCELLED}


async def test_errors_that_were_popped_are_in_the_group(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(pytest.RaisesGroup(ValueError, KeyError)):
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 9, max_errors=1) as cm:
                cm.start_soon(fails, ERRORS[0], 1)
                await cm.wait()
                assert [type(outcome) for outcome in cm.pop_outcomes()] == [Failure]
                cm.start_soon(fails, ERRORS[1], 1)
    assert cm.errors() == [ERRORS[1]]


async def test_a_feeding_body_is_stopped_and_raises_the_group(autojump_clock: MockClock) -> None:
    fed = 0
    with pytest.RaisesGroup(pytest.RaisesGroup(ValueError)):
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, max_errors=0) as cm:
                await cm.run(fails, ERRORS[0], 2.5)
                while True:
                    await cm.run(trio.sleep, 1)
                    fed += 1
    assert trio.current_time() == 2.5
    assert fed == 3


async def test_a_body_that_meets_the_closed_manager_raises_the_group(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(pytest.RaisesGroup(ValueError)):
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, max_errors=0) as cm:
                cm.start_soon(fails, ERRORS[0], 1)
                with trio.CancelScope(shield=True):
                    await trio.sleep(2)
                cm.start_soon(trio.sleep, 1)
    assert trio.current_time() == 2


async def test_a_bodys_own_error_goes_first(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(LookupError):
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 9, max_errors=0) as cm:
                cm.start_soon(fails, ERRORS[0], 1)
                try:
                    await trio.sleep_forever()
                finally:
                    raise LookupError("own")
    assert cm.errors() == [ERRORS[0]]


async def test_errors_of_maps_and_of_send_to_count(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[Any](10)

    async def odd(n: int) -> int:
        await trio.sleep(n)
        if n % 2:
            raise ValueError(n)
        return n

    with pytest.RaisesGroup(
        pytest.RaisesGroup(OSError, ValueError, match=r"^2 of 6 tasks of 'conman' failed$")
    ):
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 9, max_errors=1, send_to=send) as cm:
                await cm.run(fails, ERRORS[2], 0.5)
                async with cm.map(odd, range(5)) as outcomes:
                    async for _ in outcomes:
                        pass
    assert trio.current_time() == 1
    assert cm.statistics().failed == 5
    assert [outcome.error async for outcome in receive] == [ERRORS[2]]


async def test_a_map_consumed_elsewhere_is_refused(autojump_clock: MockClock, record: list[Any]) -> None:
    async def consume(cm: ConMan[None]) -> None:
        with pytest.raises(
            ConManClosedError,
            match=r"more than 0 tasks of 'conman' failed \(see .What",
        ):
            async with cm.map(trio.sleep, range(1, 99)) as outcomes:
                async for outcome in outcomes:
                    record.append(type(outcome).__name__)

    with pytest.RaisesGroup(pytest.RaisesGroup(ValueError)):
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 3, max_errors=0) as cm:
                cm.start_soon(fails, ERRORS[0], 1.5)
                nursery.start_soon(consume, cm)
                await trio.sleep_forever()
    assert record == ["Success", "Failure", "Failure"]
    assert trio.current_time() == 1.5


async def test_a_cancellation_from_outside_goes_first(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 9, max_errors=0) as cm:
                await cm.run(fails_when_cancelled, ERRORS[0])
    assert scope.cancelled_caught
    assert cm.errors() == [ERRORS[0]]


async def test_a_cancellation_from_outside_goes_first_when_it_comes_second(
    autojump_clock: MockClock,
) -> None:
    async def lingers() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(3)

    with trio.move_on_after(2) as scope:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 9, max_errors=0) as cm:
                cm.start_soon(fails, ERRORS[0], 1)
                cm.start_soon(lingers)
    assert scope.cancelled_caught
    assert cm.errors() == [ERRORS[0]]
    assert trio.current_time() == 3


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_manager_that_was_cancelled_ends_quietly(how: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        timeout = 1 if how == "timeout" else math.inf
        async with ConMan[None].open(nursery, 9, max_errors=0, timeout=timeout) as cm:
            await cm.run(fails_when_cancelled, ERRORS[0])
            await trio.sleep(0.5)
            if how == "cancel":
                cm.cancel()
            await trio.sleep_forever()
    assert cm.errors() == [ERRORS[0]]
    assert cm.timed_out is (how == "timeout")


async def test_after_a_shutdown_errors_count_as_before(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(pytest.RaisesGroup(ValueError, match=r"^1 of 2 tasks of 'conman' failed$")):
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 9, max_errors=0) as cm:
                cm.start_soon(fails, ERRORS[0], 1)
                cm.start_soon(trio.sleep, 50)
                await cm.shutdown()
    assert trio.current_time() == 1


async def test_errors_as_the_grace_of_a_shutdown_ends_count_too(autojump_clock: MockClock) -> None:
    # The shutdown cancels the tasks, not the block: that is left as ever.
    with pytest.RaisesGroup(pytest.RaisesGroup(ValueError, match=r"^1 of 2 tasks of 'conman' failed$")):
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 9, max_errors=0) as cm:
                cm.start_soon(fails_when_cancelled, ERRORS[0])
                cm.start_soon(trio.sleep, 50)
                await wait_all_tasks_blocked()
                await cm.shutdown(1)
    assert trio.current_time() == 1


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("door", ["start_soon", "map"])
async def test_errors_while_the_rest_is_cancelled_are_freed_with_the_manager(
    door: str, is_kept: bool, no_collector: None, autojump_clock: MockClock
) -> None:
    own = OwnErrors()

    async def use() -> None:
        opened: list[ConMan[Any]] = []
        try:
            async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 4, max_errors=0) as cm:
                opened.append(cm)
                cm.start_soon(fails, ERRORS[0], 1)
                if door == "map":
                    async with cm.map(own.fail_late, range(2)):
                        await trio.sleep(50)
                else:
                    cm.start_soon(own.fail_late, 0)
                    cm.start_soon(own.fail_late, 1)
                    await trio.sleep(50)
        except* Exception:
            assert len(own.alive) == 2
        if is_kept:
            assert len(opened[0].errors()) == 3
        else:
            opened[0].pop_outcomes()

    await use()
    await wait_all_tasks_blocked()
    assert len(own.alive) == 0


@pytest.mark.parametrize("unlimited", [None, math.inf, float("inf")])
async def test_without_a_limit_an_error_is_kept_no_longer_than_its_outcome(
    unlimited: Any, no_collector: None, autojump_clock: MockClock
) -> None:
    own = OwnErrors()
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, max_errors=unlimited) as cm:
        for _ in range(3):
            await cm.run(own.fail)
        await cm.wait()
        assert len(own.alive) == len(cm.pop_outcomes()) == 3
        await wait_all_tasks_blocked()
        assert not own.alive


@pytest.mark.parametrize("most", [0, 5])
async def test_nor_is_one_with_a_limit_when_the_block_was_left_by_another_error(
    most: int, no_collector: None, autojump_clock: MockClock
) -> None:
    own = OwnErrors()
    async with trio.open_nursery() as nursery:
        with suppress(KeyError):
            async with ConMan[None].open(nursery, max_errors=most) as cm:
                await cm.run(own.fail)
                try:
                    await trio.sleep(1)
                finally:
                    raise KeyError
        assert len(own.alive) == len(cm.pop_outcomes()) == 1
        await wait_all_tasks_blocked()
        assert not own.alive


@pytest.mark.parametrize("value", [-1, 1.5, "1", True, float("nan")])
async def test_nonsense_is_refused(value: Any) -> None:
    async with trio.open_nursery() as nursery:
        kind = ValueError if value == -1 else TypeError
        with pytest.raises(kind, match=r"^max_errors must be an int of at least 0"):
            ConMan.open(nursery, max_errors=value)
