"""The page *What goes wrong* has every message of the library, as the source has it, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_conman
from tests.managed import manager
from tests.pages import DOCS
from trio_conman import ConMan

PACKAGE = Path(trio_conman.__file__).parent
PAGE = (DOCS / "what_goes_wrong.md").read_text(encoding="utf-8")

LEAST_WORDS = 4  # of a message; what has less is a name or a part

# Who speaks for itself: the programs, and the descriptions of metrics.
OTHERS = re.compile(r"__main__|_leaves\.demo_\w+|_leaves\.journal_program|telemetry")
# What these are called with is no message, or part of one of the kinds below.
CALLS = re.compile(r"_?check_\w+|cancel|execute|executemany|_sql")
KINDS = {
    "a parameter is wrong": r"\bmust (be|have|hold|return|start|not be)\b",
    "what it must be": r"^(an? [a-z ]*(number|int|mapping|Exception)|what 'async|'exponential'|str, bytes)",
    "what to call from another thread": r"^run(_sync)?\(",
    "a repr": r"^<.*>$",
    "a statement of SQL": r"^[A-Z]+ .*\b(FROM|INTO|TABLE|SET)\b",
    "a name, or a type": r"^[\w.-]+(\[.*\])?$",
}


def text_of(node: ast.AST) -> str | None:
    """What a string says, with … for the values in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[drs]", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return None if left is right is None else f"{left or '…'}{right or '…'}"
    return None


def messages_in(node: ast.AST) -> Iterator[str]:
    """The strings in a piece of source that are long enough, but for docstrings."""
    text = text_of(node)
    if text is not None:
        if len(re.findall("[A-Za-z]{2,}", text)) >= LEAST_WORDS:
            yield text
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Call) and CALLS.fullmatch(ast.unparse(node.func).rpartition(".")[2]):
        return
    for child in ast.iter_child_nodes(node):
        yield from messages_in(child)


def pattern(message: str) -> re.Pattern[str]:
    """What finds a message, whatever stands in the place of its values."""
    return re.compile(".*".join(map(re.escape, message.split("…"))))


SAID = {
    message: module
    for path in sorted(PACKAGE.rglob("*.py"))
    for module in [".".join(path.relative_to(PACKAGE).with_suffix("").parts)]
    if not OTHERS.fullmatch(module)
    for message in messages_in(ast.parse(path.read_text(encoding="utf-8")))
}
MESSAGES = [message for message in SAID if not any(re.search(kind, message) for kind in KINDS.values())]
# The code in the lines before those that begin with a colon.
SHOWN = [
    shown for term in re.findall(r"^(.+)\n: ", PAGE, re.MULTILINE) for shown in re.findall("`(.+?)`", term)
]


async def cancel(cm: ConMan[Any]) -> None:
    cm.cancel("enough")


async def shut_down(cm: ConMan[Any]) -> None:
    await cm.shutdown(grace=0)


async def interrupt(cm: ConMan[Any]) -> None:
    async def task() -> None:
        raise SystemExit

    await cm.run(task)


# Ways to cancel a task, and what its error says then: too little to be found in the source.
CANCELLED = "task … (index …) was cancelled: "
WAYS: dict[Callable[[ConMan[Any]], Awaitable[None]], str] = {
    cancel: "… was cancelled: …",
    shut_down: "… was shut down",
    interrupt: "it raised …",
}


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_on_the_page(message: str) -> None:
    assert any(pattern(message).search(shown) for shown in SHOWN), f"{SAID[message]} says: {message}"


@pytest.mark.parametrize("shown", SHOWN)
def test_what_the_page_shows_is_said(shown: str) -> None:
    by_ways = {CANCELLED + said for said in WAYS.values()}
    assert shown in by_ways or any(pattern(message).search(shown) for message in SAID)


def test_no_message_is_shown_twice() -> None:
    assert len(SHOWN) == len(set(SHOWN))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_way_to_cancel_a_task_is_on_the_page(way: Callable[[ConMan[Any]], Awaitable[None]]) -> None:
    with suppress(BaseExceptionGroup):
        async with manager() as cm:
            await cm.run(trio.sleep_forever)
            await way(cm)
    texts = [str(error) for error in cm.errors()]
    assert any(map(pattern(CANCELLED + WAYS[way]).fullmatch, texts))
    assert [text for text in texts if not any(pattern(each).fullmatch(text) for each in SHOWN)] == []
