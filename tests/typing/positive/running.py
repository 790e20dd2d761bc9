"""What `run` and `run_nowait` take, and the handles that they give."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Literal, TypeVar, TypeVarTuple, assert_type

import trio

from trio_conman import (
    ConMan,
    Failure,
    Outcome,
    RetryConfig,
    Success,
    Task,
    TaskHandle,
    as_completed,
    current_task,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def length(url: str, times: int = 1) -> int:
    return len(url) * times


async def ping() -> int:
    return 0


async def total(*numbers: int) -> int:
    return sum(numbers)


def begun(url: str) -> Awaitable[int]:
    return length(url)


class Client:
    async def fetch(self, url: str) -> int:
        return len(url)

    @classmethod
    async def fetch_all(cls, *urls: str) -> int:
        return len(urls)

    @staticmethod
    async def check(strict: bool) -> int:
        return int(strict)


class Callback:
    async def __call__(self, url: str, /) -> int:
        return len(url)


class Download:
    """Fits the protocol without knowing it."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def execute(self) -> int:
        return len(self.url)


class Upload(Task[int]):
    async def execute(self) -> int:
        return 1


class Job(Download):
    """Has more than the protocol asks for."""

    async def execute(self, urgent: bool = False) -> bool:
        return urgent


async def functions(cm: ConMan[int]) -> None:
    assert_type(await cm.run(length, "url"), TaskHandle[int])
    assert_type(await cm.run(length, "url", 2), TaskHandle[int])
    assert_type(await cm.run(ping), TaskHandle[int])
    assert_type(await cm.run(total), TaskHandle[int])
    assert_type(await cm.run(total, 1, 2, 3), TaskHandle[int])
    assert_type(await cm.run(begun, "url"), TaskHandle[int])
    assert_type(cm.run_nowait(length, "url"), TaskHandle[int])
    assert_type(cm.run_nowait(ping), TaskHandle[int])


async def other_callables(cm: ConMan[int], client: Client, urls: tuple[str, int]) -> None:
    assert_type(await cm.run(client.fetch, "url"), TaskHandle[int])
    assert_type(await cm.run(Client.fetch, client, "url"), TaskHandle[int])
    assert_type(await cm.run(Client.fetch_all, "one", "other"), TaskHandle[int])
    assert_type(await cm.run(client.check, True), TaskHandle[int])
    assert_type(await cm.run(Callback(), "url"), TaskHandle[int])
    assert_type(await cm.run(lambda: length("url")), TaskHandle[int])
    assert_type(await cm.run(lambda url: length(url, 2), "url"), TaskHandle[int])
    assert_type(await cm.run(partial(length, "url")), TaskHandle[int])
    assert_type(await cm.run(partial(length, "url"), 2), TaskHandle[int])
    assert_type(await cm.run(partial(length, times=2), "url"), TaskHandle[int])
    assert_type(cm.run_nowait(partial(length, "url")), TaskHandle[int])
    assert_type(cm.run_nowait(lambda: length("url")), TaskHandle[int])
    # Arguments that come as a tuple.
    assert_type(await cm.run(length, *urls), TaskHandle[int])


async def objects(cm: ConMan[int]) -> None:
    assert_type(await cm.run(Download("url")), TaskHandle[int])
    assert_type(await cm.run(Upload()), TaskHandle[int])
    assert_type(await cm.run(Job("url")), TaskHandle[int])
    assert_type(cm.run_nowait(Download("url"), name="download"), TaskHandle[int])


async def typed_by_name(
    cm: ConMan[int],
    task: Task[int],
    call: Callable[[str], Awaitable[int]],
    coroutine: Callable[[str, int], Coroutine[Any, Any, int]],
    anything: Callable[..., Awaitable[int]],
) -> None:
    assert_type(await cm.run(task), TaskHandle[int])
    assert_type(await cm.run(call, "url"), TaskHandle[int])
    assert_type(await cm.run(coroutine, "url", 1), TaskHandle[int])
    assert_type(await cm.run(anything, "url", None, 1.0), TaskHandle[int])


async def options(cm: ConMan[int]) -> None:
    retry = RetryConfig.linear()
    await cm.run(length, "url", name="url", retry=retry, attempt_timeout=1, task_timeout=2.5)
    await cm.run(length, "url", name=None, retry=None, attempt_timeout=None, task_timeout=None)
    await cm.run(Download("url"), name="url", retry=retry, attempt_timeout=1, task_timeout=2.5)
    cm.run_nowait(length, "url", name="url", retry=retry, attempt_timeout=1, task_timeout=2.5)
    cm.run_nowait(Download("url"), name="url", retry=retry, attempt_timeout=1, task_timeout=2.5)


async def nothing_returned(cm: ConMan[None]) -> None:
    assert_type(await cm.run(trio.sleep, 1), TaskHandle[None])
    assert_type(await cm.run(trio.sleep_forever), TaskHandle[None])


async def results_of_several_types(cm: ConMan[int | str], texts: ConMan[object]) -> None:
    async def text() -> str:
        return ""

    assert_type(await cm.run(length, "url"), TaskHandle[int | str])
    assert_type(await cm.run(text), TaskHandle[int | str])
    assert_type(await texts.run(text), TaskHandle[object])


async def identity(value: T) -> T:
    return value


async def generic_functions(cm: ConMan[int], lists: ConMan[list[str]]) -> None:
    assert_type(await cm.run(identity, 3), TaskHandle[int])
    assert_type(await lists.run(identity, ["url"]), TaskHandle[list[str]])


async def in_a_generic_function(cm: ConMan[T], fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    handle = await cm.run(fn, *args)
    assert_type(handle, TaskHandle[T])
    return await handle.result()


async def through_a_generic_function(cm: ConMan[int]) -> None:
    assert_type(await in_a_generic_function(cm, length, "url", 2), int)


async def handles(handle: TaskHandle[int]) -> None:
    assert_type(handle.name, str)
    assert_type(handle.index, int)
    assert_type(handle.args, tuple[Any, ...])
    assert_type(handle.retries, int)
    assert_type(handle.outcome, Success[int] | Failure | None)
    assert_type(await handle.wait(), Success[int] | Failure)
    assert_type(await handle.result(), int)
    handle.cancel()
    handle.cancel("reason")
    handle.cancel(reason=None)
    waited: Outcome[int] = await handle.wait()
    assert_type(waited, Success[int] | Failure)
    if handle.state != "done":
        assert_type(handle.state, Literal["queued", "running", "backing_off"])


async def many_handles(one: TaskHandle[int], other: TaskHandle[int]) -> None:
    async for handle in as_completed([one, other]):
        assert_type(handle, TaskHandle[int])
        assert_type(handle.outcome, Outcome[int] | None)
    assert_type(await anext(as_completed({one})), TaskHandle[int])
    task = current_task()
    assert_type(task, TaskHandle[Any] | None)
    if task is not None:
        assert_type(task.retries, int)
