"""run_in_executor with errors that do not survive the way from a process: they break no pool."""

import importlib
import multiprocessing
import operator
import os
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from types import ModuleType
from typing import Any

import loky  # type: ignore[import-untyped]  # it has no types
import pytest
import trio

from trio_conman import ConMan, RetriableError, RetryConfig
from trio_conman._leaves.remote_errors import Guarded, GuardedByLoky
from trio_conman.executors import RemoteError, run_in_executor

# A process imports it: a test module cannot be imported there.
ERRORS = '''
from dataclasses import dataclass

from trio_conman import RetriableError, RetryConfig


class TwoArgumentsError(Exception):
    """Pickles, and does not unpickle."""

    def __init__(self, status, text):
        super().__init__(f"{status} {text}")
        self.status = status


class LockedError(Exception):
    """Does not pickle."""

    def __init__(self):
        super().__init__("locked")
        import threading
        self.lock = threading.Lock()


class NoError(Exception):
    """Unpickles as something else."""

    def __reduce__(self):
        return str, ("no error",)


class UnreadableError(LockedError):
    """Has no text."""

    def __str__(self):
        raise ValueError


class InterruptError(BaseException):
    """Is no Exception, and does not unpickle."""

    def __init__(self, one, two):
        super().__init__(one)


@dataclass(frozen=True)
class FrozenError(Exception):
    """Pickles and unpickles, and lets nobody set its traceback, as pools do."""


class PickyError(RetriableError):
    """Does not unpickle either, and is retriable."""

    def __init__(self, one, two):
        super().__init__(one)
        self.two = two


class FineError(Exception):
    """Comes as it is."""


def fail(name, *args):
    raise globals()[name](*args)


def fail_at_several(*names):
    raise ExceptionGroup("several", [ExceptionGroup("some", [FineError("fine")]), *map(one_of, names)])


class OddGroup(ExceptionGroup):
    """Does not unpickle, and has another message than a group may have."""

    message = None

    def __reduce__(self):
        raise TypeError


def one_of(name):
    try:
        fail_for_now(name) if name == "LockedError" else fail(name)
    except Exception as exc:
        return exc


def fail_for_now(name, *args):
    raise RetriableError(globals()[name](*args), retry_after=7, retry_config=RetryConfig(max_attempts=2))
'''


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    directory = tmp_path_factory.mktemp("errors")
    (directory / "conman_errors.py").write_text(ERRORS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        # Processes that are spawned have the path of their parent; those of loky, that of the environment.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")]))
        yield importlib.import_module("conman_errors")
        sys.modules.pop("conman_errors")


@pytest.fixture(scope="module", params=["standard", "loky"])
def pool(request: pytest.FixtureRequest, errors: ModuleType) -> Iterator[Any]:
    if request.param == "loky":
        with loky.ProcessPoolExecutor(1) as pool:
            yield pool
    else:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool


TEXTS = [
    ("TwoArgumentsError", (404, "not found"), "404 not found"),
    ("LockedError", (), "locked"),
    ("NoError", ("no",), "no"),
    ("UnreadableError", (), "(its text could not be had)"),
    ("InterruptError", ("one", "two"), "one"),
    ("PickyError", ("one", "two"), "one"),
    ("FrozenError", (), ""),
]


@pytest.mark.parametrize("name, args, text", TEXTS)
async def test_an_error_that_does_not_arrive_comes_as_a_text(
    pool: Any, errors: ModuleType, name: str, args: tuple[Any, ...], text: str
) -> None:
    with pytest.raises(RemoteError) as caught:
        await run_in_executor(pool, errors.fail, name, *args)
    error = caught.value
    assert (error.type_name, error.text) == (f"conman_errors.{name}", text)
    assert str(error) == f"conman_errors.{name}: {text}"
    assert 'conman_errors.py", line' in error.traceback and "in fail" in error.traceback
    # The pool has not noticed.
    assert await run_in_executor(pool, operator.pow, 2, 5) == 32


async def test_what_arrives_comes_as_itself(pool: Any, errors: ModuleType) -> None:
    with pytest.raises(errors.FineError) as caught:
        await run_in_executor(pool, errors.fail, "FineError", 1, "two")
    assert type(caught.value) is errors.FineError
    assert caught.value.args == (1, "two")
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize("name, args, text", [TEXTS[0], TEXTS[1], TEXTS[3]])
async def test_a_retry_is_asked_for_though_its_error_does_not_arrive(
    pool: Any, errors: ModuleType, name: str, args: tuple[Any, ...], text: str
) -> None:
    with pytest.raises(RetriableError) as caught:
        await run_in_executor(pool, errors.fail_for_now, name, *args)
    retriable = caught.value
    assert (retriable.retry_after, retriable.retry_config) == (7, RetryConfig(max_attempts=2))
    assert isinstance(retriable.err, RemoteError)
    assert str(retriable) == str(retriable.err) == f"conman_errors.{name}: {text}"


async def test_of_a_group_only_what_does_not_arrive_comes_as_a_text(pool: Any, errors: ModuleType) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await run_in_executor(pool, errors.fail_at_several, "LockedError", "UnreadableError")
    some, retriable, unreadable = caught.value.exceptions
    assert caught.value.message == "several"
    assert isinstance(some, ExceptionGroup)
    assert [type(each) for each in some.exceptions] == [errors.FineError]
    assert isinstance(retriable, RetriableError)
    assert str(retriable.err) == "conman_errors.LockedError: locked"
    assert str(unreadable) == "conman_errors.UnreadableError: (its text could not be had)"
    assert isinstance(unreadable, RemoteError)
    assert "in one_of" in unreadable.traceback


async def test_what_only_loky_can_send_does_not_come_as_a_text() -> None:
    class LocalError(Exception):
        """Goes as a copy of its class."""

    def fail() -> None:
        raise LocalError("no")

    with loky.ProcessPoolExecutor(1) as pool:
        with pytest.raises(Exception, match=r"^no$") as caught:
            await run_in_executor(pool, fail)
    assert type(caught.value).__name__ == "LocalError"


async def test_other_items_are_not_hit(pool: Any, errors: ModuleType) -> None:
    async def job(n: int) -> Any:
        if n == 5:
            return await run_in_executor(pool, errors.fail, "TwoArgumentsError", 404, "not found")
        return await run_in_executor(pool, operator.pow, n, 2)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 4, retry=RetryConfig.none()) as cm:
        for n in range(12):
            await cm.run(job, n)
    assert sorted(cm.outputs()) == [n * n for n in range(12) if n != 5]
    (error,) = cm.errors()
    assert str(error) == "conman_errors.TwoArgumentsError: 404 not found"


