#!/usr/bin/env bash
# axios-rate-limit 1.9.0: a limit of 1.5 requests is no limit at all, and neither is one of 0.5.
#
# It checks that `maxRequests` and `maxRPS` are positive numbers, and tells the rate by `getMaxRPS()` as it was given. But
# it stops when the count of requests equals the limit, and a count is never 1.5. So a limit of a request in two seconds,
# given as `maxRPS: 0.5`, sends all that there is at once. It has to be given as `maxRequests: 1` with a `duration` of two
# seconds. Of others that take such a limit, async-sema and p-ratelimit let in the whole number above it, for 0.5 twice as
# much as they were told, and p-throttle the one below it, but at least 1. Bottleneck with a `minTime`, and
# promise-throttle, keep to it. Seen on Node.js 20; the script fails when it is not so any more.
#
# Seen, sent at once of 40 requests, in a window of a minute:
#   a limit of 1: axios-rate-limit 1, async-sema 1, p-ratelimit 1, p-throttle 1; axios-rate-limit says 1
#   a limit of 0.5: axios-rate-limit 40, async-sema 1, p-ratelimit 1, p-throttle 1; axios-rate-limit says 0.5
#   a limit of 1.5: axios-rate-limit 40, async-sema 2, p-ratelimit 2, p-throttle 1; axios-rate-limit says 1.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund async-sema@3.1.1 axios@1.21.1 axios-rate-limit@1.9.0 \
  p-ratelimit@1.0.1 p-throttle@8.1.1
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { RateLimit } from "async-sema";
import axios from "axios";
import axiosRateLimit from "axios-rate-limit";
import { pRateLimit } from "p-ratelimit";
import pThrottle from "p-throttle";

const MINUTE = 60_000;
const REQUESTS = 40;
const NAMES = ["axios-rate-limit", "async-sema", "p-ratelimit", "p-throttle"];

const limited = {
  "axios-rate-limit"(limit, send) {
    const adapter = async (config) => {
      send();
      return { config, data: "", headers: {}, status: 200, statusText: "" };
    };
    const client = axiosRateLimit(axios.create({ adapter }), { maxRequests: limit, perMilliseconds: MINUTE });
    return () => client.get("http://service.invalid/");
  },
  "async-sema"(limit, send) {
    const turn = RateLimit(limit, { timeUnit: MINUTE });
    return async () => {
      await turn();
      send();
    };
  },
  "p-ratelimit"(limit, send) {
    const within = pRateLimit({ interval: MINUTE, rate: limit });
    return () => within(async () => send());
  },
  "p-throttle": (limit, send) => pThrottle({ limit, interval: MINUTE })(send),
};

async function sent(name, limit) {
  let count = 0;
  const request = limited[name](limit, () => { count += 1; });
  for (let number = 0; number < REQUESTS; number += 1) {
    request();
  }
  await sleep(500);
  return count;
}

const versions = NAMES.map((name) => `${name} ${JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version}`);
console.log(versions.join(", "));
for (const limit of [1, 0.5, 1.5]) {
  const counts = [];
  for (const name of NAMES) {
    counts.push(`${name} ${await sent(name, limit)}`);
  }
  const says = axiosRateLimit(axios.create(), { maxRPS: limit }).getMaxRPS();
  console.log(`a limit of ${limit}: ${counts.join(", ")}; axios-rate-limit says ${says}`);
}
process.exit(0);
JS
seen=$(node main.mjs)
echo "$seen"
[ "$seen" = "axios-rate-limit 1.9.0, async-sema 3.1.1, p-ratelimit 1.0.1, p-throttle 8.1.1
a limit of 1: axios-rate-limit 1, async-sema 1, p-ratelimit 1, p-throttle 1; axios-rate-limit says 1
a limit of 0.5: axios-rate-limit 40, async-sema 1, p-ratelimit 1, p-throttle 1; axios-rate-limit says 0.5
a limit of 1.5: axios-rate-limit 40, async-sema 2, p-ratelimit 2, p-throttle 1; axios-rate-limit says 1.5" ]
