"""Adaptive limits against simulated services: a short run of each scenario of `python -m tests.adaptive`."""

from __future__ import annotations

import json

import pytest

from .adaptive.__main__ import FILE, FIXED, OWN, RIVAL, RULES, main
from .adaptive.figures import FIGURES, missed
from .adaptive.rules import AimdPerDrop, Failsafe, following
from .adaptive.runs import run
from .adaptive.services import SCENARIOS

pytestmark = [pytest.mark.one_python, pytest.mark.unmeasured]


@pytest.mark.parametrize(
    "name, items, last",
    [
        ("refuses", 4000, 1500),
        ("too many", 1500, 0),
        ("drops", 7500, 0),
        ("queues", 6000, 4000),
        ("slow", 8500, 500),
        ("unbounded", 4000, 0),
    ],
)
def test_it_finds_what_a_service_bears(name: str, items: int, last: int) -> None:
    scenario = SCENARIOS[name]
    assert missed(FIGURES[name](run(scenario, 1, following(None, scenario), items), last)) == {}


def test_a_fixed_limit_misses_what_changes() -> None:
    drops = SCENARIOS["drops"]
    figures = FIGURES["drops"](run(drops, 1, drops.best, 5100), 0)
    assert "calls until 16 when it drops" in missed(figures)


@pytest.mark.parametrize("rule", [AimdPerDrop, Failsafe])
def test_other_rules_do_not_find_a_knee(rule: type[AimdPerDrop | Failsafe]) -> None:
    queues = SCENARIOS["queues"]
    wrong = missed(FIGURES["queues"](run(queues, 1, following(rule, queues), 4500), 500))
    assert wrong["mean limit of the last 500 calls"] > 65


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_docs_show_what_is_run(name: str) -> None:
    shown = json.loads(FILE.read_text(encoding="utf-8"))[name]
    assert shown["seeds"] == 20
    assert list(shown["rows"]) == [OWN, FIXED, RIVAL, *RULES]
    for figure, (low, high, least, most) in shown["figures"].items():
        assert least <= low <= high <= most, figure


@pytest.mark.slow
def test_the_figures_hold_for_every_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["tests.adaptive", "--others", "0"])
    assert main() == 0
