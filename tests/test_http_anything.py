"""retry_after with headers of any kind: it never raises, and asks for nothing that cannot be waited."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.dated import DATE, NOW
from trio_conman import RetriableError
from trio_conman.http import retry_after

# The same examples in each run.
reproducible = settings(deadline=None, derandomize=True, database=None, max_examples=500)

NAMES = [
    *("Retry-After", "Retry-After-long", "retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after"),
    *("RateLimit", "RateLimit-Reset", "RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Remaining"),
    *(
        "x-ratelimit-reset-tokens",
        "x-ratelimit-remaining-tokens",
        "Date",
        "",
        "reset",
        "ratelimit-reset-reset",
    ),
]
PIECES = [
    *("0", "5", "-1", "1e3", "nan", "inf", "9" * 400, "9" * 5000, "1795858697", "1795858696.838185", "1e999"),
    *("6m0s", "9" * 400 + "h", "2026-11-28T09:39:14Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:60Z"),
    *(DATE, "Fri, 31 Dec 9999 23:59:60 GMT", "Mon, 01 Jan 0001 00:00:00 +2359", "٣", "\uff15", "\0", "\r\n"),
    *(
        '"a"',
        ";",
        "r=0",
        "t=5",
        "t=",
        "remaining=0",
        "reset=5",
        "=",
        ",",
        '"',
        "\\",
        " ",
        "\t",
        "é",
        "\ud800",
    ),
]
values = st.lists(st.sampled_from(PIECES), max_size=6).map("".join) | st.text(max_size=20)
pairs = st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=5), values), max_size=6)
raw_pairs = st.lists(st.tuples(st.sampled_from([name.encode() for name in NAMES]), st.binary(max_size=20)))


@pytest.mark.one_python
@given(pairs | raw_pairs, st.booleans())
@reproducible
def test_no_header_raises_or_asks_for_what_cannot_be_waited(headers: Any, bare: bool) -> None:
    seconds = retry_after(headers, now=None if bare else NOW)
    if seconds is not None:
        assert type(seconds) is float
        assert 0 <= seconds < math.inf
        assert RetriableError("later", retry_after=seconds).retry_after == seconds


@given(st.permutations(["Retry-After", "RateLimit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]))
@reproducible
def test_the_order_of_the_headers_does_not_matter(names: list[str]) -> None:
    said = {"RateLimit": '"a";r=0;t=5', "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "59"}
    assert retry_after([(name, said.get(name, "10")) for name in names]) == 10


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["1", "1.", "1,", '"', '\\"', "r=0;", "t=5,", "remaining=0,", "1h", "é"])
def test_headers_as_long_as_any_are_read_in_time(piece: str) -> None:
    import time

    started = time.perf_counter()
    for name in NAMES:
        retry_after({name: piece * (2**16 // len(piece)), "X-RateLimit-Remaining": "0"}, now=NOW)
    assert time.perf_counter() - started < 5
