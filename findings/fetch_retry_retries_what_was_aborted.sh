#!/usr/bin/env bash
# fetch-retry 6.0.0: a request that was aborted is tried three times more, and only then is the caller told.
#
# It says that by default it tries again on network errors only. An AbortError, and the TimeoutError of
# `AbortSignal.timeout`, are errors of fetch like these, and so are tried again, with the same signal, which is aborted
# for good: each try fails before anything is sent, and the waits between them are waited for in full. A limit of 5 s
# for a request so ends it after 8 s by default, with a `retryDelay` that doubles from 1 s after 12, and a user who has
# clicked "cancel" waits. A `retryOn` that looks at the name of the error helps, but then `retries` is not heeded any
# more. p-retry 9.0.0 with its own `signal` ends at once. The waits are written down in place of being waited for. Seen on
# Node.js 20; the script fails when it is not so any more.
#
# Seen, of a server that does not answer:
#   aborted: AbortError, calls of fetch 4, requests sent 1, waits 1, 1, 1 s
#   AbortSignal.timeout: TimeoutError, calls of fetch 4, requests sent 1, waits 1, 1, 1 s
#   aborted, retryDelay doubles: AbortError, calls of fetch 4, requests sent 1, waits 1, 2, 4 s
#   p-retry, aborted: AbortError, calls of fetch 1, requests sent 1, waits none
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund fetch-retry@6.0.0 p-retry@9.0.0
cat >main.mjs <<'JS'
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import fetchRetry from "fetch-retry";
import pRetry from "p-retry";

const { version } = JSON.parse(readFileSync("node_modules/fetch-retry/package.json"));
const { setTimeout } = globalThis;

async function tell(name, start) {
  let calls = 0;
  let requests = 0;
  const waits = [];
  const controller = new AbortController();
  const server = createServer(() => {
    requests += 1;
    controller.abort();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${server.address().port}/`;
  const counted = (input, options) => {
    calls += 1;
    return fetch(input, options);
  };
  globalThis.setTimeout = (callback, milliseconds, ...rest) => {
    if (!/node_modules.(fetch|p)-retry/.test(new Error().stack)) {
      return setTimeout(callback, milliseconds, ...rest);
    }
    waits.push(milliseconds / 1000);
    return setTimeout(callback, 0, ...rest);
  };
  const error = await start(counted, url, controller.signal).catch((reason) => reason);
  globalThis.setTimeout = setTimeout;
  server.closeAllConnections();
  server.close();
  const words = waits.length ? `${waits.join(", ")} s` : "none";
  console.log(`${name}: ${error.name}, calls of fetch ${calls}, requests sent ${requests}, waits ${words}`);
}

console.log(`fetch-retry ${version}`);
await tell("aborted", (counted, url, signal) => fetchRetry(counted)(url, { signal }));
await tell("AbortSignal.timeout", (counted, url) => fetchRetry(counted)(url, { signal: AbortSignal.timeout(900) }));
const retryDelay = (attempt) => 1000 * 2 ** attempt;
await tell("aborted, retryDelay doubles", (counted, url, signal) => fetchRetry(counted, { retryDelay })(url, { signal }));
await tell("p-retry, aborted", (counted, url, signal) => pRetry(() => counted(url, { signal }), { retries: 3, signal }));
JS
seen=$(node main.mjs)
echo "$seen"
[ "$seen" = "fetch-retry 6.0.0
aborted: AbortError, calls of fetch 4, requests sent 1, waits 1, 1, 1 s
AbortSignal.timeout: TimeoutError, calls of fetch 4, requests sent 1, waits 1, 1, 1 s
aborted, retryDelay doubles: AbortError, calls of fetch 4, requests sent 1, waits 1, 2, 4 s
p-retry, aborted: AbortError, calls of fetch 1, requests sent 1, waits none" ]
