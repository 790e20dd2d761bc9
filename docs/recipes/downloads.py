import gzip
import os
import re
import tempfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import trio

from trio_conman import ConMan, Failure, RateLimiter, RetryConfig
from trio_conman.http import raise_for_status
from trio_conman.journal import open_journal
from trio_conman.signals import shutdown_on_signal

LIMIT = 4  # files at once
LIMITS = httpx.Limits(max_connections=LIMIT)  # a connection for each: none waits
AS_IT_IS = {"Accept-Encoding": "identity"}  # httpx would ask for it compressed


async def main(service: str, names: list[str], folder: Path) -> None:
    async def download(name: str) -> int:
        part = folder / f"{name}.part"
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        async with client.stream("GET", f"/{name}", headers=headers) as response:
            if response.status_code != 416:  # which says that nothing is left to send
                raise_for_status(response)
                # 206 is the rest. A server that knows no ranges says 200, and sends all.
                with part.open("ab" if response.status_code == 206 else "wb") as file:
                    async for chunk in response.aiter_raw():
                        file.write(chunk)
        part.replace(folder / name)
        return (folder / name).stat().st_size

    retry = RetryConfig.exponential(initial_delay=0.1, retry_on=httpx.TransportError)
    async with (
        httpx.AsyncClient(base_url=service, limits=LIMITS, headers=AS_IT_IS) as client,
        open_journal(folder / "downloads.journal") as journal,
        trio.open_nursery() as nursery,
        ConMan[int].open(
            nursery,
            limit=LIMIT,
            rate=RateLimiter.unlimited(),  # a wait that is asked for is everybody's
            retry=retry,
            journal=journal,
        ) as cm,
        shutdown_on_signal(cm, grace=10),
    ):
        for name in names:
            await cm.run(download, name, name=name)
    now = cm.statistics()
    print(
        f"{now.succeeded} of {len(names)} are there, {now.recalled} of them before; "
        f"{now.retries} retries"
    )
    for outcome in cm.outcomes():
        if isinstance(outcome, Failure):
            print(f"  {outcome.name}: {type(outcome.error).__name__}")


SIZE = 100_000
CONTENT = bytes(range(250)) * (SIZE // 250)
requests = Counter[str]()
served = Counter[str]()


class Service(BaseHTTPRequestHandler):
    """Stands for the service: busy at first, breaks off, lacks a file, compresses."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.strip("/")
        first = not requests[name]
        requests[name] += 1
        start = int(re.findall(r"\d+", self.headers.get("Range", "bytes=0-"))[0])
        busy, gone = name == "2.bin" and first, name == "5.bin"
        packs = "gzip" in self.headers["Accept-Encoding"]
        content = gzip.compress(CONTENT) if packs else CONTENT
        body = b"" if busy or gone else content[start:]
        self.send_response(503 if busy else 404 if gone else 206 if start else 200)
        if busy:
            self.send_header("Retry-After", "1")  # seconds
        if packs:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if first and name == "3.bin":  # it breaks off after the half
            body = body[: SIZE // 2]
            self.close_connection = True
        served[name] += len(body)
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


os.environ["NO_PROXY"] = "127.0.0.1"  # no proxy is asked for what is on this machine
with (
    tempfile.TemporaryDirectory() as directory,
    ThreadingHTTPServer(("127.0.0.1", 0), Service) as server,
):
    threading.Thread(target=server.serve_forever).start()
    try:
        names = [f"{number}.bin" for number in range(1, 7)]
        for _ in range(2):  # the same command again: it goes on with what is left
            trio.run(
                main, f"http://127.0.0.1:{server.server_port}", names, Path(directory)
            )
    finally:
        server.shutdown()
    whole = [name for name in names if Path(directory, name).exists()]
    right = all(Path(directory, name).read_bytes() == CONTENT for name in whole)
print(f"{len(whole)} files, right: {right}, {served['3.bin']:,} bytes sent of 3.bin")
