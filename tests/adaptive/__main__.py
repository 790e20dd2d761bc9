"""Runs adaptive limits, and what they are compared with, against simulated services, in virtual time.

    python -m tests.adaptive [--seeds 20] [--others 5] [--write] [SCENARIO ...]

Each scenario is run with so many seeds, and the status is 1 where one misses a figure (see `figures`). The
other rules are run with fewer; `adaptive-concurrency` only where it is installed. `--write` writes what the
docs show.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, median
from typing import Any

import attrs

from . import rival
from .figures import FIGURES, Figures, missed
from .rules import AimdPerDrop, Failsafe, following
from .runs import Run, run
from .services import SCENARIOS

FILE = Path(__file__).parents[2] / "docs" / "adaptive.json"
OWN, FIXED, RIVAL = "AdaptiveLimit", "the best fixed limit", "adaptive-concurrency 0.1.1"
RULES = {"AIMD, a cut for each refusal": AimdPerDrop, "failsafe-go, as its documentation says": Failsafe}
LAST = 5000  # calls
DRAWN = ["drops", "queues"]


@attrs.frozen
class Result:
    """One run in numbers."""

    scenario: str
    rule: str
    seconds: float
    refused: float  # of the calls
    lost: int
    limit: float  # the mean of the last calls
    attempt: float  # the mean time of those served last
    figures: Figures
    line: list[int]  # the limit, second by second; of the first seed


def result(scenario: str, rule: str, seed: int) -> Result:
    """Run it once."""
    given = SCENARIOS[scenario]
    if rule == RIVAL:
        ran = rival.run(given, seed)
    else:
        ran = run(given, seed, given.best if rule == FIXED else following(RULES.get(rule), given))
    service = ran.service
    return Result(
        scenario,
        rule,
        ran.seconds,
        service.refused / service.calls,
        ran.lost,
        fmean(limit for _, limit in ran.limits[-LAST:]),
        fmean(seconds for _, seconds in service.served[-LAST:]),
        FIGURES[scenario](ran, LAST),
        [] if seed else line(ran),
    )


def line(ran: Run) -> list[int]:
    """The limit at the last call of each second that had one."""
    limits = {int(when): limit for when, limit in ran.limits}
    return list(limits.values())


def results(scenarios: list[str], seeds: int, others: int) -> Iterator[Result]:
    compared = [FIXED, *([RIVAL] if find_spec("adaptive_concurrency") else []), *RULES]
    with ProcessPoolExecutor() as executor:
        jobs = [
            executor.submit(result, scenario, rule, seed)
            for scenario in scenarios
            for rule in [OWN, *compared]
            for seed in range(seeds if rule == OWN else others)
        ]
        for job in jobs:
            yield job.result()


def tables(found: list[Result]) -> dict[str, Any]:
    """What the docs show: medians for each rule, and each figure from least to greatest, with its bounds."""
    shown: dict[str, Any] = {}
    for name in dict.fromkeys(each.scenario for each in found):
        scenario = SCENARIOS[name]
        mine = [each for each in found if each.scenario == name]
        rows = {
            rule: {
                "seeds": sum(each.rule == rule for each in mine),
                "seconds": round(median(each.seconds for each in mine if each.rule == rule)),
                "refused": round(100 * median(each.refused for each in mine if each.rule == rule), 1),
                "lost": round(median(each.lost for each in mine if each.rule == rule)),
                "limit": round(median(each.limit for each in mine if each.rule == rule), 1),
                "attempt": round(median(each.attempt for each in mine if each.rule == rule), 2),
            }
            for rule in dict.fromkeys(each.rule for each in mine)
        }
        own = [each for each in mine if each.rule == OWN]
        spread = {
            figure: [f([round(each.figures[figure][0], 3) for each in own]) for f in (min, max)] + bounds
            for figure, (_, *bounds) in own[0].figures.items()
        }
        shown[name] = {"title": scenario.title, "seeds": len(own), "rows": rows, "figures": spread}
        if name in DRAWN:
            bears = [scenario.servers or scenario.capacity(second) for second in range(len(own[0].line))]
            shown[name] |= {"limit": own[0].line, "bound": bears}
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.adaptive")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", default=list(SCENARIOS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--others", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found, status = [], 0
    for each in results(options.scenarios, options.seeds, options.others):
        found.append(each)
        wrong = missed(each.figures)
        print(
            f"{each.scenario:10} {each.rule:40} {each.seconds:6.0f} s, refused {each.refused:6.2%}, "
            f"lost {each.lost}, limit {each.limit:.1f}, attempt {each.attempt:.2f} s; "
            f"missed: {wrong or 'nothing'}",
            flush=True,
        )
        status |= bool(wrong) and each.rule == OWN
    shown = tables(found)
    for name, scenario in shown.items():
        print(name, *(f"{figure}: {bounds}" for figure, bounds in scenario["figures"].items()), sep="\n    ")
    if options.write:
        kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
        lines = [f"{json.dumps(name)}: {json.dumps((kept | shown)[name])}" for name in (kept | shown)]
        FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
