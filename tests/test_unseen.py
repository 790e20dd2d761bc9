"""Nothing fails in silence: one warning of failures that nobody has looked at."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import trio
import trio.testing
from outcome import Outcome as GuestOutcome
from trio.testing import MockClock

from tests.pages import WARNINGS
from trio_conman import (
    ConMan,
    Instrument,
    LoggingInstrument,
    Outcome,
    RetriableError,
    RetryConfig,
    TaskHandle,
)
from trio_conman._books import unseen

WAYS_OUT = (
    "(ConMan.raise_errors() raises the errors, LoggingInstrument logs each of them; "
    'see "What goes wrong" in the docs)'
)

Manager = ConMan[Any]


class Error(Exception):
    pass


async def fail(number: int = 0) -> None:
    await trio.lowlevel.checkpoint()
    raise Error(number)


async def succeed() -> int:
    await trio.lowlevel.checkpoint()
    return 3


def text(failed: int, finished: int, name: str = "conman") -> str:
    return f"{failed} of {finished} tasks of {name!r} failed, and nobody has looked {WAYS_OUT}. The first:"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the log was told since the last call."""

    def said() -> list[str]:
        records = [each for each in caplog.records if "nobody has looked" in each.msg]
        assert {each.levelno for each in records} <= {logging.WARNING}
        assert {each.name for each in records} <= {"trio_conman"}
        caplog.clear()
        return [each.getMessage() for each in records]

    return said


@asynccontextmanager
async def manager(**options: Any) -> AsyncIterator[Manager]:
    async with trio.open_nursery() as nursery, Manager.open(nursery, **options) as cm:
        yield cm


@pytest.mark.usefixtures("no_collector")
async def test_one_warning_with_the_first_error(
    caplog: pytest.LogCaptureFixture, said: Callable[[], list[str]]
) -> None:
    async with manager(name="pages") as cm:
        for number in range(3):
            await cm.run(fail, number)
            await cm.run(succeed)
        await cm.wait()
        assert said() == []
    assert said() == []  # somebody may still look
    del cm
    (record,) = caplog.records
    assert record.exc_info is not None
    error, traceback = record.exc_info[1:]
    assert type(error) is Error
    assert error.args == (0,)
    assert traceback is not None
    assert traceback is error.__traceback__
    assert said() == [text(3, 6, "pages")]


# Who has looked


async def errors(cm: Manager, _: TaskHandle[Any]) -> None:
    cm.errors()


async def outcomes(cm: Manager, _: TaskHandle[Any]) -> None:
    cm.outcomes()


async def pop_outcomes(cm: Manager, _: TaskHandle[Any]) -> None:
    cm.pop_outcomes()


async def raise_errors(cm: Manager, _: TaskHandle[Any]) -> None:
    with suppress(ExceptionGroup):
        cm.raise_errors()


async def outcome_of_the_handle(cm: Manager, handle: TaskHandle[Any]) -> None:
    assert handle.outcome is not None


async def wait(cm: Manager, handle: TaskHandle[Any]) -> None:
    await handle.wait()


async def result(cm: Manager, handle: TaskHandle[Any]) -> None:
    with suppress(Error):
        await handle.result()


LOOKS = [errors, outcomes, pop_outcomes, raise_errors, outcome_of_the_handle, wait, result]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("after_the_block", [False, True])
async def test_who_has_looked_is_not_warned(
    look: Callable[[Manager, TaskHandle[Any]], Awaitable[None]],
    after_the_block: bool,
    said: Callable[[], list[str]],
) -> None:
    async with manager() as cm:
        handle = await cm.run(fail)
        await cm.wait()
        if not after_the_block:
            await look(cm, handle)
    if after_the_block:
        await look(cm, handle)
    del cm, handle
    assert said() == []


@pytest.mark.parametrize("look", LOOKS)
async def test_what_failed_later_was_not_seen(
    look: Callable[[Manager, TaskHandle[Any]], Awaitable[None]], said: Callable[[], list[str]]
) -> None:
    async with manager() as cm:
        handle = await cm.run(fail)
        await cm.wait()
        await look(cm, handle)
        await cm.run(fail)
    del cm, handle
    gc.collect()  # an error that was raised by result() leads to who called that, and so to the manager
    assert said() == [text(1, 2)]


async def test_what_failed_after_others_were_seen_and_popped_was_not_seen(
    said: Callable[[], list[str]],
) -> None:
    async with manager() as cm:
        await cm.run(fail)
        await cm.wait()
        assert len(cm.outcomes()) == len(cm.pop_outcomes()) == 1
        await cm.run(fail)
    del cm
    assert said() == [text(1, 2)]


