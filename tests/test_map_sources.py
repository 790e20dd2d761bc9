"""The input of a `map`: where it is drawn, what it may raise, and when it blocks."""

import compileall
import inspect
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_conman
from trio_conman import ConMan, ConManClosedError, Failure, KeyedLimit, Success

where: ContextVar[str] = ContextVar("where", default="nowhere")


class OddError(Exception):
    """What the sources raise."""


async def second(value: int) -> int:
    await trio.sleep(1)
    return value


async def take(outcomes: AsyncIterator[Any], record: list[Any]) -> None:
    async for outcome in outcomes:
        record.append((trio.current_time(), outcome.index))  # what came before an error counts


# What is accepted


@pytest.mark.parametrize("items", [5, None, object(), second], ids=["int", "None", "object", "function"])
async def test_what_cannot_be_iterated_over_is_refused_at_once(items: Any) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(TypeError, match=r"^items must be an iterable or an async iterable, not "):
            cm.map(second, items)


async def test_wrong_options_are_refused_at_once() -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        wrong: list[tuple[dict[str, Any], type[Exception]]] = [
            ({"ordered": 1}, TypeError),
            ({"name": 1}, TypeError),
            ({"retry": 3}, TypeError),
            ({"attempt_timeout": "1"}, TypeError),
            ({"task_timeout": -1}, ValueError),
        ]
        for options, kind in wrong:
            with pytest.raises(kind, match=f"^{next(iter(options))} must be "):
                cm.map(second, [1], **options)


async def test_wrong_callables_are_refused_at_once() -> None:
    async def generate(value: int) -> AsyncIterator[int]:
        yield value

    wrong: list[Any] = [second(1), generate, None, 5]
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        for each in wrong:
            with pytest.raises(TypeError, match=r": .*pass fn, \*args, not fn\(\*args\)$"):
                cm.map(each, [1])


async def test_a_function_that_is_not_async_fails_once_for_each_item(record: list[Any]) -> None:
    def plain(value: int) -> int:
        record.append(value)
        return value

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        wrong: Any = plain
        async with cm.map(wrong, range(4)) as outcomes:
            errors = [outcome.error async for outcome in outcomes if isinstance(outcome, Failure)]
    assert [type(error) for error in errors] == [TypeError] * 4
    assert sorted(record) == [0, 1, 2, 3]


