"""parse_retry_after: what a service means by its Retry-After header."""

import math
import time
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from trio_conman import RetriableError, parse_retry_after

# No deadline, because it looks at the wall clock; the same examples in each run.
reproducible = settings(deadline=None, derandomize=True, database=None, max_examples=300)

# A Sunday, 37 seconds before the date in the examples of RFC 9110.
NOW = datetime(1994, 11, 6, 8, 49, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "header, seconds",
    [("0", 0), ("1", 1), ("120", 120), ("007", 7), ("000", 0), ("86400", 86400), ("31536000", 31536000)],
)
def test_digits_are_seconds(header: str, seconds: float) -> None:
    parsed = parse_retry_after(header)
    assert (parsed, type(parsed)) == (seconds, float)


@pytest.mark.parametrize(
    "header",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",  # IMF-fixdate
        "Sunday, 06-Nov-94 08:49:37 GMT",  # RFC 850
        "Sun Nov  6 08:49:37 1994",  # asctime
    ],
)
def test_the_three_forms_of_a_date_are_counted_from_now(header: str) -> None:
    assert parse_retry_after(header, NOW) == 37.0
    assert parse_retry_after(header, NOW - timedelta(days=1)) == 86437.0
    assert parse_retry_after(header, NOW + timedelta(seconds=36.5)) == 0.5


def test_a_date_in_the_past_means_now() -> None:
    header = "Sun, 06 Nov 1994 08:49:37 GMT"
    for late in (37, 37.5, 3600, 10**9):
        assert parse_retry_after(header, NOW + timedelta(seconds=late)) == 0.0
    # Counted from the present, which is later than that.
    assert parse_retry_after(header) == 0.0


def test_a_date_is_counted_from_the_present_when_nothing_else_is_said() -> None:
    seconds = parse_retry_after("Fri, 31 Dec 9999 23:59:59 GMT")
    assert seconds is not None
    assert 7000 * 365 * 86400 < seconds < 9999 * 366 * 86400


@pytest.mark.parametrize("offset", [-12, -5.5, 0, 1, 14])
def test_now_may_have_any_zone(offset: float) -> None:
    now = NOW.astimezone(timezone(timedelta(hours=offset)))
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now) == 37.0


@pytest.mark.parametrize(
    "zone, seconds",
    [
        ("GMT", 37),
        ("UTC", 37),
        ("+0000", 37),
        ("-0000", 37),
        ("-0100", 3637),
        ("EST", 5 * 3600 + 37),
        ("+0100", 0),
    ],
)
def test_a_date_in_another_zone_is_taken_for_what_it_says(zone: str, seconds: float) -> None:
    assert parse_retry_after(f"Sun, 06 Nov 1994 08:49:37 {zone}", NOW) == seconds


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of the process cannot be changed")
@pytest.mark.parametrize("header", ["Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 -0000"])
def test_a_date_without_a_zone_is_not_in_that_of_the_machine(
    header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "EST+5")
        time.tzset()
        assert parse_retry_after(header, NOW) == 37.0
    time.tzset()


@pytest.mark.parametrize(
    "now, header, seconds",
    [
        (datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), "Saturday, 01-Jan-00 00:00:00 GMT", 1),
        (datetime(2029, 12, 31, 23, 59, 59, tzinfo=UTC), "Tuesday, 01-Jan-30 00:00:00 GMT", 1),
        (datetime(2030, 1, 1, tzinfo=UTC), "Friday, 31-Dec-99 23:59:59 GMT", 0),
        # RFC 9110: the past one only when the other is more than 50 years in the future.
        (datetime(2069, 12, 31, 23, 59, 59, tzinfo=UTC), "Wednesday, 01-Jan-70 00:00:00 GMT", 1),
        (datetime(2026, 1, 1, tzinfo=UTC), "Friday, 01-Jan-77 00:00:00 GMT", 0),
        (datetime(2026, 1, 1, tzinfo=UTC), "Wednesday, 01-Jan-76 00:00:00 GMT", 18262 * 86400),
        (datetime(2001, 1, 1, tzinfo=UTC), "Sunday, 01-Jan-51 00:00:00 GMT", 18262 * 86400),
        (datetime(1994, 1, 1, tzinfo=UTC), "Friday, 01-Jan-60 00:00:00 GMT", 0),
        (datetime(2026, 7, 1, tzinfo=UTC), "Wednesday, 01-Jan-76 00:00:00 GMT", 18081 * 86400),
        (datetime(2026, 1, 1, tzinfo=UTC), "Wednesday, 01-Jan-76 00:00:01 GMT", 0),
        (datetime(2026, 1, 1, tzinfo=UTC), "Friday, 31-Dec-76 23:59:59 GMT", 0),
        (datetime(2026, 12, 31, 23, 59, 58, tzinfo=UTC), "Thursday, 31-Dec-26 23:59:59 GMT", 1),
        # Where it is 2027 already.
        (datetime(2027, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "Thursday, 31-Dec-76 23:30:00 GMT", 0),
    ],
)
def test_a_year_of_two_digits_is_that_of_the_nearest_century(
    now: datetime, header: str, seconds: float
) -> None:
    assert parse_retry_after(header, now) == seconds


