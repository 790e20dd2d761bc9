#!/usr/bin/env bash
# @nestjs/throttler 6.7.1 sends no Retry-After where its limits have names.
#
# A limit called "long" answers a refused request with `Retry-After-long`, a header that no HTTP client reads, and with
# no `Retry-After`; and so it is with two limits of which one has no name, as soon as the one with a name refuses. So
# who takes the step from one limit to two, to each of which the documentation gives a name, takes from all clients
# what told them when to come back, and nothing tells of it. Seen on Node.js 20; the script fails when it is not so any
# more.
#
# Seen, of the second request at once, with a limit of one a minute:
#   no name: 429, retry-after 60
#   the name long: 429, retry-after-long 60
#   no name, and the name long: 429, retry-after-long 60
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund @nestjs/common@12.5.1 @nestjs/core@12.5.1 \
  @nestjs/platform-express@12.5.1 @nestjs/throttler@6.7.1 reflect-metadata@0.2.2 rxjs@7.8.2
cat >main.mjs <<'JS'
import "reflect-metadata";
import { readFileSync } from "node:fs";
import { Controller, Get, Module } from "@nestjs/common";
import { APP_GUARD, NestFactory } from "@nestjs/core";
import { ThrottlerGuard, ThrottlerModule } from "@nestjs/throttler";

const { version } = JSON.parse(readFileSync("node_modules/@nestjs/throttler/package.json"));
const START = Date.now();
Date.now = () => START;

class Home { home() { return "ok"; } }
Get()(Home.prototype, "home", Object.getOwnPropertyDescriptor(Home.prototype, "home"));
Controller()(Home);

async function tell(words, limits) {
  class Application {}
  Module({
    imports: [ThrottlerModule.forRoot(limits)],
    controllers: [Home],
    providers: [{ provide: APP_GUARD, useClass: ThrottlerGuard }],
  })(Application);
  const app = await NestFactory.create(Application, { logger: false });
  await app.listen(0, "127.0.0.1");
  const url = `http://127.0.0.1:${app.getHttpServer().address().port}/`;
  const get = () => fetch(url, { headers: { connection: "close" } });
  await (await get()).text();
  const { status, headers } = await get();
  await app.close();
  const said = [...headers].filter(([name]) => name.startsWith("retry-after")).map((header) => header.join(" "));
  console.log(`${words}: ${[status, ...said].join(", ")}`);
}

console.log(`@nestjs/throttler ${version}`);
const limit = { ttl: 60_000, limit: 1 };
await tell("no name", [limit]);
await tell("the name long", [{ ...limit, name: "long" }]);
await tell("no name, and the name long", [{ ttl: 1000, limit: 9 }, { ...limit, name: "long" }]);
JS
seen=$(node main.mjs)
echo "$seen"
[ "$seen" = "@nestjs/throttler 6.7.1
no name: 429, retry-after 60
the name long: 429, retry-after-long 60
no name, and the name long: 429, retry-after-long 60" ]
