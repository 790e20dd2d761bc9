"""The demo, ``python -m trio_conman``: fetches many URLs at once, with a limit, a rate, retries, deadlines.

What the library does for it is all in the first functions: `fetch` gets a page and says which of its errors
are worth a retry, and `crawl` runs it under a manager.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Generator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeAlias

import attrs
import trio

from trio_conman import (
    ConMan,
    Failure,
    Outcome,
    RateLimiter,
    RetriableError,
    RetryBudget,
    RetryConfig,
    StopReason,
    Success,
    TaskCancelledError,
)
from trio_conman.http import raise_for_status

from ._leaves.demo_options import Options, Parser, make_parser

if TYPE_CHECKING:
    import httpx

    from trio_conman.journal import Journal

STDIN_PATIENCE = 3.0  # seconds
PAGE = 2_000  # bytes that a page is taken for, until it is there

Update: TypeAlias = Callable[[ConMan[int]], None]  # shows how things stand


@attrs.define
class Care:
    """What spares the servers, and for how long they have made all requests wait."""

    rate: RateLimiter | None
    budget: RetryBudget
    bytes: RateLimiter | None = None
    paused: float = 0.0  # seconds
    paused_until: float = -math.inf

    def look(self) -> None:
        """See whether there is a pause."""
        now = trio.current_time()
        end = now + self.rate.statistics().paused_for if self.rate is not None else now
        self.paused += max(0, end - max(now, self.paused_until))
        self.paused_until = max(end, self.paused_until)


async def fetch(client: httpx.AsyncClient, url: str, care: Care) -> int:
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
        raise RetriableError(exc) from exc
    if care.bytes is not None:
        care.bytes.charge(size - PAGE)  # what fails has cost a page
    return size


async def crawl(
    client: httpx.AsyncClient,
    urls: Sequence[str],
    options: Options,
    care: Care,
    journal: Journal | None,
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
            nursery.start_soon(cancel_on_ctrl_c, cm)
            # What is left to give is the URL: that is its key in the journal.
            task = partial(fetch, client, care=care)
            for url in urls:
                # Waits while as many as the limit allows are running.
                await cm.run(task, url, name=url)
        # Here all have ended: by themselves, by the timeout, or by Ctrl-C. None of that raises an error.
        nursery.cancel_scope.cancel()  # ends the two helpers
    update(cm)
    return cm


async def watch(cm: ConMan[int], care: Care, update: Update) -> None:
    """Show how things stand, again and again."""
    while True:
        care.look()
        update(cm)
        await trio.sleep(0.1)


async def cancel_on_ctrl_c(cm: ConMan[int]) -> None:
    """Let a first Ctrl-C cancel the manager, which keeps its outcomes; a second one interrupts as usual."""
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        await anext(signals)
    cm.cancel("interrupted")


@contextlib.contextmanager
def lines(*_: object) -> Generator[Update]:
    """Progress for a file or a pipe: a line for each URL as soon as it has ended."""
    print("        retries    time  URL", flush=True)
    shown = 0

    def update(cm: ConMan[int]) -> None:
        nonlocal shown
        for outcome in cm.outcomes()[shown:]:
            shown += 1
            match outcome:
                case Success(value=size):
                    how = "recalled" if outcome.recalled else "ok      "
                    print(f"{how}{columns(outcome)}: {size:,} bytes", flush=True)
                case failure:
                    print(f"failed  {columns(failure)}: {why(failure)}", flush=True)

    yield update


@contextlib.contextmanager
def live_bar(total: int, care: Care) -> Generator[Update]:
    """Progress for a terminal: a bar, with how things stand below, which is gone at the end."""
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    console = Console()
    start = trio.current_time()

    def update(cm: ConMan[int]) -> None:
        now, time = cm.statistics(), trio.current_time()
        done = now.succeeded + now.failed
        table = Table.grid(expand=True)
        table.width = console.width - 3  # leaves room for a ^C
        table.add_row(ProgressBar(total=total, completed=done))
        table.add_row(
            f"{done}/{total} done, {now.failed} failed, {now.retries} retries, {now.running} running, "
            f"{now.backing_off} backing off, "
            + f"{now.recalled} recalled, " * (now.recalled > 0)
            + f"{time - start:.0f} s"
            + ", paused" * (time < care.paused_until)
        )
        live.update(table, refresh=True)

    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield update


WORDS = {
    StopReason.ERROR: "not retried",
    StopReason.DEADLINE: "no time left for a retry",
    StopReason.MANAGER_TIMEOUT: "the time was up",
    StopReason.RETRY_AFTER: "asked to wait too long",
    StopReason.RETRY_BUDGET: "no retry, as too much failed",
}


def why(failure: Failure) -> str:
    """Why a URL failed, in words."""
    import httpx

    error = failure.error
    if isinstance(error, httpx.HTTPStatusError):
        text = f"{error.response.status_code} {error.response.reason_phrase}"
    elif isinstance(error, (trio.TooSlowError, TaskCancelledError)):
        text = "not finished"
    else:
        text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
    return f"{text} ({WORDS.get(failure.reason, failure.reason.value)})"


def columns(outcome: Outcome[int]) -> str:
    """What every outcome has to tell."""
    return f"{outcome.retries:7} {outcome.elapsed:6.2f}s  {outcome.name}"


def summarize(cm: ConMan[int], urls: Sequence[str], care: Care, duration: float) -> None:
    """Print what a person wants to know at the end."""
    outcomes = sorted(cm.outcomes(), key=lambda outcome: outcome.index)  # as they were submitted
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if failures:
        print("\nretries    time  failed")
        indent, width = " " * 17, max(40, shutil.get_terminal_size().columns)
        for failure in failures:
            print(columns(failure))
            print(textwrap.fill(why(failure), width, initial_indent=indent, subsequent_indent=indent))
    print("\nThe time was up:" if cm.timed_out else "\nInterrupted:" if interrupted(cm) else "")
    sizes = cm.outputs()
    print(f"succeeded    {len(sizes)} of {len(urls)}, {sum(sizes):,} bytes")
    if recalled := cm.statistics().recalled:
        print(f"recalled     {recalled} of these, from the journal")
    print(f"failed       {len(failures)}")
    if len(outcomes) < len(urls):
        print(f"not started  {len(urls) - len(outcomes)}, from {urls[len(outcomes)]} on")
    print(f"retries      {sum(outcome.retries for outcome in outcomes)}")
    if refused := care.budget.statistics().refused:
        print(f"refused      {refused} more retries, as too much failed")
    if care.paused:
        print(f"paused       {math.ceil(care.paused)} s for all, as the server asked")
    print(f"time         {duration:.1f} s")
    if outcomes:
        slowest = max(outcomes, key=lambda outcome: outcome.elapsed)
        print(f"slowest      {slowest.elapsed:.1f} s, {slowest.name}")


def interrupted(cm: ConMan[int]) -> bool:
    """Whether Ctrl-C ended the manager; nothing else cancels it but its timeout."""
    return cm.cancel_scope.cancel_called and not cm.timed_out


async def run(options: Options, parser: Parser) -> int:
    """Do what the command line asks for; return the exit status."""
    urls = await read_urls(options, parser)
    if options.journal is None:
        return await run_all(urls, options, None)
    if not urls:
        parser.error("--journal is for URLs of your own")
    from trio_conman.journal import JournalError, open_journal

    try:
        async with open_journal(options.journal) as journal:
            return await run_all(urls, options, journal)
    except JournalError as error:
        complain(f"{parser.prog}: {error}")
        return 1


async def run_all(urls: list[str], options: Options, journal: Journal | None) -> int:
    """Fetch the URLs, or where there are none run the demo; return the exit status."""
    import httpx

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
        client = httpx.AsyncClient(
            timeout=None,  # that, and the limits, are the manager's business
            limits=httpx.Limits(max_connections=None),
            follow_redirects=True,
            trust_env=not demo,  # no proxy is asked for what is on this machine
        )
        rate = f", {options.rate:g} requests/s" if care.rate else ""
        rate += f", {demo_server.BYTES:,.0f} bytes/s" if demo else ""
        print(f"URLs: {len(urls)}; {options.limit} at a time, at most {options.retries} retries each{rate}\n")
        with (live_bar if on_terminal else lines)(len(urls), care) as update:
            async with client:
                cm = await crawl(client, urls, options, care, journal, update)
        nursery.cancel_scope.cancel()  # ends the server
    summarize(cm, urls, care, trio.current_time() - start)
    if demo:
        print(f"metered      {quota}")
    if interrupted(cm):
        return 130
    if demo and not cm.timed_out:
        wrong = demo_server.unexpected(cm.outcomes(), urls, options.retries)
        verdict = "Not as it should be:" if wrong else "All as it should be; some are made to fail."
        print(f"\n{verdict}", *wrong, sep="\n")
        return 1 if wrong else 0
    return 0 if len(cm.outputs()) == len(urls) else 1


async def read_urls(options: Options, parser: Parser) -> list[str]:
    """The URLs to fetch, checked; none means the demo's own."""
    import httpx

    urls: list[str] = []
    words = [word for word in options.urls if word != "-"]
    if len(words) < len(options.urls) or not words:
        text = await read_stdin(insist="-" in options.urls)
        words += [word for line in text.splitlines() if (word := line.strip()) and not word.startswith("#")]
        if not words and (text or options.urls):
            parser.error("no URLs on standard input")
    for word in words:
        try:
            url = httpx.URL(word)
            if url.scheme not in ("http", "https") or not url.host:
                raise ValueError("it must start with http:// or https:// and a host")
        except (httpx.InvalidURL, ValueError) as exc:
            parser.error(f"not a URL to fetch: {word!r}: {exc}")
        urls.append(str(url))
    return urls


