"""Calls on a Dask cluster whose scheduler and workers are processes of their own, some of which are killed.

    python -m tests.tried.scale [--calls 100000] [--workers 4] [--limit 64] [--batch 50]

First some calls go through a manager, through Dask's executor alone, and through `Client.map`, on clusters
that are left alone: one call a task, and a batch of them. Then all of them go through a manager, in batches,
while two workers are killed and one is added. The status is 1 when a result is missing, or memory has grown
with the calls.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import trio
from distributed import Client

from trio_conman import ConMan, Failure, RetryConfig, Success
from trio_conman.executors import broken_worker_errors, run_in_executor

ROOT = Path(__file__).parent.parent.parent
MEMORY = 100.0  # megabytes that it may grow by
ROUNDS = 3


def call(n: int) -> int:
    time.sleep(0.001)
    return n


def call_all(numbers: Sequence[int]) -> list[int]:
    return [call(n) for n in numbers]


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


def by_executor(client: Any, batches: Sequence[Sequence[int]]) -> None:
    """Through what the manager uses."""
    executor = client.get_executor(pure=False)
    futures = [executor.submit(call_all, batch) for batch in batches]
    assert [future.result() for future in futures] == list(map(list, batches))


def by_map(client: Any, batches: Sequence[Sequence[int]]) -> None:
    assert client.gather(client.map(call_all, batches, pure=False)) == list(map(list, batches))


def by_manager(
    client: Any, batches: Sequence[Sequence[int]], limit: int, cluster: Cluster | None = None
) -> None:
    """With a cluster, while some of its workers are killed and one is added."""
    executor = client.get_executor(pure=False)
    retry = RetryConfig.exponential(retry_on=broken_worker_errors(executor))
    trouble = {} if cluster is None else {0.25: cluster.kill, 0.5: cluster.add, 0.75: cluster.kill}
    due = {int(len(batches) * part): act for part, act in trouble.items()}
    missing = set(chain.from_iterable(batches))

    async def run(batch: Sequence[int]) -> list[int]:
        return await run_in_executor(executor, call_all, batch)

    async def main() -> None:
        done = 0
        async with trio.open_nursery() as nursery, ConMan[list[int]].open(nursery, limit, retry=retry) as cm:
            async with cm.map(run, batches) as outcomes:
                async for outcome in outcomes:
                    done += 1
                    match outcome:
                        case Success(value=numbers):
                            assert missing.issuperset(numbers), "a result came twice"
                            missing.difference_update(numbers)
                        case Failure():
                            print(outcome)
                    if (act := due.pop(done, None)) is not None:
                        print(f"{done:,} of {len(batches):,} tasks: {act.__name__}", flush=True)
                        act()

    trio.run(main)
    assert not missing, f"{len(missing)} results are missing"


def batched(calls: int, size: int) -> list[range]:
    return [range(start, min(start + size, calls)) for start in range(0, calls, size)]


def rates(client: Any, calls: int, size: int, limit: int) -> str:
    """Calls in a second, the best of some rounds in which all have their turn, and beside `Client.map`."""
    batches = batched(calls, size)
    ways: dict[str, Callable[[], None]] = {
        "manager": partial(by_manager, client, batches, limit),
        "executor": partial(by_executor, client, batches),
        "Client.map": partial(by_map, client, batches),
    }
    best = dict.fromkeys(ways, 0.0)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            best[name] = max(best[name], rate_of(way, calls))
    return ", ".join(f"{name} {rate:,.0f} ({rate / best['Client.map']:.2f})" for name, rate in best.items())


def rate_of(way: Callable[[], None], calls: int) -> float:
    before = time.perf_counter()
    way()
    return calls / (time.perf_counter() - before)


def memory() -> float:
    """The most memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tried.scale")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--batch", type=int, default=50, help="calls in a task")
    options = parser.parse_args()
    few = options.calls // 20
    # It tells of each worker that was killed.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    for workers in (1, 2, options.workers):
        with cluster_of(workers) as (_, client):
            by_manager(client, batched(few // 10, 1), options.limit)  # until all is imported
            for size, calls in ((1, few // 5), (options.batch, few)):
                told = rates(client, calls, size, options.limit)
                print(f"calls/s on {workers} workers, {size} a task: {told}", flush=True)
    with cluster_of(options.workers) as (cluster, client):
        by_manager(client, batched(few, options.batch), options.limit)
        before = memory()
        at_scale = partial(by_manager, client, batched(options.calls, options.batch), options.limit, cluster)
        print(f"{rate_of(at_scale, options.calls):,.0f} calls/s, all results there")
        grown = memory() - before
    print(f"memory has grown by {grown:.0f} MB")
    return 1 if grown > MEMORY else 0


if __name__ == "__main__":
    sys.exit(main())
