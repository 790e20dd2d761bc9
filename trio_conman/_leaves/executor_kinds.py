"""What is known of executors by their kind: how to call them, what their failures mean, what to use instead.

Nothing is imported to find out: an object can only be of a class whose module is there.
"""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Iterator

from trio_conman._base.texts import short

# What to pass in place of something that takes calls in a way of its own, by the package of its class.
_INSTEAD = {
    "billiard": "a concurrent.futures.ProcessPoolExecutor",
    "distributed": "client.get_executor(pure=False)",
    "gevent": "a concurrent.futures.ThreadPoolExecutor",
    "ipyparallel": "client.load_balanced_view().executor",
    "multiprocessing": "a concurrent.futures.ProcessPoolExecutor",
    "parsl": "a parsl.concurrent.ParslPoolExecutor",
    "pebble": "a pebble.ProcessPool or a concurrent.futures.ThreadPoolExecutor",
    "ray": "an Executor of your own, whose submit returns remote_function.remote(*args).future()",
}
# What says that a worker has died, where it is no BrokenExecutor, by the package of the executor's class.
_WORKER_DIED = {
    "deadpool": [("deadpool", "ProcessError")],
    "distributed": [("distributed.scheduler", "KilledWorker")],
    "executorlib": [("executorlib.standalone.interactive.communication", "ExecutorlibSocketError")],
    "parsl": [
        ("parsl.executors.high_throughput.errors", "ManagerLost"),
        ("parsl.executors.high_throughput.errors", "WorkerLost"),
    ],
    "pebble": [("pebble", "ProcessExpired")],
}


def check_executor(executor: object) -> None:
    """Refuse what is no executor: an argument of another kind of ``submit`` may not mean what it should."""
    is_one = isinstance(executor, concurrent.futures.Executor) or takes_timeout(executor)
    # What gevent calls one gives futures of its own, and only to the thread that has made it.
    if not is_one or _is_a(executor, "gevent.threadpool", "ThreadPoolExecutor"):
        raise TypeError(
            f"executor must be a concurrent.futures.Executor, not {short(executor)}{instead_of(executor)}"
        )


def check_future(future: object, executor: object) -> None:
    """Refuse what is no future: nobody knows who would tell of its end, and where."""
    if not isinstance(future, concurrent.futures.Future):
        raise TypeError(
            "executor must be one whose submit returns a concurrent.futures.Future, "
            f"but that of {short(executor)} returned {short(future)}{instead_of(executor)}"
        )


def instead_of(executor: object) -> str:
    """The way out, for the end of a message."""
    return next((f": pass {_INSTEAD[name]}" for name in _packages(executor) if name in _INSTEAD), "")


def died_of(executor: object) -> tuple[type[Exception], ...]:
    """What the calls of an executor raise when their worker has died."""
    found = [
        getattr(sys.modules.get(module), name, None)
        for package in _packages(executor)
        for module, name in _WORKER_DIED.get(package, ())
    ]
    return (concurrent.futures.BrokenExecutor, *(each for each in found if each is not None))


def takes_timeout(executor: object) -> bool:
    """Whether the second argument of ``submit`` is a timeout: pebble's pools of processes."""
    return _is_a(executor, "pebble", "ProcessPool")


def runs_here(executor: object) -> bool:
    """Whether the calls run in threads of this interpreter, where a context can go."""
    # From Python 3.14 on there is a kind of such pools that sends its calls to other interpreters.
    return isinstance(executor, concurrent.futures.ThreadPoolExecutor) and not _is_a(
        executor, "concurrent.futures.interpreter", "InterpreterPoolExecutor"
    )


def breaks_on_errors(executor: object) -> bool:
    """Whether an error that cannot be unpickled breaks the pool, whose processes have what is here."""
    return isinstance(executor, concurrent.futures.ProcessPoolExecutor)


def is_loky(executor: object) -> bool:
    """As `breaks_on_errors`, but what is sent is pickled in loky's way."""
    return _is_a(executor, "loky.process_executor", "ProcessPoolExecutor")


def is_quick(executor: concurrent.futures.Executor) -> bool:
    """Whether a ``submit`` holds nobody up, as far as is known."""
    # A class of users may have one of its own, that waits for a place for example.
    submit = getattr(executor.submit, "__func__", None)
    if submit is concurrent.futures.ProcessPoolExecutor.submit:
        # The first starts processes, and with some methods a server of them.
        return bool(getattr(executor, "_processes", None))
    return submit is concurrent.futures.ThreadPoolExecutor.submit


def _is_a(executor: object, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(executor, kind)


def _packages(executor: object) -> Iterator[str]:
    return (kind.__module__.partition(".")[0] for kind in type(executor).__mro__)