@pytest.mark.parametrize(
    "header, seconds",
    [
        ("Sat, 31 Dec 2016 23:59:59 GMT", 2),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 3),
        ("Sun, 01 Jan 2017 00:00:00 GMT", 3),
        ("Saturday, 31-Dec-16 23:59:60 GMT", 3),
        ("Sat Dec 31 23:59:60 2016", 3),
        ("Sun, 01 Jan 2017 00:12:60 GMT", 13 * 60 + 3),
        ("Sun, 01 Jan 2017 12:60 GMT", 13 * 3600 + 3),  # a sixtieth minute
    ],
)
def test_a_sixtieth_second_is_one_more_than_the_one_before(header: str, seconds: float) -> None:
    assert parse_retry_after(header, datetime(2016, 12, 31, 23, 59, 57, tzinfo=UTC)) == seconds


def test_a_leap_second_at_the_end_of_time_is_still_one() -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert parse_retry_after("Fri, 31 Dec 9999 23:59:60 GMT", last) == 1


@pytest.mark.parametrize(
    "header, seconds",
    [("57.267", 57.267), ("7.5", 7.5), ("0.0", 0), ("00.50", 0.5), (f"1.{'9' * 5000}", 2)],
    ids=["57.267", "7.5", "0.0", "00.50", "long"],
)
def test_a_fraction_is_a_number(header: str, seconds: float) -> None:
    assert parse_retry_after(header) == seconds


FIXED, OLD, ASCTIME = (
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:50:37 GMT",
    "Sun Nov  6 08:51:37 1994",
)


@pytest.mark.parametrize(
    "header, seconds",
    [
        ("10, 10", 10),
        ("10,20", 20),
        ("20 ,\t10", 20),
        ("5, 7.5, 6", 7.5),
        ("120,", 120),
        (",120", 120),
        ("1,5", 5),
        (f"{FIXED}, {FIXED}", 37),
        (f"{FIXED}, {OLD}", 97),
        (f"{OLD},{FIXED}", 97),
        (f"{OLD}, {ASCTIME}, {FIXED}", 157),
        (f"{FIXED}, 36", 37),
        (f"{FIXED}, 38", 38),
        (f"38, {OLD}", 97),
        (f"98, {OLD}", 98),
        ("Sun, 06 Nov 1994 08:48:37 GMT, Sun, 06 Nov 1994 08:48:38 GMT", 0),
        # What says nothing costs nothing.
        ("soon, 10", 10),
        ("-1, 10, +20, 1e5, nan, 5 s", 10),
        (f"{FIXED}, Sun, 31 Feb 1994 08:49:37 GMT", 37),
        (f"later, {OLD}, 5", 97),
    ],
)
def test_of_several_values_the_longest_wait_counts(header: str, seconds: float) -> None:
    assert parse_retry_after(header, NOW) == seconds


