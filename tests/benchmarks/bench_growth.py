"""How the cost of a task grows, with the number of tasks and with the limit.

Opening a manager and starting the workers of a map is in it, as it is in what users pay: with a limit of 100
that is about 2 ms, and shows where tasks do nothing and are as few as 1,000. A limit above the number of
tasks is never reached.

Run it with ``python -m tests.benchmarks.bench_growth``; ``--most`` is the largest number of tasks,
``--tasks`` their number where the limit grows.
"""

import statistics
from collections.abc import Mapping, Sequence

from .contenders import BY_HAND, LIBRARY
from .measuring import Contender, Spread, Table, in_turn, options, per_task, report

CONTENDERS = BY_HAND | LIBRARY
BY_TASKS = ("by hand", "run, send_to", "map", "map, ordered")
BY_LIMIT = ("by hand", "pool of workers", "run", "start_soon", "map", "map, ordered")


def settled(contender: Contender, tasks: int, limit: int, least: int) -> float:
    """The cost of a task; of few tasks, measured again and again until there were `least` of them."""
    # The first one finds the processor's caches full of other things.
    few = [per_task(contender, tasks, limit) for _ in range(max(1, least // tasks) + 1)]
    return statistics.median(few[1:])


def grown(
    names: Sequence[str], loads: Mapping[str, tuple[int, int]], rounds: int, least: int
) -> dict[str, dict[str, Spread]]:
    """Rows of contenders, and a column for each load: so many tasks under such a limit."""
    spent: dict[str, dict[str, list[float]]] = {name: {load: [] for load in loads} for name in names}
    for number in range(rounds):
        for load, (tasks, limit) in loads.items():
            for name in in_turn(names, number):
                spent[name][load].append(settled(CONTENDERS[name], tasks, limit, least))
    return {
        name: {load: Spread.of(values) for load, values in by_load.items()} for name, by_load in spent.items()
    }


def main() -> None:
    given = options(
        __doc__,
        full={"tasks": 20_000, "most": 1_000_000, "rounds": 3},
        quick={"tasks": 100, "most": 1_000, "rounds": 1},
    )
    numbers = [10**power for power in range(3, 10) if 10**power <= given.most]
    limits = [10, 100, 1_000, 10_000]
    by_tasks = {f"{number:,} tasks": (number, 10) for number in numbers}
    by_limit = {f"limit {limit:,}": (given.tasks, limit) for limit in limits}
    least = given.tasks
    tables = {
        "growth_by_tasks": Table(
            "µs a task, by the number of tasks",
            f"no-op tasks, limit 10, rounds: {given.rounds}",
            list(by_tasks),
            grown(BY_TASKS, by_tasks, given.rounds, least),
        ),
        "growth_by_limit": Table(
            "µs a task, by the limit",
            f"{given.tasks:,} no-op tasks, rounds: {given.rounds}",
            list(by_limit),
            grown(BY_LIMIT, by_limit, given.rounds, least),
        ),
    }
    report(tables, given.json)


if __name__ == "__main__":
    main()
