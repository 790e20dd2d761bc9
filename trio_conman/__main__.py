"""The demo, ``python -m trio_conman``: fetches many URLs at once, with a limit, a rate, retries, deadlines.

What the library does for it is all in the first functions: `fetch` gets a page and says which of its errors
are worth a retry, and `crawl` runs it under a manager.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.util import find_spec
from typing import TYPE_CHECKING

import trio

from trio_conman import ConMan, RateLimiter, RetriableError, RetryBudget, RetryConfig
from trio_conman.http import raise_for_status
from trio_conman.signals import shutdown_on_signal

from ._base import starting
from ._leaves.demo_errors import is_hopeless, retrying
from ._leaves.demo_input import complain, read_urls
from ._leaves.demo_options import Options, Parser, make_parser
from ._leaves.demo_report import MOST, Care, Update, lines, list_failures, live_bar, summarize

if TYPE_CHECKING:
    import httpx

    from trio_conman.journal import Section

PAGE = 2_000  # bytes that a page is taken for, until it is there


async def fetch(client: httpx.AsyncClient, url: str, care: Care, retries: int) -> int:
    """Fetch a page, and ask for a retry where an error may pass; return the page's size in bytes."""
    import httpx

    size = 0
    try:
        async with client.stream("GET", url) as response:
            # Its Retry-After makes all requests wait when there is a rate limiter, and only this one without.
            raise_for_status(response)
            async for chunk in response.aiter_raw():
                size += len(chunk)
    except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError) as exc:
        if is_hopeless(exc):
            raise
        raise RetriableError(exc, retry_config=retrying(exc, retries)) from exc
    if care.bytes is not None:
        care.bytes.charge(size - PAGE)  # what fails has cost a page
    return size


async def crawl(
    client: httpx.AsyncClient,
    urls: Sequence[str],
    options: Options,
    care: Care,
    journal: Section[int] | None,
    update: Update,
) -> ConMan[int]:
    """Fetch the URLs, as many as time and the user allow; return the manager, which has the outcomes."""
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(
            nursery,
            limit=options.limit,
            retry=RetryConfig.exponential(max_attempts=options.retries),
            rate=[limiter for limiter in (care.rate, care.bytes) if limiter is not None] or None,
            retry_budget=care.budget,
            journal=journal,
            attempt_timeout=options.attempt_timeout,
            timeout=options.timeout,
        ) as cm:
            nursery.start_soon(watch, cm, care, update)
            # What is left to give is the URL: that is its key in the journal.
            task = partial(fetch, client, care=care, retries=options.retries)
            async with shutdown_on_signal(cm, grace=0) as care.came:
                for url in urls:
                    # Waits while as many as the limit allows are running.
                    await cm.run(task, url, name=url)
        # Here all have ended: by themselves, by the timeout, or by Ctrl-C. None of that raises an error.
        nursery.cancel_scope.cancel()  # ends what watches
    update(cm)
    return cm


async def watch(cm: ConMan[int], care: Care, update: Update) -> None:
    """Show how things stand, again and again."""
    while True:
        care.look()
        update(cm)
        await trio.sleep(0.1)


async def run(options: Options, parser: Parser) -> int:
    """Do what the command line asks for; return the exit status."""
    urls = await read_urls(options, parser)
    if options.journal is not None and not urls:
        parser.error("--journal is for URLs of your own")
    client = make_client(parser, trust_env=bool(urls))  # no proxy is asked for what is on this machine
    if options.journal is None:
        return await run_all(urls, options, client, None)
    from trio_conman.journal import JournalError, open_journal

    try:
        opening = open_journal(options.journal)
    except ValueError as error:
        parser.error(f"argument --journal: {error}")
    try:
        async with opening as journal:
            # Of its own: what other programs have of a URL is something else.
            return await run_all(urls, options, client, journal.section("sizes"))
    except JournalError as error:
        complain(f"{parser.prog}: {error}")
        return 1


