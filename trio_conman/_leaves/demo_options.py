"""The command line of the demo."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

N = TypeVar("N", int, float)


class Options(argparse.Namespace):
    """The command line."""

    urls: list[str]
    limit: int
    retries: int
    rate: float
    attempt_timeout: float
    timeout: float
    journal: str | None
    skip_bad: bool
    all: bool


class Parser(argparse.ArgumentParser):
    """An argument parser that says in one line what is wrong, and does not lose its help unheard."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print it; argparse's own takes no notice when that fails."""
        print(self.format_help(), end="", file=file)
        print(end="", flush=True)

    def error(self, message: str) -> NoReturn:
        """Say it, and exit."""
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")


def number(convert: Callable[[str], N], above: int, wanted: str) -> Callable[[str], N]:
    """The type of an argument that is a number above `above`."""

    def parse(text: str) -> N:
        with contextlib.suppress(ValueError):
            if (value := convert(text)) > above:  # which NaN is not
                return value
        raise argparse.ArgumentTypeError(f"must be {wanted}, not {text!r}")

    return parse


def make_parser() -> Parser:
    """The command line's parser, and its help."""
    parser = Parser(
        prog="python -m trio_conman",
        description="Fetch many URLs at once, with a limit, retries and deadlines. Without URLs, start a "
        "flaky server on this machine, fetch its 40 pages, and check that all ends as it should.",
        epilog="Retried are connection errors, attempts that take too long, the statuses 408, 425, 429, 500, "
        "502, 503 and 504, and 403 and 413 with a header that says when to come back, but no certificate "
        "that does not hold, and a name that does not exist only once; at most 100 times in all, and once "
        "more for every 10 URLs that were fetched. The exit status is 0 when all was fetched (in the demo, "
        "when all went as it should), otherwise 1, also when its output cannot be written; 2 for a wrong "
        "argument, 130 after Ctrl-C, and 143 after SIGTERM.",
    )
    parser.add_argument(
        "urls",
        nargs="*",
        metavar="URL",
        help="what to fetch. Without any, the lines of standard input are, unless that is a terminal or "
        "silent; '-' says to wait for them. Empty lines, and those that start with #, are skipped. What is "
        "given more than once is fetched once",
    )
    add = partial(parser.add_argument, metavar="N")
    at_least_2 = number(int, 1, "a whole number of at least 2")
    add("--limit", type=at_least_2, default=6, help="how many at a time, at least 2 (default: %(default)s)")
    add(
        "--max-attempts",
        dest="retries",
        type=number(int, -1, "a whole number of at least 0"),
        default=3,
        help="how many retries may follow the first attempt: a URL is tried up to 1 + N times, and only once "
        "with 0 (default: %(default)s)",
    )
    above_0 = number(float, 0, "a number above 0")
    add(
        "--rate", type=above_0, default=math.inf, help="how many a second (default: no limit; in the demo 12)"
    )
    seconds = partial(parser.add_argument, type=number(float, 0, "a number of seconds above 0"), metavar="S")
    seconds("--attempt-timeout", default=10.0, help="seconds for an attempt (default: 10; in the demo 1.2)")
    seconds("--timeout", default=math.inf, help="seconds for all (default: no limit)")
    parser.add_argument(
        "--journal",
        metavar="FILE",
        help="record the sizes of your URLs in this file, and fetch none whose size is in it: after an "
        "interruption the same command goes on",
    )
    switch = partial(parser.add_argument, action="store_true")
    switch("--skip-bad", help="leave out what cannot be fetched, instead of fetching nothing")
    switch("--all", help="on a terminal, list all that failed at the end, and not only the first 20")
    return parser
