"""`adaptive-concurrency` (PyPI) against the same services, on an event loop of asyncio in simulated time."""

from __future__ import annotations

import asyncio
import logging
import selectors
from typing import Any
from unittest.mock import patch

from .runs import ITEMS, Run
from .services import RefusedError, Scenario


class Leap(selectors.SelectSelector):
    """Does not wait for a time, but lets it come."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events:
            assert timeout is not None, "nothing would ever happen"
            self.now += timeout
        return events


class Loop(asyncio.SelectorEventLoop):
    """Its time is that of `Leap`."""

    def __init__(self) -> None:
        self._leap = Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        return self._leap.now


def run(scenario: Scenario, seed: int, items: int = ITEMS) -> Run:
    """Call the service for so many items; what is refused is not tried again, as the package has it."""
    import adaptive_concurrency  # type: ignore[import-not-found,unused-ignore]  # mypy may run without it

    logging.getLogger("adaptive_concurrency").disabled = True
    loop = Loop()
    service = scenario.service(seed, loop.time, asyncio.sleep)
    limits: list[tuple[float, int]] = []
    at_once = 0

    async def call(batch: list[int]) -> tuple[bool, int, str]:
        nonlocal at_once
        at_once += 1
        limits.append((loop.time(), at_once))
        try:
            await service.call()
        except RefusedError as error:
            return False, 0, str(error)
        finally:
            at_once -= 1
        return True, 1, ""

    config = adaptive_concurrency.AdaptiveConfig(
        workers=scenario.initial, max_workers=200, batch_size=1, max_consecutive_failures=10**9
    )
    with loop_time(loop):
        loop.run_until_complete(adaptive_concurrency.arun_adaptive(range(items), call, config))
    seconds = loop.time()
    loop.close()
    return Run(service, limits, seconds, service.refused)


def loop_time(loop: Loop) -> Any:
    """The package times its calls by `time.perf_counter`."""
    return patch("time.perf_counter", loop.time)