@pytest.mark.parametrize(
    "header",
    [
        "Nov 06, 1994 08:49:37 GMT",
        "Sun, Nov 06, 1994 08:49:37 GMT",
        "Sun, 06, Nov 1994 08:49:37 GMT",
        "06 Nov 1994, 08:49:37 GMT",
        "06 Nov 1994, 08:49:37",
        "So, 06 Nov 1994 08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun,, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_a_date_with_its_commas_elsewhere_is_one_date(header: str) -> None:
    assert parse_retry_after(header, NOW) == 37


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["1", "1.", "1,", "a,", ",", ":60 ", "Sun, ", "06 Nov ", " ", "-06 "])
def test_a_header_as_long_as_any_is_read_in_time(piece: str) -> None:
    started = time.perf_counter()
    parse_retry_after(piece * (2**16 // len(piece)), NOW)
    assert time.perf_counter() - started < 1


@given(st.lists(st.integers(0, 10**6) | st.floats(0.001, 10**6).map(lambda x: round(x, 3)), min_size=1))
@reproducible
def test_any_list_of_numbers_gives_its_largest(numbers: list[float]) -> None:
    assert parse_retry_after(", ".join(map(str, numbers))) == max(numbers)


@pytest.mark.parametrize("header", ["120", "Sun, 06 Nov 1994 08:51:00 GMT"])
@pytest.mark.parametrize("before", ["", " ", "\t", "  \t "])
@pytest.mark.parametrize("after", ["", " ", "\t", " \t  "])
def test_spaces_and_tabs_around_it_do_not_matter(header: str, before: str, after: str) -> None:
    assert parse_retry_after(before + header + after, NOW) == 120.0


@pytest.mark.parametrize(
    "header",
    [
        "",
        "  ",
        "-1",
        "+1",
        "-0",
        "1e3",
        "1e5",
        "1.5.5",
        "5.",
        ".5",
        ".",
        "1_0.5",
        "٣.٣",
        "1. 5",
        "1_000",
        "0x10",
        "5 s",
        "5s",
        "1 2",
        "120;",
        '"120"',
        "inf",
        "nan",
        "None",
        "soon",
        "١٢٠",  # digits, but not those of HTTP
        "\uff11\uff12\uff10",  # wide ones
        "²",
        "Sun, 06 Nov ١٩٩٤ 08:49:37 GMT",
        "Sunday, 06-Nov-٩٤ 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37\u00a0GMT",  # a space, but not that of HTTP
        "120\n",
        "120\r\n",
        "\n120",
        "120\0",
        "1994-11-06T08:49:37Z",
        "Sun",
        "Nov 6",
        "6 Nov 1994",
        "Sun, 06 Nov 1994",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 1994 08:61:37 GMT",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +9999999",
        "GMT",
        ",",
        ", ,\t,",
        "-1, +5, soon",
        "1 2, 3s",
        ":::",
        "()",
    ],
)
def test_rubbish_means_nothing(header: str) -> None:
    assert parse_retry_after(header, NOW) is None


@pytest.mark.parametrize("digits", [17, 300, 301, 400, 5000])
@pytest.mark.parametrize("digit", ["9", "0"])
def test_however_many_digits_there_are_they_are_seconds_that_can_be_asked_for(
    digit: str, digits: int
) -> None:
    # Python itself reads no int of more than 4,300 digits, and no float beyond 1.8e308.
    seconds = parse_retry_after(digit * digits)
    assert seconds is not None
    assert math.isfinite(seconds)
    assert seconds == 0 if digit == "0" else seconds >= 1e16
    assert RetriableError("later", retry_after=seconds).retry_after == seconds


@pytest.mark.parametrize("header", [None, 120, 1.5, b"120", ["120"]])
def test_a_header_that_is_no_text_is_refused(header: Any) -> None:
    with pytest.raises(TypeError, match=r"^header must be a str, not "):
        parse_retry_after(header)


@pytest.mark.parametrize("now", [0, 1.5, "now", date(1994, 11, 6), timedelta(1)])
def test_a_now_that_is_no_datetime_is_refused(now: Any) -> None:
    with pytest.raises(TypeError, match=r"^now must be a datetime or None, not "):
        parse_retry_after("120", now)


@pytest.mark.parametrize("header", ["120", "Sun, 06 Nov 1994 08:49:37 GMT", "rubbish"])
def test_a_now_without_a_zone_is_refused_whatever_the_header(header: str) -> None:
    # Taken as UTC, or as the local time, it would be wrong for half of the callers.
    with pytest.raises(
        ValueError, match=r"^now must have a time zone, not datetime\.datetime\(1994, 11, 6, 0"
    ):
        parse_retry_after(header, datetime(1994, 11, 6))  # noqa: DTZ001  # that is the point


class Nowhere(tzinfo):
    """A zone that does not know its offset: with it a datetime is as good as without."""

    def utcoffset(self, _: datetime | None) -> None:
        return None

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> None:
        return None


def test_a_zone_without_an_offset_is_none() -> None:
    with pytest.raises(ValueError, match=r"^now must have a time zone, not "):
        parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", NOW.replace(tzinfo=Nowhere()))


# Texts that come near to dates, among any.
words = st.sampled_from(
    [*"0123456789,:-+/. \t\n()\"'\\", "Sun", "Nov", "06", "94", "1994", "08:49:37", "GMT", "UTC", "am", "٣"]
)
texts = st.text(max_size=40) | st.lists(words | st.integers().map(str), max_size=12).map(" ".join)


@given(texts | st.lists(words, max_size=20).map("".join))
@reproducible
def test_no_text_raises_or_gives_what_cannot_be_waited_for(header: str) -> None:
    seconds = parse_retry_after(header, NOW)
    if seconds is not None:
        assert type(seconds) is float
        assert 0 <= seconds < math.inf


@given(st.integers(0, 10**30))
@reproducible
def test_any_number_of_seconds_comes_back(seconds: int) -> None:
    assert parse_retry_after(str(seconds)) == float(seconds)


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(9999, 12, 30)),  # noqa: DTZ001  # hypothesis wants them so
    st.datetimes(timezones=st.just(UTC)),
)
@reproducible
def test_any_date_comes_back_as_the_seconds_until_then(when: datetime, now: datetime) -> None:
    when = when.replace(microsecond=0, tzinfo=UTC)
    header = format_datetime(when, usegmt=True)
    assert parse_retry_after(header, now) == max(0.0, (when - now).total_seconds())
