"""How many tasks of one key may run at once: the limit that users hold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, NoReturn, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.checks import check_int, check_sync, check_type
from trio_conman._base.explained import explained
from trio_conman._base.hidden import refuse_twins
from trio_conman._base.outlast import is_over
from trio_conman._base.stack import need_more_stack
from trio_conman._base.texts import short
from trio_conman._books.callables import name_of

from .keys import Key, Keys, released
from .lanes import lines_of, serve_all


@final
@attrs.frozen(kw_only=True)
class KeyStatistics:
    """Where the tasks of one key stand, at one moment."""

    limit: int
    """How many may run at once."""
    running: int
    """Tasks that have a slot."""
    waiting: int
    """Tasks that wait for a slot, or for others of the key to end."""


@final
class KeyedLimit:
    """Lets `limit` tasks of each key run at once; may be shared between managers.

    A task's key is computed once, when it is handed in, or drawn by a map. A task whose key is at its limit
    is passed over and keeps its place: nobody behind it waits for it, it holds no slot, and among tasks of
    one key the order stays. Keys that no task has any more cost nothing.

    Its methods are called in the trio run, and the thread, that its managers live in. Another run may use it
    when they are closed.

    Args:
        limit: how many tasks of one key run at once; an int of at least 1.
        key: a sync callable that gets the arguments of a task, and returns what it counts for, of any
            hashable type. A task for which it fails, fails.
        limits: the limits of those keys that have another one. Default: all have the same.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: a limit is out of its range.
    """

    __slots__ = ("__weakref__", "_fn", "_keys", "_limit", "_limits", "_lock", "_run", "_users")

    @explained()
    def __init__(
        self, limit: int, *, key: Callable[..., Hashable], limits: Mapping[Any, int] | None = None
    ) -> None:
        self._limit = check_int("limit", limit, minimum=1)
        check_sync("key", key, "a sync callable")
        self._fn: Callable[..., Hashable] = key
        check_type("limits", limits, Mapping | None, "a mapping or None")
        self._limits = _Limits(self, {} if limits is None else limits)
        # Those in use, each alone in a tuple, which its tasks share that have no other keys.
        self._keys: dict[Hashable, Keys] = {}
        self._run: trio.lowlevel.TrioToken | None = None
        self._lock = threading.Lock()  # for the change from one run to another
        self._users = 0  # of the run: managers that have not ended

    def __reduce__(self) -> NoReturn:
        refuse_twins(self)

    def __repr__(self) -> str:
        return f"<KeyedLimit of {self._limit} by {name_of(self._fn)}()>"

    @property
    def limit(self) -> int:
        """How many tasks of one key run at once, where `limits` says nothing. May be assigned.

        Raises:
            RuntimeError: assigned outside of the trio run whose managers use it.
            TypeError: assigned what is no int.
            ValueError: assigned an int below 1.
        """
        return self._limit

    @limit.setter
    @enable_ki_protection
    def limit(self, limit: int) -> None:
        limit = check_int("limit", limit, minimum=1)
        self._check_run()
        need_more_stack()
        self._limit = limit
        self._changed(self._keys.values())

    @property
    def limits(self) -> MutableMapping[Hashable, int]:
        """The limits of keys that have another one. May be changed at any time, as in ``limits[key] = 5``.

        Raising one starts at once as many tasks as fit; lowering it ends none. A key that is deleted has the
        common limit again. What may be wrong with a change is told as for `limit`.
        """
        return self._limits

    def statistics(self) -> Mapping[Hashable, KeyStatistics]:
        """Where the keys stand that tasks have now, and no others: a new dict.

        Raises:
            RuntimeError: called outside of the trio run whose managers use it.
        """
        self._check_run()
        return {
            value: KeyStatistics(limit=key.most, running=key.running, waiting=key.waiting)
            for value, (key,) in list(self._keys.items())  # a hash may hand in tasks of others
            if key.running or key.waiting
        }

    def _describe(self) -> str:
        return f"key of {self!r}"

    def _enter(self, value: Hashable) -> Keys:
        """One more waits whose only key that is.

        Raises:
            TypeError: it cannot be one.
        """
        try:
            keys = self._keys.get(value)
            if keys is None:
                most = self._limits.known.get(value, self._limit)
                # Its hash may have handed in a task of the same key.
                keys = self._keys.setdefault(value, (Key(self._keys, value, most),))
        except Exception as error:
            raise TypeError(f"{self._describe()} must be hashable, not {short(value)}") from error
        keys[0].waiting += 1
        return keys

    def _changed(self, changed: Iterable[Keys]) -> None:
        """Other limits hold for these keys."""
        keys = [key for (key,) in changed]
        for key in keys:
            with suppress(Exception):  # what the value's own methods raise
                key.most = self._limits.known.get(key.value, self._limit)
        serve_all(lines_of(released(keys)))

    # The run that it belongs to

    def _is_used(self) -> bool:
        return self._users > 0 and self._run is not None and not is_over(self._run)

    def _check_run(self) -> None:
        """Raise where a run uses it, and the caller is not inside of that."""
        inside = trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._run
        if not inside and self._is_used():
            raise RuntimeError(
                f"{self!r} is used in another thread: call its methods with trio.from_thread.run_sync"
            )

    def _open(self) -> None:
        """A manager uses it, in the caller's trio run, until `_close`.

        Raises:
            RuntimeError: managers of another run do.
        """
        run = trio.lowlevel.current_trio_token()
        with self._lock:
            if run is not self._run:
                if self._is_used():
                    raise RuntimeError(
                        f"per_key is {self!r}, which a manager of another trio run uses just now: "
                        "ConMan.open() needs one of its own for each run"
                    )
                self._run, self._users = run, 0
                self._keys.clear()  # of a run that has crashed
            self._users += 1

    def _close(self, run: trio.lowlevel.TrioToken | None) -> None:
        """A manager of that run uses it no more."""
        # It may be another run's by now, if this one crashed, and this is the garbage collector's doing.
        if self._run is run:
            self._users -= 1


@final
class _Limits(MutableMapping[Hashable, int]):
    """The limits of the keys that have one of their own; who waits learns of each change."""

    __slots__ = ("_owner", "known")

    def __init__(self, owner: KeyedLimit, limits: Mapping[Any, int]) -> None:
        self.known = {key: _checked(key, limit) for key, limit in limits.items()}
        self._owner = owner

    def __getitem__(self, key: Hashable) -> int:
        return self.known[key]

    @enable_ki_protection
    def __setitem__(self, key: Hashable, limit: int) -> None:
        limit = _checked(key, limit)
        self._owner._check_run()
        need_more_stack()
        self.known[key] = limit
        self._tell(key)

    @enable_ki_protection
    def __delitem__(self, key: Hashable) -> None:
        self._owner._check_run()
        need_more_stack()
        del self.known[key]
        self._tell(key)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)

    def __repr__(self) -> str:
        return repr(self.known)

    def _tell(self, key: Hashable) -> None:
        used = self._owner._keys.get(key)
        if used is not None:
            self._owner._changed([used])


def _checked(key: object, limit: object) -> int:
    return check_int(f"limits[{short(key)}]", limit, minimum=1)