async def test_a_lambda_that_returns_a_coroutine_will_do(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(lambda value: second(10 * value), [1, 2], ordered=True) as outcomes:
            values = [outcome.value async for outcome in outcomes if isinstance(outcome, Success)]
    assert values == [10, 20]


async def test_a_closed_manager_draws_nothing(record: list[Any]) -> None:
    def drawn() -> Iterator[int]:
        record.append("drawn")
        yield 0

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            before = cm.map(second, drawn())
        for mapping in (before, cm.map(second, [1])):
            with pytest.raises(ConManClosedError, match=r"^'conman' is closed"):
                async with mapping:
                    record.append("never")
    assert record == []


@pytest.mark.parametrize("method", ["__iter__", "__aiter__"])
async def test_an_input_that_cannot_be_opened(method: str, autojump_clock: MockClock) -> None:
    def fail(self: object) -> Any:
        raise OddError

    source: Any = type("Source", (), {method: fail})()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(OddError):
            async with cm.map(second, source):
                pytest.fail("never")
        # The manager is as it was.
        assert (await (await cm.run(second, 1)).result()) == 1


# Where it is drawn


def plain_source(record: list[Any]) -> Iterator[int]:
    try:
        for number in range(3):
            record.append(where.get())
            where.set(f"source {number}")
            yield number
    finally:
        record.append(where.get())


async def async_source(record: list[Any]) -> AsyncIterator[int]:
    try:
        for number in range(3):
            record.append(where.get())
            where.set(f"source {number}")
            yield number
    finally:
        record.append(where.get())


each_source = pytest.mark.parametrize("source", [plain_source, async_source])


@each_source
async def test_items_are_drawn_in_the_context_of_the_caller(source: Any, record: list[Any]) -> None:
    async def look(value: int) -> str:
        seen = where.get()
        where.set("item")
        await trio.lowlevel.checkpoint()
        return seen

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        where.set("caller")
        async with cm.map(look, source(record)) as outcomes:
            where.set("body")
            seen = [outcome.value async for outcome in outcomes if isinstance(outcome, Success)]
        assert where.get() == "body"
    # What the source sets is for the source alone, and what the items set is not for it.
    assert record == ["caller", "source 0", "source 1", "source 2"]
    assert seen == ["caller"] * 3


@each_source
async def test_an_input_that_is_left_early_is_closed_in_its_own_context(
    source: Any, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, source(record)) as outcomes:
            await anext(outcomes)
            where.set("body")
    assert record[-1].startswith("source")


async def test_an_iterable_is_drawn_from_by_the_items_workers_only_when_they_have_a_slot(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    def items() -> Iterator[int]:
        for number in range(2):
            record.append((trio.current_time(), number))
            yield number

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        await cm.run(trio.sleep, 3)
        await cm.run(trio.sleep, 5)
        async with cm.map(second, items()) as outcomes:
            await wait_all_tasks_blocked()
            assert record == []
            await take(outcomes, [])
    assert record == [(3, 0), (4, 1)]


# What it raises


def raising(record: list[Any], start: int, error: Exception) -> Iterator[int]:
    try:
        yield from range(start)
        raise error
    finally:
        record.append("closed")


async def raising_async(record: list[Any], start: int, error: Exception) -> AsyncIterator[int]:
    try:
        for number in range(start):
            yield number
        raise error
    finally:
        record.append("closed")


each_raising = pytest.mark.parametrize("source", [raising, raising_async])


@each_raising
@pytest.mark.parametrize("ordered", [False, True])
async def test_an_error_of_the_input_comes_after_the_outcomes_of_what_had_started(
    source: Any, ordered: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    error = OddError()
    closed: list[str] = []
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 4) as cm:
        async with cm.map(second, source(closed, 3, error), ordered=ordered) as outcomes:
            with pytest.raises(OddError) as caught:
                await take(outcomes, record)
            assert trio.current_time() == 1
            # It is told once.
            with pytest.raises(StopAsyncIteration):
                await anext(outcomes)
    assert caught.value is error
    assert sorted(record) == [(1, 0), (1, 1), (1, 2)]
    assert closed == ["closed"]


@each_raising
async def test_an_input_that_raises_at_once(source: Any, record: list[Any]) -> None:
    error = OddError()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(OddError) as caught:
            async with cm.map(second, source(record, 0, error)) as outcomes:
                await take(outcomes, record)
    assert caught.value is error
    assert record == ["closed"]
    assert cm.statistics().submitted == 0


async def test_an_error_that_nobody_waits_for_is_not_raised_on_leaving(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, raising(record, 1, OddError())) as outcomes:
            await anext(outcomes)
    assert record == ["closed"]


async def test_an_input_that_raises_what_ends_an_async_iteration_does_not_end_this_one() -> None:
    error = StopAsyncIteration()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, raising([], 0, error)) as outcomes:
            # As an async generator would have it.
            with pytest.raises(RuntimeError) as caught:
                await take(outcomes, [])
    assert caught.value.__cause__ is error


@each_raising
@pytest.mark.parametrize("package", ["", None, 5, "trio_conman_of_mine"])
async def test_an_error_of_the_input_leads_to_the_input_wherever_that_is_written(
    source: Any, package: Any, autojump_clock: MockClock
) -> None:
    elsewhere = {**globals(), "__package__": package}
    exec(inspect.getsource(source), elsewhere)
    error = OddError()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, elsewhere[source.__name__]([], 1, error)) as outcomes:
            with pytest.raises(OddError) as caught:
                await take(outcomes, [])
    assert caught.value is error
    assert traceback.extract_tb(error.__traceback__)[-1].name == source.__name__


SCRIPT = """
import trio
from trio_conman import ConMan

async def job(n): return n

def source():
    yield 1
    raise ValueError("in the source")

async def async_source():
    yield 2
    raise ValueError("in the async source")

async def main():
    async with trio.open_nursery() as nursery, ConMan.open(nursery, 2) as cm:
        for items in source(), async_source():
            try:
                async with cm.map(job, items) as outcomes:
                    async for outcome in outcomes:
                        print(outcome.value)
            except ValueError as error:
                print(error)

trio.run(main)
"""


def test_an_error_of_the_input_reaches_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True)
    assert (ran.stderr, ran.returncode) == ("", 0)
    assert ran.stdout.splitlines() == ["1", "in the source", "2", "in the async source"]


SOURCELESS = """
import traceback
import trio, trio_conman

def source():
    raise ValueError("in the source")
    yield

async def main():
    async with trio.open_nursery() as nursery, trio_conman.ConMan.open(nursery, 2) as cm:
        try:
            async with cm.map(trio.sleep, source()) as outcomes:
                await anext(outcomes)
        except ValueError as error:
            frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            print(trio_conman.__file__, "_begin_item" in frames, frames[0], frames[-1])

trio.run(main)
"""


