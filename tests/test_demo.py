"""The demo as people meet it: a program, with real sockets, pipes, signals and a terminal."""

import errno
import io
import itertools
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue

import httpx
import pytest
import trio
import trio.testing

from trio_conman import ConMan, Failure, RetryBudget, StopReason, __main__ as program
from trio_conman._leaves import demo_errors, demo_input, demo_report, demo_server
from trio_conman._leaves.demo_options import Options, make_parser
from trio_conman._leaves.demo_server import Meter

MODULE = [sys.executable, "-m", "trio_conman"]
WITHOUT_EXTRA = (
    "import sys, runpy; sys.modules[{!r}] = None; runpy.run_module('trio_conman', None, '__main__', True)"
)

NO_URL = "not a URL to fetch: {!r}: it must start with http:// or https:// and a host"

Page = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """No proxy, no colors, and lines of the usual width."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1")
        patch.delenv("FORCE_COLOR", raising=False)
        patch.setenv("COLUMNS", "80")
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The flaky server, in a thread of its own."""
    started: SimpleQueue[tuple[str, trio.CancelScope, trio.lowlevel.TrioToken]] = SimpleQueue()

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            address = await nursery.start(demo_server.serve)
            started.put((address, nursery.cancel_scope, trio.lowlevel.current_trio_token()))

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    address, scope, token = started.get(timeout=10)
    yield address
    trio.from_thread.run_sync(scope.cancel, trio_token=token)
    thread.join()


@pytest.fixture(scope="module")
def page(server: str) -> Page:
    """Makes addresses of pages that nobody has asked for yet."""
    numbers = itertools.count(1)

    def make(answers: str, *, latency: int = 0) -> str:
        return f"{server}/{next(numbers)}{latency}/{answers}"

    return make


