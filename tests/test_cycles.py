"""No reference cycle leads from an outcome to the library's frames: what it held is freed when it is dropped.

The garbage collector is off in all these tests: what goes, goes by its last reference.
"""

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, RetriableError, RetryConfig, StopReason, TaskHandle
from trio_conman._books.collector import BATCH
from trio_conman._policy.retry import renew

AT_ONCE = RetryConfig.none(max_attempts=2)
VARIABLE: ContextVar[object] = ContextVar("VARIABLE")


pytestmark = [pytest.mark.usefixtures("no_collector"), pytest.mark.unmeasured]


class Thing:
    """Something that can be seen to be freed."""


class Watched:
    """Makes things, and tells which of them are alive."""

    def __init__(self) -> None:
        self._made: list[weakref.ref[Thing]] = []

    def thing(self) -> Thing:
        thing = Thing()
        self._made.append(weakref.ref(thing))
        return thing

    @property
    def made(self) -> int:
        return len(self._made)

    @property
    def alive(self) -> int:
        return sum(ref() is not None for ref in self._made)


@pytest.fixture
def watched() -> Watched:
    return Watched()


# Tasks: each gets a thing as its argument, and holds another in a local variable.


async def succeeds(watched: Watched, argument: Thing) -> Thing:
    local = watched.thing()
    await trio.lowlevel.checkpoint()
    return local


async def deeper(watched: Watched, error: Exception) -> NoReturn:
    local = watched.thing()
    await trio.lowlevel.checkpoint()
    try:
        raise error
    finally:
        # As a well-behaved caller does: this cycle would be of the task's own making.
        del error, local


