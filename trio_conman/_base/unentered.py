"""What is told to those who forget ``async with``."""

from __future__ import annotations

import warnings
from typing import NoReturn


class Unentered:
    """A block that is to be entered by ``async with``, and says so when it is used otherwise, or never."""

    __slots__ = ("_is_told",)

    _method = ""
    _use = ""
    # The type of what it yields, as far as users know it.
    _yields: type = object

    def __init__(self) -> None:
        self._is_told = False  # that it is to be entered, as it has been, or by an error

    def _misused(self, *_: object) -> NoReturn:
        self._is_told = True
        raise TypeError(f"{self._method}() was used without 'async with': {self._use}")

    __aiter__ = __anext__ = __iter__ = __next__ = __await__ = __enter__ = __exit__ = _misused
    __reduce__ = _misused  # a copy

    def __getattr__(self, name: str) -> NoReturn:
        if not name.startswith("_") and hasattr(self._yields, name):
            self._is_told = True
            raise AttributeError(
                f"{self._yields.__name__}.{name} was used of what {self._method}() returns: {self._use}"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __del__(self) -> None:
        if not self._is_told:
            warnings.warn(
                f"{self._method}() was never entered, and did nothing: {self._use}",
                RuntimeWarning,
                stacklevel=2,
            )
