"""What ``help()`` and editors show of classes that users do not construct."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, TypeVar

C = TypeVar("C", bound=type)


def made_by(door: str) -> Callable[[C], C]:
    """Hide the constructor of a class; `door` is what makes its objects."""

    def hidden(cls: C) -> C:
        made: Any = cls
        made.__init__.__signature__ = Signature([Parameter("self", Parameter.POSITIONAL_ONLY)])
        made.__init__.__doc__ = f"Private: {door} makes it."
        return cls

    return hidden