def make_client(parser: Parser, *, trust_env: bool) -> httpx.AsyncClient:
    """What fetches the URLs."""
    import httpx

    try:
        return httpx.AsyncClient(
            timeout=None,  # that, and the limits, are the manager's business
            limits=httpx.Limits(max_connections=None),  # no request waits for one
            # Each page by itself: a broken cookie of one would break all that come after it.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=True,
            trust_env=trust_env,
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        parser.exit(1, f"{parser.prog}: the environment asks for a proxy that cannot be used: {error}\n")


async def run_all(
    urls: list[str], options: Options, client: httpx.AsyncClient, journal: Section[int] | None
) -> int:
    """Fetch the URLs, or where there are none run the demo; return the exit status."""
    from trio_conman._leaves import demo_server

    start = trio.current_time()
    demo, tokens = not urls, 100
    if demo:
        options.attempt_timeout = min(options.attempt_timeout, 1.2)  # its pages are quick, or hang
        options.rate, tokens = min(options.rate, demo_server.RATE), demo_server.TOKENS
    care = Care(None if options.rate == math.inf else RateLimiter(options.rate), RetryBudget(tokens))
    quota = demo_server.Quota()
    if demo:
        care.bytes = RateLimiter(demo_server.BYTES, burst=2 * PAGE, cost=PAGE)
    # None stands for a closed one; a dumb one cannot move its cursor.
    on_terminal = sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    async with trio.open_nursery() as nursery:
        if demo:
            server = await nursery.start(demo_server.serve, quota)
            urls = [server + page for page in demo_server.PAGES]
        rate = f", {options.rate:g} requests/s" if care.rate else ""
        rate += f", {demo_server.BYTES:,.0f} bytes/s" if demo else ""
        print(f"URLs: {len(urls)}; {options.limit} at a time, at most {options.retries} retries each{rate}\n")
        with (live_bar if on_terminal else lines)(len(urls), care) as update:
            async with client:
                cm = await crawl(client, urls, options, care, journal, update)
        nursery.cancel_scope.cancel()  # ends the server
    if on_terminal:
        list_failures(cm, None if options.all else MOST)
    summarize(cm, urls, care, trio.current_time() - start)
    if demo:
        print(f"metered      {quota}")
    if care.came:
        return 128 + care.came[0]
    if demo and not cm.timed_out and demo_server.had_time(cm.outcomes()):
        wrong = demo_server.unexpected(cm.outcomes(), urls, options.retries)
        verdict = "Not as it should be:" if wrong else "All as it should be; some are made to fail."
        print(f"\n{verdict}", *wrong, sep="\n")
        return 1 if wrong else 0
    return 0 if len(cm.outputs()) == len(urls) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    status = 1
    try:
        starting.release()
        options = parser.parse_intermixed_args(argv, Options())
        if absent := [module for module in ("httpx", "h11", "rich") if find_spec(module) is None]:
            parser.exit(2, f"{parser.prog} needs {', '.join(absent)}: pip install 'trio-conman[demo]'\n")
        status = trio.run(run, options, parser)
        print(end="", flush=True)
    except* KeyboardInterrupt:
        complain("Interrupted.")
        status = 130
    except* BrokenPipeError:
        status = 1  # whoever read our output has enough of it
        give_up_output()
    except* OSError as errors:  # a full disk, for example; what a request raises stays with its outcome
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        complain(f"{parser.prog}: {error}")
        status = 1
        give_up_output()
    return status


def give_up_output() -> None:
    """Let what is left in the buffer go nowhere: Python would try to write it once more at the exit."""
    with contextlib.suppress(AttributeError, OSError):  # there is none, or it has no descriptor
        stdout = sys.stdout.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:  # all is said, and one more Ctrl-C shall not become the status
        signal.signal(signal.SIGINT, signal.SIG_IGN)
