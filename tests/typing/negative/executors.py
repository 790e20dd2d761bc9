"""What is refused of calls on executors."""

from concurrent.futures import Executor

from trio_conman.executors import broken_worker_errors, restarting, run_in_executor


def repeat(text: str, times: int) -> str:
    return text * times


async def calls(executor: Executor) -> None:
    await run_in_executor(executor, repeat, "x")  # error
    await run_in_executor(executor, repeat, 3, "x")  # error
    await run_in_executor(executor, repeat, "x", times=3)  # error
    await run_in_executor(executor, repeat, "x", 3, abandon_on_cancel=None)  # error
    await run_in_executor(executor, repeat, "x", 3, submit_in_thread="yes")  # error
    await run_in_executor(repeat, "x", 3)  # error
    await run_in_executor(executor, repeat("x", 3))  # error
    number: int = await run_in_executor(executor, repeat, "x", 3)  # error
    print(number)


def pools(executor: Executor) -> None:
    restarting(executor)  # error
    restarting(lambda: executor, 3)  # error
    broken_worker_errors(repeat)  # error
