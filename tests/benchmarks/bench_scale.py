"""What great numbers take, beside a tenth of them: nothing may grow faster than the work.

Each row is one thing: *items* of a map with keys, a rate and a journal; *handles* in the order in which they
end; *waiters*, handles that a trio task each awaits; *managers* that are open at once on one limiter; a
*queue*; a *limit*, with as many tasks at once. Each figure comes from a process of its own: the processor
time of all its threads, and by how much the peak of its memory has grown.

Run it with ``nox -s scale``, or ``python -m tests.benchmarks.bench_scale``; ``--items`` and the like are the
great numbers, and the status is 1 where one takes more than eleven times what its tenth takes: 10 % are left
to the caches of the processor.
"""

import json
import statistics
import sys

from .bench_memory import BETWEEN
from .measuring import ROOT, Spread, Table, child, options, report

PROGRAM = ROOT / "tests" / "programs" / "scaling.py"
FULL = {
    "items": 10_000_000,
    "handles": 200_000,
    "waiters": 200_000,
    "managers": 10_000,
    "queue": 1_000_000,
    "limit": 100_000,
}
MOST = 11
LEAST = 1  # MiB, which is no growth at all


def taken(case: str, count: int) -> dict[str, float]:
    found: dict[str, float] = json.loads(
        child("-S", "-c", BETWEEN, sys.executable, PROGRAM, case, str(count))
    )
    return found


def row(case: str, count: int, rounds: int) -> dict[str, Spread]:
    """The figures of the count, and of a tenth."""
    tenths = [taken(case, count // 10) for _ in range(rounds)]
    full = taken(case, count)
    few = {unit: statistics.median(each[unit] for each in tenths) for unit in full}
    return {
        "s": Spread.of([full["seconds"]]),
        "s, a tenth": Spread.of(each["seconds"] for each in tenths),
        "times": Spread.of([full["seconds"] / few["seconds"]]),
        "MiB": Spread.of([full["memory"]]),
        "MiB, a tenth": Spread.of(each["memory"] for each in tenths),
        "times as much": Spread.of([max(LEAST, full["memory"]) / max(LEAST, few["memory"])]),
    }


def main() -> None:
    given = options(__doc__, full=FULL | {"rounds": 3}, quick=dict.fromkeys(FULL, 200) | {"rounds": 1})
    if sys.platform == "win32":
        sys.exit("Windows has no getrusage()")
    rows: dict[str, dict[str, Spread]] = {}
    for case in FULL:
        name = f"{getattr(given, case):,} {case}"
        rows[name] = row(case, getattr(given, case), given.rounds)
        print(name, *(f"{column}: {spread}" for column, spread in rows[name].items()), sep="  ", flush=True)
    load = f"processor time and growth of the peak, rounds of a tenth: {given.rounds}"
    table = Table("Great numbers, and a tenth of them", load, [*next(iter(rows.values()))], rows)
    report({"scale": table}, given.json)
    grown = [
        name for name, each in rows.items() if max(each[c].median for c in ("times", "times as much")) > MOST
    ]
    if grown and not given.quick:
        sys.exit(f"more than {MOST} times what a tenth takes: {'; '.join(grown)}")


if __name__ == "__main__":
    main()
