"""The executors that are tried, and what is refused, each made with two workers where it has some."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import attrs


@attrs.frozen
class Row:
    """An executor to try."""

    package: str
    """As it is installed; empty for the standard library."""
    make: Callable[[], AbstractContextManager[Any]]
    """Gives the executor; shuts down what it needs."""
    workers: Literal["here", "processes"] = "processes"
    dies: bool = True
    """Whether a worker may be killed: not in this process, nor where nothing comes back then."""
    launcher: tuple[str, ...] = ()
    """What starts the process, before the name of the module."""


def processes(method: str) -> Callable[[], AbstractContextManager[Any]]:
    def make() -> AbstractContextManager[Any]:
        context: Any = multiprocessing.get_context(method)
        return concurrent.futures.ProcessPoolExecutor(2, mp_context=context)

    return make


def interpreters() -> AbstractContextManager[Any]:
    pool: Any = concurrent.futures.InterpreterPoolExecutor  # type: ignore[attr-defined]
    made: AbstractContextManager[Any] = pool(2)
    return made


def loky() -> AbstractContextManager[Any]:
    import loky

    return loky.ProcessPoolExecutor(2)


@contextmanager
def dask() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2, timeout=60)
        yield client.get_executor(pure=False)


@contextmanager
def parsl_threads() -> Iterator[Any]:
    import parsl
    from parsl.concurrent import ParslPoolExecutor
    from parsl.executors import ThreadPoolExecutor

    config = parsl.Config(executors=[ThreadPoolExecutor(max_threads=2)])
    with ParslPoolExecutor(config) as executor:
        yield executor


@contextmanager
def parsl_processes() -> Iterator[Any]:
    import parsl
    from parsl.concurrent import ParslPoolExecutor
    from parsl.executors import HighThroughputExecutor

    htex = HighThroughputExecutor(
        address="127.0.0.1", loopback_address="127.0.0.1", max_workers_per_node=2, cores_per_worker=0.5
    )
    with ParslPoolExecutor(parsl.Config(executors=[htex])) as executor:
        yield executor


@contextmanager
def ipyparallel() -> Iterator[Any]:
    import ipyparallel

    with ipyparallel.Cluster(n=2, controller_ip="127.0.0.1", engine_timeout=60) as client:
        client.wait_for_engines(2, timeout=60)
        yield client.load_balanced_view().executor


@contextmanager
def ray() -> Iterator[Any]:
    import ray

    class Executor(concurrent.futures.Executor):
        """All that is needed: ray's references give futures."""

        def submit(
            self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
        ) -> concurrent.futures.Future[Any]:
            future: concurrent.futures.Future[Any] = remote.remote(fn, *args, **kwargs).future()
            return future

    @ray.remote
    def remote(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        logging_level="ERROR",
        log_to_driver=False,
        object_store_memory=100_000_000,
        configure_logging=False,
        _temp_dir=os.environ["TMPDIR"],
    )
    try:
        with Executor() as executor:
            yield executor
    finally:
        ray.shutdown()


@contextmanager
def pebble() -> Iterator[Any]:
    import pebble

    with pebble.ProcessPool(2) as pool:
        pool.shutdown = pool.close  # as others name it
        yield pool


def deadpool() -> AbstractContextManager[Any]:
    import deadpool

    made: AbstractContextManager[Any] = deadpool.Deadpool(max_workers=2)
    return made


def more_executors() -> AbstractContextManager[Any]:
    from more_executors import Executors

    made: AbstractContextManager[Any] = Executors.thread_pool(max_workers=2).with_retry(max_attempts=1)
    return made


def mpi4py() -> AbstractContextManager[Any]:
    from mpi4py.futures import MPIPoolExecutor

    made: AbstractContextManager[Any] = MPIPoolExecutor(2)
    return made


def executorlib() -> AbstractContextManager[Any]:
    import executorlib

    return executorlib.SingleNodeExecutor(max_workers=2, hostname_localhost=True, block_allocation=True)


def futurist_threads() -> AbstractContextManager[Any]:
    import futurist

    return futurist.ThreadPoolExecutor(2)


def futurist_processes() -> AbstractContextManager[Any]:
    import futurist

    return futurist.ProcessPoolExecutor(2)


def bounded_threads() -> AbstractContextManager[Any]:
    import bounded_pool_executor

    made: AbstractContextManager[Any] = bounded_pool_executor.BoundedThreadPoolExecutor(2)
    return made


def bounded_processes() -> AbstractContextManager[Any]:
    import bounded_pool_executor

    made: AbstractContextManager[Any] = bounded_pool_executor.BoundedProcessPoolExecutor(2)
    return made


def sequential() -> AbstractContextManager[Any]:
    import sequential_executor

    made: AbstractContextManager[Any] = sequential_executor.SequentialExecutor()
    return made


MPI = ("mpiexec", "-launcher", "fork", "-iface", "lo", "-n", "3", sys.executable, "-m", "mpi4py.futures")
ROWS = {
    "ThreadPoolExecutor": Row("", lambda: concurrent.futures.ThreadPoolExecutor(2), "here"),
    "ProcessPoolExecutor, fork": Row("", processes("fork")),
    "ProcessPoolExecutor, spawn": Row("", processes("spawn")),
    "ProcessPoolExecutor, forkserver": Row("", processes("forkserver")),
    "InterpreterPoolExecutor": Row("", interpreters, dies=False),
    "loky": Row("loky", loky),
    "Dask": Row("distributed", dask),
    "deadpool": Row("deadpool-executor", deadpool),
    "pebble": Row("pebble", pebble),
    "mpi4py": Row("mpi4py", mpi4py, dies=False, launcher=MPI),
    "executorlib": Row("executorlib", executorlib),
    "ipyparallel": Row("ipyparallel", ipyparallel),
    "parsl, threads": Row("parsl", parsl_threads, "here"),
    "parsl, processes": Row("parsl", parsl_processes),
    "ray": Row("ray", ray),
    "more-executors, threads": Row("more-executors", more_executors, "here"),
    "futurist, threads": Row("futurist", futurist_threads, "here"),
    "futurist, processes": Row("futurist", futurist_processes),
    "bounded-pool-executor, threads": Row("bounded-pool-executor", bounded_threads, "here"),
    "bounded-pool-executor, processes": Row("bounded-pool-executor", bounded_processes, dies=False),
    "sequential-executor": Row("sequential-executor", sequential, "here"),
}
