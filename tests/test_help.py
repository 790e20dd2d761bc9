"""What help() shows of the manager and the handle: first what a user may call, and no private constructor."""

from __future__ import annotations

import inspect
import pydoc
import re

import pytest

from trio_conman import ConMan, TaskHandle

NAME = re.compile(r"`(\w+)`")


def shown(cls: type) -> str:
    text = pydoc.render_doc(cls)
    return re.sub(".\x08", "", text)  # struck twice for bold letters


def public(cls: type) -> list[str]:
    return sorted(name for name in dir(cls) if not name.startswith("_"))


@pytest.mark.parametrize(
    "cls, head",
    [
        (
            ConMan,
            "A concurrency manager: runs tasks under a limit, retries them, and keeps what became of each.",
        ),
        (
            TaskHandle,
            "One task that was handed in: where it stands, how it ended, and ways to wait for it or ",
        ),
    ],
)
def test_it_begins_with_what_there_is_to_call(cls: type, head: str) -> None:
    title, _, text = shown(cls).partition("\n\n")
    assert title.endswith(f"class {cls.__name__} in module trio_conman")
    assert text.splitlines()[1].startswith(f" |  {head}")
    summary = text.partition(" |  Method resolution order")[0]
    assert sorted(NAME.findall(summary)) == public(cls)


@pytest.mark.parametrize("cls, maker", [(ConMan, "ConMan.open"), (TaskHandle, "a manager")])
def test_it_shows_no_private_constructor(cls: type, maker: str) -> None:
    text = shown(cls)
    assert f"{cls.__name__}(" not in text.replace(f"class {cls.__name__}(", "")
    constructors = re.findall(r"^ \|  __init__(\(.*?\)).*\n \|      (.*)$", text, re.MULTILINE)
    assert constructors == [("(self, /)", f"Private: {maker} makes it.")]
    assert inspect.signature(cls) == inspect.Signature()