def test_an_error_of_the_input_leads_to_the_input_where_the_package_has_no_sources(tmp_path: Path) -> None:
    build, library = tmp_path / "build", tmp_path / "library"
    shutil.copytree(Path(trio_conman.__file__).parent, build / "trio_conman")
    assert compileall.compile_dir(build, quiet=1, legacy=True)
    for path in build.rglob("*.py"):
        path.unlink()
    build.rename(library)
    script = tmp_path / "script.py"
    script.write_text(SOURCELESS)
    ran = subprocess.run(
        [sys.executable, script],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(library)},
    )
    assert ran.stdout.split() == [str(library / "trio_conman" / "__init__.pyc"), "False", "main", "source"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_what_is_no_error_leaves_through_the_nursery(
    kind: type[BaseException], autojump_clock: MockClock, record: list[Any]
) -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise kind

    with pytest.RaisesGroup(kind, flatten_subgroups=True):
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 3) as cm:
            async with cm.map(second, items()) as outcomes:
                async for outcome in outcomes:
                    assert isinstance(outcome, Failure)
                record.append("never")
    assert trio.current_time() == 0
    assert record == []
    now = cm.statistics()
    assert (now.submitted, now.cancelled) == (2, 2)


@pytest.mark.parametrize("by", ["source", "key"])
async def test_what_is_no_error_ends_a_map_where_a_worker_goes_on(by: str, autojump_clock: MockClock) -> None:
    def raise_for(who: str, item: int) -> int:
        if (who, item) == (by, 2):
            raise KeyboardInterrupt
        return item

    per_key = KeyedLimit(2, key=lambda item: raise_for("key", item)) if by == "key" else None
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2, per_key=per_key) as cm:
            async with cm.map(second, (raise_for("source", item) for item in range(4))) as outcomes:
                await anext(outcomes)
                await trio.sleep_forever()
    assert trio.current_time() == 1
    assert cm._line.limiter.borrowed_tokens == 0


async def test_what_is_no_error_is_no_end_of_a_source_that_still_closes(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    class Items:
        def __aiter__(self) -> "Items":
            return self

        async def __anext__(self) -> int:
            raise KeyboardInterrupt

        async def aclose(self) -> None:
            await trio.sleep(1)
            record.append("closed")

    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 3) as cm:
            async with cm.map(second, Items()) as outcomes:
                await take(outcomes, record)
                record.append("never")
    assert trio.current_time() == 1
    assert record == ["closed"]


# When it blocks


async def test_outcomes_are_delivered_while_the_input_blocks(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def items() -> AsyncIterator[int]:
        yield 0
        yield 1
        await trio.sleep(10)
        yield 2
        await trio.sleep(10)

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, items()) as outcomes:
            await take(outcomes, record)
    assert sorted(record) == [(1, 0), (1, 1), (11, 2)]
    assert trio.current_time() == 20


async def test_a_blocking_input_holds_no_slot(autojump_clock: MockClock, record: list[Any]) -> None:
    async def items() -> AsyncIterator[int]:
        await trio.sleep(5)
        yield 0

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, items()) as outcomes:
            await wait_all_tasks_blocked()
            assert cm.statistics().running == 0
            cm.run_nowait(second, 1)
            cm.run_nowait(second, 2)
            await take(outcomes, record)
    assert record == [(6, 0)]


async def test_an_async_input_is_drawn_from_by_one_task_at_a_time(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    tasks: set[trio.lowlevel.Task] = set()

    async def items() -> AsyncIterator[int]:
        try:
            with trio.CancelScope():  # as whatever is bound to a task
                for number in range(10):
                    tasks.add(trio.lowlevel.current_task())
                    await trio.sleep(0.1)
                    yield number
        finally:
            tasks.add(trio.lowlevel.current_task())
            record.append("closed")

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 3) as cm:
        async with cm.map(second, items()) as outcomes:
            await anext(outcomes)
        assert record == ["closed"]
    assert len(tasks) == 1
    assert trio.lowlevel.current_task() not in tasks