# The same in this process.


@pytest.mark.parametrize("kind", [Guarded, GuardedByLoky])
@pytest.mark.parametrize("name, args, text", TEXTS)
def test_a_guard_turns_what_does_not_arrive_into_a_text(
    kind: type[Guarded[Any]], errors: ModuleType, name: str, args: tuple[Any, ...], text: str
) -> None:
    with pytest.raises(RemoteError) as caught:
        kind(errors.fail)(name, *args)
    assert caught.value.text == text
    # Whoever prints the traceback sees both.
    printed = "".join(traceback.format_exception(caught.value))
    assert "in fail" in printed and f"RemoteError: conman_errors.{name}: {text}" in printed


def test_a_retry_that_does_not_arrive_itself_comes_as_a_text(errors: ModuleType) -> None:
    with pytest.raises(RemoteError) as caught:
        Guarded(errors.fail)("PickyError", errors.LockedError(), "two")
    assert str(caught.value) == "conman_errors.PickyError: conman_errors.LockedError: locked"


def test_a_group_that_does_not_arrive_itself_comes_as_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = Guarded(operator.truediv)
    monkeypatch.setattr(Guarded, "arrives", lambda _, error: not isinstance(error, ExceptionGroup))
    sent = guarded.sent(ExceptionGroup("several", [ValueError()]))
    assert str(sent) == "builtins.ExceptionGroup: several (1 sub-exception)"


def test_a_group_of_an_odd_class_comes_as_a_text(errors: ModuleType) -> None:
    sent = Guarded(operator.truediv).sent(errors.OddGroup("odd", [ValueError()]))
    assert str(sent) == "conman_errors.OddGroup: odd (1 sub-exception)"


def test_a_group_that_is_nested_deeper_than_the_stack_arrives(errors: ModuleType) -> None:
    error = errors.one_of("UnreadableError")
    for _ in range(sys.getrecursionlimit()):
        error = ExceptionGroup("from a nursery", [error])
    guarded = Guarded(operator.truediv)
    arrives = guarded.arrives(guarded.sent(error))  # as a name of its own: pytest must not print the group
    assert arrives


def test_of_a_retry_made_from_a_group_only_what_does_not_arrive_comes_as_a_text(errors: ModuleType) -> None:
    locked, fine = errors.one_of("LockedError").err, errors.FineError("fine")
    sent = Guarded(operator.truediv).sent(RetriableError(ExceptionGroup("several", [locked, fine])))
    assert isinstance(sent, RetriableError)
    assert isinstance(sent.err, ExceptionGroup)
    as_text, same = sent.err.exceptions
    assert (str(as_text), same) == ("conman_errors.LockedError: locked", fine)


@pytest.mark.parametrize("kind", [Guarded, GuardedByLoky])
def test_a_guard_returns_and_raises_what_arrives(kind: type[Guarded[Any]], errors: ModuleType) -> None:
    assert kind(operator.pow)(2, 3) == 8
    with pytest.raises(errors.FineError) as caught:
        kind(errors.fail)("FineError")
    assert caught.value.__cause__ is None


def test_a_guard_is_sent_with_its_function() -> None:
    import pickle

    assert pickle.loads(pickle.dumps(Guarded(operator.pow)))(2, 3) == 8


def test_a_remote_error_can_be_sent_on() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(RemoteError("a.BError", "no", "Traceback")))
    assert type(error) is RemoteError
    assert (error.type_name, error.text, error.traceback) == ("a.BError", "no", "Traceback")
