"""The executors that are tried, and what is refused, each made with two workers where it has some."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib import import_module
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


def maker(module: str, name: str, *args: Any, **options: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Make an object of a class of others, which types know nothing of."""

    def make() -> AbstractContextManager[Any]:
        made: AbstractContextManager[Any] = getattr(import_module(module), name)(*args, **options)
        return made

    return make


@contextmanager
def dask() -> Iterator[Any]:
    distributed = import_module("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(2, timeout=60)
        yield client.get_executor(pure=False)


@contextmanager
def parsl(kind: str, **options: Any) -> Iterator[Any]:
    config = import_module("parsl").Config([getattr(import_module("parsl.executors"), kind)(**options)])
    with import_module("parsl.concurrent").ParslPoolExecutor(config) as executor:
        yield executor


@contextmanager
def ipyparallel() -> Iterator[Any]:
    cluster = import_module("ipyparallel").Cluster(n=2, controller_ip="127.0.0.1", engine_timeout=60)
    with cluster as client:
        client.wait_for_engines(2, timeout=60)
        yield client.load_balanced_view().executor


@contextmanager
def ray() -> Iterator[Any]:
    ray = import_module("ray")

    class Executor(concurrent.futures.Executor):
        """All that is needed: ray's references give futures."""

        def submit(
            self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
        ) -> concurrent.futures.Future[Any]:
            future: concurrent.futures.Future[Any] = remote.remote(fn, *args, **kwargs).future()
            return future

    def call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    remote: Any = ray.remote(call)
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
    with import_module("pebble").ProcessPool(2) as pool:
        pool.shutdown = pool.close  # as others name it
        yield pool


@contextmanager
def more_executors() -> Iterator[Any]:
    executors = import_module("more_executors").Executors
    with executors.thread_pool(max_workers=2).with_retry(max_attempts=1) as executor:
        yield executor


HTEX: dict[str, Any] = {
    "address": "127.0.0.1",
    "loopback_address": "127.0.0.1",
    "max_workers_per_node": 2,
    "cores_per_worker": 0.5,
}
EXECUTORLIB: dict[str, Any] = {"max_workers": 2, "hostname_localhost": True, "block_allocation": True}
MPI = ("mpiexec", "-launcher", "fork", "-iface", "lo", "-n", "3", sys.executable, "-m", "mpi4py.futures")
ROWS = {
    "ThreadPoolExecutor": Row("", maker("concurrent.futures", "ThreadPoolExecutor", 2), "here"),
    "ProcessPoolExecutor, fork": Row("", processes("fork")),
    "ProcessPoolExecutor, spawn": Row("", processes("spawn")),
    "ProcessPoolExecutor, forkserver": Row("", processes("forkserver")),
    "InterpreterPoolExecutor": Row("", maker("concurrent.futures", "InterpreterPoolExecutor", 2), dies=False),
    "loky": Row("loky", maker("loky", "ProcessPoolExecutor", 2)),
    "Dask": Row("distributed", dask),
    "deadpool": Row("deadpool-executor", maker("deadpool", "Deadpool", max_workers=2)),
    "pebble": Row("pebble", pebble),
    "mpi4py": Row("mpi4py", maker("mpi4py.futures", "MPIPoolExecutor", 2), dies=False, launcher=MPI),
    "executorlib": Row("executorlib", maker("executorlib", "SingleNodeExecutor", **EXECUTORLIB)),
    "ipyparallel": Row("ipyparallel", ipyparallel),
    "parsl, threads": Row("parsl", partial(parsl, "ThreadPoolExecutor", max_threads=2), "here"),
    "parsl, processes": Row("parsl", partial(parsl, "HighThroughputExecutor", **HTEX)),
    "ray": Row("ray", ray),
    "more-executors, threads": Row("more-executors", more_executors, "here"),
    "futurist, threads": Row("futurist", maker("futurist", "ThreadPoolExecutor", 2), "here"),
    "futurist, processes": Row("futurist", maker("futurist", "ProcessPoolExecutor", 2)),
    "bounded-pool-executor, threads": Row(
        "bounded-pool-executor", maker("bounded_pool_executor", "BoundedThreadPoolExecutor", 2), "here"
    ),
    "bounded-pool-executor, processes": Row(
        "bounded-pool-executor", maker("bounded_pool_executor", "BoundedProcessPoolExecutor", 2), dies=False
    ),
    "sequential-executor": Row(
        "sequential-executor", maker("sequential_executor", "SequentialExecutor"), "here"
    ),
}
