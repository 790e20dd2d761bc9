"""Values of a journal as JSON, where that gives back what it was given; no pickle, which would run code."""

from __future__ import annotations

import json
from typing import Any

from trio_conman._base.texts import short

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# Not decode(), which first looks for spaces around it: there are none.
_decode = json.JSONDecoder().raw_decode


def encode_json(value: Any) -> str:
    """A value as JSON.

    Raises:
        TypeError: JSON has nothing for it, or would give back something else: a list for a tuple, a dict with
            keys that are texts.
        RecursionError: it contains itself, or is too deep.
        ValueError: a number in it cannot be written.
    """
    if type(value) is str:
        return json.encoder.encode_basestring(value)
    _check(value)
    return _encode(value)


def decode_json(text: str | bytes) -> Any:
    """The value again."""
    assert isinstance(text, str)
    value, end = _decode(text)
    if end != len(text):
        raise ValueError(f"there is more than one value in {short(text)}")
    return value


def _check(value: object) -> None:
    if isinstance(value, tuple):
        raise TypeError(f"JSON would give back a list for the tuple {short(value)}")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"JSON would give back a str for the key {short(key)} of a dict")
        for each in value.values():
            _check(each)
    elif isinstance(value, list):
        for each in value:
            _check(each)
