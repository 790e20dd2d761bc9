import sys

import uvicorn
from litestar import Litestar, get
from litestar.middleware.rate_limit import RateLimitConfig


@get("/")
async def home() -> str:
    return "ok"


app = Litestar([home], middleware=[RateLimitConfig(rate_limit=("second", 10)).middleware])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
