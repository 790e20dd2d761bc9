"""What being ready to retry costs when nothing fails, beside stamina and tenacity.

The first table has calls one after another in one trio task: the no-op job (one checkpoint) alone, and
wrapped so that it would be retried after an `OSError`. The second has the same job under a limit: the manager
with and without retries configured, and the hand-written block with the wrapped job. "more" is what the
wrapping adds to a call, in microseconds; it is the difference of two figures of the same round.

Run it with ``python -m tests.benchmarks.bench_retry``; ``--calls``, ``--limit`` and ``--rounds`` change the
load.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from .contenders import Job, by_hand, job, run, run_with_retries
from .measuring import Contender, Spread, Table, options, per_task, report, rounds_of

UNIT = "µs a call"
MORE = "µs more"


def wrapped() -> dict[str, Job]:
    """The job, wrapped by each of the libraries that is installed, as its documentation shows it."""
    jobs: dict[str, Job] = {}
    try:
        import stamina
    except ImportError:
        pass
    else:
        jobs["stamina"] = stamina.retry(on=OSError, attempts=10)(job)
    try:
        import tenacity
    except ImportError:
        pass
    else:
        jobs["tenacity"] = tenacity.retry(
            retry=tenacity.retry_if_exception_type(OSError),
            stop=tenacity.stop_after_attempt(10),
            wait=tenacity.wait_random_exponential(max=45),
        )(job)
    return jobs


def called(job: Job) -> Contender:
    """One call after another."""

    async def contender(tasks: int, limit: int) -> int:
        done = 0
        for n in range(tasks):
            await job(n)
            done += 1
        return done

    return contender


def managed_by_hand(job: Job) -> Contender:
    """The hand-written block with another job."""

    async def contender(tasks: int, limit: int) -> int:
        return await by_hand(tasks, limit, job)

    return contender


def rows(
    contenders: Mapping[str, Contender], without: Mapping[str, str], rounds: Sequence[Mapping[str, float]]
) -> dict[str, dict[str, Spread]]:
    """The figures, and how much more they are than those of the one that retries nothing."""
    found: dict[str, dict[str, Spread]] = {}
    for name in contenders:
        found[name] = {UNIT: Spread.of(each[name] for each in rounds)}
        if name in without:
            found[name][MORE] = Spread.of(each[name] - each[without[name]] for each in rounds)
    return found


def main() -> None:
    given = options(
        __doc__,
        full={"calls": 20_000, "limit": 100, "rounds": 9},
        quick={"calls": 500, "limit": 100, "rounds": 1},
    )
    jobs = wrapped()
    alone = {"bare call": called(job)} | {name: called(each) for name, each in jobs.items()}
    limited = {"run": run, "run, retries configured": run_with_retries, "by hand": by_hand} | {
        f"by hand, {name}": managed_by_hand(each) for name, each in jobs.items()
    }
    without = dict.fromkeys(jobs, "bare call") | {"run, retries configured": "run"}
    without |= {f"by hand, {name}": "by hand" for name in jobs}

    both = alone | limited
    for contender in both.values():
        per_task(contender, max(given.calls // 10, 1), given.limit)
    rounds = rounds_of(
        {name: partial(per_task, each, given.calls, given.limit) for name, each in both.items()},
        given.rounds,
    )
    load = f"{given.calls:,} no-op calls that succeed"
    tables = {
        "retry_calls": Table(
            "One call after another",
            f"{load}, rounds: {given.rounds}",
            [UNIT, MORE],
            rows(alone, without, rounds),
        ),
        "retry_limited": Table(
            "Under a limit",
            f"{load}, limit {given.limit}, rounds: {given.rounds}",
            [UNIT, MORE],
            rows(limited, without, rounds),
        ),
    }
    report(tables, given.json)


if __name__ == "__main__":
    main()
