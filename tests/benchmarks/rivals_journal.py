"""Stores of other libraries, each in a child process of its own.

    python -m tests.benchmarks.rivals_journal NAME ITEMS PATH

runs so many items through the library twice, on the same file, and prints as JSON: the microseconds of
processor time that the loop's thread takes for an item, the first time and the second, and the size of the
file in bytes. What the library takes for an item without its store is subtracted where it can be run so.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

VALUE = "x" * 100


async def job(n: int) -> str:
    await asyncio.sleep(0)
    return VALUE


async def pyarallel(items: int, path: str | None) -> None:
    library: Any = import_module("pyarallel")
    result = await library.async_parallel_map(job, range(items), concurrency=20, checkpoint=path)
    assert len(result.ok_values()) == items


async def invoke(prompt: str, **_: Any) -> str:
    return VALUE


async def async_batch_llm(items: int, path: str | None) -> None:
    """Its store alone, as its processor calls it."""
    if path is None:
        return
    library: Any = import_module("async_batch_llm")
    artifacts: Any = import_module("async_batch_llm.artifacts")
    store = artifacts.JsonlArtifactStore(
        path, identity=artifacts.ArtifactIdentity(provider="none", model="none", prompt_version="1")
    )
    policy = artifacts.ResumePolicy.REUSE_SUCCESSES
    strategy = library.CallableStrategy(invoke)
    for number in range(items):
        item = library.LLMWorkItem(item_id=str(number), strategy=strategy, prompt="a prompt")
        prepared = await store.prepare_item(item)
        if await store.lookup(item, prepared, policy) is None:
            result = library.WorkItemResult(item_id=str(number), success=True, output=VALUE)
            await store.append(item, prepared, result)
    await store.close()


RIVALS: dict[str, Callable[[int, str | None], Awaitable[None]]] = {
    "pyarallel": pyarallel,
    "async_batch_llm": async_batch_llm,
}


def installed() -> list[str]:
    return [name for name in RIVALS if find_spec(name) is not None]


def spent(name: str, items: int, path: str | None) -> float:
    async def timed() -> float:
        start = time.thread_time()
        await RIVALS[name](items, path)
        return (time.thread_time() - start) / items * 1e6

    return asyncio.run(timed())


def main() -> None:
    name, items, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    without = spent(name, items, None)
    stored, recalled = (spent(name, items, path) for _ in range(2))
    if name == "pyarallel":  # of what is recalled it runs nothing, so that there is nothing to subtract
        stored -= without
    print(json.dumps({"stored": stored, "recalled": recalled, "size": Path(path).stat().st_size}))


if __name__ == "__main__":
    main()
