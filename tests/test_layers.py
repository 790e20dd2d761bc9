"""Imports inside the package go one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import trio_conman

pytestmark = pytest.mark.unmeasured

PACKAGE = Path(trio_conman.__file__).parent
MAX_LINES = 420
MAX_FUNCTION = 60  # lines

# Each room may import from those after it. "" has the public names, with the leaves beside it.
ROOMS = ["", "_leaves", "_manager", "_engine", "_limits", "_books", "_policy", "_base"]
# What decides knows no trio.
PURE = "_policy"
# What it may use nevertheless knows none either.
KNOWS_TRIO = {"_base.errors", "_base.outlast"}

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


def room_of(module: str) -> str:
    """The room that a module is in."""
    return module.partition(".")[0] if module.startswith("_") and module != "__main__" else ""


def faults(module: str, neighbour: str) -> str | None:
    """What is wrong with `module` importing `neighbour`, if anything is."""
    room, other = room_of(module), room_of(neighbour)
    if other not in ROOMS:
        return "is in no room"
    if other == "":
        if module == "__main__":
            return None  # the demo is a user
        if neighbour == "" and module and room in {"", "_leaves"}:
            return None  # leaves are written with the public names
        return "is a leaf, which only users import" if neighbour else "is the door, not for those inside"
    if other == "_leaves" and not (room == other or (room == "" and module)):
        return "is part of a leaf, which only leaves may import"
    if ROOMS.index(other) < ROOMS.index(room):
        return "is not below it"
    if room == PURE and neighbour in KNOWS_TRIO:
        return "imports trio"
    return None


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    wrong = {n: fault for n in sorted(neighbours(module)) if (fault := faults(module, n))}
    assert not wrong, f"{module or '__init__'} imports {wrong}"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_inside_of_a_room_go_one_way(room: str) -> None:
    inside = [module for module in MODULES if room_of(module) == room]
    arrows = {module: {n for n in neighbours(module) if n in inside} for module in inside}
    if room == "":
        arrows = {module: others - {""} for module, others in arrows.items()}  # see faults()
    TopologicalSorter(arrows).prepare()


def test_knows_arrows_that_lead_back() -> None:
    with pytest.raises(CycleError):
        TopologicalSorter({"_limits.line": {"_limits.rings"}, "_limits.rings": {"_limits.line"}}).prepare()


@pytest.mark.parametrize(
    "module", [*[m for m in MODULES if room_of(m) == PURE], "_base.outcomes", "_base.checks"]
)
def test_pure_modules_do_not_know_trio(module: str) -> None:
    names = imported(MODULES[module].read_text(encoding="utf-8"), "trio_conman")
    assert "trio" not in {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("room", [room for room in ROOMS if room])
def test_every_room_says_what_it_is_for(room: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[room].read_text(encoding="utf-8")))


@pytest.mark.parametrize("module", MODULES)
def test_files_stay_small(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{MODULES[module].name} has {lines} lines: split it"


@pytest.mark.parametrize("module", MODULES)
def test_functions_stay_short(module: str) -> None:
    long = {
        node.name: lines
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := body_lines(node)) > MAX_FUNCTION
    }
    assert not long


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many lines a function has, without what it takes and its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize(
    "statement, names",
    [
        ("import trio", {"trio"}),
        ("from trio.lowlevel import Abort as A", {"trio.lowlevel.Abort"}),
        ("from . import _limits, RetryConfig", {"trio_conman._limits", "trio_conman.RetryConfig"}),
        ("from ._limits.line import Line", {"trio_conman._limits.line.Line"}),
        ("if TYPE_CHECKING:\n    from trio_conman._limits.line import *", {"trio_conman._limits.line.*"}),
        ("def f():\n    import trio_conman.testing as t", {"trio_conman.testing"}),
    ],
)
def test_finds_imports_of_every_form(statement: str, names: set[str]) -> None:
    assert set(imported(statement, "trio_conman")) == names


@pytest.mark.parametrize(
    "module, neighbour, fault",
    [
        ("_manager.conman", "_limits.line", None),
        ("_manager.conman", "_manager.doors", None),
        ("__main__", "", None),
        ("__main__", "http", None),
        ("progress", "_leaves.drawing", None),
        ("_leaves.drawing", "_base.log", None),
        ("", "_manager.conman", None),
        ("_limits.line", "_manager.conman", "is not below it"),
        ("_manager.conman", "", "is the door, not for those inside"),
        ("_manager.conman", "testing", "is a leaf, which only users import"),
        ("", "testing", "is a leaf, which only users import"),
        ("progress", "telemetry", "is a leaf, which only users import"),
        ("", "_leaves.pen", "is part of a leaf, which only leaves may import"),
        ("_engine.stream", "_leaves.pen", "is part of a leaf, which only leaves may import"),
        ("_policy.retry", "_base.errors", "imports trio"),
        ("_policy.retry", "_new.thing", "is in no room"),
    ],
)
def test_knows_a_wrong_arrow(module: str, neighbour: str, fault: str | None) -> None:
    assert faults(module, neighbour) == fault


def test_the_picture_of_the_house_is_right() -> None:
    from .house import PAGE, picture

    assert picture() in PAGE.read_text(encoding="utf-8"), "draw it anew: python -m tests.house --write"
