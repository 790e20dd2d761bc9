#!/usr/bin/env bash
# p-throttle 8.1.1: of 3000 calls with a limit of 100 a day, 600 are made at once, and not 100.
#
# It sets a timer for each call when that comes, for as long as it has to wait, behind all that came before. A timer of
# Node.js has 31 bits, which are 24.8 days in milliseconds, and one for longer fires at once. So whatever is more than
# fits into 24 days, here the last 500 calls, is sent together with the first 100, to a service that allows 100. It is
# the same with `strict`. A limit of one in 30 days is none at all. Node.js writes a warning for such timers, which
# tells of no limit. p-queue 9.3.5 and limiter 4.1.0 wait for the next turn only, and so send 100 here; but with a turn
# of 30 days p-queue lets all through as well, and limiter does not. So hand over no more calls than can be made in 24
# days. Seen on Node.js 20; the script fails when it is not so any more.
#
# Seen, how many calls were made at once:
#   3000 calls, 100 a day: p-throttle 600, p-throttle with strict 614, p-queue 100, limiter 100
#   2400 calls, 100 a day: p-throttle 100, p-throttle with strict 100, p-queue 100, limiter 100
#   40 calls, one in 30 days: p-throttle 40, p-throttle with strict 40, p-queue 40, limiter 1
#   warnings: TimeoutOverflowWarning
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund limiter@4.1.0 p-queue@9.3.5 p-throttle@8.1.1
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { RateLimiter } from "limiter";
import PQueue from "p-queue";
import pThrottle from "p-throttle";

const DAY = 24 * 60 * 60 * 1000;

const limited = {
  "p-throttle": (limit, interval, call) => pThrottle({ limit, interval })(call),
  "p-throttle with strict": (limit, interval, call) => pThrottle({ limit, interval, strict: true })(call),
  "p-queue"(intervalCap, interval, call) {
    const queue = new PQueue({ intervalCap, interval });
    return () => queue.add(call);
  },
  limiter(tokensPerInterval, interval, call) {
    const limiter = new RateLimiter({ tokensPerInterval, interval });
    return () => limiter.removeTokens(1).then(call);
  },
};

async function made(name, calls, limit, interval) {
  let count = 0;
  const call = limited[name](limit, interval, async () => { count += 1; });
  for (let number = 0; number < calls; number += 1) {
    call();
  }
  await sleep(500);
  return `${name} ${count}`;
}

async function tell(name, calls, limit, interval) {
  const counts = [];
  for (const package_ of Object.keys(limited)) {
    counts.push(await made(package_, calls, limit, interval));
  }
  console.log(`${name}: ${counts.join(", ")}`);
}

const warnings = new Set();
process.on("warning", ({ name }) => warnings.add(name));
const versionOf = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
console.log(["p-throttle", "p-queue", "limiter"].map((name) => `${name} ${versionOf(name)}`).join(", "));
await tell("3000 calls, 100 a day", 3000, 100, DAY);
await tell("2400 calls, 100 a day", 2400, 100, DAY);
await tell("40 calls, one in 30 days", 40, 1, 30 * DAY);
console.log(`warnings: ${[...warnings].join(", ")}`);
process.exit(0);
JS
seen=$(node --no-warnings main.mjs)
echo "$seen"
[ "$seen" = "p-throttle 8.1.1, p-queue 9.3.5, limiter 4.1.0
3000 calls, 100 a day: p-throttle 600, p-throttle with strict 614, p-queue 100, limiter 100
2400 calls, 100 a day: p-throttle 100, p-throttle with strict 100, p-queue 100, limiter 100
40 calls, one in 30 days: p-throttle 40, p-throttle with strict 40, p-queue 40, limiter 1
warnings: TimeoutOverflowWarning" ]
