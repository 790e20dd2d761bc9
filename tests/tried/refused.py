"""What is refused, and what is said of it."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.tried import calls
from trio_conman.executors import run_in_executor


def bare(module: str, name: str) -> Callable[[], Any]:
    """Make an object of a class without what it would start: it is refused before it is used."""

    def make() -> Any:
        kind: Any = getattr(importlib.import_module(module), name)
        stand_in = type(
            kind.__name__, (kind,), {"__init__": lambda _: None, "__repr__": lambda _: f"<{name}>"}
        )
        return stand_in()

    return make


@attrs.frozen
class Refused:
    """Something with a `submit`, or that people think has one."""

    package: str
    """As it is installed; empty for the standard library."""
    make: Callable[[], Any]


REFUSED = {
    "adaptive-executor": Refused("adaptive-executor", bare("adaptive_executor", "AdaptiveExecutor")),
    "billiard": Refused("billiard", bare("billiard.pool", "Pool")),
    "Dask's Client": Refused("distributed", bare("distributed", "Client")),
    "gevent": Refused("gevent", bare("gevent.threadpool", "ThreadPoolExecutor")),
    "lithops": Refused("lithops", bare("lithops", "FunctionExecutor")),
    "multiprocessing.Pool": Refused("", bare("multiprocessing.pool", "Pool")),
    "parsl's own executors": Refused("parsl", bare("parsl.executors", "HighThroughputExecutor")),
    "pebble's ThreadPool": Refused("pebble", bare("pebble", "ThreadPool")),
    "ray's ActorPool": Refused("ray", bare("ray.util", "ActorPool")),
}


def main(name: str, directory: Path) -> None:
    executor = REFUSED[name].make()
    try:
        trio.run(run_in_executor, executor, calls.square, 3)
    except TypeError as exc:
        said = re.sub(r"<.*?>", "…", str(exc))
        (directory / "seen.json").write_text(json.dumps({"refused": said}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
