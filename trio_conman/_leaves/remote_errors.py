"""How errors come from another process: as they are, or as a text where they would not survive the way."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar, final

from trio_conman._base.texts import text_of
from trio_conman._policy.retry import RetriableError

T = TypeVar("T")


@final
class RemoteError(Exception):
    """Stands for the error of a call in another process that cannot be pickled, or not be unpickled.

    Or that is frozen, so that its traceback cannot be set. Such an error would break the whole pool. As a
    text it is the name of its class and what it says.
    """

    type_name: str
    """The name of the error's class, with its module: ``"httpx.HTTPStatusError"``."""
    text: str
    """What the error says, its ``str``."""
    traceback: str
    """The traceback, as a text."""

    def __init__(self, type_name: str, text: str, traceback: str) -> None:
        super().__init__(type_name, text, traceback)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


class Guarded(Generic[T]):
    """A function for another process, whose errors all arrive."""

    __slots__ = ("_fn",)

    def __init__(self, fn: Callable[..., T]) -> None:
        self._fn = fn

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._fn,)

    def __call__(self, *args: Any) -> T:
        try:
            return self._fn(*args)
        except BaseException as exc:  # a pool sends all of them back
            sent = self.sent(exc)
            if sent is exc:
                raise
            raise sent from exc

    def sent(self, error: BaseException) -> BaseException:
        """An error, or what stands for it, or for some of those in it, where it does not arrive."""
        if self.arrives(error):
            return error
        if isinstance(error, RetriableError) and error.err is not None:
            error.err = self.sent(error.err)  # type: ignore[assignment]  # of an Exception it is one, too
            error.args = (error.err,)
            if self.arrives(error):  # what it asks for is heard
                return error
        if isinstance(error, BaseExceptionGroup):
            with suppress(Exception):  # of a class with fields of its own, or nested deeper than the stack
                group = BaseExceptionGroup(error.message, [self.sent(each) for each in error.exceptions])
                if self.arrives(group):
                    return group
        return as_text(error)

    def arrives(self, error: BaseException) -> bool:
        """Whether an error can be pickled and unpickled, and bears what a pool sets on each side."""
        try:
            arrived = pickle.loads(self.dumps(error))
            arrived.__traceback__ = arrived.__cause__ = None
            return isinstance(arrived, BaseException)
        except Exception:
            return False

    def dumps(self, error: BaseException) -> bytes | memoryview:
        """Pickle as the pool does."""
        return ForkingPickler.dumps(error)


class GuardedByLoky(Guarded[T]):
    """The same where loky pickles, which takes classes along that cannot be imported."""

    __slots__ = ()

    def dumps(self, error: BaseException) -> bytes | memoryview:
        """Pickle as the pool does."""
        # It is there where this is unpickled; it has no types.
        from loky.backend.reduction import dumps  # type: ignore[import-untyped]  # noqa: PLC0415  # see above

        pickled: memoryview = dumps(error)
        return pickled


def as_text(error: BaseException) -> RemoteError:
    """What of an error can be sent in any case."""
    kind = type(error)
    lines = traceback.format_exception(error)
    return RemoteError(f"{kind.__module__}.{kind.__qualname__}", text_of(error), "".join(lines))
