"""What a `map` had to give and nobody took: kept where something else than the consumer has ended it."""

import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, ConManClosedError, Failure, Instrument, Outcome, StopReason, TaskHandle


async def item(value: int) -> int:
    await trio.sleep(1 if value < 4 else 100)
    return value


def plain() -> Iterator[int]:
    yield from range(100)


async def asynchronous() -> AsyncIterator[int]:
    for number in range(100):
        yield number


each_source = pytest.mark.parametrize("source", [plain, asynchronous])
in_any_order = pytest.mark.parametrize("ordered", [False, True])


def indices(outcomes: list[Outcome[Any]]) -> list[tuple[int, StopReason | None]]:
    return sorted((each.index, each.reason if isinstance(each, Failure) else None) for each in outcomes)


async def take_slowly(
    cm: ConMan[Any], source: Any, seen: list[Outcome[Any]], *, ordered: bool, pause: float = 0.75
) -> None:
    """Items 0 to 3 end at 1 and 2 seconds, and are taken one at a time; the later ones do not end."""
    async with cm.map(item, source(), ordered=ordered) as outcomes:
        async for outcome in outcomes:
            seen.append(outcome)
            await trio.sleep(pause)


# 0 is taken at t=1, 1 at t=1.75, 2 or 3 at t=2.5, and 4 and 5 are running at t=2.75.
CUT_OFF_AT = 2.75


@each_source
@in_any_order
@pytest.mark.parametrize(
    "how", ["timeout", "cancel", "nursery", "scope", "interrupt", "shutdown", "an error of the body"]
)
async def test_what_others_cut_off_is_kept(
    source: Any, ordered: bool, how: str, autojump_clock: MockClock
) -> None:
    seen: list[Outcome[Any]] = []

    async def consume(cm: ConMan[Any]) -> None:
        with trio.move_on_at(CUT_OFF_AT if how == "scope" else trio.current_time() + 50):
            await take_slowly(cm, source, seen, ordered=ordered)

    async def end(cm: ConMan[Any]) -> None:
        await trio.sleep(CUT_OFF_AT)
        if how == "cancel":
            cm.cancel()
        elif how == "nursery":
            nursery.cancel_scope.cancel()
        elif how == "interrupt":
            raise KeyboardInterrupt

    managers: list[ConMan[Any]] = []
    ended: tuple[type[BaseException], ...] = (KeyboardInterrupt, KeyError)
    try:
        async with trio.open_nursery() as nursery:
            timeout = CUT_OFF_AT if how == "timeout" else 60
            async with ConMan[Any].open(nursery, 2, timeout=timeout) as cm:
                managers.append(cm)
                nursery.start_soon(end, cm)
                if how in {"shutdown", "an error of the body"}:
                    async with trio.open_nursery() as consumers:
                        consumers.start_soon(consume, cm)
                        await trio.sleep(CUT_OFF_AT)
                        if how == "shutdown":
                            await cm.shutdown(0)
                            consumers.cancel_scope.cancel()
                        else:
                            raise KeyError
                else:
                    await consume(cm)
    except BaseExceptionGroup as group:
        _, rest = group.split(ended)
        assert rest is None
    (cm,) = managers
    reason = StopReason.MANAGER_TIMEOUT if how == "timeout" else StopReason.CANCELLED
    assert len(seen) == 3
    assert indices(seen + cm.outcomes()) == [
        *[(index, None) for index in range(4)],
        *[(index, reason) for index in (4, 5)],
    ]
    assert set(map(id, seen)).isdisjoint(map(id, cm.outcomes()))
    now = cm.statistics()
    assert now.submitted == 6 == len(seen) + len(cm.outputs()) + len(cm.errors())


@each_source
@in_any_order
@pytest.mark.parametrize("how", ["break", "error", "group", "close"])
async def test_what_the_consumer_leaves_is_dropped(
    source: Any, ordered: bool, how: str, autojump_clock: MockClock
) -> None:
    seen: list[Outcome[Any]] = []
    error: Exception = ExceptionGroup("mine", [KeyError()]) if how == "group" else KeyError()

    async def generate(cm: ConMan[Any]) -> AsyncIterator[None]:
        async with cm.map(item, source(), ordered=ordered) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome)
                await trio.sleep(1.5)
                yield

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        generator: Any = generate(cm)
        if how == "close":
            await anext(generator)
            await generator.aclose()
        else:
            try:
                async with cm.map(item, source(), ordered=ordered) as outcomes:
                    async for outcome in outcomes:
                        seen.append(outcome)
                        await trio.sleep(1.5)
                        if how == "break":
                            break
                        raise error
            except (KeyError, ExceptionGroup) as caught:
                assert caught is error  # noqa: PT017  # either of two types
        assert cm.outcomes() == []
    assert cm.outcomes() == []
    assert len(seen) == 1
    assert cm.statistics().submitted == 5


async def test_an_own_refusal_that_ends_the_consumer_is_no_choice_of_its(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2) as cm, ConMan[Any].open(nursery, 2) as other:
            async with cm.map(item, plain()) as outcomes:
                await anext(outcomes)
                nursery.start_soon(cm.shutdown)
                await trio.sleep(1)
                await cm.run(item, 0)
        await other.wait()
    assert [each.index for each in cm.outcomes()] != []
    assert len(cm.outcomes()) == cm.statistics().submitted - 1


async def test_the_refusal_of_another_manager_is_an_error_of_the_consumer(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2) as other:
            pass
        async with ConMan[Any].open(nursery, 2) as cm:
            with pytest.raises(ConManClosedError):  # noqa: PT012  # leaving the block raises
                async with cm.map(item, plain()) as outcomes:
                    await anext(outcomes)
                    await other.run(item, 0)
            assert cm.outcomes() == []


