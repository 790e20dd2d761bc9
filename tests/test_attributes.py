"""What cannot be assigned says so."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trio_conman import ConMan, KeyedLimit, RateLimiter, RetryBudget, RetryConfig, as_completed
from trio_conman.batches import in_batches
from trio_conman.reports import Tally
from trio_conman.signals import shutdown_on_signal

MANAGER = ["timeout", "retry", "rate", "attempt_timeout", "task_timeout", "max_errors", "limits", "paused"]
MANAGER += ["name", "cancel_scope", "timed_out", "run", "outputs"]
HANDLE = ["name", "args", "index", "state", "retries", "outcome", "timeout", "cancelled", "cancel"]
LIMITER = ["burts", "acquire_soon", "statistics"]


@pytest.mark.parametrize("attribute", MANAGER)
async def test_of_a_manager(attribute: str) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        with pytest.raises(AttributeError):
            setattr(cm, attribute, 3)
        cm.limit = 3
        cm.cancel_scope.deadline = trio.current_time() + 1
    assert cm.limit == 3


@pytest.mark.parametrize("attribute", HANDLE)
async def test_of_a_handle(attribute: str) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        handle = await cm.run(trio.sleep, 0)
        with pytest.raises(AttributeError):
            setattr(handle, attribute, "done")
    assert handle.state == "done"


@pytest.mark.parametrize("made", [RateLimiter(1), RetryBudget(), RetryConfig()])
def test_of_what_is_shared(made: Any) -> None:
    for attribute in ("misspelt", "statistics", "delay"):
        with pytest.raises(AttributeError):
            setattr(made, attribute, 3)


async def test_of_blocks_and_of_what_they_yield() -> None:
    keyed = KeyedLimit(1, key=str, limits={"a": 2})
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        block = cm.map(trio.sleep, [0])
        listening = shutdown_on_signal(cm)
        async with listening, block as outcomes, in_batches(outcomes, 2) as batches:
            each: list[Any] = [block, outcomes, batches, listening]
            for made in (*each, Tally(), keyed.limits, as_completed([])):
                for attribute in ("ordered", "misspelt"):
                    with pytest.raises(AttributeError):
                        setattr(made, attribute, 3)
