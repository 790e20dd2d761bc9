"""What the headers of an HTTP response say of when to come back.

There are four families. The first that says something is believed, and in it the longest wait:

1. ``Retry-After``, also with the name of a limit behind it, and its relatives in milliseconds;
2. the entries of ``RateLimit`` with nothing left, as the drafts of that header wrote it until the seventh
   (``limit=5, remaining=0, reset=57``) and write it since (``"a"; r=0; t=57``);
3. what has ``ratelimit`` and ``reset`` in its name, where its twin with ``remaining`` is 0; of as many values
   in both, those whose own is;
4. of too many requests, the same where there is no such twin.

The last two go last since a service with several limits may tell the reset of another than the one that is
exhausted. All that is no number, date or duration is passed over: a server may send anything.
"""

from __future__ import annotations

import datetime  # noqa: ICN001  # by its name, the docs find it
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from trio_conman._base.texts import short
from trio_conman._policy.retry_after import http_date, parse_retry_after

HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

_Fields: TypeAlias = dict[str, list[str]]  # the values of each header, by its name in small letters

_MILLISECONDS = {"retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after"}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_NOTHING_LEFT = r"0+(?:\.0+)?|-[0-9.]+"
_EPOCH_SECONDS, _EPOCH_MILLISECONDS = 1e9, 1e12  # the September of 2001, in both; below are seconds to wait
_RFC_3339 = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:]{8}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = rf"({_NUMBER})(h|ms|m|s|us|µs|ns)"  # as Go prints it: 6m0s


class Wait(NamedTuple):
    """How long to wait."""

    seconds: float
    # Whether that was told to the second. It may have been cut, so that there is up to a second to add.
    whole: bool


def stated_wait(headers: HeadersLike, now: datetime.datetime, *, too_many: bool) -> Wait | None:
    """How long the headers ask to wait; `now` is the time where they do not tell the server's own.

    `too_many` says whether the response was to one request too many, as a status of 429 does.
    """
    fields = _fields(headers)
    now = next((date for text in fields.get("date", ()) if (date := http_date(text, now))), now)
    families = [_retry_afters(fields, now), _entries(fields), _resets(fields, now)]
    if too_many:
        families.append(_resets(fields, now, untold="0"))
    for family in families:
        wait = max(family, default=None)
        if wait is not None:
            return wait
    return None


def _fields(headers: HeadersLike) -> _Fields:
    fields: _Fields = {}
    # Not every container of headers is registered as a mapping.
    items: Callable[[], Iterable[Any]] | None = getattr(headers, "items", None)
    try:
        pairs: Iterable[Any] = headers if items is None else items()
        for name, value in pairs:
            fields.setdefault(_text(name).lower(), []).append(_text(value))
    except (TypeError, ValueError):
        raise TypeError(
            f"headers must be a mapping, or pairs of a name and a value, not {short(headers)}"
        ) from None
    return fields


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _parts(texts: Iterable[str]) -> Iterator[str]:
    """The values of a header, of which several may stand in a line."""
    for text in texts:
        for part in text.split(","):
            yield part.strip(" \t")


def _number(text: str) -> float | None:
    return min(float(text), sys.float_info.max) if re.fullmatch(_NUMBER, text) else None


def _retry_afters(fields: _Fields, now: datetime.datetime) -> Iterator[Wait]:
    for name, texts in fields.items():
        if name in _MILLISECONDS:
            for part in _parts(texts):
                if (number := _number(part)) is not None:
                    yield Wait(number / 1000, False)
        elif name.startswith("retry-after-") or name == "retry-after":
            for text in texts:
                seconds = parse_retry_after(text, now)
                if seconds is not None:
                    yield Wait(seconds, seconds.is_integer() or "." not in text)


def _entries(fields: _Fields) -> Iterator[Wait]:
    # Names hold anything. One that does not end goes on to the end, or each quote in it would be tried.
    text = re.sub(r'"(?:[^"\\]|\\.?)*+"?', '""', ",".join(fields.get("ratelimit", ())))
    found = list(zip(_values("remaining", text), _values("reset", text), strict=False))
    for entry in text.split(","):
        found += zip(_values("r", entry), _values("t", entry), strict=False)
    for remaining, reset in found:
        seconds = _number(reset)
        if seconds is not None and not _is_left(remaining):
            yield Wait(seconds, seconds.is_integer())


def _values(key: str, text: str) -> list[str]:
    return re.findall(rf"(?<![^\s,;]){key}=([^\s,;]*)", text)


def _resets(fields: _Fields, now: datetime.datetime, untold: str = "") -> Iterator[Wait]:
    """Those of limits with nothing left; `untold` is what is left where that is not told."""
    for name, texts in fields.items():
        words = name.split("-")
        if "reset" in words and "ratelimit" in name.replace("-", ""):
            twin = "-".join("remaining" if word == "reset" else word for word in words)
            resets, left = list(_parts(texts)), list(_parts(fields.get(twin, ())))
            if len(left) != len(resets):  # else each limit tells both
                left = [min(left, key=_is_left, default=untold)] * len(resets)
            for text, remaining in zip(resets, left, strict=True):
                if not _is_left(remaining):
                    yield from _reset(text, now)


def _is_left(remaining: str) -> bool:
    return re.fullmatch(_NOTHING_LEFT, remaining) is None


def _reset(text: str, now: datetime.datetime) -> Iterator[Wait]:
    """How long until a time that is told in any of the forms in use."""
    number = _number(text)
    if number is not None and number < _EPOCH_SECONDS:
        yield Wait(number, number.is_integer())
    elif number is not None and number < _EPOCH_MILLISECONDS:
        yield Wait(max(0.0, number - now.timestamp()), "." not in text)
    elif number is not None:
        yield Wait(max(0.0, number / 1000 - now.timestamp()), False)
    elif re.fullmatch(rf"(?:{_DURATION})+", text):
        lengths = [float(count) * _UNITS[unit] for count, unit in re.findall(_DURATION, text)]
        seconds = min(sum(lengths, 0.0), sys.float_info.max)
        yield Wait(seconds, seconds.is_integer())
    elif re.fullmatch(_RFC_3339, text):
        yield from _until(text, now)


def _until(text: str, now: datetime.datetime) -> Iterator[Wait]:
    try:
        date = datetime.datetime.fromisoformat(text.upper())
        yield Wait(max(0.0, (date - now).total_seconds()), "." not in text)
    except (ValueError, OverflowError):
        return  # a thirteenth month
