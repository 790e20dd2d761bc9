"""The rule of an adaptive limit, told of attempts one by one."""

from __future__ import annotations

from typing import Any

import pytest

from trio_conman._policy.adaptive import MOST, Controller, Window, pays


class Told:
    """A controller that hears of attempts, one after the other, while as many run as may."""

    def __init__(self, limit: float, minimum: int = 2, maximum: int = 200) -> None:
        self.rule = Controller(minimum, maximum, float(limit))
        self.now = 0.0

    def attempts(self, count: int, seconds: float = 1.0, in_use: int | None = None) -> Told:
        """So many end well."""
        for _ in range(count):
            self.now += 1 + seconds
            used = int(self.rule.limit) if in_use is None else in_use
            self.rule.ended(self.now - seconds, self.now, used, overloaded=False)
        return self

    def overload(self, began: float | None = None, in_use: int | None = None) -> Told:
        self.now += 2
        used = int(self.rule.limit) if in_use is None else in_use
        self.rule.ended(self.now - 1 if began is None else began, self.now, used, overloaded=True)
        return self

    def until_held(self, seconds: float = 1.0) -> Told:
        """Grow until the guard looks."""
        while not self.rule._is_held:
            before = self.rule.limit
            self.attempts(1, seconds)
            assert self.rule.limit > before
        return self

    def until_measured(self, seconds: float = 1.0) -> Told:
        assert self.rule._is_held
        before = self.rule.window
        while self.rule.window is before:
            self.attempts(1, seconds)
        return self

    @property
    def window(self) -> tuple[float, float]:
        assert self.rule.window is not None
        return self.rule.window.limit, self.rule.window.seconds


# Growth


def test_it_grows_by_a_tenth_for_each_attempt_once_the_time_of_one_is_known() -> None:
    told = Told(10).attempts(29)  # ten that saw what was before, and 19 of the 20 that are needed
    assert told.rule.window is None
    assert told.attempts(1).window == (10, 1)
    assert told.rule.limit == 10
    assert told.attempts(1).rule.limit == 10.1
    assert told.attempts(9).rule.limit == pytest.approx(11)
    assert told.rule.growth == pytest.approx(1)


def test_attempts_as_long_as_only_a_clock_of_tests_knows_are_measured_too() -> None:
    told = Told(10).attempts(10 + MOST - 1, seconds=1e200)
    assert told.rule.window is None
    assert told.attempts(1, seconds=1e200).window == pytest.approx((10, 1e200))


def test_it_is_held_again_a_step_further_on() -> None:
    told = Told(10).until_measured().until_held()
    assert told.rule.limit == 14
    assert told.attempts(33).rule.limit == 14
    assert told.attempts(1).window == (14, 1)
    assert told.attempts(1).rule.limit == 14.1


@pytest.mark.parametrize("in_use, grows", [(9, True), (8, False)])
def test_it_grows_only_while_the_slots_are_used(in_use: int, grows: bool) -> None:
    told = Told(10).until_measured().attempts(1, in_use=in_use)
    assert (told.rule.limit > 10) is grows


def test_it_measures_only_while_the_slots_are_used() -> None:
    assert Told(10).attempts(100, in_use=8).rule.window is None


def test_it_stays_at_the_maximum() -> None:
    told = Told(10, maximum=12).until_measured().attempts(100)
    assert told.rule.limit == 12
    assert told.rule.growth == pytest.approx(2)


def test_it_needs_more_attempts_where_their_times_differ() -> None:
    told = Told(2)
    for count in range(1, 1000):
        told.attempts(1, 0.5 if count % 2 else 1.5)
        if told.rule.window is not None:
            break
    assert count == 102  # two, and (0.5 / 0.05) ** 2
    assert told.window == (2, 1)


def test_it_does_not_measure_for_ever() -> None:
    told = Told(2)
    for count in range(1, 2000):
        told.attempts(1, 1000.0 if count % 20 == 0 else 0.001)
        if told.rule.window is not None:
            break
    assert count == 2 + MOST


# Cuts


