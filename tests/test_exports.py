"""What the package exports, and that it shows itself under its public name."""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
import typing
from types import ModuleType

import attrs
import pytest

import trio_conman

PUBLIC = {name: getattr(trio_conman, name) for name in trio_conman.__all__}
# A type alias has neither a module nor a docstring of its own.
DEFINED = {name: value for name, value in PUBLIC.items() if typing.get_origin(value) is None}


def test_all_is_sorted_and_has_no_name_twice() -> None:
    assert list(trio_conman.__all__) == sorted(set(trio_conman.__all__))


def test_all_is_complete() -> None:
    names = {
        name
        for name, value in vars(trio_conman).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert names - {"annotations"} == set(trio_conman.__all__)


@pytest.mark.parametrize("name", DEFINED)
def test_module_is_the_public_one(name: str) -> None:
    assert DEFINED[name].__module__ == "trio_conman"


@pytest.mark.parametrize("name", DEFINED)
def test_has_a_docstring(name: str) -> None:
    # Not inspect.getdoc: an inherited docstring tells of another class.
    assert DEFINED[name].__doc__


@pytest.mark.parametrize("name", [name for name, value in DEFINED.items() if inspect.isclass(value)])
def test_what_is_not_made_to_be_subclassed_says_so(name: str) -> None:
    cls = DEFINED[name]
    made_for_it = cls is trio_conman.Task or issubclass(cls, BaseException | trio_conman.Instrument)
    # An enum with members cannot be subclassed anyway.
    assert made_for_it or issubclass(cls, enum.Enum) or "__final__" in vars(cls)


def test_no_class_inside_has_methods_that_nobody_uses() -> None:
    # attrs compiles them one by one, which is most of what the import costs.
    inside = {
        cls
        for module in pkgutil.walk_packages(trio_conman.__path__, "trio_conman.")
        if module.name.startswith("trio_conman._") and not module.name.endswith("__main__")
        for cls in vars(importlib.import_module(module.name)).values()
        if inspect.isclass(cls) and attrs.has(cls) and cls not in PUBLIC.values()
    }
    assert len(inside) > 5
    made = {cls.__name__ for cls in inside if not {"__eq__", "__repr__"}.isdisjoint(vars(cls))}
    assert made == {"Retry"}


@pytest.mark.parametrize(
    "cls",
    [
        trio_conman.AdaptiveLimitStatistics,
        trio_conman.ConManStatistics,
        trio_conman.KeyStatistics,
        trio_conman.RateLimiterStatistics,
        trio_conman.RetryBudgetStatistics,
        trio_conman.RetryConfig,
    ],
)
def test_what_may_get_more_fields_is_made_by_their_names(cls: type) -> None:
    assert {each.kind for each in inspect.signature(cls).parameters.values()} == {
        inspect.Parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(member, id=f"{name}.{attribute}")
        for name, cls in DEFINED.items()
        if inspect.isclass(cls)
        for attribute, member in vars(cls).items()
        if not attribute.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
    ],
)
def test_public_methods_and_properties_have_docstrings(method: object) -> None:
    assert inspect.getdoc(method)
