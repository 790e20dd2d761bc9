#!/usr/bin/env bash
# bottleneck 2.19.5: in a Group, a key whose job takes longer than 5 minutes counts as idle, and gets a second beside it.
#
# A Group has a limiter for each key, and drops those that were idle for its `timeout`, 5 minutes by default. It asks when
# the last job was started, and not whether one is under way. So with one job at a time for each key, one that takes an
# hour has others beside it, and each of these makes room for the next. With the limiter goes what it knew of its
# reservoir, too: ten in a day are ten each time that the key was quiet for 5 minutes. A limiter that is in no group keeps
# both limits. So `timeout` has to be longer than the longest job, and longer than a reservoir lasts. Time is set by hand
# here. Seen on Node.js 20; the script fails when it is not so any more.
#
# Seen, of one at a time, with a job of an hour every ten minutes; and of ten in a day, with 20 asked for every hour:
#   a limiter: 1 at once; 10 in 12 hours
#   a limiter of a group: 4 at once; 120 in 12 hours
#   a limiter of a group with a timeout of a day: 1 at once; 10 in 12 hours
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund bottleneck@2.19.5
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import { mock } from "node:test";
import Bottleneck from "bottleneck";

const { version } = JSON.parse(readFileSync("node_modules/bottleneck/package.json"));
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const ONE = { maxConcurrent: 1 };
const TEN = { reservoir: 10, reservoirRefreshAmount: 10, reservoirRefreshInterval: DAY };
mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_800_000_000_000 });

async function settle() {
  for (let round = 0; round < 20; round += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function pass(minutes) {
  for (let passed = 0; passed < minutes; passed += 1) {
    mock.timers.tick(MINUTE);
    await settle();
  }
}

async function atOnce(limiter) {
  let running = 0;
  let most = 0;
  for (let job = 0; job < 4; job += 1) {
    limiter().schedule(async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 60 * MINUTE));
      running -= 1;
    });
    await settle();
    await pass(10);
  }
  return most;
}

async function ofTenInADay(limiter) {
  let started = 0;
  for (let hour = 0; hour < 12; hour += 1) {
    for (let job = 0; job < 20; job += 1) {
      limiter().schedule(async () => {
        started += 1;
      });
    }
    await settle();
    await pass(60);
  }
  return started;
}

async function tell(name, make) {
  console.log(`${name}: ${await atOnce(make(ONE))} at once; ${await ofTenInADay(make(TEN))} in 12 hours`);
}

function alone(options) {
  const limiter = new Bottleneck(options);
  return () => limiter;
}

function grouped(options) {
  const group = new Bottleneck.Group(options);
  return () => group.key("key");
}

console.log(`bottleneck ${version}`);
await tell("a limiter", alone);
await tell("a limiter of a group", grouped);
await tell("a limiter of a group with a timeout of a day", (options) => grouped({ ...options, timeout: DAY }));
process.exit();
JS
seen=$(node --no-warnings main.mjs)
echo "$seen"
[ "$seen" = "bottleneck 2.19.5
a limiter: 1 at once; 10 in 12 hours
a limiter of a group: 4 at once; 120 in 12 hours
a limiter of a group with a timeout of a day: 1 at once; 10 in 12 hours" ]
