#!/usr/bin/env bash
# cockatiel 4.0.0: one failure an hour opens a circuit of the last 10 s, and good calls of hours ago keep it closed.
#
# SamplingBreaker keeps its samples in windows, for 10 s ten of a second each. When a call comes whose window is over, it
# takes the next one and forgets what was in that, one window, however much time has passed. So what it calls the last
# 10 s is the last ten seconds in which there were calls, of any age. Ten calls that failed, one each hour, are more than
# one a second, and open the circuit. And 100 calls that went well, an hour ago, stand against the failures of now: where
# a new breaker opens at the tenth, it takes 101. Time is set by hand here. It is so in 3.2.1, too,
# the last release for Node.js 20, on which this was seen; the script fails when it is not so any more.
#
# Seen, with a threshold of 0.5 in 10 s, and at least 1 call a second:
#   a failure every 0.5 s: opens at failure 10
#   a failure every 2 s: opens at failure 10
#   a failure every 3600 s: opens at failure 10
#   100 that go well, then at once failures: opens at failure 101
#   100 that go well, then an hour later failures: opens at failure 101
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund cockatiel@4.0.0
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import { mock } from "node:test";
import { CircuitState, SamplingBreaker, circuitBreaker, handleAll } from "cockatiel";

const { version } = JSON.parse(readFileSync("node_modules/cockatiel/package.json"));
const SECOND = 1000;
mock.timers.enable({ apis: ["Date"], now: 1_800_000_000_000 });

async function tell(name, { good = 0, pause = 0, every = 0 }) {
  const breaker = new SamplingBreaker({ threshold: 0.5, duration: 10 * SECOND, minimumRps: 1 });
  const circuit = circuitBreaker(handleAll, { halfOpenAfter: 60 * SECOND, breaker });
  for (let call = 0; call < good; call += 1) {
    await circuit.execute(() => "ok");
  }
  mock.timers.tick(pause * SECOND);
  let failures = 0;
  while (circuit.state === CircuitState.Closed && failures < 1000) {
    mock.timers.tick(every * SECOND);
    failures += 1;
    await circuit.execute(() => Promise.reject(new Error("down"))).catch(() => {});
  }
  console.log(`${name}: ${failures === 1000 ? "stays closed" : `opens at failure ${failures}`}`);
}

console.log(`cockatiel ${version}`);
for (const every of [0.5, 2, 3600]) {
  await tell(`a failure every ${every} s`, { every });
}
await tell("100 that go well, then at once failures", { good: 100 });
await tell("100 that go well, then an hour later failures", { good: 100, pause: 3600 });
JS
seen=$(node --no-warnings main.mjs)
echo "$seen"
[ "$seen" = "cockatiel 4.0.0
a failure every 0.5 s: opens at failure 10
a failure every 2 s: opens at failure 10
a failure every 3600 s: opens at failure 10
100 that go well, then at once failures: opens at failure 101
100 that go well, then an hour later failures: opens at failure 101" ]