def test_the_first_overload_halves_it() -> None:
    told = Told(10).overload()
    assert (told.rule.limit, told.rule.cuts, told.rule.overloads) == (5, 1, 1)


def test_a_rare_overload_cuts_a_tenth() -> None:
    told = Told(20).attempts(100).overload()
    limit = told.rule._bound
    assert told.rule.limit == 0.9 * limit


def test_it_cuts_half_of_the_share_of_overloads() -> None:
    told = Told(20).attempts(100, in_use=0)
    told.rule._share = 0.5
    told.overload()
    assert told.rule.limit == pytest.approx(20 * (1 - (0.5 + 0.5 / 20) / 2))


def test_it_cuts_a_slot_at_least() -> None:
    assert Told(5).attempts(40, in_use=0).overload().rule.limit == 4


def test_it_is_not_cut_below_the_minimum() -> None:
    assert Told(3, minimum=3).overload().rule.limit == 3


def test_an_attempt_that_began_before_the_last_cut_cuts_no_more() -> None:
    told = Told(10).overload(in_use=10).overload(began=0, in_use=5)
    assert (told.rule.limit, told.rule.cuts, told.rule.overloads) == (5, 1, 2)
    assert told.overload().rule.cuts == 2


def test_an_attempt_that_began_before_the_last_cut_adds_nothing() -> None:
    told = Told(20).until_measured().overload(in_use=20)
    limit = told.rule.limit
    told.rule.ended(0.0, told.now, int(limit), overloaded=False)
    assert told.rule.limit == limit


def test_a_cut_is_over_when_no_more_run_than_it_allows() -> None:
    told = Told(10).overload(in_use=10)
    assert told.rule.limit == 5
    # These began after it, while more ran than are allowed: of tasks that keep their slots.
    for in_use in (9, 8, 7):
        told.overload(in_use=in_use)
    told.overload(in_use=6)  # from here on: five are left
    assert told.rule.cuts == 1
    assert told.overload(in_use=5).rule.cuts == 2


def test_it_grows_slowly_near_what_was_cut_last_and_faster_elsewhere() -> None:
    told = Told(50).until_measured().attempts(200, in_use=0).overload(in_use=50).attempts(1, in_use=45)
    assert told.rule.limit == 45
    assert told.attempts(1).rule.limit == 45.02
    while told.rule.limit < 69:
        told.attempts(1)
    told.until_held().until_measured()
    assert told.rule.limit == 70  # a step above 50, and 1.4 times what was cut
    assert told.attempts(1).rule.limit == 70.1


def test_far_below_what_was_cut_last_it_grows_faster() -> None:
    told = Told(100).overload(in_use=100).attempts(1, in_use=50)
    assert told.rule.limit == 50
    told.until_measured()
    assert told.attempts(1).rule.limit == 50.1


def test_what_was_measured_far_above_is_forgotten() -> None:
    told = Told(50).until_measured().overload(in_use=50)
    assert told.rule.window is not None
    for _ in range(5):
        told.attempts(1, in_use=2).overload(in_use=2)
    assert told.rule.window is None
    assert told.rule._is_held


# The guard


def test_it_goes_back_where_more_at_once_brings_nothing() -> None:
    told = Told(10).until_measured(1.0).until_held(1.4).until_measured(1.4)
    assert told.rule.limit == pytest.approx(10)
    assert told.rule.steps_back == 1
    assert told.rule.cuts == 0


def test_an_attempt_that_began_before_it_went_back_cuts_no_more() -> None:
    told = Told(10).until_measured(1.0).until_held(1.4).until_measured(1.4)
    told.overload(began=0, in_use=10)
    assert told.rule.limit == pytest.approx(10)
    assert (told.rule.cuts, told.rule.overloads) == (0, 1)
    assert told.overload().rule.cuts == 1


