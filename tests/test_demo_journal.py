"""The demo with a journal: killed in the middle, it goes on where it was."""

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trio

from tests.journaled import Counting, run
from trio_conman import __main__ as program
from trio_conman.journal import open_journal

MODULE = [sys.executable, "-m", "trio_conman"]


class Server(ThreadingHTTPServer):
    """Counts who asks for what, and lets pages through one by one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: Counter[str] = Counter()
        self.may_go = threading.Semaphore(0)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # who asked was killed

    def pages(self, number: int) -> list[str]:
        return [f"http://127.0.0.1:{self.server_port}/{n}" for n in range(number)]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.requests[self.path] += 1
        server.may_go.acquire()
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"bytes")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # that is its name
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        for _ in range(100):
            server.may_go.release()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


def test_a_demo_that_was_killed_goes_on(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "sizes.journal"
    urls = server.pages(20)
    command = [*MODULE, "--journal", str(file), "--limit", "2", *urls]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as first:
        assert first.stdout is not None
        for _ in range(8):
            server.may_go.release()
        ended = 0
        while ended < 8:
            ended += next(first.stdout).startswith("ok ")
        while len(server.requests) < 10:  # what comes next has begun, some time after
            threading.Event().wait(0.01)
        threading.Event().wait(0.2)  # longer than flush_after
        first.send_signal(signal.SIGKILL)
    for _ in range(100):
        server.may_go.release()
    again = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "succeeded    20 of 20, 100 bytes\nrecalled     8 of these, from the journal\n" in again.stdout
    rows = [line.split()[0] for line in again.stdout.splitlines() if line.endswith(": 5 bytes")]
    assert Counter(rows) == {"recalled": 8, "ok": 12}
    # The two that were underway are fetched once more, and no other.
    assert Counter(server.requests.values()) == {1: 18, 2: 2}


def test_a_demo_takes_what_the_last_one_has_fetched(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--journal", str(tmp_path / "sizes.journal"), "--max-attempts", "0", *server.pages(3)]
    for _ in range(3):
        server.may_go.release()
    assert program.main(given) == 0
    assert "recalled" not in capsys.readouterr().out
    assert program.main(given) == 0
    assert "recalled     3 of these, from the journal\n" in capsys.readouterr().out
    assert server.requests.total() == 3


def test_what_other_programs_have_of_a_url_is_not_its_size(server: Server, tmp_path: Path) -> None:
    file, (url,) = tmp_path / "pages.journal", server.pages(1)
    server.may_go.release()

    async def recall(value: str) -> tuple[str, bool]:
        async with open_journal(file) as journal:
            return await run(journal, Counting(value), url)

    assert trio.run(recall, "a page") == ("a page", False)
    assert program.main(["--journal", str(file), url]) == 0
    assert server.requests.total() == 1
    assert trio.run(recall, "another") == ("a page", True)


def test_a_journal_is_for_urls_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.RaisesGroup(SystemExit, flatten_subgroups=True, allow_unwrapped=True):
        program.main(["--journal", str(tmp_path / "sizes.journal")])
    assert "--journal is for URLs of your own" in capsys.readouterr().err


def test_a_journal_needs_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        program.main(["--journal", "", "http://127.0.0.1:9/"])
    assert caught.value.code == 2
    told = "argument --journal: path must be that of a file, not '' (--help tells more)"
    assert capsys.readouterr().err == f"python -m trio_conman: {told}\n"


def test_a_journal_that_cannot_be_used_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sizes.journal"

    async def hold() -> None:
        async with open_journal(file):
            given = ["--journal", str(file), "http://127.0.0.1:9/"]
            assert await trio.to_thread.run_sync(program.main, given) == 1

    trio.run(hold)
    assert capsys.readouterr().err.startswith(f"python -m trio_conman: {file}: ")
