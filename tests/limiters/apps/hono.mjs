import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { rateLimiter } from "hono-rate-limiter";

const [port, mode] = process.argv.slice(2);
const app = new Hono();
app.use(
  rateLimiter({ windowMs: 2000, limit: 10, standardHeaders: mode, keyGenerator: () => "everybody" }),
);
app.get("/", (context) => context.text("ok"));
serve({ fetch: app.fetch, port: Number(port), hostname: "127.0.0.1" });
