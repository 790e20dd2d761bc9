import Koa from "koa";
import rateLimit from "koa-ratelimit";

const [port] = process.argv.slice(2);
const app = new Koa();
app.use(rateLimit({ driver: "memory", db: new Map(), max: 10, duration: 2500 }));
app.use((context) => {
  context.body = "ok";
});
app.listen(port, "127.0.0.1");
