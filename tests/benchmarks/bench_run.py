"""What the manager costs beside the block that people write by hand, and beside other libraries.

All contenders run the same no-op task (one checkpoint), in interleaved rounds, so that a machine that speeds
up or slows down does so for all. The figures are medians over the rounds, in microseconds a task, and ratios
to the hand-written pattern of the same round.

Those that run on trio share this process. Those that run on asyncio have a child process each, which measures
`TaskGroup` and `Semaphore` too: the ratio to these is what to look at, as it does not mix two event loops.
What is not installed is left out.

Run it with ``python -m tests.benchmarks.bench_run``; ``--tasks``, ``--limit`` and ``--rounds`` change the
load.
"""

import json
import statistics
from collections.abc import Mapping, Sequence

from .contenders import BY_HAND, LIBRARY, aiometer_contenders
from .measuring import Spread, Table, child, compared, in_turn, options, per_task, report
from .rivals_asyncio import BASE, RIVALS, installed

UNIT = "µs a task"
BASES = {"by hand = 1": "by hand", "with scopes = 1": "by hand, a scope each", "pool = 1": "pool of workers"}
# What costs more with an option, and than what.
OPTIONS = {
    "run, retries configured": "run",
    "run, both timeouts": "run",
    "run, rate not limiting": "run",
    "run, send_to": "run",
    "start_soon, one key": "start_soon",
    "start_soon, 1,000 keys": "start_soon",
    "start_soon, a key each": "start_soon",
    "start_soon, priorities": "start_soon",
}


def rival(name: str, tasks: int, limit: int) -> tuple[float, float]:
    """A contender on asyncio, and the base beside it."""
    found = json.loads(child("-m", "tests.benchmarks.rivals_asyncio", name, str(tasks), str(limit)))
    return found[name], found[BASE]


def asyncio_rows(
    rounds: Sequence[Mapping[str, float]], besides: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, Spread]]:
    """The rows of the contenders on asyncio; `besides` has the base beside each, by round."""
    by_hand = [each["by hand"] for each in rounds]
    base = [statistics.median(values) for values in zip(*besides.values(), strict=True)]
    rows = {
        BASE: {
            UNIT: Spread.of(value for values in besides.values() for value in values),
            "by hand, on trio = 1": Spread.of(a / b for a, b in zip(base, by_hand, strict=True)),
        }
    }
    for name, beside in besides.items():
        spent = [each[name] for each in rounds]
        rows[name] = {
            UNIT: Spread.of(spent),
            f"{BASE} = 1": Spread.of(a / b for a, b in zip(spent, beside, strict=True)),
            "by hand, on trio = 1": Spread.of(a / b for a, b in zip(spent, by_hand, strict=True)),
        }
    return rows


def main() -> None:
    given = options(
        __doc__,
        full={"tasks": 20_000, "limit": 100, "rounds": 9},
        quick={"tasks": 500, "limit": 100, "rounds": 1},
        flags={"no-rivals": "leave out what is no part of this project"},
    )
    tasks, limit = given.tasks, given.limit
    on_trio = BY_HAND | LIBRARY | ({} if given.no_rivals else aiometer_contenders())
    on_asyncio = [] if given.no_rivals else installed()

    for contender in on_trio.values():
        per_task(contender, max(tasks // 10, 1), limit)
    rounds: list[dict[str, float]] = []
    besides: dict[str, list[float]] = {name: [] for name in on_asyncio}
    for number in range(given.rounds):
        spent: dict[str, float] = {}
        for name in in_turn([*on_trio, *on_asyncio], number):
            if name in on_trio:
                spent[name] = per_task(on_trio[name], tasks, limit)
            else:
                spent[name], beside = rival(name, tasks, limit)
                besides[name].append(beside)
        rounds.append(spent)

    load = f"{tasks:,} no-op tasks, limit {limit}, rounds: {given.rounds}"
    rows = compared([{name: each[name] for name in on_trio} for each in rounds], UNIT, BASES)
    more = {
        name: {"µs a task more": Spread.of(each[name] - each[base] for each in rounds)}
        for name, base in OPTIONS.items()
    }
    tables = {
        "side_by_side": Table("On trio, in one process", load, [UNIT, *BASES], rows),
        "options": Table("What an option adds", load, ["µs a task more"], more),
    }
    if on_asyncio:
        columns = [UNIT, f"{BASE} = 1", "by hand, on trio = 1"]
        tables["asyncio"] = Table("On asyncio, a process each", load, columns, asyncio_rows(rounds, besides))
    report(tables, given.json)
    if not given.no_rivals and (missing := [name for name in RIVALS if name not in on_asyncio]):
        print(f"not installed: {', '.join(missing)}\n")


if __name__ == "__main__":
    main()
