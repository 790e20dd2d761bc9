"""What is called to make an attempt of a task, and what a task is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

from trio_conman._base.texts import short

_HINT = "pass fn, *args, not fn(*args)"


def callable_of(task: object, name: str = "task") -> Callable[..., Any]:
    """What to call to make an attempt; `name` is that of the parameter.

    Raises:
        TypeError: `task` is neither an async callable nor a `Task`.
    """
    if type(task) is FunctionType and not task.__code__.co_flags & inspect.CO_ASYNC_GENERATOR:
        return task  # as below, in less time
    if callable(task):
        code = getattr(_unwrapped(task), "__code__", None)
        # The flag itself: inspect.isasyncgenfunction() costs as much as the rest of the submission.
        if getattr(code, "co_flags", 0) & inspect.CO_ASYNC_GENERATOR:
            raise TypeError(
                f"{name} must be an async callable, but {short(task)} is an async generator function: "
                f"iterate over it inside an async function, and {_HINT}"
            )
        return task
    execute: object = getattr(task, "execute", None)
    if callable(execute):
        return execute
    if inspect.iscoroutine(task) and inspect.getcoroutinestate(task) == inspect.CORO_CREATED:
        task.close()  # else Python warns that it was never awaited
    raise TypeError(
        f"{name} must be an async callable or an object with an execute() method, not {short(task)}: {_HINT}"
    )


def _unwrapped(task: object) -> object:
    while isinstance(task, partial):
        task = task.func
    return task


def name_of(task: object) -> str:
    """A task's default name: the ``__qualname__`` of a function, else that of the type."""
    if type(task) is FunctionType:
        return task.__qualname__  # as below
    task = _unwrapped(task)
    name = getattr(task, "__qualname__", None)
    return name if type(name) is str else type(task).__qualname__


def not_awaitable(call: object, result: object) -> TypeError:
    """The error of a task whose callable returned something else than an awaitable."""
    return TypeError(
        f"{name_of(call)}() returned an object of type {type(result).__qualname__}, which cannot be awaited: "
        "a task must be an async callable (for a blocking function use trio.to_thread.run_sync)"
    )
