#!/usr/bin/env bash
# koa-ratelimit 6.0.0 cuts Retry-After to whole seconds: who waits exactly as long as it says is refused again.
#
# Of a window of 1.9 s, 1.9 s are left when the second request is refused. It says `Retry-After: 1`. After that
# second it refuses again, and then says `Retry-After: 0`. RFC 9110 lets a server say whole seconds only, so they
# have to be rounded up. Seen on Node.js 20; the script fails when it is not so any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund koa@3.3.0 koa-ratelimit@6.0.0
cat >main.mjs <<'JS'
import { setTimeout as sleep } from "node:timers/promises";
import Koa from "koa";
import rateLimit from "koa-ratelimit";

const app = new Koa();
app.silent = true;
app.use(rateLimit({ driver: "memory", db: new Map(), max: 1, duration: 1900 }));
app.use((context) => { context.body = "ok"; });
const server = app.listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const get = async () => {
  const answer = await fetch(`http://127.0.0.1:${server.address().port}/`);
  await answer.text();
  return `${answer.status}, Retry-After: ${answer.headers.get("retry-after")}`;
};
const seen = [await get(), await get()];
await sleep(1000);
seen.push(await get());
server.close();
server.closeAllConnections();
console.log(`koa-ratelimit 6.0.0: ${seen.join("; after 1 s: ")}`.replace("; after 1 s: ", "; at once: "));
const expected = ["200, Retry-After: null", "429, Retry-After: 1", "429, Retry-After: 0"];
process.exitCode = JSON.stringify(seen) === JSON.stringify(expected) ? 0 : 1;
JS
node main.mjs
