"""Some of the random programs that `nox -s simulate` runs a hundred thousand of."""

from __future__ import annotations

import pytest

from .simulate import simulate_some

pytestmark = pytest.mark.unmeasured


@pytest.mark.parametrize(
    "first",  # gives the same programs on any Python
    [0, 50, *(pytest.param(first, marks=pytest.mark.one_python) for first in range(100, 500, 50))],
)
def test_random_programs(first: int) -> None:
    tally = simulate_some(first, 50)
    assert tally.failed is None, f"python -m tests.simulate --seed {tally.failed[0]}\n{tally.failed[1]}"
    assert tally.histories == 50