def run(*args: str, stdin: str = "", code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the demo as a program of its own."""
    command = MODULE if code is None else [sys.executable, "-c", code]
    return subprocess.run(
        [*command, *args], input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def start(*args: str) -> "subprocess.Popen[str]":
    """Start the demo, to be talked to while it runs."""
    return subprocess.Popen(
        [*MODULE, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def row(status: str, retries: int, url: str, rest: str) -> str:
    """A pattern for the line of a URL that is done."""
    return rf"(?m)^{status} +{retries} +[0-9.]+s  {re.escape(url)}: {re.escape(rest)}$"


@pytest.fixture(scope="module", autouse=True)
def demo(environment: None) -> Iterator["subprocess.Popen[str]"]:
    """The demo with its own pages takes some seconds, in which other tests can run."""
    with start() as child:
        yield child


# The bundled server's pages


@pytest.mark.parametrize(
    "page, retries, reason",
    [
        ("/1/ok", 3, None),
        ("/1/503,ok", 1, None),
        ("/1/503,ok", 0, StopReason.RETRIES_EXHAUSTED),
        ("/1/long", 3, None),
        ("/1/503,drop,ok", 1, StopReason.RETRIES_EXHAUSTED),
        ("/1/cut", 3, StopReason.RETRIES_EXHAUSTED),
        ("/1/hang", 3, StopReason.ATTEMPT_TIMEOUT),
        ("/1/404", 3, StopReason.ERROR),
        ("/1/closed", 3, StopReason.RETRY_AFTER),
        ("/1/closed", 0, StopReason.RETRIES_EXHAUSTED),
    ],
)
def test_expected_end(page: str, retries: int, reason: StopReason | None) -> None:
    assert demo_server.expected(page, retries) is reason


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_demo_with_other_numbers_of_retries(
    retries: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as after <&-
    pages = ("/10/ok", "/20/503,cut,ok", "/30/404", "/40/hang", "/50/closed", "/60/drop", "/70/500,ok")
    monkeypatch.setattr(demo_server, "PAGES", pages)
    assert program.main(["--max-attempts", str(retries), "--attempt-timeout", "0.7", "--limit", "9"]) == 0
    assert "\nAll as it should be" in capsys.readouterr().out


def test_demo_that_goes_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def success(address: str, retries: int) -> StopReason | None:
        return None

    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(demo_server, "PAGES", ("/10/ok", "/20/404", "/30/503"))
    monkeypatch.setattr(demo_server, "expected", success)
    assert program.main(["--max-attempts", "1"]) == 1
    verdict = capsys.readouterr().out.partition("\nNot as it should be:\n")[2]
    assert re.fullmatch(r"http://127.0.0.1:\d+/20/404\nhttp://127.0.0.1:\d+/30/503\n", verdict)


def test_no_proxy_is_asked_for_the_pages_of_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))  # nobody listens there
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{bound.getsockname()[1]}")
        monkeypatch.setattr(sys, "stdin", None)
        monkeypatch.setattr(demo_server, "PAGES", ("/10/ok",))
        assert program.main(["--max-attempts", "0"]) == 0
    assert "\nsucceeded    1 of 1, 1,760 bytes\n" in capsys.readouterr().out


def test_demo_that_runs_out_of_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(demo_server, "PAGES", ("/10/hang",))
    assert program.main(["--timeout", "0.1"]) == 1
    out = capsys.readouterr().out
    assert "\nThe time was up:\nsucceeded    0 of 1, 0 bytes\n" in out
    assert "as it should be" not in out


def test_demo_whose_rate_leaves_no_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(demo_server, "PAGES", ("/10/ok", "/20/ok"))
    assert program.main(["--timeout", "9", "--rate", "0.1"]) == 1
    out = capsys.readouterr().out
    assert "/20/ok: not finished (no time left for an attempt)\n" in out
    assert "as it should be" not in out


# The user's own URLs


def test_all_fetched(page: Page) -> None:
    plain, flaky = page("ok"), page("503,drop,cut,ok")
    done = run("--limit", "2", plain, flaky)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(row("ok", 0, plain, "1,760 bytes"), done.stdout)
    assert re.search(row("ok", 3, flaky, "1,760 bytes"), done.stdout)
    assert "\n\nsucceeded    2 of 2, 3,520 bytes\nfailed       0\nretries      3\n" in done.stdout
    assert f" s, {flaky}\n" in done.stdout


def test_some_failed(page: Page) -> None:
    urls = page("ok"), page("404"), page("drop"), page("429")
    done = run(*urls, "--max-attempts", "1")
    assert (done.returncode, done.stderr) == (1, "")
    dropped = "RemoteProtocolError: Server disconnected without sending a response. (retries exhausted)"
    assert re.search(row("ok", 0, urls[0], "1,760 bytes"), done.stdout)
    assert re.search(row("failed", 0, urls[1], "404 Not Found (not retried)"), done.stdout)
    assert re.search(row("failed", 1, urls[2], dropped), done.stdout)
    assert re.search(row("failed", 1, urls[3], "429 Too Many Requests (retries exhausted)"), done.stdout)
    assert "\n\nsucceeded    1 of 4, 1,760 bytes\nfailed       3\nretries      2\n" in done.stdout


@pytest.fixture
def redirecting(page: Page) -> Iterator[str]:
    """The address of another server: all its pages lead to one that is there, and set a broken cookie."""
    target = page("ok")

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Set-Cookie", "a=\xff")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base class
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_redirects_are_followed_and_cookies_are_not_kept(redirecting: str) -> None:
    urls = [f"{redirecting}/{number}" for number in range(3)]
    done = run("--limit", "2", *urls)
    assert (done.returncode, done.stderr) == (0, "")
    for url in urls:
        assert re.search(row("ok", 0, url, "1,760 bytes"), done.stdout)


def test_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        assert program.main(["--max-attempts", "1", url]) == 1
    refused = f"ConnectionRefusedError: {os.strerror(errno.ECONNREFUSED)} (retries exhausted)"
    assert re.search(row("failed", 1, url, refused), capsys.readouterr().out)


def failure(error: Exception, reason: StopReason = StopReason.ERROR) -> Failure:
    return Failure(error, reason, (), index=0, name="", args=(), retries=0, waited=0.0, elapsed=0.0)


def certificate_error() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    error.reason = "CERTIFICATE_VERIFY_FAILED"
    error.verify_message = "self-signed certificate"
    return error


def status_error(status: int, phrase: bytes) -> httpx.HTTPStatusError:
    response = httpx.Response(status, extensions={"reason_phrase": phrase})
    return httpx.HTTPStatusError("no", request=httpx.Request("GET", "http://a.example"), response=response)


def raised_from(error: Exception, *causes: Exception) -> Exception:
    for above, below in itertools.pairwise([error, *causes]):
        above.__cause__ = below
    return error


@pytest.mark.parametrize(
    "error, text",
    [
        (
            raised_from(httpx.ConnectError("no"), trio.BrokenResourceError(), certificate_error()),
            "CERTIFICATE_VERIFY_FAILED: self-signed certificate (not retried)",
        ),
        (
            raised_from(
                httpx.ConnectError("no"),
                ExceptionGroup("", [OSError(errno.ECONNREFUSED, "refused"), OSError()]),
            ),
            f"ConnectionRefusedError: {os.strerror(errno.ECONNREFUSED)} (not retried)",
        ),
        (
            raised_from(httpx.ConnectError("no"), socket.gaierror(socket.EAI_NONAME, "Name not known")),
            "gaierror: Name not known (not retried)",
        ),
        (httpx.RemoteProtocolError("two\nlines"), "RemoteProtocolError: two lines (not retried)"),
        (httpx.ReadError(""), "ReadError (not retried)"),
        (status_error(404, b"No \x1b[31m\x07"), "404 No [31m (not retried)"),
        (status_error(599, b""), "599 (not retried)"),
    ],
)
def test_errors_are_told_by_their_roots(error: Exception, text: str) -> None:
    assert demo_errors.why(failure(error)) == text


def test_the_root_is_found_where_it_is_suppressed() -> None:
    error = raised_from(KeyError(), OSError(errno.ECONNREFUSED, "refused"))
    error.__context__, error.__cause__ = error.__cause__, None
    assert error.__suppress_context__
    assert type(demo_errors.root_of(error)) is ConnectionRefusedError


@pytest.mark.parametrize(
    "root, retries, calls",
    [
        (certificate_error(), 5, 1),
        (socket.gaierror(socket.EAI_NONAME, "Name not known"), 5, 2),
        (socket.gaierror(socket.EAI_NONAME, "Name not known"), 0, 1),
        (socket.gaierror(socket.EAI_AGAIN, "Name server busy"), 5, 6),
    ],
)
async def test_how_often_a_page_is_asked_for_in_vain(
    root: Exception, retries: int, calls: int, autojump_clock: trio.testing.MockClock
) -> None:
    made: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        made.append(str(request.url))
        raise httpx.ConnectError("no") from root

    options = make_parser().parse_args(["--max-attempts", str(retries)], Options())
    care = demo_report.Care(None, RetryBudget())
    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as client:
        cm = await program.crawl(client, ["http://127.0.0.1/"], options, care, None, lambda _: None)
    assert len(made) == calls
    assert len(cm.errors()) == 1


def test_statuses_that_may_pass(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    urls = [page(f"{status},ok") for status in (408, 425, 429, 500, 502, 503, 504)]
    assert program.main(urls) == 0
    assert "\nretries      7\n" in capsys.readouterr().out


def test_statuses_that_stay(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    statuses = [400, 403, 404, 410, 501]
    assert program.main([page(f"{status},ok") for status in statuses]) == 1
    out = capsys.readouterr().out
    said = re.findall(r"(?m)^failed .*: (\d+) .* \(not retried\)$", out)
    assert sorted(said) == [str(status) for status in statuses]
    assert "\nretries      0\n" in out


def test_no_retries(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--max-attempts", "0", page("503,ok"), page("drop,ok"), page("ok")]) == 1
    out = capsys.readouterr().out
    assert "\nsucceeded    1 of 3, 1,760 bytes\nfailed       2\nretries      0\n" in out
    assert "503 Service Unavailable (retries exhausted)\n" in out


def test_retry_after(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    soon, late = page("busy,ok"), page("closed,ok")
    assert program.main([soon, late]) == 1
    out = capsys.readouterr().out
    waited = re.search(rf"(?m)^ok +1 +([0-9.]+)s  {soon}: ", out)
    assert waited is not None
    assert float(waited[1]) >= 1
    assert re.search(row("failed", 0, late, "503 Service Unavailable (asked to wait too long)"), out)
    assert "\npaused" not in out  # it is for that page alone


def test_retry_after_with_a_rate(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    soon, later = page("busy,ok"), [page("ok") for _ in range(3)]
    assert program.main(["--rate", "8", "--limit", "2", soon, *later]) == 0
    out = capsys.readouterr().out
    assert out.startswith("URLs: 4; 2 at a time, at most 3 retries each, 8 requests/s\n")
    # What is told in whole seconds gets up to a second more.
    assert re.search(r"\nretries      1\npaused       [12] s for all, as the server asked\ntime  ", out)
    time = re.search(r"(?m)^time +([0-9.]+) s$", out)
    assert time is not None
    assert float(time[1]) >= 1.3  # the pause, and the permits of the others


def test_retry_budget(
    page: Page, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "RetryBudget", lambda tokens: RetryBudget(2))
    assert program.main([page("503"), page("drop")]) == 1
    out = capsys.readouterr().out
    assert "\nretries      2\nrefused      2 more retries, as too much failed\ntime  " in out
    assert out.count(" (no retry, as too much failed)\n") == 2  # each of them once


def test_attempt_timeout(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    url = page("hang,ok")
    assert program.main(["--attempt-timeout", "2", url]) == 0
    assert re.search(row("ok", 1, url, "1,760 bytes"), capsys.readouterr().out)


def test_a_quiet_time(
    page: Page, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_report, "QUIET", 0.5)
    assert program.main(["--timeout", "2.3", "--limit", "2", page("hang"), page("ok")]) == 1
    standing = re.findall(r"(?m)^\.\.\. +(.*), \d s$", capsys.readouterr().out)
    assert set(standing) == {"1/2 done, 0 failed, 0 retries, 1 running, 0 backing off"}
    assert 2 <= len(standing) <= 4


def test_timeout(page: Page) -> None:
    urls = page("ok"), page("hang"), page("hang"), page("ok"), page("ok")
    done = run("--limit", "2", "--timeout", "1.5", *urls)
    assert (done.returncode, done.stderr) == (1, "")
    for url in urls[1:3]:
        assert re.search(row("failed", 0, url, "not finished (the time was up)"), done.stdout)
    assert (
        "\n\nThe time was up:\nsucceeded    1 of 5, 1,760 bytes\nfailed       2\n"
        f"not started  2, from {urls[3]} on\nretries      0\n" in done.stdout
    )


def test_timeout_before_anything_runs(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    url = page("ok")
    assert program.main(["--timeout", "1e-9", url]) == 1
    assert re.search(
        r"\n\nThe time was up:\nsucceeded    0 of 1, 0 bytes\nfailed       0\n"
        rf"not started  1, from {url} on\nretries      0\ntime         \d\.\d s\n\Z",
        capsys.readouterr().out,
    )


def test_no_time_for_a_retry(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--timeout", "0.9", page("busy,ok")]) == 1
    out = capsys.readouterr().out
    assert "503 Service Unavailable (no time left for an attempt)\n" in out
    assert "The time was up" not in out


# What it is given


@pytest.mark.parametrize(
    "args, message",
    [
        (["--limit", "1"], "argument --limit: must be a whole number of at least 2, not '1'"),
        (["--limit", "2.5"], "argument --limit: must be a whole number of at least 2, not '2.5'"),
        (["--limit", "many"], "argument --limit: must be a whole number of at least 2, not 'many'"),
        (["--limit"], "argument --limit: expected one argument"),
        (["--max-attempts", "-1"], "argument --max-attempts: must be a whole number of at least 0, not '-1'"),
        (["--max-attempts", "x"], "argument --max-attempts: must be a whole number of at least 0, not 'x'"),
        (["--rate", "0"], "argument --rate: must be a number above 0, not '0'"),
        (["--timeout", "-1"], "argument --timeout: must be a number of seconds above 0, not '-1'"),
        (["--timeout", "0"], "argument --timeout: must be a number of seconds above 0, not '0'"),
        (["--timeout", "nan"], "argument --timeout: must be a number of seconds above 0, not 'nan'"),
        (["--timeout", "soon"], "argument --timeout: must be a number of seconds above 0, not 'soon'"),
        (
            ["--attempt-timeout=-inf"],
            "argument --attempt-timeout: must be a number of seconds above 0, not '-inf'",
        ),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (
            ["example.org"],
            "not a URL to fetch: 'example.org': it must start with http:// or https:// and a host",
        ),
        (["ftp://a/"], "not a URL to fetch: 'ftp://a/': it must start with http:// or https:// and a host"),
        (["http://"], "not a URL to fetch: 'http://': it must start with http:// or https:// and a host"),
        (["http://a/", ""], "not a URL to fetch: '': it must start with http:// or https:// and a host"),
        (["http://a:b/"], "not a URL to fetch: 'http://a:b/': Invalid port: 'b'"),
        (["http://a:0/"], "not a URL to fetch: 'http://a:0/': there is no port 0"),
        (["http://a:65536/"], "not a URL to fetch: 'http://a:65536/': there is no port 65536"),
    ],
)
def test_bad_arguments(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        program.main(args)
    assert exit_info.value.code == 2
    assert capsys.readouterr() == ("", f"python -m trio_conman: {message} (--help tells more)\n")


@pytest.mark.parametrize("url", ["http://a:1/", "https://a:65535/"])
def test_the_first_and_the_last_port(url: str) -> None:
    assert demo_input.checked(url.encode()) == url


@pytest.mark.parametrize("variable, value", [("HTTP_PROXY", "ftp://127.0.0.1"), ("NO_PROXY", "[::1")])
def test_a_proxy_that_cannot_be_used(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (variable, variable.lower()):
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as exit_info:
        program.main(["http://127.0.0.1:9/"])
    assert exit_info.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m trio_conman: the environment asks for a proxy that cannot be used: ")


def test_bad_international_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        program.main(["http://xn--/"])
    assert exit_info.value.code == 2
    assert re.fullmatch(
        r"python -m trio_conman: not a URL to fetch: 'http://xn--/': .+\n", capsys.readouterr().err
    )


@pytest.mark.parametrize("args", [["--limit", "1"], ["nonsense"]])
def test_bad_arguments_of_the_program(args: list[str]) -> None:
    done = run(*args)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("python -m trio_conman: ")


def test_help_needs_no_extra() -> None:
    done = run("--help", code=WITHOUT_EXTRA.format("httpx"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m trio_conman [-h] [--limit N] [--max-attempts N]")
    assert "a URL is tried up to 1 + N times" in " ".join(done.stdout.split())


@pytest.mark.parametrize("module", ["httpx", "h11", "rich"])
def test_without_the_extra(module: str) -> None:
    done = run(code=WITHOUT_EXTRA.format(module))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"python -m trio_conman needs {module}: pip install 'trio-conman[demo]'\n"


def test_urls_from_a_pipe(page: Page) -> None:
    urls = page("ok"), page("503,ok")
    done = run("--limit", "2", stdin=f"\ufeff# two pages\n\n{urls[0]}\r\n  {urls[1]}\n  # done")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(row("ok", 0, urls[0], "1,760 bytes"), done.stdout)
    assert re.search(row("ok", 1, urls[1], "1,760 bytes"), done.stdout)


def test_urls_from_both(page: Page) -> None:
    done = run(page("ok"), "-", "--limit", "3", stdin=page("ok"))
    message = "give URLs either as arguments, or on standard input ('-')"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"python -m trio_conman: {message} (--help tells more)\n"


def test_what_is_given_more_than_once(page: Page) -> None:
    first, second = page("ok"), page("ok")
    done = run(first, second, first, first)
    assert done.returncode == 0
    assert done.stderr == "2 given more than once, and fetched once\n"
    assert done.stdout.startswith("URLs: 2; ")
    assert "\nsucceeded    2 of 2, 3,520 bytes\n" in done.stdout


def test_urls_from_arguments_leave_the_pipe_alone(page: Page) -> None:
    done = run(page("ok"), stdin="no URL")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "args, stdin, message",
    [
        ([], "# nothing\n", "no URLs on standard input"),
        (["-"], "", "no URLs on standard input"),
        (["-"], "\ufeff# nothing\n", "no URLs on standard input"),
        ([], "http://127.0.0.1/\n\nwhat?", f"line 3 of standard input: {NO_URL.format('what?')}"),
        (["--skip-bad"], "http:///", f"line 1 of standard input: {NO_URL.format('http:///')}"),
    ],
)
def test_bad_pipe(args: Sequence[str], stdin: str, message: str) -> None:
    done = run(*args, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"python -m trio_conman: {message} (--help tells more)\n"


def test_a_bad_byte(page: Page) -> None:
    command = [*MODULE, "-"]
    stdin = f"{page('ok')}\nhttp://127.0.0.1/".encode() + b"caf\xe9\n"
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == (
        "python -m trio_conman: line 2 of standard input: not a URL to fetch: "
        "b'http://127.0.0.1/caf\\xe9' has a byte that is no UTF-8, the 21. (--help tells more)\n"
    )


def test_bad_lines_that_are_skipped(page: Page) -> None:
    done = run("--skip-bad", "--limit", "2", stdin=f"what?\n{page('ok')}\nhttp://127.0.0.1:65536/\n")
    assert done.returncode == 0
    assert done.stderr == (
        f"skipped 2 that cannot be fetched; the first: line 1 of standard input: {NO_URL.format('what?')}\n"
    )
    assert "\nsucceeded    1 of 1, 1,760 bytes\n" in done.stdout


def test_silent_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo_input, "PATIENCE", 0.01)
    monkeypatch.setattr(demo_server, "PAGES", ("/10/ok",))
    reader, writer = os.pipe()
    with os.fdopen(reader) as stdin, os.fdopen(writer, "w"):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert program.main([]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("URLs: 1; ")
    assert captured.err == "no URLs on standard input after 0.01 s: running the demo\n"


def test_pipe_that_takes_its_time(
    page: Page, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_input, "PATIENCE", 0.05)
    first, second = page("ok"), page("ok")
    reader, writer = os.pipe()
    os.write(writer, f"{first}\n".encode())

    def finish() -> None:
        time.sleep(0.2)  # longer than it waits for the first byte
        os.write(writer, f"{second}\n".encode())
        os.close(writer)

    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        thread = threading.Thread(target=finish)
        thread.start()
        assert program.main([]) == 0
        thread.join()
    assert "\nsucceeded    2 of 2," in capsys.readouterr().out


def test_standard_input_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_server, "PAGES", ("/10/ok",))
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # it has no descriptor; that of nohup refuses the read
    assert program.main([]) == 0
    assert capsys.readouterr().out.startswith("URLs: 1; ")


# How it is ended


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(number: signal.Signals, page: Page) -> None:
    urls = page("ok"), page("hang"), page("hang"), page("ok")
    with start("--limit", "2", *urls) as child:
        assert child.stdout is not None
        assert any(line.startswith("ok ") for line in child.stdout), "it has ended before the signal"
        child.send_signal(number)
        signalled = time.monotonic()
        out, err = child.communicate(timeout=60)
        assert time.monotonic() - signalled < 5  # far from all timeouts
    assert (child.returncode, err) == (128 + number, "")
    for url in urls[1:3]:
        assert re.search(row("failed", 0, url, "not finished (cancelled)"), out)
    assert "\n\nInterrupted:\nsucceeded    1 of 4, 1,760 bytes\nfailed       2\n" in out
    assert f"\nnot started  1, from {urls[3]} on\n" in out


def test_ctrl_c_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupted(*, insist: bool) -> bytes:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(demo_input, "read_stdin", interrupted)
    assert program.main(["-"]) == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")


def test_reader_goes_away(page: Page) -> None:
    with start(page("ok", latency=3), page("hang")) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("URLs: 2; ")
        child.stdout.close()
        assert child.wait(timeout=60) == 1
        assert child.stderr is not None
        assert child.stderr.read() == ""


def test_closed_output(page: Page) -> None:
    shell = ["sh", "-c", 'exec "$@" >&-', "sh"]
    done = subprocess.run(
        [*shell, *MODULE, page("ok")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("args", [["--help"], []])
def test_full_disk(args: list[str], page: Page) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [*MODULE, *args, page("ok")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "python -m trio_conman: [Errno 28] No space left on device\n",
    )


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a disk that is always full")
def test_full_disk_for_errors_too(page: Page) -> None:
    with FULL.open("w") as full:
        done = subprocess.run([*MODULE, page("ok")], stdout=full, stderr=full, timeout=60, check=False)
    assert done.returncode == 1


def test_an_error_of_the_system_that_is_not_of_a_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(demo_server, "serve", serve)
    assert program.main([]) == 1
    assert capsys.readouterr() == ("", "python -m trio_conman: [Errno 24] Too many open files\n")


# On a terminal


@pytest.mark.parametrize("most, shown", [(None, 25), (20, 20), (25, 25)])
async def test_the_list_of_failures_is_short(
    most: int | None, shown: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail() -> int:
        raise ValueError("no")

    async def succeed() -> int:
        return 1

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery) as cm:
            for number in range(25):
                await cm.run(fail, name=f"page {number}")
                await cm.run(succeed)
    demo_report.list_failures(cm, most)
    cm.pop_outcomes()
    demo_report.list_failures(cm, most)  # of none nothing is said
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["", "retries    time  failed"]
    assert [line.partition("  page ")[2] for line in lines[2:][: 2 * shown : 2]] == [*map(str, range(shown))]
    assert lines[2 + 2 * shown :] == ([] if shown == 25 else [f"{'':17}and 5 more (--all shows them)"])


@pytest.mark.parametrize("interrupt", [False, True])
def test_terminal(interrupt: bool, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    termios = pytest.importorskip("termios", reason="Windows has no terminals of this kind")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    urls = page("ok"), page("hang" if interrupt else "503,ok", latency=3), page("404")
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    output = b""
    with subprocess.Popen([*MODULE, *urls], stdin=slave, stdout=slave, stderr=slave) as child:
        os.close(slave)
        signalled = not interrupt
        while chunk := read_terminal(master):
            output += chunk
            if not signalled and b"2/3 done" in output:
                child.send_signal(signal.SIGINT)
                signalled = True
    os.close(master)
    assert child.returncode == (130 if interrupt else 1)
    text = output.decode().replace("\r\n", "\n")
    assert text.startswith("URLs: 3; 6 at a time, at most 3 retries each\n\n\x1b[?25l")
    assert re.search(r"\d/3 done, \d failed, \d retries, \d running, \d backing off, \d s", text)
    live, shown, summary = text.rpartition("\x1b[?25h")
    assert shown, "the cursor is hidden"
    assert "\x1b[?25l" not in summary
    assert "\u2501" in live
    assert not re.search(r"\x1b\[[0-9;]*[0-9]+m", live), "a color"
    # Which one was the slowest depends on the machine, and on when the signal came.
    assert re.search(r"\nslowest +[0-9.]+ s, http://\S+\n$", summary)
    if interrupt:
        assert "\n\nInterrupted:\nsucceeded    1 of 3, 1,760 bytes\nfailed       2\n" in summary
    else:
        assert "\n\nsucceeded    2 of 3, 3,520 bytes\nfailed       1\nretries      1\n" in summary


def read_terminal(master: int) -> bytes:
    """What a terminal's program writes next; nothing at its end."""
    try:
        return os.read(master, 65536)
    except OSError:  # Linux says it so
        return b""


# The server's manners


def exchange(server: str, request: bytes) -> bytes:
    """Send something to the server, and return all that comes until it closes the connection."""
    host, _, port = server.removeprefix("http://").partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=10)) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def test_server_bears_with_nonsense(server: str) -> None:
    assert exchange(server, b"What?\r\n\r\n") == b""


