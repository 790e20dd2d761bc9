"""What the manager costs where tasks do something: HTTP requests to a server in a child process, by
loopback.

Two clients: httpx, as people use it, and h11 on sockets that are kept, which does as little as a client in
Python can. The server answers after a while, so that as many requests as the limit are under way, whatever
starts them; this process is busy all the time nevertheless.

The first table has microseconds a request, and ratios to the hand-written block of the same round. The second
has where the time goes: the own time (tottime) of all functions by cProfile, by the package that they are in;
built-in functions count where they are called; waiting for the server does not count. A profiler slows down
Python's calls, but not what is done inside built-in functions: shares of Python code, the manager's among
them, come out too great.

Run it with ``python -m tests.benchmarks.bench_http``; ``--requests``, ``--limit``, ``--delay`` (milliseconds)
and ``--rounds`` change the load.
"""

import cProfile
import gc
import pstats
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import h11
import httpx
import trio

import trio_conman
from trio_conman import ConMan, Success

from .contenders import Job, by_hand, run
from .measuring import ROOT, Spread, Table, compared, options, report, rounds_of

UNIT = "µs a request"
PATH = "/page"

Door = Callable[[int, int, Job], Awaitable[int]]
Client = Callable[[int, int], AbstractAsyncContextManager[Job]]


async def mapped(tasks: int, limit: int, job: Job) -> int:
    """`ConMan.map`, which tells of failures too."""
    done = 0
    async with (
        trio.open_nursery() as nursery,
        ConMan[int].open(nursery, limit) as cm,
        cm.map(job, range(tasks)) as outcomes,
    ):
        async for outcome in outcomes:
            done += isinstance(outcome, Success)
    return done


DOORS: dict[str, Door] = {"by hand": by_hand, "run": run, "map": mapped}


@asynccontextmanager
async def with_httpx(port: int, limit: int) -> AsyncIterator[Job]:
    """Requests by httpx; the job returns the status."""
    limits = httpx.Limits(max_connections=limit, max_keepalive_connections=limit)
    # trust_env: no proxy of the environment.
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", limits=limits, trust_env=False
    ) as client:

        async def job(n: int) -> int:
            response = await client.get(PATH)
            response.raise_for_status()
            return response.status_code

        yield job


@asynccontextmanager
async def with_h11(port: int, limit: int) -> AsyncIterator[Job]:
    """Requests by h11; the job returns the status."""
    idle: list[tuple[trio.SocketStream, h11.Connection]] = []
    request = h11.Request(method="GET", target=PATH, headers=[("Host", f"127.0.0.1:{port}")])

    async def job(n: int) -> int:
        if idle:
            stream, connection = idle.pop()
        else:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            connection = h11.Connection(h11.CLIENT)
        sent = connection.send(request)
        assert sent is not None
        await stream.send_all(sent + (connection.send(h11.EndOfMessage()) or b""))
        status = 0
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Response):
                status = event.status_code
        connection.start_next_cycle()
        idle.append((stream, connection))
        return status

    try:
        yield job
    finally:
        for stream, _ in idle:
            await trio.aclose_forcefully(stream)


CLIENTS: dict[str, Client] = {"httpx": with_httpx, "h11": with_h11}


@contextmanager
def server(delay: int) -> Iterator[int]:
    """The port of a server that ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.http_server", str(delay)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


def measure(
    door: Door, client: Client, port: int, requests: int, limit: int, profile: cProfile.Profile | None = None
) -> float:
    """Microseconds a request, the connections being open."""

    async def main() -> float:
        async with client(port, limit) as job:
            await door(min(2 * limit, requests), limit, job)
            gc.collect()
            if profile is not None:
                profile.enable()
            start = time.perf_counter()
            done = await door(requests, limit, job)
            spent = time.perf_counter() - start
            if profile is not None:
                profile.disable()
        if done != requests:
            raise RuntimeError(f"{done} of {requests} requests were answered")
        return spent / requests * 1e6

    return trio.run(main)


# Where the time goes

OWN = str(Path(trio_conman.__file__).parent)
LIBRARIES = ("trio", "httpx", "httpcore", "anyio", "h11")


def package_of(file: str) -> str:
    """The package that a function belongs to, by the file that its profile tells."""
    # The methods that attrs makes have a file of their own, named by the class.
    if file.startswith(OWN) or (file.startswith("<attrs generated") and "trio_conman." in file):
        return "trio_conman"
    parts = Path(file).parts
    if "site-packages" in parts:
        package = parts[parts.index("site-packages") + 1]
        return package if package in LIBRARIES else "the rest"
    return "this benchmark" if file.startswith(str(ROOT / "tests")) else "the rest"


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """The own time of each package, in percent of all."""
    statistics: Any = pstats.Stats(profile)  # its `stats` is not among its types
    spent: dict[str, float] = {}
    for (file, _, name), (_, _, own, _, callers) in statistics.stats.items():
        if "poll" in name or "select.kqueue" in name or "GetQueuedCompletionStatus" in name:
            continue  # waiting
        if file != "~":
            spent[package_of(file)] = spent.get(package_of(file), 0) + own
            continue
        for (calling, _, _), (_, _, there, _) in callers.items():
            spent[package_of(calling)] = spent.get(package_of(calling), 0) + there
    total = sum(spent.values())
    return {package: 100 * each / total for package, each in spent.items()}


def main() -> None:
    given = options(
        __doc__,
        full={"requests": 2_000, "limit": 100, "delay": 50, "rounds": 3},
        quick={"requests": 50, "limit": 10, "delay": 1, "rounds": 1},
    )
    with server(given.delay) as port:
        # A run per client: there is no ratio between them.
        rows: dict[str, dict[str, Spread]] = {}
        profiled: dict[str, dict[str, float]] = {}
        for name, client in CLIENTS.items():
            measures = {
                f"{name}, {door_name}": lambda door=door, client=client: measure(
                    door, client, port, given.requests, given.limit
                )
                for door_name, door in DOORS.items()
            }
            rounds = rounds_of(measures, given.rounds)
            rows |= compared(rounds, UNIT, {"by hand = 1": f"{name}, by hand"})
            for door_name, door in DOORS.items():
                profile = cProfile.Profile()
                measure(door, client, port, given.requests, given.limit, profile)
                profiled[f"{name}, {door_name}"] = shares(profile)

    packages = sorted({package for each in profiled.values() for package in each})
    load = f"{given.requests:,} requests, limit {given.limit}, answered after {given.delay} ms"
    tables = {
        "http": Table("HTTP by loopback", f"{load}, rounds: {given.rounds}", [UNIT, "by hand = 1"], rows),
        "http_profile": Table(
            "Where the time goes: own time in %, waiting left out",
            f"{load}, once, by cProfile",
            list(profiled),
            {
                package: {
                    name: Spread.of([each[package]]) for name, each in profiled.items() if package in each
                }
                for package in packages
            },
        ),
    }
    report(tables, given.json)


if __name__ == "__main__":
    main()
