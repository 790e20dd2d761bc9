import os
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import trio

from trio_conman import (
    ConMan,
    Failure,
    RateLimiter,
    RetryBudget,
    RetryConfig,
    Success,
)
from trio_conman.http import raise_for_status

LIMIT = 5  # requests at the same time
LIMITS = httpx.Limits(max_connections=LIMIT)  # a connection for each: none waits for one


async def fetch(client: httpx.AsyncClient, path: str) -> str:
    response = await client.get(path)
    raise_for_status(response)  # a RetriableError where it is worth a retry
    return response.text


async def main(service: str, paths: list[str]) -> None:
    async with (
        httpx.AsyncClient(base_url=service, limits=LIMITS) as client,
        trio.open_nursery() as nursery,
    ):
        async with ConMan[str].open(
            nursery,
            limit=LIMIT,
            rate=RateLimiter(20, burst=5),  # requests a second
            retry=RetryConfig.exponential(
                max_attempts=3,  # retries of a request
                retry_on=httpx.TransportError,  # no connection, no answer, or half of one
            ),
            retry_budget=RetryBudget(tokens=10),  # retries of all requests together
            attempt_timeout=2,
            timeout=60,
        ) as cm:
            for path in paths:
                await cm.run(fetch, client, path, name=path)

    for outcome in sorted(cm.outcomes(), key=lambda outcome: outcome.index):
        match outcome:
            case Success(value=text):
                print(f"{outcome.name}: {text}, retries: {outcome.retries}")
            case Failure(error=error, reason=reason):
                kind = type(error).__name__
                print(
                    f"{outcome.name}: {kind}, {reason.value}, retries: {outcome.retries}"
                )


requests = Counter[str]()


class Service(BaseHTTPRequestHandler):
    """Stands for the service: busy at first, for some of its pages."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        first = not requests[self.path]
        requests[self.path] += 1
        text = f"page {self.path.strip('/')}".encode()
        busy = self.path == "/4" and first
        self.send_response(404 if self.path == "/9" else 429 if busy else 200)
        if busy:
            self.send_header("Retry-After", "1")  # seconds
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        # The second page is cut off at first.
        self.wfile.write(text[:3] if self.path == "/2" and first else text)
        self.close_connection = self.path == "/2"

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


os.environ["NO_PROXY"] = "127.0.0.1"  # no proxy is asked for what is on this machine
with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
    threading.Thread(target=server.serve_forever).start()
    try:
        paths = [f"/{number}" for number in range(1, 11)]
        trio.run(main, f"http://127.0.0.1:{server.server_port}", paths)
    finally:
        server.shutdown()
print(f"{requests.total()} requests")