async def test_what_is_kept_comes_in_completion_order_and_can_be_popped(autojump_clock: MockClock) -> None:
    async def after(seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds

    async with trio.open_nursery() as nursery, ConMan[float].open(nursery, 4) as cm:
        await cm.run(after, 0.5)
        with trio.move_on_after(5):
            async with cm.map(after, [3, 1, 2, 50], ordered=True):
                await trio.sleep_forever()
        outcomes = cm.pop_outcomes()
        assert [each.args for each in outcomes] == [(0.5,), (1,), (2,), (3,), (50,)]
        assert [type(each).__name__ for each in outcomes] == ["Success"] * 4 + ["Failure"]
        assert cm.outcomes() == []


async def test_what_is_kept_goes_to_no_channel(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[Outcome[int]](10)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2, send_to=send) as cm:
        await cm.run(item, 1)
        with trio.move_on_after(2.5):
            async with cm.map(item, range(2)):
                await trio.sleep_forever()
    assert [each.args async for each in receive] == [(1,)]
    assert indices(cm.outcomes()) == [(0, None), (1, None)]


async def test_a_manager_that_failed_too_often_keeps_them_too(autojump_clock: MockClock) -> None:
    async def fail(value: int) -> None:
        await trio.sleep(value)
        raise ValueError(value)

    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(ValueError, ValueError):
            async with ConMan[Any].open(nursery, 3, max_errors=1) as cm:
                async with cm.map(fail, [1, 2, 100]):
                    await trio.sleep_forever()
    assert [type(error) for error in cm.errors()][:2] == [ValueError] * 2
    assert len(cm.outcomes()) == 3


async def test_an_interrupt_of_the_leaving_keeps_what_is_there(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(wait: Any) -> None:
        await wait()
        raise KeyboardInterrupt  # as outlast() does in the end

    monkeypatch.setattr("trio_conman._engine.mapping.outlast", interrupted)
    closed: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append("closed")

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        with pytest.raises(KeyboardInterrupt):
            async with cm.map(item, items()) as outcomes:
                await anext(outcomes)
        assert len(cm.outcomes()) == cm.statistics().submitted - 1
    assert closed == ["closed"]


async def test_nothing_is_lost_to_a_consumer_that_gives_up_while_the_manager_ends(
    autojump_clock: MockClock,
) -> None:
    seen: list[Outcome[Any]] = []

    async def consume() -> None:
        async with cm.map(item, plain()) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome)
                await trio.sleep(5)
                break

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2) as cm:
            nursery.start_soon(consume)
            await trio.sleep(3)
            cm.cancel()
        await wait_all_tasks_blocked()
    assert len(seen) == 1
    assert len(cm.outcomes()) == cm.statistics().submitted - 1 == 4


async def test_what_a_map_had_that_could_never_end_is_kept(autojump_clock: MockClock) -> None:
    async def needs_a_slot(number: int) -> int:
        if number != 1:
            await cm.run(trio.sleep, 1)
        return number

    async def consumes() -> None:
        async with cm.map(needs_a_slot, range(3), ordered=True) as outcomes:
            await trio.sleep(1)
            await anext(outcomes)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 3) as cm:
        consumer = await cm.run(consumes)
        with pytest.raises(RuntimeError, match="a map was consumed"):
            await consumer.result()
        cut_off = [each for each in cm.outcomes() if each.name.endswith("needs_a_slot")]
        assert indices(cut_off) == [(0, StopReason.CANCELLED), (1, None), (2, StopReason.CANCELLED)]


async def use(_: Outcome[int]) -> None:
    await trio.sleep(1)


class Ends(Instrument):
    """What has become of the tasks of a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.outcomes: list[Outcome[Any]] = []

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        if handle.name == self.name:
            self.outcomes.append(outcome)


@in_any_order
@pytest.mark.parametrize("how", ["timeout", "cancel", "scope", "shutdown"])
async def test_what_a_map_over_another_one_has_not_started_with_is_kept(
    how: str, ordered: bool, autojump_clock: MockClock
) -> None:
    first, second = Ends("first"), Ends("second")
    async with trio.open_nursery() as nursery:
        timeout = CUT_OFF_AT if how == "timeout" else math.inf
        async with ConMan[Any].open(nursery, 2, timeout=timeout, instruments=[first, second]) as cm:

            async def end() -> None:
                await trio.sleep(CUT_OFF_AT)
                if how == "cancel":
                    cm.cancel()
                elif how == "shutdown":
                    await cm.shutdown()

            nursery.start_soon(end)
            with trio.move_on_at(CUT_OFF_AT if how == "scope" else math.inf):
                async with (
                    cm.map(item, plain(), name="first", ordered=ordered) as firsts,
                    cm.map(use, firsts, name="second") as seconds,
                ):
                    async for _ in seconds:
                        pass
    kept = [outcome for outcome in cm.outcomes() if outcome.name == "first"]
    used = [outcome.args[0] for outcome in second.outcomes]
    assert indices(used + kept) == indices(first.outcomes)
    assert set(used + kept) == set(first.outcomes)
    assert len(used) >= 1


@in_any_order
async def test_what_a_map_that_was_left_had_drawn_from_another_one_comes_from_that(
    ordered: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        async with cm.map(item, range(2), ordered=ordered) as outcomes:
            await trio.sleep(2)
            blockers = [await cm.run(trio.sleep_forever) for _ in range(2)]
            async with cm.map(use, outcomes):
                await wait_all_tasks_blocked()
            record.extend([outcome.index async for outcome in outcomes])
        assert sorted(record) == [0, 1]
        for handle in blockers:
            handle.cancel()
