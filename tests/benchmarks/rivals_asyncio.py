"""The contenders that run on asyncio, each in a child process of its own.

    python -m tests.benchmarks.rivals_asyncio NAME TASKS LIMIT

measures the contender, and beside it `TaskGroup` and `Semaphore` as people write them: what asyncio costs
there and then, to compare with. Prints both as JSON, in microseconds a task. The no-op task gives way to the
event loop once, as that of the contenders on trio does.

Each library is called as its own documentation shows it first, for a list of results.
"""

import asyncio
import json
import statistics
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .measuring import Contender, per_task

BASE = "TaskGroup + Semaphore"


async def job(n: int) -> int:
    await asyncio.sleep(0)
    return n


async def by_hand(tasks: int, limit: int) -> int:
    semaphore = asyncio.Semaphore(limit)

    async def worker(n: int) -> int:
        async with semaphore:
            return await job(n)

    async with asyncio.TaskGroup() as group:
        started = [group.create_task(worker(n)) for n in range(tasks)]
    return len([task.result() for task in started])


async def tasklane(tasks: int, limit: int) -> int:
    from tasklane import amap

    return len(await amap(job, range(tasks), limit=limit))


async def pyarallel(tasks: int, limit: int) -> int:
    # Not imported as usual: older Pythons than 3.12 do not have it, and could not check its types.
    library: Any = import_module("pyarallel")
    result = await library.async_parallel_map(job, range(tasks), concurrency=limit)
    return len(result.ok_values())


async def aqute(tasks: int, limit: int, batch: int = 1) -> int:
    from aqute import Aqute

    done = await Aqute(job, workers_count=limit).process_all(range(tasks), submission_batch_size=batch)
    return len([task.unwrap() for task in done])


async def aqute_in_batches(tasks: int, limit: int) -> int:
    """What aqute's documentation recommends for small tasks."""
    return await aqute(tasks, limit, batch=limit)


RIVALS: dict[str, tuple[str, Callable[[int, int], Awaitable[int]]]] = {
    "tasklane amap": ("tasklane", tasklane),
    "pyarallel async_parallel_map": ("pyarallel", pyarallel),
    "aqute process_all": ("aqute", aqute),
    "aqute process_all, batches": ("aqute", aqute_in_batches),
}


def installed() -> list[str]:
    """The contenders whose library is there."""
    return [name for name, (package, _) in RIVALS.items() if find_spec(package) is not None]


def measure(contender: Contender, tasks: int, limit: int) -> float:
    """Microseconds a task, without the start of the event loop."""
    return per_task(contender, tasks, limit, lambda timed: asyncio.run(timed()))


def main(name: str, tasks: int, limit: int) -> None:
    contenders = {BASE: by_hand, name: RIVALS[name][1]}
    for contender in contenders.values():
        measure(contender, max(tasks // 10, 1), limit)
    spent: dict[str, list[float]] = {BASE: [], name: []}
    # There and back, so that neither gains when the machine speeds up or slows down meanwhile.
    for each in (BASE, name, name, BASE):
        spent[each].append(measure(contenders[each], tasks, limit))
    print(json.dumps({each: statistics.mean(values) for each, values in spent.items()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
