"""What `nox -s limiters` holds against the manager."""

from tests.limiters.waves import Refusal, waves


def test_what_was_under_way_is_a_wave() -> None:
    refused = [
        Refusal(0.0, 2.1),
        Refusal(0.05, 2.1),
        Refusal(2.1, 4.2),
        Refusal(2.11, 4.2),
        Refusal(4.2, 5.0),
    ]
    assert waves(refused) == [2, 2, 1]


def test_who_does_not_heed_a_wait_adds_to_the_wave() -> None:
    refused = [Refusal(0.0, 2.1), Refusal(0.5, 2.1), Refusal(1.5, 2.2), Refusal(2.15, 2.2)]
    assert waves(refused) == [4]


def test_an_answer_that_tells_less_does_not_end_the_wait() -> None:
    assert waves([Refusal(0.0, 3.0), Refusal(0.1, 2.0), Refusal(2.5, 3.0)]) == [3]
