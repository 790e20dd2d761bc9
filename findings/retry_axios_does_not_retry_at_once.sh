#!/usr/bin/env bash
# retry-axios 4.0.3: a server that says to come back at once is not asked again.
#
# A Retry-After of 0, or a date that has come, gives a wait of 0 or less, and that it takes for a header that cannot be
# read: it fails, with tries left. With no header it would have retried. A date is in whole seconds, so that "now" has
# always come, and so have all dates of the next seconds where the client's clock is ahead. With `checkRetryAfter:
# false` it retries, but then it reads no Retry-After at all. axios-retry 4.5.0 retries. Nothing is sent here, an
# adapter answers. Seen on Node.js 20; the script fails when it is not so any more.
#
# Seen, a 503 and then a 200, with 3 retries:
#   no Retry-After: 200 after 2 requests
#   Retry-After: 1: 200 after 2 requests
#   Retry-After: 0: 503 after 1 request
#   Retry-After: the date of now: 503 after 1 request
#   Retry-After: 0, checkRetryAfter: false: 200 after 2 requests
#   Retry-After: 0, axios-retry: 200 after 2 requests
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund axios@1.21.1 axios-retry@4.5.0 retry-axios@4.0.3
cat >main.mjs <<'JS'
import { readFileSync } from "node:fs";
import axios, { AxiosError } from "axios";
import axiosRetry from "axios-retry";
import * as rax from "retry-axios";

const { version } = JSON.parse(readFileSync("node_modules/retry-axios/package.json"));

async function tell(name, headers, prepare) {
  let requests = 0;
  const adapter = async (config) => {
    requests += 1;
    const status = requests === 1 ? 503 : 200;
    const response = { config, data: "", headers: status === 503 ? headers : {}, status, statusText: "" };
    if (status === 503) {
      throw new AxiosError("unavailable", AxiosError.ERR_BAD_RESPONSE, config, null, response);
    }
    return response;
  };
  const client = axios.create({ adapter });
  prepare(client);
  const { status } = await client.get("http://service.invalid/").catch((error) => error.response);
  console.log(`${name}: ${status} after ${requests} request${requests === 1 ? "" : "s"}`);
}

const retryAxios = (options) => (client) => {
  client.defaults.raxConfig = { retry: 3, ...options };
  rax.attach(client);
};

console.log(`retry-axios ${version}, a 503 and then a 200, with 3 retries`);
await tell("no Retry-After", {}, retryAxios());
await tell("Retry-After: 1", { "retry-after": "1" }, retryAxios());
await tell("Retry-After: 0", { "retry-after": "0" }, retryAxios());
await tell("Retry-After: the date of now", { "retry-after": new Date().toUTCString() }, retryAxios());
await tell("Retry-After: 0, checkRetryAfter: false", { "retry-after": "0" }, retryAxios({ checkRetryAfter: false }));
await tell("Retry-After: 0, axios-retry", { "retry-after": "0" }, (client) => axiosRetry(client, { retries: 3 }));
JS
seen=$(node main.mjs)
echo "$seen"
[ "$seen" = "retry-axios 4.0.3, a 503 and then a 200, with 3 retries
no Retry-After: 200 after 2 requests
Retry-After: 1: 200 after 2 requests
Retry-After: 0: 503 after 1 request
Retry-After: the date of now: 503 after 1 request
Retry-After: 0, checkRetryAfter: false: 200 after 2 requests
Retry-After: 0, axios-retry: 200 after 2 requests" ]
