"""run_in_executor on a Dask cluster: a scheduler in this process, and two processes that work for it."""

import concurrent.futures
import operator
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from distributed import Client, KilledWorker, LocalCluster

from trio_conman import ConMan, Failure, RetryConfig, StopReason
from trio_conman.executors import run_in_executor

read_text: Callable[[Path], str] = Path.read_text
# A resource that no worker has: what asks for it never starts.
NOWHERE = {"NOWHERE": 1}

needs_posix = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no SIGKILL, nor pipes with a path"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    local_cluster: Any = LocalCluster  # it has few types
    with local_cluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        local_directory=tmp_path_factory.mktemp("dask"),
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    client_of: Any = Client
    with client_of(cluster) as client:
        client.wait_for_workers(2, timeout=300)  # on a busy machine a killed one is long in coming back
        yield client


@pytest.fixture
def executor(client: Any) -> Any:
    return client.get_executor(pure=False)


async def test_all_results_arrive(executor: Any) -> None:
    def job(n: int) -> tuple[int, int]:
        return n, os.getpid()

    async with trio.open_nursery() as nursery, ConMan[tuple[int, int]].open(nursery, 10) as cm:
        for n in range(100):
            await cm.run(run_in_executor, executor, job, n)
    assert sorted(n for n, _ in cm.outputs()) == list(range(100))
    assert os.getpid() not in {pid for _, pid in cm.outputs()}


async def test_equal_calls_are_made_each(executor: Any, tmp_path: Path) -> None:
    def job(path: Path) -> int:
        """Fail when called for the first time."""
        with path.open("a") as file:
            file.write("called\n")
        if (calls := len(path.read_text().splitlines())) == 1:
            raise OSError("no")
        return calls

    config = RetryConfig.none(retry_on=OSError)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, retry=config) as cm:
        handle = await cm.run(run_in_executor, executor, job, tmp_path / "calls")
    assert await handle.result() == 2


async def test_an_error_comes_back_as_it_is(executor: Any) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
        handle = await cm.run(run_in_executor, executor, operator.truediv, 1, 0)
    match handle.outcome:
        case Failure(error=ZeroDivisionError() as error, reason=StopReason.ERROR):
            assert str(error) == "division by zero"
        case outcome:
            pytest.fail(f"{outcome!r}")


@needs_posix
async def test_all_results_arrive_when_a_worker_is_killed_in_the_midst_of_them(
    client: Any, executor: Any
) -> None:
    def job(n: int) -> int:
        time.sleep(0.02)
        return n * n

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 8) as cm:
        for n in range(40):
            if n == 15:
                pids: dict[str, int] = await trio.to_thread.run_sync(client.run, os.getpid)
                assert len(pids) == 2
                os.kill(min(pids.values()), signal.SIGKILL)
            # Not KilledWorker alone: a result may be lost on its way, when its worker has just computed it.
            await cm.run(run_in_executor, executor, job, n, retry=RetryConfig(retry_on=Exception))
    assert sorted(cm.outputs()) == [n * n for n in range(40)]
    assert cm.errors() == []


@needs_posix
async def test_a_call_whose_worker_has_died_is_retried(
    cluster: Any, executor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def job(path: Path) -> str:
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"

    # Else Dask itself would call it again.
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    config = RetryConfig.none(retry_on=KilledWorker)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, retry=config) as cm:
        handle = await cm.run(run_in_executor, executor, job, tmp_path / "called")
    assert cm.outputs() == ["survived"]
    assert handle.retries == 1


async def test_a_call_that_has_not_started_is_cancelled(cluster: Any, client: Any) -> None:
    executor = client.get_executor(pure=False, resources=NOWHERE)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        await cm.run(run_in_executor, executor, operator.pow, 2, 3)
        await until_scheduled(cluster, 1)
        cm.cancel()
    assert cm.statistics().cancelled == 1
    await until_scheduled(cluster, 0)


async def until_scheduled(cluster: Any, number: int) -> None:
    """Wait until the scheduler knows of so many calls."""
    with trio.fail_after(60):
        while len(cluster.scheduler.tasks) != number:
            await trio.sleep(0.01)


@needs_posix
async def test_a_running_call_is_left_to_dask_when_cancelled(executor: Any, tmp_path: Path) -> None:
    # Reading from it takes until somebody has written to it; writing, until somebody reads.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery) as cm:
        handle = await cm.run(run_in_executor, executor, read_text, pipe)
        async with await trio.open_file(pipe, "w"):
            handle.cancel()
            assert isinstance(await handle.wait(), Failure)
    assert cm.statistics().cancelled == 1


async def test_a_call_that_a_shutdown_cancels_is_an_ordinary_error(cluster: Any, client: Any) -> None:
    executor = client.get_executor(pure=False, resources=NOWHERE)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        handle = await cm.run(run_in_executor, executor, operator.pow, 2, 3)
        await until_scheduled(cluster, 1)
        executor.shutdown(wait=False)
        outcome = await handle.wait()
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, concurrent.futures.CancelledError)
    assert outcome.reason is StopReason.ERROR
