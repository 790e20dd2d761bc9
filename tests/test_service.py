"""A metered and flaky service, over real sockets, judged by what the service saw.

The server runs in a process of its own and on real time, as do these tests, though virtual time is the rule
elsewhere: whether the promises hold for somebody outside, and together with a real HTTP client, only that can
tell. So the bounds are such that a slow machine cannot break them: a gap is at least so long, a number is at
most so high, and what the server does depends on the number of requests rather than on their speed. Exact
times are for the tests in virtual time.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Protocol

import attrs
import httpx
import pytest
import trio

from trio_conman import ConMan, RateLimiter, RetriableError, RetryBudget, RetryConfig, parse_retry_after

PROGRAM = Path(__file__).parent / "programs" / "quota_server.py"

# More retries than there are failures in any of these tests, so that none of them is the last one.
PATIENT = RetryConfig.exponential(max_attempts=60, initial_delay=0.01, max_delay=0.05)


@attrs.frozen
class Seen:
    """A request as the server saw it."""

    time: float
    path: str
    status: int | None
    """None when it closed the connection without an answer."""


class StartServer(Protocol):
    def __call__(self, *arguments: object) -> str: ...


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Starts servers, which end with the test, and returns their addresses."""
    with ExitStack() as stack:

        def start(*arguments: object) -> str:
            # Leaving its block closes the standard input, at which the server ends, and waits for that.
            child = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, PROGRAM, *map(str, arguments)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            assert child.stdout is not None
            port = child.stdout.readline().strip()
            assert port, "the server did not start"
            return f"http://127.0.0.1:{port}"

        yield start


async def get(client: httpx.AsyncClient, path: str) -> None:
    try:
        response = await client.get(path)
        response.raise_for_status()
    except httpx.HTTPStatusError as exc:
        retry_after = parse_retry_after(exc.response.headers.get("Retry-After", ""))
        raise RetriableError(exc, retry_after=retry_after) from exc
    except httpx.TransportError as exc:
        raise RetriableError(exc) from exc


async def get_all(
    server: str, pages: int, limit: int, *, rate: RateLimiter | None, retry_budget: RetryBudget | None = None
) -> list[Seen]:
    """Get so many pages; return what the server saw of that, in its order."""
    with trio.fail_after(30):  # in no other case than that something hangs
        async with httpx.AsyncClient(base_url=server, timeout=None, trust_env=False) as client:
            async with trio.open_nursery() as nursery:
                async with ConMan[None].open(
                    nursery, limit, retry=PATIENT, rate=rate, retry_budget=retry_budget
                ) as cm:
                    for page in range(pages):
                        await cm.run(get, client, f"/{page}")
            return [Seen(**entry) for entry in (await client.get("/log")).json()]


def retries(seen: list[Seen]) -> int:
    return len(seen) - len({each.path for each in seen})


async def test_retry_after_of_one_answer_pauses_the_whole_pool(start_server: StartServer) -> None:
    # Ten requests, and hardly any more until there has been a second of silence: so it is the number of
    # requests, and not their speed, that makes it refuse some.
    limit = 4
    seen = await get_all(start_server(0.0001, 10), 25, limit, rate=RateLimiter(10_000))
    series = [(status, list(each)) for status, each in groupby(seen, lambda each: each.status)]
    assert [status for status, _ in series] == [200, 429, 200, 429, 200]
    assert [len(each) for status, each in series if status == 200] == [10, 10, 5]
    for (_, refused), (_, later) in ((series[1], series[2]), (series[3], series[4])):
        # Those that were under way together at the most: once the client knew, it began no other.
        assert len(refused) <= limit
        assert later[0].time - refused[-1].time >= 1
    assert len({each.path for each in seen}) == 25


async def test_a_rate_limiter_at_the_quota_is_never_refused(start_server: StartServer) -> None:
    # The burst lets pass what comes at once after the server had to wait for a processor, for up to 1.5 s.
    seen = await get_all(start_server(20, 30), 60, 10, rate=RateLimiter(20))
    assert [each.status for each in seen] == [200] * 60


# The outage begins after 30 requests and lasts for 30; long after it one more request fails.
OUTAGE = range(30, 60)
DOWN = "31-60,91"
BROKEN = 90


async def test_a_budget_keeps_retries_a_share_and_the_run_recovers(start_server: StartServer) -> None:
    tokens, ratio = 5, 0.1
    budget = RetryBudget(tokens, ratio)
    seen = await get_all(start_server(1, 10_000, DOWN), 100, 4, rate=None, retry_budget=budget)
    statuses = [each.status for each in seen]
    assert {each.path for each in seen} == {f"/{page}" for page in range(100)}
    assert [number for number, status in enumerate(statuses) if status != 200] == [*OUTAGE, BROKEN]
    assert tokens < retries(seen) <= tokens + ratio * statuses.count(200)
    # After the outage nothing is lost. The budget allows retries again: what broke then was asked for again.
    delivered = {each.path for each in seen if each.status == 200}
    assert {each.path for each in seen[OUTAGE.stop :]} <= delivered
    lost = {each.path for each in seen} - delivered
    assert len(lost) == len(OUTAGE) + 1 - retries(seen)


async def test_without_a_budget_each_failure_in_an_outage_makes_a_retry(start_server: StartServer) -> None:
    seen = await get_all(start_server(1, 10_000, DOWN), 100, 4, rate=None)
    assert [number for number, each in enumerate(seen) if each.status != 200] == [*OUTAGE, BROKEN]
    assert retries(seen) == len(OUTAGE) + 1
    assert {each.path for each in seen if each.status == 200} == {f"/{page}" for page in range(100)}
