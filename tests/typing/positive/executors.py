"""Calls on executors: the result is what the function returns, and the arguments are checked."""

from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import assert_type

import trio

from trio_conman import ConMan, TaskHandle
from trio_conman.executors import run_in_executor


def repeat(text: str, times: int) -> str:
    return text * times


async def calls(executor: Executor, threads: ThreadPoolExecutor, processes: ProcessPoolExecutor) -> None:
    assert_type(await run_in_executor(executor, repeat, "x", 3), str)
    assert_type(await run_in_executor(threads, repeat, "x", 3, abandon_on_cancel=True), str)
    assert_type(await run_in_executor(processes, partial(repeat, "x", times=3)), str)


async def tasks(nursery: trio.Nursery, executor: Executor) -> None:
    async with ConMan[str].open(nursery) as cm:
        assert_type(await cm.run(run_in_executor, executor, partial(repeat, "x", 3)), TaskHandle[str])
