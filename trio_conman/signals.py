"""Signals: the first one shuts a manager down, the second one cancels it."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from functools import partial
from math import inf
from threading import get_ident, main_thread
from types import TracebackType
from typing import Any, Literal, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_conman import ConMan

from ._base.checks import check_choice, check_number, check_type, wrong_thread
from ._base.outlast import outlast
from ._base.texts import short
from ._base.unentered import Unentered

__all__ = ["shutdown_on_signal"]


def shutdown_on_signal(
    cm: ConMan[Any],
    *,
    grace: float = inf,
    queued: Literal["run", "drop"] = "run",
    signals: Iterable[int] = (signal.SIGINT, signal.SIGTERM),
) -> AbstractAsyncContextManager[list[signal.Signals]]:
    """Let a first signal shut a manager down, and a second one cancel it; a third does what it did before.

    To be entered in the manager's block. When its own block ends, or a shutdown ends the loop in it, it waits
    for the tasks, as the manager's block does, so that a signal is heard until the last of them has ended.
    When its block is left by another exception, it lets go of the signals at once. Of several of these blocks
    at once, be they of one manager or of several, the one that began last alone hears a signal.

    After the blocks each signal does what it did before; or what it does by default, where that was set by
    no Python code but by a program that Python is part of.

    Args:
        cm: the manager; see `~trio_conman.ConMan.shutdown` for what a shutdown ends, and what it does not.
        grace: seconds from the first signal until the tasks that have not ended are cancelled. Default: no
            limit.
        queued: what becomes then of what `~trio_conman.ConMan.start_soon` has queued: "run" lets it start in
            its turn, "drop" cancels it at once. Default: "run".
        signals: numbers of the signals. Default: ``SIGINT``, which is Ctrl-C, and ``SIGTERM``.

    Returns:
        an async context manager; it yields a list of the signals that came, which is empty while there were
        none. What the process ends with is for you to say: ``sys.exit(128 + came[0])`` is what a shell
        expects, 0 what a service manager does.

    Raises:
        ConManClosedError: entered when the manager's block has ended.
        RuntimeError: entered in another thread than the main one, which alone can have signals, or than that
            of the manager's trio run, inside of one of the manager's own tasks, or twice.
        TypeError: a parameter is of the wrong kind.
        ValueError: a parameter is out of its range, or there are no `signals`.
    """
    check_type("cm", cm, ConMan, "a ConMan")
    grace = check_number("grace", grace)
    check_choice("queued", queued, "run", "drop")
    check_type("signals", signals, Iterable, "an iterable of numbers of signals")
    numbers = [_checked(each) for each in signals]
    if not numbers:
        raise ValueError("signals must hold at least one signal")
    return _Listening(cm, partial(cm.shutdown, grace, queued=queued), numbers)


def _checked(number: int) -> signal.Signals:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"each of signals must be the number of a signal, not {short(number)}")
    try:
        found = signal.Signals(number)
    except ValueError:
        raise ValueError(f"each of signals must be the number of a signal, not {short(number)}") from None
    if found.name in {"SIGKILL", "SIGSTOP"}:
        raise ValueError(f"each of signals must be one that a program can hear of, not {found.name}")
    return found


@final
class _Listening(Unentered):
    """A trio task in the manager's nursery that waits for signals, until the block is left."""

    __slots__ = ("_came", "_cm", "_ended", "_is_entered", "_scope", "_shutdown", "_signals")

    _method = "shutdown_on_signal"
    _use = "use 'async with shutdown_on_signal(cm):'"

    def __init__(
        self, cm: ConMan[Any], shutdown: Callable[[], Awaitable[None]], signals: list[signal.Signals]
    ) -> None:
        super().__init__()
        self._cm = cm
        self._shutdown = shutdown
        self._signals = signals
        self._came: list[signal.Signals] = []
        self._is_entered = False

    @enable_ki_protection
    async def __aenter__(self) -> list[signal.Signals]:
        self._is_told = True
        if self._is_entered:
            raise RuntimeError("what shutdown_on_signal() returns can be entered once: call it again")
        if get_ident() != self._cm._thread:
            raise wrong_thread("shutdown_on_signal", "run(cm.shutdown) when a signal has come")
        if get_ident() != main_thread().ident:
            raise RuntimeError(
                "shutdown_on_signal() was called outside of the main thread, which alone has signals: "
                "have that one call trio.from_thread.run(cm.shutdown, trio_token=...) when one has come"
            )
        self._cm._block.inside.refuse(
            "shutdown_on_signal", "call it from the block, or from a task beside it"
        )
        if self._cm._block.ended:
            raise self._cm._block.closed_error()
        self._is_entered = True
        await self._begin()
        return self._came

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        waits = self._cm._block.without_own_end(error) is None
        while True:
            try:
                if waits:
                    self._cm.resume()
                    await self._cm.wait()
            finally:
                self._scope.cancel(reason="the block of shutdown_on_signal() has ended")
                await outlast(self._ended.wait)
            if not waits or self._cm._block.is_idle:
                return
            await self._begin()  # other trio tasks have handed in more meanwhile

    async def _begin(self) -> None:
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        await trio.lowlevel.checkpoint_if_cancelled()  # see Block.enter
        await self._cm._block.parent.start(self._listen, name=f"signals of {self._cm.name}")

    @enable_ki_protection
    async def _listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        for each in self._signals:
            if signal.getsignal(each) is None:  # what was not set by Python cannot be set again
                signal.signal(each, signal.SIG_DFL)
        before: dict[signal.Signals, Any] = {each: signal.getsignal(each) for each in self._signals}
        receiver = _Receiver()
        _replaced.append(before)
        try:
            with self._scope, ExitStack() as stack:
                stack.callback(receiver.close)
                stack.callback(_forget, before)
                for each in before:
                    signal.signal(each, receiver.handle)
                task_status.started()
                async with trio.open_nursery() as nursery:
                    self._came.append(await receiver.coming.receive())
                    nursery.start_soon(self._shutdown)
                    self._came.append(await receiver.coming.receive())
                    self._cm.cancel(f"{self._came[1].name} after {self._came[0].name}")
                    nursery.cancel_scope.cancel(reason="nothing more is listened to")
        finally:
            self._ended.set()
            del self  # see TaskHandle.cancel()


