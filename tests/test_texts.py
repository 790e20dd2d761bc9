"""Whatever users hand in can be named in a message: shortly, on one line, and without trusting it."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import pytest
import trio

from trio_conman import ConMan, RetryConfig, Success
from trio_conman._base.texts import beginning, one_line, short, text_of


class Hostile:
    """Raises from every method that a message might call."""

    def __repr__(self) -> str:
        raise ValueError("no repr")

    __str__ = __repr__

    def __bool__(self) -> bool:
        raise ValueError("no truth")

    def __eq__(self, other: object) -> bool:
        raise ValueError("no equality")

    __hash__ = None  # type: ignore[assignment]  # nor a hash


class HostileList(list[Any]):
    def __len__(self) -> int:
        raise ValueError("no length")


# What reprlib goes by; its newer releases look at the module too.
HostileList.__name__, HostileList.__module__ = "list", "builtins"


class HostileError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    "value, expected",
    [
        (3, "3"),
        ("a", "'a'"),
        (1.5, "1.5"),
        ((1, "b"), "(1, 'b')"),
        ({"k": [1, None]}, "{'k': [1, None]}"),
        ("line\nbreak", r"'line\nbreak'"),
        (range(7), "range(0, 7)"),
    ],
)
def test_what_is_short_is_shown_as_it_is(value: object, expected: str) -> None:
    assert short(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000,
        b"x" * 10_000,
        ["x" * 10_000] * 6,
        list(range(10_000)),
        10**4_000,
        [[[[["deep"] * 9] * 9] * 9] * 9],
    ],
    ids=["str", "bytes", "strings", "list", "int", "nested"],
)
def test_what_is_long_is_cut(value: object) -> None:
    assert "..." in short(value)
    assert len(short(value)) <= 201


@pytest.mark.parametrize("value", [Hostile(), [Hostile()], {"k": (Hostile(),)}, HostileList()], ids=type)
def test_what_raises_has_a_text_too(value: object) -> None:
    assert "Hostile" in short(value) or short(value) == "<list object>"


def test_an_int_that_python_refuses_to_write_has_a_text() -> None:
    # Newer releases of reprlib have a text of their own for it.
    assert re.fullmatch(r"<int (object|instance .*)>", short(10**10_000))


def test_texts_are_on_one_line() -> None:
    class Lines(OrderedDict[str, str]):
        def __repr__(self) -> str:
            return "a\nb"

    assert short(Lines()) == "a b"
    assert one_line("a\r\n  b\tc ") == "a b c"


class OddText(str):
    __slots__ = ()

    def split(self, *_: Any, **__: Any) -> Any:
        raise ValueError


class OddError(Exception):
    def __str__(self) -> str:
        return OddText("odd")


def test_the_text_of_an_error_is_never_missing() -> None:
    assert text_of(ValueError("no")) == "no"
    assert text_of(HostileError()) == "(its text could not be had)"
    assert type(text_of(OddError())) is str


def test_a_long_repr_loses_its_middle() -> None:
    assert len(short("x" * 999)) == len(short(b"x" * 999)) == 120


def test_the_beginning_of_a_text_is_cut_at_200_characters() -> None:
    assert beginning("a\nb") == "a b"
    assert beginning("x" * 200) == "x" * 200
    assert beginning("x" * 201) == "x" * 200 + "…"


def test_the_repr_of_a_success_shortens_the_value_and_leaves_the_arguments_out() -> None:
    outcome = Success("x" * 10_000, 3, "fetch", ("password",), 1, 0.5, 2.0)
    text = str(outcome)
    assert text.startswith("fetch (index 3): 'xxx") and text.endswith("xxx'; 1 retry, 2.000 s")
    assert len(text) < 200 and "password" not in text
    assert repr(outcome) == f"<Success {text}>"
    assert str(Success(None, 0, "a\nb", (), 0, 0.0, 0.0)) == "a b (index 0): None; 0 retries, 0.000 s"


async def test_a_failure_by_a_group_tells_the_first_error_in_it(nursery: Any) -> None:
    async def inner() -> None:
        raise OSError("no route")

    async def task() -> None:
        async with trio.open_nursery() as children:
            children.start_soon(inner)

    async with ConMan[None].open(nursery) as cm:
        await cm.run(task)
    (outcome,) = cm.outcomes()
    told = "ExceptionGroup: Exceptions from Trio nursery (1 sub-exception): OSError: no route; not retried; "
    assert told in str(outcome)


def test_a_parameter_that_cannot_be_shown_is_refused_all_the_same() -> None:
    with pytest.raises(TypeError, match=r"^max_attempts must be .*, not <Hostile instance at 0x[0-9a-f]+>$"):
        RetryConfig(max_attempts=Hostile())  # type: ignore[arg-type]  # what is refused


async def test_a_value_that_cannot_be_shown_harms_nobody(nursery: Any) -> None:
    async def task() -> Hostile:
        return Hostile()

    async with ConMan[Hostile].open(nursery) as cm:
        await cm.run(task)
    (outcome,) = cm.outcomes()
    assert "<Hostile instance at 0x" in repr(outcome)
