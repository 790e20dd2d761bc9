"""HTTP responses: when to come back, and what is worth a retry."""

import http
import random
from datetime import UTC, datetime
from http.client import HTTPResponse
from typing import Any, assert_type

import httpx

from trio_conman.http import HeadersLike, raise_for_status, retry_after


def headers(response: httpx.Response, other: HTTPResponse) -> None:
    assert_type(retry_after(response.headers), float | None)
    retry_after({"Retry-After": "5"}, status=429)
    retry_after([("Retry-After", "5")], status=http.HTTPStatus.TOO_MANY_REQUESTS, now=datetime.now(UTC))
    retry_after(response.headers.multi_items(), status=None, now=None)
    retry_after(other.getheaders())
    mine: HeadersLike = {"Retry-After": "5"}
    retry_after(mine)


def responses(response: httpx.Response) -> str:
    assert_type(raise_for_status(response), Any)
    raise_for_status(response, statuses={429, 503}, rng=random.Random(1))
    good: httpx.Response = raise_for_status(response, statuses=range(500, 600), rng=None)
    return good.text
