"""run_in_executor on loky, whose pools of processes take functions that cannot be imported."""

import multiprocessing
import operator
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, NoReturn

import loky  # type: ignore[import-untyped]  # it has no types
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_conman import ConMan, Failure, RetryConfig, StopReason
from trio_conman.executors import run_in_executor

read_text: Callable[[Path], str] = Path.read_text


@pytest.fixture(scope="module")
def executor() -> Iterator[Any]:
    with loky.ProcessPoolExecutor(2) as pool:
        yield pool


async def test_all_results_arrive(executor: Any) -> None:
    def job(n: int) -> tuple[int, bool]:
        return n * n, multiprocessing.parent_process() is not None

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 5) as cm:
        for n in range(30):
            await cm.run(run_in_executor, executor, job, n)
    assert sorted(cm.outputs()) == [(n * n, True) for n in range(30)]


async def test_an_error_keeps_its_remote_traceback(executor: Any) -> None:
    def job() -> NoReturn:
        raise ValueError("no")

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
        handle = await cm.run(run_in_executor, executor, job)
    match handle.outcome:
        case Failure(error=ValueError() as error, reason=StopReason.ERROR):
            assert str(error) == "no"
            assert "in job" in str(error.__cause__)
        case outcome:
            pytest.fail(f"{outcome!r}")


async def test_calls_are_retried_on_a_fresh_pool_when_a_process_dies(record: list[Any]) -> None:
    def die() -> NoReturn:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError

    async def job(n: int) -> int:
        pool = loky.get_reusable_executor(max_workers=2)
        if n == 3 and not record:
            record.append("died")
            await run_in_executor(pool, die)
        return await run_in_executor(pool, operator.pow, n, 2)

    config = RetryConfig.none(retry_on=BrokenExecutor)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 4, retry=config) as cm:
        for n in range(12):
            await cm.run(job, n)
    loky.get_reusable_executor(max_workers=2).shutdown()
    assert sorted(cm.outputs()) == [n * n for n in range(12)]
    assert cm.errors() == []
    assert cm.statistics().retries >= 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes with a path")
async def test_calls_that_have_not_started_are_cancelled_and_the_others_waited_for(
    executor: Any, tmp_path: Path
) -> None:
    pipes = [tmp_path / f"pipe{n}" for n in range(2)]
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 10) as cm:
        for pipe in pipes:
            os.mkfifo(pipe)
            await cm.run(run_in_executor, executor, read_text, pipe)
        # A pipe that can be opened for writing is being read.
        writers = [await trio.open_file(pipe, "w") for pipe in pipes]
        # The first of these are on their way to a process, and count as running.
        for n in range(8):
            await cm.run(run_in_executor, executor, operator.pow, n, 2)
        await wait_all_tasks_blocked()
        cm.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            assert 1 <= cm.statistics().cancelled < 10
            for writer in writers:
                async with writer:
                    await writer.write("a text")
    assert cm.outputs().count("a text") == 2
    assert len(cm.outputs()) + cm.statistics().cancelled == 10
