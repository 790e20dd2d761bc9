#!/usr/bin/env bash
# httpx-retries 0.6.0 on trio: all goes well until the first answer that is worth a retry; then that answer is lost.
#
# httpx runs on trio, and so does a client with a RetryTransport, as long as there is nothing to retry. Between two
# tries it sleeps by asyncio: in place of the 503, or of the retry's 200, the caller gets a RuntimeError.
#
# Seen:
#   asyncio: 200 at once: 200; 503, then 200: 200
#   trio: 200 at once: 200; 503, then 200: RuntimeError: no running event loop
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check httpx==0.28.1 httpx-retries==0.6.0 trio==0.35.0
cat >main.py <<'PY'
import asyncio

import httpx
import trio
from httpx_retries import Retry, RetryTransport


async def get(*statuses: int) -> str:
    answers = iter(statuses)
    mock = httpx.MockTransport(lambda request: httpx.Response(next(answers)))
    retry = Retry(total=1, backoff_factor=0.01)
    async with httpx.AsyncClient(transport=RetryTransport(transport=mock, retry=retry)) as client:
        try:
            return str((await client.get("http://service.invalid")).status_code)
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"


async def main() -> str:
    return f"200 at once: {await get(200)}; 503, then 200: {await get(503, 200)}"


print(f"asyncio: {asyncio.run(main())}")
print(f"trio: {trio.run(main)}")
PY
seen=$(venv/bin/python main.py)
echo "httpx-retries 0.6.0"
echo "$seen"
[ "$seen" = "asyncio: 200 at once: 200; 503, then 200: 200
trio: 200 at once: 200; 503, then 200: RuntimeError: no running event loop" ]
