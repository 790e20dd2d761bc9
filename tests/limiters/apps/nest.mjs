import "reflect-metadata";
import { Controller, Get, Module } from "@nestjs/common";
import { APP_GUARD, NestFactory } from "@nestjs/core";
import { ThrottlerGuard, ThrottlerModule } from "@nestjs/throttler";

const [port, mode] = process.argv.slice(2);
const limits = [{ ttl: 2000, limit: 10 }];
if (mode === "named") {
  limits[0].name = "short";
  limits.push({ name: "long", ttl: 60000, limit: 1000 });
}

// Decorators, called by hand, as Node.js does not read their syntax.
class Home {
  home() {
    return "ok";
  }
}
Get()(Home.prototype, "home", Object.getOwnPropertyDescriptor(Home.prototype, "home"));
Controller()(Home);

class Application {}
Module({
  imports: [ThrottlerModule.forRoot(limits)],
  controllers: [Home],
  providers: [{ provide: APP_GUARD, useClass: ThrottlerGuard }],
})(Application);

const app = await NestFactory.create(Application, { logger: false });
await app.listen(port, "127.0.0.1");
