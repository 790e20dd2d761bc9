#!/usr/bin/env bash
# throttled-queue 3.0.0: the pause that one 429 has asked for is cut short by another one that asks for less.
#
# A `RetryError` with `pauseQueue` stops the queue for its `retryAfter`, so that nothing is sent while the service does
# not want it. Each such error sets the one timer of the queue anew, also to an earlier time. Of requests that are under
# way together, all are refused; where one answer has a Retry-After of 60 and another has none, for which the example of
# the documentation pauses by the interval, a second, the queue goes on after that second if the one without is read
# last, and all that wait are sent, of which each may be refused again. Which one is read last is chance. And the call
# that is tried again goes to the end of the queue, behind all that came after it. Time is set by hand here. Seen on
# Node.js 20; the script fails when it is not so any more.
#
# Seen, of two in 1 s, a and b are under way, and c and d wait:
#   a and b are told 60 s: c at 60 s, d at 60 s, a again at 61 s, b again at 61 s
#   a is told nothing, then b 60 s: c at 60 s, d at 60 s, a again at 61 s, b again at 61 s
#   a is told 60 s, then b nothing: c at 1 s, d at 1 s, a again at 2 s, b again at 2 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund throttled-queue@3.0.0
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import { mock } from "node:test";
import { RetryError, seconds, throttledQueue } from "throttled-queue";

const { version } = JSON.parse(readFileSync("node_modules/throttled-queue/package.json"));
const STEP = 100;
mock.timers.enable({ apis: ["setTimeout", "Date"], now: seconds(1_800_000_000) });

async function pass(milliseconds) {
  for (let passed = 0; passed < milliseconds; passed += STEP) {
    mock.timers.tick(STEP);
    for (let round = 0; round < 5; round += 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

async function tell(words, told) {
  const throttle = throttledQueue({ maxPerInterval: 2, interval: seconds(1) });
  const start = Date.now();
  const sent = [];
  for (const name of ["a", "b", "c", "d"]) {
    let refused = false;
    throttle(async () => {
      const again = refused;
      refused = true;
      if (!again && name in told) {
        throw new RetryError({ pauseQueue: true, ...told[name] });
      }
      sent.push(`${name}${again ? " again" : ""} at ${Math.floor((Date.now() - start) / 1000)} s`);
    });
  }
  await pass(seconds(100));
  console.log(`${words}: ${sent.join(", ")}`);
}

const minute = { retryAfter: seconds(60) };
console.log(`throttled-queue ${version}, two in 1 s`);
await tell("a and b are told 60 s", { a: minute, b: minute });
await tell("a is told nothing, then b 60 s", { a: {}, b: minute });
await tell("a is told 60 s, then b nothing", { a: minute, b: {} });
JS
seen=$(node --no-warnings main.mjs)
echo "$seen"
[ "$seen" = "throttled-queue 3.0.0, two in 1 s
a and b are told 60 s: c at 60 s, d at 60 s, a again at 61 s, b again at 61 s
a is told nothing, then b 60 s: c at 60 s, d at 60 s, a again at 61 s, b again at 61 s
a is told 60 s, then b nothing: c at 1 s, d at 1 s, a again at 2 s, b again at 2 s" ]
