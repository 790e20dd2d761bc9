"""Calls on executors: the result is what the function returns, and the arguments are checked."""

from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import assert_type

import trio

from trio_conman import ConMan, RetryConfig, TaskHandle
from trio_conman.executors import RemoteError, broken_worker_errors, restarting, run_in_executor


def repeat(text: str, times: int) -> str:
    return text * times


async def calls(executor: Executor, threads: ThreadPoolExecutor, processes: ProcessPoolExecutor) -> None:
    assert_type(await run_in_executor(executor, repeat, "x", 3), str)
    assert_type(await run_in_executor(threads, repeat, "x", 3, abandon_on_cancel=True), str)
    assert_type(await run_in_executor(processes, partial(repeat, "x", times=3)), str)
    assert_type(await run_in_executor(executor, repeat, "x", 3, submit_in_thread=False), str)


async def tasks(nursery: trio.Nursery, executor: Executor) -> None:
    async with ConMan[str].open(nursery) as cm:
        assert_type(await cm.run(run_in_executor, executor, partial(repeat, "x", 3)), TaskHandle[str])


async def pools() -> None:
    with restarting(partial(ProcessPoolExecutor, 2), max_restarts=5, per=30) as pool:
        assert_type(pool, Executor)
        assert_type(broken_worker_errors(pool), tuple[type[Exception], ...])
        RetryConfig(retry_on=broken_worker_errors(pool))
        try:
            await run_in_executor(pool, repeat, "x", 3)
        except RemoteError as error:
            assert_type((error.type_name, error.text, error.traceback), tuple[str, str, str])
