#!/usr/bin/env bash
# octokit 5.0.5: a 429 that says to come back after 60 s is followed by three requests within 14 s, and by eight in all.
#
# The SDK has two plugins that retry, throttling and retry. The first waits for as long as GitHub says, and asks a
# handler, by default for one more try. The second looks at no Retry-After, and makes three retries, after 1 s, 4 s and
# 9 s. It is the inner one, and leaves out some statuses, 403 among them, but not 429. GitHub limits with either. So of
# a limit that comes as 403 there are two requests, and of one that comes as 429 two times four, with a handler that
# asks for one. What helps is 429 in `doNotRetry`. Nothing is sent here, and the waits are written down in place of
# being waited for. Seen on Node.js 20; the script fails when it is not so any more.
#
# Seen, each answer is a secondary rate limit with a Retry-After of 60:
#   403: request, 60 s, request
#   429: request, 1 s, request, 4 s, request, 9 s, request, 60 s, request, 1 s, request, 4 s, request, 9 s, request
#   429, retry: { enabled: false }: request, 60 s, request
#   429, retry: { doNotRetry: [429] }: request, 60 s, request
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund octokit@5.0.5 @octokit/plugin-retry@8.1.1 \
  @octokit/plugin-throttling@11.0.5
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import { Octokit } from "octokit";

const { version } = JSON.parse(readFileSync("node_modules/octokit/package.json"));
const { setTimeout } = globalThis;
const log = { debug() {}, info() {}, warn() {}, error() {} };

async function tell(name, status, options) {
  const told = [];
  const fetch = async () => {
    told.push("request");
    const message = "You have exceeded a secondary rate limit";
    const headers = { "content-type": "application/json", "retry-after": "60" };
    return new Response(JSON.stringify({ message }), { status, headers });
  };
  globalThis.setTimeout = (callback, milliseconds) => {
    if (milliseconds >= 1000) {
      told.push(`${milliseconds / 1000} s`);
    }
    return setTimeout(callback, 0);
  };
  await new Octokit({ log, request: { fetch }, ...options }).request("GET /zen").catch(() => {});
  globalThis.setTimeout = setTimeout;
  console.log(`${name}: ${told.join(", ")}`);
}

console.log(`octokit ${version}`);
await tell("403", 403, {});
await tell("429", 429, {});
await tell("429, retry: { enabled: false }", 429, { retry: { enabled: false } });
await tell("429, retry: { doNotRetry: [429] }", 429, { retry: { doNotRetry: [429] } });
JS
seen=$(node main.mjs)
echo "$seen"
[ "$seen" = "octokit 5.0.5
403: request, 60 s, request
429: request, 1 s, request, 4 s, request, 9 s, request, 60 s, request, 1 s, request, 4 s, request, 9 s, request
429, retry: { enabled: false }: request, 60 s, request
429, retry: { doNotRetry: [429] }: request, 60 s, request" ]
