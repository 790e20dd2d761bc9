"""trio_conman.http: what servers say of when to come back.

The headers are those that the servers of `nox -s limiters` and others have sent, word for word.
"""

from __future__ import annotations

import http
import math
from datetime import datetime, timedelta
from email.message import Message
from typing import Any

import httpx
import pytest

from tests.dated import DATE, EPOCH, LATER, NOW
from trio_conman.http import retry_after

# What a refused request got, with what was understood of it.
OBSERVED: list[tuple[str, Any, float | None]] = [
    (
        "express-rate-limit 8.7.5",
        {
            "X-RateLimit-Limit": "10",
            "X-RateLimit-Remaining": "0",
            "Date": DATE,
            "X-RateLimit-Reset": "1795858697",
            "Retry-After": "2",
        },
        2,
    ),
    ("its default, read by a browser", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1795858697"}, 3),
    (
        "express-rate-limit 8.7.5, draft-6",
        {
            "RateLimit-Policy": "10;w=2",
            "RateLimit-Limit": "10",
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": "2",
            "Retry-After": "2",
            "Date": DATE,
        },
        2,
    ),
    (
        "express-rate-limit 8.7.5, draft-7",
        {
            "RateLimit-Policy": "10;w=2",
            "RateLimit": "limit=10, remaining=0, reset=2",
            "Retry-After": "2",
            "Date": DATE,
        },
        2,
    ),
    ("the same header alone", {"RateLimit": "limit=5, remaining=0, reset=57"}, 57),
    (
        "express-rate-limit 8.7.5, draft-8",
        {
            "RateLimit": '"10-in-2sec"; r=0; t=2',
            "RateLimit-Policy": '"10-in-2sec"; q=10; w=2; pk=:MTJjYTE3YjQ5YWYy:',
            "Retry-After": "2",
            "Date": DATE,
        },
        2,
    ),
    ("the same header, alone", {"RateLimit": '"5-in-1min"; r=0; t=57'}, 57),
    (
        "@fastify/rate-limit 11.2.0",
        {
            "x-ratelimit-limit": "10",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": "2",
            "retry-after": "2",
            "Date": DATE,
        },
        2,
    ),
    (
        "koa-ratelimit 6.0.0",
        {
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": "1795858696.838185",
            "X-RateLimit-Limit": "10",
            "Retry-After": "2",
            "Date": DATE,
        },
        2,
    ),
    (
        "koa-ratelimit 6.0.0, after as long as it said",
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1795858694.838185", "Retry-After": "0"},
        0,
    ),
    (
        "hono-rate-limiter 0.5.4",
        {
            "ratelimit-limit": "10",
            "ratelimit-policy": "10;w=2",
            "ratelimit-remaining": "0",
            "ratelimit-reset": "2",
            "retry-after": "2",
        },
        2,
    ),
    (
        "hono-rate-limiter 0.5.4, draft-7",
        {"ratelimit": "limit=10, remaining=0, reset=2", "ratelimit-policy": "10;w=2", "retry-after": "2"},
        2,
    ),
    ("@nestjs/throttler 6.7.1", {"Retry-After": "60", "Date": DATE}, 60),
    ("@nestjs/throttler 6.7.1, named", {"Retry-After-long": "60", "Date": DATE}, 60),
    ("rate-limiter-flexible 11.4.0, as its documentation sets it", {"Retry-After": "57.267"}, 57.267),
    (
        "Flask-Limiter 4.1.1",
        {
            "Date": DATE,
            "Retry-After": "2",
            "X-Ratelimit-Limit": "10",
            "X-Ratelimit-Remaining": "0",
            "X-Ratelimit-Reset": "1795858697",
        },
        2,
    ),
    (
        "Flask-Limiter 4.1.1, http-date",
        {
            "Date": "Sat, 28 Nov 2026 09:39:03 GMT",
            "Retry-After": "Sat, 28 Nov 2026 09:39:06 GMT",
            "X-Ratelimit-Limit": "10",
            "X-Ratelimit-Remaining": "0",
            "X-Ratelimit-Reset": "1795858746",
        },
        3,
    ),
    (
        "slowapi 0.1.10",
        {
            "date": DATE,
            "x-ratelimit-limit": "10",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": "1795858696.6594777",
            "retry-after": "2",
        },
        2,
    ),
    ("Django REST framework 3.18.3", {"Date": DATE, "Retry-After": "57"}, 57),
    ("django-ratelimit 4.1.0", {}, None),
    (
        "quart-rate-limiter 0.12.1",
        [
            ("retry-after", "10"),
            ("retry-after", "10"),
            ("ratelimit-limit", "5"),
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", "59"),
            ("date", DATE),
        ],
        10,
    ),
    ("the same, joined", {"retry-after": "10, 10", "ratelimit-remaining": "0", "ratelimit-reset": "59"}, 10),
    (
        "Litestar 2.25.0",
        {
            "date": DATE,
            "ratelimit-policy": "5; w=60",
            "ratelimit-limit": "5",
            "ratelimit-remaining": "0",
            "ratelimit-reset": "58",
        },
        58,
    ),
    ("werkzeug 3.1.9, a float", {"Retry-After": "3.9"}, 3.9),
    ("werkzeug 3.1.9, a datetime", {"Date": DATE, "Retry-After": LATER}, 60),
    ("nginx 1.22, HAProxy 2.6, mod_evasive 1.10, mod_qos 11.63", {"Date": DATE, "Server": "any"}, None),
    ("Varnish 7.1 vsthrottle", {"Retry-After": "5"}, 5),
    ("Traefik 3.7.15", {"Retry-After": "1", "X-Retry-In": "94.733471ms", "Date": DATE}, 1),
]


@pytest.mark.parametrize(
    "headers, seconds",
    [(headers, seconds) for _, headers, seconds in OBSERVED],
    ids=[name for name, _, _ in OBSERVED],
)
def test_what_real_servers_say_is_understood(headers: Any, seconds: float | None) -> None:
    for status in (None, 429, 503):
        assert retry_after(headers, status=status, now=NOW) == seconds
    assert retry_after(headers, status=200, now=NOW) is None


# Precedence


@pytest.mark.parametrize(
    "headers, seconds",
    [
        # The largest of the first family, whatever else is said.
        ([("Retry-After", "3"), ("Retry-After", "10, 7"), ("retry-after", "5")], 10),
        ({"Retry-After": "10", "Retry-After-short": "1", "Retry-After-long": "60"}, 60),
        ({"Retry-After": "7", "retry-after-ms": "6500"}, 7),
        ({"Retry-After": "6", "retry-after-ms": "6500"}, 6.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "0"}, 0),
        ({"retry-after-ms": "soon, 20"}, 0.02),
        ({"x-ms-retry-after-ms": "1500.5, 20"}, 1.5005),
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"Retry-After": "10", "RateLimit": '"a";r=0;t=59', "X-RateLimit-Remaining": "0"}, 10),
        ({"Retry-After": "soon", "RateLimit": '"a";r=0;t=59'}, 59),
        # Entries with something left are not waited for.
        ({"RateLimit": '"burst";r=3;t=1, "day";r=0;t=50'}, 50),
        ({"RateLimit": '"burst";r=0;t=1, "day";r=70;t=50'}, 1),
        ({"RateLimit": '"burst";r=0;t=1, "day";r=0;t=50'}, 50),
        ([("RateLimit", '"burst";r=3;t=1'), ("RateLimit", '"day";r=0;t=50')], 50),
        ({"RateLimit": '"day";t=50;r=0'}, 50),
        ({"RateLimit": '"day";r=0'}, None),
        ({"RateLimit": '"day";limit=9;r=0;t=50'}, 50),
        ({"RateLimit": '"a, r=0;t=5";r=1;t=50'}, None),
        ({"RateLimit": r'"a \", r=0;t=5;\" \\";r=1;t=50'}, None),
        ({"RateLimit": r'"a\\";r=0;t=5'}, 5),
        ({"RateLimit": r'"a\";r=0;t=5'}, None),  # the name does not end
        ({"RateLimit": '"a;r=0;t=5\\'}, None),
        ({"RateLimit": '"a";r=0;t=-5'}, None),
        ({"RateLimit": '"a";r=0;t=0.5'}, 0.5),
        ({"RateLimit": "limit=5, remaining=1, reset=57"}, None),
        ({"RateLimit": "reset=57, limit=5, remaining=0"}, 57),
        ([("RateLimit", "limit=5, remaining=1, reset=9")] * 2, None),
        (
            [("RateLimit", f"limit=5, remaining={r}, reset={t}") for r, t in [(0, 7), (1, 99), (0, 5)]],
            7,
        ),
        (
            {"RateLimit": '"a";r=0;t=5', "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "59"},
            5,
        ),
        ({"RateLimit": '"a";r=1;t=5', "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "59"}, 59),
        # A reset counts where its own remaining is 0.
        ({"RateLimit-Remaining": "1", "RateLimit-Reset": "59"}, None),
        ({"X-RateLimit-Remaining": "-1", "X-RateLimit-Reset": "59"}, 59),
        ({"X-RateLimit-Remaining": "0.0", "X-RateLimit-Reset": "59"}, 59),
        # One without it counts where nothing else does.
        ({"RateLimit-Reset": "59"}, 59),
        ({"RateLimit-Reset": "59, 9"}, 59),
        ({"X-RateLimit-Remaining": "0", "RateLimit-Reset": "59"}, 59),
        ({"RateLimit-Remaining": "", "RateLimit-Reset": "59"}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2", "X-RateLimit-Reset-Day": "5000"}, 2),
        ({"X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "2", "X-RateLimit-Reset-Day": "5000"}, 5000),
        ({"Retry-After": "10", "RateLimit-Reset": "59"}, 10),
        ({"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": str(EPOCH + 9)}, 9),
        # Of several limits, as of a gateway and of what is behind it, each has its own.
        ({"X-RateLimit-Remaining": "0, 900", "X-RateLimit-Reset": "57, 3600"}, 57),
        ({"X-RateLimit-Remaining": "900, 0, 0", "X-RateLimit-Reset": "3600, 57, 58"}, 58),
        ({"X-RateLimit-Remaining": "900, 7", "X-RateLimit-Reset": "3600, 57"}, None),
        (
            [(f"x-ratelimit-{name}", value) for name in ("reset", "remaining") for value in ("0", "57")],
            0,
        ),
        # Where nobody can tell which is which, the longest wait of all.
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "57, 3600"}, 3600),
        ({"X-RateLimit-Remaining": "900, 0, 1", "X-RateLimit-Reset": "57, 3600"}, 3600),
        ({"X-RateLimit-Remaining": "900, 1", "X-RateLimit-Reset": "57"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "8.64s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            360,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "120ms",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            0.12,
        ),
        (
            {
                "acme-ratelimit-tokens-remaining": "0",
                "acme-ratelimit-tokens-reset": "2026-11-28T09:39:14Z",
                "acme-ratelimit-requests-remaining": "3",
                "acme-ratelimit-requests-reset": "2026-11-28T10:00:00Z",
            },
            60,
        ),
        ({"x-quota-remaining": "0", "x-quota-reset": "59"}, None),
        ({"RateLimit": "remaining=0, remaining=0, reset=57"}, 57),
        ({"RateLimit": "remaining=0, reset=57, reset=58"}, 57),
    ],
)
def test_the_first_family_that_says_something_counts_and_the_longest_wait_in_it(
    headers: Any, seconds: float | None
) -> None:
    assert retry_after(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    "reset, seconds",
    [
        ("0", 0),
        ("57", 57),
        ("57.5", 57.5),
        ("999999999", 999999999),  # some 31 years: no time that has been
        (str(EPOCH + 57), 57),
        (f"{EPOCH + 57}.25", 57.25),
        (str(EPOCH - 57), 0),
        ("1000000000", 0),
        (str(EPOCH * 1000 + 57250), 57.25),
        (str(EPOCH * 1000 - 57250), 0),
        ("1s", 1),
        ("6m0s", 360),
        ("1h0m0.5s", 3600.5),
        ("250ms", 0.25),
        ("500us", 0.0005),
        ("500µs", 0.0005),
        ("500000ns", 0.0005),
        ("2026-11-28T09:39:14Z", 60),
        ("2026-11-28t09:39:14.5z", 60.5),
        ("2026-11-28 09:39:14.123456789+00:00", 60.123456),
        ("2026-11-28T10:39:14+01:00", 60),
        ("2026-11-28T09:37:14Z", 0),
        ("10, 59", 59),
        # No form that is known.
        ("", None),
        ("-5", None),
        ("+5", None),
        ("5 s", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("5d", None),
        ("6m0", None),
        ("2026-11-28", None),
        ("2026-11-28T09:39:14", None),
        ("2026-13-28T09:39:14Z", None),
        ("2026-11-28T09:39:61Z", None),
        ("2026-11-28T09:39:14+99:99", None),
        ("\u0665\u0667", None),
        ("\uff15", None),
    ],
)
def test_a_reset_is_told_apart_by_its_size_and_form(reset: str, seconds: float | None) -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    assert retry_after(headers, now=NOW) == (None if seconds is None else pytest.approx(seconds, abs=1e-6))
    assert retry_after(headers | {"X-RateLimit-Remaining": "2"}, now=NOW) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "9" * 400},
        {"retry-after-ms": "9" * 400},
        {"RateLimit": f'"a";r=0;t={"9" * 400}'},
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9" * 400},
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9" * 400 + "h"},
    ],
)
def test_however_large_a_number_is_it_is_finite(headers: dict[str, str]) -> None:
    seconds = retry_after(headers)
    assert seconds is not None
    assert 1e300 < seconds < math.inf


# Clocks


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": LATER},
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(EPOCH + 60)},
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(EPOCH * 1000 + 60_000)},
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2026-11-28T09:39:14Z"},
    ],
)
def test_times_are_counted_on_the_clock_of_the_server(headers: dict[str, str]) -> None:
    assert retry_after(headers, now=NOW) == 60
    assert retry_after(headers, now=NOW + timedelta(seconds=20)) == 40
    for now in (None, NOW, NOW + timedelta(days=9), NOW - timedelta(days=9)):
        assert retry_after(headers | {"Date": DATE}, now=now) == 60
    assert retry_after(headers | {"Date": "Saturday, 28-Nov-26 09:38:14 GMT"}, now=NOW) == 60
    # One that cannot be read is none.
    for date in ("", "now", "Sat, 31 Feb 2026 09:38:14 GMT"):
        assert retry_after(headers | {"Date": date}, now=NOW) == 60