async def test_a_handle_tells_of_its_own_task(said: Callable[[], list[str]]) -> None:
    async with manager() as cm:
        handles = [await cm.run(task) for task in (fail, succeed, fail, fail)]
        await cm.wait()
        for handle in handles[:3]:
            await handle.wait()
    del cm
    assert said() == [text(1, 4)]


async def test_what_shows_no_failure_is_no_look(said: Callable[[], list[str]]) -> None:
    async with manager() as cm:
        handle = await cm.run(fail)
        other = await cm.run(succeed)
        await cm.wait()
        cm.outputs()
        cm.statistics()
        repr(handle)
        assert (handle.state, handle.retries, other.outcome) == ("done", 0, await other.wait())
    del cm
    assert said() == [text(1, 2)]


async def test_the_consumer_of_a_map_has_what_it_took(said: Callable[[], list[str]]) -> None:
    async with manager() as cm:
        async with cm.map(fail, range(4)) as stream:
            assert len([each async for each in stream]) == 4
        async with cm.map(fail, range(4)) as stream:
            async for _ in stream:
                break  # what it leaves itself it wants to know nothing of
    del cm
    assert said() == []


async def test_what_the_consumer_of_a_map_could_not_take_was_not_seen(said: Callable[[], list[str]]) -> None:
    async with manager() as cm:
        with trio.CancelScope() as scope:
            async with cm.map(fail, range(3)) as stream:
                await anext(stream)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.lowlevel.checkpoint()
    del cm, stream
    assert said() == [text(2, 3)]


@pytest.mark.parametrize("takes", [0, 1, 2])
async def test_the_consumer_of_send_to_has_what_it_took(takes: int, said: Callable[[], list[str]]) -> None:
    send, receive = trio.open_memory_channel[Outcome[Any]](0)

    async def consume() -> None:
        with receive:
            for _ in range(takes):
                await receive.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        async with manager(send_to=send) as cm:
            await cm.run(fail)
            await cm.run(fail)
    del cm
    assert said() == ([text(2 - takes, 2)] if takes < 2 else [])


class HearsOfEnds(Instrument):
    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        pass


class HearsOfStarts(Instrument):
    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        pass


class Raises(HearsOfEnds):
    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        raise Error


@pytest.mark.parametrize(
    "instrument, is_told",
    [(HearsOfEnds, False), (LoggingInstrument, False), (HearsOfStarts, True), (Raises, True)],
)
async def test_an_instrument_that_hears_of_ends_has_heard(
    instrument: type[Instrument], is_told: bool, said: Callable[[], list[str]]
) -> None:
    async with manager(instruments=[instrument()]) as cm:
        await cm.run(fail)
    del cm
    assert said() == [text(1, 1)] * is_told


@pytest.mark.parametrize("most, is_told", [(0, False), (2, True)])
async def test_a_group_of_errors_was_raised(most: int, is_told: bool, said: Callable[[], list[str]]) -> None:
    with suppress(ExceptionGroup):
        async with manager(max_errors=most) as cm:
            await cm.run(fail)
        del cm
    gc.collect()
    assert said() == [text(1, 1)] * is_told


async def test_cancelled_tasks_have_not_failed(said: Callable[[], list[str]]) -> None:
    async with manager() as cm:
        await cm.run(trio.sleep_forever)
        cm.cancel()
    assert cm.statistics().failed == 1
    del cm
    assert said() == []