def test_it_goes_further_back_where_what_is_above_had_brought_nothing() -> None:
    told = Told(10).until_measured(1.0).until_held(1.4).until_measured(1.4)
    told.attempts(1, in_use=10).until_measured(1.0)
    assert told.rule.limit == pytest.approx(10 / 1.4)
    told.attempts(1, in_use=7).until_measured(1.0)  # not quicker: this is the better of the two
    assert told.rule.limit == pytest.approx(10 / 1.4)
    assert told.rule.steps_back == 2
    assert told.attempts(1).rule.limit > 10 / 1.4


def test_what_has_become_slower_for_all_costs_a_step() -> None:
    told = Told(10).until_measured(1.0).until_held(5.0).until_measured(5.0)
    assert told.rule.limit == pytest.approx(10)
    told.attempts(1, in_use=10).until_measured(5.0)
    assert told.rule.limit == pytest.approx(10)
    told.until_held(5.0).until_measured(5.0)
    assert told.rule.limit == pytest.approx(14)
    assert told.rule.steps_back == 1


def test_at_the_minimum_it_does_not_go_back() -> None:
    told = Told(3, minimum=2).until_measured(1.0).until_held(2.0).until_measured(2.0)
    assert told.rule.limit == pytest.approx(3)
    told.until_measured(1.0)
    assert (round(told.rule.limit, 6), told.rule.steps_back) == (round(3 / 1.4, 6), 2)
    told.until_measured(0.5)
    assert (told.rule.limit, told.rule.steps_back) == (2, 3)
    told.until_measured(0.1)
    assert (told.rule.limit, told.rule.steps_back) == (2, 3)
    assert told.attempts(1).rule.limit == 2.1


@pytest.mark.parametrize(
    "one, other, verdict",
    [
        ((10, 1.0), (14, 1.0), True),
        ((10, 1.0), (14, 1.2), True),  # 1.167 times the throughput
        ((10, 1.0), (14, 1.21), False),  # 1.157 times
        ((14, 1.21), (10, 1.0), False),
        ((10, 0.0), (14, 0.0), True),
        ((10, 0.0), (14, 1.0), False),
        ((10, 1.0), (14, 0.0), True),
    ],
)
def test_four_tenths_of_the_throughput_that_it_should_bring_are_enough(
    one: tuple[float, float], other: tuple[float, float], verdict: bool
) -> None:
    assert pays(Window(*one), Window(*other)) is verdict


def test_attempts_that_take_no_time_do_not_trouble_it() -> None:
    rule = Controller(2, 200, 10.0)
    for now in range(300):
        rule.ended(float(now), float(now), int(rule.limit), overloaded=False)
    assert rule.limit > 14


# Others


def test_it_goes_on_in_another_run() -> None:
    told = Told(10).until_measured().overload(in_use=10)
    assert told.rule._since == told.now
    limit = told.rule.limit
    told.rule.restart()
    assert told.rule.limit == limit
    # The clock of the new run may show less.
    rule: Any = told.rule
    rule.ended(-5.0, -4.0, int(limit), overloaded=True)
    assert rule.cuts == 2


def test_in_another_run_it_measures_before_it_grows_on() -> None:
    told = Told(10).until_measured().attempts(5)
    assert told.rule.limit == pytest.approx(10.5)
    told.rule.restart()
    assert told.attempts(29).rule.limit == pytest.approx(10.5)
    assert told.attempts(2).rule.limit == pytest.approx(10.6)


def test_many_short_runs_measure_together() -> None:
    told = Told(10)
    for _ in range(29):
        told.rule.restart()
        told.attempts(1)
    assert told.rule.window is None
    told.rule.restart()
    assert told.attempts(1).window == (10, 1)


def test_what_began_before_the_last_cut_cuts_no_more_though_a_limit_was_assigned_since() -> None:
    told = Told(10).overload(in_use=10)
    told.rule.assign(8)
    told.overload(began=0, in_use=9)
    assert (told.rule.limit, told.rule.cuts, told.rule.overloads) == (8, 1, 2)
    assert told.overload().rule.cuts == 2


def test_it_goes_on_from_what_is_assigned() -> None:
    told = Told(10).until_measured()
    told.rule.assign(30)
    assert told.rule.limit == 30
    assert told.rule.window is None
    assert told.until_measured().window == (30, 1)
