"""What is refused where a manager is opened, and of its views."""

# ruff: noqa: B018, F401, I001
# What is wrong with these lines is for the type checkers to say.

import trio

from trio_conman import ConMan, ConManStatistics, TaskHandle
from trio_conman import Runner  # error
from trio_conman import trio as _trio  # error


async def opening(nursery: trio.Nursery) -> None:
    ConMan[int].open()  # error
    ConMan[int].open(None)  # error
    ConMan[int].open(nursery, "2")  # error
    ConMan[int].open(nursery, None)  # error
    ConMan[int].open(nursery, 2, "name")  # error
    ConMan[int].open(nursery, retry=3)  # error
    ConMan[int].open(nursery, timeout=None)  # error
    ConMan[int].open(nursery, attempt_timeout="1")  # error
    ConMan[int].open(nursery, task_timeout=None)  # error
    ConMan[int].open(nursery, rng=7)  # error
    ConMan[int].open(nursery, seed=7)  # error
    ConMan[int, str].open(nursery)  # error
    with ConMan[int].open(nursery):  # error
        pass
    async with ConMan[int].open(nursery) as cm:
        print(cm)
    manager: ConMan[int] = ConMan[int].open(nursery)  # error
    print(manager)


def views(cm: ConMan[int], statistics: ConManStatistics) -> None:
    texts: list[str] = cm.outputs()  # error
    errors: list[ValueError] = cm.errors()  # error
    outcomes: list[int] = cm.outcomes()  # error
    print(texts, errors, outcomes)
    cm.limit = "3"  # error
    cm.limit = None  # error
    cm.timed_out = True  # error
    cm.paused = True  # error
    cm.cancel(1)  # error
    cm.wait()  # error
    cm.wait_running()  # error
    statistics.running = 3  # error
    statistics.nothing  # error


class Own(ConMan[int]):  # error
    pass


class OwnHandle(TaskHandle[int]):  # error
    pass