async def test_cancelled_tasks_are_not_counted(said: Callable[[], list[str]]) -> None:
    async with manager() as cm:
        await cm.run(fail)
        await cm.run(trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
        cm.cancel()
    del cm
    assert said() == [text(1, 2)]


async def test_what_a_retry_has_mended_has_not_failed(
    autojump_clock: MockClock, said: Callable[[], list[str]]
) -> None:
    attempts = iter([RetriableError("no"), None])

    async def flaky() -> None:
        if error := next(attempts):
            raise error

    async with manager(retry=RetryConfig.none()) as cm:
        await cm.run(flaky)
    del cm
    assert said() == []


async def test_the_times_of_the_manager_s_end(
    autojump_clock: MockClock, said: Callable[[], list[str]]
) -> None:
    async with manager(timeout=1) as cm:
        await cm.run(trio.sleep, 2)
    del cm
    assert said() == [text(1, 1)]


class BrokenHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise Error


async def test_a_log_that_raises_harms_nobody() -> None:
    handler = BrokenHandler()
    logger = logging.getLogger("trio_conman")
    logger.addHandler(handler)
    try:
        async with manager() as cm:
            await cm.run(fail)
        del cm
    finally:
        logger.removeHandler(handler)


# When


def test_at_the_end_of_the_run(said: Callable[[], list[str]]) -> None:
    async def main() -> None:
        async with manager() as cm:
            await cm.run(fail)
        await trio.sleep(0)
        assert said() == []

    trio.run(main)
    assert said() == [text(1, 1)]


def test_who_keeps_it_may_look_after_the_run(said: Callable[[], list[str]]) -> None:
    async def main() -> Manager:
        async with manager() as cm:
            await cm.run(fail)
        return cm

    cm = trio.run(main)
    assert len(cm.errors()) == 1
    del cm
    assert said() == []


def test_with_the_block_where_nobody_has_it(said: Callable[[], list[str]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            opening = Manager.open(nursery)
            async with opening as cm:
                await cm.run(fail)
                del cm
            del opening
        assert said() == [text(1, 1)]

    trio.run(main)


def test_in_guest_mode(said: Callable[[], list[str]]) -> None:
    calls: list[Callable[[], object]] = []
    ended: list[GuestOutcome[None]] = []

    async def main() -> None:
        async with manager() as cm:
            await cm.run(fail)

    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=calls.append,
        done_callback=ended.append,
        host_uses_signal_set_wakeup_fd=True,
    )
    while not ended:
        if calls:
            calls.pop(0)()
    ended[0].unwrap()
    assert said() == [text(1, 1)]


PROGRAM = """
import sys, types, trio
from trio_conman import ConMan

async def fail():
    raise NameError("undefined")

async def main():
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery) as cm:
            for _ in range(100):
                await cm.run(fail)
    return cm

cm = trio.run(main)
kept = {kept!r}
if kept == "no":
    del cm
elif kept == "cycle":
    cycle = [cm]
    cycle.append(cycle)
    del cm, cycle
elif kept == "module":
    sys.modules["jobs"] = jobs = types.ModuleType("jobs")
    jobs.cm = cm
    del cm
print("ran")
"""


@pytest.mark.parametrize("place", ["file", "command line"])
@pytest.mark.parametrize("kept", ["no", "global", "cycle", "module"])
def test_at_the_end_of_the_program(kept: str, place: str, tmp_path: Path) -> None:
    program = PROGRAM.format(kept=kept)
    script = tmp_path / "script.py"
    script.write_text(program)
    ran = subprocess.run(
        [sys.executable, *WARNINGS, *([str(script)] if place == "file" else ["-c", program])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "ran\n"
    first, *_, last = ran.stderr.splitlines()
    assert (first, last) == (text(100, 100), "NameError: undefined")
    assert ran.stderr.count("NameError: undefined") == 1


def test_at_the_end_of_the_program_in_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = tmp_path / "script.py"
    set_up = f"logging.basicConfig(filename={str(log)!r}, filemode='w', format='%(message)s')"
    script.write_text(f"import logging\n{set_up}\n{PROGRAM.format(kept='global')}")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    first, *_, last = log.read_text().splitlines()
    assert (first, last) == (text(100, 100), "NameError: undefined")


def test_it_is_said_once_where_the_program_ends(said: Callable[[], list[str]]) -> None:
    async def main() -> Manager:
        async with manager() as cm:
            await cm.run(fail)
        return cm

    cm = trio.run(main)
    unseen._ask_all()
    assert said() == [text(1, 1)]
    unseen._ask_all()
    del cm
    gc.collect()
    assert said() == []


def test_a_fork_leaves_to_its_parent_what_that_will_say(
    said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with manager() as cm:
            await cm.run(fail)
        managers.append(cm)

    managers: list[Manager] = []
    asked: list[Callable[[], object]] = []
    monkeypatch.setattr(unseen, "_there", {os.getpid(): WeakSet()})
    monkeypatch.setattr(atexit, "register", asked.append)
    trio.run(main)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    unseen._ask_all()
    assert said() == []
    trio.run(main)
    assert asked == [unseen._ask_all]
    unseen._ask_all()
    assert said() == [text(1, 1)]
    managers.clear()
    gc.collect()
    assert said() == []


def test_the_first_managers_of_two_threads_are_both_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing() -> Manager:
        async def main() -> Manager:
            async with trio.open_nursery() as nursery, Manager.open(nursery) as cm:
                await cm.run(fail)
            return cm

        return trio.run(main)

    async def fail() -> None:
        raise ValueError

    managers: list[Manager] = []

    def made_at_once() -> WeakSet[Any]:
        monkeypatch.setattr(unseen, "WeakSet", WeakSet)
        thread = threading.Thread(target=lambda: managers.append(failing()))
        thread.start()
        thread.join()
        return WeakSet()

    monkeypatch.setattr(unseen, "_there", {})
    monkeypatch.setattr(unseen, "WeakSet", made_at_once)
    managers.append(failing())
    unseen._ask_all()
    assert len(caplog.records) == 2
