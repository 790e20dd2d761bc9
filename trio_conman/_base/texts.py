"""Texts of anything, for messages: short, on one line, whatever the object's own methods do."""

from __future__ import annotations

import reprlib

SEE = '(see "What goes wrong" in the docs)'  # of a message that takes more than a line to explain

_LONGEST = 200  # characters

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 120


def short(value: object) -> str:
    """The ``repr`` of an object, without its middle if it is long."""
    try:
        return beginning(_repr.repr(value))
    except Exception:  # reprlib trusts the methods of containers
        return f"<{type(value).__name__} object>"


def whole(value: object) -> str:
    """The ``repr`` of an object as it is; the same text for all of its type if it cannot be had."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__} object>"


def text_of(error: BaseException) -> str:
    """The text of an exception, whatever it may be."""
    try:
        return str.__str__(str(error))  # not one with methods of its own
    except Exception:
        return "(its text could not be had)"


def summary_of(error: BaseException) -> str:
    """The beginning of the text of an error; of a group also its first error, which tells what is wrong."""
    text, first = beginning(text_of(error)), error
    while isinstance(first, BaseExceptionGroup):
        first = BaseExceptionGroup.exceptions.__get__(first)[0]  # not what a subclass has in its place
    if first is error:
        return text
    return ": ".join(filter(None, [text, beginning(type(first).__qualname__), beginning(text_of(first))]))


def one_line(text: str) -> str:
    """A text without line breaks."""
    return " ".join(text.split())


def printable(text: str) -> str:
    """A text on one line, with nothing in it that moves a cursor."""
    return one_line("".join(char if char.isprintable() else " " for char in text))


def cut(text: str) -> str:
    """The first characters of a text, as many as are kept."""
    # The method of str, since the text of an error may be of a subclass with methods and fields of its own.
    return str.__getitem__(text, slice(_LONGEST))


def beginning(text: str, most: int = _LONGEST) -> str:
    """A text on one line, without its end if it has more than so many characters."""
    text = one_line(text)
    return text if len(text) <= most else text[:most] + "…"
