"""Every mistake gets an answer: the public name, and the way out, in exactly these words."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_conman import AdaptiveLimit, ConMan, KeyedLimit, RateLimiter, RetryBudget, TaskHandle
from trio_conman.batches import in_batches
from trio_conman.executors import run_in_executor
from trio_conman.journal import open_journal
from trio_conman.signals import shutdown_on_signal

USE_OPEN = "use 'async with ConMan.open(nursery) as cm:'"
USE_MAP = "use 'async with cm.map(...) as outcomes:', and in it 'async for outcome in outcomes:'"
TIMEOUTS = "use task_timeout=... for all attempts together, or attempt_timeout=... for each"
RETRIES = "use retry=RetryConfig(max_attempts=...)"


def exactly(text: str) -> str:
    return f"^{re.escape(text)}$"


async def job(*args: object, **options: object) -> None:
    pass


def partial_of(name: str) -> str:
    return f"to pass it to the task, use functools.partial(fn, {name}=...)"


@pytest.mark.parametrize("door", ["run", "run_nowait", "start_soon", "map"])
@pytest.mark.parametrize(
    "name, way",
    [
        ("k", partial_of("k")),
        ("timeout", f"{TIMEOUTS}; {partial_of('timeout')}"),
        ("attempts", f"{RETRIES}; {partial_of('attempts')}"),
        ("max_attempts", f"{RETRIES}; {partial_of('max_attempts')}"),
        ("max_retries", f"{RETRIES}; {partial_of('max_retries')}"),
        ("retries", f"{RETRIES}; {partial_of('retries')}"),
    ],
)
async def test_keyword_arguments_of_a_door(door: str, name: str, way: str) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery) as cm:
        text = f"ConMan.{door}() got an unexpected keyword argument {name!r}: {way}"
        call: Callable[..., Any] = partial(getattr(cm, door), job, *([[1]] if door == "map" else [1, 2]))
        with pytest.raises(TypeError, match=exactly(text)):
            await outcome_of(call(task_timeout=1, **{name: 3}))
    assert cm.statistics().submitted == 0


async def outcome_of(result: Any) -> None:
    if isinstance(result, Awaitable):
        await result


@pytest.mark.parametrize(
    "name, way",
    [
        ("max_retries", RETRIES),
        ("max_workers", f"it takes {', '.join(inspect.signature(ConMan.open).parameters)}"),
    ],
)
async def test_keyword_arguments_of_open(name: str, way: str) -> None:
    options: Any = {name: 3}
    async with trio.open_nursery() as nursery:
        text = f"ConMan.open() got an unexpected keyword argument {name!r}: {way}"
        with pytest.raises(TypeError, match=exactly(text)):
            ConMan.open(nursery, 2, **options)


async def test_positional_arguments_that_are_options() -> None:
    async with trio.open_nursery() as nursery:
        open_: Any = ConMan.open
        with pytest.raises(
            TypeError, match=r"^ConMan\.open\(\) takes from 2 to 3 positional arguments but 4"
        ):
            open_(nursery, 2, "name")
        async with ConMan[None].open(nursery) as cm:
            map_: Any = cm.map
            with pytest.raises(TypeError, match=r"^ConMan\.map\(\) takes 3 positional arguments but 4"):
                map_(job, [1], True)
            run: Any = cm.run
            with pytest.raises(TypeError, match=r"^ConMan\.run\(\) missing 1 required positional argument"):
                await run()


@pytest.mark.parametrize("args, options", [((), {}), ((3,), {}), ((3, 4), {}), ((), {"limit": 3})])
def test_the_constructor(args: Any, options: Any) -> None:
    text = f"ConMan has no public constructor; {USE_OPEN}"
    with pytest.raises(TypeError, match=exactly(text)):
        ConMan(*args, **options)


@pytest.mark.parametrize("args, options", [((), {}), (("task",), {}), ((), {"name": "task"})])
def test_the_constructor_of_a_handle(args: Any, options: Any) -> None:
    text = "TaskHandle has no public constructor; hand in a task, as with ConMan.start_soon()"
    with pytest.raises(TypeError, match=exactly(text)):
        TaskHandle(*args, **options)


@pytest.mark.parametrize("kind", [RateLimiter, KeyedLimit, AdaptiveLimit, RetryBudget])
def test_keyword_arguments_of_a_limit(kind: Any) -> None:
    takes = ", ".join(inspect.signature(kind).parameters)
    text = f"{kind.__name__}() got an unexpected keyword argument 'period': it takes {takes}"
    with pytest.raises(TypeError, match=exactly(text)):
        kind(10, period=60)


# open() without 'async with'


@pytest.mark.parametrize(
    "name", ["run", "run_nowait", "start_soon", "map", "wait", "outcomes", "errors", "limit", "cancel_scope"]
)
async def test_open_without_async_with(name: str) -> None:
    async with trio.open_nursery() as nursery:
        cm = ConMan.open(nursery)
        text = f"ConMan.{name} was used of what ConMan.open() returns: {USE_OPEN}"
        with pytest.raises(AttributeError, match=exactly(text)):
            getattr(cm, name)
        del cm  # no warning follows
        # So it is where 'as cm' was forgotten.
        cm = ConMan.open(nursery)
        async with cm:
            with pytest.raises(AttributeError, match=exactly(text)):
                getattr(cm, name)


async def test_open_has_no_other_attributes() -> None:
    async with trio.open_nursery() as nursery:
        async with (opening := ConMan.open(nursery)):
            for name in ("_block_", "runs", "__len__"):
                with pytest.raises(AttributeError, match=rf"^'Opening' object has no attribute '{name}'$"):
                    getattr(opening, name)


async def enter_plainly(block: Any) -> None:
    with block:
        pytest.fail("never")


async def wait(block: Any) -> None:
    await block


async def copied(block: Any) -> None:
    copy.deepcopy(block)


async def iterate(block: Any) -> None:
    async for _ in block:
        pytest.fail("never")


@pytest.mark.parametrize("use", [enter_plainly, wait, iterate, copied])
async def test_open_and_map_used_in_other_ways(use: Callable[[Any], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        text = f"ConMan.open() was used without 'async with': {USE_OPEN}"
        with pytest.raises(TypeError, match=exactly(text)):
            await use(ConMan.open(nursery))
        async with ConMan[None].open(nursery) as cm:
            text = f"ConMan.map() was used without 'async with': {USE_MAP}"
            with pytest.raises(TypeError, match=exactly(text)):
                await use(cm.map(job, [1]))


async def test_open_and_map_entered_twice() -> None:
    async with trio.open_nursery() as nursery:
        async with (opening := ConMan[None].open(nursery)) as cm:
            text = "ConMan.open() was entered twice; every 'async with' needs an open() of its own"
            with pytest.raises(RuntimeError, match=exactly(text)):
                await opening.__aenter__()
            async with (block := cm.map(job, [])):
                text = f"ConMan.map() was entered twice: {USE_MAP}, once for each call"
                with pytest.raises(RuntimeError, match=exactly(text)):
                    await block.__aenter__()


async def test_open_and_map_never_entered() -> None:
    async with trio.open_nursery() as nursery:
        with pytest.warns(
            RuntimeWarning, match=exactly(f"ConMan.open() was never entered, and did nothing: {USE_OPEN}")
        ) as seen:
            ConMan.open(nursery)
        # It leads to the line that has dropped it.
        assert seen[0].filename == __file__
        async with ConMan[None].open(nursery) as cm:
            with pytest.warns(
                RuntimeWarning, match=exactly(f"ConMan.map() was never entered, and did nothing: {USE_MAP}")
            ) as seen:
                cm.map(job, [1])
            assert seen[0].filename == __file__


USE_JOURNAL = "use 'async with open_journal(path) as journal:'"
USE_SIGNALS = "use 'async with shutdown_on_signal(cm):'"


@pytest.mark.parametrize("use", [enter_plainly, wait, iterate, copied])
async def test_a_journal_and_signals_used_in_other_ways(
    use: Callable[[Any], Awaitable[None]], tmp_path: Path
) -> None:
    text = f"open_journal() was used without 'async with': {USE_JOURNAL}"
    with pytest.raises(TypeError, match=exactly(text)):
        await use(open_journal(tmp_path / "a.journal"))
    text = f"Journal.section was used of what open_journal() returns: {USE_JOURNAL}"
    forgotten: Any = open_journal(tmp_path / "a.journal")
    with pytest.raises(AttributeError, match=exactly(text)):
        forgotten.section("a")
    async with trio.open_nursery() as nursery, ConMan.open(nursery) as cm:
        text = f"shutdown_on_signal() was used without 'async with': {USE_SIGNALS}"
        with pytest.raises(TypeError, match=exactly(text)):
            await use(shutdown_on_signal(cm))
    assert [*tmp_path.iterdir()] == []


async def test_a_journal_and_signals_never_entered(tmp_path: Path) -> None:
    text = f"open_journal() was never entered, and did nothing: {USE_JOURNAL}"
    with pytest.warns(RuntimeWarning, match=exactly(text)) as seen:
        open_journal(tmp_path / "a.journal")
    assert seen[0].filename == __file__
    async with trio.open_nursery() as nursery, ConMan.open(nursery) as cm:
        text = f"shutdown_on_signal() was never entered, and did nothing: {USE_SIGNALS}"
        with pytest.warns(RuntimeWarning, match=exactly(text)) as seen:
            shutdown_on_signal(cm)
    assert seen[0].filename == __file__


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy])
async def test_what_belongs_to_a_run_has_no_copies(make: Callable[[object], object], tmp_path: Path) -> None:
    async with (
        trio.open_nursery() as nursery,
        open_journal(tmp_path / "a.journal") as journal,
        ConMan[None].open(nursery) as cm,
    ):
        for each in (cm, await cm.run(job), journal, journal.section("a")):
            text = (
                f"a {type(each).__name__} cannot be pickled or copied, as it belongs to one trio run: "
                "pass on what you read from it"
            )
            with pytest.raises(TypeError, match=exactly(text)):
                make(each)


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize(
    "each",
    [RateLimiter(1), RateLimiter.unlimited(), KeyedLimit(1, key=str), AdaptiveLimit(), RetryBudget()],
    ids=repr,
)
def test_what_is_shared_has_no_copies(each: object, make: Callable[[object], object]) -> None:
    text = (
        f"{type(each).__name__} objects cannot be pickled or copied, as all who use one share what it "
        "counts: pass on the object itself"
    )
    with pytest.raises(TypeError, match=exactly(text)):
        make(each)


async def test_what_was_refused_when_it_was_entered_was_entered(recwarn: pytest.WarningsRecorder) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery) as cm:
            pass
        with pytest.raises(trio.ClosedResourceError):
            async with cm.map(job, [1]):
                pytest.fail("never")
    with pytest.raises(RuntimeError):
        async with ConMan.open(nursery):
            pytest.fail("never")
    gc.collect()
    assert [each.message for each in recwarn] == []


# Another loop


def test_a_program_of_asyncio() -> None:
    group = asyncio.TaskGroup()
    text = f"nursery must be a trio.Nursery, in a program that trio.run() runs, not {group!r}"
    with pytest.raises(TypeError, match=exactly(text)):
        ConMan.open(group)  # type: ignore[arg-type]  # the mistake to be told

    async def main() -> None:
        await limiter.acquire()

    limiter = RateLimiter(1)
    text = (
        f"{limiter!r} can be used inside of trio.run() only, not of asyncio.run(): "
        "in another thread, call its methods with trio.from_thread.run_sync"
    )
    with pytest.raises(RuntimeError, match=exactly(text)):
        asyncio.run(main())


@pytest.mark.parametrize("name", ["in_batches", "open_journal", "run_in_executor"])
def test_what_needs_trio_in_a_program_of_asyncio(name: str, tmp_path: Path) -> None:
    async def outcomes() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        if name == "in_batches":
            in_batches(outcomes(), 2)
        elif name == "open_journal":
            await open_journal(tmp_path / "pages.journal").__aenter__()
        else:
            await run_in_executor(pool, pow, 2, 3)

    with ThreadPoolExecutor() as pool:
        text = f"{name}() can be used inside of trio.run() only, not of asyncio.run()"
        with pytest.raises(RuntimeError, match=exactly(text)):
            asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


# Numbers


@pytest.mark.parametrize(
    "rate, text",
    [
        (0, "rate must be a finite number above 0, not 0"),
        (-1, "rate must be a finite number above 0, not -1"),
        (-0.0, "rate must be a finite number above 0, not -0.0"),
        (inf, "rate must be a finite number above 0, not inf: see RateLimiter.unlimited()"),
        (float("nan"), "rate must be a finite number above 0, not nan"),
    ],
)
def test_a_rate_out_of_range(rate: float, text: str) -> None:
    with pytest.raises(ValueError, match=exactly(text)):
        RateLimiter(rate)


@pytest.mark.parametrize("rate", ["1", None, True, [1]])
def test_a_rate_of_the_wrong_kind(rate: Any) -> None:
    with pytest.raises(TypeError, match=exactly(f"rate must be a finite number above 0, not {rate!r}")):
        RateLimiter(rate)


@pytest.mark.parametrize("name", ["per", "cost"])
@pytest.mark.parametrize("value", [0, -1, inf])
def test_others_above_0(name: str, value: float) -> None:
    options: Any = {name: value}
    with pytest.raises(ValueError, match=exactly(f"{name} must be a finite number above 0, not {value!r}")):
        RateLimiter(1, **options)
