import sys
from datetime import timedelta

import hypercorn.trio
import trio
from hypercorn.config import Config
from quart_rate_limiter import RateLimiter, rate_limit
from quart_trio import QuartTrio

app = QuartTrio(__name__)
RateLimiter(app)


@app.get("/")
@rate_limit(10, timedelta(seconds=2))
async def home() -> str:
    return "ok"


config = Config()
config.bind = [f"127.0.0.1:{sys.argv[1]}"]
trio.run(hypercorn.trio.serve, app, config)
