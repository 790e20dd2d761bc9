import rateLimit from "@fastify/rate-limit";
import fastify from "fastify";

const [port, mode] = process.argv.slice(2);
const app = fastify();
await app.register(rateLimit, { max: 10, timeWindow: 2000, continueExceeding: mode === "continue" });
app.get("/", async () => "ok");
await app.listen({ port: Number(port), host: "127.0.0.1" });
