"""Tries one executor and writes down what was seen; `__main__` gives it a process and a folder of its own."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import trio

from tests.tried import calls
from tests.tried.makers import ROWS, Row
from trio_conman import ConMan, Failure, Success
from trio_conman.executors import run_in_executor

PATIENCE = 60.0  # seconds, after which something never comes back
QUEUED = 20
GAP = 50.0  # milliseconds that the loop may be held up


def told(error: BaseException) -> str:
    """The type of an error, which is what users catch."""
    return "never comes back" if isinstance(error, trio.TooSlowError) else type(error).__qualname__


class Trial:
    """One executor, and the folder for the files by which its workers are seen and held up."""

    def __init__(self, row: Row, directory: Path) -> None:
        self.row = row
        self.directory = directory
        self.seen: dict[str, Any] = {}
        self.number = 0

    def paths(self) -> tuple[str, str, str]:
        """Files for a call of `wait_for`: it has started, may end, has ended."""
        self.number += 1
        return (
            str(self.directory / f"started{self.number}"),
            str(self.directory / "gate"),
            str(self.directory / f"ended{self.number}"),
        )

    def open_gate(self) -> None:
        (self.directory / "gate").touch()

    def shut_gate(self) -> None:
        (self.directory / "gate").unlink(missing_ok=True)

    async def until(self, *paths: str) -> None:
        with trio.fail_after(PATIENCE):
            while not all(Path(path).exists() for path in paths):
                await trio.sleep(0.01)


async def ticker(gaps: list[float]) -> None:
    """Record how long the loop was held up, but not by other programs."""
    while True:
        starved, before = starving(), time.perf_counter()
        await trio.sleep(0.001)
        gap = time.perf_counter() - before - 0.001
        taken = sum(waited - starved.get(thread, 0.0) for thread, waited in starving().items())
        gaps.append(max(gap - taken, 0.0))


def starving() -> dict[str, float]:
    """How long each thread of this process has waited for a processor; Linux tells."""
    waited: dict[str, float] = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # it has ended
            waited[path.parent.name] = int(path.read_text().split()[1]) / 1e9
    return waited


async def results(trial: Trial, executor: Any) -> str:
    """200 calls through a map, all at a time, while a ticker runs; the first in a new executor."""
    gaps: list[float] = []
    got: list[int] = []
    errors: list[BaseException] = []

    async def square(n: int) -> int:
        return await run_in_executor(executor, calls.square, n)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker, gaps)
        with trio.move_on_after(60) as scope:
            async with ConMan[int].open(nursery, math.inf) as cm:
                async with cm.map(square, range(200)) as outcomes:
                    async for outcome in outcomes:
                        match outcome:
                            case Success(value=value):
                                got.append(value)
                            case Failure(error=error):
                                errors.append(error)
        nursery.cancel_scope.cancel()
    trial.seen["gap_ms"] = min(trial.seen.get("gap_ms", math.inf), round(max(gaps) * 1000, 1))
    if scope.cancelled_caught:
        return f"{len(got)} of 200 results, then nothing"
    if sorted(got) == [n * n for n in range(200)]:
        return "200 results"
    return f"{len(got)} results, {sorted({told(error) for error in errors})}"


async def error(trial: Trial, executor: Any) -> str:
    try:
        await run_in_executor(executor, calls.fail_here, "no")
    except Exception as exc:
        found = "itself" if type(exc) is ValueError and exc.args == ("no",) else told(exc)
        remote = "in fail_here" in "".join(traceback.format_exception(exc))
        return f"{found}, with its traceback" if remote else f"{found}, no traceback"
    return "none"


async def unpicklable(trial: Trial, executor: Any) -> str:
    with trio.fail_after(PATIENCE):
        try:
            found = "arrives" if await run_in_executor(executor, calls.type_name, Lock()) == "lock" else "?"
        except Exception as exc:
            found = told(exc)
        assert await run_in_executor(executor, calls.square, 3) == 9
    return found


async def busy(trial: Trial, executor: Any, nursery: trio.Nursery) -> int:
    """Let both workers start a call that waits for the gate; how many have: one where it runs at once."""
    trial.shut_gate()
    given = [trial.paths() for _ in range(2)]
    for paths in given:
        nursery.start_soon(run_in_executor, executor, calls.wait_for, *paths)
    with trio.move_on_after(PATIENCE):
        while not all(Path(started).exists() for started, _, _ in given):
            await trio.sleep(0.01)
    return sum(Path(started).exists() for started, _, _ in given)


async def cancel_queued(trial: Trial, executor: Any) -> str:
    """Cancel calls that have not started, and look which are made."""
    trial.shut_gate()
    marks = [str(trial.directory / f"made{n}") for n in range(QUEUED)]
    ended = {"cancelled": 0, "results": 0}

    async with trio.open_nursery() as nursery:
        await busy(trial, executor, nursery)
        scopes = [trio.CancelScope() for _ in marks]
        for mark, scope in zip(marks, scopes, strict=True):
            nursery.start_soon(partial(cancellable, scope, ended), executor, mark)
        await trio.sleep(1)  # until all of them are where they stay
        for scope in scopes:
            scope.cancel()
        await trio.sleep(1)
        at_once = ended["cancelled"]
        trial.open_gate()
    with trio.fail_after(PATIENCE):
        # What was made before a later call has left its mark.
        await run_in_executor(executor, calls.square, 3)
    await trio.sleep(0.5)
    made = sum(Path(mark).exists() for mark in marks)
    assert sum(ended.values()) == QUEUED
    assert made >= ended["results"], "a result of a call that was not made"
    if made == 0:
        return "taken back"
    if at_once == QUEUED:
        return "let go of, and made"
    return "waited for" if at_once == 0 else "taken back, but for a few"


async def cancellable(scope: trio.CancelScope, ended: dict[str, int], executor: Any, mark: str) -> None:
    with scope:
        await run_in_executor(executor, calls.touch, mark)
        ended["results"] += 1
    if scope.cancelled_caught:
        ended["cancelled"] += 1


async def cancel_running(trial: Trial, executor: Any, abandon: bool = False) -> str:
    trial.shut_gate()
    started, gate, ended = trial.paths()
    found = "waited for"

    async def call() -> None:
        with scope:
            await run_in_executor(executor, calls.wait_for, started, gate, ended, abandon_on_cancel=abandon)

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trial.until(started)
        scope.cancel()
        await trio.sleep(2)
        if scope.cancelled_caught:
            found = "let go of"
        trial.open_gate()
    if found == "let go of":
        with trio.move_on_after(8) as late:
            while not Path(ended).exists():
                await trio.sleep(0.01)
        if late.cancelled_caught:
            found = "stopped"
    with trio.fail_after(PATIENCE):
        assert await run_in_executor(executor, calls.square, 3) == 9
    return found


async def killed_worker(trial: Trial, executor: Any) -> str:
    if trial.row.workers == "here" or not trial.row.dies:
        return "not tried"
    with trio.move_on_after(PATIENCE) as scope:
        try:
            await run_in_executor(executor, calls.die, abandon_on_cancel=True)
            found = "a result"
        except Exception as exc:
            found = told(exc)
        # Who is told of it before the executor has seen to it may still meet what is dead.
        await trio.sleep(1)
        try:
            assert await run_in_executor(executor, calls.square, 3, abandon_on_cancel=True) == 9
            return f"{found}; goes on"
        except Exception:
            return f"{found}; stays broken"
    assert scope.cancelled_caught
    return "never comes back"


async def after_shutdown(trial: Trial, executor: Any) -> str:
    await trio.to_thread.run_sync(executor.shutdown)
    with trio.move_on_after(PATIENCE):
        try:
            await run_in_executor(executor, calls.square, 3, abandon_on_cancel=True)
        except Exception as exc:
            return told(exc)
        return "goes on"
    return "never comes back"


def submitting(trial: Trial, executor: Any) -> None:
    """How long its own submit takes, without this library: the first, and 200 others."""
    first: tuple[Any, ...] = (None,) if trial.row.package == "pebble" else ()
    before = time.perf_counter()
    futures = [executor.submit(calls.square, *first, 1)]
    trial.seen["first_ms"] = round((time.perf_counter() - before) * 1000, 1)
    futures[0].result(60)
    before = time.perf_counter()
    futures += [executor.submit(calls.square, *first, n) for n in range(200)]
    trial.seen["submits_ms"] = round((time.perf_counter() - before) * 1000, 1)
    for future in futures:
        future.result(60)


# Each group has an executor of its own, since what comes last breaks it.
GROUPS: list[list[tuple[str, Callable[[Trial, Any], Awaitable[str]]]]] = [
    [
        ("error", error),
        ("unpicklable", unpicklable),
        ("cancel_queued", cancel_queued),
        ("cancel_running", cancel_running),
        ("abandoned", partial(cancel_running, abandon=True)),
        ("after_shutdown", after_shutdown),
    ],
    [("killed_worker", killed_worker)],
]


async def tried(
    trial: Trial, executor: Any, name: str, probe: Callable[[Trial, Any], Awaitable[str]]
) -> None:
    print(name, file=sys.stderr)
    try:
        with trio.fail_after(3 * PATIENCE):
            trial.seen[name] = await probe(trial, executor)
    except BaseExceptionGroup as group:
        trial.seen[name] = f"{group!r}"
    except Exception as exc:
        trial.seen[name] = f"fault: {told(exc)}: {exc}"
    finally:
        trial.open_gate()


def main(name: str, directory: Path) -> None:
    row = ROWS[name]
    trial = Trial(row, directory)
    with row.make() as executor:
        submitting(trial, executor)
    for _ in range(3):
        # A machine that is busy holds everybody up.
        if trial.seen.get("gap_ms", math.inf) > GAP:
            with row.make() as executor:
                trio.run(tried, trial, executor, "results", results)
    for group in GROUPS:
        with row.make() as executor:
            for probe_name, probe in group:
                trio.run(tried, trial, executor, probe_name, probe)
    (directory / "seen.json").write_text(json.dumps(trial.seen))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # what an executor has left behind is not waited for
