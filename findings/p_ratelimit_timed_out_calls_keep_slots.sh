#!/usr/bin/env bash
# p-ratelimit 1.0.1: a call that has waited for too long takes a slot for good; with one slot, all later ones fail.
#
# With `maxDelay` a call that waits for longer is rejected; but it stays in the queue, and when its turn comes, it takes
# a slot, does nothing with it, and gives nothing back. After as many of these as `concurrency`, nothing runs any more,
# and each later call is rejected after `maxDelay`, though nobody is at work: one slow answer ends the client for good.
# And the next turn is only looked for when a call ends, or while none runs. So where no `concurrency` is given, and one
# call takes a minute, nobody else is let in for that minute, whatever the rate allows. Time is set by hand here. Seen on
# Node.js 20; the script fails when it is not so any more.
#
# Seen:
#   concurrency 1, maxDelay 1 s: one call runs for 2 s; of those meanwhile, and after: refused, refused, refused, refused
#   the same without maxDelay: done, done, done, done
#   2 in 1 s, none takes time: 6 calls begin after 0, 0, 1, 1, 2, 2 s
#   2 in 1 s, the first takes 60 s: 6 calls begin after 0, 0, 60, 60, 61, 61 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund p-ratelimit@1.0.1
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import { mock } from "node:test";
import { pRateLimit } from "p-ratelimit";

const { version } = JSON.parse(readFileSync("node_modules/p-ratelimit/package.json"));
const STEP = 100;
mock.timers.enable({ apis: ["setTimeout", "Date"] });

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const told = (call) => call.then(() => "done", () => "refused");

async function pass(seconds) {
  for (let passed = 0; passed < seconds * 1000; passed += STEP) {
    mock.timers.tick(STEP);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function ends(quota) {
  const limit = pRateLimit({ concurrency: 1, ...quota });
  limit(() => sleep(2));
  const calls = [told(limit(async () => {}))];
  await pass(5);
  for (let later = 0; later < 3; later += 1) {
    calls.push(told(limit(async () => {})));
    await pass(5);
  }
  return (await Promise.all(calls)).join(", ");
}

async function begins(seconds) {
  const limit = pRateLimit({ interval: 1000, rate: 2 });
  const start = Date.now();
  const begun = [];
  for (let call = 0; call < 6; call += 1) {
    limit(async () => {
      begun.push(Math.floor((Date.now() - start) / 1000));
      if (call === 0 && seconds) {
        await sleep(seconds);
      }
    });
  }
  await pass(100);
  return begun.join(", ");
}

console.log(`p-ratelimit ${version}`);
const words = "one call runs for 2 s; of those meanwhile, and after";
console.log(`concurrency 1, maxDelay 1 s: ${words}: ${await ends({ maxDelay: 1000 })}`);
console.log(`the same without maxDelay: ${await ends({})}`);
console.log(`2 in 1 s, none takes time: 6 calls begin after ${await begins(0)} s`);
console.log(`2 in 1 s, the first takes 60 s: 6 calls begin after ${await begins(60)} s`);
JS
seen=$(node --no-warnings main.mjs)
echo "$seen"
[ "$seen" = "p-ratelimit 1.0.1
concurrency 1, maxDelay 1 s: one call runs for 2 s; of those meanwhile, and after: refused, refused, refused, refused
the same without maxDelay: done, done, done, done
2 in 1 s, none takes time: 6 calls begin after 0, 0, 1, 1, 2, 2 s
2 in 1 s, the first takes 60 s: 6 calls begin after 0, 0, 60, 60, 61, 61 s" ]
