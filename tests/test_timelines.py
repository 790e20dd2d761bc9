"""The pictures of the docs show what their pages say; docs/scenarios.py runs them."""

from __future__ import annotations

import runpy

import pytest

from tests.pages import DOCS

SCENARIOS = runpy.run_path(str(DOCS / "scenarios.py"))

EXPECTED = {
    "by_hand": (
        "home: runs 0-1, sleeps in its slot 1-3, runs 3-4, success at 4",
        "news: runs 0-1.5, sleeps in its slot 1.5-3.5, runs 3.5-5, success at 5",
        "shop: waits 0-4, runs 4-6.25, success at 6.25",
        "blog: waits 0-5, runs 5-6, success at 6",
        "jobs: waits 0-6, runs 6-7, unknown at 7",
        "help: waits 0-6.25, runs 6.25-7, unknown at 7",
        "timeout at 7",
    ),
    "with_a_manager": (
        "home: runs 0-1, backs off 1-3.25, runs 3.25-4.25, success at 4.25",
        "news: runs 0-1.5, backs off 1.5-4.25, runs 4.25-5.75, success at 5.75",
        "shop: waits 0-1, runs 1-3.25, success at 3.25",
        "blog: waits 0-1.5, runs 1.5-2.5, success at 2.5",
        "jobs: waits 0-2.5, runs 2.5-4, success at 4",
        "help: waits 0-4, runs 4-7, failure at 7 (MANAGER_TIMEOUT)",
        "timeout at 7",
    ),
    "slots": (
        "a: runs 0-1, backs off 1-5, runs 5-6, success at 6",
        "b: runs 0-5, success at 5",
        "c: waits 0-1, runs 1-3, success at 3",
        "d: waits 0-3, runs 3-5.5, success at 5.5",
        "e: waits 0-5.5, runs 5.5-6.5, success at 6.5",
    ),
    "hold_slot": (
        "a: runs 0-1, backs off 1-4, runs 4-5, success at 5",
        "b: runs 0-5, success at 5",
        "c: waits 0-5, runs 5-7, success at 7",
        "d: waits 0-5, runs 5-7.5, success at 7.5",
        "e: waits 0-7, runs 7-8, success at 8",
    ),
    "deadlines": (
        "attempt: runs 0-2, failure at 2 (ATTEMPT_TIMEOUT)",
        (
            "retried: runs 0-1.5, backs off 1.5-2, runs 2-3.5, backs off 3.5-4, runs 4-5, "
            "failure at 5 (TASK_TIMEOUT)"
        ),
        "manager: runs 0-6, failure at 6 (MANAGER_TIMEOUT)",
        "too late: runs 0-1, failure at 1 (DEADLINE)",
        "timeout at 6",
    ),
    "cancellation": (
        "done: runs 0-2, success at 2",
        "backing off: runs 0-1, backs off 1-4, cancelled at 4",
        "cleaning up: runs 0-5, cancelled at 5",
        "running: waits 0-1, runs 1-4, cancelled at 4",
        "running too: waits 0-2, runs 2-4, cancelled at 4",
        "queued: waits 0-4, cancelled at 4",
        "cm.cancel() at 4",
        "the block ends at 5",
    ),
    "completion_order": (
        "item 0: runs 0-4, success at 4",
        "item 1: runs 0-1, success at 1",
        "item 2: runs 1-2.5, success at 2.5",
        "item 3: runs 2.5-3, success at 3",
        "item 4: runs 3-4, success at 4",
        "item 5: runs 4-5, success at 5",
    ),
    "submission_order": (
        "item 0: runs 0-4, success at 4",
        "item 1: runs 0-1, is ready, not yet taken 1-4, success at 1",
        "item 2: runs 1-2.5, is ready, not yet taken 2.5-4, success at 2.5",
        "item 3: runs 2.5-3, is ready, not yet taken 3-4, success at 3",
        "item 4: runs 4-5, success at 5",
        "item 5: runs 4-5, success at 5",
    ),
    "backpressure": (
        "task 1: runs 0-1.1, success at 1.1",
        "task 2: runs 0-1.2, is ready, not yet taken 1.2-2.6, success at 1.2",
        "task 3: runs 1.1-2.4, is ready, not yet taken 2.4-4.1, success at 2.4",
        "task 4: runs 2.6-4, is ready, not yet taken 4-5.6, success at 4",
        "task 5: runs 4.1-5.6, is ready, not yet taken 5.6-7.1, success at 5.6",
        "task 6: runs 5.6-7.2, is ready, not yet taken 7.2-8.6, success at 7.2",
    ),
}


def test_every_scenario_is_expected_here() -> None:
    assert sorted(EXPECTED) == sorted(SCENARIOS["SCENARIOS"])


@pytest.mark.parametrize("scenario", EXPECTED)
def test_what_a_timeline_shows(scenario: str) -> None:
    assert SCENARIOS["told"](SCENARIOS["run"](scenario)) == EXPECTED[scenario]