@final
class _Receiver:
    """As `trio.open_signal_receiver`, to which two of one signal are one while trio's loop is busy."""

    __slots__ = ("_run", "_send", "coming")

    def __init__(self) -> None:
        self._run = trio.lowlevel.current_trio_token()
        self._send, self.coming = trio.open_memory_channel[signal.Signals](inf)

    def handle(self, number: int, _: object) -> None:
        """The handler of signals."""
        self._run.run_sync_soon(self._add, signal.Signals(number))

    def _add(self, number: signal.Signals) -> None:
        try:
            self._send.send_nowait(number)
        except trio.ClosedResourceError:
            signal.raise_signal(number)

    def close(self) -> None:
        """What was heard and not received is for who hears now."""
        self._send.close()
        with self.coming, ExitStack() as stack:  # all of it, whatever they raise
            heard = self.coming.statistics().current_buffer_used
            for number in [self.coming.receive_nowait() for _ in range(heard)][::-1]:
                stack.callback(signal.raise_signal, number)


# What was there before, by the blocks that listen, in the order in which they began.
_replaced: list[dict[signal.Signals, Any]] = []


def _forget(before: dict[signal.Signals, Any]) -> None:
    """A block has ended. One that began later still hears, and what it leaves is what was before both."""
    at = next(index for index, each in enumerate(_replaced) if each is before)
    del _replaced[at]
    for number, handler in before.items():
        later = next((each for each in _replaced[at:] if number in each), None)
        if later is None:
            signal.signal(number, handler)
        else:
            later[number] = handler


def _restore() -> None:
    """A forked process must not keep what tells its parent's trio only: it could not be terminated."""
    for before in reversed(_replaced):
        for number, handler in before.items():
            # Ctrl-C comes to the whole group, and what a forked worker does is to be finished.
            if number is not signal.SIGINT:
                signal.signal(number, handler)


with suppress(AttributeError):  # of Windows, which has no forks
    os.register_at_fork(after_in_child=_restore)