async def read_stdin(*, insist: bool) -> str:
    """All of standard input. Unless asked to `insist`, a terminal has nothing, nor has a silent pipe."""
    if sys.stdin is None or (sys.stdin.isatty() and not insist):
        return ""
    data = b""
    patience = trio.CancelScope(relative_deadline=math.inf if insist else STDIN_PATIENCE)
    with contextlib.suppress(OSError), patience:  # nohup gives a standard input that cannot be read
        # Read in a thread: it works for every kind of file, and is left behind when it is of no more use.
        read = partial(os.read, sys.stdin.fileno(), 65536)
        while chunk := await trio.to_thread.run_sync(read, abandon_on_cancel=True):
            data += chunk
            patience.deadline = math.inf  # somebody is there, so wait for the end
    if patience.cancelled_caught:
        complain(f"no URLs on standard input after {STDIN_PATIENCE:g} s: running the demo")
    return data.decode("utf-8-sig", "replace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    status = 1
    try:
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


def complain(text: str) -> None:
    """Say on standard error what is wrong, if it can be said."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)


def give_up_output() -> None:
    """Let what is left in the buffer go nowhere: Python would try to write it once more at the exit."""
    with contextlib.suppress(AttributeError, OSError):  # there is none, or it has no descriptor
        stdout = sys.stdout.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)


if __name__ == "__main__":
    sys.exit(main())
