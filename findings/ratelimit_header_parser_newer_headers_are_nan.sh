#!/usr/bin/env bash
# ratelimit-header-parser 0.1.0 reads a Retry-After of 60 as a minute after New Year 1970, and a RateLimit field as NaN.
#
# It says that it makes one format of all, or gives undefined where it finds no such header. Where there is no reset, it
# takes the Retry-After, but as a time since 1970 and not as seconds from now. So the reset has long come, and a client
# that waits for it waits for nothing. A `RateLimit` field as its draft has been since version 8 (`r=0; t=60`) is found,
# and read as one of version 7: all numbers are NaN, and the date is none. Each comparison with these is false, and a
# timer that is set for NaN runs at once; so a client that asks whether anything remains, or when to come back, is told
# nothing. express-rate-limit 8.7.4, of the same people, sends this with `standardHeaders: "draft-8"`. Seen on Node.js
# 20; the script fails when it is not so any more.
#
# Seen, of a refused request, with a limit of 1 a minute:
#   draft-6: remaining 0, reset in 60 s
#   draft-7: remaining 0, reset in 60 s
#   draft-8: remaining NaN, reset in NaN s
#   x-ratelimit-remaining: 0, retry-after: 60: remaining 0, reset at 1970-01-01T00:01:00.000Z
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund express@5.2.1 express-rate-limit@8.7.4 \
  ratelimit-header-parser@0.1.0
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import express from "express";
import { rateLimit } from "express-rate-limit";
import { parseRateLimit } from "ratelimit-header-parser";

const { version } = JSON.parse(readFileSync("node_modules/ratelimit-header-parser/package.json"));

async function refused(standardHeaders) {
  const application = express();
  application.use(rateLimit({ windowMs: 60_000, limit: 1, standardHeaders, legacyHeaders: false }));
  application.get("/", (request, response) => response.send("ok"));
  const server = application.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const get = async () => {
    const response = await fetch(`http://127.0.0.1:${server.address().port}/`, { headers: { connection: "close" } });
    await response.text();
    return response;
  };
  await get();
  const response = await get();
  server.close();
  return response;
}

console.log(`ratelimit-header-parser ${version}`);
for (const draft of ["draft-6", "draft-7", "draft-8"]) {
  const response = await refused(draft);
  const { remaining, reset } = parseRateLimit(response);
  const seconds = Math.round((reset - Date.now()) / 10_000) * 10;
  console.log(`${draft}: ${response.status}, remaining ${remaining}, reset in ${seconds} s`);
}
const { remaining, reset } = parseRateLimit({ "x-ratelimit-remaining": "0", "retry-after": "60" });
console.log(`x-ratelimit-remaining: 0, retry-after: 60: remaining ${remaining}, reset at ${reset.toISOString()}`);
JS
seen=$(node main.mjs)
echo "$seen"
[ "$seen" = "ratelimit-header-parser 0.1.0
draft-6: 429, remaining 0, reset in 60 s
draft-7: 429, remaining 0, reset in 60 s
draft-8: 429, remaining NaN, reset in NaN s
x-ratelimit-remaining: 0, retry-after: 60: remaining 0, reset at 1970-01-01T00:01:00.000Z" ]