def test_server_closes_when_asked_to(page: Page, server: str) -> None:
    path = page("ok").removeprefix(server)
    answer = exchange(server, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"dull boy.\n")


def test_server_reads_what_comes_with_a_request(page: Page, server: str) -> None:
    path = page("404").removeprefix(server)
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
    assert exchange(server, head.encode() + b"Me!").startswith(b"HTTP/1.1 404 Not Found\r\n")


def test_server_has_no_other_pages(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    paths = ["/", "/favicon.ico", "/1/", "/1/ok,", "/1/maybe", "/1/ok,maybe", "/x/ok"]
    assert program.main([server + path for path in paths]) == 1
    assert capsys.readouterr().out.count(": 404 Not Found (not retried)\n") == len(paths)


async def statuses(quota: demo_server.Quota, *paths: str) -> list[tuple[int, str | None, int]]:
    """Ask a server of its own for each of them; the status, Retry-After, and the size."""
    found: list[tuple[int, str | None, int]] = []
    async with trio.open_nursery() as nursery, httpx.AsyncClient(trust_env=False) as client:
        address = await nursery.start(demo_server.serve, quota)
        for path in paths:
            response = await client.get(address + path)
            found.append((response.status_code, response.headers.get("Retry-After"), len(response.content)))
        nursery.cancel_scope.cancel()
    return found


async def test_server_meters_requests() -> None:
    quota = demo_server.Quota(requests=Meter(0, burst=2))
    answered = await statuses(quota, "/10/ok", "/10/503,ok", "/10/503,ok")
    assert answered == [(200, None, 1760), (503, None, 1760), (429, "1", 1760)]
    assert str(quota) == "2 requests, 5,280 bytes, as the server counts; 1 too many"


async def test_server_meters_bytes() -> None:
    quota = demo_server.Quota(bytes=Meter(0, burst=1761))
    answered = await statuses(quota, "/10/ok", "/20/long", "/30/ok")
    # Who has a byte left gets all of the page.
    assert answered == [(200, None, 1760), (200, None, 17600), (429, "1", 1760)]


async def test_server_bears_more_when_time_has_passed(autojump_clock: trio.testing.MockClock) -> None:
    meter = Meter(4, burst=2)
    found: list[bool] = []
    for wait in (0, 0, 0, 0.25, 0.125, 0.25, 9, 0, 0):
        await trio.sleep(wait)
        found.append(meter.is_empty())
        if not found[-1]:
            meter.use(1)
    assert found == [False, False, True, False, False, False, False, False, True]
    assert meter.used == 7


# At last, what was started first


def test_demo(demo: "subprocess.Popen[str]") -> None:
    out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    assert "\x1b" not in out
    assert re.match(
        r"URLs: 40; 6 at a time, at most 3 retries each, 12 requests/s, 24,000 bytes/s\n\n"
        r"        retries    time  URL\n",
        out,
    )
    pattern = r"(?m)^failed +([0-9]) +[0-9.]+s  http://127.0.0.1:[0-9]+(/[^:]+): (.+)$"
    failed = {page: f"{retries} retries: {text}" for retries, page, text in re.findall(pattern, out)}
    exhausted = "3 retries: 503 Service Unavailable (retries exhausted)"
    expected = {
        "/2/hang": "3 retries: not finished (attempt timeout)",
        "/10/404": "0 retries: 404 Not Found (not retried)",
        "/13/closed": "0 retries: 503 Service Unavailable (asked to wait too long)",
        "/16/503": exhausted,
        **{f"/{number}/503": exhausted for number in range(37, 41)},
    }
    assert sorted(failed) == sorted(expected)
    # Which of the hopeless pages find the budget empty is a matter of luck.
    refused = {page for page, text in failed.items() if text.endswith(" (no retry, as too much failed)")}
    assert failed == expected | {page: failed[page] for page in refused}
    assert {"/10/404", "/13/closed"}.isdisjoint(refused)
    assert refused
    assert re.search(
        r"""

succeeded    32 of 40, 103,840 bytes
failed       8
retries      \d+
refused      COUNT more retries, as too much failed
paused       [12] s for all, as the server asked
time         \d+\.\d s
slowest      \d+\.\d s, http://127\.0\.0\.1:\d+/2/hang
metered      6\d requests, 1\d\d,\d{3} bytes, as the server counts; none too many

All as it should be; some are made to fail\.
\Z""".replace("COUNT", str(len(refused))),
        out,
    )
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith(("ok", "failed  ")))
