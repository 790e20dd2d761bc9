#!/usr/bin/env bash
# undici 7.30.2: a RetryAgent with `retryAfter: false` waits for the Retry-After all the same.
#
# The option is documented, has a type and a default, and nothing reads it. Whoever does not want a server to say how long
# to wait, as where a proxy asks each client for the same half a minute, turns it off, and nothing changes. What works is
# `maxTimeout`: it cuts what a server asks for, and is half a minute by default, so that a client that is told to come
# back after a minute is back after half of it, and uses up its five retries while it is not wanted. The waits are
# written down in place of being waited for. Seen on Node.js 20; the script fails when it is not so any more.
#
# Seen, a 503 and then a 200:
#   no Retry-After: waits 0.5 s
#   Retry-After: 20: waits 20 s
#   Retry-After: 20, retryAfter: false: waits 20 s
#   Retry-After: 60: waits 30 s
#   Retry-After: 60, retryAfter: false, maxTimeout: 1000: waits 1 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund undici@7.30.2
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import { MockAgent, RetryAgent, request } from "undici";

const { version } = JSON.parse(readFileSync("node_modules/undici/package.json"));
const ORIGIN = "http://service.invalid";
const { setTimeout } = globalThis;

async function tell(name, headers, retryOptions) {
  const agent = new MockAgent();
  agent.disableNetConnect();
  agent.get(ORIGIN).intercept({ path: "/" }).reply(503, "wait", { headers });
  agent.get(ORIGIN).intercept({ path: "/" }).reply(200, "ok");
  const waits = [];
  globalThis.setTimeout = (callback, milliseconds) => {
    waits.push(milliseconds / 1000);
    return setTimeout(callback, 0);
  };
  const { statusCode } = await request(ORIGIN, { dispatcher: new RetryAgent(agent, retryOptions) });
  globalThis.setTimeout = setTimeout;
  const end = statusCode === 200 ? "" : `, and has ${statusCode}`;
  console.log(`${name}: waits ${waits.join(", ")} s${end}`);
}

console.log(`undici ${version}, a 503 and then a 200`);
await tell("no Retry-After", {});
await tell("Retry-After: 20", { "retry-after": "20" });
await tell("Retry-After: 20, retryAfter: false", { "retry-after": "20" }, { retryAfter: false });
await tell("Retry-After: 60", { "retry-after": "60" });
const cut = { retryAfter: false, maxTimeout: 1000 };
await tell("Retry-After: 60, retryAfter: false, maxTimeout: 1000", { "retry-after": "60" }, cut);
JS
seen=$(node main.mjs)
echo "$seen"
[ "$seen" = "undici 7.30.2, a 503 and then a 200
no Retry-After: waits 0.5 s
Retry-After: 20: waits 20 s
Retry-After: 20, retryAfter: false: waits 20 s
Retry-After: 60: waits 30 s
Retry-After: 60, retryAfter: false, maxTimeout: 1000: waits 1 s" ]
