#!/usr/bin/env bash
# @nestjs/throttler 6.7.1 sends no Retry-After where its limits have names, and blocks for longer than it has told.
#
# A throttler called "long" answers a refused request with `Retry-After-long`, a header that no HTTP client
# reads, and with no `Retry-After`. And the first refusal starts a block of the whole time anew: a client that is
# refused half a second before the reset that its last good answer told, and waits for that, is refused again.
# Seen on Node.js 20; the script fails when it is not so any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund @nestjs/common@12.5.1 @nestjs/core@12.5.1 \
  @nestjs/platform-express@12.5.1 @nestjs/throttler@6.7.1 reflect-metadata@0.2.2 rxjs@7.8.2
cat >main.mjs <<'JS'
import "reflect-metadata";
import { setTimeout as sleep } from "node:timers/promises";
import { Controller, Get, Module } from "@nestjs/common";
import { APP_GUARD, NestFactory } from "@nestjs/core";
import { ThrottlerGuard, ThrottlerModule } from "@nestjs/throttler";

class Home { home() { return "ok"; } }
Get()(Home.prototype, "home", Object.getOwnPropertyDescriptor(Home.prototype, "home"));
Controller()(Home);
class Application {}
Module({
  imports: [ThrottlerModule.forRoot([{ name: "long", ttl: 2000, limit: 1 }])],
  controllers: [Home],
  providers: [{ provide: APP_GUARD, useClass: ThrottlerGuard }],
})(Application);

const app = await NestFactory.create(Application, { logger: false });
await app.listen(0, "127.0.0.1");
const url = `http://127.0.0.1:${app.getHttpServer().address().port}/`;
const get = async () => {
  const { status, headers } = await fetch(url, { headers: { connection: "close" } });
  const said = ["x-ratelimit-reset-long", "retry-after", "retry-after-long"];
  return [status, ...said.map((name) => `${name} ${headers.get(name)}`)].join(", ");
};
const seen = [await get()];
await sleep(1500);
seen.push(await get());
await sleep(800);
seen.push(await get());
await app.close();
console.log(`@nestjs/throttler 6.7.1, one request in 2 s; at 0 s: ${seen[0]}; at 1.5 s: ${seen[1]}; at 2.3 s: ${seen[2]}`);
const refused = "429, x-ratelimit-reset-long null, retry-after null, retry-after-long 2";
const expected = ["200, x-ratelimit-reset-long 2, retry-after null, retry-after-long null", refused];
const again = /^429, x-ratelimit-reset-long null, retry-after null, retry-after-long [12]$/;
const same = JSON.stringify(seen.slice(0, 2)) === JSON.stringify(expected) && again.test(seen[2]);
process.exitCode = same ? 0 : 1;
JS
node main.mjs
