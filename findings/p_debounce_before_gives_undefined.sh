#!/usr/bin/env bash
# p-debounce 5.1.1, `before: true`: all callers but the first get undefined when the function takes longer than `wait`.
#
# The function is called at once for the first caller, and the others are answered when the wait is over, with what the
# first call has given by then. Where it has given nothing yet, as with a request that takes longer, that is undefined.
# Where it failed, it is undefined, too: the first caller gets the error, and the others are told that all went well.
# And a call that ends in the next round leaves its value to the callers of that round. Without `before`, and with
# `pDebounce.promise`, all get the value, or the error. Time is set by hand here. Seen on Node.js 20; the script fails
# when it is not so any more.
#
# Seen, three callers each:
#   ends within the wait: value 1, value 1, value 1
#   ends after the wait: value 1, undefined, undefined
#   fails: Error: no, undefined, undefined
#   the call before ends now: value 2, value 1, value 1
#   fails, without before: Error: no, Error: no, Error: no
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund p-debounce@5.1.1
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import { mock } from "node:test";
import pDebounce from "p-debounce";

const { version } = JSON.parse(readFileSync("node_modules/p-debounce/package.json"));
const WAIT = 200;
mock.timers.enable({ apis: ["setTimeout"] });

const settle = () => new Promise((resolve) => setImmediate(resolve));

class Round {
  constructor(options = { before: true }) {
    this.calls = 0;
    this.ends = [];
    this.debounced = pDebounce(() => {
      const call = (this.calls += 1);
      return new Promise((resolve, reject) => {
        this.ends.push({ well: () => resolve(`value ${call}`), badly: () => reject(new Error("no")) });
      });
    }, WAIT, options);
  }

  callers() {
    const told = (caller) => caller.then(String, String);
    return Promise.all([1, 2, 3].map(() => told(this.debounced())));
  }
}

async function wait() {
  mock.timers.tick(WAIT);
  await settle();
}

async function tell(name, callers) {
  console.log(`${name}: ${(await callers).join(", ")}`);
}

console.log(`p-debounce ${version}`);

const quick = new Round();
let callers = quick.callers();
quick.ends[0].well();
await settle();
await wait();
await tell("ends within the wait", callers);

const slow = new Round();
callers = slow.callers();
await wait();
slow.ends[0].well();
await tell("ends after the wait", callers);

const failing = new Round();
callers = failing.callers();
failing.ends[0].badly();
await settle();
await wait();
await tell("fails", callers);

const late = new Round();
const first = late.callers();
await wait();
callers = late.callers();
late.ends[1].well();
await settle();
late.ends[0].well();
await settle();
await wait();
await first;
await tell("the call before ends now", callers);

const without = new Round({});
callers = without.callers();
await wait();
without.ends[0].badly();
await tell("fails, without before", callers);
JS
seen=$(node --no-warnings main.mjs)
echo "$seen"
[ "$seen" = "p-debounce 5.1.1
ends within the wait: value 1, value 1, value 1
ends after the wait: value 1, undefined, undefined
fails: Error: no, undefined, undefined
the call before ends now: value 2, value 1, value 1
fails, without before: Error: no, Error: no, Error: no" ]