async def test_items_may_come_from_a_memory_channel(autojump_clock: MockClock, record: list[Any]) -> None:
    send, receive = trio.open_memory_channel[int](0)

    async def produce() -> None:
        async with send:
            for number in range(4):
                await trio.sleep(1)
                await send.send(number)

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        nursery.start_soon(produce)
        async with cm.map(second, receive) as outcomes:
            await take(outcomes, record)
        with pytest.raises(trio.ClosedResourceError):
            receive.receive_nowait()
    assert record == [(2, 0), (3, 1), (4, 2), (5, 3)]


async def test_a_memory_channel_that_is_left_early_is_closed(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[int](10)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        for number in range(10):
            send.send_nowait(number)
        async with cm.map(second, receive) as outcomes:
            await anext(outcomes)
        with pytest.raises(trio.BrokenResourceError):
            send.send_nowait(10)


async def test_a_source_goes_on_when_there_was_room_again_during_a_pause(autojump_clock: MockClock) -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(6):
            yield number

    async def job(_: int) -> None:
        await trio.sleep(1)

    taken: list[tuple[float, int]] = []
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit=2) as cm:
            holder = await cm.run(trio.sleep_forever)
            async with cm.map(job, source()) as outcomes:
                await trio.sleep(3.5)  # the fourth item runs, and there is no room for a fifth
                cm.pause()
                await trio.sleep(1)
                for _ in range(4):
                    taken.append((trio.current_time(), (await anext(outcomes)).index))
                cm.resume()
                with trio.fail_after(60):
                    async for outcome in outcomes:
                        taken.append((trio.current_time(), outcome.index))
            holder.cancel()
    assert taken == [(4.5, 0), (4.5, 1), (4.5, 2), (4.5, 3), (5.5, 4), (6.5, 5)]


class NoLonger(list[int]):
    __iter__ = None  # type: ignore[assignment]  # as the data model allows


class NeverAsync:
    __aiter__ = None


class NeverAsyncButPlain(NeverAsync):
    def __iter__(self) -> Iterator[int]:
        return iter([1, 2, 3])


class NotIndexed:
    __getitem__ = None


class Attribute:
    """Special methods are those of the type."""

    def __init__(self) -> None:
        self.__iter__ = [1, 2, 3].__iter__
        self.__getitem__ = [1, 2, 3].__getitem__


@pytest.mark.parametrize("kind", [NoLonger, NeverAsync, NotIndexed, Attribute])
async def test_what_says_that_it_cannot_be_iterated_over_is_refused_at_once(kind: Any) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        for items in (kind(), kind):
            with pytest.raises(TypeError, match=r"^items must be an iterable or an async iterable, not "):
                cm.map(second, items)


async def test_what_says_that_it_is_not_async_is_iterated_over_as_it_is(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    items: Any = NeverAsyncButPlain()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, items, ordered=True) as outcomes:
            await take(outcomes, record)
    assert record == [(1, 0), (1, 1), (2, 2)]


async def test_an_async_iterator_needs_no_more_than_a_next_one(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    class Countdown:
        def __init__(self) -> None:
            self.left = 3

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    class Items:
        def __aiter__(self) -> Countdown:
            return Countdown()

    items: Any = Items()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 3) as cm:
        async with cm.map(second, items, ordered=True) as outcomes:
            await take(outcomes, record)
    assert [index for _, index in record] == [0, 1, 2]


class LeavesOpen:
    """An async iterator with a cancel scope around what it does between its items, as in a generator."""

    def __init__(self, between: Callable[[], Awaitable[object]]) -> None:
        self.between = between
        self.is_open = False

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        if self.is_open:
            await self.between()
        else:
            self.is_open = True
            trio.move_on_after(1).__enter__()
        return 0


async def test_a_scope_left_open_by_an_async_input_ends_the_loop(autojump_clock: MockClock) -> None:
    """Its deadline interrupts whatever the input waits for."""
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, LeavesOpen(lambda: trio.sleep(2))) as outcomes:
            assert isinstance(await anext(outcomes), Success)
            with pytest.raises(RuntimeError, match=r"^Cancel scope stack corrupted"), trio.fail_after(9):
                await anext(outcomes)
            assert trio.current_time() == 1
            assert [each async for each in outcomes] == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_a_scope_left_open_by_an_async_input_hides_no_interrupt(interrupt: type[BaseException]) -> None:
    async def fail() -> None:
        raise interrupt

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
            async with cm.map(second, LeavesOpen(fail)) as outcomes:
                with trio.move_on_after(1):
                    async for _ in outcomes:
                        pass

    with pytest.RaisesGroup(interrupt, flatten_subgroups=True):
        trio.run(main, clock=MockClock(autojump_threshold=0))
