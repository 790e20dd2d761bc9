"""What users may call, with which parameters, by which defaults: a line each, in ``signatures.txt``.

``python -m tests.signatures`` writes the file anew: who changes the public API sees there what has changed.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio_conman

FILE = Path(__file__).parent / "signatures.txt"


def public_modules() -> list[str]:
    inside = [each.name for each in pkgutil.iter_modules(trio_conman.__path__)]
    return ["trio_conman", *[f"trio_conman.{name}" for name in inside if not name.startswith("_")]]


def lines() -> Iterator[str]:
    for name in public_modules():
        module = importlib.import_module(name)
        for each in sorted(module.__all__):
            yield from _lines_of(f"{name}.{each}", getattr(module, each))


def _lines_of(name: str, value: Any) -> Iterator[str]:
    if not is_ours(value) or isinstance(value, enum.EnumType):
        return
    yield name + _parameters(value)
    if inspect.isclass(value):
        for each in dir(value):
            method = getattr(value, each)
            if not each.startswith("_") and is_ours(method):
                yield f"{name}.{each}{_parameters(method)}"


def is_ours(value: Any) -> bool:
    return callable(value) and str(getattr(value, "__module__", "")).startswith("trio_conman")


def _parameters(function: Any) -> str:
    """Without types, which have tests of their own, and are written otherwise on other Pythons."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # of exceptions that have none of their own
        return "(...)"
    bare = [
        # A set has another order on other Pythons.
        each.replace(annotation=inspect.Parameter.empty, default=_in_order(each.default))
        for each in signature.parameters.values()
    ]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def _in_order(default: Any) -> Any:
    return sorted(default) if isinstance(default, frozenset) else default


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n", encoding="utf-8")
