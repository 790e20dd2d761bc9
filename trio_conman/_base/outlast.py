"""Waiting for what must have ended before one goes on, and whether a trio run is there, or over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from trio.lowlevel import enable_ki_protection

# What a call into a trio run raises when that is over: one that crashed has only closed its sockets.
OVER = (trio.RunFinishedError, OSError)


@enable_ki_protection
async def outlast(wait: Callable[[], Awaitable[object]]) -> None:
    """Wait, whatever is cancelled meanwhile.

    trio raises Ctrl-C in what the main task waits for, shielded or not. As in a nursery, the wait goes on,
    and it is raised in the end; so `wait` may be called several times.
    """
    interrupt: KeyboardInterrupt | None = None
    with trio.CancelScope(shield=True):
        while True:
            try:
                await wait()
                break
            except KeyboardInterrupt as error:
                interrupt = error
    if interrupt is not None:
        try:
            raise interrupt
        finally:
            del interrupt


def stay(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
    """For `trio.lowlevel.wait_task_rescheduled`: whoever wakes the task does so, cancelled or not."""
    return trio.lowlevel.Abort.FAILED


def check_in_trio(call: str) -> None:
    """Refuse a call where trio does not run, as in a program of asyncio."""
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(f"{call} can be used inside of trio.run() only, not of asyncio.run()")


def is_over(run: trio.lowlevel.TrioToken) -> bool:
    """Whether a trio run, by its token, has ended or crashed."""
    try:
        run.run_sync_soon(_nothing, idempotent=True)
    except OVER:
        return True
    return False


def _nothing() -> None:
    pass
