"""What ``help()``, editors, ``copy`` and ``pickle`` are told of classes that are more than values."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, NoReturn, TypeVar

C = TypeVar("C", bound=type)


def made_by(door: str) -> Callable[[C], C]:
    """Hide the constructor of a class, whose objects have no copies; `door` is what makes them."""

    def hidden(cls: C) -> C:
        made: Any = cls
        made.__init__.__signature__ = Signature([Parameter("self", Parameter.POSITIONAL_ONLY)])
        made.__init__.__doc__ = f"Private: {door} makes it."
        made.__reduce__ = refuse_copies
        return cls

    return hidden


def refuse_copies(self: object) -> NoReturn:
    """As ``__reduce__``: what is open in one trio run is nothing in another process, or beside itself."""
    raise TypeError(
        f"a {type(self).__name__} cannot be pickled or copied, as it belongs to one trio run: "
        "pass on what you read from it"
    )


def refuse_twins(self: object) -> NoReturn:
    """As ``__reduce__``: a copy would count for itself, or in part, what is to be counted together."""
    raise TypeError(
        f"{type(self).__name__} objects cannot be pickled or copied, as all who use one share what it "
        "counts: pass on the object itself"
    )
