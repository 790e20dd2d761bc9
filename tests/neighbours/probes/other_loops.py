"""Programs that are not trio's alone: anyio, trio-asyncio, trio-parallel, asyncio with trio as a guest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from trio_conman import ConMan

from .answers import each_its_own


async def told(call: Callable[[], Awaitable[object]]) -> str:
    try:
        return f"{await call()}"
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        return f"{type(error).__qualname__} leaves the manager"
    except BaseException as exc:
        return type(exc).__qualname__


async def double(n: int) -> int:
    await trio.sleep(0)
    return 2 * n


async def anyio() -> dict[str, str]:
    import anyio as library
    from anyio.from_thread import BlockingPortal

    async def in_task_group() -> object:
        """A manager in a trio nursery, in a task group of anyio; a scope of anyio ends it."""
        managers: list[ConMan[int]] = []

        async def manage() -> None:
            async with trio.open_nursery() as nursery:
                async with ConMan[int].open(nursery, 2) as cm:
                    managers.append(cm)
                    await (await cm.run(double, 1)).wait()
                    cm.start_soon(trio.sleep_forever)

        with library.move_on_after(0.5):
            async with library.create_task_group() as group:
                group.start_soon(manage)
        (cm,) = managers
        kept = cm.outputs(), cm.statistics().cancelled
        return "works; a scope of anyio cancels it, and it keeps its results" if kept == ([2], 1) else kept

    async def by_portal() -> object:
        """Threads hand in tasks by a portal."""
        async with BlockingPortal() as portal, trio.open_nursery() as nursery:
            async with ConMan[int].open(nursery, 2) as cm:

                async def submit(n: int) -> int:
                    return await (await cm.run(double, n)).result()

                async with library.create_task_group() as group:
                    got: list[int] = []

                    async def thread(n: int) -> None:
                        got.append(await library.to_thread.run_sync(portal.call, submit, n))

                    for n in range(5):
                        group.start_soon(thread, n)
            return "works" if sorted(got) == [0, 2, 4, 6, 8] else got

    return {"in a task group": await told(in_task_group), "from threads, by a portal": await told(by_portal)}


async def trio_asyncio() -> dict[str, str]:
    from trio_asyncio import aio_as_trio, open_loop

    @aio_as_trio
    async def on_asyncio(n: int) -> int:
        await asyncio.sleep(0.001)
        return n

    @aio_as_trio
    async def cancels_itself(n: int) -> None:
        raise asyncio.CancelledError

    async def guarded(n: int) -> None:
        try:
            await cancels_itself(n)
        except asyncio.CancelledError as exc:
            raise RuntimeError("cancelled by itself") from exc

    def works(cm: ConMan[int]) -> object:
        return "works" if cm.outputs() == [1] else cm.errors()

    async def loop_first() -> object:
        async with open_loop(), trio.open_nursery() as nursery:
            async with ConMan[int].open(nursery, 2) as cm:
                await cm.run(on_asyncio, 1)
            return works(cm)

    async def manager_first() -> object:
        async with trio.open_nursery() as nursery:
            async with ConMan[int].open(nursery, 2) as cm:
                async with open_loop():
                    await (await cm.run(on_asyncio, 1)).wait()
            return works(cm)

    async def map_first() -> object:
        errors = []
        async with trio.open_nursery() as nursery:
            async with ConMan[int].open(nursery, 2) as cm, cm.map(on_asyncio, [1]) as outcomes:
                async with open_loop():
                    async for outcome in outcomes:
                        errors.append(type(outcome.error).__name__)
            cm.pop_outcomes()
        return ", ".join(errors)

    async def cancelled_by_itself(task: Callable[[int], Awaitable[None]]) -> object:
        async with open_loop(), trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2) as cm:
                await cm.run(task, 1)
        (error,) = cm.errors()
        return type(error).__name__

    return {
        "loop, then manager": await told(loop_first),
        "manager, then loop": await told(manager_first),
        "map, then loop": await told(map_first),
        "asyncio.CancelledError raised by a task": await told(partial(cancelled_by_itself, cancels_itself)),
        "the same, caught around aio_as_trio": await told(partial(cancelled_by_itself, guarded)),
    }


async def trio_parallel() -> dict[str, str]:
    """Every other task is one of `run_in_executor`, in the same manager."""
    from concurrent.futures import ThreadPoolExecutor

    from trio_parallel import run_sync

    from trio_conman.executors import run_in_executor

    with ThreadPoolExecutor(2) as pool:

        async def ask(n: int) -> object:
            return await (run_sync(abs, -n) if n % 2 else run_in_executor(pool, abs, -n))

        return {"answers": await each_its_own(ask)}
