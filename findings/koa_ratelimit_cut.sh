#!/usr/bin/env bash
# koa-ratelimit 6.0.0 cuts Retry-After to whole seconds: who waits exactly as long as it says is refused again.
#
# Of a window of a minute, 59.5 s are left when the second request is refused half a second after the first. It says
# `Retry-After: 59`. After these 59 s it refuses again, and then says `Retry-After: 0`, so that a client that does what
# it is told asks at once, as often as it may, until the half second is over. RFC 9110 lets a server say whole seconds
# only, so they have to be rounded up. The clock is set by hand here. Seen on Node.js 20; the script fails when it is
# not so any more.
#
# Seen, of a limit of one a minute:
#   at 0 s: 200, Retry-After: null
#   at 0.5 s: 429, Retry-After: 59
#   at 59.5 s: 429, Retry-After: 0
#   at 60.1 s: 200, Retry-After: null
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund koa@3.3.0 koa-ratelimit@6.0.0
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";

const START = 1_800_000_000;
let now = 0;
Date.now = () => (START + now) * 1000;
const { default: Koa } = await import("koa");
const { default: rateLimit } = await import("koa-ratelimit");
process.hrtime = () => [Math.floor(now), (now % 1) * 1e9];  // since the import

const { version } = JSON.parse(readFileSync("node_modules/koa-ratelimit/package.json"));
const app = new Koa();
app.use(rateLimit({ driver: "memory", db: new Map(), max: 1, duration: 60_000 }));
app.use((context) => { context.body = "ok"; });
const server = app.listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));

console.log(`koa-ratelimit ${version}, one a minute`);
for (now of [0, 0.5, 59.5, 60.1]) {
  const answer = await fetch(`http://127.0.0.1:${server.address().port}/`);
  await answer.text();
  console.log(`at ${now} s: ${answer.status}, Retry-After: ${answer.headers.get("retry-after")}`);
}
server.close();
server.closeAllConnections();
JS
seen=$(node main.mjs)
echo "$seen"
[ "$seen" = "koa-ratelimit 6.0.0, one a minute
at 0 s: 200, Retry-After: null
at 0.5 s: 429, Retry-After: 59
at 59.5 s: 429, Retry-After: 0
at 60.1 s: 200, Retry-After: null" ]
