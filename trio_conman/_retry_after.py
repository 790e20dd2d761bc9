"""The HTTP header Retry-After."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from ._checks import check_type
from ._texts import short

if TYPE_CHECKING:
    import datetime  # noqa: ICN001  # by its name, the docs find it

_TWO_DIGIT_YEAR = r"-\d\d\s"  # of the obsolete form: Sunday, 06-Nov-94 08:49:37 GMT


def parse_retry_after(header: str, now: datetime.datetime | None = None) -> float | None:
    """The seconds that a ``Retry-After`` header asks to wait, in either of its forms (RFC 9110, 10.2.3).

    Args:
        header: the header's value: seconds, or an HTTP date.
        now: the time to count from when it is a date; must have a time zone. Default: the present.

    Returns:
        seconds, at least 0; 0 for a date in the past; None for what is neither form.

    Raises:
        TypeError: `header` is no str, or `now` no datetime.
        ValueError: `now` has no time zone.
    """
    import datetime  # noqa: ICN001, PLC0415  # few need it, and what follows: a tenth of the import

    check_type("header", header, str, "a str")
    if now is not None:
        check_type("now", now, datetime.datetime, "a datetime or None")
        if now.utcoffset() is None:
            raise ValueError(f"now must have a time zone, not {short(now)}")
    header = header.strip(" \t")
    if re.fullmatch("[0-9]+", header):
        return min(float(header), sys.float_info.max)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    now = now or datetime.datetime.now(datetime.UTC)
    try:
        date = parsedate_to_datetime(header.replace(":60 ", ":59 "))  # HTTP allows for leap seconds
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        if re.search(_TWO_DIGIT_YEAR, header, re.ASCII):
            date = _nearest(date, now.astimezone(datetime.UTC))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0.0, (date - now).total_seconds())


def _nearest(date: datetime.datetime, now: datetime.datetime) -> datetime.datetime:
    """A date whose century is not known: the last one that is not more than 50 years ahead."""
    latest = now.year + 50
    year = latest - (latest - date.year) % 100
    if year == latest and date.timetuple()[1:6] > now.timetuple()[1:6]:
        year -= 100
    return date.replace(year=year)