async def fails(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    await deeper(watched, ValueError("no"))


async def fails_before_its_first_await(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    raise ValueError("no")


async def fails_retriably(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    await deeper(watched, RetriableError("no", retry_config=AT_ONCE))


async def fails_retriably_from_an_error(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    try:
        await deeper(watched, ValueError("no"))
    except ValueError as exc:
        raise RetriableError(exc, retry_config=AT_ONCE) from exc


async def fails_retriably_with_an_error(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    try:
        await deeper(watched, ValueError("no"))
    except ValueError as exc:
        raise RetriableError(exc, retry_config=AT_ONCE)  # noqa: B904  # the error in hand is its context


async def fails_with_a_delay(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    config = RetryConfig.linear(max_attempts=2, initial_delay=1)
    await deeper(watched, RetriableError(ValueError("no"), retry_config=config))


async def fails_at_last(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    if watched.made > 4:
        raise ValueError("no")
    raise RetriableError("once more", retry_config=AT_ONCE)


async def fails_in_a_nursery(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deeper, watched, RetriableError("no", retry_config=AT_ONCE))
        nursery.start_soon(trio.sleep_forever)
    raise AssertionError("unreachable")


async def fails_with_a_group(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    raise ExceptionGroup("several", [RetriableError(ValueError("no"), retry_config=AT_ONCE), KeyError("no")])


async def runs_out_of_its_own_time(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    with trio.move_on_after(1):
        await trio.sleep_forever()
    # Not by trio.fail_after(): from Python 3.12 on a generator that is a context manager leaves a cycle of
    # its own when it replaces the exception.
    raise trio.TooSlowError


async def hangs(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    await trio.sleep_forever()
    raise AssertionError("unreachable")


async def hangs_in_a_nursery(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hangs, watched, watched.thing())
    raise AssertionError("unreachable")


async def fails_to_clean_up(watched: Watched, argument: Thing) -> NoReturn:
    _local = watched.thing()
    try:
        await trio.sleep_forever()
    finally:
        raise RetriableError("no")


async def mixes(watched: Watched, argument: Thing) -> NoReturn:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hangs, watched, argument)
        nursery.start_soon(fails_to_clean_up, watched, argument)
    raise AssertionError("unreachable")


def plain(watched: Watched, argument: Thing) -> Any:
    return None


SUCCEEDING = [succeeds]
FAILING = [
    fails,
    fails_before_its_first_await,
    fails_retriably,
    fails_retriably_from_an_error,
    fails_retriably_with_an_error,
    fails_with_a_delay,
    fails_at_last,
    fails_in_a_nursery,
    fails_with_a_group,
    runs_out_of_its_own_time,
    plain,
]
HANGING = [hangs, hangs_in_a_nursery, fails_to_clean_up, mixes]

# Long enough for all that end by themselves.
TIMEOUTS: list[dict[str, Any]] = [
    {
        **({"attempt_timeout": 50} if attempt else {}),
        **({"task_timeout": 60} if task else {}),
        **({"timeout": 70} if manager else {}),
    }
    for attempt in (False, True)
    for task in (False, True)
    for manager in (False, True)
]

JobFn = Callable[[Watched, Thing], Awaitable[object]]


def name(value: Any) -> str | None:
    """For the ids of the cases."""
    if isinstance(value, dict):
        return "+".join(value) or "none"
    return getattr(value, "__name__", None)


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[Any]:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, **options) as cm:
        yield cm


async def ended(handle: TaskHandle[Any]) -> None:
    """Wait until a task has ended, and until its trio task has too."""
    await handle.wait()
    await wait_all_tasks_blocked()


@pytest.mark.parametrize("options", TIMEOUTS, ids=name)
@pytest.mark.parametrize("job", SUCCEEDING + FAILING, ids=name)
async def test_a_dropped_outcome_frees_the_locals_and_arguments_of_its_task(
    autojump_clock: MockClock, watched: Watched, job: JobFn, options: dict[str, Any]
) -> None:
    async with opened(**options) as cm:
        handle = await cm.run(job, watched, watched.thing())
        await ended(handle)
        outcomes = cm.pop_outcomes()
        del handle
        # The argument is in the outcome; a local may be in the result, or in the traceback of the error.
        assert watched.alive >= 1
        del outcomes
        assert watched.alive == 0
        assert cm.statistics().submitted == 1


@pytest.mark.parametrize("options", TIMEOUTS, ids=name)
@pytest.mark.parametrize("job", SUCCEEDING + FAILING, ids=name)
async def test_a_dropped_handle_frees_them_when_the_outcome_went_first(
    autojump_clock: MockClock, watched: Watched, job: JobFn, options: dict[str, Any]
) -> None:
    async with opened(**options) as cm:
        handle = await cm.run(job, watched, watched.thing())
        await ended(handle)
        cm.pop_outcomes()
        assert watched.alive >= 1
        del handle
        assert watched.alive == 0


@pytest.mark.parametrize("options", TIMEOUTS, ids=name)
@pytest.mark.parametrize("job", SUCCEEDING + FAILING, ids=name)
async def test_a_dropped_manager_frees_what_its_tasks_left(
    autojump_clock: MockClock,
    watched: Watched,
    job: JobFn,
    options: dict[str, Any],
    standing_check: dict[int, Any],
) -> None:
    async def use() -> None:
        async with opened(**options) as cm:
            await cm.run(job, watched, watched.thing())
            await cm.wait()
        assert len(cm.outcomes()) == 1
        assert watched.alive >= 1

    await use()
    standing_check.popitem()[1].check()  # now, for it knows the manager
    await wait_all_tasks_blocked()
    assert watched.alive == 0


@pytest.mark.parametrize("options", TIMEOUTS[1:], ids=name)
@pytest.mark.parametrize("job", HANGING, ids=name)
@pytest.mark.parametrize("retry", [None, AT_ONCE])
async def test_an_outcome_of_a_task_that_ran_out_of_time_frees_all_when_it_is_dropped(
    autojump_clock: MockClock,
    watched: Watched,
    job: JobFn,
    options: dict[str, Any],
    retry: RetryConfig | None,
) -> None:
    async with opened(retry=retry, **options) as cm:
        handle = await cm.run(job, watched, watched.thing())
    await wait_all_tasks_blocked()
    assert cm.statistics().failed == 1
    assert watched.alive >= 1
    outcomes = cm.pop_outcomes()
    assert watched.alive >= 1
    del handle, outcomes
    assert watched.alive == 0


@pytest.mark.parametrize("options", TIMEOUTS, ids=name)
@pytest.mark.parametrize("job", [*HANGING, fails_with_a_delay], ids=name)
@pytest.mark.parametrize("how", ["handle", "manager", "outer"])
async def test_an_outcome_of_a_cancelled_task_frees_all_when_it_is_dropped(
    autojump_clock: MockClock,
    watched: Watched,
    job: JobFn,
    options: dict[str, Any],
    how: str,
) -> None:
    with trio.CancelScope() as outer:
        async with opened(**options) as cm:
            handle = await cm.run(job, watched, watched.thing())
            await wait_all_tasks_blocked()
            # Not in a function of its own: the traceback of a Cancelled leads to the frames that called
            # cancel(), with what they hold.
            match how:
                case "handle":
                    handle.cancel()
                case "manager":
                    cm.cancel()
                case _:
                    outer.cancel()
    await wait_all_tasks_blocked()
    assert handle.outcome is not None
    assert watched.alive >= 1
    outcomes = cm.pop_outcomes()
    del handle, outcomes
    assert watched.alive == 0


@pytest.mark.parametrize("options", TIMEOUTS, ids=name)
@pytest.mark.parametrize("job", FAILING, ids=name)
async def test_an_error_raised_by_result_and_raise_errors_frees_all_when_it_is_dropped(
    autojump_clock: MockClock, watched: Watched, job: JobFn, options: dict[str, Any]
) -> None:
    async with opened(**options) as cm:
        handle = await cm.run(job, watched, watched.thing())
        # Not in a function of its own: the traceback leads to the frames that asked, with what they hold.
        for _ in range(3):
            with suppress(Exception):
                await handle.result()
            with suppress(Exception):
                cm.raise_errors()
        await wait_all_tasks_blocked()
        outcomes = cm.pop_outcomes()
        assert watched.alive >= 1
        del handle, outcomes
        assert watched.alive == 0


@pytest.mark.parametrize("options", TIMEOUTS, ids=name)
async def test_a_task_that_awaits_another_passes_its_error_on_without_a_cycle(
    autojump_clock: MockClock, watched: Watched, options: dict[str, Any]
) -> None:
    async with opened(**options) as cm:
        first = await cm.run(fails_with_a_delay, watched, watched.thing())
        second = await cm.run(first.result)
        await ended(second)
        outcomes = cm.pop_outcomes()
        assert len(outcomes) == 2
        assert outcomes[0].error is outcomes[1].error
        assert watched.alive >= 1
        del first, second, outcomes
        assert watched.alive == 0


@pytest.mark.parametrize("options", TIMEOUTS, ids=name)
async def test_a_task_whose_wait_could_never_end_fails_without_a_cycle(
    autojump_clock: MockClock, watched: Watched, options: dict[str, Any]
) -> None:
    async def awaits_the_second() -> None:
        with suppress(RuntimeError):
            await handles[1].result()

    async def awaits_the_first(argument: Thing) -> None:
        await handles[0].result()

    async with opened(**options) as cm:
        handles = [cm.start_soon(awaits_the_second), cm.start_soon(awaits_the_first, watched.thing())]
        await ended(handles[0])
        outcomes = cm.pop_outcomes()
        assert "neither would ever end" in str(outcomes[0].error)
        assert watched.alive == 1
        handles.clear()
        del outcomes
        assert watched.alive == 0


@pytest.mark.parametrize("options", TIMEOUTS, ids=name)
async def test_a_running_task_keeps_nothing_of_its_earlier_attempts(
    autojump_clock: MockClock, watched: Watched, options: dict[str, Any]
) -> None:
    alive: list[int] = []

    async def task() -> None:
        alive.append(watched.alive)
        _local = watched.thing()
        if len(alive) < 4:
            await deeper(watched, RetriableError(ValueError("no"), retry_config=RetryConfig.none()))

    async with opened(**options) as cm:
        handle = await cm.run(task)
        await handle.wait()
    assert alive == [0, 0, 0, 0]


async def test_tasks_that_are_done_leave_nothing_in_a_manager_that_lives_on(
    autojump_clock: MockClock, watched: Watched
) -> None:
    async with opened() as cm:
        for job in [*SUCCEEDING, *FAILING] * 3:
            await ended(await cm.run(job, watched, watched.thing()))
            cm.pop_outcomes()
            assert watched.alive == 0
        assert watched.made > 36


@pytest.mark.parametrize("state", ["running", "queued"])
async def test_a_handle_that_is_kept_keeps_neither_what_was_called_nor_its_context(
    state: str, autojump_clock: MockClock, watched: Watched
) -> None:
    class Job:
        def __init__(self) -> None:
            self.thing = watched.thing()

        async def execute(self) -> None:
            await trio.sleep(1)

    async with opened() as cm:
        for _ in range(2 if state == "queued" else 0):
            cm.start_soon(trio.sleep, 1)
        token = VARIABLE.set(watched.thing())
        handle = cm.start_soon(Job())
        VARIABLE.reset(token)
        del token
        assert (handle.state, watched.alive) == (state, 2)
        await handle.wait()
        for _ in range(2):
            await cm.run(trio.sleep, 1)  # a worker has the context of its last task until it has another one
        await cm.wait()
        assert (handle.state, watched.alive) == ("done", 0)


async def test_a_handle_that_is_kept_keeps_nobody_who_has_waited_for_it(
    autojump_clock: MockClock, watched: Watched
) -> None:
    async def wait() -> None:
        VARIABLE.set(watched.thing())
        await handle.wait()

    async with opened() as cm:
        handle = await cm.run(trio.sleep, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert watched.alive == 1
        assert (handle.state, watched.alive) == ("done", 0)


async def test_a_batch_of_outcomes_that_was_taken_in_is_kept_by_nobody(
    autojump_clock: MockClock, watched: Watched
) -> None:
    async with opened() as cm:
        for _ in range(BATCH):
            await cm.run(succeeds, watched, watched.thing())
        await cm.wait()
        await wait_all_tasks_blocked()
        assert len(cm.pop_outcomes()) == BATCH
        assert watched.alive == 0


# Many attempts


def length_of_traceback(error: BaseException) -> int:
    length = 0
    traceback = error.__traceback__
    while traceback is not None:
        length += 1
        traceback = traceback.tb_next
    return length


def reach(error: BaseException) -> tuple[int, int]:
    """How many exceptions can be found from an error, and how many traceback entries they have together."""
    seen: dict[int, BaseException] = {}
    todo = [error]
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        todo += [other for other in (each.__context__, each.__cause__) if other is not None]
        if isinstance(each, RetriableError) and each.err is not None:
            todo.append(each.err)
        if isinstance(each, BaseExceptionGroup):
            todo += each.exceptions
    return len(seen), sum(length_of_traceback(each) for each in seen.values())


SINGLE = ValueError("always the same")
SINGLE_RETRIABLE = RetriableError("always the same")
SINGLE_RETRIABLE_WITH_ERROR = RetriableError(ValueError("always the same inside"))
SINGLE_GROUP = ExceptionGroup("always the same", [RetriableError("always the same")])


def a_new_error() -> NoReturn:
    raise ValueError("new")


def a_new_error_while_handling_another() -> NoReturn:
    try:
        raise OSError("first")
    except OSError:
        raise ValueError("second")  # noqa: B904  # the error in hand is its context


def a_new_retriable_error_from_another() -> NoReturn:
    try:
        raise OSError("first")
    except OSError as exc:
        raise RetriableError(exc) from exc


def a_new_group() -> NoReturn:
    raise ExceptionGroup("new", [RetriableError("a"), RetriableError(ValueError("b"))])


def the_same_error() -> NoReturn:
    raise SINGLE


def the_same_error_while_handling_another() -> NoReturn:
    try:
        raise OSError("first")
    except OSError:
        raise SINGLE  # noqa: B904  # the error in hand is its context


def the_same_error_in_new_ones() -> NoReturn:
    try:
        raise SINGLE
    except ValueError as exc:
        raise RetriableError(exc)  # noqa: B904  # the error in hand is its context


def the_same_retriable_error() -> NoReturn:
    raise SINGLE_RETRIABLE


def the_same_retriable_error_with_an_error() -> NoReturn:
    raise SINGLE_RETRIABLE_WITH_ERROR


def the_same_group() -> NoReturn:
    raise SINGLE_GROUP


def a_new_group_of_the_same_errors() -> NoReturn:
    leaves: list[Exception] = []
    for error in (SINGLE, SINGLE_RETRIABLE):
        try:
            raise error
        except ValueError as exc:
            leaves.append(RetriableError(exc))
        except RetriableError as exc:
            leaves.append(ExceptionGroup("inside", [exc]))
    raise ExceptionGroup("new", leaves)


@pytest.fixture(autouse=True)
def _clean_singles() -> Iterator[None]:
    """Leave neither tracebacks nor the mark of an ended task on the exceptions that the tests share."""
    yield
    for each in (SINGLE, SINGLE_RETRIABLE, SINGLE_RETRIABLE_WITH_ERROR, SINGLE_GROUP):
        each.__traceback__ = each.__context__ = None
        renew(each)


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 50}, {"task_timeout": 999}], ids=name)
@pytest.mark.parametrize("delay", [0, 0.25])
@pytest.mark.parametrize(
    "raising",
    [
        a_new_error,
        a_new_error_while_handling_another,
        a_new_retriable_error_from_another,
        a_new_group,
        the_same_error,
        the_same_error_while_handling_another,
        the_same_error_in_new_ones,
        the_same_retriable_error,
        the_same_retriable_error_with_an_error,
        the_same_group,
        a_new_group_of_the_same_errors,
    ],
    ids=name,
)
async def test_a_thousand_attempts_leave_no_growing_chain_and_no_growing_traceback(
    autojump_clock: MockClock, raising: Callable[[], None], delay: float, options: dict[str, Any]
) -> None:
    async def task() -> None:
        await trio.lowlevel.checkpoint()
        raising()

    async def run(retries: int) -> tuple[int, int]:
        config = RetryConfig.linear(
            max_attempts=retries, initial_delay=delay, backoff_factor=0, retry_on=ValueError
        )
        async with opened(retry=config, **options) as cm:
            handle = await cm.run(task)
        assert handle.outcome.reason is StopReason.RETRIES_EXHAUSTED
        assert handle.outcome.retries == retries
        error = handle.outcome.error
        renew(error)
        return reach(error)

    few = await run(2)
    assert await run(1000) == few


async def test_a_thousand_slow_attempts_leave_no_chain(autojump_clock: MockClock) -> None:
    config = RetryConfig.none(max_attempts=1000)
    async with opened(attempt_timeout=1, retry=config) as cm:
        handle = await cm.run(trio.sleep_forever)
    assert handle.outcome.retries == 1000
    assert reach(handle.outcome.error) == (1, 0)


async def test_asking_for_a_result_while_being_retried_does_not_grow_its_traceback(
    autojump_clock: MockClock,
) -> None:
    async with opened() as cm:
        failed = await cm.run(a_task_with_the_same_error)
        config = RetryConfig.none(max_attempts=1000, retry_on=ValueError)
        asking = await cm.run(failed.result, retry=config)
    assert asking.outcome.error is failed.outcome.error is SINGLE
    assert asking.outcome.retries == 1000
    assert reach(SINGLE)[1] <= 4


async def a_task_with_the_same_error() -> None:
    the_same_error()
