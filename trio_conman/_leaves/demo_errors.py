"""What went wrong with a request of the demo: at the root, and whether it can get better."""

from __future__ import annotations

import os
import socket
import ssl

import trio

from trio_conman import Failure, RetryConfig, StopReason, TaskCancelledError
from trio_conman._base.texts import printable

_WORDS = {
    StopReason.ERROR: "not retried",
    StopReason.DEADLINE: "no time left for an attempt",
    StopReason.MANAGER_TIMEOUT: "the time was up",
    StopReason.RETRY_AFTER: "asked to wait too long",
    StopReason.RETRY_BUDGET: "no retry, as too much failed",
}


def root_of(error: BaseException) -> BaseException:
    """What has led to an error, as far down as is known; of several errors the first.

    Contexts count even where they are suppressed: the pool of httpx raises every error ``from None``.
    """
    below: BaseException | None = error
    while below is not None:
        error = below
        first = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        below = first or error.__cause__ or error.__context__
    return error


def is_hopeless(error: Exception) -> bool:
    """Whether another attempt would meet the same again: a certificate that does not hold."""
    return isinstance(root_of(error), ssl.SSLCertVerificationError)


def retrying(error: Exception, retries: int) -> RetryConfig | None:
    """How to retry an error, if not as all others are: a name that does not exist is looked up once more."""
    root = root_of(error)
    unknown = isinstance(root, socket.gaierror) and root.errno == socket.EAI_NONAME
    return RetryConfig.exponential(max_attempts=min(1, retries)) if unknown else None


def why(failure: Failure) -> str:
    """Why a URL failed, in words."""
    import httpx

    error, root = failure.error, root_of(failure.error)
    if isinstance(error, httpx.HTTPStatusError):
        text = f"{error.response.status_code} {error.response.reason_phrase}"
    elif isinstance(error, (trio.TooSlowError, TaskCancelledError)):
        text = "not finished"
    elif isinstance(root, ssl.SSLCertVerificationError):
        text = f"{root.reason}: {root.verify_message}"
    elif isinstance(root, socket.gaierror):
        text = f"gaierror: {root.strerror}"
    elif isinstance(root, OSError) and root.errno:
        text = f"{type(root).__name__}: {os.strerror(root.errno)}"
    else:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
    # What a server says may be meant for the terminal.
    return f"{printable(text)} ({_WORDS.get(failure.reason, failure.reason.value)})"