def test_without_any_other_clock_the_present_counts() -> None:
    assert retry_after({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}) == 0
    assert retry_after({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}) == pytest.approx(2.5e11, rel=0.1)


# Statuses


@pytest.mark.parametrize("status", [403, 413, 429, 503, http.HTTPStatus.TOO_MANY_REQUESTS])
def test_a_refusal_asks_to_wait(status: int) -> None:
    assert retry_after({"Retry-After": "5"}, status=status) == 5


@pytest.mark.parametrize("status, seconds", [(429, 58), (403, None), (413, None), (503, None), (200, None)])
def test_a_reset_alone_counts_where_requests_were_too_many(status: int, seconds: float | None) -> None:
    assert retry_after({"RateLimit-Reset": "58"}, status=status) == seconds


@pytest.mark.parametrize("status", [100, 200, 201, 301, 304, 400, 401, 404, 500, 502, 504, 0, 999])
def test_any_other_answer_does_not(status: int) -> None:
    assert retry_after({"Retry-After": "5"}, status=status) is None


# Containers


def message(*pairs: tuple[str, str]) -> Message:
    made = Message()
    for name, value in pairs:
        made[name] = value
    return made


@pytest.mark.parametrize(
    "headers",
    [
        {"rEtRy-aFtEr": "5, 10"},
        [("Retry-After", "10"), ("Retry-After", "5")],
        iter([("Retry-After", "10")]),
        ((name, "10") for name in ("Retry-After", "Other")),
        [(b"Retry-After", b"10"), (b"X-Latin", b"\xe9\xff")],
        {b"Retry-After": b"10"},
        [["Retry-After", "10"]],
        {"Retry-After": 10},  # what a test's double may have
        httpx.Headers([("Retry-After", "5"), ("Retry-After", "10")]),
        httpx.Headers([("Retry-After", "10")]).raw,
        message(("Retry-After", "5"), ("Retry-After", "10")),  # as http.client has them
    ],
)
def test_headers_come_in_many_containers(headers: Any) -> None:
    assert retry_after(headers) == 10.0


@pytest.mark.parametrize(
    "headers", [None, 5, "Retry-After: 5", ["Retry-After"], [("a", "b", "c")], [5], object()]
)
def test_what_holds_no_headers_is_refused(headers: Any) -> None:
    with pytest.raises(TypeError, match=r"^headers must be a mapping, or pairs of a name and a value, not "):
        retry_after(headers)


@pytest.mark.parametrize("status", ["429", 429.0, True, b"429"])
def test_a_status_that_is_no_int_is_refused(status: Any) -> None:
    with pytest.raises(TypeError, match=r"^status must be an int or None, not "):
        retry_after({}, status=status)


def test_a_now_that_is_no_time_to_count_from_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match=r"^now must be a datetime or None, not 5$"):
        retry_after({}, now=wrong)
    with pytest.raises(ValueError, match=r"^now must have a time zone, not "):
        retry_after({}, now=datetime(2026, 11, 28))  # noqa: DTZ001  # that is the point
