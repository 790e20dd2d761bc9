import express from "express";
import { rateLimit } from "express-rate-limit";

const [port, mode] = process.argv.slice(2);
const legacy = mode === "legacy";
const app = express();
app.use(
  rateLimit({ windowMs: 2000, limit: 10, standardHeaders: !legacy && mode, legacyHeaders: legacy }),
);
app.get("/", (_, response) => response.send("ok"));
app.listen(port, "127.0.0.1");
