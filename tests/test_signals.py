"""shutdown_on_signal: real signals to real programs, and to this process on a virtual clock."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.raised import OwnErrors
from trio_conman import ConMan, ConManClosedError, signals
from trio_conman.signals import shutdown_on_signal

PROGRAM = Path(__file__).parent / "programs" / "graceful.py"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")


@contextmanager
def started(seconds: float, grace: float = inf) -> Iterator["subprocess.Popen[str]"]:
    """The program; it is killed when the test fails, or when it hangs."""
    command = [sys.executable, str(PROGRAM), str(seconds), str(grace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        watchdog = threading.Timer(60, child.kill)
        watchdog.start()
        try:
            yield child
        finally:
            watchdog.cancel()
            child.kill()


def lines_to(child: "subprocess.Popen[str]", last: str) -> list[str]:
    """What the program says, up to a line."""
    assert child.stdout is not None
    lines: list[str] = []
    while last not in lines:
        line = child.stdout.readline()
        assert line, f"{last!r} is not among {lines}"
        lines.append(line.rstrip("\n"))
    return lines


def rest_of(child: "subprocess.Popen[str]") -> list[str]:
    """What the program says until it ends, which it does without a complaint."""
    assert child.stdout is not None and child.stderr is not None
    # Not communicate(), which would miss what readline() has read ahead.
    lines = child.stdout.read().splitlines()
    assert child.stderr.read() == ""
    child.wait()
    return lines


def numbers(lines: list[str], verb: str) -> list[int]:
    return sorted(int(line.split()[1]) for line in lines if line.startswith(f"{verb} "))


BOTH = pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])


@BOTH
def test_on_a_first_signal_it_finishes_what_it_has_begun(first: signal.Signals) -> None:
    with started(0.05) as child:
        lines = lines_to(child, "started 9")
        child.send_signal(first)
        lines += lines_to(child, "draining")
        drained = rest_of(child)
    # What it had begun it has finished: three at most, which may have had their slots and not yet said so.
    begun = numbers(lines + drained, "started")
    assert begun == list(range(len(begun)))
    assert len(begun) >= 10
    assert numbers(lines + drained, "finished") == begun
    assert len(numbers(drained, "started")) <= len(numbers(drained, "finished")) <= 3
    assert drained[-1] == f"{len(begun)} done, 0 failed, {first.name}"
    assert child.returncode == 128 + first


@BOTH
def test_on_a_second_signal_it_ends_at_once(first: signal.Signals) -> None:
    with started(3600) as child:
        lines_to(child, "started 2")
        child.send_signal(first)
        lines_to(child, "draining")
        # It waits for what runs, for an hour.
        assert child.poll() is None
        child.send_signal(signal.SIGTERM)
        *cancelled, last = rest_of(child)
    assert sorted(cancelled) == [
        f"task 'work' (index {n}) was cancelled: 'conman' was cancelled: SIGTERM after {first.name}"
        for n in range(3)
    ]
    assert last == f"0 done, 3 failed, {first.name} SIGTERM"
    assert child.returncode == 128 + first


def test_at_the_end_of_the_grace_it_ends() -> None:
    with started(3600, 0.1) as child:
        lines_to(child, "started 2")
        child.send_signal(signal.SIGTERM)
        lines_to(child, "draining")
        *cancelled, last = rest_of(child)
    assert sorted(cancelled) == [
        f"task 'work' (index {n}) was cancelled: 'conman' was shut down" for n in range(3)
    ]
    assert last == "0 done, 3 failed, SIGTERM"
    assert child.returncode == 128 + signal.SIGTERM


# In this process, on a virtual clock


async def job(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


async def tell(number: signal.Signals, seconds: float) -> None:
    await trio.sleep(seconds)
    signal.raise_signal(number)
    await wait_all_tasks_blocked(0.01)


def ends(cm: ConMan[Any]) -> list[tuple[str, float]]:
    return [(type(each).__name__, each.elapsed) for each in cm.outcomes()]


async def test_a_loop_in_the_block_ends_and_the_grace_begins(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell, signal.SIGTERM, 2.5)
        async with ConMan[float].open(nursery, 2) as cm, shutdown_on_signal(cm, grace=3) as came:
            for seconds in (1, 4, 10, 1, 1, 1):
                await cm.run(job, seconds)
        assert came == [signal.SIGTERM]
        assert trio.current_time() == pytest.approx(5.5, abs=0.1)
        assert [kind for kind, _ in ends(cm)] == ["Success", "Success", "Failure"]
    assert cm.statistics().cancelled == 1


@pytest.mark.parametrize("queued, done", [("run", [1.0, 2.0, 3.0, 4.0]), ("drop", [1.0, 2.0])])
async def test_what_is_queued_is_run_or_dropped(
    autojump_clock: MockClock, queued: Literal["run", "drop"], done: list[float]
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell, signal.SIGTERM, 0.5)
        async with ConMan[float].open(nursery, 2) as cm, shutdown_on_signal(cm, queued=queued):
            for seconds in (1, 2, 3, 4):
                cm.start_soon(job, seconds)
    assert cm.outputs() == done
    assert cm.statistics().cancelled == 4 - len(done)


async def test_a_signal_is_heard_until_the_last_task_has_ended(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell, signal.SIGTERM, 1)
        nursery.start_soon(tell, signal.SIGINT, 2)
        async with ConMan[float].open(nursery) as cm:
            async with shutdown_on_signal(cm) as came:
                cm.start_soon(job, 3600)
                cm.pause()
    assert came == [signal.SIGTERM, signal.SIGINT]
    assert str(cm.errors()[0]).endswith("'conman' was cancelled: SIGINT after SIGTERM")
    assert not cm.timed_out


async def test_a_signal_is_heard_by_what_others_hand_in_at_its_end(autojump_clock: MockClock) -> None:
    async def work(number: int) -> bool:
        await trio.sleep(1)
        return signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL

    async def feed() -> None:  # each of its tasks when the one before has ended, and no other is there
        for number in range(3):
            assert await (await cm.run(work, number)).result()

    async with trio.open_nursery() as nursery, ConMan[bool].open(nursery) as cm:
        async with shutdown_on_signal(cm):
            nursery.start_soon(feed)
    assert cm.outputs() == [True, True, True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_errors_that_tasks_raise_at_the_second_signal_are_freed_with_the_manager(
    no_collector: None, autojump_clock: MockClock
) -> None:
    own = OwnErrors()

    async def use() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, signal.SIGTERM, 1)
            nursery.start_soon(tell, signal.SIGINT, 2)
            async with ConMan[Any].open(nursery, 2) as cm, shutdown_on_signal(cm):
                cm.start_soon(own.fail_late)
        assert len(cm.errors()) == len(own.alive) == 1
        del cm  # a Cancelled leads to this frame too

    await use()
    await wait_all_tasks_blocked()
    assert len(own.alive) == 0


async def test_a_third_signal_does_what_it_did_before(autojump_clock: MockClock) -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def clean_up_slowly() -> None:
        try:
            await trio.sleep(3600)
        finally:
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked(0.01)
            handlers.append(signal.getsignal(signal.SIGTERM))

    handlers: list[Any] = []
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery) as cm, shutdown_on_signal(cm) as came:
            cm.start_soon(clean_up_slowly)
            nursery.start_soon(tell, signal.SIGTERM, 1)
            nursery.start_soon(tell, signal.SIGTERM, 2)
    assert came == [signal.SIGTERM] * 2
    assert handlers == [before]


async def test_nor_do_a_body_and_tasks_that_clean_up_slowly_hold_up_a_third_one(
    autojump_clock: MockClock,
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def clean_up_slowly() -> None:
        try:
            await trio.sleep(3600)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(60)

    handlers: list[Any] = []
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery) as cm, shutdown_on_signal(cm) as came:
            cm.start_soon(clean_up_slowly)
            nursery.start_soon(tell, signal.SIGTERM, 1)
            nursery.start_soon(tell, signal.SIGTERM, 2)
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
                handlers.append(signal.getsignal(signal.SIGTERM))
    assert trio.current_time() == 62
    assert came == [signal.SIGTERM] * 2
    assert handlers == [before]


@contextmanager
def heard_otherwise(number: signal.Signals) -> Iterator[list[int]]:
    """What a signal comes to that no block hears."""
    heard: list[int] = []
    before = signal.signal(number, lambda number, _: heard.append(number))
    try:
        yield heard
    finally:
        signal.signal(number, before)


@BOTH
async def test_while_the_loop_is_busy_each_signal_counts(
    first: signal.Signals, autojump_clock: MockClock
) -> None:
    with heard_otherwise(first) as others:
        async with trio.open_nursery() as nursery:
            async with ConMan[float].open(nursery) as cm, shutdown_on_signal(cm) as came:
                cm.start_soon(job, 3600)
                await trio.sleep(1)
                for _ in range(4):
                    signal.raise_signal(first)
    assert (trio.current_time(), came, others) == (1, [first] * 2, [first] * 2)
    assert [str(error) for error in cm.errors()] == [
        f"task 'job' (index 0) was cancelled: 'conman' was cancelled: {first.name} after {first.name}"
    ]


async def test_what_it_has_not_taken_is_heard_in_order_whatever_the_first_of_it_raises() -> None:
    def refuse(number: int, _: object) -> None:
        others.append(number)
        raise OSError(number)

    others: list[int] = []
    numbers = signal.SIGUSR1, signal.SIGTERM
    before = [signal.signal(each, refuse) for each in numbers]
    try:
        with pytest.RaisesGroup(pytest.RaisesExc(OSError, match=f"^{int(signal.SIGTERM)}$")):
            async with trio.open_nursery() as nursery:
                async with ConMan[float].open(nursery) as cm, shutdown_on_signal(cm, signals=numbers):
                    for each in (*numbers, *numbers):
                        signal.raise_signal(each)
                    await trio.sleep_forever()
    finally:
        for each, handler in zip(numbers, before, strict=True):
            signal.signal(each, handler)
    assert others == [*numbers]


class Signalled(list[Any]):
    def __delitem__(self, at: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        super().__delitem__(at)


async def test_a_signal_amid_the_end_is_for_who_hears_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_replaced", Signalled())
    with heard_otherwise(signal.SIGTERM) as others:
        async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
            async with shutdown_on_signal(cm) as came:
                pass
            await wait_all_tasks_blocked()
    assert (came, others) == ([], [signal.SIGTERM])


async def test_only_the_signals_that_were_asked_for(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[float].open(nursery) as cm:
            async with shutdown_on_signal(cm, signals=[signal.SIGUSR1]) as came:
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
                nursery.start_soon(tell, signal.SIGUSR1, 1)
                cm.start_soon(job, 2)
    assert came == [signal.SIGUSR1]


async def test_without_a_signal_nothing_is_different(autojump_clock: MockClock) -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with trio.open_nursery() as nursery:
        async with ConMan[float].open(nursery) as cm:
            async with shutdown_on_signal(cm) as came:
                assert signal.getsignal(signal.SIGTERM) is not before
                cm.start_soon(job, 2)
            # It has waited for the task.
            assert trio.current_time() == 2
            assert signal.getsignal(signal.SIGTERM) is before
            cm.start_soon(job, 3)
    assert came == []
    assert cm.outputs() == [2, 3]


@pytest.mark.parametrize("error", [KeyError("k"), KeyboardInterrupt()])
async def test_what_the_block_raises_goes_on_as_it_is(
    autojump_clock: MockClock, error: BaseException
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.RaisesGroup(type(error)):
        async with trio.open_nursery() as nursery:
            async with ConMan[float].open(nursery) as cm, shutdown_on_signal(cm):
                cm.start_soon(job, 3600)
                raise error
    assert trio.current_time() == 0
    assert signal.getsignal(signal.SIGTERM) is before


async def test_where_it_is_cancelled_it_has_let_go_of_the_signals_too(autojump_clock: MockClock) -> None:
    before = signal.getsignal(signal.SIGTERM)
    handlers: list[Any] = []
    async with trio.open_nursery() as nursery:
        async with ConMan[float].open(nursery, timeout=2) as cm:
            try:
                async with shutdown_on_signal(cm):
                    await trio.sleep_forever()
            finally:
                handlers.append(signal.getsignal(signal.SIGTERM))
    assert handlers == [before]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("ends, heard", [((2, 3, 4), "cc"), ((2, 5, 3), "bc"), ((5, 4, 3), "bc")])
async def test_they_may_end_in_any_order(
    ends: tuple[int, ...], heard: str, number: signal.Signals, autojump_clock: MockClock
) -> None:
    before = signal.getsignal(number)
    came: dict[str, list[signal.Signals]] = {}

    async def listen(name: str, begin: int, end: int) -> None:
        await trio.sleep(begin)
        async with ConMan[None].open(nursery, name=name) as cm, shutdown_on_signal(cm) as came[name]:
            await trio.sleep_until(start + end)

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for name, begin, end in zip("abc", range(3), ends, strict=True):
            nursery.start_soon(listen, name, begin, end)
        nursery.start_soon(tell, number, 2.5)
        nursery.start_soon(tell, number, 3.5)
    assert "".join(name for name in "abc" for _ in came[name]) == heard
    assert signal.getsignal(number) is before
    assert signals._replaced == []


async def test_what_a_later_block_does_not_hear_is_given_back_before_that_ends(
    autojump_clock: MockClock,
) -> None:
    async def listen(begin: int, end: int, *numbers: signal.Signals) -> None:
        await trio.sleep(begin)
        async with ConMan[None].open(nursery) as cm, shutdown_on_signal(cm, signals=numbers):
            await trio.sleep_until(start + end)

    numbers = signal.SIGINT, signal.SIGTERM
    start, before = trio.current_time(), [signal.getsignal(each) for each in numbers]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, 0, 2, *numbers)
        nursery.start_soon(listen, 1, 3, signal.SIGTERM)
        await trio.sleep(2.5)
        now = [signal.getsignal(each) for each in numbers]
        assert [one is other for one, other in zip(now, before, strict=True)] == [True, False]
    assert [signal.getsignal(each) for each in numbers] == before


async def test_its_end_resumes_a_paused_manager(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[float].open(nursery, timeout=60) as cm:
        async with shutdown_on_signal(cm):
            cm.pause()
            cm.start_soon(job, 2)
    assert (cm.outputs(), trio.current_time()) == ([2], 2)


async def enter_in_a_thread() -> None:
    async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
        told = r"^shutdown_on_signal\(\) was called outside of the main thread, .*\(cm.shutdown, trio_token="
        with pytest.raises(RuntimeError, match=told):
            await shutdown_on_signal(cm).__aenter__()
        await cm.run(job, 0)
    assert cm.outputs() == [0]


async def test_another_thread_than_the_main_one_is_told() -> None:
    await trio.to_thread.run_sync(trio.run, enter_in_a_thread)


async def test_a_manager_in_another_thread_is_refused_before_anything_has_changed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    opened: list[ConMan[float]] = []
    is_open, may_end = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
            opened.append(cm)
            is_open.set()
            await trio.to_thread.run_sync(may_end.wait)

    async def run_elsewhere() -> None:
        await trio.to_thread.run_sync(trio.run, elsewhere)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_elsewhere)
        await trio.to_thread.run_sync(is_open.wait)
        refused = (
            r"^shutdown_on_signal\(\) was called in another thread .* trio.from_thread.run\(cm.shutdown\) "
        )
        try:
            with pytest.raises(RuntimeError, match=refused):
                await shutdown_on_signal(opened[0]).__aenter__()
        finally:
            may_end.set()
        assert signal.getsignal(signal.SIGTERM) is before


async def test_the_end_of_the_manager_ends_it(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[float].open(nursery, timeout=2) as cm, shutdown_on_signal(cm) as came:
            cm.start_soon(job, 3600)
    assert (trio.current_time(), cm.timed_out, came) == (2, True, [])


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"grace": -1}, ValueError, r"grace must be a number of at least 0 .*, not -1"),
        ({"queued": "keep"}, ValueError, "queued must be 'run' or 'drop', not 'keep'"),
        ({"signals": []}, ValueError, "signals must hold at least one signal"),
        (
            {"signals": 15},
            TypeError,
            "signals must be an iterable of numbers of signals, not 15",
        ),
        (
            {"signals": ["SIGTERM"]},
            TypeError,
            "each of signals must be the number of a signal, not 'SIGTERM'",
        ),
        (
            {"signals": [signal.SIGTERM, signal.SIGKILL]},
            ValueError,
            "each of signals must be one that a program can hear of, not SIGKILL",
        ),
        ({"signals": [True]}, TypeError, "each of signals must be the number of a signal, not True"),
        ({"signals": [4711]}, ValueError, "each of signals must be the number of a signal, not 4711"),
    ],
)
async def test_parameters_are_checked_at_once(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
        with pytest.raises(error, match=f"^{text}$"):
            shutdown_on_signal(cm, **options)
    with pytest.raises(TypeError, match=r"^cm must be a ConMan, not 3$"):
        shutdown_on_signal(3)  # type: ignore[arg-type]  # the mistake to be told


async def test_it_is_entered_once_and_while_its_manager_is_there() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery) as cm:
            listening = shutdown_on_signal(cm)
            async with listening:
                pass
            with pytest.raises(
                RuntimeError,
                match=r"^what shutdown_on_signal\(\) returns can be entered once: call it again$",
            ):
                await listening.__aenter__()
            handle = await cm.run(shutdown_on_signal(cm).__aenter__)
            with pytest.raises(
                RuntimeError, match=r"^shutdown_on_signal\(\) was called from inside a task of "
            ):
                await handle.result()
        with pytest.raises(ConManClosedError, match="'conman' is closed"):
            await shutdown_on_signal(cm).__aenter__()


FORKED = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import trio
from trio_conman import ConMan
from trio_conman.executors import run_in_executor
from trio_conman.signals import shutdown_on_signal

def die():
    time.sleep(0.2)
    os._exit(1)

async def main():
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        async with trio.open_nursery() as nursery, ConMan.open(nursery, 4) as cm:
            async with shutdown_on_signal(cm):
                cm.start_soon(run_in_executor, pool, time.sleep, 100)
                cm.start_soon(run_in_executor, pool, die)
                await cm.wait()
                print([type(error).__name__ for error in cm.errors()])

trio.run(main)
"""


