"""What the demo is given to fetch: on the command line, or on standard input."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from functools import partial

import trio

from .demo_options import Options, Parser

PATIENCE = 3.0  # seconds


async def read_urls(options: Options, parser: Parser) -> list[str]:
    """The URLs to fetch, checked, each once; none means the demo's own."""
    words = [word for word in options.urls if word != "-"]
    insists = len(words) < len(options.urls)
    if words and insists:
        parser.error("give URLs either as arguments, or on standard input ('-')")
    if words:
        given = [("", word.encode("utf-8", "surrogateescape")) for word in words]
    else:
        lines = (await read_stdin(insist=insists)).removeprefix(b"\xef\xbb\xbf").splitlines()
        given = [
            (f"line {number} of standard input: ", line.strip())
            for number, line in enumerate(lines, 1)
            if line.strip() and not line.lstrip().startswith(b"#")
        ]
        if not given and (lines or insists):
            parser.error("no URLs on standard input")
    urls: list[str] = []
    bad: list[str] = []
    for place, word in given:
        try:
            urls.append(checked(word))
        except ValueError as error:
            bad.append(f"{place}not a URL to fetch: {error}")
    if bad and not (options.skip_bad and urls):
        parser.error(bad[0])
    if bad:
        complain(f"skipped {len(bad):,} that cannot be fetched; the first: {bad[0]}")
    unique = list(dict.fromkeys(urls))
    if len(unique) < len(urls):
        complain(f"{len(urls) - len(unique):,} given more than once, and fetched once")
    return unique


def checked(word: bytes) -> str:
    """A URL as it is fetched; ValueError says what is wrong with it."""
    import httpx

    try:
        text = word.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{word!r} has a byte that is no UTF-8, the {error.start + 1}.") from None
    try:
        url = httpx.URL(text)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("it must start with http:// or https:// and a host")
        if url.port is not None and not 0 < url.port < 65536:
            raise ValueError(f"there is no port {url.port}")
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"{text!r}: {error}") from None
    return str(url)


async def read_stdin(*, insist: bool) -> bytes:
    """All of standard input. Unless asked to `insist`, a terminal has nothing, nor has a silent pipe."""
    if sys.stdin is None or (sys.stdin.isatty() and not insist):
        return b""
    data = b""
    patience = trio.CancelScope(relative_deadline=math.inf if insist else PATIENCE)
    with contextlib.suppress(OSError), patience:  # nohup gives a standard input that cannot be read
        # Read in a thread: it works for every kind of file, and is left behind when it is of no more use.
        read = partial(os.read, sys.stdin.fileno(), 65536)
        while chunk := await trio.to_thread.run_sync(read, abandon_on_cancel=True):
            data += chunk
            patience.deadline = math.inf  # somebody is there, so wait for the end
    if patience.cancelled_caught:
        complain(f"no URLs on standard input after {PATIENCE:g} s: running the demo")
    return data


def complain(text: str) -> None:
    """Say on standard error what is wrong, if it can be said."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)
