"""What is refused of HTTP responses."""

import random

import httpx

from trio_conman.http import raise_for_status, retry_after


def headers(response: httpx.Response) -> None:
    retry_after("Retry-After: 5")  # error
    retry_after(response.headers, 429)  # error
    retry_after(response.headers, status="429")  # error
    retry_after(response.headers, now=0)  # error
    wait: float = retry_after(response.headers)  # error
    print(wait)


def responses(response: httpx.Response) -> None:
    raise_for_status(response, {429})  # error
    raise_for_status(response, statuses=429)  # error
    raise_for_status(response, statuses=["429"])  # error
    raise_for_status(response, rng=random)  # error
