import asyncio
import signal
from collections.abc import Awaitable, Callable

import outcome
import trio

from trio_conman import ConMan

busy = asyncio.Event()
closed: list[str] = []


async def run_guest(async_fn: Callable[[], Awaitable[None]]) -> None:
    """Run a trio program in the loop of asyncio; cancelled, let it clean up and end."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[outcome.Outcome[None]] = loop.create_future()
    scope = trio.CancelScope()

    async def guest() -> None:
        with scope:
            await async_fn()

    trio.lowlevel.start_guest_run(
        guest,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=ended.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    token = trio.lowlevel.current_trio_token()
    try:
        (await asyncio.shield(ended)).unwrap()
    except asyncio.CancelledError:
        token.run_sync_soon(scope.cancel)
        (await asyncio.shield(ended)).unwrap()
        raise


async def fetch(page: int) -> str:
    if page <= 2:
        return f"page {page}"
    if page == 4:
        busy.set()
    try:
        await trio.sleep_forever()  # stands for a service that does not answer
    finally:
        with trio.move_on_after(1, shield=True):
            await trio.sleep(0.1)  # stands for a goodbye to the service
            closed.append(f"page {page}")


async def fetch_all() -> None:
    try:
        async with trio.open_nursery() as nursery:
            async with ConMan[str].open(nursery, limit=2) as cm:
                for page in range(1, 7):
                    await cm.run(fetch, page, name=f"page {page}")
    finally:
        print(f"done: {sorted(cm.outputs())}, closed: {sorted(closed)}")
        for error in sorted(map(str, cm.errors())):
            print(error)


async def type_ctrl_c() -> None:
    await busy.wait()
    signal.raise_signal(signal.SIGINT)  # stands for a person


async def main() -> None:
    async with asyncio.TaskGroup() as group:  # the host, and what else it does
        group.create_task(run_guest(fetch_all))
        group.create_task(type_ctrl_c())


try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")  # in your program: sys.exit(130)
