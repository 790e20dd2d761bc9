#!/usr/bin/env bash
# retry-as-promised 7.1.1: after it has told that a call timed out, it makes the call again, as often as it may.
#
# `timeout` is the time after which it fails when there is no answer, and no error. It does: the caller has a
# TimeoutError, with tries left, and so knows that it is over. But the try that is under way is still looked after, and
# when it fails in the end, as one does whose server is slow, the next try begins, with a timeout of its own, and so on
# to `max`. Nobody waits for these, and what they do is not seen: with `max: 4` an order that the caller has given up, or
# has sent once more, may be placed after that. Where each try fails in time, on the other hand, `timeout` ends nothing,
# as each has the whole time. Sequelize hands its `retry` options to it. Time is set by
# hand here. Seen on Node.js 20; the script fails when it is not so any more.
#
# Seen, with max 4 and a timeout of 1 s:
#   no answer for 1 s: TimeoutError, tries 1; when that try fails at last: tries 2, 3, 4
#   each try fails after 0.9 s: Error: busy, tries 4, after 3.9 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund retry-as-promised@7.1.1
cat >main.cjs <<'JS'
const { readFileSync } = require("node:fs");
const { mock } = require("node:test");
const { retryAsPromised } = require("retry-as-promised");

const { version } = JSON.parse(readFileSync("node_modules/retry-as-promised/package.json"));
const STEP = 100;
const OPTIONS = { max: 4, timeout: 1000, backoffBase: 100, backoffExponent: 1 };
mock.timers.enable({ apis: ["setTimeout"] });

const busy = () => new Error("busy");
const told = (call) => call.then(() => "done", String);

async function pass(milliseconds) {
  for (let passed = 0; passed < milliseconds; passed += STEP) {
    mock.timers.tick(STEP);
    for (let round = 0; round < 5; round += 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

async function slow() {
  let fail;
  let tries = 0;
  const answer = () => new Promise((resolve, reject) => {
    tries += 1;
    fail = () => reject(busy());
  });
  const call = told(retryAsPromised(answer, OPTIONS));
  await pass(OPTIONS.timeout);
  const [name] = (await call).split(":");
  const before = tries;
  const after = [];
  for (let number = 0; number < 3; number += 1) {
    fail();
    await pass(200);
    after.push(tries);
  }
  return `${name}, tries ${before}; when that try fails at last: tries ${after.join(", ")}`;
}

async function failing() {
  let end;
  let passed = 0;
  let tries = 0;
  const answer = () => new Promise((resolve, reject) => {
    tries += 1;
    setTimeout(() => reject(busy()), 900);
  });
  told(retryAsPromised(answer, OPTIONS)).then((words) => { end = words; });
  while (!end) {
    await pass(STEP);
    passed += STEP;
  }
  return `${end}, tries ${tries}, after ${passed / 1000} s`;
}

(async () => {
  console.log(`retry-as-promised ${version}, with max 4 and a timeout of 1 s`);
  console.log(`no answer for 1 s: ${await slow()}`);
  console.log(`each try fails after 0.9 s: ${await failing()}`);
})();
JS
seen=$(node --no-warnings main.cjs)
echo "$seen"
[ "$seen" = "retry-as-promised 7.1.1, with max 4 and a timeout of 1 s
no answer for 1 s: TimeoutError, tries 1; when that try fails at last: tries 2, 3, 4
each try fails after 0.9 s: Error: busy, tries 4, after 3.9 s" ]
