"""Imports inside the package go one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import trio_conman

PACKAGE = Path(trio_conman.__file__).parent
MAX_LINES = 420

# Each module may import those after it. "" is the package itself.
ENTRY = [""]
LEAVES = [
    "__main__",
    "_demo_server",
    "_demo_options",
    "progress",
    "_drawing",
    "_pen",
    "telemetry",
    "executors",
    "testing",
]
CORE = [
    "_conman",
    "_doors",
    "_views",
    "_map_block",
    "_mapping",
    "_stream",
    "_feeder",
    "_source",
    "_block",
    "_collector",
    "_line",
    "_rings",
    "_execution",
    "_endings",
    "_ledger",
    "_worker",
    "_instruments",
    "_permits",
    "_rate",
    "_outlast",
    "_handles",
    "_decision",
    "_retry",
    "_retry_after",
    "_backoff",
    "_budget",
    "_outcomes",
    "_errors",
    "_checks",
    "_log",
    "_texts",
    "_stack",
]
HOUSE = [*ENTRY, *LEAVES, *CORE]
PURE = {
    "_decision",
    "_budget",
    "_retry_after",
    "_retry",
    "_backoff",
    "_outcomes",
    "_checks",
    "_log",
    "_stack",
    "_texts",
}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported(source: str, package: str) -> Iterator[str]:
    """The full name of everything that a module of `package` imports, wherever in the module it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            origin = ".".join([*base, node.module] if node.module else base)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def neighbours(module: str) -> set[str]:
    """The modules of the package that `module` imports."""
    path = MODULES[module]
    package = ".".join(["trio_conman", *path.parent.relative_to(PACKAGE).parts])
    found: set[str] = set()
    for name in imported(path.read_text(encoding="utf-8"), package):
        top, _, rest = name.partition(".")
        if top == "trio_conman":
            # The last part is a module, or something that a module holds.
            found.add(rest if rest in MODULES else rest.rpartition(".")[0])
    return found


def faults(module: str, neighbour: str) -> str | None:
    """What is wrong with `module` importing `neighbour`, if anything is."""
    if neighbour not in HOUSE:
        return "is not in the table"
    if neighbour in LEAVES and module not in LEAVES:
        return "is a leaf, which only leaves may import"
    if neighbour == "" and module in LEAVES:
        return None  # leaves are written with the public names
    if HOUSE.index(neighbour) <= HOUSE.index(module):
        return "is not below it"
    if neighbour == "_errors" and module in PURE:
        return "imports trio"
    return None


def test_every_module_is_in_the_table() -> None:
    unknown = sorted(set(MODULES) - set(HOUSE))
    assert not unknown, f"{unknown}: give each its place in the table of {Path(__file__).name}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    if module not in HOUSE:
        pytest.fail("the module has no place in the table")
    wrong = {n: fault for n in sorted(neighbours(module)) if (fault := faults(module, n))}
    assert not wrong, f"{module or '__init__'} imports {wrong}"


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_do_not_know_trio(module: str) -> None:
    names = imported(MODULES[module].read_text(encoding="utf-8"), "trio_conman")
    assert "trio" not in {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("module", MODULES)
def test_files_stay_small(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines < MAX_LINES, f"{MODULES[module].name} has {lines} lines: split it"


@pytest.mark.parametrize(
    "statement, names",
    [
        ("import trio", {"trio"}),
        ("from trio.lowlevel import Abort as A", {"trio.lowlevel.Abort"}),
        ("from . import _line, RetryConfig", {"trio_conman._line", "trio_conman.RetryConfig"}),
        ("from ._line import Line", {"trio_conman._line.Line"}),
        ("if TYPE_CHECKING:\n    from trio_conman._line import *", {"trio_conman._line.*"}),
        ("def f():\n    import trio_conman.testing as t", {"trio_conman.testing"}),
    ],
)
def test_finds_imports_of_every_form(statement: str, names: set[str]) -> None:
    assert set(imported(statement, "trio_conman")) == names


@pytest.mark.parametrize(
    "module, neighbour, fault",
    [
        ("_conman", "_line", None),
        ("__main__", "", None),
        ("", "_conman", None),
        ("_line", "_conman", "is not below it"),
        ("_line", "_line", "is not below it"),
        ("_conman", "", "is not below it"),
        ("_conman", "testing", "is a leaf, which only leaves may import"),
        ("", "testing", "is a leaf, which only leaves may import"),
        ("_retry", "_errors", "imports trio"),
        ("_retry", "_new", "is not in the table"),
    ],
)
def test_knows_a_wrong_arrow(module: str, neighbour: str, fault: str | None) -> None:
    assert faults(module, neighbour) == fault
