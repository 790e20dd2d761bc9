"""Keys of a journal: the arguments of a task as a text that says their types, and can be read again.

It is the inside of a JSON array: 1, 1.0, true and "1" are four keys. Bytes, which JSON does not have, are an
object of their base64. The text is the same on every Python, unlike a ``repr``.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Any

from trio_conman._base.texts import short

_PLAIN = "str, bytes, int, float, bool, None, or tuples of them"

_decode = json.JSONDecoder().decode


def _of_bytes(value: bytes) -> str:
    return f'{{"base64":"{b2a_base64(value, newline=False).decode()}"}}'


def _of_tuple(value: tuple[Any, ...]) -> str:
    return f"[{','.join([_TEXTS[type(each)](each) for each in value])}]"


# By the type itself: what is derived from it may have other values under the same text.
_TEXTS: dict[type, Callable[[Any], str]] = {
    str: json.encoder.encode_basestring,
    int: repr,
    float: json.dumps,
    bool: {False: "false", True: "true"}.__getitem__,
    NoneType: {None: "null"}.__getitem__,
    bytes: _of_bytes,
    tuple: _of_tuple,
}


def key_text(values: tuple[Any, ...]) -> str:
    """The key that plain values make.

    Raises:
        TypeError: one of them is not plain.
        ValueError: there is none, or one that no text can hold.
    """
    if not values:
        raise ValueError(
            "a task without arguments has no key of its own: hand in what tells it from others as an "
            "argument, or give its section, if there are no others, a key=, as in "
            "journal.section(name, key=lambda: 'all')"
        )
    try:
        text = ",".join([_TEXTS[type(each)](each) for each in values])
    except KeyError:
        odd = next(_odd_ones(values))
        raise TypeError(
            f"a key must be made of {_PLAIN}, not the {type(odd).__name__} {short(odd)}: give the section a "
            "key=, a function of the task's arguments, as in journal.section(name, key=lambda page: page.url)"
        ) from None
    if not text.isascii():
        text.encode()  # lone surrogates are in no file: UnicodeEncodeError is a ValueError
    return text


def _odd_ones(values: tuple[Any, ...]) -> Iterator[object]:
    """The values that are not plain."""
    for each in values:
        if type(each) is tuple:
            yield from _odd_ones(each)
        elif type(each) not in _TEXTS:
            yield each


def values_of(key: str) -> list[Any]:
    """What a key was made of, as JSON has it."""
    values: list[Any] = _decode(f"[{key}]")
    return values
