"""Calls on a Dask cluster whose scheduler and workers are processes of their own, some of which are killed.

    python -m tests.tried.scale [--calls 100000] [--workers 4] [--limit 64]

First some calls go through a manager, one by one and in batches, through Dask's executor alone, and through
`Client.map`, on clusters that are left alone. Then all of them go through a manager, while two workers are
killed and one is added. The status is 1 when a result is missing, or memory has grown with the calls.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import trio
from distributed import Client

from trio_conman import ConMan, Failure, RetryConfig, Success
from trio_conman.executors import broken_worker_errors, run_in_executor

ROOT = Path(__file__).parent.parent.parent
MEMORY = 100.0  # megabytes that it may grow by
BATCH = 50  # calls


def call(n: int) -> int:
    time.sleep(0.001)
    return n


class Cluster:
    """A scheduler and its workers."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "scheduler.json"
        self.directory = directory
        self.processes = [self.started("scheduler", "--dashboard-address", "127.0.0.1:0", "--port", "0")]
        while not self.file.exists():
            time.sleep(0.1)

    def started(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--host", "127.0.0.1", *options]
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [*command, "--scheduler-file", str(self.file)],
                cwd=self.directory,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )

    def add(self) -> None:
        # Without a nanny, which would start another in place of one that is killed.
        self.processes.append(self.started("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"))

    def kill(self) -> None:
        self.processes.pop().kill()

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@contextmanager
def cluster_of(workers: int) -> Iterator[tuple[Cluster, Any]]:
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory))
        try:
            for _ in range(workers):
                cluster.add()
            with Client(scheduler_file=str(cluster.file)) as client:
                client.wait_for_workers(workers, timeout=60)
                yield cluster, client
        finally:
            cluster.end()


def call_all(numbers: Sequence[int]) -> list[int]:
    return [call(n) for n in numbers]


def by_executor(client: Any, number: int) -> float:
    """Calls in a second, through what the manager uses."""
    executor = client.get_executor(pure=False)
    before = time.perf_counter()
    futures = [executor.submit(call, n) for n in range(number)]
    assert [future.result() for future in futures] == list(range(number))
    return number / (time.perf_counter() - before)


def by_batches(client: Any, number: int, limit: int) -> float:
    """Calls in a second, through a manager, each of whose tasks makes many of them."""
    executor = client.get_executor(pure=False)
    batches = [range(start, min(start + BATCH, number)) for start in range(0, number, BATCH)]

    async def main() -> list[int]:
        async with trio.open_nursery() as nursery, ConMan[list[int]].open(nursery, limit) as cm:
            for batch in batches:
                await cm.run(run_in_executor, executor, call_all, batch)
        return sorted(chain.from_iterable(cm.outputs()))

    before = time.perf_counter()
    assert trio.run(main) == list(range(number))
    return number / (time.perf_counter() - before)


def by_map(client: Any, number: int) -> float:
    """Calls in a second."""
    before = time.perf_counter()
    assert client.gather(client.map(call, range(number), pure=False)) == list(range(number))
    return number / (time.perf_counter() - before)


def by_manager(client: Any, number: int, limit: int, cluster: Cluster | None = None) -> float:
    """Calls in a second; with a cluster, while some of its workers are killed and one is added."""
    executor = client.get_executor(pure=False)
    retry = RetryConfig.exponential(retry_on=broken_worker_errors(executor))
    trouble = {} if cluster is None else {0.25: cluster.kill, 0.5: cluster.add, 0.75: cluster.kill}
    due = {int(number * part): act for part, act in trouble.items()}
    missing = set(range(number))

    async def run(n: int) -> int:
        return await run_in_executor(executor, call, n)

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit, retry=retry) as cm:
            async with cm.map(run, range(number)) as outcomes:
                async for outcome in outcomes:
                    match outcome:
                        case Success(value=value):
                            missing.remove(value)
                        case Failure():
                            print(outcome)
                    if (act := due.pop(number - len(missing), None)) is not None:
                        print(f"{number - len(missing):,} results: {act.__name__}", flush=True)
                        act()

    before = time.perf_counter()
    trio.run(main)
    assert not missing, f"{len(missing)} results are missing"
    return number / (time.perf_counter() - before)


def rates_of(client: Any, number: int, limit: int) -> dict[str, float]:
    return {
        "manager": by_manager(client, number, limit),
        "in batches": by_batches(client, number, limit),
        "executor": by_executor(client, number),
        "Client.map": by_map(client, number),
    }


def memory() -> float:
    """The most memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tried.scale")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--limit", type=int, default=64)
    options = parser.parse_args()
    few = options.calls // 20
    logging.getLogger("distributed.client").setLevel(
        logging.CRITICAL
    )  # it tells of each worker that was killed
    for workers in (1, 2, options.workers):
        with cluster_of(workers) as (_, client):
            rates_of(client, few // 10, options.limit)  # until all is imported
            rates = rates_of(client, few, options.limit)
        told = [f"{name} {rate:,.0f} ({rate / rates['Client.map']:.2f})" for name, rate in rates.items()]
        print(f"calls/s on {workers} workers: {', '.join(told)}", flush=True)
    with cluster_of(options.workers) as (cluster, client):
        by_manager(client, few, options.limit)
        before = memory()
        print(f"{by_manager(client, options.calls, options.limit, cluster):,.0f} calls/s, all results there")
        grown = memory() - before
    print(f"memory has grown by {grown:.0f} MB")
    return 1 if grown > MEMORY else 0


if __name__ == "__main__":
    sys.exit(main())
