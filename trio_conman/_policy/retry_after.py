"""The HTTP header Retry-After."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from trio_conman._base.checks import check_type
from trio_conman._base.texts import short

if TYPE_CHECKING:
    import datetime  # noqa: ICN001  # by its name, the docs find it

_SECONDS = r"[0-9]+(\.[0-9]+)?"  # some servers send fractions
_SIXTY = r"(:[0-9]{2})?:60 "  # a leap second, which HTTP allows for: one more than 59; or such a minute
_TWO_DIGIT_YEAR = r"-\d\d\s"  # of the obsolete form: Sunday, 06-Nov-94 08:49:37 GMT


def parse_retry_after(header: str, now: datetime.datetime | None = None) -> float | None:
    """The seconds that a ``Retry-After`` header asks to wait, in either of its forms (RFC 9110, 10.2.3).

    Of several values, as HTTP clients join repeated headers by commas, the longest wait counts.

    Args:
        header: the header's value: seconds, which may have a fraction, or an HTTP date.
        now: the time to count from when it is a date; must have a time zone. Default: the present.

    Returns:
        seconds, at least 0; 0 for a date in the past; None where no value has either form.

    Raises:
        TypeError: `header` is no str, or `now` no datetime.
        ValueError: `now` has no time zone.
    """
    check_type("header", header, str, "a str")
    now = check_now(now)
    parts = [part.strip(" \t") for part in header.split(",")]
    waits = [min(float(part), sys.float_info.max) for part in parts if re.fullmatch(_SECONDS, part)]
    if len(waits) < len(parts):
        # The comma of a date comes after the day of the week, which nobody needs.
        dates = [wait for part in parts if (wait := _until(part, now)) is not None]
        if not dates and (wait := _until(header, now)) is not None:
            return wait  # one date, with commas in other places
        waits += dates
    return max(waits, default=None)


def check_now(now: datetime.datetime | None) -> datetime.datetime:
    """Refuse what is no time to count from; None is the present."""
    import datetime  # noqa: ICN001, PLC0415  # few need it, and what follows: a tenth of the import

    if now is None:
        return datetime.datetime.now(datetime.UTC)
    check_type("now", now, datetime.datetime, "a datetime or None")
    if now.utcoffset() is None:
        raise ValueError(f"now must have a time zone, not {short(now)}")
    return now


def _until(text: str, now: datetime.datetime) -> float | None:
    """The seconds until a date, at least 0; None for what is no date."""
    date = http_date(text, now)
    if date is None:
        return None
    sixty = re.search(_SIXTY, text)
    carried = 0 if sixty is None else 1 if sixty[1] else 60
    return max(0.0, (date - now).total_seconds() + carried)


def http_date(text: str, now: datetime.datetime) -> datetime.datetime | None:
    """The time that a date of HTTP means, in any of its three forms; None for what is no date.

    A leap second is the one before it, which a datetime can hold.
    """
    import datetime  # noqa: ICN001, PLC0415  # as above
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  # as above

    if not text.isascii():
        return None  # the digits and spaces of all scripts would do
    try:
        date = parsedate_to_datetime(text.replace(":60 ", ":59 "))
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        if re.search(_TWO_DIGIT_YEAR, text):
            date = _nearest(date, now.astimezone(datetime.UTC))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date


def _nearest(date: datetime.datetime, now: datetime.datetime) -> datetime.datetime:
    """A date whose century is not known: the last one that is not more than 50 years ahead."""
    latest = now.year + 50
    year = latest - (latest - date.year) % 100
    if year == latest and date.timetuple()[1:6] > now.timetuple()[1:6]:
        year -= 100
    return date.replace(year=year)
