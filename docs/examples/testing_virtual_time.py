from collections.abc import Awaitable, Callable
from typing import Any

import trio
from trio.testing import MockClock

from trio_conman import ConMan, RetryConfig
from trio_conman.testing import FixedJitter, FlakyTask, RecordingInstrument

RETRY = RetryConfig.exponential(initial_delay=60, max_delay=3600, retry_on=OSError)


async def fetch_all(
    fetch: Callable[[str], Awaitable[str]], pages: list[str], **options: Any
) -> list[str]:
    """The code to be tested."""
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2, retry=RETRY, **options) as cm:
            for page in pages:
                await cm.run(fetch, page, name=page)
    return cm.outputs()


async def test_a_page_that_fails_twice_is_fetched_again() -> None:
    fetch = FlakyTask[str](OSError("busy"), OSError("busy"), "the page", seconds=1)
    recorder = RecordingInstrument()
    options: dict[str, Any] = {"rng": FixedJitter(), "instruments": [recorder]}
    assert await fetch_all(fetch, ["home"], **options) == ["the page"]
    assert fetch.calls == [(0, ("home",)), (61, ("home",)), (182, ("home",))]
    for event in recorder.events:
        print(f"{event.time:3g} s  {event.hook}  {event.error or ''}".rstrip())


trio.run(
    test_a_page_that_fails_twice_is_fetched_again, clock=MockClock(autojump_threshold=0)
)
