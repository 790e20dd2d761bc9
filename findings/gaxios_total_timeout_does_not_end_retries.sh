#!/usr/bin/env bash
# gaxios 8.3.3: with a `totalTimeout` of 15 s, a request is retried for a minute, after 15 s without any wait.
#
# The types say that `totalTimeout` is counted from the first request on, that the last retry runs at its end, and that
# an error is returned then, whatever retries are left. But it shortens the waits, and ends nothing: when it is over,
# what is left of a wait is less than nothing, and the retries that are left go out one after the other, to a server
# that is down. And it is counted from the first failure. `retryDelay` is there for the first wait alone, so that the
# second one is shorter: after 10 s comes half a second. And a Retry-After is not read, also with a 429. So whoever
# wants one of the three gives a `shouldRetry` that looks at the time, and a `retryBackoff` that waits. Time is set by
# hand here, and the waits are written down in place of being waited for. It is so in 7.3.1, too, the last release for
# Node.js 20, on which this was seen; the script fails when it is not so any more.
#
# Seen:
#   5 retries, each request takes 10 s: 6 requests, waits 0.1, 0.5, 1.5, 3.5, 7.5 s, an error after 73 s
#   the same, totalTimeout 15 s: 6 requests, waits 0.1, 0.5, 0, 0, 0 s, an error after 61 s
#   3 retries, retryDelay 10 s: 4 requests, waits 10, 0.5, 1.5 s, an error after 12 s
#   3 retries, a 429 with Retry-After: 60: 4 requests, waits 0.1, 0.5, 1.5 s, an error after 2 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund gaxios@8.3.3
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import { mock } from "node:test";
import { Gaxios } from "gaxios";

const { version } = JSON.parse(readFileSync("node_modules/gaxios/package.json"));
const SECOND = 1000;
mock.timers.enable({ apis: ["Date"], now: 1_800_000_000_000 });

async function tell(name, { takes = 0, status = 503, headers = {}, ...options }) {
  const start = Date.now();
  const waits = [];
  let requests = 0;
  const retryConfig = {
    ...options,
    async retryBackoff(_error, delay) {
      const wait = Math.max(delay, 0);
      mock.timers.tick(wait);
      waits.push(Number((wait / SECOND).toFixed(1)));
    },
  };
  const fetchImplementation = async () => {
    requests += 1;
    mock.timers.tick(takes * SECOND);
    return new Response("", { status, headers });
  };
  const end = await new Gaxios()
    .request({ url: "http://service.invalid/", fetchImplementation, retryConfig })
    .then(() => "an answer", () => "an error");
  const after = Math.round((Date.now() - start) / SECOND);
  console.log(`${name}: ${requests} requests, waits ${waits.join(", ")} s, ${end} after ${after} s`);
}

console.log(`gaxios ${version}`);
await tell("5 retries, each request takes 10 s", { retry: 5, takes: 10 });
await tell("the same, totalTimeout 15 s", { retry: 5, takes: 10, totalTimeout: 15 * SECOND });
await tell("3 retries, retryDelay 10 s", { retry: 3, retryDelay: 10 * SECOND });
await tell("3 retries, a 429 with Retry-After: 60", { retry: 3, status: 429, headers: { "retry-after": "60" } });
JS
seen=$(node --no-warnings main.mjs)
echo "$seen"
[ "$seen" = "gaxios 8.3.3
5 retries, each request takes 10 s: 6 requests, waits 0.1, 0.5, 1.5, 3.5, 7.5 s, an error after 73 s
the same, totalTimeout 15 s: 6 requests, waits 0.1, 0.5, 0, 0, 0 s, an error after 61 s
3 retries, retryDelay 10 s: 4 requests, waits 10, 0.5, 1.5 s, an error after 12 s
3 retries, a 429 with Retry-After: 60: 4 requests, waits 0.1, 0.5, 1.5 s, an error after 2 s" ]
