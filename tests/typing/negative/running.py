"""What `run` and `run_nowait` refuse: each line that a checker must report says so."""

# ruff: noqa: B018, PLW0108
# What is wrong with these lines is for the type checkers to say.

from collections.abc import AsyncIterator
from functools import partial

import trio

from trio_conman import ConMan, RetryConfig, Task, TaskHandle, as_completed, current_task


async def length(url: str) -> int:
    return len(url)


async def add(one: int, other: int, *, times: int = 1) -> int:
    return (one + other) * times


async def text(url: str) -> str:
    return url


async def keyword(*, url: str) -> int:
    return len(url)


async def stream(url: str) -> AsyncIterator[int]:
    yield len(url)


def blocking(url: str) -> int:
    return len(url)


class Download:
    async def execute(self) -> int:
        return 1


class Title:
    async def execute(self) -> str:
        return ""


class Blocking:
    def execute(self) -> int:
        return 1


class Demanding:
    async def execute(self, url: str) -> int:
        return len(url)


async def arguments(cm: ConMan[int], urls: list[str]) -> None:
    await cm.run(length, 1)  # error
    await cm.run(length)  # error
    await cm.run(length, "url", "url")  # error
    await cm.run(length, None)  # error
    await cm.run(length, ["url"])  # error
    await cm.run(length, url="url")  # error
    await cm.run(add, 1)  # error
    await cm.run(add, 1, "2")  # error
    await cm.run(add, "1", 2)  # error
    await cm.run(add, 1, 2, 3)  # error
    await cm.run(add, 1, 2, times=3)  # error
    await cm.run(keyword, "url")  # error
    await cm.run(keyword)  # error
    await cm.run(trio.sleep, 1)  # error
    await cm.run(lambda: length(1))  # error
    await cm.run(lambda url: length(url))  # error
    await cm.run(partial(length, 1))  # error
    cm.run_nowait(length, 1)  # error
    cm.run_nowait(length)  # error
    cm.run_nowait(add, 1, "2")  # error


async def tasks(cm: ConMan[int], unknown: Task[str]) -> None:
    await cm.run()  # error
    await cm.run(None)  # error
    await cm.run(5)  # error
    await cm.run(length("url"))  # error
    await cm.run(blocking, "url")  # error
    await cm.run(stream, "url")  # error
    await cm.run(Download)  # error
    await cm.run(Download(), "url")  # error
    await cm.run(Title())  # error
    await cm.run(Blocking())  # error
    await cm.run(Demanding())  # error
    await cm.run(unknown)  # error
    await cm.run(text, "url")  # error
    await cm.run(task=length)  # error
    cm.run_nowait(length("url"))  # error
    cm.run_nowait(blocking, "url")  # error
    cm.run_nowait(Title())  # error


async def options(cm: ConMan[int]) -> None:
    await cm.run(length, "url", name=1)  # error
    await cm.run(length, "url", retry=3)  # error
    await cm.run(length, "url", retry=RetryConfig)  # error
    await cm.run(length, "url", attempt_timeout="1")  # error
    await cm.run(length, "url", task_timeout=[1])  # error
    await cm.run(length, "url", timeout=1)  # error
    await cm.run(Download(), name=1)  # error
    await cm.run(Download(), retries=1)  # error
    cm.run_nowait(length, "url", retry=3)  # error


async def results(cm: ConMan[int], handle: TaskHandle[int]) -> None:
    cm.run(length, "url")  # error
    wrong: TaskHandle[str] = await cm.run(length, "url")  # error
    title: str = await handle.result()  # error
    handle.result().upper()  # error
    handle.outcome.index  # error
    handle.outcome.value  # error
    (await handle.wait()).value  # error
    handle.cancel(1)  # error
    if handle.state == "finished":  # error
        print(wrong, title)
    handle.state = "finished"  # error
    cm.run_nowait(length, "url").result()  # error


async def handles(cm: ConMan[int], handle: TaskHandle[int]) -> None:
    current_task().retries  # error
    current_task(cm)  # error
    as_completed(handle)  # error
    as_completed([length])  # error
    for _ in as_completed([handle]):  # error
        pass