INTERRUPTED = """
import signal
import trio
from trio_conman import ConMan, signals

class Interrupted(list):
    def __delitem__(self, at):
        super().__delitem__(at)
        signal.raise_signal(signal.SIGINT)

signals._replaced = Interrupted()

async def main():
    async with trio.open_nursery() as nursery, ConMan.open(nursery) as cm:
        first = signals.shutdown_on_signal(cm)
        await first.__aenter__()
        async with signals.shutdown_on_signal(cm, signals=[signal.SIGTERM]):
            hears = signal.getsignal(signal.SIGTERM)
            try:
                await first.__aexit__(None, None, None)
                await trio.sleep_forever()
            finally:
                print(signal.getsignal(signal.SIGTERM) is hears)

try:
    trio.run(main)
except* KeyboardInterrupt:
    print("interrupted")
"""


def test_a_ctrl_c_amid_its_end_holds_up_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("True\ninterrupted\n", "")


def test_a_forked_worker_can_be_terminated(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FORKED)
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "['BrokenProcessPool', 'BrokenProcessPool']\n"


NOT_SET_BY_PYTHON = """
import ctypes, signal, sys
import trio
from trio_conman import ConMan
from trio_conman.signals import shutdown_on_signal, _restore

system = ctypes.CDLL(None)
system.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
system.signal(signal.SIGUSR1, ctypes.cast(system.getpid, ctypes.c_void_p))
del sys.modules["_signal"]  # it looks at them when it is imported
import _signal
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    both = [signal.SIGUSR1, signal.SIGTERM]
    print([signal.getsignal(each) for each in both])
    async with trio.open_nursery() as nursery, ConMan.open(nursery) as cm:
        async with shutdown_on_signal(cm, signals=both):
            _restore()
            print([signal.getsignal(each) for each in both])
    print([signal.getsignal(each) for each in both])

trio.run(main)
"""


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="it is about a module of CPython")
def test_after_it_there_is_the_default_where_python_had_not_set_a_handler() -> None:
    command = [sys.executable, "-c", NOT_SET_BY_PYTHON]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    before, *others = done.stdout.splitlines()
    default = repr(signal.SIG_DFL)
    assert before == f"[None, {default}]"
    assert others == [f"[{default}, {default}]"] * 2


async def test_a_fork_has_the_handlers_of_before_but_for_ctrl_c() -> None:
    both = [signal.SIGINT, signal.SIGTERM]
    interrupt, before = map(signal.getsignal, both)
    async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
        async with shutdown_on_signal(cm), shutdown_on_signal(cm):
            signals._restore()
            assert signal.getsignal(signal.SIGTERM) is before
            assert signal.getsignal(signal.SIGINT) is not interrupt
    assert [signal.getsignal(each) for each in both] == [interrupt, before]
    assert signals._replaced == []
