import os
import re
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin, urlsplit

import httpx
import trio

from trio_conman import ConMan, ConManClosedError, Failure, KeyedLimit
from trio_conman.signals import shutdown_on_signal

LINK = re.compile(r'href="([^"]+)"')
LIMIT = 20  # pages at once
LIMITS = httpx.Limits(
    max_connections=LIMIT
)  # a connection for each: no page waits for one


class Crawler:
    def __init__(
        self, client: httpx.AsyncClient, cm: ConMan[None], within: str, most: int
    ) -> None:
        self.client = client
        self.cm = cm
        self.within = within  # follows no link that leads elsewhere
        self.most = most
        self.seen: set[str] = set()

    def add(self, url: str, depth: int) -> None:
        if (
            url.startswith(self.within)
            and url not in self.seen
            and len(self.seen) < self.most
        ):
            self.seen.add(url)
            name = url.removeprefix(self.within)
            self.cm.start_soon(self.visit, url, depth, name=name, priority=-depth)

    async def visit(self, url: str, depth: int) -> None:
        response = await self.client.get(url)
        response.raise_for_status()
        # When a signal has come, the page counts, and its links do not.
        with suppress(ConManClosedError):
            for link in LINK.findall(response.text):
                self.add(urljoin(url, link).partition("#")[0], depth + 1)


def host(url: str, *_: object) -> str | None:
    """What a visit counts for: it gets the arguments of the task."""
    return urlsplit(url).hostname


async def main(site: str) -> None:
    hosts = KeyedLimit(4, key=host, limits={"small.example": 1})
    async with httpx.AsyncClient(limits=LIMITS) as client, trio.open_nursery() as nursery:
        async with ConMan[None].open(
            nursery, limit=LIMIT, per_key=hosts, timeout=30
        ) as cm:
            async with shutdown_on_signal(cm, grace=10, queued="drop"):
                Crawler(client, cm, within=site, most=1_000).add(site, depth=0)
        # The block ends when every page that was found has been visited.

    print(f"{cm.statistics().succeeded} pages")
    for outcome in cm.outcomes():
        if isinstance(outcome, Failure):
            print(f"/{outcome.name}: {type(outcome.error).__name__}")


class Site(BaseHTTPRequestHandler):
    """Stands for a site of 63 pages with links to others, one of which is gone."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        number = int(self.path.strip("/") or 1)
        links = ["/", "#top", "https://elsewhere.example/"]
        if number < 32:
            links += [f"/{number * 2}", f"{number * 2 + 1}#top"]
        if number == 20:
            links.append("/404")
        html = " ".join(f'<a href="{link}">more</a>' for link in links).encode()
        self.send_response(200 if number < 64 else 404)
        self.send_header("Content-Length", str(len(html)))
        self.end_headers()
        self.wfile.write(html)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


os.environ["NO_PROXY"] = "127.0.0.1"  # no proxy is asked for what is on this machine
with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
    threading.Thread(target=server.serve_forever).start()
    try:
        trio.run(main, f"http://127.0.0.1:{server.server_port}/")
    finally:
        server.shutdown()
